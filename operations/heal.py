"""`make heal`: do the nodes that have drifted anew, and no others.

A node's Command reads nothing back, so pulumi sees no drift. A number in the stack's configuration, which is part of the node's
command, is raised: then an update of that node alone runs it again.
"""

import json
from collections.abc import Collection, Sequence

from rich.console import Console

from operations import check, recorded, stacks
from operations.node_checks import Checked
from operations.recorded import Recorded
from operations.stacks import OperationError, StackName
from operations.terminal import confirm
from settings.stack import PREFIX

GENERATIONS = "docker_cache_generations"


def heal(stack: StackName, names: Collection[str], console: Console, *, yes: bool) -> int:
    """The named nodes, or those that have drifted; the exit status says whether all that were looked at are in order now."""
    known = {identity.partition("@")[0]: node for identity, node in recorded.read(stack).nodes.items()}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise OperationError(
            f"there is nothing to heal on {', '.join(unknown)}: `make up STACK={stack.name}` has not been through there yet"
        )
    checks = check.look(stack, names)
    check.show(checks, console)
    chosen = [node for node in checks.nodes if can_be_healed(node, known) and (names or node.is_drifted)]
    if not chosen:
        print("Nothing has drifted that could be healed.")
        return 0 if checks.is_good else 1
    print(plan(stack, [node.node for node in chosen]))
    if not confirm("Heal?", yes=yes):
        print("Nothing was changed.")
        return 1
    raise_generations(stack, [node.node for node in chosen])
    updated = stacks.run_in_foreground(update(stack, [known[node.node] for node in chosen]))
    after = check.look(stack, names)
    check.show(after, console)
    return updated or (0 if after.is_good else 1)


def can_be_healed(node: Checked, known: Collection[str]) -> bool:
    return node.verdict != "not reached" and node.node in known


def plan(stack: StackName, names: Sequence[str]) -> str:
    return (
        f"Healing, for the stack {stack.name}: {', '.join(names)}\n"
        f"  1. {GENERATIONS} in {stack.file.name} counts one more for each of them\n"
        "  2. `pulumi up` of these nodes alone does what it did there at first; docker is reloaded, not restarted\n"
        "  3. they are checked again"
    )


def raise_generations(stack: StackName, names: Sequence[str]) -> None:
    """Raises OperationError."""
    present = json.loads(stacks.configuration(stack).get(GENERATIONS) or "{}")
    for name in names:
        # In quotes: a name may have dots, which lead further into the path.
        place = f'{PREFIX}{GENERATIONS}["{name}"]'
        result = stacks.run_quietly(stack.pulumi("config", "set", "--path", place, str(int(present.get(name, 0)) + 1)))
        if result.returncode:
            raise OperationError(f"pulumi can't set {GENERATIONS}: {result.stderr.strip()}")


def update(stack: StackName, nodes: Sequence[Recorded]) -> list[str]:
    """The question was asked already."""
    targets = [word for node in nodes for word in ("--target", node.urn)]
    return stack.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", *targets)
