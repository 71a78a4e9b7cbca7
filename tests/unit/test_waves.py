"""Which nodes are changed when, and what is left alone after failures: no engine."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.waves import Change, Outcome, Wave, plan, roll_out

URN = "urn:pulumi:prod::docker-cache::docker-cache:nodes:NodeMirrors$command:remote:Command::{}@10.0.0.1:22"


def change(name: str, *, is_new: bool = False, is_removed: bool = False) -> Change:
    return Change(urn=URN.format(name), is_new=is_new, is_removed=is_removed)


def planned(changes: str, order: str, canary: str | None, size: int) -> list[str]:
    """`w1 -w2`: a change of w1, and w2 taken back."""
    given = [change(name.removeprefix("-"), is_removed=name.startswith("-")) for name in changes.split()]
    waves = plan(
        given,
        order=[f"{name}@10.0.0.1:22" for name in order.split()],
        canary=canary and f"{canary}@10.0.0.1:22",
        size=size,
    )
    return [f"{wave.title}: {' '.join(each.node for each in wave.changes)}" for wave in waves]


@pytest.mark.parametrize(
    ("changes", "order", "canary", "size", "waves"),
    [
        ("", "m1 w1 w2", "w1", 2, []),
        ("m1 w1 w2", "m1 w1 w2", "w1", 5, ["canary: w1", "wave 1 of 1: m1 w2"]),
        ("w3 w2 w1 m1", "m1 w1 w2 w3", "w1", 2, ["canary: w1", "wave 1 of 2: m1 w2", "wave 2 of 2: w3"]),
        ("w3 w2", "m1 w1 w2 w3", "w1", 1, ["wave 1 of 2: w2", "wave 2 of 2: w3"]),
        ("-w9 w1 -w8 w2", "m1 w1 w2", "w1", 2, ["canary: w1", "wave 1 of 2: w2 w8", "wave 2 of 2: w9"]),
        ("-w9", "m1 w1", "w1", 2, ["wave 1 of 1: w9"]),
        ("-w9", "", None, 2, ["wave 1 of 1: w9"]),
    ],
)
def test_the_canary_is_first_then_the_list_in_its_order_then_what_is_taken_back(
    changes: str, order: str, canary: str | None, size: int, waves: list[str]
) -> None:
    assert planned(changes, order, canary, size) == waves


def test_a_wave_tells_how_many_nodes_it_has() -> None:
    one, two = (change("w1", is_new=True),), (change("w1"), change("w2"))
    assert str(Wave(title="canary", changes=one, is_canary=True)) == "canary: w1"
    assert str(Wave(title="wave 1 of 2", changes=two)) == "wave 1 of 2: 2 nodes"
    assert str(Wave(title="wave 2 of 2", changes=one)) == "wave 2 of 2: 1 node"


names = st.lists(st.sampled_from([f"w{number}" for number in range(30)]), unique=True)


@given(
    changed=names,
    removed=names,
    failing=st.sets(st.sampled_from([f"w{number}" for number in range(30)])),
    has_canary=st.booleans(),
    size=st.integers(1, 12),
    most=st.integers(0, 12),
)
def test_nothing_is_begun_after_a_failed_canary_or_too_many_failures(
    changed: list[str], removed: list[str], failing: set[str], has_canary: bool, size: int, most: int
) -> None:
    kept = [name for name in changed if name not in removed]
    changes = [change(name) for name in kept] + [change(name, is_removed=True) for name in removed]
    canary = f"{kept[-1]}@10.0.0.1:22" if kept and has_canary else None
    waves = plan(changes, order=[f"{name}@10.0.0.1:22" for name in kept], canary=canary, size=size)
    seen: list[Wave] = []

    def do(wave: Wave) -> Mapping[Change, str]:
        failed = {each for before in seen for each in before.changes if each.node in failing}
        assert not (seen and seen[0].is_canary and seen[0].changes[0].node in failing), "the canary failed"
        assert len(failed) <= most, "too many had failed already"
        seen.append(wave)
        return {each: "broken" for each in wave.changes if each.node in failing}

    outcome = roll_out(waves, max_failures=most, change=do)
    begun = [each for wave in seen for each in wave.changes]
    assert sorted(begun + list(outcome.left), key=str) == sorted(changes, key=str), "each node once, or left alone"
    assert {each.node for each in outcome.failed} == {each.node for each in begun if each.node in failing}
    assert all(len(wave.changes) <= size for wave in waves)
    assert bool(outcome.left) <= (outcome.canary_failed or len(outcome.failed) > most), "left alone without a reason"
    is_removal = [each.is_removed for wave in waves for each in wave.changes]
    assert is_removal == sorted(is_removal), "what is taken back comes after all others"
    if canary:
        assert waves[0].changes == (change(kept[-1]),)


def test_a_run_with_a_failure_that_is_allowed_goes_on() -> None:
    waves = plan([change("w1"), change("w2"), change("w3")], order=[], canary=None, size=1)
    outcome = roll_out(
        waves, max_failures=1, change=lambda wave: {each: "x" for each in wave.changes if each.node != "w3"}
    )
    assert outcome == Outcome(failed={change("w1"): "x", change("w2"): "x"}, left=(change("w3"),))
