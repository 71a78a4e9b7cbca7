"""Running a command on a machine over ssh, as pulumi-command does (provider/pkg/provider/remote in its source)."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import asyncssh

from sandbox.providers.boundary import Boundary
from sandbox.providers.printed import Output, Recorder, Report
from sandbox.providers.protocol import ProviderError
from sandbox.providers.values import Value, integer, mapping, text

_DEFAULT_PORT = 22
_DEFAULT_DIAL_ERROR_LIMIT = 10
_DEFAULT_DIAL_TIMEOUT_SECONDS = 15
_UNLIMITED = -1
# The retries' rhythm is that of sdk/go/common/util/retry in the engine's source.
_FIRST_DELAY_SECONDS = 0.1
_DELAY_FACTOR = 1.5
_LONGEST_DELAY_SECONDS = 5.0
# As golang.org/x/crypto/ssh asks for them (defaultHostKeyAlgos), whatever key is expected.
_HOST_KEY_ALGORITHMS = [
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-256",
    "rsa-sha2-512",
    "ssh-rsa",
    "ssh-ed25519",
]

_Dialled = TypeVar("_Dialled")


@dataclass(frozen=True)
class Endpoint:
    """Where to connect and as whom."""

    host: str
    port: int
    user: str
    dial_error_limit: int
    dial_timeout: float
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    private_key_password: str = field(default="", repr=False)
    agent_socket: str = ""
    host_key: str = ""
    proxy: Endpoint | None = None

    @classmethod
    def from_connection(cls, connection: Value) -> Endpoint:
        """Read a resource's connection property."""
        given = mapping(connection)
        proxy = given.get("proxy")
        return cls(
            host=text(given.get("host")),
            port=integer(given.get("port"), _DEFAULT_PORT),
            user=text(given.get("user")) or "root",
            dial_error_limit=integer(given.get("dialErrorLimit"), _DEFAULT_DIAL_ERROR_LIMIT),
            dial_timeout=integer(given.get("perDialTimeout"), _DEFAULT_DIAL_TIMEOUT_SECONDS),
            password=text(given.get("password")),
            private_key=text(given.get("privateKey")),
            private_key_password=text(given.get("privateKeyPassword")),
            agent_socket=text(given.get("agentSocketPath")) or os.environ.get("SSH_AUTH_SOCK", ""),
            host_key=text(given.get("hostKey")),
            proxy=None if proxy is None else cls.from_connection(proxy),
        )

    @property
    def address(self) -> str:
        """The host and port, as errors name them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Command:
    """What to run, and what goes with it."""

    line: str
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    optional_environment: Mapping[str, str] = field(default_factory=dict)
    report_stdout: bool = True
    report_stderr: bool = True


class SshError(ProviderError):
    """A machine was not reached, or a command on it failed."""


async def run(connection: asyncssh.SSHClientConnection, command: Command, report: Report, warn: Report) -> Output:
    """Run the command to its end."""
    environment = await _accepted_environment(connection, command, warn)
    return await _execute(connection, command, environment, report)


@dataclass(frozen=True)
class Dialler:
    """Opens connections: to which networks, where failures are told, and what closes them again."""

    boundary: Boundary
    report: Report
    stack: AsyncExitStack

    async def connect(self, endpoint: Endpoint) -> asyncssh.SSHClientConnection:
        """Dial the machine, through its proxy if it has one."""
        if endpoint.proxy is None:
            return await self._dial(endpoint, "Dial", None)
        try:
            proxy = await self._dial(endpoint.proxy, "Dial proxy", None)
            return await self._dial(endpoint, "Dial from proxy", proxy)
        except SshError as error:
            message = f"proxy: {error}"
            raise SshError(message) from error

    async def _dial(
        self, endpoint: Endpoint, label: str, tunnel: asyncssh.SSHClientConnection | None
    ) -> asyncssh.SSHClientConnection:
        address = self.boundary.admit(endpoint.host)
        options = await _options(endpoint, self.stack)
        shaken = False

        async def attempt() -> asyncssh.SSHClientConnection:
            nonlocal shaken
            if shaken:
                # The plugin shakes hands again on the channel that the failed handshake has closed.
                raise _ClosedChannelError
            # The address, not the name: what the boundary has admitted is what is dialled.
            opening = asyncssh.connect(address, port=endpoint.port, tunnel=tunnel, **options)
            try:
                return await asyncio.wait_for(opening, endpoint.dial_timeout or None)
            except asyncssh.Error as error:
                shaken = tunnel is not None and not isinstance(error, asyncssh.ChannelOpenError)
                raise

        connection = await _persistently(attempt, endpoint, label, self.report)
        self.stack.push_async_callback(connection.wait_closed)
        self.stack.callback(connection.close)
        return connection


class _ClosedChannelError(Exception):
    """A handshake on a channel that is closed."""


async def _options(endpoint: Endpoint, stack: AsyncExitStack) -> dict[str, Any]:
    keys: list[Any] = []
    if endpoint.private_key:
        keys.append(_private_key(endpoint))
    if endpoint.agent_socket:
        keys += await _agent_keys(endpoint.agent_socket, stack)
    return {
        "username": endpoint.user,
        "password": endpoint.password or None,
        # None, not an empty list: asyncssh would then try the keys in the home folder.
        "client_keys": keys or None,
        "agent_path": None,
        "known_hosts": ([_host_key(endpoint)], [], []) if endpoint.host_key else None,
        "server_host_key_algs": _HOST_KEY_ALGORITHMS,
        "config": None,
        "login_timeout": None,
    }


def _private_key(endpoint: Endpoint) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_private_key(endpoint.private_key, endpoint.private_key_password or None)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        message = f'the private key for "{endpoint.address}" can\'t be used: {error}'
        raise SshError(message) from error


def _host_key(endpoint: Endpoint) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(endpoint.host_key)
    except asyncssh.KeyImportError as error:
        message = f'the host key for "{endpoint.address}" can\'t be used: {error}'
        raise SshError(message) from error


async def _agent_keys(socket: str, stack: AsyncExitStack) -> list[asyncssh.SSHKeyPair]:
    try:
        agent = await stack.enter_async_context(asyncssh.connect_agent(socket))
        return list(await agent.get_keys())
    except OSError as error:
        message = f"the ssh agent can't be used: dial unix {socket}: {_reason(error)}"
        raise SshError(message) from error


async def _persistently(
    attempt: Callable[[], Awaitable[_Dialled]], endpoint: Endpoint, label: str, report: Report
) -> _Dialled:
    """Try until it works or the errors are more than the limit."""
    limit = endpoint.dial_error_limit
    failures, delay = 0, _FIRST_DELAY_SECONDS
    while True:
        try:
            return await attempt()
        except (OSError, TimeoutError, asyncssh.Error, _ClosedChannelError) as error:
            if limit > _UNLIMITED and failures + 1 > limit:
                reason = f"after {failures} failed attempts: {_dial_error(endpoint, error)}"
                message = f'failed to dial "{endpoint.address}": {reason}'
                raise SshError(message) from error
        failures += 1
        report(f"{label} {failures}/{'inf' if limit == _UNLIMITED else limit} failed: retrying")
        await asyncio.sleep(delay)
        delay = min(delay * _DELAY_FACTOR, _LONGEST_DELAY_SECONDS)


def _dial_error(endpoint: Endpoint, error: Exception) -> str:
    if isinstance(error, _ClosedChannelError):
        return "ssh: handshake failed: EOF"
    if isinstance(error, asyncssh.ChannelOpenError):
        return f"ssh: rejected: connect failed ({error.reason})"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return "ssh: handshake failed: ssh: host key mismatch"
    if isinstance(error, asyncssh.PermissionDenied):
        methods = "none publickey" if endpoint.private_key or endpoint.agent_socket else "none"
        methods += " password" if endpoint.password else ""
        attempted = f"attempted methods [{methods}], no supported methods remain"
        return f"ssh: handshake failed: ssh: unable to authenticate, {attempted}"
    if isinstance(error, asyncssh.Error):
        return f"ssh: handshake failed: {error.reason}"
    if isinstance(error, TimeoutError):
        return f"dial tcp {endpoint.address}: i/o timeout"
    return f"dial tcp {endpoint.address}: {_reason(error)}"


def _reason(error: Exception) -> str:
    """Give an operating system's error in its own words; asyncio puts the addresses into the text."""
    number = getattr(error, "errno", None)
    return f"connect: {os.strerror(number).lower()}" if isinstance(number, int) and number > 0 else str(error)


