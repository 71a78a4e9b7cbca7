"""What `make` says and asks around pulumi: no cluster, no engine."""

import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from operations import new_stack, predecessor, stacks, takeover, terminal
from operations.predecessor import Predecessor
from operations.stacks import OperationError, StackName
from settings.cluster import Answer, ClusterError
from settings.loading import Disabled
from settings.model import Settings
from settings.stack import Stack, read_stack
from tests.unit.stacks import configuration

FOUND = Predecessor(
    objects=("Service default/docker-registry-cache-service",),
    node_ports=(30500,),
    free_port=30501,
    uncovered=("w9",),
)


def read(**keys: str) -> Stack:
    stack = read_stack(configuration(**keys).get, stacks.ROOT, {}, ask=lambda *_: Answer())
    assert not isinstance(stack, Disabled)
    return stack


@pytest.fixture(name="folder")
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(stacks, "ROOT", tmp_path)
    return tmp_path


def without_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))


def test_yes_answers_a_question_and_without_a_terminal_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    without_terminal(monkeypatch)
    assert terminal.confirm("Take over?", yes=True)
    with pytest.raises(OperationError, match="Take over\\? There is no terminal to ask at: YES=1 answers yes"):
        terminal.confirm("Take over?", yes=False)


@pytest.mark.parametrize(("answer", "agreed"), [("y", True), ("Yes", True), ("", False), ("n", False), ("yet", False)])
def test_only_a_clear_yes_is_one(answer: str, agreed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda _: answer)
    assert terminal.confirm("?", yes=False) == agreed


def test_the_plan_of_a_takeover_names_what_goes_and_which_nodes_are_left_behind() -> None:
    text = takeover.plan(StackName(name="prod"), FOUND, 30501)
    assert "Service default/docker-registry-cache-service" in text
    assert "on NodePort 30501" in text
    assert text.endswith("which then answers no more: w9")


class Engine:
    """Stands for pulumi and the cluster in a takeover: what is asked of them is remembered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, found: str, **values: str) -> None:
        self.asked: list[str] = []
        self.commands: list[list[str]] = []
        self.found, self.values = found, values
        monkeypatch.setattr(stacks, "configuration", lambda _: self.values)
        monkeypatch.setattr(stacks, "ask_in_network", self.ask)
        monkeypatch.setattr(stacks, "run_quietly", self.run)

    def ask(self, _stack: StackName, action: str, _values: dict[str, str]) -> str:
        self.asked.append(action)
        return self.found if action == "find-predecessor" else '["Deployment default/docker-registry-cache"]'

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")


THERE = '{"objects": ["Service x"], "node_ports": [30500], "free_port": 30501, "uncovered": []}'


def test_the_old_cache_goes_only_after_an_update_that_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, THERE)
    assert takeover.take_over(StackName(name="prod"), yes=True, update=lambda: 1) == 1
    assert "retire-predecessor" not in engine.asked
    assert takeover.take_over(StackName(name="prod"), yes=True, update=lambda: 0) == 0
    assert engine.asked[-1] == "retire-predecessor"
    assert engine.commands[0][1:5] == ["config", "set", "docker-cache:docker_cache_node_port", "30501"]


def test_a_takeover_that_was_begun_goes_on_with_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, THERE, docker_cache_node_port="30501")
    assert takeover.take_over(StackName(name="prod"), yes=True, update=lambda: 0) == 0
    assert engine.commands == [], "the port is ours already"


def test_an_entry_that_points_at_the_old_cache_is_the_users_to_move(monkeypatch: pytest.MonkeyPatch) -> None:
    Engine(monkeypatch, THERE, docker_cache_entry="lb:30500")
    with pytest.raises(
        OperationError, match='docker_cache_entry is "lb:30500", and the NodePort 30500 is the old cache'
    ):
        takeover.take_over(StackName(name="prod"), yes=True, update=lambda: 0)


def test_where_there_is_no_predecessor_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(monkeypatch, "null")
    assert takeover.take_over(StackName(name="prod"), yes=False, update=lambda: 1) == 0
    assert engine.asked == ["find-predecessor"]


def test_a_cluster_that_does_not_answer_is_named() -> None:
    with pytest.raises(ClusterError, match='the cluster of context "prod" refuses or does not answer'):
        predecessor.find(read())
    with pytest.raises(ClusterError, match="it installs no cache that could take over"):
        predecessor.retire(read(docker_cache_custom_registry="10.0.0.9:5000"))


def test_a_stack_without_a_file_is_told_how_to_get_one(folder: Path) -> None:
    with pytest.raises(OperationError, match=r"there is no Pulumi\.prod\.yaml: `make new STACK=prod` writes one"):
        stacks.prepare(StackName(name="prod"))
    assert list(folder.iterdir()) == []


def test_a_missing_pulumi_is_named_before_anything_is_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(OperationError, match="pulumi is not on PATH"):
        new_stack.new(StackName(name="prod"), secrets_provider=None)
    assert list(folder.iterdir()) == []


def test_what_pulumi_says_of_a_stack_it_can_not_make_is_handed_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = subprocess.CompletedProcess([], 1, "", "error: no backend\n")
    monkeypatch.setattr(stacks, "run_quietly", lambda _: refusal)
    monkeypatch.setattr(stacks, "require_pulumi", lambda _: None)
    with pytest.raises(OperationError, match="pulumi can't make the stack prod: error: no backend"):
        new_stack.new(StackName(name="prod"), secrets_provider=None)
    assert list(folder.iterdir()) == []
    with pytest.raises(OperationError, match="pulumi can't read the configuration of prod: error: no backend"):
        stacks.configuration(StackName(name="prod"))
    with pytest.raises(OperationError, match="pulumi can't set docker_cache_node_port: error: no backend"):
        takeover.set_port(StackName(name="prod"), 30501)


@pytest.mark.parametrize("name", ["../x", "", "a b", "-x"])
def test_a_name_that_is_no_stacks_is_refused(name: str) -> None:
    with pytest.raises(OperationError, match="use letters, digits, dots, dashes and underscores"):
        new_stack.new(StackName(name=name), secrets_provider=None)


def test_the_sandboxs_own_stack_can_not_be_made() -> None:
    with pytest.raises(OperationError, match="STACK is dev, the sandbox's stack"):
        new_stack.new(StackName(name="dev"), secrets_provider=None)


def test_a_stack_that_exists_is_never_written_over(folder: Path) -> None:
    (folder / "Pulumi.prod.yaml").write_text("mine")
    with pytest.raises(OperationError, match=r"Pulumi\.prod\.yaml exists already"):
        new_stack.new(StackName(name="prod"), secrets_provider=None)
    assert (folder / "Pulumi.prod.yaml").read_text() == "mine"


def test_the_template_holds_only_keys_that_are_read() -> None:
    keys = set(re.findall(r"docker-cache:(\w+):", new_stack.TEMPLATE.read_text()))
    assert keys <= set(Settings.model_fields), keys - set(Settings.model_fields)
