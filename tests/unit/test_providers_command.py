"""The command stand-in decides as the plugin does what runs, and with what."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import sleep
from typing import IO

import pytest

from sandbox.providers import local
from sandbox.providers.command import (
    CommandStandIn,
    checked_inputs,
    command_to_run,
    input_difference,
    local_command_to_run,
)
from sandbox.providers.differences import Kind, changes, property_path
from sandbox.providers.protocol import Creation, Existing, Modification, ProviderError, Target
from sandbox.providers.ssh import Endpoint
from sandbox.providers.values import UNKNOWN, Properties, Secret, Value

TARGET = Target("urn:pulumi:dev::project::my:component:Node$command:remote:Command::node::odd")
LOCAL = Target("urn:pulumi:dev::project::command:local:Command::here")
CONNECTION: Value = Secret({"host": "10.30.0.11"})


def existing(outputs: Properties) -> Existing:
    return Existing(TARGET, "id", outputs, outputs)


class Recording(CommandStandIn):
    """Keeps what would be run instead of running it."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[Value] = []

    def _run(self, target: Target, line: Value, inputs: Properties, previous: Properties) -> Properties | None:
        del target, inputs, previous
        if line is None:
            return None
        self.ran.append(line)
        return {"stdout": "new", "stderr": ""}


def test_a_urn_tells_type_and_name() -> None:
    assert (TARGET.type, TARGET.name) == ("command:remote:Command", "node::odd")


def test_changed_triggers_replace_even_beside_an_update() -> None:
    olds: Properties = {"triggers": ["1"], "create": "a", "update": "u"}
    result = input_difference(olds, {**olds, "triggers": ["2"], "create": "b"})
    assert result.replacing == {"triggers[0]"}
    assert {change.name for change in result.changes} == {"triggers[0]", "create"}
    assert not result.delete_first


@pytest.mark.parametrize("field", ["create", "update", "delete", "stdin", "connection", "environment", "logging"])
def test_every_other_changed_input_is_an_update(field: str) -> None:
    result = input_difference({field: "a"}, {field: "b"})
    assert [change.kind for change in result.changes] == [Kind.UPDATE]
    assert not result.replacing


def test_making_an_input_secret_is_no_change() -> None:
    assert not input_difference({"stdin": "a"}, {"stdin": Secret("a")}).changes


def test_unknowns_always_count_as_changed_and_true_is_not_one() -> None:
    assert [change.name for change in changes({"a": UNKNOWN, "b": 1}, {"a": UNKNOWN, "b": True})] == ["a", "b"]


def test_paths_are_written_in_the_engines_notation() -> None:
    assert (
        property_path(("metadata", "annotations", "pulumi.com/x", "y", 0))
        == 'metadata.annotations["pulumi.com/x"].y[0]'
    )


def test_create_without_a_command_runs_nothing() -> None:
    stand_in = Recording()
    _, outputs = stand_in.create(Creation(TARGET, {"connection": CONNECTION}, preview=False, timeout=0))
    assert (stand_in.ran, outputs["stdout"]) == ([], "")


@pytest.mark.parametrize(
    ("inputs", "ran"), [({"create": "c", "update": "u"}, ["u"]), ({"create": "c"}, ["c"]), ({}, [])]
)
def test_an_update_runs_update_else_create_else_nothing(inputs: Properties, ran: list[str]) -> None:
    stand_in = Recording()
    outputs = stand_in.update(Modification(existing({"stdout": "old", "stderr": ""}), inputs, preview=False))
    assert stand_in.ran == ran
    assert outputs["stdout"] == ("new" if ran else "old")


def test_a_preview_runs_nothing_and_knows_no_output() -> None:
    stand_in = Recording()
    _, created = stand_in.create(Creation(TARGET, {"create": "c"}, preview=True, timeout=0))
    updated = stand_in.update(Modification(existing({"stdout": "old"}), {"create": "c"}, preview=True))
    assert stand_in.ran == []
    assert [outputs["stdout"] for outputs in (created, updated)] == [UNKNOWN, UNKNOWN]


