"""Two stacks from one checkout, with different settings, neither touching the other; and `make new`."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sandbox.pulumi_run import pulumi_environment
from tests.end_to_end.conftest import ROOT, Sandbox, dev_nodes


@pytest.fixture(name="second")
def second_stack(sandbox: Sandbox) -> Iterator[Sandbox]:
    sandbox.kubectl("create", "namespace", "second")
    second = sandbox.with_stack(
        "dev-second",
        docker_cache_namespace="second",
        docker_cache_node_port="30600",
        docker_cache_fs_mount_path="/var/lib/second",
        docker_cache_nodes=dev_nodes("pai-master", "pai-worker2"),
    )
    yield second
    second.destroy()
    sandbox.destroy()
    sandbox.kubectl("delete", "namespace", "second")
    sandbox.on("pai-master", "rm", "-rf", "/var/lib/second")


def test_two_stacks_live_side_by_side_and_go_one_by_one(sandbox: Sandbox, second: Sandbox) -> None:
    first_nodes = dev_nodes("pai-master", "pai-worker1")
    sandbox.up(docker_cache_nodes=first_nodes)
    before = sandbox.on("pai-worker1", "stat", "--format", "%Y %Z %i", "/etc/docker/daemon.json")
    pod = sandbox.pod()
    second.up()
    assert sandbox.mirrors("pai-worker1") == ["http://10.30.0.10:30500/"]
    assert sandbox.mirrors("pai-worker2") == ["http://10.30.0.10:30600/"]
    assert sandbox.preview(docker_cache_nodes=first_nodes) == {}
    sandbox.reset_upstream()
    sandbox.pull_anew("pai-worker2", "app:4")
    assert sandbox.on("pai-master", "find", "/var/lib/second", "-path", "*library/app*", "-name", "link")

    second.destroy()
    assert sandbox.mirrors("pai-worker2") == []
    assert sandbox.mirrors("pai-worker1") == ["http://10.30.0.10:30500/"]
    assert sandbox.on("pai-worker1", "stat", "--format", "%Y %Z %i", "/etc/docker/daemon.json") == before
    assert sandbox.pod() == pod


@pytest.mark.long
def test_a_nodeport_that_another_stack_has_is_named_before_anything_is_done(sandbox: Sandbox, second: Sandbox) -> None:
    second.up()
    result = sandbox.pulumi("preview", docker_cache_node_port="30600")
    assert result.returncode != 0
    assert (
        "the NodePort 30600 is taken by the Service second/docker-cache-30600: set docker_cache_node_port to a free one"
        in result.stdout + result.stderr
    )
    result = sandbox.pulumi("preview", docker_cache_namespace="absent")
    assert 'docker_cache_namespace is "absent": make it first with `kubectl create namespace absent`' in result.stdout


def test_make_new_writes_a_stack_to_fill_in_and_never_over_one(tmp_path: Path) -> None:
    environment = pulumi_environment() | {"PULUMI_BACKEND_URL": tmp_path.as_uri()}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    def new(stack: str) -> subprocess.CompletedProcess[str]:
        return command(sys.executable, "-m", "operations", "new", "--stack", stack)

    file = ROOT / "Pulumi.new-cluster.yaml"
    try:
        made = new("new-cluster")
        assert made.returncode == 0, made.stderr
        assert "make preview STACK=new-cluster" in made.stdout
        document = yaml.safe_load(file.read_text())
        assert document["config"]["docker-cache:enable_docker_cache"] == "true"
        assert document["encryptionsalt"], "the stack has no secrets provider"
        again = new("new-cluster")
        assert again.returncode == 1
        assert "Pulumi.new-cluster.yaml exists already" in again.stderr
        preview = command("pulumi", "preview", "--stack", "new-cluster")
        assert "docker_cache_kube_context is missing" in preview.stdout
        assert "docker_cache_nodes is missing" in preview.stdout
        secret = command("pulumi", "config", "set", "--secret", "docker-cache:docker_cache_ssh_password", "hidden", "--stack", "new-cluster")  # fmt: skip
        assert secret.returncode == 0, secret.stderr
        text = file.read_text()
        assert "hidden" not in text
        assert "One of `kubectl config get-contexts" in text, "pulumi took the comments out"
    finally:
        file.unlink(missing_ok=True)


@pytest.mark.long
def test_a_node_that_can_not_change_over_keeps_an_entry_that_answers(sandbox: Sandbox) -> None:
    daemon_json = "/etc/docker/daemon.json"
    sandbox.up()
    written = sandbox.on("pai-worker2", "cat", daemon_json)
    sandbox.on("pai-worker2", "sh", "-c", f"echo '{{' > {daemon_json}")
    failed = sandbox.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", docker_cache_node_port="30777")
    assert failed.returncode != 0
    assert sandbox.mirrors("pai-worker1") == ["http://10.30.0.10:30777/"]
    assert sandbox.mirrors("pai-worker2") == ["http://10.30.0.10:30500/"]
    assert sandbox.node_ports() == ["docker-cache-30500", "docker-cache-30777"], "a node still uses the old one"
    sandbox.on("pai-worker2", "sh", "-c", f"printf '%s' '{written}' > {daemon_json}")
    sandbox.up(docker_cache_node_port="30777")
    assert sandbox.mirrors("pai-worker2") == ["http://10.30.0.10:30777/"]
    assert sandbox.node_ports() == ["docker-cache-30777"]
    sandbox.destroy()
