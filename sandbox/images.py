"""Container images made from files, without an engine: docker archives for the cluster, pushes for the hub."""

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"

SHELL_TOOLS = (
    "sh",
    "awk",
    "cat",
    "date",
    "df",
    "echo",
    "kill",
    "ls",
    "mkdir",
    "mkfifo",
    "nc",
    "rm",
    "sleep",
    "tail",
    "tee",
    "wget",
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file (or symbolic link) of a layer."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class Image:
    """Layers with the process that the image starts."""

    layers: tuple[bytes, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[str, ...] = field(default=("PATH=/usr/local/bin:/usr/bin:/bin",))

    def config(self) -> bytes:
        settings = {"Entrypoint": self.entrypoint, "Cmd": self.command, "Env": self.environment}
        rootfs = {"type": "layers", "diff_ids": [digest(layer) for layer in self.layers]}
        return json.dumps({"architecture": "amd64", "os": "linux", "config": settings, "rootfs": rootfs}).encode()

    def manifest(self) -> bytes:
        config = self.config()
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": digest(config)},
                "layers": [
                    {"mediaType": LAYER_TYPE, "size": len(layer), "digest": digest(layer)} for layer in self.layers
                ],
            }
        ).encode()


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(entries: Iterable[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode = entry.mode
            if entry.link:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
            member.size = len(entry.data)
            archive.addfile(member, io.BytesIO(entry.data))
    return buffer.getvalue()


def shell_layer(busybox: Path) -> bytes:
    """A small userland, as Alpine's, from one static busybox."""
    links = [Entry(path=f"bin/{tool}", link="busybox") for tool in SHELL_TOOLS]
    folder_marks = [Entry(path="tmp/.keep"), Entry(path="etc/passwd", data=b"root:x:0:0::/:/bin/sh\n")]
    return layer([Entry(path="bin/busybox", data=busybox.read_bytes(), mode=0o755), *links, *folder_marks])


def noise_layer(name: str, size: int) -> bytes:
    """`size` bytes that do not compress, the same at every call."""
    return layer([Entry(path=f"data/{name}", data=random.Random(name).randbytes(size))])


def write_archive(target: Path, reference: str, image: Image) -> None:
    """Write a docker archive (`docker save`), as `ctr images import` reads it."""
    config = image.config()
    config_name = digest(config).removeprefix("sha256:") + ".json"
    names = [digest(data).removeprefix("sha256:") + "/layer.tar" for data in image.layers]
    index = json.dumps([{"Config": config_name, "RepoTags": [reference], "Layers": names}]).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as archive:
        for name, data in ((config_name, config), *zip(names, image.layers, strict=True), ("manifest.json", index)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
