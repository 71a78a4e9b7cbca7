"""containerd on real nodes: 1.6 with config_path in force (pai-master), 2.4 without (pai-worker3)."""

import base64
import json
from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import Sandbox, dev_configuration, dev_nodes, prove, wait_until

WORKER = "pai-worker3"
HOSTS = "/etc/containerd/certs.d/docker.io/hosts.toml"
CONFIG = "/etc/containerd/config.toml"
FILES = (CONFIG, "/etc/containerd", "/etc/docker", "/var/lib/docker-cache")
PASSWORD = "the-entry-password"
HASH = "$2b$05$abcdefghijklmnopqrstuuxhYa07jAtCCJlxwuC4gmHsU7tHS/xGK"
"""Of that password, by bcrypt."""


@pytest.fixture
def clean(sandbox: Sandbox) -> Iterator[Sandbox]:
    sandbox.destroy()
    sandbox.empty_store()
    yield sandbox
    sandbox.destroy()


def listing(sandbox: Sandbox, machine: str) -> str:
    """Every file that could be ours, with mode, size and content."""
    return sandbox.on(
        machine, "sh", "-c", f"ls -lR {' '.join(FILES)} 2>/dev/null; cat {CONFIG} {HOSTS} 2>/dev/null; true"
    )


def pull_anew(sandbox: Sandbox, machine: str, image: str) -> None:
    """By CRI, as a kubelet does."""
    sandbox.try_on(machine, "crictl", "rmi", image)
    sandbox.on(machine, "crictl", "pull", image)


def containerd_pid(sandbox: Sandbox, machine: str) -> str:
    return sandbox.on(machine, "systemctl", "show", "containerd", "-p", "MainPID", "--value")


def test_a_kubelets_pulls_go_through_the_cache_and_one_download_serves_both_versions(clean: Sandbox) -> None:
    before = {machine: listing(clean, machine) for machine in ("pai-master", WORKER)}
    master = containerd_pid(clean, "pai-master")
    clean.up()
    assert containerd_pid(clean, "pai-master") == master, "with config_path in force nothing is restarted"
    clean.reset_upstream()
    # The worker first: the master has a layer of it already, from the cluster's own images.
    pull_anew(clean, WORKER, "app:1")
    first = clean.upstream()
    assert first["blob_gets"] > 0, "the cache fetched it from the upstream"
    pull_anew(clean, "pai-master", "app:1")
    assert clean.upstream()["blob_gets"] == first["blob_gets"], "the second node's blobs came from the cache"
    clean.destroy()
    for machine, files in before.items():
        assert listing(clean, machine) == files, f"{machine} has its files back, and no folder of ours"


@pytest.mark.long
def test_without_leave_to_restart_the_node_is_left_as_it_is_and_named(clean: Sandbox) -> None:
    before, pid = listing(clean, WORKER), containerd_pid(clean, WORKER)
    result = clean.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", docker_cache_allow_restart="false")
    assert result.returncode != 0
    assert "docker-cache on pai-worker3: containerd 2.4.2" in result.stdout
    assert "set docker_cache_allow_restart: true, or leave containerd out" in result.stdout
    assert (listing(clean, WORKER), containerd_pid(clean, WORKER)) == (before, pid)
    clean.up(docker_cache_engines=["docker"])
    assert (listing(clean, WORKER), containerd_pid(clean, WORKER)) == (before, pid), "it was left out by name"


@pytest.mark.long
def test_the_administrators_mirrors_stay_whether_they_came_before_ours_or_after(clean: Sandbox) -> None:
    theirs = '[host."https://theirs.example"]\n  capabilities = ["pull"]\n'
    clean.on("pai-master", "sh", "-c", f"mkdir -p $(dirname {HOSTS}); printf '%s' '{theirs}' > {HOSTS}")
    try:
        clean.up()
        text = clean.on("pai-master", "cat", HOSTS)
        assert text.index("http://10.30.0.10:30500") < text.index("https://theirs.example"), "ours is asked first"
        later = '[host."https://later.example"]\n'
        clean.on("pai-master", "sh", "-c", f"printf '%s' '{later}' >> {HOSTS}")
        clean.destroy()
        assert clean.on("pai-master", "cat", HOSTS) == (theirs + later).strip()
    finally:
        clean.on("pai-master", "rm", "-rf", "/etc/containerd/certs.d")


def test_a_cache_that_asks_for_credentials_gets_them_from_a_file_of_roots(clean: Sandbox) -> None:
    line = f"reader:{HASH}"
    keys = {
        "docker_cache_htpasswd": base64.b64encode(line.encode()).decode(),
        "docker_cache_htpasswd_over_plain_http": "true",
        "docker_cache_entry_username": "reader",
        "docker_cache_nodes": dev_nodes("pai-master", WORKER),
    }
    wrong = clean.pulumi(
        "up", "--yes", "--skip-preview", "--continue-on-error", docker_cache_entry_password="another", **keys
    )
    assert "it refuses docker_cache_entry_username with its password" in wrong.stdout
    clean.up(docker_cache_entry_password=PASSWORD, **keys)
    assert clean.on(WORKER, "stat", "-c", "%a %U", HOSTS) == "600 root"
    clean.reset_upstream()
    pull_anew(clean, WORKER, "app:2")
    assert clean.upstream()["blob_gets"] > 0
    log = ("logs", "deployment/docker-cache-registry", "--tail", "500")
    wait_until(lambda: '"auth.user.name":"reader"' in clean.kubectl(*log), "the pull signed in")
    assert PASSWORD not in json.dumps(clean.outputs())


@pytest.mark.long
def test_a_node_whose_kubelet_pulls_by_containerd_beside_docker_is_proved_by_both(clean: Sandbox) -> None:
    # Stands in for a kubelet, of which the node's program reads the command line alone.
    clean.on("pai-worker1", "systemd-run", "--unit=by-name-kubelet", "bash", "-c", "exec -a kubelet sleep 1000")
    try:
        clean.up(docker_cache_nodes=dev_nodes("pai-master", "pai-worker1"))
        results = prove(dev_configuration(), ["pai-worker1"])
        assert [result.engine.partition(" ")[0] for result in results] == ["docker", "containerd"]
        assert all(result.is_good for result in results), results
        clean.on("pai-worker1", "sh", "-c", f"cp {HOSTS} /run/kept && sed -i '/host/d' {HOSTS}")
        docker, containerd = prove(dev_configuration(), ["pai-worker1"])
        assert (docker.is_good, containerd.is_good) == (True, False), "docker's pull says nothing of containerd's"
        clean.on("pai-worker1", "cp", "/run/kept", HOSTS)
        clean.destroy()
    finally:
        clean.on("pai-worker1", "systemctl", "stop", "by-name-kubelet")
