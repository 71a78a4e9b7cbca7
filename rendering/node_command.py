"""What runs on a node over ssh: one short, readable command line, and the script that it reads from standard input.

The script is compressed because a stack's state holds it twice for every node. zopfli gives the same bytes on every machine,
which zlib does not promise: otherwise two administrators' machines would take turns in updating every node.
"""

import base64
import functools
import hashlib
import shlex
from collections.abc import Sequence
from pathlib import Path

import zopfli.zlib

ON_NODE = Path(__file__).resolve().parent.parent / "on_node"

LOADER = "exec(eval(input()))"
SCRIPT = "__import__('zlib').decompress(__import__('base64').b85decode('{}'))"
"""The line that the loader evaluates. No part of it gives anything that `exec` takes: an incomplete line fails, nothing runs."""
AFTER_A_PASSWORD = f'grep ^__import__..zlib | python3 -c "{LOADER}" "$@"'
"""sudo reads the password's line only if it asks for one: what it leaves must not reach Python."""


def command(*arguments: str, sudo: bool, sudo_password: bool = False) -> str:
    """The command line that runs the script of standard input with these arguments."""
    asks = sudo and sudo_password
    program = ["sh", "-c", AFTER_A_PASSWORD, "-"] if asks else ["python3", "-c", LOADER]
    return shlex.join(as_root([*program, *arguments], sudo=sudo, asks=asks))


def as_root(words: Sequence[str], *, sudo: bool, asks: bool) -> list[str]:
    """`sudo -n` never asks: without a rule in sudoers it fails with its own message. `-S` reads the password's line."""
    if not sudo:
        return list(words)
    return ["sudo", *(["-S", "-p", ""] if asks else ["-n"]), *words]


@functools.cache
def payload(script: str, certificate: str | None = None) -> str:
    """The named script of `on_node/` as a line for standard input; a certificate (PEM) is set in front of it."""
    source = (ON_NODE / script).read_bytes()
    if certificate:
        source = f"CERTIFICATE = {certificate!r}\n".encode() + source
    return SCRIPT.format(base64.b85encode(zopfli.zlib.compress(source)).decode()) + "\n"


def standard_input(line: str, sudo_password: str | None) -> str:
    """What the command reads: the password's line, where sudo may ask for one, and the script's."""
    return line if sudo_password is None else f"{sudo_password}\n{line}"


def fingerprint(certificate: str) -> str:
    """Tells one certificate from another on a command line, which would be no place for its text."""
    return hashlib.sha256(certificate.encode()).hexdigest()


def as_result(line: str) -> dict[str, str]:
    """A script's line as the stack puts it out: `live: mirror …` is the state `live` with the rest as its detail."""
    state, _, detail = line.strip().partition(": ")
    return {"state": state, "detail": detail}
