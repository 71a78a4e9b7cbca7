"""`make up`'s runs of pulumi: what each one leaves out, what is taken back, and what is said at the end."""

import json
import subprocess
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from pulumi.automation.events import EngineEvent, StepEventMetadata

from operations import engine, rollout, stacks, taking_back
from operations.engine import Changes, Ran, Watch
from operations.proof import Result
from operations.rollout import Rollout, Task, identities
from operations.stacks import OperationError, StackName
from settings.loading import load
from settings.model import Settings
from tests.unit.messages import remember
from tests.unit.stacks import HTPASSWD, configuration, node
from tests.unit.test_waves import URN, change

SERVICE = (
    "urn:pulumi:prod::docker-cache::docker-cache:registry:RegistryCache$kubernetes:core/v1:Service::docker-cache-30500"
)
FOLDER = "urn:pulumi:prod::docker-cache::docker-cache:registry:RegistryCache$docker-cache:storage:CacheStorage$command:remote:Command::cache-folder-10.0.0.1:/x"
PREFETCH = "urn:pulumi:prod::docker-cache::docker-cache:prefetch:Prefetch$kubernetes:batch/v1:Job::prefetch-images"
LIVE = "live: mirror http://10.0.0.1:30500, docker 28, reloaded"


def event(kind: str, urn: str, **metadata: Any) -> EngineEvent:
    return EngineEvent.from_json({kind: {"metadata": {"op": "update", "urn": urn, **metadata}}})


def error(urn: str, message: str) -> EngineEvent:
    return EngineEvent.from_json({"diagnosticEvent": {"severity": "error", "urn": urn, "message": message}})


def step(op: str, urn: str, **old: Any) -> StepEventMetadata:
    return StepEventMetadata.from_json({"op": op, "urn": urn, **({"old": old} if old else {})})


