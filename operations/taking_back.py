"""Taking the mirror back from a node that has it and was not seen to use it, so that the next run tries the node again."""

import asyncio
import copy
import json
from collections.abc import Collection
from typing import Any

from components.arguments import node_mirrors_args
from components.node_mirrors import mirror_script
from operations import recorded, stacks
from operations.ssh import NodeError, connect
from operations.stacks import OperationError, StackName
from settings.access import Access
from settings.stack import Stack

SECONDS = 180
TAKEN_BACK = "taken back: by make up, since the node was not seen to use the cache"
"""Stands in the state for the command that was run and for what it said."""


def take_back(stack: Stack, access: Access) -> str:
    """Take the mirror out of the node, as a deletion of its Command does; what the node says, or why it could not be done."""
    try:
        return asyncio.run(remove(stack, access))
    except NodeError as error:
        return f"could not be taken back: {error}"


async def remove(stack: Stack, access: Access) -> str:
    script = mirror_script(node_mirrors_args(stack), access)
    async with connect(access) as shell:
        return await shell.run_script(script.script, *script.delete, seconds=SECONDS)


def record(stack: StackName, urns: Collection[str]) -> None:
    """Let the state say that these Commands were not run as they should be, so that the next preview shows them as changed.

    pulumi's own `state taint` would do it by a replacement, whose deletion takes the new mirror out; `state delete` refuses the
    canary, which others depend on. Raises OperationError.
    """
    changed = json.dumps(undone(recorded.export(stack), urns))
    imported = stacks.run_quietly(stack.pulumi("stack", "import"), text=changed)
    if imported.returncode:
        raise OperationError(f"pulumi can't write the state of {stack.name}: {imported.stderr.strip()}")


def undone(state: dict[str, Any], urns: Collection[str]) -> dict[str, Any]:
    """The exported state with these Commands marked. Secrets stay encrypted in it."""
    marked = copy.deepcopy(state)
    for resource in marked["deployment"]["resources"]:
        if resource["urn"] in urns:
            resource["inputs"]["create"] = TAKEN_BACK
            resource["outputs"] |= {"create": TAKEN_BACK, "stdout": TAKEN_BACK}
    return marked
