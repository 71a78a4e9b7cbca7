"""How each node is reached over ssh: the node's own keys, else the stack's, else the agent; directly or through a bastion."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import asyncssh
from pydantic import SecretStr

from settings.host_keys import KNOWN_HOSTS, KnownHosts, preferred_key, read_known_hosts
from settings.model import Bastion, Machine, Node, Settings
from settings.private_keys import PrivateKeyPlace, is_locked, private_key_problems
from settings.values import read_file

AGENT_VARIABLE = "SSH_AUTH_SOCK"
STACK, BASTION = "docker_cache_ssh_", "docker_cache_ssh_bastion"


@dataclass(frozen=True, kw_only=True)
class Login:
    """One machine's resolved ssh access. Neither key nor password means the agent."""

    host: str
    port: int
    user: str
    host_key: str | None
    """None trusts whoever answers: only where the settings say so by name."""
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    """None where the private key has none."""
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Hop(Login):
    """A bastion. `place` is its key in the configuration."""

    place: str


@dataclass(frozen=True, kw_only=True)
class Access(Login):
    """One node's."""

    name: str
    sudo: bool
    sudo_password: str | None = field(default=None, repr=False)
    """None where sudo does not ask."""
    bastion: Hop | None = None

    @property
    def identity(self) -> str:
        return identity(self.name, self.host, self.port)

    @property
    def place(self) -> str:
        return f"docker_cache_nodes[{self.name}]"


def identity(name: str, host: str, port: int) -> str:
    """Names a node's resources: a changed address is another identity, so that the old place is taken back. A bastion is only
    the way there.
    """
    return f"{name}@{host}:{port}"


def resolve(settings: Settings, base: Path, environment: Mapping[str, str], problems: list[str]) -> tuple[Access, ...]:
    """Every node's access; what is wrong (unreadable files, nothing to sign in with, no host key) is added to the list."""
    found: list[str] = []
    resolver = Resolver.of(settings, base, environment, found)
    shared = resolver.bastion(settings.docker_cache_ssh_bastion, BASTION)
    accesses = tuple(resolver.node(node, shared) for node in settings.docker_cache_nodes)
    problems += dict.fromkeys(found)
    return accesses


