"""The Kubernetes cluster that a stack names: its kubeconfig, its context, and whether it can take the cache."""

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import kubernetes
import urllib3
import yaml

from settings.model import Settings
from settings.tls import Source, TlsPair, pair_problems, secret_cautions
from settings.values import read_file

OLDEST = (1, 22)
"""Server-side apply, which the provider updates with, is stable from 1.22 on."""
OLDEST_OF_FRONTS = (1, 27)
"""What spreads the fronts over the nodes whose addresses are entries (`matchLabelKeys`) is there from 1.27 on."""
CONNECT_SECONDS = 10
TLS_TYPE = "kubernetes.io/tls"
PREDECESSOR_SERVICE = "docker-registry-cache-service"
"""The Service of OpenPAI's own docker-cache: src/docker-cache/deploy in its source."""
TAKE_OVER = "`make takeover STACK=…` moves the cluster over without an interval in which pulls fail"


class ClusterError(Exception):
    """The cluster can't be asked, or refuses; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What the Kubernetes provider needs: a kubeconfig's text and the context in it."""

    kubeconfig: str = field(repr=False)
    context: str


def find_cluster(settings: Settings, base: Path, problems: list[str]) -> Cluster | None:
    """Read the kubeconfig (its text, or the path of a file) and check the context; problems are added to the list."""
    given, context = settings.docker_cache_kubeconfig.get_secret_value(), settings.docker_cache_kube_context
    if "\n" in given or given.startswith("{"):
        text, shown = given, "docker_cache_kubeconfig"
    else:
        try:
            text, shown = read_file(given, base), f'docker_cache_kubeconfig ("{given}")'
        except ValueError as error:
            problems.append(f"docker_cache_kubeconfig {error}")
            return None
    contexts = context_names(text)
    if contexts is None:
        problems.append(f"{shown} is not a kubeconfig: give the path of one, or its text as a secret")
        return None
    if context not in contexts:
        # Without a context there is a rule's message already.
        problems += [f'docker_cache_kube_context is "{context}": {shown} has {", ".join(contexts) or "none"}'] * bool(
            context
        )
        return None
    return Cluster(kubeconfig=text, context=str(context))


def context_names(text: str) -> list[str] | None:
    """None where it is no kubeconfig."""
    try:
        document = yaml.safe_load(text)
        return [str(context["name"]) for context in document["contexts"]]
    except (yaml.YAMLError, TypeError, KeyError):
        return None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the cluster says of a deployment that is to come."""

    problems: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


Ask = Callable[[Cluster, Settings, str | None], Answer]
"""The last is the CA that the nodes get."""


def ask_cluster(cluster: Cluster, settings: Settings, entry_ca: str | None) -> Answer:
    """Is it new enough, has it the namespace and what the settings name in it, is the NodePort free for us, and does the
    predecessor run there?
    """
    look = f"look at it with `kubectl --context {cluster.context} version`"
    try:
        with api_client(cluster) as client:
            version = get(client, "/version/")
            listed = services(client)
            secret = look_at_tls_secret(client, settings, entry_ca)
            found = (
                version_problem(str(version["gitVersion"]), settings),
                namespace_problem(client, settings),
                node_port_problem(listed, settings),
                *secret.problems,
            )
    except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError) as error:
        reason = str(getattr(error, "reason", None) or type(error).__name__)
        return Answer(
            problems=(
                f'the cluster of docker_cache_kube_context "{cluster.context}" does not answer: {reason}; {look}',
            )
        )
    except (kubernetes.config.ConfigException, ValueError, TypeError, AttributeError, KeyError):
        # Their texts may quote the kubeconfig.
        return Answer(problems=(f'docker_cache_kubeconfig can\'t be used with context "{cluster.context}": {look}',))
    problems = tuple(problem for problem in found if problem)
    return Answer(problems=problems, cautions=() if problems else (*predecessor_cautions(listed), *secret.cautions))


def ask_nothing(_cluster: Cluster, _settings: Settings, _entry_ca: str | None) -> Answer:
    """In the place of `ask_cluster`, where the configuration alone is looked at."""
    return Answer()


def namespace_problem(client: kubernetes.client.ApiClient, settings: Settings) -> str | None:
    name = settings.docker_cache_namespace
    try:
        get(client, "/api/v1/namespaces/{name}", name=name)
    except kubernetes.client.ApiException as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return f'docker_cache_namespace is "{name}": make it first with `kubectl create namespace {name}`'
        if error.status != HTTPStatus.FORBIDDEN:
            raise
    return None


def look_at_tls_secret(client: kubernetes.client.ApiClient, settings: Settings, entry_ca: str | None) -> Answer:
    """A pod that names a Secret which is not there waits for it without a word."""
    name, namespace = settings.docker_cache_tls_secret, settings.docker_cache_namespace
    if name is None:
        return Answer()
    shown = f'docker_cache_tls_secret is "{name}"'
    try:
        secret = get(client, "/api/v1/namespaces/{namespace}/secrets/{name}", namespace=namespace, name=name)
    except kubernetes.client.ApiException as error:
        if error.status == HTTPStatus.NOT_FOUND:
            command = f"kubectl --namespace {namespace} create secret tls {name} --cert=… --key=…"
            problem = f"{shown}: there is no such Secret; make it with `{command}`, or have cert-manager make it"
            return Answer(problems=(problem,))
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        return Answer()
    pair = secret_pair(secret)
    if pair is None:
        problem = f"{shown}: that Secret is not of type {TLS_TYPE}, with tls.crt and tls.key; name one that is"
        return Answer(problems=(problem,))
    source = Source(
        certificate=f"tls.crt of docker_cache_tls_secret {name}", key=f"tls.key of docker_cache_tls_secret {name}"
    )
    problems = tuple(pair_problems(pair, settings, entry_ca, source))
    return Answer(problems=problems, cautions=() if problems else tuple(secret_cautions(pair, settings, source)))


def secret_pair(item: Mapping[str, Any]) -> TlsPair | None:
    """None where the Secret holds none, by its type or its keys."""
    data = item.get("data") or {}
    if item.get("type") != TLS_TYPE or not {"tls.crt", "tls.key"} <= set(data):
        return None
    certificate, key = (base64.b64decode(data[file]).decode(errors="replace") for file in ("tls.crt", "tls.key"))
    return TlsPair(certificate=certificate, key=key)


def node_port_problem(listed: Iterable["Service"], settings: Settings) -> str | None:
    """Whose the NodePort is, where it is not ours."""
    port = settings.docker_cache_node_port
    holder = next((service for service in listed if port in service.node_ports), None)
    if holder is None or (holder.namespace, holder.name) == (settings.docker_cache_namespace, service_name(port)):
        return None
    taken = f"the NodePort {port} is taken by the Service {holder.namespace}/{holder.name}"
    if holder.name == PREDECESSOR_SERVICE:
        return f"{taken}, OpenPAI's own docker-cache: {TAKE_OVER}"
    return f"{taken}: set docker_cache_node_port to a free one"


def predecessor_cautions(listed: Iterable["Service"]) -> Iterator[str]:
    for service in listed:
        if service.name == PREDECESSOR_SERVICE:
            yield (
                f"OpenPAI's own docker-cache runs in this cluster too (Service {service.namespace}/{service.name}): {TAKE_OVER}"
            )


@dataclass(frozen=True, kw_only=True)
class Service:
    """A Service of the cluster, as far as its ports on the nodes are concerned."""

    namespace: str
    name: str
    node_ports: frozenset[int]


def services(client: kubernetes.client.ApiClient) -> list[Service]:
    """Every Service; none where this user may not list them: what then is taken, the API server's refusal says."""
    try:
        found = get(client, "/api/v1/services")["items"]
    except kubernetes.client.ApiException as error:
        if error.status != HTTPStatus.FORBIDDEN:
            raise
        return []
    return [as_service(item) for item in found]


