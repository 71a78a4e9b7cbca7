"""Running a command where the stand-ins run, as pulumi-command does (provider/pkg/provider/local in its source)."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from sandbox.providers.printed import Output, Recorder, Report
from sandbox.providers.protocol import ProviderError

_DEFAULT_INTERPRETER = ("/bin/sh", "-c")
_CHUNK = 65536


@dataclass(frozen=True)
class Command:
    """What to run, and what goes with it."""

    line: str
    interpreter: tuple[str, ...] = ()
    directory: str = ""
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    report_stdout: bool = True
    report_stderr: bool = True


def run(command: Command, report: Report) -> Output:
    """Run the command to its end; an error tells the command, how it ended and all that it printed."""
    recorder = Recorder(report, command.report_stdout, command.report_stderr)
    try:
        process = _start(command)
    except OSError as error:
        reason = f"{error.filename}: {os.strerror(error.errno or 0).lower()}"
        raise ProviderError(recorder.failure(reason, command.line)) from error
    feeder = threading.Thread(target=_feed, args=(process.stdin, command.stdin), daemon=True)
    with process:
        feeder.start()
        for stream, data in _arriving(process.stdout, process.stderr):
            recorder.take(data, is_stderr=stream is process.stderr)
        # Before the process is left: leaving closes its input, and that fails where the command has ended without reading.
        feeder.join()
    output = recorder.finish()
    if process.returncode:
        raise ProviderError(recorder.failure(_ending(process.returncode), command.line))
    return output


def _start(command: Command) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*(command.interpreter or _DEFAULT_INTERPRETER), command.line],
        cwd=command.directory or None,
        env={**os.environ, **command.environment},
        stdin=subprocess.PIPE if command.stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def _feed(pipe: IO[bytes] | None, text: str) -> None:
    """A command need not read its input to the end."""
    if pipe is not None:
        with suppress(BrokenPipeError), pipe:
            pipe.write(text.encode())


def _arriving(*streams: IO[bytes] | None) -> Iterator[tuple[IO[bytes], bytes]]:
    """Give what the streams bring, in the order of arrival, until all have ended."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, stream)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, _CHUNK)
                if data:
                    yield key.data, data
                else:
                    selector.unregister(key.fileobj)


def _ending(status: int) -> str:
    """Say it as Go does."""
    if status < 0:
        return f"signal: {(signal.strsignal(-status) or str(-status)).lower()}"
    return f"exit status {status}"
