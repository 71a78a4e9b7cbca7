"""The runner of the end-to-end files, without a sandbox."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end import run
from tests.end_to_end.run import Outcome


@pytest.fixture(autouse=True)
def _no_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "TIMES", tmp_path / "times.json")
    monkeypatch.setattr(run, "sandbox", lambda *_: True)
    (tmp_path / run.TESTS).mkdir(parents=True)
    for name, count in (("test_a", 10), ("test_b", 30), ("test_c", 20), (run.LONG[0], 5)):
        (tmp_path / run.TESTS / f"{name}.py").write_text("#\n" * count)


def outcome(file: str, *, passed: bool = True) -> Outcome:
    return Outcome(file=file, passed=passed, seconds=1)


def test_the_longest_file_begins_since_it_would_be_waited_for_at_the_end() -> None:
    assert run.longest_first(["test_a", "test_b", "test_c"], {}) == ["test_b", "test_c", "test_a"]
    assert run.longest_first(["test_a", "test_b", "test_c"], {"test_a": 100.0})[0] == "test_a"


def test_long_files_run_only_when_asked_for() -> None:
    assert run.chosen([], everything=False) == ["test_a", "test_b", "test_c"]
    assert run.LONG[0] in run.chosen([], everything=True)
    assert run.chosen(["tests/end_to_end/test_c.py"], everything=False) == ["test_c"]
    with pytest.raises(SystemExit, match="test_d"):
        run.chosen(["test_d"], everything=False)


def test_every_file_runs_once_whoever_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run_file", lambda _, file, __: outcome(file))
    outcomes = run.run_all(["test_a", "test_b", "test_c"], [Path("one"), Path("two")], ())
    assert sorted(outcome.file for outcome in outcomes) == ["test_a", "test_b", "test_c"]


def test_what_passed_only_at_the_second_try_is_said_plainly_and_is_no_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = [outcome("test_a"), outcome("test_b", passed=False)]
    assert run.summary(["test_a", "test_b"], first, [outcome("test_b")], 60) == 0
    assert "passed only at the second try: test_b" in capsys.readouterr().out
    assert run.summary(["test_a", "test_b"], first, [outcome("test_b", passed=False)], 60) == 1
    assert "failed: test_b" in capsys.readouterr().out


def test_a_file_that_never_ended_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.summary(["test_a", "test_b"], [outcome("test_a")], [], 60) == 1
    assert "failed: test_b" in capsys.readouterr().out


def test_a_flaky_file_gets_a_second_try_and_a_second_checkout_takes_its_share(tmp_path: Path) -> None:
    """The runner as it is, in a project whose sandbox does nothing but tell what is asked of it."""
    project = tmp_path / "project"
    for name, text in PROJECT.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text.replace("FOLDER", repr(str(tmp_path))))
    shutil.copy(run.__file__, project / "tests/end_to_end/run.py")
    (project / ".venv").symlink_to(Path(sys.prefix))
    (project / ".gitignore").write_text(".venv\n.second/\n.test-logs/\n__pycache__/\n")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    command = [sys.executable, "-m", "tests.end_to_end.run", "--sandboxes", "2"]
    quick = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=project, env=quick, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "min: failed: test_broken\n" in done.stdout
    assert "passed only at the second try: test_flaky" in done.stdout
    assert "assert 'this one never does'" in done.stdout, "what failed is shown, not only named"
    ran_in = (tmp_path / "ran").read_text().split()
    assert {"project", ".second"} <= set(ran_in), "both checkouts have work"
    asked = (tmp_path / "sandbox").read_text().split()
    assert asked.count("project:up") + asked.count(".second:up") == 6, "one for each run of a file"
    assert asked[-2:] == ["project:down", ".second:down"]
    assert not (project / ".second").exists()


PROJECT = {
    "sandbox/__init__.py": "",
    "sandbox/__main__.py": "import os, sys\nopen(FOLDER + '/sandbox', 'a').write(os.path.basename(os.getcwd()) + ':' + sys.argv[1] + '\\n')\n",
    "sandbox/layout.py": "from pathlib import Path\nCACHE = Path(FOLDER)\n",
    "sandbox/lifecycle.py": "def missing_requirements():\n    return []\n",
    "tests/__init__.py": "",
    "tests/end_to_end/__init__.py": "",
    "tests/end_to_end/conftest.py": "import os, time\ndef pytest_sessionstart():\n    time.sleep(0.5)\n    open(FOLDER + '/ran', 'a').write(os.path.basename(os.getcwd()) + '\\n')\n",
    "tests/end_to_end/test_good.py": "import pytest\ndef test_it():\n    pass\n@pytest.mark.long\ndef test_a_long_one():\n    assert not 'for now'\n",
    "tests/end_to_end/test_fine.py": "def test_it():\n    pass\n",
    "tests/end_to_end/test_broken.py": "def test_it():\n    assert 'this one never does' == ''\n",
    "tests/end_to_end/test_flaky.py": "import pathlib\ndef test_it():\n    mark = pathlib.Path(FOLDER) / 'tried'\n    tried = mark.exists()\n    mark.touch()\n    assert tried\n",
}
