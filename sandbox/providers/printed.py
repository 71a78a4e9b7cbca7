"""What a command prints, as pulumi-command keeps and shows it: per stream, in the order of arrival, line by line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

Report: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Output:
    """What a command that succeeded printed, each without one trailing newline."""

    stdout: str
    stderr: str


@dataclass
class Recorder:
    """Keeps what arrives, and reports its lines as they come where the stream is to be shown."""

    report: Report
    report_stdout: bool
    report_stderr: bool
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    combined: bytearray = field(default_factory=bytearray)
    line: bytearray = field(default_factory=bytearray)

    def take(self, data: bytes, *, is_stderr: bool) -> None:
        (self.stderr if is_stderr else self.stdout).extend(data)
        self.combined.extend(data)
        if self.report_stderr if is_stderr else self.report_stdout:
            *lines, rest = (bytes(self.line) + data).split(b"\n")
            self.line[:] = rest
            for line in lines:
                self.report(decoded(line))

    def finish(self) -> Output:
        if self.line:
            self.report(decoded(self.line))
        return Output(decoded(self.stdout).removesuffix("\n"), decoded(self.stderr).removesuffix("\n"))

    def failure(self, reason: str, line: str) -> str:
        """Say how the command ended, which one it was, and all that it printed."""
        return f"{reason}: running {quoted(line)}:\n{decoded(self.combined)}"


def quoted(line: str) -> str:
    """Quote as Go's %q does."""
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    written = "".join(escapes.get(char, char if char.isprintable() else f"\\x{ord(char):02x}") for char in line)
    return f'"{written}"'


def decoded(data: bytes | bytearray) -> str:
    return data.decode(errors="replace")
