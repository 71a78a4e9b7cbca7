"""How each node is reached over ssh: the node's own keys, else the stack's, else the agent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from settings.model import Node, Settings
from settings.values import read_file

AGENT_VARIABLE = "SSH_AUTH_SOCK"
HOST_KEY = re.compile(
    r"(?:^|\s)(?P<kind>ssh-(?:ed25519|rsa|dss)|ecdsa-sha2-\S+|sk-\S+)\s+(?P<key>[A-Za-z0-9+/]{40,}={0,2})"
)


@dataclass(frozen=True, kw_only=True)
class Access:
    """One node's resolved ssh access. Neither key nor password means the agent."""

    name: str
    host: str
    port: int
    user: str
    sudo: bool
    host_key: str | None
    private_key: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sudo_password: str | None = field(default=None, repr=False)
    """None where sudo does not ask."""

    @property
    def identity(self) -> str:
        return identity(self.name, self.host, self.port)


def identity(name: str, host: str, port: int) -> str:
    """Names a node's resources: a changed address is another identity, so that the old place is taken back."""
    return f"{name}@{host}:{port}"


def resolve(settings: Settings, base: Path, environment: Mapping[str, str], problems: list[str]) -> tuple[Access, ...]:
    """Every node's access; what is wrong (unreadable files, nothing to sign in with, no host key) is added to the list."""
    found: list[str] = []
    accesses = tuple(resolve_node(node, settings, base, environment, found) for node in settings.docker_cache_nodes)
    problems += dict.fromkeys(found)
    return accesses


def resolve_node(
    node: Node, settings: Settings, base: Path, environment: Mapping[str, str], problems: list[str]
) -> Access:
    key, password = credentials(node, settings, base, problems)
    sudo = settings.docker_cache_ssh_sudo if node.sudo is None else node.sudo
    sudo_password = node.sudo_password or settings.docker_cache_ssh_sudo_password
    host_key = find_host_key(node, settings, base, problems)
    if not (key or password or environment.get(AGENT_VARIABLE) or problems):
        problems.append(
            f"docker_cache_nodes[{node.name}] has nothing to sign in with: set docker_cache_ssh_private_key, "
            f"docker_cache_ssh_private_key_path or docker_cache_ssh_password, or start an ssh agent"
        )
    return Access(
        name=node.name,
        host=node.host,
        port=node.port or settings.docker_cache_ssh_port,
        user=node.user or settings.docker_cache_ssh_user,
        sudo=sudo,
        host_key=host_key,
        private_key=key,
        password=password,
        sudo_password=sudo_password.get_secret_value() if sudo and sudo_password else None,
    )


def find_host_key(node: Node, settings: Settings, base: Path, problems: list[str]) -> str | None:
    """The key that the node has to show. None trusts any: only where the settings say so by name."""
    place = f"docker_cache_nodes[{node.name}].host_key"
    text = node.host_key or read(f"{place}_path", node.host_key_path, base, problems)
    key = bare_key(text)
    if text and key is None:
        shown = "wrong (its value is not shown)" if "PRIVATE KEY" in text else f'"{text.strip()[:80]}"'
        problems.append(f'{place} is {shown}: use a line such as "ssh-ed25519 AAAA…"')
    elif not (key or node.host_key_path or settings.docker_cache_ssh_trust_any_host_key):
        problems.append(
            f"{place} is missing: set it to what `ssh-keyscan -t ed25519 {node.host}` shows, once you know that it is "
            "right (docker_cache_ssh_trust_any_host_key: true trusts whoever answers)"
        )
    return key


def credentials(node: Node, settings: Settings, base: Path, problems: list[str]) -> tuple[str | None, str | None]:
    """(private key, password): the node's own where it has any, else the stack's."""
    if node.private_key or node.private_key_path or node.password:
        where, text, path, password = (
            f"docker_cache_nodes[{node.name}].",
            node.private_key,
            node.private_key_path,
            node.password,
        )
    else:
        where, text, path, password = (
            "docker_cache_ssh_",
            settings.docker_cache_ssh_private_key,
            settings.docker_cache_ssh_private_key_path,
            settings.docker_cache_ssh_password,
        )
    key = text.get_secret_value() + "\n" if text else read(f"{where}private_key_path", path, base, problems)
    if key:
        check_private_key(f"{where}private_key" + ("_path" if not text else ""), key, problems)
    return key, password.get_secret_value() if password else None


def read(key: str, path: str | None, base: Path, problems: list[str]) -> str | None:
    if path is None:
        return None
    try:
        return read_file(path, base)
    except ValueError as error:
        problems.append(f"{key} {error}")
        return None


def bare_key(line: str | None) -> str | None:
    """`ssh-ed25519 AAAA…` of a line as ssh-keyscan, known_hosts or a .pub file have it; None where there is no key in it."""
    found = HOST_KEY.search(line or "")
    return f"{found['kind']} {found['key']}" if found else None


def check_private_key(key: str, text: str, problems: list[str]) -> None:
    """Ssh would name each node, and not the key, for a key that can't be used."""
    try:
        asyncssh.import_private_key(text)
    except asyncssh.KeyImportError as error:
        # asyncssh has no kind of its own for a key that is locked.
        if "passphrase" in str(error).lower():
            problems.append(f"{key} can't be used, it has a passphrase: use an ssh agent, or a key without one")
            return
        problems.append(f"{key} is not a private key (its value is not shown): give a file as ssh-keygen writes it")
