"""containerd's hosts.toml of one registry with our mirror in it: text, no I/O.

Format: containerd docs/hosts.md. The hosts are tried in the order of the file, so ours comes first; what the file names as
``server``, or else the registry itself, comes last.
"""

import json
import os
import re
from typing import List, Optional, Sequence

from on_node.address import Entry
from on_node.errors import Trouble
from on_node.owned import block

TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
# The statements that name files, each with the lines up to the next key or table, and in those the beginning of a relative path.
CERTIFICATES = re.compile(
    r"^[ \t]*(?:ca|client)[ \t]*=.*\n?(?:(?![ \t]*(?:[\w-]+[ \t]*=|\[[ \t]*\w))(?:.+\n?|\n))*", re.MULTILINE
)
RELATIVE = re.compile(r"""(?<=[=\[,\s])["'](?=[^"'/\n])""")


def mirror_block(entries: Sequence[Entry], certificate: Optional[str], *, dial_timeout: bool) -> str:
    """Our hosts, between marks. Without a short dial timeout (containerd 2.1 on), a dead mirror costs every pull 30 s."""
    return block([line for entry in entries for line in host_lines(entry, certificate, dial_timeout=dial_timeout)])


def host_lines(entry: Entry, certificate: Optional[str], *, dial_timeout: bool) -> List[str]:
    """One entry's tables."""
    host = "host.{}".format(quoted(entry.url))
    lines = ["[{}]".format(host), '  capabilities = ["pull", "resolve"]']
    lines += ['  dial_timeout = "2s"'] if dial_timeout else []
    lines += ["  ca = {}".format(quoted(certificate))] if certificate else []
    lines += [] if entry.verified else ["  skip_verify = true"]
    if entry.authorization:
        lines += ["[{}.header]".format(host), "  Authorization = {}".format(quoted(entry.authorization))]
    return lines


def quoted(text: str) -> str:
    """A basic string of TOML, which knows the escapes of JSON."""
    return json.dumps(text)


def missing(base: Optional[bytes], entries: Sequence[Entry], path: str) -> List[Entry]:
    """The entries that the file does not have already, of somebody else's making. Raises Trouble."""
    hosts = re.findall(r"^[ \t]*\[\s*host\s*\.\s*[\"']([^\"']+)[\"']\s*\]", decoded(base, path), re.MULTILINE)
    return [entry for entry in entries if entry.url not in [host.rstrip("/") for host in hosts]]


def with_mirror(base: Optional[bytes], mirror: str, path: str) -> bytes:
    """The file with our block before its first table; everything else stays, byte for byte. Raises Trouble."""
    text = decoded(base, path)
    if '"""' in text or "'''" in text:
        raise Trouble(
            "{} has a string of several lines: our mirror can't be put in safely; write it on one".format(path)
        )
    table = TABLE.search(text)
    head, tail = (text[: table.start()], text[table.start() :]) if table else (text, "")
    return ((head if not head or head.endswith("\n") else head + "\n") + mirror + tail).encode("utf-8")


def with_absolute_paths(raw: bytes, path: str) -> bytes:
    """A file as it reads from another folder: containerd looks for certificates from where the file lies. Raises Trouble."""
    folder = os.path.dirname(path) + "/"
    return CERTIFICATES.sub(
        lambda statement: RELATIVE.sub(lambda quote: quote.group() + folder, statement.group()), decoded(raw, path)
    ).encode("utf-8")


def decoded(raw: Optional[bytes], path: str) -> str:
    """The text of a file, none where there is no file. Raises Trouble where it is no text."""
    try:
        return (raw or b"").decode("utf-8")
    except UnicodeDecodeError:
        raise Trouble("{} is not UTF-8; mend it, containerd would not read it either".format(path)) from None
