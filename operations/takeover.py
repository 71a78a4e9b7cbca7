"""`make takeover`: from OpenPAI's own docker-cache to this one, without an interval in which pulls fail.

The new cache comes up beside the old one, on another NodePort; each node changes over by a reload, from a mirror that answers to
another that answers; the old one goes once every node has been seen to pull through the new one.
"""

import json
import sys
from collections.abc import Callable, Mapping

from operations import stacks
from operations.predecessor import Predecessor
from operations.stacks import OperationError, StackName
from operations.terminal import confirm
from settings.model import Settings
from settings.stack import PREFIX

PORT_KEY = "docker_cache_node_port"
USUAL_PORT: int = Settings.model_fields[PORT_KEY].default


def take_over(stack: StackName, *, yes: bool, update: Callable[[], int]) -> int:
    """`update` brings the stack up and proves it on every node; its exit status says whether all is well."""
    values = stacks.configuration(stack)
    found = find(stack, values)
    if found is None:
        print("There is nothing of OpenPAI's own docker-cache in this cluster: `make up` is all it takes.")
        return 0
    port = int(values.get(PORT_KEY) or USUAL_PORT)
    moves = port in found.node_ports
    if moves and values.get("docker_cache_entry"):
        raise OperationError(
            f'docker_cache_entry is "{values["docker_cache_entry"]}", and the NodePort {port} is the old cache\'s: set '
            f"{PORT_KEY} to {found.free_port} and let the entry point there, then run it again"
        )
    new_port = found.free_port if moves else port
    print(plan(stack, found, new_port))
    if not confirm("Take over?", yes=yes):
        print("Nothing was changed.")
        return 1
    if moves:
        set_port(stack, new_port)
    if update():
        print(
            "make takeover: the old cache stays as it is, since not all went well (above); mend that and run it again",
            file=sys.stderr,
        )
        return 1
    for line in json.loads(stacks.ask_in_network(stack, "retire-predecessor", stacks.configuration(stack))):
        print(f"deleted {line}")
    print(ending(stack, new_port))
    return 0


def find(stack: StackName, values: Mapping[str, str]) -> Predecessor | None:
    found = json.loads(stacks.ask_in_network(stack, "find-predecessor", values))
    return Predecessor(**found) if found else None


def plan(stack: StackName, found: Predecessor, new_port: int) -> str:
    lines = [
        "OpenPAI's own docker-cache runs in this cluster:",
        *(f"  {item}" for item in found.objects),
        f"Taking over, for the stack {stack.name}:",
        f"  1. the new cache comes up beside it, on NodePort {new_port}",
        "  2. each node's docker gets the new mirror in the old one's place, by a reload",
        "  3. each node pulls an image, counted at the new cache; if one does not, the old cache stays",
        "  4. the objects above are deleted",
    ]
    if found.uncovered:
        names = ", ".join(found.uncovered)
        lines.append(
            f"These nodes are not in docker_cache_nodes and keep the old mirror, which then answers no more: {names}"
        )
    return "\n".join(lines)


def ending(stack: StackName, port: int) -> str:
    if port == USUAL_PORT:
        return "The cluster is taken over."
    return (
        f"The cluster is taken over. The cache stays on NodePort {port} ({PORT_KEY} in {stack.file.name}). To have it on "
        f"{USUAL_PORT}, free now, set {PORT_KEY} to {USUAL_PORT} and `make up STACK={stack.name}`: no pull fails meanwhile."
    )


def set_port(stack: StackName, port: int) -> None:
    result = stacks.run_quietly(stack.pulumi("config", "set", f"{PREFIX}{PORT_KEY}", str(port)))
    if result.returncode:
        raise OperationError(f"pulumi can't set {PORT_KEY}: {result.stderr.strip()}")
