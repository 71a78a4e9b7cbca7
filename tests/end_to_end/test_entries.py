"""Several entries for the nodes: masters that are asked in turn, and each node as its own.

kube-proxy runs on pai-master alone here. A rule of iptables stands in for that of another node: what comes to its NodePort goes to
pai-master's, as kube-proxy would send it to a pod there. The tests of this file follow one deployment, in order.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.end_to_end.conftest import Sandbox, dev_configuration, dev_nodes, prove

FIRST, SECOND = "10.30.0.10:30500", "10.30.0.11:30500"
MASTERS = ("pai-master", "pai-worker1")
DOCKER, CONTAINERD, PODMAN = "pai-worker2", "pai-worker3", "pai-worker4"
ADDRESSES = {"pai-worker1": "10.30.0.11", DOCKER: "10.30.0.12", CONTAINERD: "10.30.0.13", PODMAN: "10.30.0.14"}
ENGINES = [(DOCKER, "docker"), (CONTAINERD, "crictl"), (PODMAN, "podman"), (PODMAN, "crictl")]
IMAGE = "docker.io/library/app:1"


def nodes() -> list[dict[str, object]]:
    podman = dev_nodes(DOCKER)[0] | {"name": PODMAN, "host": ADDRESSES[PODMAN]}
    return [node | {"kube_master": node["name"] in MASTERS} for node in [*dev_nodes(), podman]]


def rules(machine: str, action: str) -> list[list[str]]:
    """What stands in for kube-proxy on that machine."""
    taken = ["-p", "tcp", "--dport", "30500", "-d", ADDRESSES[machine], "-j", "DNAT", "--to-destination", FIRST]
    left = ["-p", "tcp", "--dport", "30500", "-d", "10.30.0.10", "-j", "MASQUERADE"]
    chains = [("PREROUTING", taken), ("OUTPUT", taken), ("POSTROUTING", left)]
    passed = [["-p", "tcp", port, "30500", "-j", "ACCEPT"] for port in ("--dport", "--sport")]
    return [
        *(["iptables", "-t", "nat", action, chain, *words] for chain, words in chains),
        # docker lets nothing else through.
        *(["iptables", action, "FORWARD", *words] for words in passed),
    ]


@pytest.fixture(name="cache", scope="module")
def deployed(sandbox: Sandbox) -> Iterator[Sandbox]:
    sandbox.empty_store()
    for machine in ADDRESSES:
        for rule in rules(machine, "-I"):
            sandbox.on(machine, *rule)
    sandbox.up(docker_cache_nodes=nodes(), docker_cache_entries="masters")
    yield sandbox
    sandbox.destroy()
    for machine in ADDRESSES:
        for rule in rules(machine, "-D"):
            sandbox.on(machine, *rule)


def pull_anew(cache: Sandbox, machine: str, program: str) -> None:
    """Pull with nothing of the image on the node."""
    for each in ("docker image rm --force", "crictl rmi", "podman image rm --force"):
        cache.try_on(machine, *each.split(), IMAGE)
    cache.on(machine, program, "pull", IMAGE)


@contextmanager
def without_the_first(cache: Sandbox, machine: str) -> Iterator[None]:
    """As if nothing answered on the first master, for that machine alone."""
    rule = ["-p", "tcp", "--dport", "30500", "-d", "10.30.0.10", "-j", "REJECT", "--reject-with", "tcp-reset"]
    cache.on(machine, "iptables", "-t", "filter", "-I", "OUTPUT", *rule)
    try:
        yield
    finally:
        cache.on(machine, "iptables", "-t", "filter", "-D", "OUTPUT", *rule)


def podmans(cache: Sandbox) -> list[str]:
    info = json.loads(cache.on(PODMAN, "podman", "info", "--format", "json"))
    return [mirror["Location"] for mirror in info["registries"]["docker.io"]["Mirrors"]]


def containerds(cache: Sandbox) -> list[str]:
    lines = cache.on(CONTAINERD, "cat", "/etc/containerd/certs.d/docker.io/hosts.toml").splitlines()
    return [line.split('"')[1] for line in lines if line.startswith("[host")]


def test_each_engine_has_every_master_in_the_lists_order(cache: Sandbox) -> None:
    assert cache.mirrors(DOCKER) == [f"http://{FIRST}/", f"http://{SECOND}/"]
    assert containerds(cache) == [f"http://{FIRST}", f"http://{SECOND}"]
    assert podmans(cache) == [FIRST, SECOND]
    results = prove(
        dev_configuration() | {"docker_cache_nodes": nodes(), "docker_cache_entries": "masters"},
        [DOCKER, CONTAINERD, PODMAN],
    )
    assert all(result.is_good for result in results), results


@pytest.mark.parametrize(("machine", "program"), ENGINES)
def test_where_the_first_master_is_gone_the_second_serves(cache: Sandbox, machine: str, program: str) -> None:
    pull_anew(cache, machine, program)
    cache.reset_upstream()
    with without_the_first(cache, machine):
        pull_anew(cache, machine, program)
    assert cache.upstream()["blob_gets"] == 0, "it went to the hub"


def test_a_master_that_is_gone_keeps_no_node_from_an_update_and_is_a_warning(cache: Sandbox) -> None:
    with without_the_first(cache, DOCKER):
        cache.on(
            DOCKER,
            "sh",
            "-c",
            """echo '{"registry-mirrors": []}' > /etc/docker/daemon.json && systemctl reload docker""",
        )
        keys = {"docker_cache_nodes": nodes(), "docker_cache_entries": "masters"}
        cache.up(**keys, docker_cache_generations={DOCKER: 1})
        assert cache.mirrors(DOCKER) == [f"http://{FIRST}/", f"http://{SECOND}/"]


def test_each_node_can_be_its_own_entry(cache: Sandbox) -> None:
    keys = {"docker_cache_nodes": nodes(), "docker_cache_entries": "node"}
    cache.up(**keys)
    assert cache.mirrors(DOCKER) == [f"http://{ADDRESSES[DOCKER]}:30500/"]
    assert containerds(cache) == [f"http://{ADDRESSES[CONTAINERD]}:30500"]
    assert podmans(cache) == [f"{ADDRESSES[PODMAN]}:30500"]
    results = prove(dev_configuration() | keys, ["pai-master", *ADDRESSES])
    assert all(result.is_good for result in results), results
    cache.reset_upstream()
    for machine, program in ENGINES:
        pull_anew(cache, machine, program)
    assert cache.upstream()["blob_gets"] == 0


def test_back_to_one_entry_the_others_are_gone(cache: Sandbox) -> None:
    cache.up(docker_cache_nodes=nodes())
    assert cache.mirrors(DOCKER) == [f"http://{FIRST}/"]
    assert containerds(cache) == [f"http://{FIRST}"]
    assert podmans(cache) == [FIRST]
    assert SECOND not in cache.on(DOCKER, "cat", "/etc/docker/daemon.json")
