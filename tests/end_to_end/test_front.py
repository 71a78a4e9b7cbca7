"""What the front is there for: one download for many, and hits whatever is away. The tests follow one deployment, in order."""

import base64
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox import lifecycle
from sandbox.enter import in_network
from sandbox.hub_content import MIB, content
from sandbox.images import Image, digest, noise_layer
from sandbox.layout import REGISTRIES
from tests.end_to_end.conftest import Sandbox, dev_nodes, run, wait_until
from tests.end_to_end.test_containerd import HASH, PASSWORD

ENTRY = "http://10.30.0.10:30500"
LARGE, LARGE_MIB = "library/large:1", 256
FRONT, REGISTRY = "docker-cache-front", "docker-cache-registry"
TAG_SECONDS = 3
GRACE_SECONDS = 10
"""So long the front takes the old tag while it asks for the new one."""


def keys() -> dict[str, object]:
    return {
        "docker_cache_nodes": dev_nodes("pai-master"),
        "docker_cache_hot_size": "3Gi",
        "docker_cache_tag_ttl": f"{TAG_SECONDS}s",
    }


@pytest.fixture(scope="module", name="cache")
def deployed(sandbox: Sandbox) -> Iterator[Sandbox]:
    lifecycle.push_to_hub(LARGE, str(LARGE_MIB))
    sandbox.empty_store()
    sandbox.up(**keys())
    yield sandbox
    sandbox.destroy()
    sandbox.empty_store()


def many(path: str, count: int, *headers: str) -> list[dict[str, Any]]:
    result = run(in_network([sys.executable, "tests/end_to_end/many_clients.py", ENTRY + path, str(count), *headers]))
    assert result.returncode == 0, result.stderr
    answers: list[dict[str, Any]] = json.loads(result.stdout)
    return answers


def one(path: str, *headers: str) -> dict[str, Any]:
    (answer,) = many(path, 1, *headers)
    return answer


def blob_path(image: Image, repository: str) -> tuple[str, str]:
    """Of its last layer: the path, and the digest."""
    found = digest(image.layers[-1])
    return f"/v2/{repository}/blobs/{found}", found


def app(number: int) -> tuple[str, str]:
    return blob_path(content()[f"library/app:{number}"], "library/app")


@contextmanager
def slow_hub(cache: Sandbox, bytes_per_second: int) -> Iterator[None]:
    control = f"http://127.0.0.1:{REGISTRIES['docker.io']}/rate"
    cache.on("hub", "curl", "-sSf", "-X", "POST", f"{control}/{bytes_per_second}")
    try:
        yield
    finally:
        cache.on("hub", "curl", "-sSf", "-X", "POST", f"{control}/0")


@contextmanager
def without_registry(cache: Sandbox) -> Iterator[None]:
    cache.kubectl("scale", f"deployment/{REGISTRY}", "--replicas=0")
    cache.kubectl("wait", "--for=delete", "pod", "-l", f"app.kubernetes.io/name={REGISTRY}", "--timeout=300s")
    try:
        yield
    finally:
        cache.kubectl("scale", f"deployment/{REGISTRY}", "--replicas=1")
        cache.kubectl("rollout", "status", f"deployment/{REGISTRY}", "--timeout=300s")


@contextmanager
def hub_is(cache: Sandbox, away: str, back: str) -> Iterator[None]:
    cache.on("hub", "systemctl", *away.split(), "hub")
    try:
        yield
    finally:
        cache.on("hub", "systemctl", *back.split(), "hub")


@contextmanager
def store_is_away(cache: Sandbox) -> Iterator[None]:
    cache.on("pai-master", "mv", "/var/lib/registry/docker", "/var/lib/registry/away")
    try:
        yield
    finally:
        cache.on("pai-master", "sh", "-c", "cd /var/lib/registry && rm -rf docker && mv away docker")


