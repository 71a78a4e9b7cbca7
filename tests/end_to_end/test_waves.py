"""`make up`: the canary, then waves, each proved before the next; what fails is named, and tried again by the next run."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from tests.end_to_end.conftest import ROOT, WORKERS, Sandbox, dev_nodes, run

STACK = "dev-waves"
FILE = ROOT / f"Pulumi.{STACK}.yaml"
OLD, NEW = "http://10.30.0.10:30500/", "http://10.30.0.10:30777/"
NODES = dev_nodes("pai-master", *WORKERS)
DAEMON_JSON = "/etc/docker/daemon.json"
# The sandbox awaits sshd itself.
NO_SSH = ("INPUT", "-p", "tcp", "--dport", "22", "-j", "REJECT", "--reject-with", "tcp-reset")
UP = [sys.executable, "-m", "operations", "up", "--stack", STACK]


def configure(**keys: object) -> None:
    document = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())
    changed = {"docker_cache_nodes": NODES, **keys}
    document["config"] |= {f"docker-cache:{key}": value for key, value in changed.items()}
    FILE.write_text(yaml.safe_dump(document))


def make_up(status: int = 0, **keys: object) -> subprocess.CompletedProcess[str]:
    configure(**keys)
    result = run(UP)
    assert result.returncode == status, result.stdout + result.stderr
    return result


@pytest.fixture(name="stack", autouse=True)
def stack_of_its_own(sandbox: Sandbox) -> Iterator[Sandbox]:
    configure()
    run([str(ROOT / "sandbox/pulumi"), "stack", "select", "--create", STACK])
    stack = Sandbox(FILE.parent, STACK)
    yield stack
    for worker in WORKERS:
        sandbox.try_on(worker, "iptables", "--delete", *NO_SSH)
    stack.destroy()
    FILE.unlink()


def written(sandbox: Sandbox, worker: str) -> str:
    return sandbox.on(worker, "stat", "--format", "%i %Z", DAEMON_JSON)


def waves(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.startswith(("canary: ", "wave "))]


def test_a_failing_canary_leaves_the_others_alone_until_it_is_mended(stack: Sandbox) -> None:
    first = make_up()
    assert waves(first) == ["canary: pai-worker1", "wave 1 of 2: 1 node", "wave 2 of 2: 1 node"]
    before = {worker: written(stack, worker) for worker in WORKERS}
    again = make_up()
    assert waves(again) == []
    assert "pai-worker1" in again.stdout, "the proof is there all the same"
    assert {worker: written(stack, worker) for worker in WORKERS} == before

    stack.on("pai-worker1", "iptables", "--insert", *NO_SSH)
    failed = make_up(1, docker_cache_node_port="30777")
    assert waves(failed) == ["canary: pai-worker1"]
    assert "since the canary pai-worker1 failed: mend it, or name another node" in failed.stderr
    assert "docker-cache-30500 stays until all nodes are done" in failed.stderr
    assert written(stack, "pai-worker2") == before["pai-worker2"]
    assert stack.node_ports() == ["docker-cache-30500", "docker-cache-30777"]
    nodes = stack.outputs()["nodes"]
    assert isinstance(nodes, dict)
    assert {name: node["state"] for name, node in nodes.items()} == {
        "pai-master": "live",
        "pai-worker1": "live",
        "pai-worker2": "live",
    }, "a failure leaves outputs unknown"

    stack.on("pai-worker1", "iptables", "--delete", *NO_SSH)
    make_up(docker_cache_node_port="30777")
    assert [stack.mirrors(worker) for worker in WORKERS] == [[NEW], [NEW]]
    assert stack.node_ports() == ["docker-cache-30777"]


def test_a_failure_in_a_wave_is_named_and_that_node_alone_is_tried_again(stack: Sandbox) -> None:
    make_up()
    good = stack.on("pai-worker2", "cat", DAEMON_JSON)
    stack.on("pai-worker2", "sh", "-c", f"echo '{{' > {DAEMON_JSON}")
    failed = make_up(1, docker_cache_node_port="30777")
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("  pai-worker2: ")]
    assert "is not valid JSON" in line
    assert "python3" not in line, "the reason is buried in the command"
    assert stack.mirrors("pai-worker1") == [NEW]
    before = written(stack, "pai-worker1")
    stack.on("pai-worker2", "sh", "-c", f"printf '%s' '{good}' > {DAEMON_JSON}")
    again = make_up(docker_cache_node_port="30777")
    assert waves(again) == ["wave 1 of 1: 1 node"]
    assert stack.mirrors("pai-worker2") == [NEW]
    assert written(stack, "pai-worker1") == before

    removed = make_up(docker_cache_node_port="30777", docker_cache_nodes=NODES[:2])
    assert waves(removed) == ["wave 1 of 1: 1 node"]
    assert stack.mirrors("pai-worker2") == []


def test_a_first_wave_that_is_not_proved_is_taken_back_and_is_the_last(stack: Sandbox) -> None:
    failed = make_up(1, docker_cache_proof_image="absent:1")
    assert waves(failed) == ["canary: pai-worker1"]
    assert "  pai-worker1: the proof failed: `docker pull` failed" in failed.stderr
    assert [stack.mirrors(worker) for worker in WORKERS] == [[], []]
    nodes = stack.outputs()["nodes"]
    assert isinstance(nodes, dict)
    assert {name: node["state"] for name, node in nodes.items()} == {
        "pai-master": "waiting",
        "pai-worker1": "taken back",
        "pai-worker2": "waiting",
    }
    make_up()
    assert [stack.mirrors(worker) for worker in WORKERS] == [[OLD], [OLD]]


def test_a_new_canary_that_is_away_changes_nothing_for_the_nodes_that_are_there(stack: Sandbox) -> None:
    make_up()
    absent = {**dev_nodes("pai-worker2")[0], "name": "pai-worker9", "host": "10.30.0.99"}
    keys = {"docker_cache_nodes": [*NODES, absent], "docker_cache_canary": "pai-worker9"}
    failed = make_up(1, **keys, docker_cache_node_port="30777")
    assert waves(failed) == ["canary: pai-worker9"]
    assert [stack.mirrors(worker) for worker in WORKERS] == [[OLD], [OLD]]
    assert "docker-cache-30500" in stack.node_ports()
    make_up(docker_cache_node_port="30777")
    assert [stack.mirrors(worker) for worker in WORKERS] == [[NEW], [NEW]]
    assert stack.node_ports() == ["docker-cache-30777"]


def test_an_image_that_can_not_be_had_keeps_no_node_from_being_changed(stack: Sandbox) -> None:
    listed = {"docker_cache_prefetch": ["no-such-image:1"]}
    for port, mirror in (("30500", OLD), ("30777", NEW)):
        # With a canary that is new, then with one that is there and the Job that has failed.
        failed = make_up(1, docker_cache_node_port=port, **listed)
        assert "1 of 1 could not be fetched ahead; no-such-image:1 (all): " in failed.stdout
        assert "make up: not all images were fetched ahead, see above" in failed.stderr
        assert [stack.mirrors(worker) for worker in WORKERS] == [[mirror], [mirror]]
        assert stack.node_ports() == [f"docker-cache-{port}"]
    make_up(docker_cache_node_port="30777")


def test_after_ctrl_c_nothing_further_begins_and_the_next_run_goes_on(stack: Sandbox) -> None:
    configure()
    # A group of its own, as a terminal's foreground job is: Ctrl-C reaches everything in it.
    with subprocess.Popen(
        UP, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("wave 1 of 2"):
                os.killpg(process.pid, signal.SIGINT)
                break
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "wave 2" not in out
    assert "docker-cache: stopped; what was done so far is recorded" in err
    assert stack.mirrors("pai-worker1") == [OLD]
    assert stack.mirrors("pai-worker2") == []
    make_up()
    assert stack.mirrors("pai-worker2") == [OLD]
