"""What `make check` makes of the nodes' reports, and what `make heal` does with it."""

import asyncio
import json
import subprocess
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from components.arguments import node_mirrors_args
from components.node_mirrors import mirror_script
from operations import check, heal, node_checks, recorded, stacks
from operations.node_checks import Checked, Checks, Engine, Finding, Report, Task, judge_unwanted, judge_wanted
from operations.recorded import Recorded, State
from operations.ssh import NodeError
from operations.stacks import OperationError, StackName
from settings.cluster import ask_nothing
from settings.loading import SettingsError
from settings.stack import Stack, read_stack
from tests.unit.messages import remember
from tests.unit.stacks import configuration

ENTRY = "http://10.0.0.1:30500"
URN = "urn:pulumi:prod::docker-cache::docker-cache:nodes:NodeMirrors$command:remote:Command::w1@10.0.0.2:22"
ERROR = Finding(level="error", text="docker is on fire", remedy="put it out")
WARNING = Finding(level="warning", text="docker smells", remedy="air")
QUIET = Console(file=StringIO(), width=140)


def stack(**keys: str) -> Stack:
    read = read_stack(configuration(**keys).get, Path(), {}, ask=ask_nothing)
    assert isinstance(read, Stack)
    return read


def engine(mirror: str = "live", *, settled: bool | None = True) -> Engine:
    return Engine.model_validate(
        {"engine": "docker", "version": "29", "mirror": mirror, "settled": settled, "containers": 1}
    )


def task(state: str | None = None, *, entry: str = ENTRY, is_wanted: bool = True, has_cache: bool = True) -> Task:
    """With a state, the last update has given w1 this entry."""
    known = {"w1@10.0.0.2:22": Recorded(urn=URN, entry=entry, state=state)} if state else {}
    read = stack()
    return Task(
        stack=read,
        name="prod",
        state=State(nodes=known, has_cache=has_cache),
        nodes=read.nodes,
        is_wanted=is_wanted,
    )


def judge(report: Report, of: Task) -> Checked:
    worker = of.nodes[1]
    judged = (judge_wanted if of.is_wanted else judge_unwanted)(report, worker, of)
    remember(
        check.line(finding, "w1").removeprefix("w1: ") for finding in judged.findings if finding not in (ERROR, WARNING)
    )
    return judged


@pytest.mark.parametrize(
    ("report", "of", "verdict"),
    [
        (Report(engines=(engine("absent", settled=False),)), task(), "ready for `make up STACK=prod`"),
        (Report(engines=(engine("another", settled=False),)), task("live", entry="http://old:1"), "ready for `make up STACK=prod`"),
        (Report(engines=(engine("absent", settled=False),), cache=(ERROR,)), task(has_cache=False), "ready for `make up STACK=prod`"),
        (Report(engines=(engine("absent", settled=False),), cache=(ERROR,)), task(), "not in order"),
        (Report(engines=(engine(),)), task("live"), "in order"),
        (Report(engines=(engine("written"),)), task("live"), "in order"),
        (Report(engines=(engine("foreign"),), findings=(WARNING,)), task("live"), "in order"),
        (Report(), task("none"), "no engine"),
        (Report(findings=(ERROR,)), task(), "not in order"),
        (Report(engines=(engine("live", settled=None),), findings=(ERROR,)), task("live"), "not in order"),
        (Report(engines=(engine("unknown", settled=None),), findings=(ERROR,)), task("live"), "not in order"),
        (Report(engines=(engine("changed", settled=False),)), task("live"), "drifted"),
        (Report(engines=(engine("changed", settled=None),), findings=(ERROR,)), task("live"), "drifted"),
        (Report(engines=(engine("absent", settled=False),)), task("written"), "drifted"),
        (Report(engines=(engine("live", settled=False),)), task("live"), "drifted"),
        (Report(engines=(engine("absent", settled=False),)), task("none"), "drifted"),
        (Report(), task("live"), "drifted"),
    ],
)  # fmt: skip
def test_a_report_is_judged_by_what_the_last_update_left(report: Report, of: Task, verdict: str) -> None:
    judged = judge(report, of)
    assert judged.verdict == verdict
    assert judged.is_drifted == (verdict == "drifted")
    assert judged.is_good == (verdict not in {"drifted", "not in order"})
    assert all("make heal STACK=prod NODES=w1" in judged.findings[0].remedy for _ in range(judged.is_drifted))


