"""The proof and the taking back, run where the nodes can be reached; what comes back is each node's result."""

import json
from collections.abc import Mapping, Sequence

from operations import stacks
from operations.proof import Result
from operations.stacks import StackName


def prove_nodes(stack: StackName, values: Mapping[str, str], names: Sequence[str]) -> dict[str, list[Result]]:
    """The results of each node's engines, by its name. Raises OperationError."""
    results: dict[str, list[Result]] = {}
    if not names:
        return results
    said = stacks.work_in_network(stack, "proof-from-stdin", values, "--nodes", ",".join(names))
    for item in json.loads(said):
        results.setdefault(item["node"], []).append(Result(**item))
    return results


def take_back_nodes(stack: StackName, values: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """What each node says to it, or why it could not be done, by its name. Raises OperationError."""
    if not names:
        return {}
    lines: dict[str, str] = json.loads(
        stacks.work_in_network(stack, "take-back-from-stdin", values, "--nodes", ",".join(names))
    )
    return lines
