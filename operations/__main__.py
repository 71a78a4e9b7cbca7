"""`python -m operations ACTION`: called by make, whose help lists the actions."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict

from rich.console import Console

from operations import check, engine, heal, predecessor, stacks
from operations.gc import collect, refuse
from operations.import_stack import Options, import_stack
from operations.new_stack import new
from operations.prefetch import fetch, prefetch
from operations.proof import as_table, prove
from operations.proving import prove_nodes
from operations.rollout import Rollout, Task, identities, ignore
from operations.stacks import OperationError, StackName, run_in_foreground
from operations.takeover import take_over
from operations.taking_back import take_back
from operations.terminal import confirm, console
from sandbox import lifecycle
from sandbox.processes import init_pid
from sandbox.progress import SandboxError
from settings.access import Access
from settings.cluster import Ask, ClusterError, ask_cluster, ask_nothing
from settings.loading import Disabled, SettingsError, load
from settings.stack import Stack, read_stack


def up(stack: StackName, *, yes: bool) -> int:
    """Bring the stack up and prove it. A node that fails does not keep the others from being done."""
    start_sandbox(stack)
    stacks.prepare(stack)
    return update(stack, yes=yes)


def update(stack: StackName, *, yes: bool) -> int:
    """Show what would change, ask, change it and prove it. Raises KeyboardInterrupt once what was running has ended."""
    status, steps = engine.preview(stack)
    if status:
        return status
    values = stacks.configuration(stack)
    settings = load(values.get)
    order = () if isinstance(settings, Disabled) else identities(settings)
    changes = engine.changes_of(steps, order)
    if changes and not confirm("Make these changes?", yes=yes or stack.in_sandbox):
        print("Nothing was changed.")
        return 1
    if isinstance(settings, Disabled):
        return engine.up(stack, ignore, shown=True).status
    return Rollout(Task(stack=stack, values=values, settings=settings, changes=changes, order=order)).run()


def takeover(stack: StackName, *, yes: bool) -> int:
    start_sandbox(stack)
    stacks.prepare(stack)
    return take_over(stack, yes=yes, update=lambda: update(stack, yes=True))


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
    values = stacks.configuration(stack)
    settings = load(values.get)
    if isinstance(settings, Disabled):
        print("enable_docker_cache is off: there is nothing to prove")
        return 0
    by_node = prove_nodes(stack, values, [node.name for node in settings.kept_nodes])
    results = [result for each in by_node.values() for result in each]
    console().print(as_table(results))
    return 0 if all(result.is_good for result in results) else 1


def proof_from_stdin(names: Collection[str]) -> int:
    """In a process of its own, which runs where the cluster can be reached; the values come by its standard input."""
    stack = stack_from_stdin()
    if not isinstance(stack, Disabled):
        print(json.dumps([asdict(result) for result in prove(stack, named(stack, names), say_aside)]))
    return 0


def prefetch_images(stack: StackName, images: Collection[str], platforms: Collection[str]) -> int:
    start_sandbox(stack)
    stacks.prepare(stack)
    return prefetch(stack, list(images), list(platforms))


def gc(stack: StackName) -> int:
    values = stacks.configuration(stack)
    refuse(values)
    command = [sys.executable, "-m", "operations", "gc-from-stdin"]
    return run_in_foreground(stack.network(command), text=json.dumps(dict(values)))


def gc_from_stdin() -> int:
    stack = stack_from_stdin(ask=ask_nothing)
    return 0 if isinstance(stack, Disabled) else collect(stack, print)


def prefetch_from_stdin(words: str) -> int:
    stack = stack_from_stdin()
    print(json.dumps(not isinstance(stack, Disabled) and fetch(stack, json.loads(words), say_aside)))
    return 0


def take_back_from_stdin(names: Collection[str]) -> int:
    stack = stack_from_stdin()
    if not isinstance(stack, Disabled):
        print(json.dumps({access.name: take_back(stack, access) for access in named(stack, names)}))
    return 0


def named(stack: Stack, names: Collection[str]) -> list[Access]:
    return [access for access in stack.nodes if access.name in names]


def say_aside(line: str) -> None:
    """On standard error, since the results go by standard output."""
    print(line, file=sys.stderr, flush=True)


def check_stack(stack: StackName, names: Collection[str], *, as_json: bool) -> int:
    start_sandbox(stack)
    stacks.prepare(stack)
    checks = check.look(stack, names)
    if as_json:
        print(checks.model_dump_json(indent=2))
    else:
        check.show(checks, console())
    return 0 if checks.is_good else 1


def check_from_stdin() -> int:
    print(check.answer(json.load(sys.stdin), os.environ, Console(stderr=True)).model_dump_json())
    return 0


def heal_stack(stack: StackName, names: Collection[str], *, yes: bool) -> int:
    start_sandbox(stack)
    stacks.prepare(stack)
    return heal.heal(stack, names, console(), yes=yes)


def find_predecessor() -> int:
    """The NodePort may be the predecessor's still: that is no problem here."""
    stack = stack_from_stdin(ask=ask_nothing)
    if isinstance(stack, Disabled):
        raise OperationError("enable_docker_cache is off, so there is nothing that could take over: set it to true")
    found = predecessor.find(stack)
    print(json.dumps(asdict(found) if found else None))
    return 0