@pytest.mark.parametrize(("outputs", "ran"), [({"create": "c", "delete": "d"}, ["d"]), ({"create": "c"}, [])])
def test_a_delete_runs_what_was_stored_or_nothing(outputs: Properties, ran: list[str]) -> None:
    stand_in = Recording()
    stand_in.delete(existing(outputs))
    assert stand_in.ran == ran


def test_the_connection_is_always_secret_and_has_its_defaults() -> None:
    checked = checked_inputs({"connection": {"host": "h", "port": 2222}})
    expected: Value = {"host": "h", "port": 2222, "user": "root", "dialErrorLimit": 10, "perDialTimeout": 15}
    assert checked.inputs["connection"] == Secret(expected)
    assert checked.failures == ()


@pytest.mark.parametrize(
    ("inputs", "failing"),
    [
        ({}, "connection"),
        ({"connection": {}}, "connection.host"),
        ({"connection": CONNECTION, "logging": "all"}, "logging"),
    ],
)
def test_what_is_missing_or_wrong_is_named(inputs: Properties, failing: str) -> None:
    assert [name for name, _ in checked_inputs(inputs).failures] == [failing]


def test_the_previous_output_goes_into_the_environment_unless_refused_or_empty() -> None:
    previous: Properties = {"stdout": "before", "stderr": ""}
    assert command_to_run("x", {}, previous).optional_environment == {"PULUMI_COMMAND_STDOUT": "before"}
    assert command_to_run("x", {"addPreviousOutputInEnv": False}, previous).optional_environment == {}


@pytest.mark.parametrize(
    ("logging", "reported"),
    [(None, (True, True)), ("none", (False, False)), ("stdout", (True, False)), ("stderr", (False, True))],
)
def test_logging_chooses_the_streams_that_are_shown(logging: str | None, reported: tuple[bool, bool]) -> None:
    command = command_to_run("x", {"logging": logging}, {})
    assert (command.report_stdout, command.report_stderr) == reported


def test_an_endpoint_keeps_its_secrets_out_of_its_representation() -> None:
    given: Value = {"host": "h", "password": "hunter2", "privateKey": "hunter2", "proxy": {"host": "bastion"}}
    endpoint = Endpoint.from_connection(Secret(given))
    assert "hunter2" not in repr(endpoint)
    assert (endpoint.password, endpoint.port, endpoint.user) == ("hunter2", 22, "root")
    assert endpoint.proxy is not None
    assert endpoint.proxy.host == "bastion"


@pytest.mark.parametrize("kind", ["remote:CopyToRemote", "remote:CopyFile", "local:Other"])
def test_other_types_are_refused_by_name(kind: str) -> None:
    with pytest.raises(ProviderError, match=f"does not serve command:{kind}"):
        CommandStandIn().check(Target(f"urn:pulumi:dev::p::command:{kind}::x"), {}, {}, b"")


def test_functions_are_refused_by_name() -> None:
    with pytest.raises(ProviderError, match="does not serve command:local:run"):
        CommandStandIn().invoke("command:local:run", {"command": "true"})


def created(**inputs: Value) -> Properties:
    stand_in = CommandStandIn()
    checked = stand_in.check(LOCAL, {}, inputs, b"")
    assert checked.failures == ()
    return stand_in.create(Creation(LOCAL, checked.inputs, preview=False, timeout=0))[1]


def test_a_local_command_runs_in_a_shell_here_and_gives_its_output_without_the_last_newline() -> None:
    outputs = created(create="echo out; echo; echo err >&2")
    assert (outputs["stdout"], outputs["stderr"]) == ("out\n", "err")


def test_a_local_command_has_the_inputs_environment_folder_and_interpreter(tmp_path: Path) -> None:
    where = created(create='echo "$PWD $A $HOME"', dir=str(tmp_path), environment={"A": "b"})["stdout"]
    assert where == f"{tmp_path} b {os.environ['HOME']}"
    assert created(create="print(1 + 1)", interpreter=[sys.executable, "-c"])["stdout"] == "2"


