"""Rules that span keys. Each names the keys it rests on: where one of those is wrong by itself, the rule is not asked."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from settings.images import unserved
from settings.model import DOCKER_IO, Settings
from settings.upstreams import slug
from settings.values import size_in_bytes

NEEDED_WITH_AZURE = 'docker_cache_storage_backend "azure" needs it (or use "filesystem")'


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`find` gives the problems of settings whose `keys` are right by themselves."""

    keys: tuple[str, ...]
    find: Callable[[Settings], Iterator[str]]


def problems_across(settings: Settings, wrong: Collection[str]) -> list[str]:
    """Everything that is wrong between keys; `wrong` are the keys that hold no value to go by."""
    asked = [rule for rule in RULES if not set(rule.keys) & set(wrong)]
    return [problem for rule in asked for problem in rule.find(settings)]


def is_plain(settings: Settings) -> bool:
    return settings.has_entry and urlsplit(settings.entry).scheme == "http"


def missing_nodes(settings: Settings) -> Iterator[str]:
    if not settings.docker_cache_nodes:
        yield "docker_cache_nodes is missing: list the cluster's nodes, each with name and host, see docs/configuration.md"


def missing_context(settings: Settings) -> Iterator[str]:
    if not settings.docker_cache_kube_context and not settings.docker_cache_custom_registry:
        yield (
            "docker_cache_kube_context is missing, and has no default, so that no other cluster is changed by accident: set it "
            "to one of `kubectl config get-contexts --output name`"
        )


def duplicates(settings: Settings) -> Iterator[str]:
    nodes = settings.docker_cache_nodes
    names = [node.name for node in nodes]
    # The address of a node that is gone may be another's now.
    places = [f"{node.host}:{node.port or settings.docker_cache_ssh_port}" for node in settings.kept_nodes]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f'docker_cache_nodes has the name "{name}" twice: give each node a name of its own'
    for place in sorted({place for place in places if places.count(place) > 1}):
        yield f'docker_cache_nodes has "{place}" twice: list each node once'


def unknown_names(settings: Settings) -> Iterator[str]:
    names = {node.name for node in settings.docker_cache_nodes}
    forgotten, canary = settings.docker_cache_forget_nodes, settings.docker_cache_canary
    for name in forgotten:
        if name not in names:
            yield (
                f'docker_cache_forget_nodes has "{name}", which is not in docker_cache_nodes: a node stays there until a '
                "`pulumi up` has recorded that it is forgotten, then its name goes from both lists"
            )
    if canary and canary not in names:
        yield f'docker_cache_canary is "{canary}", which is not in docker_cache_nodes: use the name of a node'
    elif canary and canary in forgotten:
        yield f'docker_cache_canary is "{canary}", which docker_cache_forget_nodes has too: use the name of another node'


def bastion_or_direct(settings: Settings) -> Iterator[str]:
    for node in settings.docker_cache_nodes:
        if node.bastion and node.direct:
            yield f"docker_cache_nodes[{node.name}] has a bastion and direct: true: keep one of the two"


def without_master(settings: Settings) -> Iterator[str]:
    if settings.first_master or not settings.docker_cache_nodes or settings.docker_cache_custom_registry:
        return
    needs = []
    if not settings.docker_cache_entry and settings.docker_cache_entries != "node":
        needs.append("the entry is the first master's address (or set docker_cache_entry)")
    if settings.has_folder:
        needs.append("the cache's folder lies on the first master (or set docker_cache_fs_storage_class)")
    if needs:
        remedy = "set kube_master: true on the first Kubernetes master"
        besides = " that is not forgotten" if settings.docker_cache_forget_nodes else ""
        yield f"docker_cache_nodes names no master{besides}: {remedy}, since {' and '.join(needs)}"


