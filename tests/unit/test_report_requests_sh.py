"""`in_pod/report_requests.sh` with this machine's bash. varnishncsa is an in-test program; the keeper is a socket of the test's."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

REPORT = Path(__file__).resolve().parents[2] / "in_pod" / "report_requests.sh"
SECONDS = 30


class Keeper:
    """Takes reports, one after another, and answers as it is told."""

    def __init__(self) -> None:
        self.reports: list[list[str]] = []
        self.answer = b"ok\n"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, connection.makefile("r") as lines:
                report = [line.strip() for line in iter(lines.readline, "end\n") if line]
                self.reports.append(report)
                connection.sendall(self.answer)


class Front:
    """The script, beside a front whose log the test writes."""

    def __init__(self, folder: Path, keeper: Keeper) -> None:
        self.log = folder / "log"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "varnishncsa").write_text(
            '#!/bin/sh\nprintf "%s\\n" "$@" > "$STAGE/asked"\necho >> "$STAGE/starts"\nexec cat "$STAGE/log"\n'
        )
        (programs / "varnishncsa").chmod(0o755)
        os.mkfifo(self.log)
        index = folder / "front/_.vsm_mgt/_.index"
        index.parent.mkdir(parents=True)
        index.touch()
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "STAGE": str(folder),
            "WORK": str(folder),
            "PAUSE_SECONDS": "1",
        }
        bash = shutil.which("bash")
        assert bash
        self.process = subprocess.Popen(
            [bash, str(REPORT), "127.0.0.1", str(keeper.port)], env=environment, start_new_session=True
        )
        self.writer = self.log.open("w", buffering=1)

    def is_asked(self, *lines: str) -> None:
        for line in lines:
            self.writer.write(f"{line}\n")


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    made = Keeper()
    yield made
    made.listener.close()


@pytest.fixture
def front(tmp_path: Path, keeper: Keeper) -> Iterator[Front]:
    made = Front(tmp_path, keeper)
    yield made
    with suppress(ProcessLookupError):
        os.killpg(made.process.pid, signal.SIGKILL)
    made.process.wait()


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


ONE, OTHER = "docker.io /v2/library/app/manifests/1", "ghcr.io /v2/org/tool/manifests/2"


def test_what_is_asked_for_is_told_once_a_minute(front: Front, keeper: Keeper, tmp_path: Path) -> None:
    front.is_asked(ONE, OTHER, ONE)
    wait_until(lambda: bool(keeper.reports), "nothing is told")
    front.is_asked(ONE, ONE)
    time.sleep(3)
    told = [line for report in keeper.reports for line in report]
    assert sorted(told) == [ONE, OTHER], "each once, however often it is asked for"
    assert f"{tmp_path}/front" in (tmp_path / "asked").read_text()


def test_what_nobody_took_is_told_again(front: Front, keeper: Keeper) -> None:
    keeper.answer = b"no\n"
    front.is_asked(ONE)
    wait_until(lambda: len(keeper.reports) > 1, "a report that was not taken is not told again")
    keeper.answer = b"ok\n"
    count = len(keeper.reports)
    wait_until(lambda: len(keeper.reports) > count, "it gave up")
    time.sleep(3)
    assert len(keeper.reports) <= count + 2, "a report that was taken is told no more"
    assert all(report == [ONE] for report in keeper.reports)


def test_it_ends_with_the_front_and_when_told_to(front: Front) -> None:
    front.is_asked(ONE)
    front.process.send_signal(signal.SIGTERM)
    assert front.process.wait(timeout=10) == 0, "the pod would wait for it"


def test_a_log_that_ends_is_read_anew(front: Front, keeper: Keeper, tmp_path: Path) -> None:
    front.is_asked(ONE)
    wait_until(lambda: bool(keeper.reports), "nothing is told")
    front.writer.close()
    wait_until(lambda: (tmp_path / "starts").read_text() == "\n\n", "the log is not read again")
    front.writer = front.log.open("w", buffering=1)
    front.is_asked(OTHER)
    wait_until(lambda: [OTHER] in keeper.reports, "what is asked for after the front's restart is not told")
    assert front.process.poll() is None, "a container that ends takes the pod out of its Service"


def test_a_backlog_goes_a_part_at_a_time_and_each_part_once(front: Front, keeper: Keeper) -> None:
    keeper.answer = b"no\n"
    lines = [f"docker.io /v2/library/app/manifests/{number}" for number in range(1200)]
    front.is_asked(*lines)
    wait_until(lambda: len(keeper.reports) > 1 and len(keeper.reports[-1]) == 500, "there is no backlog")
    keeper.reports.clear()
    keeper.answer = b"ok\n"
    wait_until(lambda: len({line for report in keeper.reports for line in report}) == 1200, "the backlog stays")
    time.sleep(2)
    assert [len(report) for report in keeper.reports][-3:] == [500, 500, 200]


def test_who_was_refused_has_not_asked_for_it(front: Front, tmp_path: Path) -> None:
    front.is_asked(ONE)
    asked = (tmp_path / "asked").read_text().split("\n")
    query = asked[asked.index("-q") + 1]
    assert query == 'VCL_Log ~ "^kind:(blob|manifest|tag)$" and not RespStatus ~ "^40[134]$"'


@pytest.mark.parametrize(
    "line",
    [
        "docker.io /v2/library/$(touch${IFS}x)/manifests/1",
        "docker.io /v2/library/a]b/manifests/1",
        "@ /v2/library/app/manifests/1",
        "docker.io /v2/" + "a" * 600 + "/manifests/1",
        "*",
    ],
)
def test_what_is_no_images_name_is_not_told(front: Front, keeper: Keeper, line: str) -> None:
    front.is_asked(line, ONE)
    wait_until(lambda: bool(keeper.reports), "nothing is told")
    time.sleep(1.5)
    assert keeper.reports == [[ONE]]