def test_a_hundred_cold_clients_cost_one_download_and_get_bytes_while_it_runs(cache: Sandbox) -> None:
    path, expected = blob_path(Image(layers=(noise_layer(LARGE, LARGE_MIB * MIB),)), "library/large")
    cache.reset_upstream()
    with slow_hub(cache, 16 * MIB):
        answers = many(path, 100)
    assert {answer.get("digest") for answer in answers} == {expected}, [a for a in answers if not a.get("whole")]
    assert cache.upstream()["blob_gets"] == 1, "each of the hundred would be a download, and a pull of the hub's"
    assert max(answer["first"] for answer in answers) < 10, "a client that waits for five minutes gives up"
    assert min(answer["seconds"] for answer in answers) > 12, "the hub was not slow, and this shows nothing"


def test_a_head_of_a_cold_blob_is_answered_at_once_and_costs_no_more_than_the_get_after_it(cache: Sandbox) -> None:
    path, expected = app(4)
    cache.reset_upstream()
    with slow_hub(cache, MIB):
        head = cache.on("pai-worker1", "curl", "-sS", "-m", "10", "-I", "-w", "%{http_code}", ENTRY + path)
        assert head.splitlines()[-1] == "200"
        assert one(path)["digest"] == expected
    assert cache.upstream()["blob_gets"] == 1, "the registry downloads a blob for each HEAD that it gets"


def test_hits_need_no_registry_no_store_and_no_hub(cache: Sandbox) -> None:
    path, expected = app(1)
    tag = "/v2/library/app/manifests/1"
    for warm in (path, tag):
        assert one(warm)["status"] == 200
    with without_registry(cache), store_is_away(cache), hub_is(cache, "stop", "start"):
        assert one(path)["digest"] == expected
        time.sleep(TAG_SECONDS + GRACE_SECONDS + 1)
        late = one(tag)
        assert (late["status"], late["cache"]) == (200, "stale"), "an older tag is better than none"
        assert one("/v2/library/app/manifests/2")["status"] == 503, "docker then asks the hub itself"
        assert cache.kubectl("get", f"deployment/{FRONT}", "-o", "jsonpath={.status.readyReplicas}") == "1"
    wait_until(lambda: one(tag)["cache"] in {"hit", "miss"}, "the registry is asked again")


def test_a_hub_that_hangs_makes_nobody_wait_long(cache: Sandbox) -> None:
    tag = "/v2/library/app/manifests/1"
    assert one(tag)["status"] == 200
    with hub_is(cache, "kill --signal=STOP", "kill --signal=CONT"):
        time.sleep(TAG_SECONDS + GRACE_SECONDS + 1)
        answers = many(tag, 30)
        assert {answer["status"] for answer in answers} == {200}
        assert max(answer["seconds"] for answer in answers) < 30, "they must not wait one after the other"
        assert one(tag)["seconds"] < 5, "who comes next need not wait at all"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (["-X", "POST", "/v2/library/app/blobs/uploads/"], "405"),
        (["-X", "DELETE", "/v2/library/app/manifests/1"], "405"),
        (["-X", "BREW", "/v2/"], "405"),
        (["--path-as-is", "/v2/../../etc/passwd"], "400"),
        (["/v2/library/%2e%2e/app/manifests/1"], "400"),
        (["/v2//library/app/manifests/1"], "400"),
        (["-H", "X-Long: " + "x" * 20_000, "/v2/"], "400"),
        (["/v2/quay.io/library/app/manifests/1"], "404"),
        (["/v2/library/app/manifests/1?ns=quay.io"], "404"),
        (["/somewhere"], "404"),
    ],
)
def test_what_is_no_pull_from_an_upstream_that_is_served_is_refused(
    cache: Sandbox, options: list[str], status: str
) -> None:
    cache.reset_upstream()
    *flags, path = options
    form = ("curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}")
    assert cache.on("pai-worker1", *form, *flags, ENTRY + path) == status
    assert cache.upstream()["manifest_gets"] == 0, "never another's image"


