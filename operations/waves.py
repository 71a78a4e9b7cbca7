"""Which nodes are changed when: the canary, then waves, until too many have failed. Pure, no pulumi."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Change:
    """What an update would do to one node's Command: make it (`is_new`), delete it (`is_removed`), or run it anew."""

    urn: str
    is_new: bool = False
    is_removed: bool = False

    @property
    def identity(self) -> str:
        return self.urn.rpartition("::")[2]

    @property
    def node(self) -> str:
        return self.identity.partition("@")[0]


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Nodes that are changed at the same time."""

    title: str
    changes: tuple[Change, ...]
    is_canary: bool = False

    @property
    def has_new_canary(self) -> bool:
        return self.is_canary and self.changes[0].is_new

    def __str__(self) -> str:
        count = len(self.changes)
        what = self.changes[0].node if self.is_canary else f"{count} node{'s' if count > 1 else ''}"
        return f"{self.title}: {what}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the waves went. `failed` has a reason for each node; the changes in `left` were not begun."""

    failed: Mapping[Change, str]
    left: tuple[Change, ...] = ()
    canary_failed: bool = False

    @property
    def undone(self) -> tuple[Change, ...]:
        return (*self.failed, *self.left)


def plan(changes: Sequence[Change], *, order: Sequence[str], canary: str | None, size: int) -> tuple[Wave, ...]:
    """The waves of at most `size` nodes. `order` is the list's identities; `canary` is one of them, or None.

    What is taken back comes last: a renamed node's old Command must not go before its new one is there.
    """
    place = {identity: number for number, identity in enumerate(order)}
    ordered = sorted(changes, key=lambda change: (change.is_removed, place.get(change.identity, 0), change.identity))
    first = [change for change in ordered if change.identity == canary and not change.is_removed]
    rest = [change for change in ordered if change not in first]
    chunks = [tuple(rest[start : start + size]) for start in range(0, len(rest), size)]
    waves = [
        Wave(title=f"wave {number} of {len(chunks)}", changes=chunk) for number, chunk in enumerate(chunks, start=1)
    ]
    return (*(Wave(title="canary", changes=(change,), is_canary=True) for change in first), *waves)


def roll_out(waves: Sequence[Wave], *, max_failures: int, change: Callable[[Wave], Mapping[Change, str]]) -> Outcome:
    """Change one wave after the other, while the canary is well and no more than `max_failures` nodes have failed.

    `change` does one wave, and gives its failed changes with their reasons.
    """
    failed: dict[Change, str] = {}
    for number, wave in enumerate(waves, start=1):
        failures = change(wave)
        failed |= failures
        canary_failed = wave.is_canary and bool(failures)
        if canary_failed or len(failed) > max_failures:
            left = tuple(each for later in waves[number:] for each in later.changes)
            return Outcome(failed=failed, left=left, canary_failed=canary_failed)
    return Outcome(failed=failed)
