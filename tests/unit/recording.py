"""What the program creates, recorded by mocks: no engine, no cluster. The `recorder` fixture is in conftest.py."""

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest
from pulumi.runtime.mocks import MockMonitor

from components.arguments import node_mirrors_args, registry_cache_args
from components.node_mirrors import NodeMirrors
from components.registry_cache import RegistryCache
from settings.access import Access
from settings.azure import read_account_key
from settings.cluster import Cluster
from settings.loading import load
from settings.model import Settings
from settings.stack import Stack
from tests.unit.stacks import HOST_KEY, KUBECONFIG, configuration

SECRET_SIGNATURE = "4dabf18193072939515e22adb298388d"
COMMAND = "command:remote:Command"
LOCAL = "command:local:Command"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
SERVICE = "kubernetes:core/v1:Service"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
SECRET = "kubernetes:core/v1:Secret"
FRONT, KEEPER, METRICS = "docker-cache-front", "docker-cache-keeper", "docker-cache-metrics"
CLUSTER_IP = "10.96.0.7"


@dataclass
class Recorder(pulumi.runtime.Mocks):
    """Remembers every resource with its inputs, in camel case as the provider gets them."""

    resources: list[pulumi.runtime.MockResourceArgs] = field(default_factory=list)
    requests: dict[str, Any] = field(default_factory=dict)
    """Commands with their options, by name: mocks are told of inputs alone."""
    dependencies: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The names of what each resource, by its type and its name, waits for."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        args.inputs = revealed(args.inputs)
        self.resources.append(args)
        outputs = dict(args.inputs)
        if args.typ.startswith("kubernetes:") and "metadata" in outputs:
            outputs["metadata"] = {"name": f"{args.name}-made", **outputs["metadata"]}
        if args.typ == SERVICE:
            outputs["spec"] = {**outputs["spec"], "clusterIP": cluster_ip(args.name)}
        return args.name, {**outputs, "stdout": "done"}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        if args.token == "azure-native:storage:listStorageAccountKeys":
            return {"keys": [{"keyName": name, "value": f"{name}-of-azure"} for name in ("key1", "key2")]}, []
        raise AssertionError(f"{args.token} is called: the program asks no provider")

    def of(self, kind: str) -> list[pulumi.runtime.MockResourceArgs]:
        return [resource for resource in self.resources if resource.typ == kind]

    def command(self, name: str) -> dict[str, Any]:
        """Registration is concurrent: the order means nothing."""
        (inputs,) = [resource.inputs for resource in self.of(COMMAND) if resource.name == name]
        return dict(inputs)

    def named(self, kind: str, name: str) -> dict[str, Any]:
        (inputs,) = [resource.inputs for resource in self.of(kind) if resource.name == name]
        return dict(inputs)

    def one(self, kind: str) -> dict[str, Any]:
        """The only one of its kind beside the front's, the keeper's and the metrics'."""
        (resource,) = [resource for resource in self.of(kind) if not resource.name.startswith((FRONT, KEEPER, METRICS))]
        inputs: dict[str, Any] = resource.inputs
        return inputs


def cluster_ip(service: str) -> str:
    """What the cluster gives a Service, by pulumi's name; Docker Hub's registry has the one that is known."""
    return CLUSTER_IP if service == "docker-cache-registry" else f"10.96.1.{zlib.crc32(service.encode()) % 250}"


def revealed(value: Any) -> Any:
    """Secrets reach mocks wrapped, with a signature beside the value."""
    if isinstance(value, dict):
        return (
            revealed(value["value"])
            if SECRET_SIGNATURE in value
            else {key: revealed(item) for key, item in value.items()}
        )
    return [revealed(item) for item in value] if isinstance(value, list) else value


@contextmanager
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    mocks = Recorder()
    register = MockMonitor.RegisterResource

    def remembering(self: MockMonitor, request: Any) -> Any:
        if request.type == COMMAND:
            mocks.requests[request.name] = request
        waits_for = [urn.rpartition("::")[2] for urn in request.dependencies]
        mocks.dependencies[request.type, request.name] = waits_for
        return register(self, request)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(MockMonitor, "RegisterResource", remembering)
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(mocks, preview=False)
    yield mocks
    pulumi.runtime.reset_options()


def stack(nodes: list[dict[str, object]] | None = None, /, **keys: str) -> Stack:
    settings = load(configuration(nodes, **keys).get)
    assert isinstance(settings, Settings)
    accesses = [
        Access(
            name=item.name,
            host=item.host,
            port=item.port or 22,
            user="root",
            sudo=bool(item.sudo),
            host_key=HOST_KEY,
            private_key="private-key-text",
        )
        for item in settings.docker_cache_nodes
    ]
    return Stack(
        settings=settings,
        cluster=Cluster(kubeconfig=KUBECONFIG, context="prod"),
        nodes=tuple(access for access in accesses if access.name not in settings.docker_cache_forget_nodes),
        forgotten=tuple(access for access in accesses if access.name in settings.docker_cache_forget_nodes),
        azure_account_key=read_account_key(settings, Path(), []),
    )


def create_cache(subject: Stack) -> RegistryCache | None:
    if subject.settings.docker_cache_custom_registry or subject.cluster is None:
        return None
    provider = k8s.Provider("cluster", kubeconfig=subject.cluster.kubeconfig, context=subject.cluster.context)
    return RegistryCache("docker-cache", registry_cache_args(subject), provider=provider)


def deploy(subject: Stack) -> None:
    """As `__main__.py` does, and wait for everything."""

    def run() -> pulumi.Output[Any]:
        cache = create_cache(subject)
        after = pulumi.ResourceOptions(depends_on=[cache] if cache else [])
        mirrors = NodeMirrors("nodes", node_mirrors_args(subject), after)
        return pulumi.Output.all(*mirrors.results.values())

    pulumi.runtime.test(run)()  # type: ignore[no-untyped-call]


def container(recorder: Recorder) -> dict[str, Any]:
    only: dict[str, Any] = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]
    return only
