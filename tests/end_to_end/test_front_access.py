"""Who may reach the cache, by the address that a request comes from. In order, on one deployment."""

import json
from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import Sandbox, dev_nodes, wait_until

HOST = "10.30.0.10"
PORT = 30500
PATH = "/v2/library/app/manifests/1"
ALLOWED, OTHER = "pai-worker1", "pai-worker2"
CIDRS = {"docker_cache_allowed_cidrs": ["10.30.0.11/32"], "docker_cache_nodes": dev_nodes("pai-master", ALLOWED)}


@pytest.fixture(scope="module", name="cache")
def deployed(sandbox: Sandbox) -> Iterator[Sandbox]:
    sandbox.empty_store()
    sandbox.up(**CIDRS)
    yield sandbox
    sandbox.destroy()
    sandbox.empty_store()


def ask(cache: Sandbox, machine: str, scheme: str = "http") -> tuple[int, str]:
    """Status and body of what a machine is answered at the entry; 0 where nothing answers. By https whoever answers is believed."""
    command = ["curl", "-sk", "-m", "5", "-w", "\n%{http_code}", f"{scheme}://{HOST}:{PORT}{PATH}"]
    body, _, status = cache.try_on(machine, *command).stdout.rpartition("\n")
    return int(status), body


def clients(cache: Sandbox) -> set[str]:
    log = cache.kubectl("logs", "deployment/docker-cache-front", "-c", "access-log", "--tail=1000")
    return {json.loads(line)["client"] for line in log.splitlines() if line.startswith("{")}


def test_the_front_takes_who_comes_from_an_allowed_network_and_names_the_address_of_who_does_not(
    cache: Sandbox,
) -> None:
    assert ask(cache, ALLOWED)[0] == 200
    status, body = ask(cache, OTHER)
    assert status == 403
    assert json.loads(body)["errors"][0]["code"] == "DENIED", "engines read the registries' own form"
    assert "10.30.0.12" in body, "the administrator sees what to add"
    assert ask(cache, ALLOWED)[0] == 200
    assert ask(cache, OTHER)[0] == 403, "what is hot by now is no less guarded"
    wait_until(
        lambda: {"10.30.0.11", "10.30.0.12"} <= clients(cache),
        "the log has the nodes' own addresses, not that of who hands them on",
    )


def test_the_pods_own_node_pulls_by_its_own_address(cache: Sandbox) -> None:
    assert ask(cache, "pai-master")[0] == 200
    assert cache.outputs()["nodes"], "its proof has pulled through the cache"


def test_a_client_can_not_choose_its_address(cache: Sandbox) -> None:
    """Neither by a header nor by speaking the protocol that HAProxy speaks to the front."""
    forged = ["-H", "X-Forwarded-For: 10.30.0.11", "--haproxy-protocol"]
    for option in (forged[:2], forged[2:]):
        result = cache.try_on(OTHER, "curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", *option, f"http://{HOST}:{PORT}{PATH}")  # fmt: skip
        assert result.stdout in {"403", "400", "000"}, option
