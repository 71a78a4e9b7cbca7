"""The third usage: no cache is installed, and the nodes get a registry of the user's own."""

import base64
import re
from collections.abc import Iterator

import pytest

from sandbox.identities import Authority
from tests.end_to_end.conftest import WORKERS, Sandbox, dev_nodes

ADDRESS = "10.30.0.2:5443"
CONFIGURATION = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: /var/lib/hub}}}}
http: {{addr: "10.30.0.2:5443"{tls}}}
"""
TLS = ", tls: {certificate: /run/custom/tls.crt, key: /run/custom/tls.key}"
PLACED = f"/etc/docker/certs.d/{ADDRESS}"


class Registry:
    """A registry on the machine `hub`, with the hub's images; its access log tells who asked."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def write(self, name: str, text: bytes) -> None:
        encoded = base64.b64encode(text).decode()
        self._sandbox.on("hub", "sh", "-c", f"mkdir -p /run/custom && echo {encoded} | base64 -d > /run/custom/{name}")

    def start(self, tls: str = "") -> None:
        self.stop()
        self.write("config.yml", CONFIGURATION.format(tls=tls).encode())
        self._sandbox.on("hub", "systemd-run", "--unit=custom-registry", "--setenv=OTEL_TRACES_EXPORTER=none", "/opt/tools/registry", "serve", "/run/custom/config.yml")  # fmt: skip
        self._sandbox.on("hub", "sh", "-c", f"for i in $(seq 600); do curl -sk http{'s' if tls else ''}://{ADDRESS}/v2/ && exit; sleep 0.1; done; exit 1")  # fmt: skip

    def stop(self) -> None:
        self._sandbox.try_on("hub", "systemctl", "stop", "custom-registry")

    def pulls(self) -> int:
        self._sandbox.on("hub", "journalctl", "--sync")
        log = self._sandbox.on("hub", "journalctl", "--unit=custom-registry", "--output=cat", "--no-pager")
        # A HEAD counts: containerd's image store keeps the blobs of a removed image for a while, and then asks for no more.
        return len(re.findall(r'"(?:GET|HEAD) /v2/library/app/', log))


@pytest.fixture(name="registry")
def running_registry(sandbox: Sandbox) -> Iterator[Registry]:
    registry = Registry(sandbox)
    yield registry
    sandbox.destroy()
    registry.stop()


def test_the_nodes_get_it_and_nothing_is_installed(sandbox: Sandbox, registry: Registry) -> None:
    registry.start()
    output = sandbox.up(docker_cache_custom_registry=ADDRESS, docker_cache_kube_context="")
    assert "kubernetes" not in output, "a custom registry needs no cluster"
    for worker in WORKERS:
        assert sandbox.mirrors(worker) == [f"http://{ADDRESS}/"]
    before = registry.pulls()
    sandbox.pull_anew("pai-worker1", "app:1")
    assert registry.pulls() > before, "docker went elsewhere"
    outputs = sandbox.outputs()
    assert set(outputs) == {"entry", "upstream", "nodes"}, "there is no storage of ours"
    assert outputs["entry"] == f"http://{ADDRESS}"


@pytest.mark.long
def test_one_that_does_not_answer_is_not_written(sandbox: Sandbox, registry: Registry) -> None:
    registry.stop()
    result = sandbox.pulumi(
        "up", "--yes", "--skip-preview", "--continue-on-error", docker_cache_custom_registry=ADDRESS
    )
    assert result.returncode != 0
    assert f"the mirror does not answer this node at http://{ADDRESS}/v2/" in result.stdout + result.stderr
    for worker in WORKERS:
        assert sandbox.mirrors(worker) == []
        assert sandbox.try_on(worker, "grep", "5443", "/etc/docker/daemon.json").returncode != 0


def test_over_https_its_ca_is_placed_and_taken_away_again(sandbox: Sandbox, registry: Registry) -> None:
    authority = Authority()
    pair = authority.issue("custom", None, ("10.30.0.2",))
    registry.write("tls.crt", pair.certificate)
    registry.write("tls.key", pair.key)
    registry.start(TLS)
    keys = {"docker_cache_custom_registry": f"https://{ADDRESS}", "docker_cache_nodes": dev_nodes(*WORKERS)}
    refused = sandbox.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", **keys)
    assert "its certificate can't be verified" in refused.stdout + refused.stderr
    assert sandbox.try_on("pai-worker1", "test", "-e", PLACED).returncode != 0

    sandbox.up(docker_cache_entry_ca=authority.certificate.decode(), **keys)
    for worker in WORKERS:
        assert sandbox.mirrors(worker) == [f"https://{ADDRESS}/"]
        before = registry.pulls()
        sandbox.pull_anew(worker, "app:2")
        assert registry.pulls() > before, f"{worker} went elsewhere"
    assert "insecure" not in sandbox.on("pai-worker1", "cat", "/etc/docker/daemon.json")

    sandbox.up(docker_cache_entry_insecure="true", **keys)
    assert sandbox.try_on("pai-worker1", "test", "-e", PLACED).returncode != 0, "the CA is no longer asked for"
    assert ADDRESS in sandbox.on("pai-worker1", "cat", "/etc/docker/daemon.json")
    before = registry.pulls()
    sandbox.pull_anew("pai-worker1", "app:3")
    assert registry.pulls() > before
    sandbox.destroy()
    for worker in WORKERS:
        assert sandbox.try_on(worker, "test", "-e", "/etc/docker/daemon.json").returncode != 0


@pytest.mark.long
def test_containerds_ca_is_placed_beside_its_hosts(sandbox: Sandbox, registry: Registry) -> None:
    authority = Authority()
    pair = authority.issue("custom", None, ("10.30.0.2",))
    registry.write("tls.crt", pair.certificate)
    registry.write("tls.key", pair.key)
    registry.start(TLS)
    sandbox.up(
        docker_cache_custom_registry=f"https://{ADDRESS}",
        docker_cache_nodes=dev_nodes("pai-worker3"),
        docker_cache_entry_ca=authority.certificate.decode(),
    )
    before = registry.pulls()
    sandbox.try_on("pai-worker3", "crictl", "rmi", "app:2")
    sandbox.on("pai-worker3", "crictl", "pull", "app:2")
    assert registry.pulls() > before, "containerd went elsewhere"
    sandbox.destroy()
    assert sandbox.try_on("pai-worker3", "test", "-e", "/etc/containerd/certs.d").returncode != 0