class FakePulumi:
    """Does as pulumi would: the nodes that are not left out end well, but for those in `broken`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, changes: Changes) -> None:
        self.changes = changes
        self.broken: set[str] = set()
        self.unproved: set[str] = set()
        self.fails = False
        self.has_all_images = True
        self.runs: list[set[str]] = []
        """What each run left out, by the last part of the names."""
        self.proofs: list[list[str]] = []
        self.taken_back: list[str] = []
        self.recorded: list[set[str]] = []
        self._done: set[str] = set()
        monkeypatch.setattr(engine, "up", self.up)
        monkeypatch.setattr(rollout, "prove_nodes", self.prove)
        monkeypatch.setattr(rollout, "take_back_nodes", self.take_back)
        monkeypatch.setattr(taking_back, "record", lambda _, urns: self.recorded.append(set(urns)))

    def up(
        self, _: StackName, on_event: Callable[[EngineEvent], None], *, without: Collection[str] = (), shown: bool
    ) -> Ran:
        del shown
        self.runs.append({urn.rpartition("::")[2].partition("@")[0] for urn in without})
        if self.fails:
            return Ran(status=255, output="error: the stack is locked")
        status = 0
        if not self.has_all_images and PREFETCH not in without:
            status = 255
        for each in self.changes.nodes:
            if each.urn in without or each.urn in self._done:
                continue
            if each.node in self.broken:
                on_event(
                    error(each.urn, 'Process exited with status 1: running "python3":\ndocker-cache on h: no disk\n')
                )
                on_event(event("resOpFailedEvent", each.urn))
                status = 255
            else:
                self._done.add(each.urn)
                new = {"new": {"outputs": {"stdout": LIVE}}} if not each.is_removed else {}
                on_event(event("resOutputsEvent", each.urn, **new))
        return Ran(status=status)

    def prove(self, _: StackName, __: object, names: Sequence[str]) -> dict[str, list[Result]]:
        self.proofs.append(list(names))
        return {
            name: [
                Result(node=name, verdict="hit", is_good=True),
                Result(
                    node=name,
                    verdict="failed: no" if name in self.unproved else "miss",
                    is_good=name not in self.unproved,
                ),
            ]
            for name in names
        }

    def take_back(self, _: StackName, __: object, names: Sequence[str]) -> dict[str, str]:
        self.taken_back += names
        return dict.fromkeys(names, "removed")


NODES = [
    node(name, f"10.0.0.{number}", kube_master=name == "m1") for number, name in enumerate(("m1", "w1", "w2", "w3"), 1)
]
ALL = tuple(change(name) for name in ("m1", "w1", "w2", "w3"))


def task(changes: Changes, **keys: str) -> Task:
    values = configuration(NODES, **{"docker_cache_wave_size": "1", "docker_cache_max_failures": "0", **keys})
    settings = load(values.get)
    assert isinstance(settings, Settings)
    order = [f"{item['name']}@10.0.0.1:22" for item in NODES]
    return Task(stack=StackName(name="prod"), values=values, settings=settings, changes=changes, order=order)


def changes(
    *nodes: Any, deletions: tuple[str, ...] = (), others: tuple[str, ...] = (), fetches: tuple[str, ...] = ()
) -> Changes:
    return Changes(nodes=nodes or ALL, deletions=deletions, others=others, fetches=fetches)


def test_each_run_leaves_out_what_is_not_its_turn_and_the_last_one_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = changes(others=(FOLDER,))
    pulumi = FakePulumi(monkeypatch, wanted)
    assert Rollout(task(wanted)).run() == 0
    assert pulumi.runs == [{"m1", "w1", "w2", "w3"}, {"m1", "w2", "w3"}, {"w2", "w3"}, {"w3"}, set()]
    assert pulumi.proofs == [["w1"], ["m1"], ["w2"], ["w3"], []], "each wave is proved before the next one begins"


def test_what_is_deleted_stays_until_the_last_node_has_changed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = changes(deletions=(SERVICE,), others=(FOLDER,))
    pulumi = FakePulumi(monkeypatch, wanted)
    assert Rollout(task(wanted)).run() == 0
    assert len(pulumi.runs) == 6
    assert all("docker-cache-30500" in run for run in pulumi.runs[:-1])
    assert pulumi.runs[-1] == set()


def test_a_new_canary_is_never_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = changes(change("w1", is_new=True), change("w2"), others=(FOLDER,))
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.broken = {"w1"}
    assert Rollout(task(wanted)).run() == 1
    assert pulumi.runs == [{"w2"}], "nodes that are there would depend on what is not"


def test_images_are_fetched_ahead_once_every_node_has_changed_over_and_is_proved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = changes(change("w1"), change("w2"), deletions=(SERVICE,), others=(FOLDER,), fetches=(PREFETCH,))
    pulumi = FakePulumi(monkeypatch, wanted)
    assert Rollout(task(wanted)).run() == 0
    assert [run & {"prefetch-images", "docker-cache-30500"} for run in pulumi.runs] == [
        *[{"prefetch-images", "docker-cache-30500"}] * 3,
        {"prefetch-images"},
        set(),
    ]


@pytest.mark.parametrize("is_new", [True, False])
def test_images_that_could_not_be_fetched_ahead_keep_no_node_waiting_and_are_told_of(
    is_new: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = changes(change("w1", is_new=is_new), change("w2"), others=(FOLDER,), fetches=(PREFETCH,))
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.has_all_images = False
    assert Rollout(task(wanted)).run() == 1
    assert pulumi.proofs[:2] == [["w1"], ["w2"]]
    assert pulumi.runs[-1] == set()
    said = capsys.readouterr().err
    remember([line for line in said.splitlines() if line.startswith("make up:")])
    assert "make up: not all images were fetched ahead" in said


def test_images_are_fetched_ahead_where_nodes_failed_and_those_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = changes(change("w1"), change("w2"), deletions=(SERVICE,), fetches=(PREFETCH,))
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.broken = {"w1"}
    assert Rollout(task(wanted)).run() == 1
    assert pulumi.runs[-1] == {"w1", "w2", "docker-cache-30500"}


def test_images_wait_for_a_canary_that_could_not_be_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = changes(change("w1", is_new=True), change("w2"), fetches=(PREFETCH,))
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.broken = {"w1"}
    assert Rollout(task(wanted)).run() == 1
    assert pulumi.runs == [{"w2", "prefetch-images"}], "the canary can't be left out of another run"
    assert "make up: not all images were fetched ahead" in capsys.readouterr().err


def test_where_no_node_changes_the_nodes_are_proved_before_images_are_fetched_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = Changes(nodes=(), deletions=(), others=(), fetches=(PREFETCH,))
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.has_all_images = False
    assert Rollout(task(wanted)).run() == 1
    assert pulumi.runs == [{"prefetch-images"}, set()]
    assert pulumi.proofs == [["m1", "w1", "w2", "w3"]]


def test_a_failing_canary_leaves_the_others_alone_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = changes(deletions=(SERVICE,))
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.broken = {"w1"}
    assert Rollout(task(wanted)).run() == 1
    assert pulumi.runs == [{"m1", "w2", "w3", "docker-cache-30500"}, {"m1", "w1", "w2", "w3", "docker-cache-30500"}]
    assert pulumi.proofs[-1] == [], "what was left alone is not as the list has it, and proves nothing"
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "make up: these nodes failed; they are tried again by the next run:",
        "  w1: no disk",
        (
            "make up: 3 more were left alone, since the canary w1 failed: mend it, or name another node as docker_cache_canary "
            "if it is the machine that is broken and not the change"
        ),
        "make up: docker-cache-30500 stays until all nodes are done, since they may still need it",
    ]
    remember(line for line in said if line.startswith("make up"))


def test_a_failed_node_is_not_tried_again_by_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = changes()
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.broken = {"m1"}
    assert Rollout(task(wanted, docker_cache_max_failures="1")).run() == 1
    assert pulumi.runs == [{"m1", "w2", "w3"}, {"w2", "w3"}, {"m1", "w3"}, {"m1"}, {"m1"}]
    assert pulumi.proofs == [["w1"], [], ["w2"], ["w3"], []]


def test_a_run_stops_when_more_have_failed_than_may(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = changes()
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.broken = {"m1"}
    assert Rollout(task(wanted)).run() == 1
    assert pulumi.runs == [{"m1", "w2", "w3"}, {"w2", "w3"}, {"m1", "w2", "w3"}]
    said = capsys.readouterr().err.splitlines()
    assert (
        said[-1] == "make up: 2 more were left alone, since more than 0 of 4 nodes failed (docker_cache_max_failures)"
    )
    remember(said[-1:])


def test_a_node_that_is_not_seen_to_use_the_cache_is_taken_back_and_counts_as_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = changes()
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.unproved = {"w1"}
    assert Rollout(task(wanted)).run() == 1
    assert pulumi.taken_back == ["w1"]
    assert pulumi.recorded == [{URN.format("w1")}], "the next run would take the node for done"
    assert pulumi.runs[-1] == {"m1", "w1", "w2", "w3"}
    assert "  w1: the proof failed: no" in capsys.readouterr().err


def test_a_new_canary_that_was_made_and_taken_back_is_left_out_of_the_last_run(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = changes(change("w1", is_new=True), change("w2", is_new=True))
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.unproved = {"w1"}
    assert Rollout(task(wanted)).run() == 1
    assert pulumi.runs == [{"w2"}, {"w1", "w2"}], "the outputs would say that it is live"


def test_where_the_cache_asks_for_a_password_no_node_is_taken_back_for_its_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = changes()
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.unproved = {"w1"}
    keys = {"docker_cache_htpasswd": HTPASSWD, "docker_cache_entry": "https://cache.example"}
    assert Rollout(task(wanted, **keys)).run() == 1
    assert pulumi.taken_back == []
    assert pulumi.proofs[-1] == ["m1", "w1", "w2", "w3"], "the table at the end tells"


def test_nothing_to_do_on_the_nodes_is_one_run_and_no_wave(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = Changes(nodes=(), deletions=(SERVICE,), others=())
    pulumi = FakePulumi(monkeypatch, nothing)
    assert Rollout(task(nothing)).run() == 0
    assert pulumi.runs == [set()]
    assert "wave" not in capsys.readouterr().out
    pulumi.fails = True
    assert Rollout(task(nothing)).run() == 255
    (said,) = capsys.readouterr().err.splitlines()
    assert said == "make up: what comes before the nodes has failed, see above; no node was changed"
    remember([said])


def test_where_pulumi_itself_fails_its_words_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = changes()
    pulumi = FakePulumi(monkeypatch, wanted)
    pulumi.fails = True
    assert Rollout(task(wanted)).run() == 255
    said = capsys.readouterr()
    assert "error: the stack is locked" in said.out
    assert "  w1: pulumi did not come to it" in said.err


def test_a_preview_is_sorted_into_nodes_deletions_and_the_rest() -> None:
    kept = ["w1@10.0.0.1:22", "w2@10.0.0.1:22", "w3@10.0.0.1:22"]
    steps = [
        step("create", URN.format("w1")),
        step("update", URN.format("w2")),
        step("delete", URN.format("w9")),
        step("delete", URN.format("w8"), retainOnDelete=True),
        step("create", URN.format("w7")),
        step("create-replacement", URN.format("w3")),
        step("replace", URN.format("w3")),
        step("delete-replaced", URN.format("w3")),
        step("delete", SERVICE),
        step("update", FOLDER),
        step("create-replacement", PREFETCH),
    ]
    found = engine.changes_of(steps, kept)
    assert found.nodes == (
        change("w1", is_new=True),
        change("w2"),
        change("w9", is_removed=True),
        change("w3"),
    )
    assert found.deletions == (SERVICE,)
    assert found.fetches == (PREFETCH,)
    assert set(found.others) == {FOLDER, URN.format("w8"), URN.format("w7")}, "nothing connects to a forgotten node"
    assert engine.changes_of([step("delete", PREFETCH)], kept).deletions == (PREFETCH,), "that takes no time"
    assert not engine.changes_of([], kept)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('failed to dial "h:22": connection refused', 'failed to dial "h:22": connection refused'),
        (
            'Process exited with status 1: running "python3 -c x":\n<{%reset%}>docker-cache on pai-worker2: no disk\ndocker-cache on pai-worker2: no root\n<{%reset%}>',
            "no disk; no root",
        ),
        (
            'Process exited with status 1: running "sudo":\nsudo: a password is required\n',
            "sudo: a password is required",
        ),
        ("", "pulumi gives no reason"),
    ],
)
def test_a_nodes_reason_is_one_line_without_the_command(message: str, reason: str) -> None:
    assert engine.reason(message) == reason


def test_events_are_told_as_they_come_and_to_the_last_one(tmp_path: Path) -> None:
    log = tmp_path / "events"
    said: list[str] = []
    lines = [
        {
            "resOutputsEvent": {
                "metadata": {"op": "update", "urn": URN.format("w1"), "new": {"outputs": {"stdout": LIVE}}}
            }
        },
        {"resOutputsEvent": {"metadata": {"op": "same", "urn": URN.format("w3")}}},
        {"diagnosticEvent": {"severity": "error", "urn": URN.format("w2"), "message": "broken"}},
        {"resOpFailedEvent": {"metadata": {"op": "update", "urn": URN.format("w2")}}},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = threading.Event()
    ended.set()
    watch = Watch({URN.format("w1"), URN.format("w2")}, said.append)
    engine.follow(log, watch, ended)
    assert said == [f"  w1: {LIVE}", "  w2: failed: broken"]
    assert watch.lines == {URN.format("w1"): LIVE}


def test_identities_are_those_of_the_nodes_commands() -> None:
    settings = load(configuration([*NODES[:2], node("w5", "h", port=2222)], docker_cache_forget_nodes='["w1"]').get)
    assert isinstance(settings, Settings)
    assert identities(settings) == ("m1@10.0.0.1:22", "w5@h:2222")


STATE: dict[str, Any] = {
    "deployment": {
        "resources": [
            {
                "urn": URN.format("w1"),
                "inputs": {"create": "c", "delete": "d"},
                "outputs": {"create": "c", "stdout": LIVE},
            },
            {
                "urn": URN.format("w2"),
                "inputs": {"create": "c", "delete": "d"},
                "outputs": {"create": "c", "stdout": LIVE},
            },
        ]
    }
}


def test_a_node_that_was_taken_back_is_shown_as_changed_by_the_next_preview() -> None:
    marked = taking_back.undone(STATE, {URN.format("w1")})
    first, second = marked["deployment"]["resources"]
    assert first["inputs"] == {"create": taking_back.TAKEN_BACK, "delete": "d"}, "its deletion stays what it was"
    assert first["outputs"]["stdout"].startswith("taken back: ")
    assert second == STATE["deployment"]["resources"][1]


@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("export", "pulumi can't read the state of prod: locked"),
        ("import", "pulumi can't write the state of prod: locked"),
    ],
)
def test_a_state_that_can_not_be_changed_is_named(failing: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, int(failing in command), json.dumps(STATE), "locked\n")

    monkeypatch.setattr(stacks, "run_quietly", run)
    with pytest.raises(OperationError, match=message):
        taking_back.record(StackName(name="prod"), {URN.format("w1")})


def test_work_in_the_network_that_fails_has_said_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "run_in_foreground", lambda *_, **__: 1)
    with pytest.raises(OperationError, match="that could not be done, for the reason above"):
        stacks.work_in_network(StackName(name="prod"), "proof-from-stdin", {})