def retire_predecessor() -> int:
    stack = stack_from_stdin()
    print(json.dumps([] if isinstance(stack, Disabled) else predecessor.retire(stack)))
    return 0


def stack_from_stdin(ask: Ask = ask_cluster) -> Stack | Disabled:
    values: dict[str, str] = json.load(sys.stdin)
    return read_stack(values.get, stacks.ROOT, os.environ, ask=ask)


def import_options(arguments: argparse.Namespace) -> Options:
    return Options(
        config=arguments.config,
        layout=arguments.layout,
        hosts=arguments.hosts,
        folder=arguments.folder,
        cluster_id=arguments.cluster_id,
        kubeconfig=arguments.kubeconfig,
        context=arguments.kube_context,
        scan=not arguments.no_scan,
        yes=arguments.yes,
    )


def listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m operations")
    parser.add_argument("action")
    parser.add_argument("--stack", default="dev")
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--secrets-provider")
    parser.add_argument(
        "--nodes", default="", help="of check, heal and those that are run by others: names with commas"
    )
    for name in ("images", "platforms"):
        parser.add_argument(f"--{name}", default="", help="of prefetch: names with commas")
    parser.add_argument("--words", default="[]", help="of prefetch, which is run by itself once more")
    parser.add_argument("--json", action="store_true", help="of check")
    for name in ("config", "layout", "hosts", "folder", "cluster-id", "kubeconfig", "kube-context"):
        parser.add_argument(f"--{name}", help="of import")
    parser.add_argument("--no-scan", action="store_true", help="of import")
    arguments = parser.parse_args()
    stack = StackName(name=arguments.stack)
    names = listed(arguments.nodes)
    actions: dict[str, Callable[[], int]] = {
        "up": lambda: up(stack, yes=arguments.yes),
        "preview": lambda: preview(stack),
        "down": lambda: down(stack, yes=arguments.yes),
        "proof": lambda: proof(stack),
        "check": lambda: check_stack(stack, names, as_json=arguments.json),
        "heal": lambda: heal_stack(stack, names, yes=arguments.yes),
        "prefetch": lambda: prefetch_images(stack, listed(arguments.images), listed(arguments.platforms)),
        "gc": lambda: gc(stack),
        "new": lambda: new(stack, secrets_provider=arguments.secrets_provider),
        "import": lambda: import_stack(stack, import_options(arguments)),
        "takeover": lambda: takeover(stack, yes=arguments.yes),
        # Run by the above, where the cluster can be reached.
        "proof-from-stdin": lambda: proof_from_stdin(names),
        "prefetch-from-stdin": lambda: prefetch_from_stdin(arguments.words),
        "take-back-from-stdin": lambda: take_back_from_stdin(names),
        "check-from-stdin": check_from_stdin,
        "gc-from-stdin": gc_from_stdin,
        "find-predecessor": find_predecessor,
        "retire-predecessor": retire_predecessor,
    }
    if arguments.action not in actions:
        parser.error(f"no such action: {arguments.action}")
    try:
        return actions[arguments.action]()
    except (OperationError, SandboxError, SettingsError, ClusterError) as error:
        print(f"docker-cache: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("docker-cache: stopped; what was done so far is recorded, run it again to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
