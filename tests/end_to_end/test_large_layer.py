"""Layers that are larger than what the front keeps: a layer of 5 GB, and eight of 2 GB at once, whole and in bounded memory.

They are zeros, of which a sparse file on the hub has any number. The cache writes them out: its store is on the host's disk here.
"""

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest

from sandbox.images import CONFIG_TYPE, LAYER_TYPE, MANIFEST_TYPE, digest
from sandbox.processes import leader_pid
from tests.end_to_end.conftest import Sandbox, dev_nodes

REPOSITORY = "library/large"
ENTRY = "http://10.30.0.10:30500"
BLOBS = f"{ENTRY}/v2/{REPOSITORY}/blobs"
GIB = 1 << 30
FIVE = 5 * GIB
EIGHT = [2 * GIB + number * 512 for number in range(8)]
"""Another length is another digest."""
UPSTREAM = "http://10.30.0.2:5005"
"""The hub's registry itself, without the one before it, which is slower than a client."""
UNIT = "plain-upstream"
MEMORY_OF_THE_FRONT = 1 * GIB
PUSH = "import sys; from sandbox import hub_content as hub; hub.push_blob(sys.argv[1], sys.argv[2].encode()); hub.send('PUT', f'/v2/{sys.argv[1]}/manifests/1', sys.argv[3].encode(), sys.argv[4])"


@pytest.fixture(scope="module")
def digests() -> Mapping[int, str]:
    return {size: f"sha256:{name}" for size, name in digests_of_zeros([FIVE, *EIGHT]).items()}


def digests_of_zeros(sizes: Sequence[int]) -> dict[int, str]:
    """In one pass."""
    state, done, found, part = hashlib.sha256(), 0, {}, bytes(1 << 20)
    for size in sorted(sizes):
        while size - done >= len(part):
            state.update(part)
            done += len(part)
        rest = state.copy()
        rest.update(bytes(size - done))
        found[size] = rest.hexdigest()
    return found


@pytest.fixture(scope="module", autouse=True)
def deployed(sandbox: Sandbox, digests: Mapping[int, str]) -> Iterator[None]:
    """The Job that fetches ahead is the first client, and one that verifies what it gets."""
    for size, name in digests.items():
        place(size, name.removeprefix("sha256:"))
    push_manifest(FIVE, digests[FIVE])
    start_upstream(sandbox)
    sandbox.up(
        docker_cache_nodes=dev_nodes("pai-master"),
        docker_cache_remote_url=UPSTREAM,
        docker_cache_fs_mount_path="/var/lib/roomy/registry",
        docker_cache_proof="false",
        docker_cache_prefetch=["large:1"],
    )
    yield
    sandbox.try_on("hub", "systemctl", "stop", UNIT)
    sandbox.destroy()
    sandbox.on("pai-master", "rm", "-rf", "/var/lib/roomy/registry")
    sandbox.on("hub", "rm", "-rf", f"/var/lib/hub/docker/registry/v2/repositories/{REPOSITORY}")


def start_upstream(sandbox: Sandbox) -> None:
    settings = ("--setenv=REGISTRY_HTTP_ADDR=:5005", "--setenv=OTEL_TRACES_EXPORTER=none")
    command = ("/opt/tools/registry", "serve", "/opt/hub/registry.yml")
    sandbox.on("hub", "systemd-run", "--quiet", "--collect", f"--unit={UNIT}", *settings, *command)


def place(size: int, name: str) -> None:
    """As if it had been pushed."""
    registry = Path(f"/proc/{leader_pid('hub')}/root/var/lib/hub/docker/registry/v2")
    folder = registry / "blobs/sha256" / name[:2] / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "data").open("wb") as file:
        file.truncate(size)
    link = registry / "repositories" / REPOSITORY / "_layers/sha256" / name / "link"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.write_text(f"sha256:{name}")


def push_manifest(size: int, name: str) -> None:
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [name]}})
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": digest(config.encode())},
        "layers": [{"mediaType": LAYER_TYPE, "size": size, "digest": name}],
    }
    hub = ["nsenter", "--target", str(leader_pid("hub")), "--net", "--"]
    words = [REPOSITORY, config, json.dumps(manifest), MANIFEST_TYPE]
    subprocess.run([*hub, sys.executable, "-c", PUSH, *words], check=True)


def test_a_layer_of_5_gb_is_the_caches_and_its_digest_is_right(sandbox: Sandbox, digests: Mapping[int, str]) -> None:
    sandbox.on("hub", "systemctl", "stop", UNIT)
    fetch = f"curl -sSf {BLOBS}/{digests[FIVE]} | sha256sum"
    assert sandbox.on("pai-worker1", "sh", "-c", fetch, seconds=600).split()[0] == digests[FIVE].removeprefix("sha256:")


def test_skopeo_copies_the_whole_image_with_the_upstream_away(sandbox: Sandbox) -> None:
    """It verifies each digest as it copies."""
    target = "/var/lib/roomy/skopeo"
    copy = ("skopeo", "copy", "--quiet", "--insecure-policy", "--preserve-digests", "--src-tls-verify=false")
    try:
        image = f"docker://{ENTRY.removeprefix('http://')}/{REPOSITORY}:1"
        sandbox.on("pai-master", *copy, image, f"dir:{target}", seconds=500)
        assert str(FIVE) in sandbox.on("pai-master", "sh", "-c", f"stat --format %s {target}/*").splitlines()
    finally:
        sandbox.on("pai-master", "rm", "-rf", target)


class Memory:
    """The most that the front's processes have had for themselves, looked at again and again."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        front, ask = self._sandbox.front(), "grep -h RssAnon /proc/[0-9]*/status"
        while not self._over.wait(2):
            said = self._sandbox.kubectl("exec", front, "-c", "front", "--", "sh", "-c", ask)
            self.most = max(self.most, sum(int(line.split()[1]) << 10 for line in said.splitlines()))


def test_eight_layers_of_2_gb_at_once_come_whole_and_leave_the_front_its_memory(
    sandbox: Sandbox, digests: Mapping[int, str]
) -> None:
    """Their clients are slower than the upstream: what they have not taken yet must not pile up."""
    start_upstream(sandbox)
    fetches = [
        f"curl -sS --limit-rate 60M -o /dev/null -w '%{{http_code}} %{{size_download}}\\n' {BLOBS}/{digests[size]} &"
        for size in EIGHT
    ]
    with Memory(sandbox) as memory:
        said = sandbox.on("pai-worker1", "sh", "-c", " ".join([*fetches, "wait"]), seconds=900)
    assert sorted(said.splitlines()) == sorted(f"200 {size}" for size in EIGHT), "none is cut"
    assert 0 < memory.most < MEMORY_OF_THE_FRONT
    states = sandbox.kubectl(
        "get", "pod", sandbox.front(), "-o", "jsonpath={.status.containerStatuses[*].restartCount}"
    )
    assert set(states.split()) == {"0"}, "the front was ended for its memory"