def azure_account(settings: Settings) -> Iterator[str]:
    if not settings.is_on_azure:
        return
    if settings.docker_cache_azure_account_name is None:
        yield f"docker_cache_azure_account_name is missing: {NEEDED_WITH_AZURE}"
    key, path = settings.docker_cache_azure_account_key, settings.docker_cache_azure_account_key_path
    if key and path:
        yield "docker_cache_azure_account_key and docker_cache_azure_account_key_path are both set: keep one of the two"
    needs_key = settings.docker_cache_azure_auth == "shared_key" and not settings.docker_cache_azure_create_account
    if needs_key and not key and not path:
        yield f"docker_cache_azure_account_key is missing: {NEEDED_WITH_AZURE}"
    if (key or path) and not needs_key:
        yield (
            "docker_cache_azure_account_key is set, but nothing uses it: with docker_cache_azure_create_account it is read from "
            "Azure, and with docker_cache_azure_auth managed_identity there is none; leave it out"
        )


def azure_key_name(settings: Settings) -> Iterator[str]:
    reads_key = settings.docker_cache_azure_create_account and not settings.signs_in_by_identity
    name = settings.docker_cache_azure_account_key_name
    if settings.is_on_azure and name != "key1" and not reads_key:
        yield (
            f"docker_cache_azure_account_key_name is {name}, but no key is read from Azure: that is done with "
            "docker_cache_azure_create_account and docker_cache_azure_auth shared_key alone; leave it out"
        )


def azure_identity_in_the_clear(settings: Settings) -> Iterator[str]:
    url = settings.docker_cache_azure_service_url or ""
    if settings.signs_in_by_identity and url.startswith("http://"):
        yield (
            f"docker_cache_azure_service_url is {url}: an identity's token goes over https alone; use https, or "
            "docker_cache_azure_auth shared_key"
        )


def azure_creation(settings: Settings) -> Iterator[str]:
    if not settings.is_on_azure:
        return
    if settings.docker_cache_azure_create_account:
        if settings.docker_cache_azure_location is None:
            yield "docker_cache_azure_location is missing: docker_cache_azure_create_account needs it, such as westeurope"
        return
    of_creation = {
        "docker_cache_azure_allowed_networks": settings.docker_cache_azure_allowed_networks,
        "docker_cache_azure_delete_unread_after_days": settings.docker_cache_azure_delete_unread_after_days,
        "docker_cache_azure_identity_principal_id": settings.docker_cache_azure_identity_principal_id,
    }
    for key, value in of_creation.items():
        if value:
            yield (
                f"{key} is set, but the account is not ours to change: set that up in Azure, or have the account made by "
                "docker_cache_azure_create_account: true"
            )


def keep_both(first: str, second: str, taker: str) -> Rule:
    """Two keys that go together."""

    def find(settings: Settings) -> Iterator[str]:
        given = [key for key in (first, second) if getattr(settings, key)]
        if len(given) == 1:
            (missing,) = {first, second} - set(given)
            yield f"{missing} is missing: {given[0]} is set, and {taker} takes both or none"

    return Rule(keys=(first, second), find=find)


def upstreams(settings: Settings) -> Iterator[str]:
    hosts = [upstream.host for upstream in settings.docker_cache_upstreams]
    for host in sorted({host for host in hosts if hosts.count(host) > 1}):
        yield f'docker_cache_upstreams has "{host}" twice: list each registry once'
    for host in sorted(set(hosts) & DOCKER_HUBS):
        yield (
            f'docker_cache_upstreams has "{host}", which is Docker Hub and is always served: leave it out there, its keys are '
            "docker_cache_remote_url, docker_cache_remote_username and docker_cache_remote_password"
        )
    names: dict[str, str] = {}
    for host in dict.fromkeys(hosts):
        other = names.setdefault(slug(host), host)
        if other != host:
            yield (
                f'docker_cache_upstreams has "{other}" and "{host}", whose objects in the cluster would have the same name: '
                "list one of the two"
            )


