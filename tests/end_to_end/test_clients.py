"""Every client that the cache is for, with images for several platforms, in OCI's form (zstd layers) and in docker's.

The hub is away while they pull: what they get is the cache's. The images are there since they were fetched ahead.
"""

import json
from collections.abc import Iterator

import pytest

from sandbox.hub_content import indexes
from sandbox.images import digest
from tests.end_to_end.conftest import Sandbox, dev_nodes

HOSTPORT = "10.30.0.10:30500"
OCI, DOCKER = "docker.io/library/multi:oci", "docker.io/library/multi:docker"
PREFETCHED = ["multi:oci", "multi:docker"]
PODMAN_NODE = dev_nodes("pai-worker1")[0] | {"name": "pai-worker4", "host": "10.30.0.14"}
IS_AMD64 = "This is for amd64"


@pytest.fixture(scope="module", autouse=True)
def deployed(sandbox: Sandbox) -> Iterator[None]:
    sandbox.empty_store()
    sandbox.up(docker_cache_nodes=[*dev_nodes(), PODMAN_NODE], docker_cache_prefetch=PREFETCHED)
    sandbox.on("hub", "systemctl", "stop", "hub")
    yield
    sandbox.on("hub", "systemctl", "start", "hub")
    sandbox.destroy()


def document(image: str) -> bytes:
    """The index that the hub has under the name."""
    return indexes()[image.removeprefix("docker.io/")].document().text


@pytest.mark.parametrize(("machine", "image"), [("pai-worker1", DOCKER), ("pai-worker2", DOCKER), ("pai-worker2", OCI)])
def test_docker(machine: str, image: str, sandbox: Sandbox) -> None:
    """Debian's 20.10 knows no zstd."""
    sandbox.pull_anew(machine, image)
    assert sandbox.on(machine, "docker", "run", "--rm", image) == IS_AMD64
    (named,) = json.loads(sandbox.on(machine, "docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image))
    assert named.endswith(digest(document(image))), "the index is what an image is known by"


@pytest.mark.parametrize("image", [DOCKER, OCI])
def test_ctr(image: str, sandbox: Sandbox) -> None:
    """2.4; Debian's 1.6 knows zstd too, and is the kubelet's below."""
    folder = ("--hosts-dir", "/etc/containerd/certs.d")
    sandbox.on("pai-worker3", "ctr", "images", "pull", *folder, "--platform", "linux/amd64", image)
    said = sandbox.on("pai-worker3", "ctr", "images", "ls", f"name=={image}")
    assert digest(document(image)) in said
    assert sandbox.on("pai-worker3", "ctr", "run", "--rm", image, "client") == IS_AMD64


@pytest.mark.parametrize("machine", ["pai-master", "pai-worker3", "pai-worker4"])
@pytest.mark.parametrize("image", [DOCKER, OCI])
def test_cri(machine: str, image: str, sandbox: Sandbox) -> None:
    """containerd 1.6, 2.4, and CRI-O."""
    sandbox.try_on(machine, "crictl", "rmi", image)
    sandbox.on(machine, "crictl", "pull", image)
    found = json.loads(sandbox.on(machine, "crictl", "inspecti", "--output", "json", image))
    assert any(name.endswith(digest(document(image))) for name in found["status"]["repoDigests"])


@pytest.mark.parametrize("image", [DOCKER, OCI])
def test_podman(image: str, sandbox: Sandbox) -> None:
    sandbox.try_on("pai-worker4", "podman", "image", "rm", "--force", image)
    sandbox.on("pai-worker4", "podman", "pull", "--quiet", image)
    assert sandbox.on("pai-worker4", "podman", "run", "--rm", "--network=none", image) == IS_AMD64


@pytest.mark.parametrize("image", [DOCKER, OCI])
def test_skopeo_copies_all_platforms_and_every_digest_is_right(image: str, sandbox: Sandbox) -> None:
    """It is told the entry itself, as an administrator would."""
    source = f"docker://{HOSTPORT}/{image.removeprefix('docker.io/')}"
    raw = sandbox.on("pai-worker4", "skopeo", "inspect", "--raw", "--tls-verify=false", source)
    assert raw == document(image).decode()
    target = f"/tmp/skopeo-{image.rpartition(':')[2]}"
    copy = ("skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", source, f"dir:{target}")
    sandbox.on("pai-worker4", *copy)
    names = sandbox.on("pai-worker4", "ls", target).split()
    blobs = [digest(blob).removeprefix("sha256:") for blob in indexes()[image.removeprefix("docker.io/")].blobs()]
    assert set(blobs) <= set(names)
    sums = sandbox.on("pai-worker4", "sh", "-c", f"cd {target} && sha256sum {' '.join(sorted(set(blobs)))}")
    assert all(line.split()[0] == line.split()[1] for line in sums.splitlines())