@pytest.mark.parametrize(
    ("mirror", "of", "remedy"),
    [
        ("absent", task(is_wanted=False), None),
        ("live", task("live", is_wanted=False), "`make up STACK=prod` takes it out"),
        ("changed", task(is_wanted=False), "switch enable_docker_cache on"),
    ],
)
def test_where_the_cache_is_off_nothing_of_it_may_be_left(mirror: str, of: Task, remedy: str | None) -> None:
    judged = judge(Report(engines=(engine(mirror, settled=None),)), of)
    assert judged.is_good == (remedy is None)
    assert not remedy or remedy in judged.findings[0].remedy


def test_a_node_that_can_not_be_reached_does_not_keep_the_others_from_being_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_work: list[str] = []
    most = [0]

    async def ask(_: Task, access: Any) -> Report:
        at_work.append(access.name)
        most[0] = max(most[0], len(at_work))
        await asyncio.sleep(0)
        at_work.remove(access.name)
        if access.name == "m1":
            raise NodeError("root@10.0.0.1:22 can't be reached: refused")
        return Report(engines=(engine(),))

    monkeypatch.setattr(node_checks, "ask", ask)
    monkeypatch.setattr(node_checks, "AT_ONCE", 1)
    monkeypatch.setattr(node_checks, "ask_cluster", lambda *_: SimpleNamespace(problems=("no cluster; mend it",)))
    checks = node_checks.check(task(), QUIET)
    assert [(node.node, node.verdict) for node in checks.nodes] == [("m1", "not reached"), ("w1", "in order")]
    assert checks.cluster == (Finding(level="error", text="no cluster", remedy="mend it"),)
    assert most == [1], "no more nodes at once than this machine bears"


def test_a_cluster_that_is_not_in_order_is_an_error_too() -> None:
    assert Checks(nodes=(checked("in order"),)).is_good
    assert not Checks(cluster=(ERROR,), nodes=(checked("in order"),)).is_good


def test_what_is_no_report_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Connection:
        async def __aenter__(self) -> Any:
            async def run_script(*words: str, **_: object) -> str:
                said.extend(words)
                return "Welcome to this machine!"

            return SimpleNamespace(run_script=run_script)

        async def __aexit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(node_checks, "connect", lambda _: Connection())
    of = task()
    with pytest.raises(NodeError, match="what it says is no report: does its shell print something at the sign-in"):
        asyncio.run(node_checks.ask(of, of.nodes[1]))
    assert said == ["check", *mirror_script(node_mirrors_args(of.stack), of.nodes[1]).create[1:]], "as an update would"
    assert said[1:4] == [ENTRY, "--owner", "w1@10.0.0.2:22"]


def shown(checks: Checks) -> str:
    console = Console(file=StringIO(), width=140)
    check.show(checks, console)
    return cast("StringIO", console.file).getvalue()


def test_alike_findings_of_several_nodes_are_one_line_errors_first() -> None:
    nodes = [Checked(node=f"w{number}", verdict="v", findings=(WARNING,)) for number in range(7)]
    nodes.append(Checked(node="docker_cache_nodes[x]", verdict="v", engines=(engine(),), findings=(ERROR,)))
    text = shown(Checks(nodes=tuple(nodes), cluster=(ERROR,)))
    assert text.splitlines()[-3:] == [
        "the cluster: docker is on fire; put it out",
        "docker_cache_nodes[x]: docker is on fire; put it out",
        "w0, w1, w2, w3, w4 and 2 more: docker smells; air",
    ]
    assert "docker 29, 1 container" in text


def answer(values: dict[str, str], *names: str) -> Checks:
    return check.answer(
        {"name": "prod", "values": values, "recorded": {}, "has_cache": True, "nodes": names}, {}, QUIET
    )


