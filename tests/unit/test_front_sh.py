"""The scripts in the front's pod, with programs that stand in for Varnish's."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rendering.varnish import IN_POD

STAT = """#!/bin/sh
# Stands in for varnishstat: one request fewer is in flight each time it is asked.
left=$(cat "$WORK/left")
echo $((left > 0 ? left - 1 : 0)) > "$WORK/left"
echo "MEMPOOL.req0.live $left . In use"
echo "MEMPOOL.req1.live 0 . In use"
"""
NCSA = """#!/bin/sh
# Stands in for varnishncsa: it shows its format, and ends.
while [ "$1" != -F ]; do shift; done
echo "$2"
"""


@pytest.fixture(name="environment")
def pod(tmp_path: Path) -> dict[str, str]:
    for name, text in (("varnishstat", STAT), ("varnishncsa", NCSA)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "front/_.vsm_mgt").mkdir(parents=True)
    (tmp_path / "front/_.vsm_mgt/_.index").touch()
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WORK": str(tmp_path)}


def drain(environment: dict[str, str], in_flight: int, patience: int) -> float:
    work, begun = Path(environment["WORK"]), time.monotonic()
    (work / "left").write_text(str(in_flight))
    command = ["sh", str(IN_POD / "drain.sh"), "0", str(patience)]
    subprocess.run(command, env=environment, check=True, timeout=20)
    assert (work / "draining").exists(), "from then on every answer closes its connection"
    assert (work / "drained").exists(), "the containers beside it would wait for ever"
    return time.monotonic() - begun


def test_a_front_waits_for_its_pulls_in_flight(environment: dict[str, str]) -> None:
    assert drain(environment, in_flight=2, patience=10) > 1.5
    assert drain(environment, in_flight=0, patience=10) < 1


def test_a_pull_that_does_not_end_does_not_keep_a_front_for_ever(environment: dict[str, str]) -> None:
    assert 0.5 < drain(environment, in_flight=1000, patience=1) < 5


def test_a_thousand_slow_clients_of_what_is_not_kept_fit_into_the_fronts_memory() -> None:
    """Each takes about four times the buffer (measured with two hundred: 9.5 MB at 4M, 1.3 MB at 256k)."""
    buffers = re.findall(r"-p transit_buffer=(\d+)k\b", (IN_POD / "front.sh").read_text())
    assert [int(buffer) <= 256 for buffer in buffers] == [True], "the front would be ended for its memory"


def test_each_line_of_the_access_log_is_json_and_the_log_goes_on_when_its_program_ends(
    environment: dict[str, str],
) -> None:
    command = ["sh", str(IN_POD / "log.sh")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    line = re.sub(r"%\{[^}]*\}[a-z]|%[a-z]", "1", lines[0].replace("%O", "1").replace("%D", "1"))
    assert json.loads(line).keys() >= {"time", "client", "upstream", "kind", "path", "cache", "status", "bytes"}
    assert lines[0] == lines[1], "a container that ends takes the pod out of its Service"
