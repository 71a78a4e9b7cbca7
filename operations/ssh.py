"""Commands on nodes over ssh, with the same access as the program's."""

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import asyncssh

from rendering import node_command
from settings.access import Access, Hop, Login
from settings.host_keys import algorithms_of, fingerprint
from settings.private_keys import load_private_key

CONNECT_SECONDS = 15


class NodeError(Exception):
    """A node that can't be reached, or a command that failed there; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Shell:
    """An open connection to one node."""

    access: Access
    connection: asyncssh.SSHClientConnection

    async def run(self, *command: str, seconds: float) -> str:
        """The output of a command run as root. Raises NodeError with its last line of errors."""
        password = self.access.sudo_password
        line = shlex.join(node_command.as_root(command, sudo=self.access.sudo, asks=password is not None))
        return await self._run(line, node_command.standard_input("", password), command[:2], seconds)

    async def run_script(
        self,
        script: str,
        *arguments: str,
        certificate: str | None = None,
        authorization: str | None = None,
        seconds: float,
    ) -> str:
        """The output of a program of `on_node/`, run as root. Raises NodeError as `run` does."""
        password = self.access.sudo_password
        line = node_command.command(*arguments, sudo=self.access.sudo, sudo_password=password is not None)
        text = node_command.standard_input(node_command.payload(script, certificate, authorization), password)
        return await self._run(line, text, (script, *arguments[:1]), seconds)

    async def _run(self, line: str, text: str, name: Sequence[str], seconds: float) -> str:
        try:
            result = await self.connection.run(line, input=text, timeout=seconds)
        except (asyncssh.Error, OSError) as error:
            raise NodeError(f"`{name[0]}` did not end in {seconds:.0f} s or lost its connection: {error}") from error
        if result.exit_status:
            lines = str(result.stderr or "").strip().splitlines()
            ending = f"failed: {lines[-1]}" if lines else f"ended with status {result.exit_status}"
            raise NodeError(f"`{' '.join(name)}` {ending}")
        return str(result.stdout or "").strip()


@contextlib.asynccontextmanager
async def connect(access: Access) -> AsyncIterator[Shell]:
    """Sign in, through the node's bastion if it has one. Raises NodeError with the reason."""
    async with contextlib.AsyncExitStack() as stack:
        tunnel = None
        if access.bastion:
            tunnel = await stack.enter_async_context(await dial(access.bastion, None))
        connection = await stack.enter_async_context(await dial(access, tunnel))
        yield Shell(access=access, connection=connection)


async def dial(login: Access | Hop, tunnel: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
    """Raises NodeError with the reason."""
    guard = HostKeyGuard()
    opening = asyncssh.connect(
        login.host,
        login.port,
        tunnel=tunnel,
        username=login.user,
        password=login.password,
        client_keys=[load_private_key(login.private_key, login.passphrase)] if login.private_key else (),
        known_hosts=known_host(login),
        server_host_key_algs=list(algorithms_of(login.host_key)) if login.host_key else "default",
        client_factory=lambda: guard,
        config=None,
    )
    try:
        return await asyncio.wait_for(opening, CONNECT_SECONDS)
    except asyncssh.HostKeyNotVerifiable as error:
        raise NodeError(another_host_key(login, guard.shown)) from error
    except (asyncssh.Error, asyncssh.KeyImportError, OSError) as error:
        which = "the bastion " if isinstance(login, Hop) else ""
        raise NodeError(
            f"{which}{login.user}@{login.host}:{login.port} can't be reached: {str(error) or type(error).__name__}"
        ) from error


class HostKeyGuard(asyncssh.SSHClient):
    """Remembers the key that a server has shown, where it is not the one that it has to show."""

    shown = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002
        self.shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
        return False


def another_host_key(login: Access | Hop, shown: str) -> str:
    expected = fingerprint(login.host_key or "")
    return (
        f"{login.user}@{login.host}:{login.port} shows the host key {shown}, where {expected} is expected: if the machine was "
        f"installed anew, set {login.place}.host_key (or its line in the file of known hosts) to the key that it has now, once "
        "you have compared the fingerprint on its console; if not, somebody else may answer there"
    )


def known_host(login: Login) -> tuple[list[asyncssh.SSHKey], list[str], list[str]] | None:
    """The one key that the machine may show; None trusts any, as the settings then say."""
    return ([asyncssh.import_public_key(login.host_key)], [], []) if login.host_key else None
