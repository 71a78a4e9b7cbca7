"""Commands on nodes over ssh, with the same access as the program's."""

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import asyncssh

from rendering import node_command
from settings.access import Access

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
    """Sign in. Raises NodeError with the reason."""
    try:
        connection = await asyncio.wait_for(
            asyncssh.connect(
                access.host,
                access.port,
                username=access.user,
                password=access.password,
                client_keys=[asyncssh.import_private_key(access.private_key)] if access.private_key else (),
                known_hosts=known_host(access),
                config=None,
            ),
            CONNECT_SECONDS,
        )
    except (asyncssh.Error, asyncssh.KeyImportError, OSError) as error:
        raise NodeError(
            f"{access.user}@{access.host}:{access.port} can't be reached: {str(error) or type(error).__name__}"
        ) from error
    async with connection:
        yield Shell(access=access, connection=connection)


def known_host(access: Access) -> asyncssh.SSHKnownHosts | None:
    """The one key that the node may show; None trusts any, as the settings then say."""
    if access.host_key is None:
        return None
    return asyncssh.import_known_hosts(
        f"[{access.host}]:{access.port} {access.host_key}\n{access.host} {access.host_key}\n"
    )