def upstream_credentials(settings: Settings) -> Iterator[str]:
    for upstream in settings.docker_cache_upstreams:
        if bool(upstream.username) != bool(upstream.password):
            given, missing = ("username", "password") if upstream.username else ("password", "username")
            of = f"docker_cache_upstreams[{upstream.host}]"
            yield f"{of}.{missing} is missing: {of}.{given} is set, and the upstream takes both or none"


def entry_credentials_in_the_clear(settings: Settings) -> Iterator[str]:
    if (
        settings.docker_cache_entry_username
        and is_plain(settings)
        and not settings.docker_cache_htpasswd_over_plain_http
    ):
        yield (
            f"docker_cache_entry_username is set, but the entry {settings.entry} is plain http: every pull would show the "
            "password on the network; use an https entry, or accept it by docker_cache_htpasswd_over_plain_http: true"
        )


def entries_of_an_entry(settings: Settings) -> Iterator[str]:
    key = "docker_cache_custom_registry" if settings.docker_cache_custom_registry else "docker_cache_entry"
    if settings.given_entry and settings.docker_cache_entries != "master":
        yield (
            f'docker_cache_entries is "{settings.docker_cache_entries}" and {key} is "{settings.given_entry}", which all nodes '
            "get: keep one of the two"
        )


def no_engine(settings: Settings) -> Iterator[str]:
    if not settings.docker_cache_engines:
        yield "docker_cache_engines is empty: name the engines that get the mirror, or leave the key out for all"


def htpasswd_in_the_clear(settings: Settings) -> Iterator[str]:
    if not settings.docker_cache_htpasswd or settings.docker_cache_custom_registry:
        return
    if is_plain(settings) and not settings.docker_cache_htpasswd_over_plain_http:
        yield (
            f"docker_cache_htpasswd is set, but the entry {settings.entry} is plain http: docker answers a mirror's challenge "
            "with its user's Docker Hub password, which would cross the network in the clear; set docker_cache_entry to an https "
            "address, leave docker_cache_htpasswd out, or accept it by docker_cache_htpasswd_over_plain_http: true"
        )


def prefetched_from_elsewhere(settings: Settings) -> Iterator[str]:
    if settings.docker_cache_custom_registry:
        return
    images = [item.image for item in settings.docker_cache_prefetch]
    for image, host in unserved(images, settings).items():
        yield (
            f'docker_cache_prefetch has "{image}": the cache does not pull through {host}; add it to docker_cache_upstreams, or '
            "take the image out"
        )


def prefetch_signs_in(settings: Settings) -> Iterator[str]:
    if settings.docker_cache_custom_registry or not settings.docker_cache_prefetch:
        return
    if settings.docker_cache_htpasswd and not settings.docker_cache_entry_username:
        yield (
            "docker_cache_entry_username is missing: docker_cache_prefetch has images, which are fetched through the cache as a "
            "node does, and docker_cache_htpasswd lets nobody in without a user"
        )


def certificate(settings: Settings) -> Iterator[str]:
    if settings.docker_cache_entry_ca and is_plain(settings):
        yield (
            f"docker_cache_entry_ca is set, but the entry {settings.entry} is plain http: give the entry as https://…, "
            "or leave the certificate out"
        )
    if settings.docker_cache_entry_ca and settings.docker_cache_entry_insecure:
        yield (
            "docker_cache_entry_ca and docker_cache_entry_insecure are both set: the one verifies the entry's certificate, "
            "the other does not; keep one of the two"
        )


def tls_halves(settings: Settings) -> Iterator[str]:
    certificate, secret = settings.docker_cache_tls_certificate, settings.docker_cache_tls_secret
    key, path = settings.docker_cache_tls_key, settings.docker_cache_tls_key_path
    if certificate and secret:
        yield (
            f'docker_cache_tls_certificate is set and docker_cache_tls_secret is "{secret}": keep one of the two, the cache '
            "shows one certificate"
        )
    if key and path:
        yield "docker_cache_tls_key and docker_cache_tls_key_path are both set: keep one of the two"
    if certificate and not key and not path:
        yield (
            "docker_cache_tls_key is missing: docker_cache_tls_certificate is set, and is of no use without its key (or set "
            "docker_cache_tls_key_path)"
        )
    if (key or path) and not certificate:
        given = "docker_cache_tls_key" if key else "docker_cache_tls_key_path"
        yield f"docker_cache_tls_certificate is missing: {given} is set; give the certificate that the key belongs to"


