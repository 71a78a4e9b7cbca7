"""The cache by https: every engine pulls by it, and a renewed certificate is taken up while pulls go on. In order, on one deployment."""

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.hub_content import content
from sandbox.identities import Authority, Pair
from sandbox.images import digest
from tests.end_to_end.conftest import ROOT, WORKERS, Sandbox, dev_configuration, prove, run, wait_until

NODES = ("pai-master", "pai-worker1", "pai-worker2", "pai-worker3")
HOST = "10.30.0.10"
PORT = 30501
ENTRY = f"https://{HOST}:{PORT}"
SECRET = "cache-tls"
AUTHORITY = Authority()
GIVEN = AUTHORITY.issue("given", None, (HOST,))
BLOB = content()["library/app:1"].layers[1]


def keys(**certificate: object) -> dict[str, object]:
    return {"docker_cache_node_port": PORT, "docker_cache_entry_ca": AUTHORITY.certificate.decode(), **certificate}


@pytest.fixture(scope="module", name="cache")
def deployed(sandbox: Sandbox) -> Iterator[Sandbox]:
    """By http first, at another port: what a cluster has that goes over to https."""
    sandbox.empty_store()
    sandbox.up()
    sandbox.on("pai-worker1", "sh", "-c", f"mkdir -p /run/tls && echo {encoded(AUTHORITY.certificate)} | base64 -d > /run/tls/ca.crt")  # fmt: skip
    yield sandbox
    sandbox.destroy()
    sandbox.kubectl("delete", "secret", SECRET, "--ignore-not-found")
    sandbox.empty_store()


def encoded(text: bytes) -> str:
    return base64.b64encode(text).decode()


def curl(cache: Sandbox, *arguments: str, seconds: float = 120) -> tuple[int, str]:
    """Status and output on a worker, which has no CA of ours among its own."""
    result = cache.try_on("pai-worker1", "curl", "-sS", "-m", str(seconds), *arguments, seconds=seconds + 10)
    return result.returncode, result.stdout + result.stderr


def shown(cache: Sandbox) -> str:
    """Whom the certificate that a new connection gets is for."""
    script = f"openssl s_client -connect {HOST}:{PORT} </dev/null 2>/dev/null | openssl x509 -noout -subject"
    return cache.try_on("pai-master", "sh", "-c", script).stdout.strip().rpartition("CN = ")[2]


def fronts(cache: Sandbox) -> dict[str, int]:
    """The front's pods with the restarts of their containers; those on their way out do not count."""
    found = json.loads(cache.kubectl("get", "pods", "-l", "app.kubernetes.io/name=docker-cache-front", "-o", "json"))
    return {
        pod["metadata"]["name"]: sum(status["restartCount"] for status in pod["status"]["containerStatuses"])
        for pod in found["items"]
        if "deletionTimestamp" not in pod["metadata"]
    }


def write_secret(pair: Pair) -> None:
    """As cert-manager does: made, or replaced in place."""
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": "default"},
        "data": {"tls.crt": encoded(pair.certificate), "tls.key": encoded(pair.key)},
    }
    command = [str(ROOT / "sandbox/kubectl"), "apply", "--server-side", "--force-conflicts", "-f", "-"]
    result = run(command, text=json.dumps(document))
    assert result.returncode == 0, result.stderr


def hurried(cache: Sandbox) -> str:
    """Whom the certificate is for. The kubelet looks at a pod's Secrets when it looks at the pod: within a minute or so, or
    when the pod is touched, as here.
    """
    for name in fronts(cache):
        cache.kubectl("annotate", "pod", name, f"touched={time.monotonic()}", "--overwrite")
    return shown(cache)


def test_from_http_to_https_the_nodes_change_over_from_one_port_to_another(cache: Sandbox) -> None:
    secret = cache.encrypted({"docker_cache_tls_key": GIVEN.key.decode()})
    cache.up(**keys(docker_cache_tls_certificate=GIVEN.certificate.decode(), **secret))
    for worker in WORKERS:
        assert cache.mirrors(worker) == [f"{ENTRY}/"]
    services = cache.kubectl("get", "services", "-o", "name").split()
    assert f"service/docker-cache-{PORT}" in services
    assert "service/docker-cache-30500" not in services, "the plain one goes after the nodes"
    wait_until(lambda: shown(cache) == "given", "the given certificate")


@pytest.mark.usefixtures("cache")
def test_every_engine_pulls_by_https() -> None:
    pair = {"docker_cache_tls_certificate": GIVEN.certificate.decode(), "docker_cache_tls_key": GIVEN.key.decode()}
    results = prove(dev_configuration() | keys(**pair), NODES)
    assert all(result.is_good for result in results), results
    assert {result.engine.partition(" ")[0] for result in results} >= {"docker", "containerd"}


