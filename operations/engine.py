"""Runs of `pulumi preview` and `pulumi up` whose events are read as they happen.

This is the CLI with the flag that Pulumi's Automation API itself reads events by (`--event-log`, unlocked by
PULUMI_DEBUG_COMMANDS), and that API's types for them. The API's own `Stack.up` is not used: it listens for the events on a
port of this process, which pulumi in the sandbox's network can't reach; it takes the terminal from pulumi, so that the preview
has no colours and Ctrl-C has to be handed on; and after each run it reads all outputs and the configuration, secrets included.
"""

import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from pulumi.automation.events import EngineEvent, OpType, StepEventMetadata

from operations.recorded import NODE_COMMAND
from operations.stacks import StackName, run_in_foreground
from operations.waves import Change

UNCHANGED = {OpType.SAME, OpType.READ, OpType.REFRESH}
COLOURS = re.compile(r"<\{%.*?%\}>")
OUR_WORDS = re.compile(r"^docker-cache on \S+: (.+)$", re.MULTILINE)
POLL_SECONDS = 0.2
PREFETCH_JOB = "docker-cache:prefetch:Prefetch$kubernetes:batch/v1:Job"
NOT_BEGUN = "pulumi did not come to it"

OnEvent = Callable[[EngineEvent], None]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a preview would do: to the nodes that are there or leave the list, what is deleted besides, and all the rest, of which
    `fetches` is the Job that fetches images ahead.
    """

    nodes: tuple[Change, ...]
    deletions: tuple[str, ...]
    others: tuple[str, ...]
    fetches: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.nodes or self.deletions or self.others or self.fetches)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A run's exit status, and what it printed where that was not shown."""

    status: int
    output: str = ""


def preview(stack: StackName) -> tuple[int, list[StepEventMetadata]]:
    """Show what an update would do; the exit status and the steps."""
    steps: list[StepEventMetadata] = []

    def remember(event: EngineEvent) -> None:
        if event.resource_pre_event and event.resource_pre_event.metadata.op not in UNCHANGED:
            steps.append(event.resource_pre_event.metadata)

    ran = run(stack.pulumi("preview"), remember, shown=True)
    return ran.status, steps


def up(stack: StackName, on_event: OnEvent, *, without: Collection[str] = (), shown: bool) -> Ran:
    """Update everything but the resources whose URNs are in `without`, which stay as they are."""
    left_out = [word for urn in without for word in ("--exclude", urn)]
    return run(stack.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", *left_out), on_event, shown=shown)


def run(command: list[str], on_event: OnEvent, *, shown: bool) -> Ran:
    """Raises KeyboardInterrupt once pulumi has ended, where the user has stopped it."""
    with tempfile.TemporaryDirectory() as folder:
        log, output, ended = Path(folder, "events"), Path(folder, "output"), threading.Event()
        log.touch()
        reader = threading.Thread(target=follow, args=(log, on_event, ended))
        reader.start()
        environment = os.environ | {"PULUMI_DEBUG_COMMANDS": "true"}
        try:
            with output.open("w", encoding="utf-8") as target:
                status = run_in_foreground(
                    [*command, "--event-log", str(log)],
                    environment=environment,
                    output=None if shown else target,
                    errors=None if shown else target,
                )
        finally:
            ended.set()
            reader.join()
        return Ran(status=status, output=output.read_text(encoding="utf-8", errors="replace"))


def follow(log: Path, on_event: OnEvent, ended: threading.Event) -> None:
    """Hand on each event, until the run has ended and all is read."""
    with log.open(encoding="utf-8") as source:
        part = ""
        while True:
            was_over = ended.is_set()
            part += source.readline()
            if part.endswith("\n"):
                on_event(EngineEvent.from_json(json.loads(part)))
                part = ""
            elif was_over:
                return
            else:
                time.sleep(POLL_SECONDS)


def changes_of(steps: Iterable[StepEventMetadata], kept: Collection[str]) -> Changes:
    """A preview's steps, by what they are to the waves; `kept` are the identities of the nodes that are not forgotten.

    Nothing connects to a forgotten node, nor to one that was forgotten when its Command is deleted: those are not the nodes'.
    """
    by_urn: dict[str, list[StepEventMetadata]] = {}
    for step in steps:
        by_urn.setdefault(step.urn, []).append(step)
    nodes, deletions, others, fetches = [], [], [], []
    for urn, of_it in by_urn.items():
        operations = {step.op for step in of_it}
        is_removed = operations == {OpType.DELETE}
        is_retained = is_removed and any(step.old and step.old.retain_on_delete for step in of_it)
        change = Change(urn=urn, is_new=operations == {OpType.CREATE}, is_removed=is_removed)
        if is_of_type(urn, NODE_COMMAND) and not is_retained and (is_removed or change.identity in kept):
            nodes.append(change)
        elif is_removed and not is_retained:
            deletions.append(urn)
        elif is_of_type(urn, PREFETCH_JOB):
            fetches.append(urn)
        else:
            others.append(urn)
    return Changes(nodes=tuple(nodes), deletions=tuple(deletions), others=tuple(others), fetches=tuple(fetches))


def is_of_type(urn: str, kind: str) -> bool:
    """With the types of its parents."""
    return urn.split("::")[-2] == kind


def plain(message: str) -> str:
    """Without the engine's marks for colours."""
    return COLOURS.sub("", message).strip()


def reason(message: str) -> str:
    """One line of a failed Command's message, which has the whole command and everything it printed: the script's own words, else
    the last line.
    """
    text = plain(message)
    problems = OUR_WORDS.findall(text)
    if problems:
        return "; ".join(problems)
    return text.splitlines()[-1].strip() if text else "pulumi gives no reason"


class Watch:
    """Follows a run's events: tells of each of the nodes as it ends, and remembers how it went."""

    def __init__(self, urns: Collection[str], say: Callable[[str], None]) -> None:
        self.lines: dict[str, str] = {}
        """What each node said that went well, by its URN."""
        self._urns = urns
        self._say = say
        self._messages: dict[str, str] = {}

    def __call__(self, event: EngineEvent) -> None:
        message, done, failed = event.diagnostic_event, event.res_outputs_event, event.res_op_failed_event
        if message and message.severity == "error" and message.urn:
            self._messages[message.urn] = f"{self._messages.get(message.urn, '')}\n{message.message}"
        elif done and done.metadata.urn in self._urns:
            outputs = (done.metadata.new.outputs if done.metadata.new else None) or {}
            self._tell(done.metadata.urn, str(outputs.get("stdout") or "").strip())
        elif failed and failed.metadata.urn in self._urns:
            self._say(f"  {Change(urn=failed.metadata.urn).node}: failed: {self.failure(failed.metadata.urn)}")

    def _tell(self, urn: str, line: str) -> None:
        self.lines[urn] = line
        self._say(f"  {Change(urn=urn).node}: {line or 'taken back'}")

    def failure(self, urn: str) -> str:
        """Why a node failed; for one that did not even begin, that."""
        return reason(self._messages[urn]) if urn in self._messages else NOT_BEGUN