def plain_entry_of_tls(settings: Settings) -> Iterator[str]:
    entry = settings.docker_cache_entry
    if entry and settings.has_tls and is_plain(settings):
        yield (
            f"docker_cache_entry is {entry}, but the cache answers by https, with its certificate: give the entry as "
            f"https://{urlsplit(entry).netloc}"
        )


def clients_out_of_sight(settings: Settings) -> Iterator[str]:
    """Clients keep their addresses where the front runs on the very node that they ask."""
    if not settings.docker_cache_allowed_cidrs or settings.given_entry:
        return
    masters, replicas = len(settings.masters), settings.docker_cache_replicas
    if settings.docker_cache_entries == "node":
        yield (
            'docker_cache_allowed_cidrs is set and docker_cache_entries is "node": clients keep their addresses only on the '
            'nodes that the front runs on; use "master" or "masters"'
        )
    if settings.docker_cache_entries == "masters" and replicas < masters:
        yield (
            f"docker_cache_allowed_cidrs is set and docker_cache_replicas is {replicas}: clients keep their addresses only on "
            f"the nodes that the front runs on; set docker_cache_replicas to {masters}, one for each master"
        )


def bounds_on_azure(settings: Settings) -> Iterator[str]:
    if not settings.is_on_azure:
        return
    if settings.docker_cache_ttl:
        yield (
            "docker_cache_ttl is set, but the images lie on Azure, where the cache itself removes nothing: leave it out, and set "
            "docker_cache_azure_delete_unread_after_days (or a lifecycle rule in Azure, where the account is not ours)"
        )
    if settings.docker_cache_fs_max_size:
        yield (
            "docker_cache_fs_max_size is set, but the images lie on Azure, which has room for all: leave it out, or use "
            'docker_cache_storage_backend "filesystem"'
        )


def size_of_a_claim(settings: Settings) -> Iterator[str]:
    """Of a disk that is there already nobody knows the size here."""
    most, size, share = (
        settings.docker_cache_fs_max_size,
        settings.docker_cache_fs_size,
        100 - settings.docker_cache_fs_min_free,
    )
    if settings.is_on_azure or not settings.docker_cache_fs_storage_class or not most:
        return
    if size_in_bytes(most) * 100 > size_in_bytes(size) * share:
        yield (
            f"docker_cache_fs_max_size is {most}, but the claim has {size} (docker_cache_fs_size), of which "
            f"docker_cache_fs_min_free leaves {share}% to the cache: it would stop storing before it makes room; use less"
        )


def keep_one(first: str, second: str, reason: str) -> Rule:
    """Two keys that exclude each other."""

    def find(settings: Settings) -> Iterator[str]:
        values = getattr(settings, first), getattr(settings, second)
        if all(values):
            yield f'{first} is "{values[0]}" and {second} is "{values[1]}": keep one of the two, {reason}'

    return Rule(keys=(first, second), find=find)


