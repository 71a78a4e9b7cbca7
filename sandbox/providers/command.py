"""Stand-in for the pulumi-command plugin, used only where the official one can't be had; no part of the product.

It serves ``command:remote:Command`` and ``command:local:Command`` with that plugin's semantics: any changed input runs
``update`` (or ``create`` again), ``triggers`` always replace, ``delete`` runs as it was last stored, and a refresh
reads nothing back. A local command runs where this process does: with the host's files, in the sandbox's network.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import secrets
import threading
from typing import Final

import asyncssh

from sandbox.providers import local, ssh
from sandbox.providers.boundary import Boundary
from sandbox.providers.differences import changes
from sandbox.providers.printed import Output
from sandbox.providers.protocol import (
    Checked,
    Creation,
    Difference,
    Existing,
    Found,
    Modification,
    ProviderError,
    StandIn,
    Target,
)
from sandbox.providers.values import (
    UNKNOWN,
    Properties,
    Value,
    contains_unknown,
    mapping,
    reveal,
    secret,
    sequence,
    text,
)

_REMOTE: Final = "command:remote:Command"
_LOCAL: Final = "command:local:Command"
_LOGGING: Final = ("stdout", "stderr", "stdoutAndStderr", "none")
_UNSERVED: Final = ("assetPaths", "archivePaths")
"""Inputs of a local command whose outputs are files."""
_CONNECTION_DEFAULTS: Final[Properties] = {"port": 22, "user": "root", "dialErrorLimit": 10, "perDialTimeout": 15}


class CommandStandIn(StandIn):
    """Runs commands on the sandbox's machines and beside them, all at once if the engine asks for it."""

    package = "command"
    distribution = "pulumi-command"

    def __init__(self) -> None:
        super().__init__()
        self._boundary = Boundary.from_environment()
        self._loop = asyncio.new_event_loop()
        self._dialling: set[asyncio.Future[asyncssh.SSHClientConnection]] = set()
        # One thread, so that the lines stay in order.
        self._messages = concurrent.futures.ThreadPoolExecutor(1)
        threading.Thread(target=self._loop.run_forever, name="ssh", daemon=True).start()

    def configure(self, settings: Properties) -> None:
        """Take no settings: the plugin has none."""

    def check(self, target: Target, olds: Properties, news: Properties, seed: bytes) -> Checked:
        """Fill in defaults; a connection is always secret."""
        del olds, seed
        _require_served(target)
        return checked_local_inputs(news) if target.type == _LOCAL else checked_inputs(news)

    def diff(self, old: Existing, news: Properties) -> Difference:
        """Compare inputs."""
        return input_difference(old.inputs, news)

    def create(self, creation: Creation) -> tuple[str, Properties]:
        """Run ``create``, if there is one."""
        _require_served(creation.target)
        identity = f"{creation.target.name}{secrets.token_hex(4)}"
        if creation.preview:
            return identity, {**creation.inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}
        line = creation.inputs.get("create")
        outputs = self._run(creation.target, line, creation.inputs, {})
        return identity, {**creation.inputs, **(outputs or {"stdout": "", "stderr": ""})}

    def read(self, existing: Existing) -> Found | None:
        """Give back what is recorded: a command's effect can't be read."""
        return Found(existing.identity, existing.outputs, existing.inputs)

    def update(self, modification: Modification) -> Properties:
        """Run ``update``, else ``create`` again, else nothing."""
        news, old = modification.inputs, modification.old
        if modification.preview:
            return {**news, "stdout": UNKNOWN, "stderr": UNKNOWN}
        previous = {key: old.outputs.get(key, "") for key in ("stdout", "stderr")}
        line = news.get("create") if news.get("update") is None else news["update"]
        return {**news, **(self._run(old.target, line, news, previous) or previous)}

    def delete(self, existing: Existing) -> None:
        """Run ``delete`` with everything as last stored."""
        self._run(existing.target, existing.outputs.get("delete"), existing.outputs, existing.outputs)

    def cancel(self) -> None:
        """Stop dialling. A command that runs is left to end, as the plugin leaves it: half a change helps nobody."""
        super().cancel()
        self._loop.call_soon_threadsafe(self._stop_dialling)

    def _run(self, target: Target, line: Value, inputs: Properties, previous: Properties) -> Properties | None:
        if line is None:
            return None
        run = self._run_local if target.type == _LOCAL else self._run_remote
        output = run(target, text(line), inputs, previous)
        return {"stdout": output.stdout, "stderr": output.stderr}

    def _run_local(self, target: Target, line: str, inputs: Properties, previous: Properties) -> Output:
        return local.run(local_command_to_run(line, inputs, previous), functools.partial(self._tell, target))

    def _run_remote(self, target: Target, line: str, inputs: Properties, previous: Properties) -> Output:
        command = command_to_run(line, inputs, previous)
        endpoint = ssh.Endpoint.from_connection(inputs.get("connection"))
        work = self._connect_and_run(target, endpoint, command)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _tell(self, target: Target, message: str, *, warning: bool = False) -> None:
        # Telling the engine takes a round trip, for which no command is to wait.
        self._messages.submit(self.engine.log, target.urn, message, warning=warning)

    async def _connect_and_run(self, target: Target, endpoint: ssh.Endpoint, command: ssh.Command) -> Output:
        tell = functools.partial(self._tell, target)
        async with contextlib.AsyncExitStack() as stack:
            connection = await self._dialled(endpoint, ssh.Dialler(self._boundary, tell, stack))
            return await ssh.run(connection, command, tell, functools.partial(tell, warning=True))

    async def _dialled(self, endpoint: ssh.Endpoint, dialler: ssh.Dialler) -> asyncssh.SSHClientConnection:
        dialling = asyncio.ensure_future(dialler.connect(endpoint))
        self._dialling.add(dialling)
        try:
            return await dialling
        except asyncio.CancelledError as error:
            message = f'the operation was cancelled while dialling "{endpoint.address}"'
            raise ProviderError(message) from error
        finally:
            self._dialling.discard(dialling)

    def _stop_dialling(self) -> None:
        for dialling in self._dialling:
            dialling.cancel()


