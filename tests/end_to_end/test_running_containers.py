"""A container that counts goes on counting while the mirror comes and goes, on every engine."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.end_to_end.conftest import WORKERS, Sandbox

IMAGE = "docker.io/library/busybox:latest"
COUNT = "n=0; while :; do n=$((n+1)); echo $n $(cut -d' ' -f1 /proc/uptime) >> /ticks/log; usleep 100000; done"
SLACK = 15
"""Seconds: the counter has to go on, and a busy machine may let it wait."""


@dataclass(frozen=True)
class Node:
    """A node with its engine, and how a container is run and ended by it."""

    machine: str
    engine: str
    run: tuple[str, ...]
    end: tuple[str, ...]


def with_docker(machine: str) -> Node:
    run = ("docker", "run", "--detach", "--name", "ticking", "--volume", "/run/ticks:/ticks", IMAGE, "sh", "-c", COUNT)
    return Node(machine, "docker", run, ("docker", "rm", "--force", "ticking"))


CONTAINERD = Node(
    "pai-worker3",
    "containerd",
    (
        *("ctr", "run", "--detach", "--mount", "type=bind,src=/run/ticks,dst=/ticks,options=rbind:rw"),
        *(IMAGE, "ticking", "sh", "-c", COUNT),
    ),
    ("sh", "-c", "ctr task kill --signal KILL ticking; ctr task delete ticking; ctr container delete ticking"),
)
NODES = (*map(with_docker, WORKERS), CONTAINERD)


@pytest.fixture
def counting(sandbox: Sandbox) -> Iterator[Sandbox]:
    sandbox.destroy()
    for node in NODES:
        sandbox.try_on(node.machine, *node.end)
        sandbox.on(node.machine, "sh", "-c", "mkdir -p /run/ticks; rm -f /run/ticks/log")
        sandbox.on(node.machine, *(("docker", "pull") if node.engine == "docker" else ("ctr", "images", "pull")), IMAGE)
        sandbox.on(node.machine, *node.run)
    yield sandbox
    for node in NODES:
        sandbox.try_on(node.machine, *node.end)
    sandbox.destroy()


def longest_pause(sandbox: Sandbox, machine: str) -> float:
    """Seconds between two ticks, at the most; no number may be missing."""
    lines = [line.split() for line in sandbox.on(machine, "cat", "/run/ticks/log").splitlines()]
    numbers, times = [int(number) for number, _ in lines], [float(time) for _, time in lines]
    assert numbers == list(range(1, len(numbers) + 1)), f"{machine}: the counter skipped or began anew"
    assert len(numbers) > 20, f"{machine}: the counter has to have run"
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def engine_pid(sandbox: Sandbox, node: Node) -> str:
    return sandbox.on(node.machine, "systemctl", "show", node.engine, "-p", "MainPID", "--value")


def test_no_running_container_notices_that_the_mirror_comes_and_goes(counting: Sandbox) -> None:
    before = {node.machine: engine_pid(counting, node) for node in NODES if node.engine == "docker"}
    counting.up()
    containerd = engine_pid(counting, CONTAINERD)
    counting.up()
    counting.destroy()
    after = {node.machine: engine_pid(counting, node) for node in NODES if node.engine == "docker"}
    assert after == before, "docker was only ever reloaded"
    assert engine_pid(counting, CONTAINERD) == containerd, "containerd was restarted once, for config_path"
    for node in NODES:
        assert longest_pause(counting, node.machine) < SLACK, f"{node.machine}: the counter stood still"
