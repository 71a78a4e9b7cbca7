"""A policy engine enforces the cache's network policies, beside https and allowed networks. In order, on one deployment."""

import json
from collections.abc import Iterator

import pytest

from sandbox import policy_engine
from sandbox.identities import Authority
from tests.end_to_end.conftest import ROOT, Sandbox, dev_nodes, run, wait_until
from tests.end_to_end.test_front_access import HOST, PORT, ask, clients

ALLOWED, OTHER = "pai-worker1", "pai-worker2"
AUTHORITY = Authority()


@pytest.fixture(scope="module", name="cache")
def deployed(sandbox: Sandbox) -> Iterator[Sandbox]:
    sandbox.empty_store()
    pair = AUTHORITY.issue("cache", None, (HOST,))
    sandbox.up(
        docker_cache_tls_certificate=pair.certificate.decode(),
        docker_cache_entry_ca=AUTHORITY.certificate.decode(),
        docker_cache_allowed_cidrs=["10.30.0.11/32"],
        docker_cache_nodes=dev_nodes("pai-master", ALLOWED),
        **sandbox.encrypted({"docker_cache_tls_key": pair.key.decode()}),
    )
    yield sandbox
    sandbox.destroy()
    sandbox.empty_store()


def test_by_https_the_addresses_are_seen_too(cache: Sandbox) -> None:
    assert cache.mirrors(ALLOWED) == [f"https://{HOST}:{PORT}/"]
    assert ask(cache, ALLOWED, "https")[0] == 200
    status, body = ask(cache, OTHER, "https")
    assert (status, "10.30.0.12" in body) == (403, True)
    assert ask(cache, "pai-master", "https")[0] == 200
    wait_until(lambda: {"10.30.0.11", "10.30.0.12"} <= clients(cache), "the log has the nodes' own addresses")


@pytest.fixture(scope="module", name="engine")
def running_engine(cache: Sandbox) -> Iterator[Sandbox]:
    probe(cache, "stranger", "of-nobody=yes")
    probe(cache, "ours", "app.kubernetes.io/part-of=docker-cache")
    without_engine = answered("stranger", service(cache, "docker-cache-registry"), 5000)
    assert without_engine.startswith("HTTP/1."), "the probe sees who answers, as long as nothing enforces a policy"
    with policy_engine.running():
        yield cache
    cache.kubectl("delete", "pod", "stranger", "ours", "--grace-period=0", "--force")


def probe(cache: Sandbox, name: str, label: str) -> None:
    overrides = json.dumps({"spec": {"tolerations": [{"operator": "Exists"}], "automountServiceAccountToken": False}})
    options = ("--image=registry:3.1.2", f"--labels={label}", f"--overrides={overrides}")
    cache.kubectl("run", name, *options, "--command", "--", "sleep", "3600")
    cache.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=180s")


def service(cache: Sandbox, name: str) -> str:
    return cache.kubectl("get", "service", name, "-o", "jsonpath={.spec.clusterIP}")


def pod_address(cache: Sandbox, name: str) -> str:
    return cache.kubectl(
        "get", "pods", "-l", f"app.kubernetes.io/name={name}", "-o", "jsonpath={.items[0].status.podIP}"
    )


def reaches(name: str, address: str, port: int) -> bool:
    return answered(name, address, port).startswith("HTTP/1.")


def answered(name: str, address: str, port: int) -> str:
    """What a pod gets to see of whoever answers it, or why it does not."""
    asking = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} {port}"
    result = run([str(ROOT / "sandbox/kubectl"), "exec", name, "--", "sh", "-c", asking])
    return result.stdout or result.stderr


def test_the_registry_is_reached_by_the_front_alone(engine: Sandbox) -> None:
    address = service(engine, "docker-cache-registry")
    wait_until(lambda: not reaches("stranger", address, 5000), "the engine enforces anything")
    assert not reaches("ours", address, 5000)
    assert not reaches("stranger", pod_address(engine, "docker-cache-registry"), 5000), "nor around the Service"
    engine.pull_anew(ALLOWED, "app:2")
    front = ("logs", "deployment/docker-cache-front", "-c", "access-log", "--tail=500")
    wait_until(lambda: '"cache":"miss"' in engine.kubectl(*front), "the pull comes to the front")
    registry = ("logs", "deployment/docker-cache-registry", "-c", "registry", "--tail=500")
    wait_until(lambda: "library/app" in engine.kubectl(*registry), "the front goes on fetching from it")


def test_the_fronts_inner_port_is_for_the_caches_own_pods(engine: Sandbox) -> None:
    address = service(engine, "docker-cache-front")
    assert reaches("ours", address, 80), "the prefetch comes by it"
    assert not reaches("stranger", address, 80)


def test_metrics_may_be_gathered(engine: Sandbox) -> None:
    for name in ("docker-cache-front", "docker-cache-registry"):
        assert reaches("stranger", pod_address(engine, name), 9100), name


def test_the_entry_is_that_of_the_allowed_networks(engine: Sandbox) -> None:
    assert ask(engine, ALLOWED, "https")[0] == 200
    assert ask(engine, "pai-master", "https")[0] == 200
    assert ask(engine, OTHER, "https")[0] == 0, "the engine does not even let it speak"


def test_the_pods_stay_ready_since_a_node_reaches_its_own(engine: Sandbox) -> None:
    for name in ("docker-cache-front", "docker-cache-registry"):
        engine.kubectl("rollout", "status", f"deployment/{name}", "--timeout=180s")
