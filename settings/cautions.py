"""What works, but will disappoint: said by `pulumi.warn` in each preview and update."""

import base64
import ipaddress
from collections.abc import Callable, Collection, Iterator
from urllib.parse import urlsplit

from settings.access import Access
from settings.htpasswd import parse_htpasswd
from settings.loading import ALIASES, is_secret
from settings.model import SECRET_KEYS, Machine, Settings, Upstream

ACCOUNT_KEY_BYTES = 64
CACHE_KEYS = (
    "docker_cache_htpasswd",
    "docker_cache_remote_username",
    "docker_cache_upstreams",
    "docker_cache_prefetch",
    "docker_cache_fs_storage_class",
    "docker_cache_fs_claim",
    "docker_cache_ttl",
    "docker_cache_fs_max_size",
    "docker_cache_azure_account_name",
    "docker_cache_tls_certificate",
    "docker_cache_tls_secret",
    "docker_cache_allowed_cidrs",
    "docker_cache_priority_class",
    "docker_cache_service_monitor",
    "docker_cache_alert_rules",
    "docker_cache_dashboard",
)
"""Keys of the cache itself that somebody who sets them expects to count."""


def cautions(
    settings: Settings, plain_keys: Collection[str], azure_account_key: str | None, accesses: Collection[Access] = ()
) -> list[str]:
    """All warnings; `plain_keys` are the given keys that the stack's file holds without encryption, the account's key is the one
    in use, given as text or by a file, and `accesses` are all nodes'.
    """
    of_the_cache = [] if settings.docker_cache_custom_registry else [line for find in CACHE for line in find(settings)]
    of_the_nodes = [line for find in NODES for line in find(settings)]
    return [
        *of_the_cache,
        *account_key_length(settings, azure_account_key),
        *of_the_nodes,
        *any_host_key(accesses),
        *(in_plain_text(key) for key in plain_keys if must_be_secret(key)),
        *in_nodes(settings, plain_keys),
        *in_bastion(settings, plain_keys),
        *in_upstreams(settings, plain_keys),
    ]


def htpasswd_users(settings: Settings) -> Iterator[str]:
    if not settings.docker_cache_htpasswd:
        return
    parsed = parse_htpasswd(settings.docker_cache_htpasswd.get_secret_value())
    if parsed.ignored:
        yield (
            f"docker_cache_htpasswd has entries that are not bcrypt, and the registry ignores them: {', '.join(parsed.ignored)}; "
            "write them with `htpasswd -B`"
        )
    yield (
        "docker_cache_htpasswd is set: docker sends a mirror no credentials of its own, so docker nodes are answered 401 and go "
        "to the upstream without a word; the cache then serves containerd, with docker_cache_entry_username, and clients that "
        "sign in"
    )


def account_key_length(settings: Settings, key: str | None) -> Iterator[str]:
    if not settings.is_on_azure or not key:
        return
    length = len(base64.b64decode(key))
    if length != ACCOUNT_KEY_BYTES:
        path = settings.docker_cache_azure_account_key_path
        place = (
            f'the key in docker_cache_azure_account_key_path ("{path}")' if path else "docker_cache_azure_account_key"
        )
        yield f"{place} has {length} bytes, where Azure's keys have {ACCOUNT_KEY_BYTES}: is it copied whole?"


def shared_private_images(settings: Settings) -> Iterator[str]:
    if settings.docker_cache_remote_username:
        yield (
            "docker_cache_remote_username is set: every image that this user may pull, private ones too, can then be pulled by "
            f"everyone who reaches the cache at {settings.entry}"
        )
    for upstream in settings.docker_cache_upstreams:
        if upstream.username:
            yield (
                f"docker_cache_upstreams[{upstream.host}].username is set: every image that this user may pull, private ones "
                f"too, can then be pulled by everyone who reaches the cache at {settings.entry}"
            )


def upstream_in_the_clear(settings: Settings) -> Iterator[str]:
    urls = {
        f"docker_cache_upstreams[{upstream.host}].url": upstream.url for upstream in settings.docker_cache_upstreams
    }
    for key, url in {"docker_cache_remote_url": settings.docker_cache_remote_url, **urls}.items():
        if url and url.startswith("http://") and not is_inside(url):
            yield (
                f"{key} is {url}: over plain http, images can be changed on their way to the cache, and all nodes get them; "
                "use https"
            )


def unpinned_image(settings: Settings) -> Iterator[str]:
    image = settings.docker_cache_image
    name = image.rpartition("/")[2]
    if "@" not in name and (":" not in name or name.endswith(":latest")):
        yield (
            f"docker_cache_image is {image}, which is another image whenever its tag moves: name a version such as "
            "registry:3.1.2, or a digest"
        )


def entry_in_the_clear(settings: Settings) -> Iterator[str]:
    if settings.entry.startswith("http://") and not is_inside(settings.entry):
        yield (
            f"the entry {settings.entry} is plain http to a public address: manifests fetched by tag can be changed on their "
            "way; use an address of the cluster's own network, or https"
        )


def clients_without_addresses(settings: Settings) -> Iterator[str]:
    """Whoever stands between the nodes and the cache decides what it sees of them."""
    if settings.docker_cache_allowed_cidrs and settings.docker_cache_entry:
        yield (
            f"docker_cache_allowed_cidrs is set, and the entry is {settings.docker_cache_entry}: the cache then answers at the "
            "NodePort of those nodes alone that its front runs on, and goes by the address that requests have there; whatever "
            "leads from the entry to the nodes has to see to both"
        )


