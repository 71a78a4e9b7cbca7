"""The sandbox itself: its commands, and that it leaves nothing behind."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import lifecycle
from sandbox.control_groups import hierarchies
from sandbox.layout import MACHINES_RUN, NAME, STATE
from sandbox.processes import init_pid, supervisor_pids
from tests.end_to_end.conftest import ROOT, WORKERS, Sandbox, run


def host_traces() -> dict[str, list[str]]:
    """What of a sandbox could be seen from the host."""
    return {
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "mounts": [
            line
            for line in Path("/proc/self/mounts").read_text().splitlines()
            if str(STATE) in line or MACHINES_RUN in line
        ],
        "groups": [str(hierarchy / NAME) for hierarchy in hierarchies() if (hierarchy / NAME).exists()],
        "namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
        "processes": [str(pid) for pid in supervisor_pids()],
    }


@pytest.mark.long
@pytest.mark.usefixtures("sandbox")
def test_exec_gives_the_commands_exit_status_and_names_an_unknown_machine() -> None:
    assert run([str(ROOT / "sandbox/exec"), "pai-worker1", "sh", "-c", "exit 7"]).returncode == 7
    unknown = run([str(ROOT / "sandbox/exec"), "nowhere", "true"])
    assert unknown.returncode == 1
    assert "pai-worker1" in unknown.stderr


@pytest.mark.long
def test_the_upstreams_counters_are_those_that_were_promised(sandbox: Sandbox) -> None:
    sandbox.reset_upstream()
    assert sandbox.upstream() == {
        "manifest_gets": 0,
        "manifest_heads": 0,
        "blob_gets": 0,
        "blob_bytes": 0,
        "rejected": 0,
    }


@pytest.mark.long
def test_the_hub_counts_gets_and_not_heads_and_tells_what_is_left(sandbox: Sandbox) -> None:
    sandbox.reset_upstream()
    url = "https://registry-1.docker.io/v2/library/app/manifests/1"
    headers = sandbox.on("pai-worker1", "curl", "-s", "-D", "-", "-o", "/dev/null", url).lower()
    sandbox.on("pai-worker1", "curl", "-s", "--head", "-o", "/dev/null", url)
    assert "ratelimit-remaining: 99;w=21600" in headers
    assert sandbox.upstream()["manifest_gets"] == 1
    assert sandbox.upstream()["manifest_heads"] == 1


@pytest.mark.long
def test_the_nodes_reach_nothing_but_the_sandbox(sandbox: Sandbox) -> None:
    for machine in ("pai-master", "pai-worker1", "hub"):
        assert "default" not in sandbox.on(machine, "ip", "route")


@pytest.mark.long
@pytest.mark.parametrize("machine", ["pai-master", "pai-worker3"])
def test_a_containerd_pulls_as_the_kubelet_has_it_do(sandbox: Sandbox, machine: str) -> None:
    sandbox.reset_upstream()
    sandbox.try_on(machine, "crictl", "rmi", "docker.io/library/app:1")
    sandbox.on(machine, "crictl", "pull", "docker.io/library/app:1")
    assert sandbox.upstream()["manifest_heads"] >= 1, "it pulled from nowhere"


@pytest.mark.long
@pytest.mark.parametrize(("machine", "counts"), [("pai-master", True), ("pai-worker3", False)])
def test_hosts_toml_counts_where_config_path_is_set_and_nowhere_else(
    sandbox: Sandbox, machine: str, *, counts: bool
) -> None:
    # Whatever an earlier test had it read.
    sandbox.on(machine, "systemctl", "restart", "containerd")
    folder = "/etc/containerd/certs.d/docker.io"
    nowhere = 'server = "http://127.0.0.1:1"\n[host."http://127.0.0.1:1"]\n'
    sandbox.try_on(machine, "crictl", "rmi", "docker.io/library/app:1")
    sandbox.on(machine, "mkdir", "-p", folder)
    try:
        sandbox.on(machine, "sh", "-c", f"printf '{nowhere}' > {folder}/hosts.toml")
        pull = sandbox.try_on(machine, "crictl", "pull", "docker.io/library/app:1")
    finally:
        sandbox.on(machine, "rm", "-r", "/etc/containerd/certs.d")
    assert (pull.returncode != 0) is counts, pull.stderr


@pytest.mark.long
def test_podman_pulls_and_runs(sandbox: Sandbox) -> None:
    sandbox.reset_upstream()
    sandbox.try_on("pai-worker4", "podman", "image", "rm", "--force", "docker.io/library/hello-world")
    output = sandbox.on("pai-worker4", "podman", "run", "--rm", "docker.io/library/hello-world")
    assert "Hello from the sandbox" in output
    assert sandbox.upstream()["manifest_gets"] >= 1, "it pulled from nowhere"


@pytest.mark.long
def test_crio_takes_a_mirror_in_and_out_when_it_is_reloaded(sandbox: Sandbox) -> None:
    def reaches_docker_hub() -> bool:
        sandbox.try_on("pai-worker4", "crictl", "rmi", "docker.io/library/app:1")
        return sandbox.try_on("pai-worker4", "crictl", "pull", "docker.io/library/app:1").returncode == 0

    file = "/etc/containers/registries.conf.d/50-nowhere.conf"
    nowhere = '[[registry]]\nprefix = "docker.io"\nlocation = "127.0.0.1:1"\n'
    assert reaches_docker_hub()
    try:
        sandbox.on("pai-worker4", "sh", "-c", f"printf '{nowhere}' > {file}")
        assert reaches_docker_hub(), "CRI-O reads it only when told to"
        sandbox.on("pai-worker4", "systemctl", "reload", "crio")
        assert not reaches_docker_hub()
    finally:
        sandbox.on("pai-worker4", "rm", file)
        sandbox.on("pai-worker4", "systemctl", "reload", "crio")
    assert reaches_docker_hub()


@pytest.mark.long
def test_a_node_has_no_engine_but_its_own(sandbox: Sandbox) -> None:
    programs = {
        machine: sandbox.on(
            machine, "sh", "-c", "for p in dockerd containerd podman crio; do which $p || true; done"
        ).split()
        for machine in ("pai-master", *WORKERS, "pai-worker3", "pai-worker4")
    }
    assert {machine: [Path(program).name for program in found] for machine, found in programs.items()} == {
        "pai-master": ["containerd"],
        "pai-worker1": ["dockerd", "containerd"],
        "pai-worker2": ["dockerd", "containerd"],
        "pai-worker3": ["containerd"],
        "pai-worker4": ["podman", "crio"],
    }


def test_a_wrong_configuration_is_an_error_without_traceback_before_anything_is_deployed(sandbox: Sandbox) -> None:
    result = sandbox.pulumi(
        "up",
        "--yes",
        "--skip-preview",
        docker_cache_fs_min_free="120%",
        docker_cache_remote_url="ftp://x",
        docker_cache_imag="registry:3.1.2",
    )
    text = result.stdout + result.stderr
    assert result.returncode != 0
    assert 'docker_cache_fs_min_free is "120%": use a share of the disk from 1% to 90%' in text
    assert 'docker_cache_remote_url is "ftp://x"' in text, "all problems come at once"
    assert "docker_cache_imag is not known: did you mean docker_cache_image?" in text
    assert "Traceback" not in text
    assert sandbox.kubectl("get", "all", "-l", "app.kubernetes.io/part-of=docker-cache") == ""


def test_a_cluster_that_does_not_answer_is_an_error_without_traceback(sandbox: Sandbox) -> None:
    sandbox.on("pai-master", "systemctl", "stop", "kube-apiserver")
    try:
        result = sandbox.pulumi("preview")
    finally:
        sandbox.on("pai-master", "systemctl", "start", "kube-apiserver")
        lifecycle.await_ready()
    text = result.stdout + result.stderr
    assert result.returncode != 0
    assert 'the cluster of docker_cache_kube_context "sandbox" does not answer' in text
    assert "Traceback" not in text


@pytest.mark.long
@pytest.mark.usefixtures("sandbox")
def test_down_leaves_nothing_behind_also_after_an_interrupted_start() -> None:
    lifecycle.down()
    clean = host_traces()
    assert clean["groups"] == clean["mounts"] == clean["processes"] == []
    assert not STATE.exists()
    start = subprocess.Popen([sys.executable, "-m", "sandbox", "up"], cwd=ROOT, stderr=subprocess.DEVNULL)
    while init_pid() is None:
        assert start.poll() is None, "the start ended before it was interrupted"
    start.send_signal(signal.SIGKILL)
    start.wait()
    assert supervisor_pids(), "the interrupted start must have left something to clean up"
    lifecycle.up()
    run([str(ROOT / "sandbox/pulumi"), "stack", "select", "--create", "dev"])
    assert json.loads(run([str(ROOT / "sandbox/upstream-stats")]).stdout)["manifest_gets"] == 0
    traces = host_traces()
    assert traces["interfaces"] == clean["interfaces"], "the sandbox's interfaces belong to its own namespaces"
    assert traces["namespaces"] == clean["namespaces"]
    assert traces["mounts"] == []
