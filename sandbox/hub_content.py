"""Pushes the images that the hub and the other public registries serve; runs in the hub's network namespace.

With arguments (REPOSITORY:TAG MIB) an image with one layer of that size instead, for a test that needs it.
"""

import sys
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message

from sandbox.image_index import DOCKER, OCI, Index
from sandbox.images import MANIFEST_TYPE, Image, digest, noise_layer, shell_layer
from sandbox.rootfs import ROOTFS

REGISTRY = "http://127.0.0.1:5001"
MIB = 1 << 20


def content() -> dict[str, Image]:
    shell = shell_layer(ROOTFS / "bin/busybox")
    hello = ("/bin/sh", "-c", "echo Hello from the sandbox")
    images = {
        "library/hello-world:latest": Image(layers=(shell,), entrypoint=hello),
        "library/busybox:latest": Image(layers=(shell,), command=("sh",)),
        # The image that the hub has for those who want to know how many pulls they have left.
        "ratelimitpreview/test:latest": Image(layers=(shell,), command=("sh",)),
    }
    apps = {
        f"library/app:{n}": Image(layers=(shell, noise_layer(f"app-{n}", 16 * MIB)), command=("sh",))
        for n in range(1, 5)
    }
    return images | apps | others(shell)


def others(shell: bytes) -> dict[str, Image]:
    """Below each registry's prefix. quay.io has an image of its own that is called as one of the hub's."""
    names = (
        "quay.io/library/app:1",
        "quay.io/team/app:1",
        "quay.io/team/app:2",
        "ghcr.io/org/app:1",
        "ghcr.io/org/app:2",
    )
    return {
        name: Image(layers=(shell, noise_layer(name, MIB)), command=("sh",))
        for name in (*names, "private.example/team/app:1")
    }


def indexes() -> dict[str, Index]:
    """The same image for two architectures, in both forms. Another architecture's says so where it is run."""
    shell = shell_layer(ROOTFS / "bin/busybox")
    images = {
        architecture: Image(
            layers=(shell, noise_layer(f"multi-{architecture}", MIB)),
            command=("/bin/sh", "-c", f"echo This is for {architecture}"),
        )
        for architecture in ("amd64", "arm64")
    }
    return {
        "library/multi:oci": Index(form=OCI, images=images),
        "library/multi:docker": Index(form=DOCKER, images=images),
        "ghcr.io/org/multi:1": Index(form=OCI, images=images),
    }


def push_index(repository: str, tag: str, index: Index) -> None:
    for blob in index.blobs():
        push_blob(repository, blob)
    for manifest in index.manifests().values():
        send("PUT", f"/v2/{repository}/manifests/{digest(manifest.text)}", manifest.text, manifest.media_type)
    document = index.document()
    send("PUT", f"/v2/{repository}/manifests/{tag}", document.text, document.media_type)


def push(repository: str, tag: str, image: Image) -> None:
    for blob in (*image.layers, image.config()):
        push_blob(repository, blob)
    send("PUT", f"/v2/{repository}/manifests/{tag}", image.manifest(), MANIFEST_TYPE)


def push_blob(repository: str, blob: bytes) -> None:
    if exists(f"/v2/{repository}/blobs/{digest(blob)}"):
        return
    upload = send("POST", f"/v2/{repository}/blobs/uploads/", b"")["Location"]
    separator = "&" if "?" in upload else "?"
    send("PUT", f"{upload}{separator}digest={urllib.parse.quote(digest(blob))}", blob, "application/octet-stream")


def exists(path: str) -> bool:
    try:
        send("HEAD", path, None)
    except urllib.error.HTTPError:
        return False
    return True


def send(method: str, path: str, data: bytes | None, content_type: str = "") -> Message:
    url = urllib.parse.urljoin(REGISTRY, path)
    request = urllib.request.Request(
        url, data=data, method=method, headers={"Content-Type": content_type} if content_type else {}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        headers: Message = answer.headers
        return headers


def main() -> None:
    if sys.argv[1:]:
        reference, size = sys.argv[1:]
        repository, tag = reference.split(":")
        push(repository, tag, Image(layers=(noise_layer(reference, int(size) * MIB),)))
        return
    for reference, image in content().items():
        repository, tag = reference.split(":")
        push(repository, tag, image)
    for reference, index in indexes().items():
        repository, tag = reference.split(":")
        push_index(repository, tag, index)


if __name__ == "__main__":
    main()
