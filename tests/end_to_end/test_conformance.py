"""The pull part of the OCI distribution-spec's conformance suite, through the entry: what is cold, and what is hot.

The suite fills the hub first, as it does with a registry that takes pushes; then it reads all of that by its mode for registries that
are read-only. Not asked for are referrers, which Distribution does not know (behind the cache or before it).
"""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sandbox import toolchain
from sandbox.enter import in_network
from sandbox.processes import leader_pid
from tests.end_to_end.conftest import Sandbox, dev_nodes

REPOSITORY = "conformance/one"
STORED = f"/var/lib/hub/docker/registry/v2/repositories/{REPOSITORY}"
HUB = "127.0.0.1:5001"
ENTRY = "10.30.0.10:30500"
PASSED = "OCI Conformance Result: Pass"
READS = ("Blob get", "Blob head", "Manifest get by digest", "Manifest get by tag", "Manifest head by digest", "Ping")


@pytest.fixture(scope="module")
def content(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What the suite has put into the hub, as its settings name it."""
    command = ["nsenter", "--target", str(leader_pid("hub")), "--net", "--"]
    # Of the hub's registry the suite finds what it finds: it is only to be filled.
    run_suite(command, HUB, tmp_path_factory.mktemp("filling"), {})
    listed = {
        "OCI_RO_DATA_TAGS": sandbox.on("hub", "ls", f"{STORED}/_manifests/tags"),
        "OCI_RO_DATA_MANIFESTS": digests(sandbox, f"{STORED}/_manifests/revisions"),
        "OCI_RO_DATA_BLOBS": digests(sandbox, f"{STORED}/_layers"),
    }
    return {name: " ".join(text.split()) for name, text in listed.items()}


@pytest.fixture(scope="module", autouse=True)
def deployed(sandbox: Sandbox) -> Iterator[None]:
    sandbox.up(docker_cache_nodes=dev_nodes("pai-master"))
    yield
    sandbox.destroy()


def digests(sandbox: Sandbox, folder: str) -> str:
    return sandbox.on("hub", "sh", "-c", f"ls {folder}/sha256 | sed s/^/sha256:/")


def run_suite(prefix: list[str], registry: str, results: Path, settings: Mapping[str, str]) -> str:
    """What it reports. Its exit status says nothing: with read-only data it ends with a panic, after the report."""
    toolchain.build_missing([toolchain.CONFORMANCE])
    deletes = dict.fromkeys(("OCI_API_BLOBS_DELETE", "OCI_API_MANIFESTS_DELETE", "OCI_API_TAGS_DELETE"), "false")
    environment = {
        "OCI_REGISTRY": registry,
        "OCI_TLS": "disabled",
        "OCI_REPO1": REPOSITORY,
        "OCI_REPO2": "conformance/two",
        "OCI_RESULTS_DIR": str(results),
        **deletes,
        **settings,
    }
    words = [f"{name}={value}" for name, value in environment.items()]
    binary = str(toolchain.CONFORMANCE.folder / "conformance")
    return subprocess.run(
        [*prefix, "env", *words, binary], cwd=results, capture_output=True, text=True, check=False, timeout=300
    ).stdout


def summary(report: str) -> dict[str, str]:
    """`Blob get: Pass` and the like, and the numbers of the tests."""
    lines = report[report.index("OCI Conformance Result") :].splitlines()
    pairs = [line.strip().split("..:") for line in lines if "..:" in line]
    return {name.rstrip("."): value.strip() for name, value in pairs}


@pytest.mark.parametrize("state", ["cold", "hot"])
def test_everything_that_can_be_read_is_read_as_the_specification_says(
    state: str, content: Mapping[str, str], sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.reset_upstream()
    read_only = {"OCI_API_PUSH": "false", "OCI_API_REFERRER": "false"}
    report = run_suite(in_network([]), ENTRY, tmp_path, {**content, **read_only})
    assert PASSED in report, report
    found = summary(report)
    assert int(found["FAIL"]) == 0
    assert int(found["Pass"]) > 200, "the suite is to have asked for all that is there"
    assert {name: found[name] for name in READS} == dict.fromkeys(READS, "Pass")
    if state == "hot":
        assert sandbox.upstream()["blob_gets"] == 0, "the cache has it all by now"


def test_a_part_of_a_blob_is_that_part(content: Mapping[str, str], sandbox: Sandbox) -> None:
    """What the suite asks of a registry that takes pushes alone."""
    for blob in content["OCI_RO_DATA_BLOBS"].split()[:5]:
        url = f"http://{ENTRY}/v2/{REPOSITORY}/blobs/{blob}"
        whole = sandbox.on("pai-master", "sh", "-c", f"curl -sSf {url} | od -An -v -tx1").split()
        part = sandbox.on("pai-master", "sh", "-c", f"curl -sSf -r 1-2 {url} | od -An -v -tx1").split()
        assert part == whole[1:3]
