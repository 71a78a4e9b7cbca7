"""Layers that are larger than what the front keeps: a layer of 5 GB, and eight of 2 GB at once, whole and in bounded memory.

They are zeros, of which a sparse file on the hub has any number. The cache and the engines write them out: their stores are on the
host's disk here.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
HEADER = tarfile.TarInfo("zeros")
HEADER.size = 5 * GIB
FIVE = tarfile.BLOCKSIZE + HEADER.size + 2 * tarfile.BLOCKSIZE
"""A tar archive of one file of 5 GB, which engines unpack."""
EIGHT = [2 * GIB + number * 512 for number in range(8)]
"""Another length is another digest."""
UPSTREAM = "http://10.30.0.2:5005"
"""The hub's registry itself, without the one before it, which is slower than a client."""
UNIT = "plain-upstream"
MEMORY_OF_THE_FRONT = 1 * GIB
PUSH = "import sys; from sandbox import hub_content as hub; hub.push_blob(sys.argv[1], sys.argv[2].encode()); hub.send('PUT', f'/v2/{sys.argv[1]}/manifests/1', sys.argv[3].encode(), sys.argv[4])"


@dataclass(frozen=True, kw_only=True)
class Engine:
    """How a node's engine pulls the image, and which of its services and folders hold what it has pulled."""

    machine: str
    services: tuple[str, ...]
    folders: tuple[str, ...]
    pull: tuple[str, ...]


IMAGE = "docker.io/library/large:1"
DOCKER = ("containerd", "docker.socket", "docker")
DOCKERS_FOLDERS = ("/var/lib/docker", "/var/lib/containerd")
CONTAINERDS = ("/var/lib/containerd",)
CONTAINERS = ("/var/lib/containers",)
HOSTS = ("--hosts-dir", "/etc/containerd/certs.d")
ENGINES = {
    "docker 20.10": Engine(
        machine="pai-worker1", services=DOCKER, folders=DOCKERS_FOLDERS, pull=("docker", "pull", "--quiet")
    ),
    "docker 29": Engine(
        machine="pai-worker2", services=DOCKER, folders=DOCKERS_FOLDERS, pull=("docker", "pull", "--quiet")
    ),
    "ctr": Engine(
        machine="pai-worker3", services=("containerd",), folders=CONTAINERDS, pull=("ctr", "images", "pull", *HOSTS)
    ),
    "containerd by CRI": Engine(
        machine="pai-worker3", services=("containerd",), folders=CONTAINERDS, pull=("crictl", "pull")
    ),
    "podman": Engine(machine="pai-worker4", services=("crio",), folders=CONTAINERS, pull=("podman", "pull", "--quiet")),
    "CRI-O": Engine(machine="pai-worker4", services=("crio",), folders=CONTAINERS, pull=("crictl", "pull")),
}
NODES = [*dev_nodes(), dev_nodes("pai-worker1")[0] | {"name": "pai-worker4", "host": "10.30.0.14"}]


@pytest.fixture(scope="module")
def digests() -> Mapping[int, str]:
    eight = digests_of_zeros(EIGHT, hashlib.sha256())
    five = digests_of_zeros([FIVE - tarfile.BLOCKSIZE], hashlib.sha256(HEADER.tobuf()))
    return eight | {FIVE: five[FIVE - tarfile.BLOCKSIZE]}


def digests_of_zeros(sizes: Sequence[int], state: "hashlib._Hash") -> dict[int, str]:
    """In one pass, after what the state has."""
    done, found, part = 0, {}, bytes(1 << 20)
    for size in sorted(sizes):
        while size - done >= len(part):
            state.update(part)
            done += len(part)
        rest = state.copy()
        rest.update(bytes(size - done))
        found[size] = f"sha256:{rest.hexdigest()}"
    return found


@pytest.fixture(scope="module", autouse=True)
def deployed(sandbox: Sandbox, digests: Mapping[int, str]) -> Iterator[None]:
    """The Job that fetches ahead is the first client, and one that verifies what it gets."""
    for size, name in digests.items():
        place(size, name.removeprefix("sha256:"), HEADER.tobuf() if size == FIVE else b"")
    push_manifest(FIVE, digests[FIVE])
    start_upstream(sandbox)
    sandbox.up(
        docker_cache_nodes=NODES,
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


def place(size: int, name: str, begin: bytes) -> None:
    """As if it had been pushed: zeros after what it begins with."""
    registry = Path(f"/proc/{leader_pid('hub')}/root/var/lib/hub/docker/registry/v2")
    folder = registry / "blobs/sha256" / name[:2] / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "data").open("wb") as file:
        file.write(begin)
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


@pytest.fixture(scope="module")
def hub_away(sandbox: Sandbox) -> Iterator[None]:
    sandbox.on("hub", "systemctl", "stop", "hub")
    sandbox.try_on("hub", "systemctl", "stop", UNIT)
    yield
    sandbox.on("hub", "systemctl", "start", "hub")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.usefixtures("hub_away")
def test_an_engine_pulls_and_unpacks_it_with_the_hub_away(name: str, sandbox: Sandbox) -> None:
    """It verifies the digest, and could have the image from nowhere else."""
    engine = ENGINES[name]
    with on_disk(sandbox, engine):
        sandbox.on(engine.machine, *engine.pull, IMAGE, seconds=600)
        # The engine's own snapshot of it, whatever its layout.
        unpacked = sandbox.on(
            engine.machine, "find", "/var/lib/roomy", "-name", HEADER.name, "-size", f"{HEADER.size}c"
        )
        assert unpacked


@contextmanager
def on_disk(sandbox: Sandbox, engine: Engine) -> Iterator[None]:
    """What the engine keeps lies on the host's disk, and is gone afterwards."""
    machine = engine.machine
    stop = ("systemctl", "stop", *reversed(engine.services))
    sandbox.on(machine, *stop)
    for folder in engine.folders:
        sandbox.on(machine, "mkdir", "-p", f"/var/lib/roomy{folder}")
        sandbox.on(machine, "mount", "--bind", f"/var/lib/roomy{folder}", folder)
    sandbox.on(machine, "systemctl", "start", *engine.services)
    try:
        yield
    finally:
        sandbox.on(machine, *stop)
        for folder in engine.folders:
            sandbox.on(machine, "umount", "--recursive", folder)
        sandbox.on(machine, "rm", "-rf", "/var/lib/roomy/var")
        sandbox.on(machine, "systemctl", "start", *engine.services)


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