def get(client: kubernetes.client.ApiClient, path: str, **names: str) -> dict[str, Any]:
    """An answer of the API as it is. Loading the client's classes for it would take every preview two seconds more."""
    request = client.param_serialize(
        method="GET",
        resource_path=path,
        path_params=names,
        header_params={"Accept": "application/json"},
        auth_settings=["BearerToken"],
    )
    response = client.call_api(*request, _request_timeout=CONNECT_SECONDS)
    response.read()  # type: ignore[no-untyped-call]
    kinds: dict[str, Any] = {"2XX": "object"}
    answer: dict[str, Any] = client.response_deserialize(response, kinds).data
    return answer


def as_json(client: kubernetes.client.ApiClient, item: object) -> dict[str, Any]:
    """The API's own form of an object: the client's classes have every field optional."""
    form: dict[str, Any] = client.sanitize_for_serialization(item)  # type: ignore[no-untyped-call]
    return form


def as_service(item: Mapping[str, Any]) -> Service:
    ports = item["spec"].get("ports", [])
    return Service(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        node_ports=frozenset(port["nodePort"] for port in ports if "nodePort" in port),
    )


def service_name(node_port: int) -> str:
    """By the port: with another port another Service is made before the old one goes, so that no pull finds neither."""
    return f"docker-cache-{node_port}"


def version_problem(git_version: str, settings: Settings) -> str | None:
    """`v1.21.14` is too old; `v1.34.2-eks-1` is not. None where it is new enough."""
    found = re.match(r"v?(\d+)\.(\d+)", git_version)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < OLDEST:
        return f"the cluster runs Kubernetes {git_version}: 1.22 is the oldest that is supported (server-side apply)"
    if version < OLDEST_OF_FRONTS and settings.docker_cache_allowed_cidrs and len(settings.front_nodes) > 1:
        return (
            f"the cluster runs Kubernetes {git_version}: docker_cache_allowed_cidrs with several masters as entries needs 1.27, "
            'which keeps a front on each of them; use docker_cache_entries "master", or an entry of your own'
        )
    return None


def refusal(error: Exception, cluster: Cluster) -> str:
    """What a ClusterError says of the client's own errors."""
    reason = getattr(error, "reason", None) or type(error).__name__
    return f'the cluster of context "{cluster.context}" refuses or does not answer: {reason}'


def api_client(cluster: Cluster) -> kubernetes.client.ApiClient:
    """A client of that cluster and no other. Raises kubernetes.config.ConfigException."""
    configuration = kubernetes.client.Configuration()
    configuration.retries = False
    document = yaml.safe_load(cluster.kubeconfig)
    kubernetes.config.load_kube_config_from_dict(  # type: ignore[no-untyped-call]
        document, context=cluster.context, client_configuration=configuration
    )
    return kubernetes.client.ApiClient(configuration)
