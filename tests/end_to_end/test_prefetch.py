"""Images that are fetched ahead: by an update, by `make prefetch`, through the front, whoever it lets in."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import bcrypt
import pytest

from tests.end_to_end.conftest import Sandbox, dev_nodes, run
from tests.unit.stacks import htpasswd

ENTRY = "http://10.30.0.10:30500"
TEMPLATE = "docker-cache-prefetch"
KEYS: dict[str, object] = {
    "docker_cache_nodes": dev_nodes("pai-master", "pai-worker1"),
    "docker_cache_upstreams": ["ghcr.io"],
    "docker_cache_prefetch": [
        "app:1",
        {"image": "multi:oci", "platforms": ["linux/amd64"]},
        "ghcr.io/org/app:1",
    ],
}


@pytest.fixture(scope="module", autouse=True)
def deployed(sandbox: Sandbox) -> Iterator[None]:
    sandbox.empty_store()
    sandbox.up(**KEYS)
    yield
    sandbox.destroy()


def make_prefetch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "operations", "prefetch", "--stack", "dev", *arguments])


def get(sandbox: Sandbox, path: str) -> str:
    """As containerd asks, with everything that it takes."""
    accept = "application/vnd.oci.image.index.v1+json,application/vnd.docker.distribution.manifest.v2+json"
    return sandbox.on("pai-worker1", "curl", "-sSf", "-H", f"Accept: {accept}", f"{ENTRY}{path}")


def has_blob(sandbox: Sandbox, digest: str) -> bool:
    name = digest.removeprefix("sha256:")
    found = sandbox.try_on(
        "pai-master", "test", "-e", f"/var/lib/registry/docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"
    )
    return found.returncode == 0


def test_an_image_that_was_fetched_ahead_costs_the_upstream_nothing(sandbox: Sandbox) -> None:
    assert sandbox.upstream()["blob_gets"] > 0, "the Job is to have fetched it"
    sandbox.reset_upstream()
    sandbox.pull_anew("pai-worker1", "app:1")
    assert sandbox.upstream()["blob_gets"] == 0


def test_of_another_upstream_too(sandbox: Sandbox) -> None:
    sandbox.reset_upstream("ghcr.io")
    manifest = json.loads(get(sandbox, "/v2/org/app/manifests/1?ns=ghcr.io"))
    for layer in manifest["layers"]:
        sandbox.on(
            "pai-worker1", "curl", "-sSf", "-o", "/dev/null", f"{ENTRY}/v2/org/app/blobs/{layer['digest']}?ns=ghcr.io"
        )
    assert sandbox.upstream("ghcr.io")["blob_gets"] == 0


def test_of_the_platforms_only_those_that_are_wanted(sandbox: Sandbox) -> None:
    index = json.loads(get(sandbox, "/v2/library/multi/manifests/oci"))
    stored = {item["platform"]["architecture"]: has_blob(sandbox, item["digest"]) for item in index["manifests"]}
    assert stored == {"amd64": True, "arm64": False}


def test_a_second_up_has_nothing_to_do(sandbox: Sandbox) -> None:
    assert sandbox.preview(**KEYS) == {}


def test_an_image_that_can_not_be_had_is_named_and_keeps_nothing_else_back(sandbox: Sandbox) -> None:
    listed = {"docker_cache_prefetch": ["no-such-image:1", "app:2"]}
    failed = sandbox.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", **(KEYS | listed))
    assert failed.returncode != 0
    assert "1 of 2 could not be fetched ahead; no-such-image:1 (all): " in failed.stdout
    sandbox.reset_upstream()
    sandbox.pull_anew("pai-worker1", "app:2")
    assert sandbox.upstream()["blob_gets"] == 0, "the other image is to be there"
    assert sandbox.mirrors("pai-worker1") == [f"{ENTRY}/"]
    sandbox.up(**KEYS)


def test_make_prefetch_fetches_what_it_is_told_and_shows_it(sandbox: Sandbox) -> None:
    made = make_prefetch("--images", "app:3,multi:docker", "--platforms", "linux/amd64")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "in the cache: app:3 (linux/amd64)" in made.stderr
    assert "in the cache: all 2" in made.stderr
    sandbox.reset_upstream()
    sandbox.pull_anew("pai-worker1", "app:3")
    assert sandbox.upstream()["blob_gets"] == 0


@pytest.mark.long
def test_make_prefetch_says_what_failed() -> None:
    made = make_prefetch("--images", "no-such-image:1")
    assert made.returncode == 1
    assert "1 of 1 could not be fetched ahead; no-such-image:1 (all): " in made.stderr


def jobs(sandbox: Sandbox) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(sandbox.kubectl("get", "jobs", "-o", "json"))["items"]
    return [job for job in found if job["metadata"].get("ownerReferences")]


def test_the_jobs_of_make_prefetch_go_with_the_stack(sandbox: Sandbox) -> None:
    owners = {owner["name"] for job in jobs(sandbox) for owner in job["metadata"]["ownerReferences"]}
    assert owners == {TEMPLATE}


@pytest.mark.long
def test_a_front_that_asks_for_a_user_lets_the_job_in(sandbox: Sandbox) -> None:
    hashed = bcrypt.hashpw(b"wonderland", bcrypt.gensalt(5)).decode()
    asked = {
        "docker_cache_htpasswd": htpasswd(f"alice:{hashed}"),
        "docker_cache_htpasswd_over_plain_http": "true",
        "docker_cache_entry_username": "alice",
        "docker_cache_entry_password": "wonderland",
        "docker_cache_prefetch": ["app:4"],
    }
    sandbox.reset_upstream()
    sandbox.up(**(KEYS | asked))
    assert sandbox.upstream()["blob_gets"] > 0
    pods = sandbox.kubectl("get", "pods", "-l", "app.kubernetes.io/name=docker-cache-prefetch", "-o", "json")
    assert "wonderland" not in pods
