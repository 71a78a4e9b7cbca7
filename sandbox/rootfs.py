"""Debian roots, made once with mmdebstrap from the host's own sources: that which every machine of the sandbox lies over."""

import contextlib
import hashlib
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandbox.layout import CACHE, LOGS
from sandbox.progress import step

SUITE = "bookworm"
PACKAGES = (
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    "containernetworking-plugins",
    "curl",
    "dbus",
    "dnsmasq-base",
    "docker.io",
    "etcd-client",
    "etcd-server",
    "iproute2",
    "ipset",
    "iptables",
    "kmod",
    "openssh-server",
    "podman",
    "procps",
    "python3",
    "python3-aiohttp",
    "skopeo",
    "sudo",
    "systemd",
    "systemd-sysv",
)
IDLE_UNITS = (
    "cni-dhcp.service",
    "cni-dhcp.socket",
    "containerd.service",
    "docker.service",
    "docker.socket",
    "etcd.service",
    "podman-auto-update.service",
    "podman-auto-update.timer",
    "podman-restart.service",
    "podman.service",
    "podman.socket",
    "ssh.service",
    "systemd-networkd-wait-online.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-timesyncd.service",
)
"""Nothing starts by itself: each machine names its units in `layout.py`."""
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-logind.service",
    "systemd-update-utmp.service",
)
"""What a machine does without: each takes time, memory and inotify instances, which are the whole host's."""

STAMP = hashlib.sha256(repr((SUITE, PACKAGES, IDLE_UNITS, MASKED_UNITS)).encode()).hexdigest()
ROOTFS = CACHE / f"rootfs-{STAMP[:12]}"
"""Named by what is in it: another checkout's machines may be running on one with other packages."""
SOURCES_LISTS = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources")


def ensure() -> None:
    if ROOTFS.is_dir():
        return
    with step("Making the machines' Debian root (about a minute)", log=LOGS / "rootfs.log") as log:
        make(log)


def make(log: Path) -> None:
    partial = ROOTFS.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    bootstrap(
        SUITE,
        partial,
        [
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            f'--customize-hook=chroot "$1" systemctl disable {" ".join(IDLE_UNITS)}',
            f'--customize-hook=chroot "$1" systemctl mask {" ".join(MASKED_UNITS)}',
            '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/machine-id "$1"/etc/resolv.conf',
        ],
        log,
    )
    partial.rename(ROOTFS)


def bootstrap(suite: str, target: Path, options: Sequence[str], log: Path) -> None:
    """A root without manuals, as a folder or a tar archive."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output, tempfile.NamedTemporaryFile("w", prefix="docker-cache-apt-") as settings:
        # What the host's apt needs to reach its sources (a proxy, clocks that are off), mmdebstrap's needs too.
        settings.write(
            subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
        )
        settings.flush()
        with sources_of(suite) as sources:
            subprocess.run(
                [
                    "mmdebstrap",
                    f"--aptopt={settings.name}",
                    "--dpkgopt=path-exclude=/usr/share/man/*",
                    "--dpkgopt=path-exclude=/usr/share/doc/*",
                    *options,
                    suite,
                    str(target),
                    *sources,
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
            )


@contextlib.contextmanager
def sources_of(suite: str) -> Iterator[list[str]]:
    """The host's lists of sources, with the suite in the place of the host's own."""
    own = platform.freedesktop_os_release().get("VERSION_CODENAME", suite)
    with tempfile.TemporaryDirectory(prefix="docker-cache-sources-") as folder:
        lists = []
        for source in (Path(name) for name in SOURCES_LISTS):
            if source.is_file():
                lists.append(Path(folder) / source.name)
                lists[-1].write_text(re.sub(rf"\b{re.escape(own)}\b", suite, source.read_text()))
        yield [str(file) for file in lists]
