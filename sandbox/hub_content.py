"""Pushes the images that the hub serves; runs in the hub's network namespace."""

import urllib.error
import urllib.parse
import urllib.request
from email.message import Message

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
    }
    apps = {
        f"library/app:{n}": Image(layers=(shell, noise_layer(f"app-{n}", 16 * MIB)), command=("sh",))
        for n in range(1, 5)
    }
    return images | apps


def push(repository: str, tag: str, image: Image) -> None:
    for blob in (*image.layers, image.config()):
        if not exists(f"/v2/{repository}/blobs/{digest(blob)}"):
            upload = send("POST", f"/v2/{repository}/blobs/uploads/", b"")["Location"]
            separator = "&" if "?" in upload else "?"
            send(
                "PUT", f"{upload}{separator}digest={urllib.parse.quote(digest(blob))}", blob, "application/octet-stream"
            )
    send("PUT", f"/v2/{repository}/manifests/{tag}", image.manifest(), MANIFEST_TYPE)


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
    for reference, image in content().items():
        repository, tag = reference.split(":")
        push(repository, tag, image)


if __name__ == "__main__":
    main()
