"""Container images made from files, without an engine: docker archives for the cluster, pushes for the hub."""

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar"

PIECE = 64 << 20

SHELL_TOOLS = """
    [ awk basename cat chmod chown cmp cp cut date dd df dirname du echo env expr false find grep gzip head hostname id kill
    ln ls md5sum mkdir mkfifo mktemp mv nc od printf ps pwd readlink rm rmdir sed seq sh sha256sum sleep sort stat sync tail
    tar tee test timeout touch tr true truncate uniq wc wget which xargs
"""
"""Of what Alpine has, too, and so the official images."""


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
    user: str = ""

    def config(self) -> bytes:
        settings: dict[str, object] = {"Entrypoint": self.entrypoint, "Cmd": self.command, "Env": self.environment}
        if self.user:
            settings["User"] = self.user
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
    links = [Entry(path=f"bin/{tool}", link="busybox") for tool in SHELL_TOOLS.split()]
    folder_marks = [
        Entry(path="tmp/.keep"),
        Entry(path="etc/passwd", data=b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"),
    ]
    return layer([Entry(path="bin/busybox", data=busybox.read_bytes(), mode=0o755), *links, *folder_marks])


def noise_layer(name: str, size: int) -> bytes:
    """`size` bytes that do not compress, the same at every call."""
    source = random.Random(name)
    # All at once it can't be more than 256 MiB.
    data = b"".join(source.randbytes(min(PIECE, size - begun)) for begun in range(0, size, PIECE))
    return layer([Entry(path=f"data/{name}", data=data)])


def write_archive(target: Path, images: Mapping[str, Image]) -> None:
    """Write a docker archive (`docker save`) of images by their references, as `ctr images import` reads it."""
    files: dict[str, bytes] = {}
    index = []
    for reference, image in images.items():
        config = image.config()
        config_name = digest(config).removeprefix("sha256:") + ".json"
        layers = {digest(data).removeprefix("sha256:") + "/layer.tar": data for data in image.layers}
        files |= {config_name: config} | layers
        index.append({"Config": config_name, "RepoTags": [reference], "Layers": list(layers)})
    files["manifest.json"] = json.dumps(index).encode()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(target, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
