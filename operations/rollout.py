"""`make up` after the question: what is not a node, then the canary, then wave after wave, each proved before the next begins,
and at last the images that are fetched ahead.

Each run of pulumi leaves out what is not its turn yet, so that the last one leaves out nothing: state and outputs are whole then.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pulumi.automation.events import EngineEvent

from operations import engine, taking_back
from operations.engine import Changes, Watch
from operations.proof import Result, as_table
from operations.proving import prove_nodes, take_back_nodes
from operations.stacks import StackName
from operations.terminal import console
from operations.waves import Change, Outcome, Wave, plan, roll_out
from settings.access import identity
from settings.model import Settings


def identities(settings: Settings) -> tuple[str, ...]:
    """Of the nodes that are there, in the order of the list."""
    port = settings.docker_cache_ssh_port
    return tuple(identity(node.name, node.host, node.port or port) for node in settings.kept_nodes)


def say(line: str) -> None:
    print(line, flush=True)


def ignore(event: EngineEvent) -> None:
    """For runs that the user watches himself."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one `make up` is to change: `order` has the identities of the nodes that are there, in the order of the list, and
    `values` is the configuration, secrets in plain text.
    """

    stack: StackName
    values: Mapping[str, str]
    settings: Settings
    changes: Changes
    order: Sequence[str]

    @property
    def total(self) -> int:
        """The nodes that shares are taken of."""
        return len(self.order) + sum(change.is_removed for change in self.changes.nodes)

    @property
    def most_failures(self) -> int:
        return self.settings.docker_cache_max_failures.of(self.total)

    def waves(self) -> tuple[Wave, ...]:
        canary = next((each for each in self.order if each.partition("@")[0] == self.settings.canary), None)
        size = self.settings.docker_cache_wave_size.of(self.total)
        return plan(self.changes.nodes, order=self.order, canary=canary, size=size)


class Rollout:
    """One `make up`, and what has become of it so far."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._pending = {change.urn for change in task.changes.nodes}
        self._failed: set[str] = set()
        self._proved: dict[str, list[Result]] = {}
        self._canary_is_missing = False

    def run(self) -> int:
        """The exit status: 0 where every node is as it should be and was seen to use the cache."""
        waves = self._task.waves()
        status = self._before_the_nodes(waves)
        if status:
            print("make up: what comes before the nodes has failed, see above; no node was changed", file=sys.stderr)
            return status
        outcome = roll_out(waves, max_failures=self._task.most_failures, change=self._change)
        status = self._settle(outcome)
        results = self._prove_the_rest(outcome)
        console().print(as_table(results))
        for line in report(self._task, outcome):
            print(line, file=sys.stderr)
        has_all_images = self._fetch_ahead(outcome)
        is_well = has_all_images and not outcome.undone and all(result.is_good for result in results)
        return status or (0 if is_well else 1)

    def _before_the_nodes(self, waves: Sequence[Wave]) -> int:
        """Everything that is not a node, except the images, which may take hours, and what is deleted: until the last node has
        changed over, it may be needed.

        A canary that is new is done in one run with it: a run that leaves the canary out while nodes that are there already are
        to depend on it writes a state that is invalid (seen with pulumi 3.250).
        """
        if not waves:
            return engine.up(self._task.stack, ignore, without=self._task.changes.fetches, shown=True).status
        if waves[0].has_new_canary or not self._task.changes.others:
            return 0
        without = [*self._pending, *self._task.changes.deletions, *self._task.changes.fetches]
        return engine.up(self._task.stack, ignore, without=without, shown=True).status

    def _change(self, wave: Wave) -> dict[Change, str]:
        """Change one wave's nodes and prove them; those that failed, with their reasons."""
        say(str(wave))
        urns = {change.urn for change in wave.changes}
        self._pending -= urns
        later = [*self._task.changes.deletions, *self._task.changes.fetches]
        without = [*self._pending, *self._failed, *later]
        watch = Watch(urns, say)
        ran = engine.up(
            self._task.stack, watch, without=without, shown=wave.has_new_canary and bool(self._task.changes.others)
        )
        self._canary_is_missing = wave.has_new_canary and not watch.lines
        failures = {change: watch.failure(change.urn) for change in wave.changes if change.urn not in watch.lines}
        if ran.status and (not failures or engine.NOT_BEGUN in failures.values()):
            say(ran.output)
        failures |= self._prove([change for change in wave.changes if self._can_be_proved(change, watch.lines)])
        self._failed |= {change.urn for change in failures}
        return failures

    def _can_be_proved(self, change: Change, lines: Mapping[str, str]) -> bool:
        """Docker sends a mirror no credentials, so that no pull counts with htpasswd; and one that is stopped pulls nothing."""
        is_live = lines.get(change.urn, "").startswith("live:")
        return is_live and not self._task.settings.docker_cache_htpasswd

    def _prove(self, changes: Sequence[Change]) -> dict[Change, str]:
        """Take back those that were not seen to use the cache; the reasons."""
        results = prove_nodes(self._task.stack, self._task.values, [change.node for change in changes])
        self._proved |= results
        # Backwards: of a node's engines, the first that failed is its reason.
        unproved = {
            change: f"the proof {result.verdict}"
            for change in changes
            for result in reversed(results[change.node])
            if not result.is_good
        }
        if not unproved:
            return {}
        names = [change.node for change in unproved]
        for name, line in take_back_nodes(self._task.stack, self._task.values, names).items():
            say(f"  {name}: {line}")
        taking_back.record(self._task.stack, {change.urn for change in unproved})
        return unproved

    def _settle(self, outcome: Outcome) -> int:
        """A last run, for what is deleted after the nodes, and for the outputs, which failures leave unknown.

        A canary that could not be made can't be left out of it, see above.
        """
        deletions = self._task.changes.deletions
        if not self._task.changes.nodes or self._canary_is_missing or not (outcome.undone or deletions):
            return 0
        without = [*self._kept(outcome), *self._task.changes.fetches]
        ran = engine.up(self._task.stack, ignore, without=without, shown=False)
        if ran.status:
            say(ran.output)
        return ran.status

    def _kept(self, outcome: Outcome) -> list[str]:
        """What stays as it is until the next `make up`."""
        undone = [change.urn for change in outcome.undone]
        return [*undone, *self._task.changes.deletions] if undone else []

    def _fetch_ahead(self, outcome: Outcome) -> bool:
        """Whether all images are there. In a run of its own, so that no node waits for them or fails with them."""
        if not self._task.changes.fetches:
            return True
        if not self._canary_is_missing:
            say("images are fetched ahead: nothing waits for them, and Ctrl-C does no harm")
            if not engine.up(self._task.stack, ignore, without=self._kept(outcome), shown=True).status:
                return True
        print("make up: not all images were fetched ahead, see above; the next run tries them again", file=sys.stderr)
        return False

    def _prove_the_rest(self, outcome: Outcome) -> list[Result]:
        """The results of all nodes that are as the list has them, in its order."""
        undone = {change.node for change in outcome.undone}
        names = [node.name for node in self._task.settings.kept_nodes]
        rest = [name for name in names if name not in undone and name not in self._proved]
        self._proved |= prove_nodes(self._task.stack, self._task.values, rest)
        return [result for name in names for result in self._proved.get(name, ())]


def report(task: Task, outcome: Outcome) -> list[str]:
    """What is said at the end of nodes that failed or were left alone."""
    lines = []
    if outcome.failed:
        lines.append("make up: these nodes failed; they are tried again by the next run:")
        lines += [f"  {change.node}: {why}" for change, why in outcome.failed.items()]
    if outcome.left:
        lines.append(f"make up: {len(outcome.left)} more were left alone, since {why_stopped(task, outcome)}")
    if outcome.undone and task.changes.deletions:
        kept = ", ".join(urn.rpartition("::")[2] for urn in task.changes.deletions)
        lines.append(f"make up: {kept} stays until all nodes are done, since they may still need it")
    return lines


def why_stopped(task: Task, outcome: Outcome) -> str:
    if outcome.canary_failed:
        return (
            f"the canary {task.settings.canary} failed: mend it, or name another node as docker_cache_canary if it is the "
            "machine that is broken and not the change"
        )
    return f"more than {task.most_failures} of {task.total} nodes failed (docker_cache_max_failures)"
