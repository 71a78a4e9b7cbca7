"""`in_pod/prefetch.sh` with a shell on this machine. regctl is a program of the test, which answers as it is told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.messages import remember
from tests.unit.programs import write_programs

PREFETCH = Path(__file__).resolve().parents[2] / "in_pod" / "prefetch.sh"
REGCTL = """
import json, os, sys
from pathlib import Path

stage = Path(os.environ["STAGE"])
with (stage / "asked").open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
told = json.loads((stage / "told").read_text())
answers = told.get(sys.argv[-1], [])
said = answers.pop(0) if answers else ""
(stage / "told").write_text(json.dumps(told))
print("\\0 a tar archive", end="")
print(said, end="", file=sys.stderr)
sys.exit(bool(said))
"""
NOT_FOUND = "failed to get manifest docker.io/library/no:1: request failed: not found [http 404]: MANIFEST_UNKNOWN"


class Run:
    """One run of the script, and what it left."""

    def __init__(self, folder: Path, *words: str, **told: list[str]) -> None:
        programs = folder / "bin"
        texts = {"regctl": f'exec {sys.executable} "$STAGE/regctl.py" "$@"', "sleep": 'echo "$1" >>"$STAGE/slept"'}
        write_programs(programs, texts)
        (folder / "regctl.py").write_text(REGCTL)
        (folder / "told").write_text(json.dumps(told))
        last = folder / "last"
        environment = os.environ | {
            "STAGE": str(folder),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "TERMINATION_LOG": str(last),
        }
        ran = subprocess.run(
            ["sh", str(PREFETCH), *words], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert ran.stderr == ""
        self.code, self.said = ran.returncode, ran.stdout.splitlines()
        self.message = last.read_text() if last.exists() else ""
        remember([self.message])
        asked = folder / "asked"
        self.asked = [json.loads(line)[4:] for line in asked.read_text().splitlines()] if asked.exists() else []
        slept = folder / "slept"
        self.slept = slept.read_text().split() if slept.exists() else []


def test_an_image_is_pulled_whole_or_for_its_platforms(tmp_path: Path) -> None:
    run = Run(tmp_path, "nginx:1.29", "all", "ghcr.io/org/app:1", "linux/amd64,linux/arm/v7")
    assert run.asked == [
        ["nginx:1.29"],
        ["--platform", "linux/amd64", "ghcr.io/org/app:1"],
        ["--platform", "linux/arm/v7", "ghcr.io/org/app:1"],
    ]
    assert run.code == 0
    assert run.said[-1] == "in the cache: all 3"
    assert not run.message, "there is nothing for pulumi to say"


def test_one_that_fails_is_tried_again_and_keeps_no_other_from_being_pulled(tmp_path: Path) -> None:
    run = Run(tmp_path, "no:1", "all", "shaky:1", "all", **{"no:1": [NOT_FOUND] * 3, "shaky:1": ["EOF"]})
    assert [words[-1] for words in run.asked] == ["no:1"] * 3 + ["shaky:1"] * 2
    assert run.slept == ["10"] * 3, "trying again at once meets the same trouble"
    assert run.code == 1


def test_the_last_message_names_each_that_failed_with_its_reason(tmp_path: Path) -> None:
    told = {"no:1": ["a warning\n" + NOT_FOUND] * 3, "never:1": ["unauthorized"] * 3}
    run = Run(tmp_path, "no:1", "all", "app:1", "all", "never:1", "linux/arm64", **told)
    assert run.message == (
        f"2 of 3 could not be fetched ahead; no:1 (all): {NOT_FOUND}; never:1 (linux/arm64): unauthorized\n"
    )
    assert run.message == run.said[-1] + "\n", "the log has it too"


@pytest.mark.parametrize("words", [(), ("nginx:1.29",)])
def test_without_images_there_is_nothing_to_do(words: tuple[str, ...], tmp_path: Path) -> None:
    run = Run(tmp_path, *words)
    assert (run.code, run.asked) == (0, [])
