"""The key that a node or a bastion has to show: its own setting, else what a file of known hosts has for its address."""

import re
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from settings.values import read_file

HOST_KEY = re.compile(
    r"(?:^|\s)(?P<kind>ssh-(?:ed25519|rsa|dss)|ecdsa-sha2-\S+|sk-\S+)\s+(?P<key>[A-Za-z0-9+/]{40,}={0,2})"
)
PREFERRED = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa", "ssh-ed25519")
"""The order in which pulumi-command asks a server for its keys: Go's own (golang.org/x/crypto/ssh, `defaultHostKeyAlgos`). It
knows one key of a server and refuses every other, so of a server's keys it has to be the first of these.
"""
ALGORITHMS = tuple(
    algorithm
    for kind in PREFERRED
    for algorithm in (("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,))
)
"""The same as they are negotiated."""
KNOWN_HOSTS = "docker_cache_ssh_known_hosts_path"


def preferred_key(text: str | None) -> str | None:
    """`ssh-ed25519 AAAA…` out of lines as ssh-keyscan, known_hosts or a .pub file have them; None where they have no key."""
    lines = [line for line in (text or "").splitlines() if not line.lstrip().startswith("#")]
    keys = [f"{found['kind']} {found['key']}" for line in lines if (found := HOST_KEY.search(line))]
    return min(keys, key=rank, default=None)


def rank(key: str) -> int:
    kind = key.split(maxsplit=1)[0]
    return PREFERRED.index(kind) if kind in PREFERRED else len(PREFERRED)


def algorithms_of(key: str) -> tuple[str, ...]:
    """What a server is asked for that has to show this key: its kind first. The others too, so that a server without it shows
    what it has.
    """
    kind = key.split(maxsplit=1)[0]
    own = ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)
    return (*own, *(other for other in ALGORITHMS if other not in own))


def fingerprint(key: str) -> str:
    """`ssh-ed25519 SHA256:…`, as ssh-keygen -l shows it."""
    public = asyncssh.import_public_key(key)
    return f"{public.get_algorithm()} {public.get_fingerprint()}"


@dataclass(frozen=True, kw_only=True)
class KnownHosts:
    """A file of known hosts, hashed names and patterns included."""

    entries: asyncssh.SSHKnownHosts

    def key_of(self, host: str, port: int) -> str | None:
        """As ssh looks it up: `[host]:port`, then the host alone. Keys that are revoked there, and authorities, do not count."""
        keys, _, revoked, *_ = self.entries.match(host, "", port if port != asyncssh.DEFAULT_PORT else None)
        lines = [key.export_public_key().decode() for key in keys if key not in revoked]
        return preferred_key("".join(lines))


def read_known_hosts(path: str | None, base: Path, problems: list[str]) -> KnownHosts | None:
    if path is None:
        return None
    try:
        text = read_file(path, base)
    except ValueError as error:
        problems.append(f"{KNOWN_HOSTS} {error}")
        return None
    try:
        return KnownHosts(entries=asyncssh.import_known_hosts(text))
    except ValueError:
        problems.append(f'{KNOWN_HOSTS} is "{path}": it is no file of known hosts; give one as ssh writes it')
        return None
