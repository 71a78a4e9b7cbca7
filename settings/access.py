"""How each node is reached over ssh: the node's own keys, else the stack's, else the agent."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from settings.model import Node, Settings
from settings.values import read_file

AGENT_VARIABLE = "SSH_AUTH_SOCK"


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

    @property
    def identity(self) -> str:
        """Names the node's resources: a changed address is another identity, so that the old place is taken back."""
        return f"{self.name}@{self.host}:{self.port}"


def resolve(settings: Settings, base: Path, environment: Mapping[str, str]) -> tuple[list[Access], list[str]]:
    """Every node's access, and the problems found on the way (unreadable files, nothing to sign in with, no host key)."""
    problems: list[str] = []
    accesses = [resolve_node(node, settings, base, environment, problems) for node in settings.docker_cache_nodes]
    return accesses, list(dict.fromkeys(problems))


def resolve_node(
    node: Node, settings: Settings, base: Path, environment: Mapping[str, str], problems: list[str]
) -> Access:
    key, password = credentials(node, settings, base, problems)
    host_key = node.host_key or read(
        f"docker_cache_nodes[{node.name}].host_key_path", node.host_key_path, base, problems
    )
    if not (key or password or environment.get(AGENT_VARIABLE) or problems):
        problems.append(
            f"docker_cache_nodes[{node.name}] has nothing to sign in with: set docker_cache_ssh_private_key, "
            f"docker_cache_ssh_private_key_path or docker_cache_ssh_password, or start an ssh agent"
        )
    if not (host_key or node.host_key_path or settings.docker_cache_ssh_trust_any_host_key):
        problems.append(
            f"docker_cache_nodes[{node.name}].host_key is missing: set it to what `ssh-keyscan -t ed25519 {node.host}` shows, "
            "once you know that it is right (docker_cache_ssh_trust_any_host_key: true trusts whoever answers)"
        )
    return Access(
        name=node.name,
        host=node.host,
        port=node.port or settings.docker_cache_ssh_port,
        user=node.user or settings.docker_cache_ssh_user,
        sudo=settings.docker_cache_ssh_sudo if node.sudo is None else node.sudo,
        host_key=bare_key(host_key),
        private_key=key,
        password=password,
    )


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
    return key, password.get_secret_value() if password else None


def read(key: str, path: str | None, base: Path, problems: list[str]) -> str | None:
    if path is None:
        return None
    try:
        return read_file(path, base)
    except ValueError as error:
        problems.append(f'{key} is "{path}": {error}')
        return None


def bare_key(host_key: str | None) -> str | None:
    """`ssh-ed25519 AAAA…` of a line as ssh-keyscan, known_hosts or a .pub file have it."""
    words = (host_key or "").split()
    start = next((index for index, word in enumerate(words) if word.startswith(("ssh-", "ecdsa-", "sk-"))), None)
    return None if start is None else " ".join(words[start : start + 2])
