"""What every node and the cluster say, and what to make of it: what would be in an update's way, and what has drifted since the
last one. Nothing is changed.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pydantic
from rich.console import Console

from components.arguments import node_mirrors_args
from components.node_mirrors import mirror_script
from components.remote import NodeScript
from operations.recorded import Recorded, State
from operations.ssh import NodeError, connect
from settings.access import Access
from settings.cluster import ask_cluster
from settings.stack import Stack

AT_ONCE = 32
SECONDS = 180
GIVEN_BY_UPDATES = {"live", "written"}
"""What a node's Command says where the node has the mirror."""
TAKEN_OUT = {"another", "changed", "absent"}
STATES = {
    "live": "live",
    "absent": "none",
    "foreign": "live, the administrator's own",
    "written": "in its file, not live",
    "another": "that of an earlier configuration",
    "changed": "changed by hand",
    "unknown": "can't be seen",
}
"""The words for what on_node/describe.py says of a mirror."""
DRIFTED = {
    "live": "live, but not first, or without what belongs to it",
    "absent": "gone, and so is all that was ours (was the node installed anew?)",
}


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Finding(Strict):
    level: Literal["warning", "error"]
    text: str
    remedy: str


TO_COME = Finding(
    level="warning",
    text="the cache is not there yet: whether this node reaches it shows with the first update",
    remedy="",
)


class Engine(Strict):
    """As on_node/check.py tells it."""

    engine: str
    version: str
    mirror: Literal["live", "foreign", "written", "another", "changed", "absent", "unknown"]
    settled: bool | None
    containers: int | None

    @property
    def title(self) -> str:
        return f"{self.engine} {self.version}".strip()


class Report(Strict):
    """What a node says of itself."""

    engines: tuple[Engine, ...] = ()
    findings: tuple[Finding, ...] = ()
    cache: tuple[Finding, ...] = ()


class Checked(Strict):
    """A node's line in the table."""

    node: str
    verdict: str
    is_drifted: bool = False
    engines: tuple[Engine, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def is_good(self) -> bool:
        return all(finding.level != "error" for finding in self.findings)


class Checks(Strict):
    """Everything that was looked at."""

    cluster: tuple[Finding, ...] = ()
    nodes: tuple[Checked, ...] = ()

    @property
    def is_good(self) -> bool:
        return not self.cluster and all(node.is_good for node in self.nodes)


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to look at: the stack, and what its state has of the nodes. `is_wanted`: whether the nodes are to have the mirror."""

    stack: Stack
    name: str
    state: State
    nodes: Sequence[Access]
    is_wanted: bool


def check(task: Task, console: Console) -> Checks:
    """All nodes at once, as far as this machine bears it."""
    cluster = task.stack.cluster if task.is_wanted else None
    answer = ask_cluster(cluster, task.stack.settings, task.stack.entry_ca).problems if cluster else ()
    problems = tuple(as_error(line) for line in answer)
    return Checks(cluster=problems, nodes=tuple(asyncio.run(check_nodes(task, console))))


def as_error(line: str) -> Finding:
    text, _, remedy = line.rpartition("; ")
    return Finding(level="error", text=text or remedy, remedy=remedy if text else "")


async def check_nodes(task: Task, console: Console) -> list[Checked]:
    """In the order of the list."""
    free = asyncio.Semaphore(AT_ONCE)
    total, done = len(task.nodes), 0
    with console.status(f"check: 0 of {total} nodes") as status:

        async def check_in_turn(access: Access) -> Checked:
            nonlocal done
            async with free:
                checked = await check_node(task, access)
            done += 1
            status.update(f"check: {done} of {total} nodes")
            return checked

        return await asyncio.gather(*(check_in_turn(access) for access in task.nodes))


async def check_node(task: Task, access: Access) -> Checked:
    try:
        report = await ask(task, access)
    except NodeError as error:
        return Checked(node=access.name, verdict="not reached", findings=(as_error(str(error)),))
    judged = judge_wanted if task.is_wanted else judge_unwanted
    return judged(report, access, task)


async def ask(task: Task, access: Access) -> Report:
    """Raises NodeError."""
    script = script_of(task, access)
    async with connect(access) as shell:
        said = await shell.run_script(
            script.script,
            *script.create,
            certificate=script.certificate,
            authorization=script.authorization,
            seconds=SECONDS,
        )
    try:
        return Report.model_validate_json(said)
    except pydantic.ValidationError as error:
        raise NodeError("what it says is no report: does its shell print something at the sign-in?") from error


def script_of(task: Task, access: Access) -> NodeScript:
    """With the very words that the next update would run there."""
    if not task.is_wanted:
        return NodeScript(script="check", create=(), delete=())
    wanted = mirror_script(node_mirrors_args(task.stack), access)
    return replace(wanted, script="check", create=wanted.create[1:])


def judge_wanted(report: Report, access: Access, task: Task) -> Checked:
    """A node that is to have the mirror."""
    recorded = task.state.nodes.get(access.identity)
    words = mirror_script(node_mirrors_args(task.stack), access).create
    is_current = recorded is not None and recorded.gives(words)
    is_right = all(engine.settled for engine in report.engines)
    problem = drift(report, recorded) if is_current and recorded else None
    remedy = f"`make heal STACK={task.name} NODES={access.name}` puts it right"
    drifted = (Finding(level="error", text=problem, remedy=remedy),) if problem else ()
    is_to_come = task.stack.cluster is not None and not task.state.has_cache
    cache = (TO_COME,) if report.cache and is_to_come else report.cache
    findings = (*drifted, *report.findings, *cache)
    errors = [finding for finding in findings if finding.level == "error"]
    if drifted:
        verdict = "drifted"
    elif errors:
        verdict = "not in order"
    elif not report.engines:
        verdict = "no engine"
    else:
        verdict = "in order" if is_right else f"ready for `make up STACK={task.name}`"
    return Checked(
        node=access.name, verdict=verdict, is_drifted=bool(drifted), engines=report.engines, findings=findings
    )


def drift(report: Report, recorded: Recorded) -> str | None:
    """What is no longer as the last update left it."""
    if not report.engines:
        return "the engine that had the mirror is gone" if recorded.state in GIVEN_BY_UPDATES else None
    if recorded.state == "none" and not all(engine.settled for engine in report.engines):
        return "an engine was installed after the last update: it does not have the mirror"
    wrong = [engine for engine in report.engines if is_wrong(engine)]
    told = ", ".join(f"{engine.engine}'s is {DRIFTED.get(engine.mirror, STATES[engine.mirror])}" for engine in wrong)
    return f"the mirror is not as the last update left it: {told}" if wrong else None


def is_wrong(engine: Engine) -> bool:
    """Where a run would be refused, what is known is only whether the mirror is there."""
    return engine.mirror in TAKEN_OUT if engine.settled is None else not engine.settled


def judge_unwanted(report: Report, access: Access, task: Task) -> Checked:
    """A node of a stack that is switched off: nothing of ours may be left."""
    left = [engine for engine in report.engines if engine.mirror not in {"absent", "unknown"}]
    if access.identity in task.state.nodes:
        remedy = f"`make up STACK={task.name}` takes it out"
    else:
        remedy = "the stack does not know of it: switch enable_docker_cache on, `make up`, then off again"
    text = "enable_docker_cache is off, and something of docker-cache is left here"
    findings = (*((Finding(level="error", text=text, remedy=remedy),) if left else ()), *report.findings)
    errors = [finding for finding in findings if finding.level == "error"]
    verdict = "not in order" if errors else "nothing of docker-cache here"
    return Checked(node=access.name, verdict=verdict, engines=report.engines, findings=findings)
