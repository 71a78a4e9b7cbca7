"""`make gc`: what is broken in the stores, past their bounds, or needed by no image, goes now rather than in a while.

The keeper beside the registry does it all the time (`in_pod/keep_store.sh`); here its script is run once more, by the API server.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import kubernetes
import kubernetes.stream
import urllib3
import websocket
from kubernetes.client import ApiClient, ApiException, CoreV1Api

from components.metadata import upstream_labels
from operations.stacks import OperationError
from rendering import keeper
from settings.cluster import ClusterError, api_client, as_json, refusal
from settings.loading import Disabled, load
from settings.model import DOCKER_IO, Settings
from settings.stack import Stack
from settings.values import size_in_bytes

ASK_SECONDS = 15
LOST = (
    "the connection to the keeper's pod was lost before the end: what was begun may go on there, so run `make gc` once more in a "
    "while"
)
Say = Callable[[str], None]


class Stream(Protocol):
    """A command's output, as the client's library has it."""

    @property
    def returncode(self) -> int: ...
    def is_open(self) -> bool: ...
    def update(self, timeout: float) -> None: ...
    def read_stdout(self, timeout: float) -> str: ...
    def read_stderr(self, timeout: float) -> str: ...


def refuse(values: Mapping[str, str]) -> None:
    """Raises OperationError where the stack has no store of files."""
    settings = load(values.get)
    if isinstance(settings, Disabled):
        raise OperationError("enable_docker_cache is off, so there is no store to look after: set it to true")
    if settings.docker_cache_custom_registry:
        raise OperationError("docker_cache_custom_registry is set, so there is no store of ours to look after")
    if settings.is_on_azure:
        raise OperationError(
            "the images lie on Azure, where the cache itself removes nothing: docker_cache_azure_delete_unread_after_days, or a "
            "lifecycle rule in Azure, does"
        )


def collect(stack: Stack, say: Say) -> int:
    """Run where the cluster can be reached; the exit status of the keeper's script. Raises ClusterError."""
    if stack.cluster is None:
        raise ClusterError("the stack installs no cache")
    namespace = stack.settings.docker_cache_namespace
    try:
        with api_client(stack.cluster) as client:
            return run_in(client, namespace, running_pod(client, namespace), once(stack.settings), say)
    except (ApiException, urllib3.exceptions.HTTPError) as error:
        raise ClusterError(refusal(error, stack.cluster)) from error


def once(settings: Settings) -> list[str]:
    most = settings.docker_cache_fs_max_size
    kib = size_in_bytes(most) // 1024 if most else 0
    return [*keeper.command(kib, settings.docker_cache_ttl or 0), "now"]


def running_pod(client: ApiClient, namespace: str) -> str:
    """That of Docker Hub's registry, which has the whole store."""
    selector = ",".join(f"{key}={value}" for key, value in upstream_labels(DOCKER_IO).items())
    found = CoreV1Api(client).list_namespaced_pod(namespace, label_selector=selector, _request_timeout=ASK_SECONDS)
    for pod in as_json(client, found)["items"]:
        states = pod["status"].get("containerStatuses", [])
        is_up = any(state["name"] == keeper.CONTAINER and "running" in state["state"] for state in states)
        if is_up and "deletionTimestamp" not in pod["metadata"]:
            return str(pod["metadata"]["name"])
    raise ClusterError(
        f"no pod in {namespace} runs the keeper of the stores: look at the registry's with `kubectl describe pods --namespace "
        f"{namespace} --selector {selector}`"
    )


def run_in(client: ApiClient, namespace: str, pod: str, command: list[str], say: Say) -> int:
    """The command's status; what it says is handed on line by line."""
    stream = kubernetes.stream.stream(
        CoreV1Api(client).connect_get_namespaced_pod_exec,
        pod,
        namespace,
        container=keeper.CONTAINER,
        command=command,
        stdout=True,
        stderr=True,
        stdin=False,
        tty=False,
        _preload_content=False,
    )
    rest = ""
    for piece in pieces(stream):
        *lines, rest = (rest + piece).split("\n")
        for line in lines:
            say(line.removeprefix("keep_store.sh: "))
    return status(stream)


def pieces(stream: Stream) -> Iterator[str]:
    """What it says, as it comes. (`read_all` would take the status along.)"""
    is_open = True
    while is_open:
        is_open = stream.is_open()
        try:
            stream.update(timeout=1)
        except (OSError, websocket.WebSocketException) as error:
            raise ClusterError(LOST) from error
        yield stream.read_stdout(timeout=0) + stream.read_stderr(timeout=0)


def status(stream: Stream) -> int:
    """Without one the connection ended before the command did, which the client's library does not expect."""
    try:
        return int(stream.returncode)
    except (TypeError, KeyError, ValueError) as error:
        raise ClusterError(LOST) from error