def test_what_keeps_a_check_from_being_made_is_told() -> None:
    with pytest.raises(OperationError, match='NODES is "w8,w9": docker_cache_nodes has m1, w1'):
        answer(configuration(), "w1", "w8", "w9")
    with pytest.raises(SettingsError, match="use a port"):
        answer(configuration(docker_cache_ssh_port="x"))
    assert answer({"enable_docker_cache": "false"}) == Checks(), "there is nothing to look at"


def test_a_stack_that_is_switched_off_is_checked_with_the_nodes_that_it_lists() -> None:
    off = configuration(enable_docker_cache="false")
    of = check.task_of("prod", off, {}, State(nodes={}, has_cache=False), [])
    assert of
    assert (of.is_wanted, [node.name for node in of.nodes]) == (False, ["m1", "w1"])


STATE = {
    "deployment": {
        "resources": [
            {"urn": "urn:pulumi:prod::docker-cache::pulumi:pulumi:Stack::docker-cache-prod"},
            {"urn": f"urn:pulumi:prod::docker-cache::{recorded.CACHE}::docker-cache"},
            {
                "urn": URN,
                "inputs": {"create": f"sudo -n python3 -c 'exec(eval(input()))' mirror {ENTRY} --owner w1@10.0.0.2:22"},
                "outputs": {"stdout": f"live: mirror {ENTRY}, docker 29, reloaded\n"},
            },
            {"urn": URN, "delete": True, "inputs": {"create": "mirror http://old:1"}},
            {"urn": URN.replace("w1@", "w2@"), "inputs": {"create": f"mirror {ENTRY}"}, "outputs": {"stdout": {"secret": 1}}},
            {"urn": URN.replace("w1@", "gone@"), "inputs": {"create": "true"}},
        ]
    }
}  # fmt: skip


def test_what_the_last_update_gave_is_compared_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    create = f"python3 -c 'exec(eval(input()))' mirror {ENTRY} --also 10.0.0.3,10.0.0.4 --upstreams ghcr.io --owner o"
    resource = {"urn": URN, "inputs": {"create": create}, "outputs": {"stdout": "live: x\n"}}
    done = subprocess.CompletedProcess([], 0, json.dumps({"deployment": {"resources": [resource]}}), "")
    monkeypatch.setattr(stacks, "run_quietly", lambda _: done)
    (node,) = recorded.read(StackName(name="prod")).nodes.values()
    assert (node.also, node.upstreams) == ("10.0.0.3,10.0.0.4", "ghcr.io")
    assert node.gives(create.split())
    assert not node.gives(["mirror", ENTRY, "--upstreams", "ghcr.io"]), "that would take two entries away"
    assert not node.gives(["mirror", ENTRY, "--also", "10.0.0.3,10.0.0.4"])


def test_the_state_tells_which_node_was_given_which_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 0, json.dumps(STATE), "")
    monkeypatch.setattr(stacks, "run_quietly", lambda _: done)
    state = recorded.read(StackName(name="prod"))
    assert state.has_cache
    assert state.nodes == {
        "w1@10.0.0.2:22": Recorded(urn=URN, entry=ENTRY, state="live"),
        "w2@10.0.0.2:22": Recorded(urn=URN.replace("w1@", "w2@"), entry=ENTRY, state=None),
    }
    done.stdout = "{}"
    assert recorded.read(StackName(name="prod")) == State(nodes={}, has_cache=False), (
        "a stack that was never brought up"
    )
    done.returncode, done.stderr = 1, "error: no backend\n"
    with pytest.raises(OperationError, match="pulumi can't read the state of prod: error: no backend"):
        recorded.read(StackName(name="prod"))


