"""`make check` and `make heal` on real nodes: what somebody changed by hand is found, named and put right, on that node alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.conftest import ROOT, WORKERS, Sandbox, run

STACK = "dev-heal"
FILE = ROOT / f"Pulumi.{STACK}.yaml"
DAEMON_JSON, STATE = "/etc/docker/daemon.json", "/var/lib/docker-cache"
MIRROR = "http://10.30.0.10:30500/"
COMMENT = "# Ours, of the cluster on the third floor."


@pytest.fixture
def stack(sandbox: Sandbox) -> Iterator[Sandbox]:
    """A stack whose file is in its usual place, where `make heal` writes."""
    stack = sandbox.with_stack(STACK)
    FILE.write_text(f"{COMMENT}\n{(ROOT / 'Pulumi.dev.yaml').read_text()}")
    yield stack
    stack.destroy()
    stack.pulumi("stack", "rm", "--yes", "--force")
    FILE.unlink(missing_ok=True)


def operation(*words: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "operations", *words, "--stack", STACK])


def check(*words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and what was found by the nodes' names."""
    done = operation("check", "--json", *words)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, {node["node"]: node for node in json.loads(done.stdout)["nodes"]}


def errors_of(node: dict[str, Any]) -> list[str]:
    return [finding["text"] for finding in node["findings"] if finding["level"] == "error"]


def traces(sandbox: Sandbox, machine: str) -> str:
    """Files of ours with number and date, and the dockerd that runs with what it has reloaded."""
    files = sandbox.on(
        machine, "sh", "-c", f"stat -c '%n %i %y' {STATE} {STATE}/* {DAEMON_JSON} /etc/docker 2>&1 || true"
    )
    reloads = sandbox.on(
        machine, "docker", "events", "--since", "2000-01-01", "--until", "0s", "--filter", "type=daemon"
    )
    return files + sandbox.docker_pid(machine) + reloads


def take_out(sandbox: Sandbox, machine: str) -> None:
    sandbox.on(machine, "sh", "-c", f"""echo '{{"registry-mirrors": []}}' > {DAEMON_JSON}; systemctl reload docker""")
    sandbox.on(
        machine, "sh", "-c", "for _ in 1 2 3 4 5 6 7 8 9; do docker info | grep -q 30500 || exit 0; sleep 1; done"
    )


def test_before_the_first_update_a_check_tells_what_would_be_in_the_way_and_leaves_nothing(stack: Sandbox) -> None:
    before = [traces(stack, worker) for worker in WORKERS]
    status, nodes = check()
    assert status == 0, "that the cache is not there yet is in nobody's way"
    for worker in WORKERS:
        assert nodes[worker]["verdict"] == f"ready for `make up STACK={STACK}`"
    assert [traces(stack, worker) for worker in WORKERS] == before


def test_what_was_changed_by_hand_is_healed_on_that_node_alone(stack: Sandbox) -> None:
    stack.up()
    assert check()[0] == 0, "a stack that has just been brought up is in order"
    take_out(stack, "pai-worker1")
    status, nodes = check()
    assert status == 1, "drift is an error"
    assert nodes.pop("pai-worker1")["verdict"] == "drifted"
    assert {node["verdict"] for node in nodes.values()} == {"in order"}
    _, nodes = check("--nodes", "pai-worker1")
    assert errors_of(nodes["pai-worker1"]) == [
        "the mirror is not as the last update left it: docker's is changed by hand"
    ]
    assert stack.preview() == {}, "pulumi sees nothing of it"
    other, pid = traces(stack, "pai-worker2"), stack.docker_pid("pai-worker1")

    healed = operation("heal", "--yes")
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert stack.mirrors("pai-worker1") == [MIRROR]
    assert stack.docker_pid("pai-worker1") == pid, "docker was reloaded, not restarted"
    assert traces(stack, "pai-worker2") == other, "the other node was not touched"
    assert check()[0] == 0
    assert COMMENT in FILE.read_text(), "comments survive"
    assert stack.preview() == {}, "nothing is left to be done"


@pytest.mark.long
def test_a_node_that_was_installed_anew_is_found_and_healed(stack: Sandbox) -> None:
    stack.up()
    stack.on("pai-worker2", "sh", "-c", f"rm -rf {STATE} {DAEMON_JSON}; systemctl restart docker")
    status, nodes = check("--nodes", "pai-worker2")
    assert (status, list(nodes)) == (1, ["pai-worker2"])
    assert "was the node installed anew" in errors_of(nodes["pai-worker2"])[0]
    assert operation("heal", "--yes", "--nodes", "pai-worker2").returncode == 0
    assert stack.mirrors("pai-worker2") == [MIRROR]
    assert operation("heal", "--yes").stdout.endswith("Nothing has drifted that could be healed.\n")


@pytest.mark.long
def test_a_node_that_can_not_be_reached_is_a_line_and_the_others_are_checked(stack: Sandbox) -> None:
    stack.up()
    FILE.write_text(FILE.read_text().replace("host: 10.30.0.12", "host: 10.30.0.12\n      port: 2222"))
    done = operation("check")
    assert done.returncode == 1
    assert "pai-worker2: root@10.30.0.12:2222 can't be reached" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "pai-worker1" in line and "│" in line]
    assert "in order" in line, "the others are checked all the same"


@pytest.mark.long
def test_a_stack_that_is_switched_off_is_told_of_what_is_left(stack: Sandbox) -> None:
    stack.up()
    FILE.write_text(FILE.read_text().replace('enable_docker_cache: "true"', 'enable_docker_cache: "false"'))
    status, nodes = check()
    assert status == 1
    assert all("something of docker-cache is left here" in " ".join(errors_of(node)) for node in nodes.values())
    stack.up()
    assert check()[0] == 0, "the update has taken it out"
