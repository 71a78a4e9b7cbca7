"""`make gc`: which pod runs the keeper's script once more, and what is told of it; the API is a test's own."""

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import kubernetes
import pytest
import websocket
from kubernetes.client import ApiException

from operations import gc
from operations.stacks import OperationError
from settings.cluster import ClusterError
from tests.unit.recording import stack
from tests.unit.stacks import configuration


@dataclass
class Stream:
    """What a command says, in pieces as they come."""

    pieces: list[str]
    returncode: int = 0

    def is_open(self) -> bool:
        return bool(self.pieces)

    def update(self, timeout: float) -> None:
        pass

    def read_stdout(self, timeout: float) -> str:
        assert not timeout, "it has been waited for"
        return self.pieces.pop(0) if self.pieces else ""

    def read_stderr(self, timeout: float) -> str:
        assert not timeout
        return ""


@dataclass
class Lost(Stream):
    """One whose connection ends before the command does: the client's library then reads the status from nothing."""

    error: Exception | None = None

    def update(self, timeout: float) -> None:
        assert timeout
        if self.error and not self.pieces:
            raise self.error

    def __getattribute__(self, name: str) -> Any:
        if name == "returncode":
            raise TypeError("'NoneType' object is not subscriptable")
        return super().__getattribute__(name)


@dataclass
class Api:
    pods: list[dict[str, Any]] = field(default_factory=list)
    error: Exception | None = None
    connect_get_namespaced_pod_exec: object = None

    def list_namespaced_pod(self, _namespace: str, **asked: object) -> dict[str, Any]:
        self.asked = asked
        if self.error:
            raise self.error
        return {"items": self.pods}


def pod(name: str, *, keeps: bool = True, leaves: bool = False) -> dict[str, Any]:
    state: dict[str, Any] = {"running": {}} if keeps else {"waiting": {}}
    return {
        "metadata": {"name": name, **({"deletionTimestamp": "now"} if leaves else {})},
        "status": {"containerStatuses": [{"name": "registry", "state": {}}, {"name": "store-keeper", "state": state}]},
    }


def prepare(monkeypatch: pytest.MonkeyPatch, api: Api, stream: Stream | None = None) -> list[dict[str, Any]]:
    """The commands that were run."""
    calls: list[dict[str, Any]] = []

    def run(_method: object, name: str, _namespace: str, **given: object) -> Stream:
        calls.append({"pod": name, **given})
        assert stream
        return stream

    monkeypatch.setattr(gc, "api_client", lambda _: nullcontext())
    monkeypatch.setattr(gc, "CoreV1Api", lambda _: api)
    monkeypatch.setattr(gc, "as_json", lambda _, item: item)
    monkeypatch.setattr(kubernetes.stream, "stream", run)
    return calls


def test_the_script_runs_where_the_whole_store_is_with_the_bounds_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api = Api(pods=[pod("old", leaves=True), pod("starting", keeps=False), pod("registry-1")])
    calls = prepare(monkeypatch, api, Stream(["keep_store.sh: a:1 goes\nkeep_st", "ore.sh: done\n"], returncode=0))
    said: list[str] = []
    assert gc.collect(stack(docker_cache_ttl="30d", docker_cache_fs_max_size="1Gi"), said.append) == 0
    assert said == ["a:1 goes", "done"], "whole lines, without the script's name"
    (call,) = calls
    assert call["pod"] == "registry-1"
    assert call["container"] == "store-keeper"
    script = "/etc/docker-cache-keeper/keep_store.sh"
    assert call["command"] == ["/bin/sh", script, "/var/lib/registry", "1048576", "2592000", "now"]
    assert "docker-cache/upstream=docker.io" in str(api.asked["label_selector"])


def test_a_script_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch, Api(pods=[pod("registry-1")]), Stream(["keep_store.sh: no\n"], returncode=1))
    assert gc.collect(stack(), lambda _: None) == 1


@pytest.mark.parametrize(
    "error",
    [None, ConnectionResetError(104, "Connection reset by peer"), websocket.WebSocketConnectionClosedException()],
)
def test_a_connection_that_is_lost_is_no_failure_of_the_script(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    prepare(monkeypatch, Api(pods=[pod("registry-1")]), Lost(["keep_store.sh: a:1 goes\n"], error=error))
    said: list[str] = []
    with pytest.raises(
        ClusterError, match="the connection to the keeper's pod was lost before the end: what was begun may go on"
    ):
        gc.collect(stack(), said.append)
    assert said == ["a:1 goes"]


def test_without_a_keeper_it_is_said_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch, Api(pods=[pod("old", leaves=True)]))
    with pytest.raises(
        ClusterError, match="no pod in default runs the keeper of the stores: look at the registry's with"
    ):
        gc.collect(stack(), print)


def test_a_cluster_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch, Api(error=ApiException(status=403, reason="Forbidden")))
    with pytest.raises(ClusterError, match='the cluster of context "prod" refuses or does not answer: Forbidden'):
        gc.collect(stack(), print)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"enable_docker_cache": "false"}, "enable_docker_cache is off, so there is no store to look after"),
        ({"docker_cache_custom_registry": "10.0.0.9:5000"}, "docker_cache_custom_registry is set, so there is no store of ours"),
        (
            {
                "docker_cache_storage_backend": "azure",
                "docker_cache_azure_account_name": "account",
                "docker_cache_azure_account_key": "c2VjcmV0LWtleQ==",
            },
            "the images lie on Azure, where the cache itself removes nothing",
        ),
    ],
)  # fmt: skip
def test_where_there_is_no_store_of_files_it_says_so(keys: dict[str, str], message: str) -> None:
    with pytest.raises(OperationError, match=message):
        gc.refuse(configuration(**keys))