DOCKER_HUBS = frozenset({DOCKER_IO, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
"""What Docker Hub is called by."""
FORGOTTEN = "docker_cache_forget_nodes"
NODES, REGISTRY, BACKEND = "docker_cache_nodes", "docker_cache_custom_registry", "docker_cache_storage_backend"
TLS = ("docker_cache_tls_certificate", "docker_cache_tls_secret")
ENTRY = (
    *(REGISTRY, "docker_cache_entry", "docker_cache_entries", NODES, FORGOTTEN, "docker_cache_node_port"),
    *TLS,
)
MOST = "docker_cache_fs_max_size"
CLAIMS = ("docker_cache_fs_claim", "docker_cache_fs_storage_class")

RULES = (
    Rule(keys=(NODES,), find=missing_nodes),
    Rule(keys=("docker_cache_kube_context", REGISTRY), find=missing_context),
    Rule(keys=(NODES, FORGOTTEN, "docker_cache_ssh_port"), find=duplicates),
    Rule(keys=(NODES, FORGOTTEN, "docker_cache_canary"), find=unknown_names),
    Rule(keys=(NODES,), find=bastion_or_direct),
    Rule(keys=(*ENTRY, BACKEND, *CLAIMS), find=without_master),
    Rule(
        keys=(
            BACKEND,
            REGISTRY,
            "docker_cache_azure_account_name",
            "docker_cache_azure_account_key",
            "docker_cache_azure_auth",
            "docker_cache_azure_create_account",
        ),
        find=azure_account,
    ),
    Rule(
        keys=(
            BACKEND,
            REGISTRY,
            "docker_cache_azure_create_account",
            "docker_cache_azure_location",
            "docker_cache_azure_allowed_networks",
            "docker_cache_azure_delete_unread_after_days",
            "docker_cache_azure_identity_principal_id",
        ),
        find=azure_creation,
    ),
    Rule(
        keys=(
            BACKEND,
            REGISTRY,
            "docker_cache_azure_account_key_name",
            "docker_cache_azure_auth",
            "docker_cache_azure_create_account",
        ),
        find=azure_key_name,
    ),
    Rule(
        keys=(BACKEND, REGISTRY, "docker_cache_azure_auth", "docker_cache_azure_service_url"),
        find=azure_identity_in_the_clear,
    ),
    keep_both("docker_cache_remote_username", "docker_cache_remote_password", "the upstream"),
    Rule(keys=("docker_cache_upstreams",), find=upstreams),
    Rule(keys=("docker_cache_upstreams",), find=upstream_credentials),
    keep_both("docker_cache_entry_username", "docker_cache_entry_password", "the entry"),
    Rule(
        keys=(*ENTRY, "docker_cache_entry_username", "docker_cache_htpasswd_over_plain_http"),
        find=entry_credentials_in_the_clear,
    ),
    Rule(keys=(REGISTRY, "docker_cache_entry", "docker_cache_entries"), find=entries_of_an_entry),
    Rule(keys=("docker_cache_engines",), find=no_engine),
    Rule(keys=(*ENTRY, "docker_cache_htpasswd", "docker_cache_htpasswd_over_plain_http"), find=htpasswd_in_the_clear),
    Rule(keys=(*ENTRY, "docker_cache_entry_ca", "docker_cache_entry_insecure"), find=certificate),
    Rule(keys=(*TLS, "docker_cache_tls_key", "docker_cache_tls_key_path"), find=tls_halves),
    Rule(keys=("docker_cache_entry", REGISTRY, *TLS), find=plain_entry_of_tls),
    Rule(keys=(*ENTRY, "docker_cache_allowed_cidrs", "docker_cache_replicas"), find=clients_out_of_sight),
    Rule(keys=("docker_cache_prefetch", "docker_cache_upstreams", REGISTRY), find=prefetched_from_elsewhere),
    Rule(
        keys=("docker_cache_prefetch", "docker_cache_htpasswd", "docker_cache_entry_username", REGISTRY),
        find=prefetch_signs_in,
    ),
    Rule(keys=(BACKEND, REGISTRY, "docker_cache_ttl", MOST), find=bounds_on_azure),
    Rule(
        keys=(
            BACKEND,
            REGISTRY,
            MOST,
            "docker_cache_fs_size",
            "docker_cache_fs_storage_class",
            "docker_cache_fs_min_free",
        ),
        find=size_of_a_claim,
    ),
    keep_one(REGISTRY, "docker_cache_entry", "the nodes get a single entry (a custom registry installs no cache)"),
    keep_one(*CLAIMS, "a claim that exists or a class that a new one comes from"),
)