async def _accepted_environment(
    connection: asyncssh.SSHClientConnection, command: Command, warn: Report
) -> dict[str, str]:
    """Try each variable: a server may ignore any (AcceptEnv), and asyncssh does not wait for its word."""
    wanted = {**command.optional_environment, **command.environment}
    refused = [name for name, value in wanted.items() if not await _accepts(connection, name, value)]
    for name in refused:
        hint = (
            f"Unable to set '{name}'. This only works if your SSH server is configured to accept these variables via "
            "AcceptEnv. Alternatively, if a Bash-like shell runs the command on the remote host, you could prefix the "
            "command itself with the variables in the form 'VAR=value command'"
        )
        warn(hint)
        if name in command.environment:
            message = f'could not set environment variable "{name}": ssh: setenv failed'
            raise SshError(message)
    return {name: value for name, value in wanted.items() if name not in refused}


async def _accepts(connection: asyncssh.SSHClientConnection, name: str, value: str) -> bool:
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        return False
    echoed = await connection.run(f'printf %s "${name}"', env={name: value}, encoding="utf-8")
    return echoed.stdout == value


class _Session(asyncssh.SSHClientSession[bytes]):
    """Hands on what a command prints, and tells when it has ended."""

    def __init__(self, recorder: Recorder) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._recorder = recorder

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._recorder.take(data, is_stderr=datatype == asyncssh.EXTENDED_DATA_STDERR)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def _execute(
    connection: asyncssh.SSHClientConnection, command: Command, environment: Mapping[str, str], report: Report
) -> Output:
    recorder = Recorder(report, command.report_stdout, command.report_stderr)
    session = _Session(recorder)
    variables = list(environment.items())
    channel, _ = await connection.create_session(lambda: session, command.line, env=variables, encoding=None)
    if command.stdin:
        channel.write(command.stdin.encode())
    channel.write_eof()
    await session.closed
    output = recorder.finish()
    failure = _failure(channel)
    if failure:
        raise SshError(recorder.failure(failure, command.line))
    return output


def _failure(channel: asyncssh.SSHClientChannel[bytes]) -> str:
    killed = channel.get_exit_signal()
    if killed is not None:
        return f"Process exited with status 1 from signal {killed[0]}"
    status = channel.get_exit_status()
    if status is None:
        return "wait: remote command exited without exit status or exit signal"
    return f"Process exited with status {status}" if status else ""