def test_a_local_command_gets_its_standard_input_or_none() -> None:
    assert created(create="cat", stdin="text")["stdout"] == "text"
    assert created(create="cat")["stdout"] == ""
    assert created(create="cat", stdin="x" * 1_000_000)["stdout"] == "x" * 1_000_000


@pytest.mark.filterwarnings("error")
def test_a_local_command_need_not_read_its_standard_input() -> None:
    assert created(create="exec <&-; sleep 0.1", stdin="x" * 1_000_000)["stdout"] == ""


@pytest.mark.filterwarnings("error")
def test_a_local_command_may_end_before_it_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = local._feed

    def feed_late(pipe: IO[bytes] | None, text: str) -> None:
        assert pipe is not None
        pipe.write(b"buffered, so that whoever closes the pipe has to write it")
        sleep(0.2)
        feed(pipe, text)

    monkeypatch.setattr(local, "_feed", feed_late)
    assert created(create="echo out", stdin="text")["stdout"] == "out"


def test_a_failed_local_command_tells_itself_its_status_and_all_that_it_printed() -> None:
    with pytest.raises(ProviderError) as failed:
        created(create='echo "out"; sleep 0.1; echo err >&2; exit 3')
    told = r'exit status 3: running "echo \"out\"; sleep 0.1; echo err >&2; exit 3":' + "\nout\nerr\n"
    assert str(failed.value) == told


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({"create": "kill -9 $$"}, "signal: killed: running"),
        ({"create": "true", "dir": "/nowhere"}, "/nowhere: no such file or directory: running"),
        ({"create": "true", "interpreter": ["/no/shell"]}, "/no/shell: no such file or directory: running"),
    ],
)
def test_a_local_command_that_did_not_run_to_its_end_tells_why(inputs: Properties, reason: str) -> None:
    with pytest.raises(ProviderError, match=reason):
        created(**inputs)


def test_a_local_update_and_delete_know_the_output_before_unless_refused() -> None:
    stand_in = CommandStandIn()
    show: Properties = {"update": 'echo "$PULUMI_COMMAND_STDOUT"', "delete": 'exit "$PULUMI_COMMAND_STDOUT"'}
    old = Existing(LOCAL, "id", {**show, "stdout": "7", "stderr": ""}, show)
    assert stand_in.update(Modification(old, show, preview=False))["stdout"] == "7"
    refused: Properties = {**show, "addPreviousOutputInEnv": False}
    assert stand_in.update(Modification(old, refused, preview=False))["stdout"] == ""
    with pytest.raises(ProviderError, match="exit status 7"):
        stand_in.delete(old)


def test_a_preview_runs_no_local_command(tmp_path: Path) -> None:
    inputs: Properties = {"create": f"touch {tmp_path}/ran"}
    _, outputs = CommandStandIn().create(Creation(LOCAL, inputs, preview=True, timeout=0))
    assert outputs["stdout"] is UNKNOWN
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("logging", "shown"), [(None, ["out", "err"]), ("stderr", ["err"]), ("none", [])])
def test_a_local_commands_lines_are_shown_as_they_come(logging: str | None, shown: list[str]) -> None:
    lines: list[str] = []
    local.run(local_command_to_run("echo out; sleep 0.1; printf err >&2", {"logging": logging}, {}), lines.append)
    assert lines == shown


def test_a_local_command_needs_no_connection_and_gives_no_files() -> None:
    stand_in = CommandStandIn()
    assert stand_in.check(LOCAL, {}, {"create": "true"}, b"").failures == ()
    failures = stand_in.check(LOCAL, {}, {"assetPaths": ["*"], "logging": "all"}, b"").failures
    assert [name for name, _ in failures] == ["assetPaths", "logging"]


def test_a_local_commands_triggers_replace_it_and_the_rest_updates() -> None:
    stand_in = CommandStandIn()
    old = Existing(LOCAL, "id", {}, {"create": "a", "dir": "/", "triggers": [1]})
    assert stand_in.diff(old, {"create": "a", "dir": "/", "triggers": [2]}).replacing == {"triggers[0]"}
    assert not stand_in.diff(old, {"create": "b", "dir": "/tmp", "triggers": [1]}).replacing