class Pulumi:
    """Stands for pulumi and the nodes in a heal: what is asked of them is remembered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *checks: Checks, generations: str = "") -> None:
        self.commands: list[list[str]] = []
        self.checks, self.status = list(checks), 0
        known = {"w1@10.0.0.2:22": Recorded(urn=URN, entry=ENTRY, state="live")}
        monkeypatch.setattr(recorded, "read", lambda _: State(nodes=known, has_cache=True))
        monkeypatch.setattr(check, "look", lambda *_: self.checks.pop(0))
        monkeypatch.setattr(stacks, "configuration", lambda _: {"docker_cache_generations": generations})
        monkeypatch.setattr(stacks, "run_quietly", self.run)
        monkeypatch.setattr(stacks, "run_in_foreground", lambda command: self.run(command).returncode)

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(command[1:])
        return subprocess.CompletedProcess(command, self.status, "", "refused\n")


def checked(verdict: str, *, is_drifted: bool = False, node: str = "w1") -> Checked:
    findings = (ERROR,) if is_drifted or verdict == "not reached" else ()
    return Checked(node=node, verdict=verdict, is_drifted=is_drifted, findings=findings)


DRIFTED = Checks(nodes=(checked("drifted", is_drifted=True),))
GOOD = Checks(nodes=(checked("in order"),))
UNREACHED = Checks(nodes=(checked("not reached"),))


def healed(*names: str, yes: bool = True) -> int:
    return heal.heal(StackName(name="prod"), names, QUIET, yes=yes)


def test_a_drifted_node_is_done_again_alone_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    pulumi = Pulumi(monkeypatch, DRIFTED, GOOD, generations='{"w1": 2, "w.2": 7}')
    assert healed() == 0
    setting, update = pulumi.commands
    assert setting[:5] == ["config", "set", "--path", 'docker-cache:docker_cache_generations["w1"]', "3"]
    assert update[:6] == ["up", "--yes", "--skip-preview", "--continue-on-error", "--target", URN]
    assert pulumi.checks == [], "it was checked afterwards"


def test_a_node_that_is_not_in_order_afterwards_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    Pulumi(monkeypatch, DRIFTED, DRIFTED)
    assert healed() == 1


@pytest.mark.parametrize(("checks", "names", "status"), [(GOOD, [], 0), (UNREACHED, [], 1), (UNREACHED, ["w1"], 1)])
def test_where_nothing_can_be_healed_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, checks: Checks, names: list[str], status: int
) -> None:
    pulumi = Pulumi(monkeypatch, checks)
    assert healed(*names) == status
    assert pulumi.commands == []


def test_a_named_node_is_done_again_whatever_the_check_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pulumi = Pulumi(monkeypatch, GOOD, GOOD)
    assert healed("w1") == 0
    assert len(pulumi.commands) == 2


def test_a_node_that_was_never_done_can_not_be_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    pulumi = Pulumi(monkeypatch)
    with pytest.raises(OperationError, match="there is nothing to heal on w9: `make up STACK=prod` has not been"):
        healed("w9")
    assert pulumi.commands == []


def test_without_a_yes_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    pulumi = Pulumi(monkeypatch, DRIFTED)
    monkeypatch.setattr(heal, "confirm", lambda *_, yes: yes)
    assert healed(yes=False) == 1
    assert pulumi.commands == []


def test_a_number_that_pulumi_can_not_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Pulumi(monkeypatch).status = 1
    with pytest.raises(OperationError, match="pulumi can't set docker_cache_generations: refused"):
        heal.raise_generations(StackName(name="prod"), ["w1"])


def test_a_look_gives_the_other_end_all_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def work(_: StackName, action: str, given: object) -> str:
        asked.extend([action, given])
        return GOOD.model_dump_json()

    nodes = {"w1@h:22": Recorded(urn=URN, entry=ENTRY, state=None)}
    monkeypatch.setattr(recorded, "read", lambda _: State(nodes=nodes, has_cache=True))
    monkeypatch.setattr(stacks, "configuration", lambda _: configuration())
    monkeypatch.setattr(stacks, "work_in_network", work)
    assert check.look(StackName(name="prod"), ["w1"]) == GOOD
    action, given = asked
    assert action == "check-from-stdin"
    monkeypatch.setattr(
        check, "check", lambda task, _: Checks(nodes=(Checked(node=task.nodes[0].name, verdict=task.name),))
    )
    (node,) = check.answer(json.loads(json.dumps(given)), {}, QUIET).nodes
    assert (node.node, node.verdict) == ("w1", "prod")
