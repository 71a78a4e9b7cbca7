"""The canary of plain `pulumi up`, and nodes that are away for a while or gone for good."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import WORKERS, Sandbox, dev_nodes

OLD, NEW = "http://10.30.0.10:30500/", "http://10.30.0.10:30777/"
DAEMON_JSON = "/etc/docker/daemon.json"


@pytest.fixture(autouse=True)
def _everything_answers_again(sandbox: Sandbox) -> Iterator[None]:
    yield
    for worker in WORKERS:
        sandbox.on(worker, "systemctl", "start", "ssh")
    sandbox.destroy()


def away(sandbox: Sandbox, worker: str) -> None:
    sandbox.on(worker, "systemctl", "stop", "ssh")


def failing(sandbox: Sandbox, *flags: str, **changes: object) -> str:
    result = sandbox.pulumi("up", "--yes", "--skip-preview", *flags, **changes)
    assert result.returncode != 0, result.stdout
    return result.stdout


@pytest.mark.long
def test_another_canary_or_another_order_changes_no_node(sandbox: Sandbox) -> None:
    sandbox.up()
    assert sandbox.preview(docker_cache_canary="pai-worker2") == {}
    assert sandbox.preview(docker_cache_nodes=dev_nodes()[::-1]) == {}
    assert sandbox.preview(docker_cache_wave_size="1", docker_cache_max_failures="0") == {}


@pytest.mark.parametrize("flags", [(), pytest.param(("--continue-on-error",), marks=pytest.mark.long)])
def test_a_failing_canary_leaves_the_others_alone(sandbox: Sandbox, flags: tuple[str, ...]) -> None:
    sandbox.up()
    away(sandbox, "pai-worker2")
    failing(sandbox, *flags, docker_cache_canary="pai-worker2", docker_cache_node_port="30777")
    assert sandbox.mirrors("pai-worker1") == [OLD]
    failing(sandbox, "--continue-on-error", docker_cache_canary="pai-worker1", docker_cache_node_port="30777")
    assert sandbox.mirrors("pai-worker1") == [NEW], "another canary is the way on while the first one is away"
    assert sandbox.mirrors("pai-worker2") == [OLD]


@pytest.mark.long
def test_a_destroy_takes_the_canary_back_last_and_one_that_is_away_keeps_no_other(sandbox: Sandbox) -> None:
    sandbox.up(docker_cache_canary="pai-worker1")
    away(sandbox, "pai-worker1")
    result = sandbox.pulumi("destroy", "--yes", "--skip-preview", "--continue-on-error")
    assert result.returncode != 0
    assert sandbox.mirrors("pai-worker2") == []
    assert sandbox.mirrors("pai-worker1") == [OLD]
    assert sandbox.kubectl("get", "service", "docker-cache-30500", "-o", "name"), (
        "a node still has the cache as its mirror"
    )


@pytest.mark.long
def test_a_node_that_is_gone_for_good_is_recorded_and_then_left_alone(sandbox: Sandbox) -> None:
    sandbox.up()
    written = sandbox.on("pai-worker2", "cat", DAEMON_JSON)
    away(sandbox, "pai-worker2")
    nodes = dev_nodes("pai-master", *WORKERS)
    never_made = {**dev_nodes("pai-worker2")[0], "name": "pai-worker9", "host": "10.30.0.99"}
    gone = {
        "docker_cache_nodes": [*nodes, never_made],
        "docker_cache_forget_nodes": ["pai-worker2", "pai-worker9"],
    }
    # Every node changes with the port; an update of a forgotten one would connect to it.
    sandbox.up(docker_cache_node_port="30777", **gone)
    assert sandbox.mirrors("pai-worker1") == [NEW]
    told = sandbox.outputs()["nodes"]
    assert isinstance(told, dict)
    assert {name: node["state"] for name, node in told.items()} == {
        "pai-master": "live",
        "pai-worker1": "live",
        "pai-worker2": "forgotten",
        "pai-worker9": "forgotten",
    }
    assert sandbox.preview(docker_cache_node_port="30777", **gone) == {}
    sandbox.up(docker_cache_node_port="30777", docker_cache_nodes=nodes[:2])
    assert set(sandbox.outputs()["nodes"] or ()) == {"pai-master", "pai-worker1"}  # type: ignore[call-overload]
    sandbox.destroy()
    assert sandbox.on("pai-worker2", "cat", DAEMON_JSON) == written, "what is on a forgotten machine stays"
    assert sandbox.mirrors("pai-worker1") == []
    # For the tests that follow: it came back after all.
    sandbox.on("pai-worker2", "systemctl", "start", "ssh")
    sandbox.up()


@pytest.mark.long
def test_a_stack_with_a_forgotten_node_can_be_destroyed_at_once_and_a_node_can_come_back(sandbox: Sandbox) -> None:
    sandbox.up()
    away(sandbox, "pai-worker2")
    sandbox.up(docker_cache_forget_nodes=["pai-worker2"])
    sandbox.on("pai-worker2", "systemctl", "start", "ssh")
    sandbox.up(docker_cache_node_port="30777")
    assert sandbox.mirrors("pai-worker2") == [NEW], "a node that came back is like any other"
    away(sandbox, "pai-worker2")
    sandbox.up(docker_cache_node_port="30777", docker_cache_forget_nodes=["pai-worker2"])
    sandbox.destroy()
    assert sandbox.mirrors("pai-worker2") == [NEW]
    sandbox.on("pai-worker2", "systemctl", "start", "ssh")
    sandbox.up()