def nodes_outside(settings: Settings) -> Iterator[str]:
    """By the addresses that ssh reaches them at, which need not be those that they pull from."""
    networks = [ipaddress.ip_network(cidr) for cidr in settings.docker_cache_allowed_cidrs]
    outside = [node.name for node in settings.kept_nodes if networks and is_outside(node.host, networks)]
    if outside:
        yield (
            f"docker_cache_allowed_cidrs has no network with the host of {listed(outside)}: unless they pull from other "
            "addresses, the cache refuses them"
        )


def is_outside(host: str, networks: Collection[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """A name says nothing."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not any(address in network for network in networks)


def unverified_entry(settings: Settings) -> Iterator[str]:
    if settings.docker_cache_entry_insecure:
        yield (
            f"docker_cache_entry_insecure is on: the nodes take images from whoever answers at {settings.entry}, and docker with "
            "the containerd store (29) then verifies Docker Hub neither; docker_cache_entry_ca verifies both"
        )


def restart_of_containerd(settings: Settings) -> Iterator[str]:
    if settings.docker_cache_allow_restart and "containerd" in settings.docker_cache_engines:
        yield (
            "docker_cache_allow_restart is on: where containerd has no config_path yet, it gets one and is restarted once; its "
            "containers go on running"
        )


def any_host_key(accesses: Collection[Access]) -> Iterator[str]:
    """Only a stack that asks for it by name has machines whose key is not known."""
    hops = dict.fromkeys(access.bastion for access in accesses if access.bastion)
    unknown = [hop.place for hop in hops if hop.host_key is None]
    unknown += [access.name for access in accesses if access.host_key is None]
    if unknown:
        yield (
            "docker_cache_ssh_trust_any_host_key is on: commands run as root on whoever answers at the addresses of "
            f"{listed(unknown)}; give them a host_key"
        )


def forgotten_nodes(settings: Settings) -> Iterator[str]:
    forgotten = list(settings.docker_cache_forget_nodes)
    if forgotten:
        yield (
            f"docker_cache_forget_nodes has {listed(forgotten)}: nothing connects there, and what docker-cache did there stays "
            "(the mirror in daemon.json and its record in /var/lib/docker-cache, the folder of a cache); once an update has "
            "recorded it, take the names out of docker_cache_nodes and docker_cache_forget_nodes"
        )


def unused_keys(settings: Settings) -> Iterator[str]:
    unused = [key for key in CACHE_KEYS if getattr(settings, key)]
    if settings.docker_cache_custom_registry and unused:
        yield (
            f"docker_cache_custom_registry is {settings.docker_cache_custom_registry}: no cache is installed, and "
            f"{', '.join(unused)} count for nothing"
        )


def must_be_secret(key: str) -> bool:
    """A kubeconfig or a proxy is in most stacks a path or an address, which need not be encrypted."""
    main_name = next((name for name, alias in ALIASES.items() if alias == key), key)
    return is_secret(main_name) and not key.endswith(("_path", "kubeconfig", "proxy"))


def in_nodes(settings: Settings, plain_keys: Collection[str]) -> Iterator[str]:
    """Who encrypts one value in the list makes all of it a secret to the engine: then it is not among the plain keys."""
    secret = [node.name for node in settings.docker_cache_nodes if has_secrets(node) or has_secrets(node.bastion)]
    if "docker_cache_nodes" in plain_keys and secret:
        yield (
            f"docker_cache_nodes has secrets without encryption, of {listed(secret)}: "
            "`pulumi config set --secret --path 'docker-cache:docker_cache_nodes[0].password'` asks for one and encrypts it"
        )


def in_bastion(settings: Settings, plain_keys: Collection[str]) -> Iterator[str]:
    if "docker_cache_ssh_bastion" in plain_keys and has_secrets(settings.docker_cache_ssh_bastion):
        yield (
            "docker_cache_ssh_bastion has secrets without encryption: "
            "`pulumi config set --secret --path 'docker-cache:docker_cache_ssh_bastion.password'` asks for one and encrypts it"
        )


def in_upstreams(settings: Settings, plain_keys: Collection[str]) -> Iterator[str]:
    secret = [upstream.host for upstream in settings.docker_cache_upstreams if has_secrets(upstream)]
    if "docker_cache_upstreams" in plain_keys and secret:
        yield (
            f"docker_cache_upstreams has secrets without encryption, of {listed(secret)}: "
            "`pulumi config set --secret --path 'docker-cache:docker_cache_upstreams[0].password'` asks for one and encrypts it"
        )


def has_secrets(item: Machine | Upstream | None) -> bool:
    return any(getattr(item, key, None) for key in SECRET_KEYS)


def in_plain_text(key: str) -> str:
    return (
        f"{key} stands in the stack's file without encryption: `pulumi config set --secret docker-cache:{key}` "
        "asks for it and encrypts it"
    )


def is_inside(url: str) -> bool:
    """Whether an address is of a private network; a name says nothing, and counts as inside."""
    try:
        return not ipaddress.ip_address(urlsplit(url).hostname or "").is_global
    except ValueError:
        return True


def listed(names: list[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


Find = Callable[[Settings], Iterator[str]]
CACHE: tuple[Find, ...] = (
    htpasswd_users,
    shared_private_images,
    upstream_in_the_clear,
    unpinned_image,
    clients_without_addresses,
    nodes_outside,
)
NODES: tuple[Find, ...] = (
    entry_in_the_clear,
    unverified_entry,
    restart_of_containerd,
    forgotten_nodes,
    unused_keys,
)