def test_who_does_not_know_the_ca_and_who_speaks_an_old_tls_or_none_gets_nothing(cache: Sandbox) -> None:
    assert curl(cache, "--cacert", "/run/tls/ca.crt", f"{ENTRY}/v2/") == (0, "{}")
    # 35 where a CA of the same name is known, as the sandbox's is.
    assert curl(cache, f"{ENTRY}/v2/")[0] in {35, 60}
    assert curl(cache, "--cacert", "/run/tls/ca.crt", "--tls-max", "1.1", f"{ENTRY}/v2/")[0] != 0
    assert curl(cache, f"http://{HOST}:{PORT}/v2/")[0] != 0
    log = ("logs", "deployment/docker-cache-front", "-c", "tls")
    wait_until(lambda: "SSL handshake failure" in cache.kubectl(*log), "it is said where the administrator looks")


def test_the_key_is_in_a_secret_alone(cache: Sandbox) -> None:
    line = GIVEN.key.decode().splitlines()[1]
    assert line not in cache.kubectl("get", "configmaps,deployments,pods", "-o", "json")
    state = cache.pulumi("stack", "export")
    assert state.returncode == 0
    assert line not in state.stdout


def test_the_access_log_has_the_clients_and_not_haproxy(cache: Sandbox) -> None:
    curl(cache, "--cacert", "/run/tls/ca.crt", f"{ENTRY}/v2/library/app/manifests/no-such-tag-of-worker1")
    log = ("logs", "deployment/docker-cache-front", "-c", "access-log")
    wait_until(lambda: "no-such-tag-of-worker1" in cache.kubectl(*log), "the request is in the access log")
    (line,) = [line for line in cache.kubectl(*log).splitlines() if "no-such-tag-of-worker1" in line]
    assert '"127.0.0.1"' not in line, "HAProxy's own address says nothing"


def test_a_secret_that_exists_takes_the_pairs_place(cache: Sandbox) -> None:
    write_secret(AUTHORITY.issue("first", None, (HOST,)))
    cache.up(**keys(docker_cache_tls_secret=SECRET))
    wait_until(lambda: shown(cache) == "first", "the Secret's certificate")


def test_a_renewed_one_is_taken_up_and_a_pull_in_flight_finishes(cache: Sandbox) -> None:
    before = fronts(cache)
    url = f"{ENTRY}/v2/library/app/blobs/{digest(BLOB)}"
    begun, go_on = "/run/tls/reading", "/run/tls/read-on"
    slowly = f"{{ head -c 65536; touch {begun}; until [ -e {go_on} ]; do sleep 0.2; done; cat; }}"
    script = f"curl -sS -f --cacert /run/tls/ca.crt {url} | {slowly} | sha256sum"
    with ThreadPoolExecutor() as pool:
        pull = pool.submit(cache.on, "pai-worker1", "bash", "-o", "pipefail", "-c", script, seconds=400)
        try:
            wait_until(lambda: cache.try_on("pai-worker1", "test", "-e", begun).returncode == 0, "the pull has begun")
            write_secret(AUTHORITY.issue("second", None, (HOST,)))
            wait_until(lambda: hurried(cache) == "second", "the renewed certificate")
            assert not pull.done(), "the pull was to be in flight while the certificate changed"
        finally:
            cache.on("pai-worker1", "touch", go_on)
        assert pull.result().split()[0] == hashlib.sha256(BLOB).hexdigest()
    assert fronts(cache) == before, "no pod is new and no container was restarted"


def test_a_pair_that_does_not_belong_together_is_left_aside(cache: Sandbox) -> None:
    third, other = AUTHORITY.issue("third", None, (HOST,)), AUTHORITY.issue("other", None, (HOST,))
    write_secret(Pair(certificate=third.certificate, key=other.key))
    log = ("logs", "deployment/docker-cache-front", "-c", "tls")
    wait_until(
        lambda: hurried(cache) == "second" and "can't be used: the one before stays" in cache.kubectl(*log),
        "the log says it",
    )
    assert shown(cache) == "second"
    write_secret(third)
    wait_until(lambda: hurried(cache) == "third", "a pair that can be used is taken up again")


def test_a_secret_that_can_not_be_used_is_named_before_anything_is_deployed(cache: Sandbox) -> None:
    result = cache.pulumi("preview", **keys(docker_cache_tls_secret="no-such-secret"))
    assert result.returncode != 0
    assert 'docker_cache_tls_secret is "no-such-secret": there is no such Secret' in result.stdout + result.stderr
    write_secret(AUTHORITY.issue("for another", None, ("10.30.0.99",)))
    result = cache.pulumi("preview", **keys(docker_cache_tls_secret=SECRET))
    assert "is not for 10.30.0.10, by which the nodes reach the cache" in result.stdout + result.stderr
