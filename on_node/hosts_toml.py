"""containerd's hosts.toml of one upstream with our mirror in it: text, no I/O.

Format: containerd docs/hosts.md. The hosts are tried in the order of the file, so ours comes first; what the file names as
``server``, or else the upstream itself, comes last.
"""

import json
import re
from typing import Optional

from on_node.address import Entry
from on_node.errors import Trouble
from on_node.owned import block

TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)


def mirror_block(entry: Entry, certificate: Optional[str], *, dial_timeout: bool) -> str:
    """Our host, between marks. Without a short dial timeout (containerd 2.1 on), a dead mirror costs every pull 30 s."""
    host = "host.{}".format(quoted(entry.url))
    lines = ["[{}]".format(host), '  capabilities = ["pull", "resolve"]']
    lines += ['  dial_timeout = "2s"'] if dial_timeout else []
    lines += ["  ca = {}".format(quoted(certificate))] if certificate else []
    lines += [] if entry.verified else ["  skip_verify = true"]
    if entry.authorization:
        lines += ["[{}.header]".format(host), "  Authorization = {}".format(quoted(entry.authorization))]
    return block(lines)


def quoted(text: str) -> str:
    """A basic string of TOML, which knows the escapes of JSON."""
    return json.dumps(text)


def names_host(base: Optional[bytes], url: str) -> bool:
    """Whether the file has this mirror already, of somebody else's making."""
    hosts = re.findall(r"^[ \t]*\[\s*host\s*\.\s*[\"']([^\"']+)[\"']\s*\]", decoded(base), re.MULTILINE)
    return url in [host.rstrip("/") for host in hosts]


def with_mirror(base: Optional[bytes], mirror: str, path: str) -> bytes:
    """The file with our block before its first table; everything else stays, byte for byte. Raises Trouble."""
    text = decoded(base)
    if '"""' in text or "'''" in text:
        raise Trouble(
            "{} has a string of several lines: our mirror can't be put in safely; write it on one".format(path)
        )
    table = TABLE.search(text)
    head, tail = (text[: table.start()], text[table.start() :]) if table else (text, "")
    return ((head if not head or head.endswith("\n") else head + "\n") + mirror + tail).encode("utf-8")


def decoded(raw: Optional[bytes]) -> str:
    """The text of a file, none where there is no file. Raises Trouble where it is no text."""
    try:
        return (raw or b"").decode("utf-8")
    except UnicodeDecodeError:
        raise Trouble("containerd's hosts.toml for docker.io is not UTF-8; mend it") from None
