"""`enable_docker_cache: false` on a stack that had it on, and what becomes of the cached data."""

import json
from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import WORKERS, Sandbox, dev_nodes

BLOBS = "/var/lib/registry/docker/registry/v2/blobs"


@pytest.fixture(autouse=True)
def _taken_back(sandbox: Sandbox) -> Iterator[None]:
    yield
    sandbox.destroy()
    sandbox.empty_store()


def deletions(events: str) -> list[str]:
    """The names of what was deleted, in the order in which it was done."""
    parsed = [json.loads(line) for line in events.splitlines() if line.startswith("{")]
    done = [event["resOutputsEvent"]["metadata"] for event in parsed if "resOutputsEvent" in event]
    return [step["urn"].rpartition("::")[2] for step in done if step["op"] == "delete"]


def test_every_nodes_mirror_goes_before_the_service_and_the_data_stays(sandbox: Sandbox) -> None:
    sandbox.up()
    sandbox.pull_anew("pai-worker1", "app:1")
    result = sandbox.pulumi(
        "up", "--yes", "--skip-preview", "--json", enable_docker_cache="false", docker_cache_remote_url="ignored"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    order = deletions(result.stdout)
    nodes = [place for place, name in enumerate(order) if name.startswith("pai-")]
    assert len(nodes) == len(dev_nodes()), order
    assert max(nodes) < order.index("docker-cache-30500"), "a node still had the mirror when the service went"
    for worker in WORKERS:
        assert sandbox.mirrors(worker) == []
    assert (
        sandbox.kubectl("get", "deployments,services", "-l", "app.kubernetes.io/part-of=docker-cache", "-o", "name")
        == ""
    )
    assert sandbox.on("pai-master", "find", BLOBS, "-name", "data"), (
        "the cached data is gone, and nobody asked for that"
    )
    assert sandbox.outputs() == {}


@pytest.mark.long
def test_the_data_goes_where_that_was_asked_for_by_name(sandbox: Sandbox) -> None:
    sandbox.up(docker_cache_delete_data="true")
    sandbox.pull_anew("pai-worker1", "app:1")
    assert sandbox.on("pai-master", "find", BLOBS, "-name", "data")
    sandbox.up(enable_docker_cache="false")
    assert sandbox.try_on("pai-master", "test", "-e", BLOBS).returncode != 0


@pytest.mark.long
def test_the_outputs_are_those_that_are_documented(sandbox: Sandbox) -> None:
    sandbox.up()
    outputs = sandbox.outputs()
    nodes = outputs.pop("nodes")
    assert outputs == {
        "entry": "http://10.30.0.10:30500",
        "upstream": "https://registry-1.docker.io",
        "storage": "pai-master:/var/lib/registry",
    }
    assert isinstance(nodes, dict)
    assert {name: node["state"] for name, node in nodes.items()} == {
        "pai-master": "live",
        "pai-worker1": "live",
        "pai-worker2": "live",
        "pai-worker3": "live",
    }
    assert nodes["pai-worker1"]["detail"].startswith("mirror http://10.30.0.10:30500, docker 20.10")
