"""Which pulumi a stack is run with, and what a stack's configuration says."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import yaml

from sandbox.enter import in_network
from settings.stack import PREFIX

ROOT = Path(__file__).resolve().parent.parent
SANDBOX_KUBECONFIG = ".sandbox/kubeconfig"


class OperationError(Exception):
    """Something that the user can mend; the text says what and how."""


@dataclass(frozen=True, kw_only=True)
class StackName:
    """A stack with the sandbox's kubeconfig is the sandbox's; every other is a cluster of the user's."""

    name: str

    @property
    def in_sandbox(self) -> bool:
        if not self.file.is_file():
            return False
        document = yaml.safe_load(self.file.read_text(encoding="utf-8")) or {}
        return (document.get("config") or {}).get(f"{PREFIX}docker_cache_kubeconfig") == SANDBOX_KUBECONFIG

    @property
    def file(self) -> Path:
        return ROOT / f"Pulumi.{self.name}.yaml"

    def pulumi(self, *arguments: str) -> list[str]:
        """The command line for this stack: the sandbox's pulumi, or the user's own."""
        command = str(ROOT / "sandbox" / "pulumi") if self.in_sandbox else "pulumi"
        return [command, *arguments, "--stack", self.name]

    def network(self, command: Sequence[str]) -> list[str]:
        """`command` where the cluster can be reached from."""
        return in_network(command) if self.in_sandbox else list(command)


def prepare(stack: StackName) -> None:
    """See to it that pulumi, the configuration and the stack are there. Raises OperationError."""
    if not stack.file.is_file():
        raise OperationError(
            f"there is no {stack.file.name}: `make new STACK={stack.name}` writes one to fill in, and `make import` one from the "
            "cluster's own files"
        )
    require_pulumi(stack)
    if not exists(stack):
        create(stack)


def require_pulumi(stack: StackName) -> None:
    if not stack.in_sandbox and not shutil.which("pulumi"):
        raise OperationError("pulumi is not on PATH: install its CLI (https://www.pulumi.com/docs/install/)")


def create(stack: StackName, *, secrets_provider: str | None = None) -> None:
    """Raises OperationError."""
    provider = ["--secrets-provider", secrets_provider] if secrets_provider else []
    created = run_quietly(stack.pulumi("stack", "init", *provider))
    if created.returncode:
        raise OperationError(f"pulumi can't make the stack {stack.name}: {created.stderr.strip()}")


def exists(stack: StackName) -> bool:
    return run_quietly(stack.pulumi("stack", "select")).returncode == 0


def configuration(stack: StackName) -> Mapping[str, str]:
    """The stack's values by key, secrets in plain text: for memory and pipes only."""
    result = run_quietly(stack.pulumi("config", "--json", "--show-secrets"))
    if result.returncode:
        raise OperationError(f"pulumi can't read the configuration of {stack.name}: {result.stderr.strip()}")
    values: dict[str, dict[str, str]] = json.loads(result.stdout)
    return {
        key.removeprefix(PREFIX): item["value"]
        for key, item in values.items()
        if key.startswith(PREFIX) and "value" in item
    }


def ask_in_network(stack: StackName, action: str, values: Mapping[str, str]) -> str:
    """The output of an action of this package, run where the cluster can be reached; the values go by its standard input.

    Raises OperationError with what it says.
    """
    command = stack.network([sys.executable, "-m", "operations", action])
    result = subprocess.run(
        command, cwd=ROOT, input=json.dumps(dict(values)), capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise OperationError(result.stderr.strip().removeprefix("docker-cache: "))
    return result.stdout


def work_in_network(stack: StackName, action: str, values: Mapping[str, object], *arguments: str) -> str:
    """As `ask_in_network`, for what takes its time: it tells on its standard error what it is at, and the user may stop it.

    Raises OperationError where it has said why it failed.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        command = stack.network([sys.executable, "-m", "operations", action, *arguments])
        if run_in_foreground(command, text=json.dumps(dict(values)), output=output):
            raise OperationError("that could not be done, for the reason above")
        output.seek(0)
        return output.read()


def run_quietly(command: Sequence[str], *, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=False)


def run_in_foreground(
    command: Sequence[str],
    *,
    text: str | None = None,
    environment: Mapping[str, str] | None = None,
    output: IO[str] | None = None,
    errors: IO[str] | None = None,
) -> int:
    """Run it with the terminal, as far as `output` and `errors` do not take its place; its exit status. Ctrl-C is the command's:
    pulumi ends its running steps, so it is awaited.

    Raises KeyboardInterrupt once the command has ended, so that nothing follows what the user stopped.
    """
    interrupts: list[int] = []
    given = subprocess.PIPE if text is not None else None
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=given, stdout=output, stderr=errors, text=True
    ) as process:
        previous = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
        try:
            process.communicate(text)
        finally:
            signal.signal(signal.SIGINT, previous)
    if interrupts:
        raise KeyboardInterrupt
    return process.returncode
