"""`make check`: what the nodes and the cluster say, as a table or as JSON."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from operations import recorded, stacks
from operations.node_checks import STATES, Checked, Checks, Engine, Finding, Task, check
from operations.recorded import Recorded, State
from operations.stacks import OperationError, StackName
from settings.access import Access
from settings.cautions import listed
from settings.cluster import ask_nothing
from settings.loading import Disabled
from settings.stack import Stack, read_stack

SWITCH, NODES = "enable_docker_cache", "docker_cache_nodes"


def look(stack: StackName, names: Collection[str]) -> Checks:
    """Check the named nodes, or all, where they can be reached from; its progress goes to the terminal. Raises OperationError."""
    state = recorded.read(stack)
    given = {
        "name": stack.name,
        "values": dict(stacks.configuration(stack)),
        "recorded": {identity: asdict(node) for identity, node in state.nodes.items()},
        "has_cache": state.has_cache,
        "nodes": list(names),
    }
    return Checks.model_validate_json(stacks.work_in_network(stack, "check-from-stdin", given))


def answer(given: Mapping[str, Any], environment: Mapping[str, str], console: Console) -> Checks:
    """The other end of `look`. Raises SettingsError, OperationError."""
    nodes = {identity: Recorded(**node) for identity, node in given["recorded"].items()}
    state = State(nodes=nodes, has_cache=given["has_cache"])
    task = task_of(given["name"], given["values"], environment, state, given["nodes"])
    return check(task, console) if task else Checks()


def task_of(
    name: str,
    values: Mapping[str, str],
    environment: Mapping[str, str],
    state: State,
    names: Collection[str],
) -> Task | None:
    """None for a stack that is switched off and lists no nodes. Raises SettingsError, OperationError."""
    read = read_stack(values.get, stacks.ROOT, environment, ask=ask_nothing)
    is_wanted = not isinstance(read, Disabled)
    if isinstance(read, Disabled) and values.get(NODES):
        read = read_stack({**values, SWITCH: "true"}.get, stacks.ROOT, environment, ask=ask_nothing)
    if isinstance(read, Disabled):
        return None
    return Task(stack=read, name=name, state=state, nodes=select(read, names), is_wanted=is_wanted)


def select(stack: Stack, names: Collection[str]) -> list[Access]:
    """The named nodes, or all. Raises OperationError."""
    there = [node.name for node in stack.nodes]
    unknown = [name for name in names if name not in there]
    if unknown:
        raise OperationError(f'NODES is "{",".join(unknown)}": {NODES} has {listed(there)}')
    return [node for node in stack.nodes if not names or node.name in names]


def show(checks: Checks, console: Console) -> None:
    """The table, and below it each problem with its remedy; alike ones of several nodes in one line."""
    console.print(as_table(checks.nodes))
    lines = [(finding, "the cluster") for finding in checks.cluster]
    lines += [(finding, listed(nodes)) for finding, nodes in by_finding(checks.nodes).items()]
    for finding, where in lines:
        # As it is: a key such as docker_cache_nodes[w1] would be taken for a style, and a log is not folded.
        style = "red" if finding.level == "error" else "yellow"
        console.print(line(finding, where), style=style, markup=False, highlight=False, soft_wrap=True)


def by_finding(nodes: Iterable[Checked]) -> dict[Finding, list[str]]:
    """Errors first."""
    found: dict[Finding, list[str]] = {}
    for node in nodes:
        for finding in node.findings:
            found.setdefault(finding, []).append(node.node)
    return dict(sorted(found.items(), key=lambda item: item[0].level != "error"))


def line(finding: Finding, where: str) -> str:
    return f"{where}: {'; '.join(word for word in (finding.text, finding.remedy) if word)}"


def as_table(nodes: Iterable[Checked]) -> Table:
    table = Table(title="What the nodes say (nothing was changed)")
    for column in ("node", "engines", "mirror", "verdict"):
        table.add_column(column, overflow="fold")
    for node in nodes:
        table.add_row(
            node.node,
            "\n".join(title(engine) for engine in node.engines) or "–",
            "\n".join(STATES[engine.mirror] for engine in node.engines) or "–",
            node.verdict,
            style=None if node.is_good else "red",
        )
    return table


def title(engine: Engine) -> str:
    if engine.containers is None:
        return engine.title
    return f"{engine.title}, {engine.containers} container{'' if engine.containers == 1 else 's'}"
