"""OpenPAI's own docker-cache in the cluster: what of it there is, and taking it away once nothing uses it any more.

Its objects are those of src/docker-cache/deploy in OpenPAI's source, all in the namespace `default`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import kubernetes
import urllib3
from kubernetes.client import ApiClient, ApiException, AppsV1Api, CoreV1Api

from settings.cluster import PREDECESSOR_SERVICE, Cluster, ClusterError, api_client, as_json, refusal, services
from settings.stack import Stack

NAMESPACE = "default"
DEPLOYMENT = "docker-registry-cache"
CONFIG_MAP = "registry-config"
SECRET = "registry-htpasswd"  # noqa: S105 - an object's name
NODE_PORTS = range(30501, 32768)
"""Where another NodePort is looked for while the usual one is the predecessor's."""
ASK_SECONDS = 15

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Object:
    """One object of the predecessor, with the way to delete it."""

    kind: str
    name: str
    delete: Callable[..., object]

    def __str__(self) -> str:
        return f"{self.kind} {NAMESPACE}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Predecessor:
    """What was found; `uncovered` are Kubernetes nodes that the stack does not list, and `free_port` a NodePort to move to."""

    objects: tuple[str, ...]
    node_ports: tuple[int, ...]
    free_port: int
    uncovered: tuple[str, ...]


def find(stack: Stack) -> Predecessor | None:
    """None where nothing of it is there. Raises ClusterError."""
    listed = {node.name for node in stack.settings.docker_cache_nodes}

    def look(client: ApiClient) -> Predecessor | None:
        objects = tuple(str(item) for item in present(client))
        if not objects:
            return None
        every = services(client)
        nodes = as_json(client, CoreV1Api(client).list_node(_request_timeout=ASK_SECONDS))["items"]
        of_it = [service for service in every if (service.namespace, service.name) == (NAMESPACE, PREDECESSOR_SERVICE)]
        taken = {port for service in every for port in service.node_ports}
        return Predecessor(
            objects=objects,
            node_ports=tuple(sorted(port for service in of_it for port in service.node_ports)),
            free_port=next(port for port in NODE_PORTS if port not in taken),
            uncovered=tuple(sorted({node["metadata"]["name"] for node in nodes} - listed)),
        )

    return asked(stack, look)


def retire(stack: Stack) -> list[str]:
    """Delete what there is of it; what was deleted. Raises ClusterError.

    The Deployment goes last: it is what shows that the ConfigMap and the Secret, whose names are anybody's, are its own.
    """

    def delete(client: ApiClient) -> list[str]:
        found = list(present(client))
        for item in found:
            item.delete(item.name, NAMESPACE, _request_timeout=ASK_SECONDS)
        return [str(item) for item in found]

    return asked(stack, delete)


def present(client: ApiClient) -> Iterator[Object]:
    core, apps = CoreV1Api(client), AppsV1Api(client)
    service = read(client, core.read_namespaced_service, PREDECESSOR_SERVICE)
    deployment = read(client, apps.read_namespaced_deployment, DEPLOYMENT)
    if service is not None:
        yield Object(kind="Service", name=PREDECESSOR_SERVICE, delete=core.delete_namespaced_service)
    if deployment is None:
        return
    volumes = deployment["spec"]["template"]["spec"].get("volumes", [])
    mounted = {
        volume.get("configMap", {}).get("name") or volume.get("secret", {}).get("secretName") for volume in volumes
    }
    if CONFIG_MAP in mounted and read(client, core.read_namespaced_config_map, CONFIG_MAP) is not None:
        yield Object(kind="ConfigMap", name=CONFIG_MAP, delete=core.delete_namespaced_config_map)
    if SECRET in mounted and read(client, core.read_namespaced_secret, SECRET) is not None:
        yield Object(kind="Secret", name=SECRET, delete=core.delete_namespaced_secret)
    yield Object(kind="Deployment", name=DEPLOYMENT, delete=apps.delete_namespaced_deployment)


def read(client: ApiClient, method: Callable[..., object], name: str) -> dict[str, Any] | None:
    """An object in the API's own form; None where there is none."""
    try:
        return as_json(client, method(name, NAMESPACE, _request_timeout=ASK_SECONDS))
    except ApiException as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise


def asked(stack: Stack, question: Callable[[ApiClient], T]) -> T:
    cluster = require_cluster(stack)
    try:
        with api_client(cluster) as client:
            return question(client)
    except (ApiException, urllib3.exceptions.HTTPError, kubernetes.config.ConfigException) as error:
        raise ClusterError(refusal(error, cluster)) from error


def require_cluster(stack: Stack) -> Cluster:
    if stack.cluster is None:
        raise ClusterError("the stack has docker_cache_custom_registry: it installs no cache that could take over")
    return stack.cluster