def checked_inputs(news: Properties) -> Checked:
    """Fill in defaults and tell what is wrong."""
    inputs = {"addPreviousOutputInEnv": True, **news}
    failures = []
    connection = reveal(news.get("connection"))
    if isinstance(connection, dict):
        inputs["connection"] = secret(_with_defaults(connection))
        if not connection.get("host"):
            failures.append(("connection.host", "Missing required field 'host'"))
    elif connection is None:
        failures.append(("connection", "Missing required field 'connection'"))
    return Checked(inputs, (*failures, *_logging_failures(news)))


def _with_defaults(connection: Properties) -> Properties:
    proxy = connection.get("proxy")
    proxied: Properties = {"proxy": {**_CONNECTION_DEFAULTS, **proxy}} if isinstance(proxy, dict) else {}
    return {**_CONNECTION_DEFAULTS, **connection, **proxied}


def checked_local_inputs(news: Properties) -> Checked:
    """Fill in defaults and tell what is wrong, or not served here."""
    unserved = [(name, "the sandbox's stand-in for command does not serve it") for name in _UNSERVED if name in news]
    return Checked({"addPreviousOutputInEnv": True, **news}, (*unserved, *_logging_failures(news)))


def _logging_failures(news: Properties) -> list[tuple[str, str]]:
    logging = news.get("logging")
    if logging is None or contains_unknown(logging) or logging in _LOGGING:
        return []
    return [("logging", f"{logging!r} is none of {', '.join(_LOGGING)}")]


def input_difference(olds: Properties, news: Properties) -> Difference:
    """Compare inputs: triggers need a new resource, everything else is an update."""
    found = tuple(changes(olds, news))
    return Difference(found, frozenset(change.name for change in found if change.path[0] == "triggers"))


def command_to_run(line: str, inputs: Properties, previous: Properties) -> ssh.Command:
    """Put together what is run on a machine."""
    report_stdout, report_stderr = _reported(inputs)
    return ssh.Command(
        line,
        stdin=text(inputs.get("stdin")),
        environment=_environment(inputs),
        optional_environment=_earlier_output(inputs, previous),
        report_stdout=report_stdout,
        report_stderr=report_stderr,
    )


def local_command_to_run(line: str, inputs: Properties, previous: Properties) -> local.Command:
    """Put together what is run here."""
    report_stdout, report_stderr = _reported(inputs)
    return local.Command(
        line,
        interpreter=tuple(text(part) for part in sequence(inputs.get("interpreter"))),
        directory=text(inputs.get("dir")),
        stdin=text(inputs.get("stdin")),
        environment={**_environment(inputs), **_earlier_output(inputs, previous)},
        report_stdout=report_stdout,
        report_stderr=report_stderr,
    )


def _environment(inputs: Properties) -> dict[str, str]:
    return {name: text(value) for name, value in mapping(inputs.get("environment")).items()}


def _earlier_output(inputs: Properties, previous: Properties) -> dict[str, str]:
    """The previous output goes into the environment unless the program says otherwise."""
    earlier = {f"PULUMI_COMMAND_{key.upper()}": text(previous.get(key)) for key in ("stdout", "stderr")}
    wanted = inputs.get("addPreviousOutputInEnv") is not False
    return {name: value for name, value in earlier.items() if value and wanted}


def _reported(inputs: Properties) -> tuple[bool, bool]:
    """Tell whether standard output and standard error are shown."""
    logging = text(inputs.get("logging")) or "stdoutAndStderr"
    return logging in {"stdout", "stdoutAndStderr"}, logging in {"stderr", "stdoutAndStderr"}


def _require_served(target: Target) -> None:
    if target.type not in {_REMOTE, _LOCAL}:
        message = f"the sandbox's stand-in for command does not serve {target.type}"
        raise ProviderError(message)
