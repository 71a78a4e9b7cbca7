"""The images that pods start with: they are imported when the machines boot, and pulled from nowhere.

Each stands for the official one of its name: the real program in a userland like that one's (a shell, df and so on).
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from sandbox import front_images
from sandbox.images import Entry, Image, layer, shell_layer, write_archive
from sandbox.layout import BIN, STATE
from sandbox.rootfs import ROOTFS


@dataclass(frozen=True, kw_only=True)
class ProgramImage:
    """A small userland and one program, at the path where the official image has it."""

    program: Path
    path: str
    image: Image


PROGRAM_IMAGES = {
    "docker.io/library/registry:3.1.2": ProgramImage(
        program=BIN / "registry" / "registry",
        path="bin/registry",
        image=Image(layers=(), entrypoint=("registry",), command=("serve", "/etc/distribution/config.yml")),
    ),
    "docker.io/prom/node-exporter:v1.9.1": ProgramImage(
        program=BIN / "node-exporter" / "node_exporter",
        path="bin/node_exporter",
        image=Image(layers=(), entrypoint=("/bin/node_exporter",), user="nobody"),
    ),
    "ghcr.io/regclient/regctl:v0.9.2-alpine": ProgramImage(
        program=BIN / "regctl" / "regctl",
        path="usr/local/bin/regctl",
        image=Image(layers=(), entrypoint=("/usr/local/bin/regctl",), user="1000"),
    ),
}
REFERENCES = (*PROGRAM_IMAGES, *front_images.IMAGES)


def write(folder: Path) -> None:
    """`node/` is every kubelet's, `cluster/` that of the one whose node has the cache's pods."""
    pause = layer([Entry(path="pause", data=(BIN / "pause" / "pause").read_bytes(), mode=0o755)])
    write_archive(
        folder / "node" / "pause.tar", {"registry.k8s.io/pause:3.10": Image(layers=(pause,), entrypoint=("/pause",))}
    )
    shell = shell_layer(ROOTFS / "bin/busybox")
    write_archive(
        folder / "cluster" / "programs.tar",
        {
            reference: replace(made.image, layers=(shell, program_layer(made)))
            for reference, made in PROGRAM_IMAGES.items()
        },
    )
    place(front_images.ARCHIVE, folder / "cluster" / "front.tar")


def program_layer(made: ProgramImage) -> bytes:
    """The program, and the certificates that it trusts, the sandbox's own CA among them."""
    roots = (ROOTFS / "etc/ssl/certs/ca-certificates.crt").read_bytes() + (STATE / "keys/ca.crt").read_bytes()
    return layer(
        [
            Entry(path=made.path, data=made.program.read_bytes(), mode=0o755),
            Entry(path="etc/ssl/certs/ca-certificates.crt", data=roots),
        ]
    )


def place(source: Path, target: Path) -> None:
    """Another name for a large file; a copy where the two lie on different disks."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
