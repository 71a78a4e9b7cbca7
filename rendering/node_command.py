"""What runs on a node over ssh: one readable command line, and the script that it reads from standard input.

The script is compressed because a stack's state holds it twice for every node. zopfli gives the same bytes on every machine,
which zlib does not promise: otherwise two administrators' machines would take turns in updating every node.
"""

import base64
import shlex
from pathlib import Path

import zopfli.zlib

ON_NODE = Path(__file__).resolve().parent.parent / "on_node"

LOADER = "import base64, sys, zlib; exec(zlib.decompress(base64.b64decode(sys.stdin.read())))"
"""An incomplete script fails here: a truncated stream does not decompress, and nothing of it has run."""


def command(*arguments: str, sudo: bool) -> str:
    """`sudo -n` never asks: without a rule in sudoers it fails with its own message."""
    prefix = ["sudo", "-n"] if sudo else []
    return shlex.join([*prefix, "python3", "-c", LOADER, *arguments])


def payload(script: str) -> str:
    """The named script of `on_node/`, for standard input."""
    return base64.b64encode(zopfli.zlib.compress((ON_NODE / script).read_bytes())).decode()