def test_pods_that_start_without_the_hub_serve_what_is_stored_and_pull_again_once_it_is_back(cache: Sandbox) -> None:
    path, expected = app(1)
    tag = "/v2/library/app/manifests/1"
    with hub_is(cache, "stop", "start"):
        cache.kubectl("delete", "pod", cache.pod(), "--grace-period=1")
        cache.forget_what_is_hot()
        cache.kubectl("rollout", "status", f"deployment/{REGISTRY}", "--timeout=300s")
        wait_until(lambda: bool(one(tag)["status"] == 200), "the stored tag is served")
        assert one(path)["digest"] == expected
    wait_until(lambda: bool(one("/v2/library/app/manifests/4")["status"] == 200), "what is new is pulled again")


def test_a_front_that_leaves_finishes_its_pulls_and_no_request_fails(cache: Sandbox) -> None:
    path, expected = app(3)
    got: list[dict[str, Any]] = []
    old = cache.front()
    with slow_hub(cache, MIB):
        pull = threading.Thread(target=lambda: got.append(one(path)))
        pull.start()
        time.sleep(1)
        cache.kubectl("rollout", "restart", f"deployment/{FRONT}")
        failed = []
        while pull.is_alive():
            answer = one("/v2/library/app/manifests/1")
            if answer["status"] != 200:
                failed.append(answer)
        pull.join()
    assert got[0]["digest"] == expected, "the pull in flight was cut"
    assert got[0]["seconds"] > 12, "the pod was not asked to leave meanwhile"
    assert not failed
    cache.kubectl("rollout", "status", f"deployment/{FRONT}", "--timeout=300s")
    assert cache.front() != old
    wait_until(lambda: old not in cache.kubectl("get", "pods", "-o", "name"), "the old front goes once it has no pull")


@pytest.mark.long
def test_of_two_fronts_one_is_enough(cache: Sandbox) -> None:
    cache.up(**keys(), docker_cache_replicas=2, docker_cache_priority_class="system-cluster-critical")
    try:
        listed = json.loads(cache.kubectl("get", "pods", "-l", "app.kubernetes.io/part-of=docker-cache", "-o", "json"))
        staying = [pod["spec"] for pod in listed["items"] if "deletionTimestamp" not in pod["metadata"]]
        assert {pod["priorityClassName"] for pod in staying} == {"system-cluster-critical"}, "of fronts and registries"
        assert cache.kubectl("get", f"poddisruptionbudget/{FRONT}", "-o", "jsonpath={.spec.maxUnavailable}") == "1"
        pods = cache.kubectl("get", "pods", "-l", f"app.kubernetes.io/name={FRONT}", "-o", "name").split()
        cache.kubectl("delete", pods[0], "--wait=false")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert one("/v2/library/app/manifests/1")["status"] == 200
    finally:
        cache.up(**keys())


def test_no_cached_byte_without_valid_credentials(cache: Sandbox) -> None:
    path, expected = app(1)
    htpasswd = base64.b64encode(f"reader:{HASH}".encode()).decode()
    credentials = {
        "docker_cache_htpasswd": htpasswd,
        "docker_cache_htpasswd_over_plain_http": "true",
        "docker_cache_entry_username": "reader",
        "docker_cache_entry_password": PASSWORD,
    }
    good, bad = (
        f"Authorization: Basic {base64.b64encode(f'reader:{word}'.encode()).decode()}" for word in (PASSWORD, "guess")
    )
    cache.up(**keys(), **credentials)
    assert one(path, good)["digest"] == expected
    with without_registry(cache):
        assert one(path, good)["digest"] == expected, "who may pull is known without the registry"
        for headers in ([], [bad], ["X-DC-Step: allowed"], ["X-DC-Step: allowed", bad]):
            assert one(path, *headers)["status"] == 401, headers
            assert one("/v2/", *headers)["status"] == 401, headers