def resolve_bastion(settings: Settings, base: Path, environment: Mapping[str, str], problems: list[str]) -> Hop | None:
    """Of all nodes, where there is one."""
    return Resolver.of(settings, base, environment, problems).bastion(settings.docker_cache_ssh_bastion, BASTION)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A private key with its passphrase, or a password, or both."""

    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Resolver:
    """Reads the files that machines name; adds to `problems` what is wrong."""

    settings: Settings
    base: Path
    has_agent: bool
    known_hosts: KnownHosts | None
    problems: list[str]

    @classmethod
    def of(cls, settings: Settings, base: Path, environment: Mapping[str, str], problems: list[str]) -> "Resolver":
        return cls(
            settings=settings,
            base=base,
            has_agent=bool(environment.get(AGENT_VARIABLE)),
            known_hosts=read_known_hosts(settings.docker_cache_ssh_known_hosts_path, base, problems),
            problems=problems,
        )

    def node(self, node: Node, shared: Hop | None) -> Access:
        """`shared` is the bastion of all nodes that do not say otherwise."""
        settings, place = self.settings, f"docker_cache_nodes[{node.name}]"
        sudo = settings.docker_cache_ssh_sudo if node.sudo is None else node.sudo
        sudo_password = node.sudo_password or settings.docker_cache_ssh_sudo_password
        port = node.port or settings.docker_cache_ssh_port
        credentials = self.credentials(node, place)
        bastion = self.bastion(node.bastion, f"{place}.bastion") or (None if node.direct else shared)
        return Access(
            name=node.name,
            host=node.host,
            port=port,
            user=node.user or settings.docker_cache_ssh_user,
            sudo=sudo,
            host_key=self.host_key(node, place, port, bastion),
            private_key=credentials.private_key,
            passphrase=credentials.passphrase,
            password=credentials.password,
            sudo_password=sudo_password.get_secret_value() if sudo and sudo_password else None,
            bastion=bastion,
        )

    def bastion(self, bastion: Bastion | None, place: str) -> Hop | None:
        if bastion is None:
            return None
        port = bastion.port or asyncssh.DEFAULT_PORT
        credentials = self.credentials(bastion, place)
        return Hop(
            place=place,
            host=bastion.host,
            port=port,
            user=bastion.user or self.settings.docker_cache_ssh_user,
            host_key=self.host_key(bastion, place, port),
            private_key=credentials.private_key,
            passphrase=credentials.passphrase,
            password=credentials.password,
        )

    def host_key(self, machine: Machine, place: str, port: int, through: Hop | None = None) -> str | None:
        """The key that the machine has to show. None trusts any: only where the settings say so by name."""
        key_place = f"{place}.host_key"
        text = machine.host_key or self.read(f"{key_place}_path", machine.host_key_path)
        key = preferred_key(text)
        if text and key is None:
            shown = "wrong (its value is not shown)" if "PRIVATE KEY" in text else f'"{text.strip()[:80]}"'
            self.problems.append(f'{key_place} is {shown}: use a line such as "ssh-ed25519 AAAA…"')
        if key or machine.host_key or machine.host_key_path:
            return key
        known = self.known_hosts.key_of(machine.host, port) if self.known_hosts else None
        if not (known or self.settings.docker_cache_ssh_trust_any_host_key):
            self.problems.append(
                f"{key_place} is missing: set it to what `{scan_command(machine.host, port, through)}` shows, once you know that "
                f"it is right, or name a file that has it in {KNOWN_HOSTS} (docker_cache_ssh_trust_any_host_key: true trusts "
                "whoever answers)"
            )
        return known

    def credentials(self, machine: Machine, place: str) -> Credentials:
        """The machine's own where it has any, else the stack's."""
        own = machine.private_key or machine.private_key_path or machine.password
        found = self.own_credentials(machine, f"{place}.") if own else self.stacks_credentials
        if not (found.private_key or found.password or self.has_agent or self.problems):
            self.problems.append(
                f"{place} has nothing to sign in with: set docker_cache_ssh_private_key, docker_cache_ssh_private_key_path or "
                "docker_cache_ssh_password, or start an ssh agent"
            )
        return found

    @cached_property
    def stacks_credentials(self) -> Credentials:
        """Read once: to open a locked key takes a tenth of a second."""
        settings = self.settings
        return self.read_credentials(
            STACK,
            settings.docker_cache_ssh_private_key,
            settings.docker_cache_ssh_private_key_path,
            settings.docker_cache_ssh_private_key_passphrase,
            settings.docker_cache_ssh_password,
        )

    def own_credentials(self, machine: Machine, prefix: str) -> Credentials:
        return self.read_credentials(
            prefix, machine.private_key, machine.private_key_path, machine.private_key_passphrase, machine.password
        )

    def read_credentials(
        self,
        prefix: str,
        text: SecretStr | None,
        path: str | None,
        passphrase: SecretStr | None,
        password: SecretStr | None,
    ) -> Credentials:
        key = text.get_secret_value() + "\n" if text else self.read(f"{prefix}private_key_path", path)
        opened_by = passphrase.get_secret_value() if passphrase else None
        if key:
            where = PrivateKeyPlace(
                key=f"{prefix}private_key" + ("" if text else "_path"), passphrase=f"{prefix}private_key_passphrase"
            )
            self.problems.extend(private_key_problems(where, key, opened_by))
        return Credentials(
            private_key=key,
            passphrase=opened_by if key and is_locked(key) else None,
            password=password.get_secret_value() if password else None,
        )

    def read(self, key: str, path: str | None) -> str | None:
        if path is None:
            return None
        try:
            return read_file(path, self.base)
        except ValueError as error:
            self.problems.append(f"{key} {error}")
            return None


def scan_command(host: str, port: int, through: Hop | None) -> str:
    """Ssh-keyscan knows no bastion: it has to run there."""
    way = f"ssh -p {through.port} {through.user}@{through.host} " if through else ""
    return f"{way}ssh-keyscan -p {port} {host}"
