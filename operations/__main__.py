"""`python -m operations up | preview | down | proof`: called by make."""

import argparse
import json
import os
import sys
from collections.abc import Callable

from rich.console import Console

from operations import stacks
from operations.proof import prove
from operations.stacks import OperationError, StackName, run_in_foreground
from sandbox import lifecycle
from sandbox.processes import init_pid
from sandbox.progress import SandboxError
from settings.loading import Disabled, SettingsError
from settings.stack import read_stack

LOG_WIDTH = 140


def up(stack: StackName, *, yes: bool) -> int:
    """Bring the stack up and prove it. A node that fails does not keep the others from being done."""
    start_sandbox(stack)
    stacks.prepare(stack)
    answer = ["--yes"] if yes or stack.in_sandbox else []
    updated = run_in_foreground(stack.pulumi("up", "--continue-on-error", *answer))
    proven = proof(stack)
    if updated:
        print("make up: the update has failed steps, named above; what is right stays, run it again", file=sys.stderr)
    return updated or proven


def preview(stack: StackName) -> int:
    start_sandbox(stack)
    stacks.prepare(stack)
    return run_in_foreground(stack.pulumi("preview", "--diff"))


def down(stack: StackName, *, yes: bool) -> int:
    """Take the stack back, nodes first; a sandbox ends with its stack."""
    if not stack.in_sandbox:
        stacks.prepare(stack)
        return run_in_foreground(stack.pulumi("destroy", "--continue-on-error", *(["--yes"] if yes else [])))
    status = 0
    if init_pid() and stacks.exists(stack):
        status = run_in_foreground(stack.pulumi("destroy", "--continue-on-error", "--yes"))
    lifecycle.down()
    return status


def start_sandbox(stack: StackName) -> None:
    if stack.in_sandbox:
        lifecycle.up()


def proof(stack: StackName) -> int:
    """In a process of its own, which runs where the cluster can be reached; the values go by its standard input."""
    values = json.dumps(dict(stacks.configuration(stack)))
    return run_in_foreground(stack.network([sys.executable, "-m", "operations", "proof-from-stdin"]), text=values)


def proof_from_stdin() -> int:
    values: dict[str, str] = json.load(sys.stdin)
    stack = read_stack(values.get, stacks.ROOT, os.environ, values)
    if isinstance(stack, Disabled):
        print("enable_docker_cache is off: there is nothing to prove")
        return 0
    return 0 if prove(stack, console()) else 1


def console() -> Console:
    """As wide as the terminal; a log has no width of its own, and a table should not be folded there."""
    return Console() if sys.stdout.isatty() else Console(width=LOG_WIDTH)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m operations")
    parser.add_argument("action", choices=["up", "preview", "down", "proof", "proof-from-stdin"])
    parser.add_argument("--stack", default="dev")
    parser.add_argument("--yes", action="store_true")
    arguments = parser.parse_args()
    stack = StackName(name=arguments.stack)
    actions: dict[str, Callable[[], int]] = {
        "up": lambda: up(stack, yes=arguments.yes),
        "preview": lambda: preview(stack),
        "down": lambda: down(stack, yes=arguments.yes),
        "proof": lambda: proof(stack),
        "proof-from-stdin": proof_from_stdin,
    }
    try:
        return actions[arguments.action]()
    except (OperationError, SandboxError, SettingsError) as error:
        print(f"docker-cache: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("docker-cache: stopped; what was done so far is recorded, run it again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
