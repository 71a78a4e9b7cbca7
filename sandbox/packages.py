"""Debian packages that the host itself needs."""

import os
import subprocess

from sandbox.layout import LOGS
from sandbox.progress import step


def install_packages(*packages: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with step(f"Installing {', '.join(packages)}", log=LOGS / "apt.log") as log, log.open("wb") as output:
        for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]):
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True, env=environment)
