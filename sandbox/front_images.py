"""The images of the cache's front, varnish and haproxy: stand-ins for the official ones, made once from Debian's packages.

The official images are Debian with one program each. Here both programs lie in one layer, which the cluster keeps once:
a machine's disk is memory. What a pod starts in one of them, it finds in the official one as well, if it names that
program's own commands, the compiler that varnish needs, or what every Debian has.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from sandbox.images import Image, write_archive
from sandbox.layout import CACHE, LOGS
from sandbox.progress import step
from sandbox.rootfs import bootstrap

SUITE = "trixie"
"""The first with a Varnish that bounds what a passed stream may hold in memory."""
PACKAGES = ("ca-certificates", "haproxy", "varnish")
USELESS = (
    "boot",
    "etc/machine-id",
    "etc/resolv.conf",
    "usr/bin/*-lto-dump*",
    "usr/bin/*gp-*",
    "usr/bin/*gprofng*",
    "usr/bin/perl*",
    "usr/include/drm",
    "usr/include/linux",
    "usr/lib/gcc/*/*/lib*san.a",
    "usr/lib/linux",
    "usr/lib/systemd",
    "usr/lib/*/gconv",
    "usr/lib/*/gprofng",
    "usr/lib/*/lib*san.*",
    "usr/lib/*/libc.a",
    "usr/lib/*/libgprofng*",
    "usr/lib/*/libm-*.a",
    "usr/lib/*/libmvec.a",
    "usr/lib/*/perl-base",
    "usr/lib/*/systemd",
    "usr/libexec/gcc/*/*/lto*",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/perl5",
    "usr/share/zoneinfo",
    "var/cache/*",
    "var/lib/apt/lists/*",
    "var/lib/dpkg",
    "var/log/*",
)
"""What Debian's packages have beyond what the two programs use: two thirds."""
USERS = {"varnish": 1000, "haproxy": 99}
"""The official images' numbers, by which a pod runs and owns its files."""
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IMAGES = {
    "docker.io/library/varnish:7.7.3": Image(
        layers=(), command=("varnishd", "-F", "-f", "/etc/varnish/default.vcl"), environment=(PATH,), user="varnish"
    ),
    "docker.io/library/haproxy:3.2.4": Image(
        layers=(),
        command=("haproxy", "-W", "-db", "-f", "/etc/haproxy/haproxy.cfg"),
        environment=(PATH,),
        user="haproxy",
    ),
}
STAMP = hashlib.sha256(repr((SUITE, PACKAGES, USELESS, USERS, IMAGES)).encode()).hexdigest()
ARCHIVE = CACHE / f"front-images-{STAMP[:12]}.tar"
"""Named by what is in it, as the machines' root is."""


def ensure() -> None:
    if ARCHIVE.is_file():
        return
    with step("Making the images of the cache's front (about a minute)", log=LOGS / "front-images.log") as log:
        make(log)


def make(log: Path) -> None:
    layer, partial = ARCHIVE.with_suffix(".layer.tar"), ARCHIVE.with_suffix(".partial")
    layer.unlink(missing_ok=True)
    owners = "".join(
        f"usermod --uid {number} {user} && groupmod --gid {number} {user} && chown {user}:{user} /var/lib/{user}\n"
        for user, number in USERS.items()
    )
    bootstrap(
        SUITE,
        layer,
        [
            "--variant=essential",
            f"--include={','.join(PACKAGES)}",
            # Device files are the container engine's to make.
            "--skip=output/dev",
            # What apt leaves goes with the rest that is useless.
            "--skip=cleanup/apt",
            f"--customize-hook=chroot \"$1\" sh -ec '{owners}'",
            '--customize-hook=cd "$1" && rm -rf ' + " ".join(USELESS),
        ],
        log,
    )
    data = layer.read_bytes()
    write_archive(partial, {reference: replace(image, layers=(data,)) for reference, image in IMAGES.items()})
    layer.unlink()
    partial.rename(ARCHIVE)
