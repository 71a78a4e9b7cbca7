"""`in_pod/tls.sh` with a shell on this machine. HAProxy is an in-test program on PATH: what is tested is when it is told what."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.programs import write_programs

SCRIPT = Path(__file__).resolve().parents[2] / "in_pod" / "tls.sh"
PROGRAMS = {
    # With -c it finds a pair wrong whose certificate says so, until it is healed; else it serves, and writes the signals that it gets.
    "haproxy": 'if [ "$1" = -c ]; then echo tried >> "$STAGE/tries"; [ -e "$STAGE/healed" ] && exit 0\n'
    'grep -q wrong "$STAGE/pair/tls.crt" && { echo "unable to load"; exit 1; }; exit 0; fi\n'
    'echo "start $*" >> "$STAGE/events"\n'
    'trap "echo reload >> $STAGE/events" USR2\n'
    'trap "echo soft stop >> $STAGE/events; touch $STAGE/stopping" USR1\n'
    'while [ ! -e "$STAGE/die" ] && { [ ! -e "$STAGE/stopping" ] || [ -e "$STAGE/pull" ]; }; do /bin/sleep 0.02; done\n'
    'echo end >> "$STAGE/events"; [ ! -e "$STAGE/die" ] || exit 7\n',
    "sleep": "exec /bin/sleep 0.05\n",
}
SECONDS = 30
"""Ample: a busy machine is no reason to fail."""


class Stage:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pair").mkdir()
        write_programs(folder / "bin", PROGRAMS)
        self.renew("first")

    def renew(self, text: str) -> None:
        """At once, as the kubelet does."""
        for file in ("tls.crt", "tls.key"):
            (self.folder / "pair" / f".{file}").write_text(text)
            (self.folder / "pair" / f".{file}").rename(self.folder / "pair" / file)

    def start(self) -> None:
        environment = os.environ | {"STAGE": str(self.folder), "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        command = ["sh", str(SCRIPT), "haproxy.cfg", str(self.folder / "pair")]
        with (self.folder / "said").open("w") as said:
            self.process = subprocess.Popen(command, env=environment, stdout=said, start_new_session=True)
        self.wait_for("start -W -db -f haproxy.cfg")

    def said(self) -> str:
        return (self.folder / "said").read_text()

    def events(self) -> list[str]:
        file = self.folder / "events"
        return file.read_text().splitlines() if file.exists() else []

    def wait_for(self, *events: str) -> None:
        deadline = time.monotonic() + SECONDS
        while self.events() != list(events):
            assert time.monotonic() < deadline, f"saw {self.events()} instead of {events}"
            time.sleep(0.02)

    def tries(self) -> int:
        file = self.folder / "tries"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def wait_for_tries(self, number: int) -> None:
        deadline = time.monotonic() + SECONDS
        while self.tries() < number:
            assert time.monotonic() < deadline, f"tried {self.tries()} times"
            time.sleep(0.02)

    def wait_until_said(self, text: str) -> None:
        deadline = time.monotonic() + SECONDS
        while text not in self.said():
            assert time.monotonic() < deadline, f"said {self.said()}"
            time.sleep(0.02)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    made.start()
    yield made
    if made.process.poll() is None:
        os.killpg(made.process.pid, signal.SIGKILL)


START = "start -W -db -f haproxy.cfg"


def test_a_renewed_pair_is_taken_up_once_and_the_same_one_never(stage: Stage) -> None:
    time.sleep(0.3)
    assert stage.events() == [START], "what has not changed is no reason to reload"
    stage.renew("second")
    stage.wait_for(START, "reload")
    time.sleep(0.3)
    assert stage.events() == [START, "reload"]


def test_a_pair_that_can_not_be_used_is_left_aside_until_another_comes(stage: Stage) -> None:
    stage.renew("wrong")
    stage.wait_until_said("can't be used: the one before stays: unable to load")
    assert stage.events() == [START], "a reload would end what serves"
    stage.renew("second")
    stage.wait_for(START, "reload")


def test_a_pair_that_could_not_be_used_is_tried_again_from_time_to_time_without_saying_so(stage: Stage) -> None:
    stage.renew("wrong")
    stage.wait_for_tries(3)
    assert stage.said().count("can't be used") == 1, "the log is no place for the same line every minute"
    assert stage.events() == [START]
    (stage.folder / "healed").touch()
    stage.wait_for(START, "reload")
    tries = stage.tries()
    time.sleep(0.6)
    assert stage.tries() == tries, "what serves is not tried again"


def test_a_pod_that_leaves_ends_when_its_pulls_have(stage: Stage) -> None:
    (stage.folder / "pull").touch()
    stage.process.send_signal(signal.SIGTERM)
    stage.wait_for(START, "soft stop")
    time.sleep(0.3)
    assert stage.process.poll() is None, "a pull is in flight"
    (stage.folder / "pull").unlink()
    assert stage.process.wait(timeout=SECONDS) == 0
    assert stage.events() == [START, "soft stop", "end"]


def test_where_haproxy_ends_the_container_does(stage: Stage) -> None:
    (stage.folder / "die").touch()
    assert stage.process.wait(timeout=SECONDS) == 7, "the kubelet starts it anew"
