"""`in_pod/serve.sh` with a shell on this machine. The registry and df are in-test programs on PATH: what is tested is the choice."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.programs import write_programs

SERVE = Path(__file__).resolve().parents[2] / "in_pod" / "serve.sh"
PROGRAMS = {
    # Writes which configuration it was started with; ends at once where the test says that the upstream is away, and neither
    # listens nor ends where it hangs.
    "registry": 'name=$(basename "$2")${REGISTRY_HTTP_ADDR:+ on trial}; echo "start $name" >> "$STAGE/events"\n'
    'case $2 in *proxy.yml) [ -e "$STAGE/upstream-away" ] && exit 2; [ -e "$STAGE/upstream-hangs" ] && exec /bin/sleep 1000;; esac\n'
    'trap "echo end $name >> $STAGE/events; exit 0" TERM\n'
    "while true; do sleep 0.05; done\n",
    "df": 'echo header; echo "fs 100 0 100 $(cat "$STAGE/used")% /x"\n',
    "wget": 'if [ -e "$STAGE/sick" ]; then echo "wget: server returned error: HTTP/1.1 503 Service Unavailable" >&2; exit 1; fi\n'
    '[ ! -e "$STAGE/upstream-away" ] && [ ! -e "$STAGE/upstream-hangs" ]\n',
    "sleep": 'exec /bin/sleep "$(case $1 in 5) cat "$STAGE/pause" 2>/dev/null || echo 0.1;; *) echo "$1";; esac)"\n',
    # A minute passes with each look, so that the next try of the upstream is soon.
    "date": 'minutes=$(cat "$STAGE/minutes" 2>/dev/null || echo 0); echo $((minutes + 1)) > "$STAGE/minutes"; echo $((minutes * 60))\n',
}


SECONDS = 30
"""Ample: a busy machine is no reason to fail."""


class Stage:
    """A running serve.sh, the events of its registries and the disk it sees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        bin_folder = folder / "bin"
        write_programs(bin_folder, PROGRAMS)
        self.environment = os.environ | {"STAGE": str(folder), "PATH": f"{bin_folder}:{os.environ['PATH']}"}

    def use(self, percent: int) -> None:
        (self.folder / "used").write_text(str(percent))

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["sh", str(SERVE), str(self.folder), "15"],
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def events(self) -> list[str]:
        file = self.folder / "events"
        return file.read_text().splitlines() if file.exists() else []

    def wait_for(self, events: list[str]) -> None:
        """Old and new process overlap on a change, so that their order is open."""
        deadline = time.monotonic() + SECONDS
        while sorted(self.events()) != sorted(events):
            assert time.monotonic() < deadline, f"saw {self.events()} instead of {events}"
            time.sleep(0.02)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=10)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    if made.process.poll() is None:
        os.killpg(made.process.pid, signal.SIGKILL)


def test_with_room_on_the_disk_it_pulls_through(stage: Stage) -> None:
    stage.use(85)
    stage.start()
    stage.wait_for(["start proxy.yml"])


def test_below_the_share_it_starts_with_what_is_stored(stage: Stage) -> None:
    stage.use(86)
    stage.start()
    stage.wait_for(["start stored.yml"])


def test_it_changes_over_while_running_and_back_only_past_the_edge(stage: Stage) -> None:
    stage.use(50)
    stage.start()
    stage.wait_for(["start proxy.yml"])
    stage.use(90)
    stage.wait_for(["start proxy.yml", "end proxy.yml", "start stored.yml"])
    stage.use(85)
    time.sleep(1)
    assert stage.events().count("start proxy.yml") == 1, "at the edge the two would alternate"
    stage.use(84)
    stage.wait_for(["start proxy.yml", "end proxy.yml", "start stored.yml", "end stored.yml", "start proxy.yml"])


def test_with_the_upstream_away_what_is_stored_is_served_without_a_gap_until_it_is_back(stage: Stage) -> None:
    stage.use(10)
    (stage.folder / "upstream-away").touch()
    stage.start()
    deadline = time.monotonic() + SECONDS
    while stage.events().count("start proxy.yml on trial") < 2:
        assert time.monotonic() < deadline, f"the upstream was not tried again: {stage.events()}"
        time.sleep(0.02)
    assert stage.events().count("start stored.yml") == 1, (
        "the registry that serves must go on while the upstream is tried"
    )
    assert "end stored.yml" not in stage.events()
    (stage.folder / "upstream-away").unlink()
    # The one that ends and the one that begins tell of it in any order.
    deadline = time.monotonic() + SECONDS
    while "end stored.yml" not in stage.events() or stage.events().count("start proxy.yml") < 2:
        assert time.monotonic() < deadline, f"the upstream is back and not used: {stage.events()}"
        time.sleep(0.02)
    assert stage.events().count("start proxy.yml") == 2, "at first, and once the upstream was back"


def test_an_upstream_that_takes_connections_and_never_answers_is_away_too(stage: Stage) -> None:
    stage.use(10)
    (stage.folder / "upstream-hangs").touch()
    stage.start()
    deadline = time.monotonic() + SECONDS
    while not {"start stored.yml", "start proxy.yml on trial"} <= set(stage.events()):
        assert time.monotonic() < deadline, f"the registry waits for its upstream and serves nothing: {stage.events()}"
        time.sleep(0.02)
    (stage.folder / "upstream-hangs").unlink()
    deadline = time.monotonic() + SECONDS
    while "end stored.yml" not in stage.events() or stage.events().count("start proxy.yml") < 2:
        assert time.monotonic() < deadline, f"the upstream answers and is not used: {stage.events()}"
        time.sleep(0.02)


def test_a_storage_that_is_unwell_does_not_make_the_upstream_away(stage: Stage) -> None:
    stage.use(10)
    (stage.folder / "sick").touch()
    stage.start()
    stage.wait_for(["start proxy.yml"])
    time.sleep(1)
    assert stage.events() == ["start proxy.yml"], "503 is an answer"


def test_what_an_older_registry_would_stumble_over_is_gone_before_it_starts(stage: Stage) -> None:
    stage.use(10)
    (stage.folder / "ghcr.io").mkdir()
    broken = [stage.folder / "scheduler-state.json", stage.folder / "ghcr.io/scheduler-state.json"]
    for file in broken:
        file.touch()
    stage.start()
    stage.wait_for(["start proxy.yml"])
    assert not any(file.exists() for file in broken)


def test_it_ends_when_told_to_and_its_registry_with_it(stage: Stage) -> None:
    stage.use(10)
    stage.start()
    stage.wait_for(["start proxy.yml"])
    assert stage.stop() == 0
    assert stage.events()[-1] == "end proxy.yml"


def test_it_ends_at_once_while_it_tries_an_upstream_that_never_answers(stage: Stage) -> None:
    stage.use(10)
    (stage.folder / "upstream-hangs").touch()
    stage.start()
    deadline = time.monotonic() + SECONDS
    while "start stored.yml" not in stage.events():
        assert time.monotonic() < deadline, f"what is stored is not served: {stage.events()}"
        time.sleep(0.02)
    tried = stage.events().count("start proxy.yml on trial")
    (stage.folder / "pause").write_text("2")
    while stage.events().count("start proxy.yml on trial") == tried:
        assert time.monotonic() < deadline, f"the upstream is not tried again: {stage.events()}"
        time.sleep(0.02)
    assert stage.stop() == 0
    assert stage.events()[-1] == "end stored.yml"
