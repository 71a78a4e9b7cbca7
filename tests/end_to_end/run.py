"""Runs the end-to-end files in two sandboxes at a time, the longest first; `python -m tests.end_to_end.run --help`.

A file is one pytest run. A sandbox lasts as long as its files pass, and the one after a failure begins anew. What failed is run
once more when the others are done, alone and on a fresh sandbox, and the summary says so.
"""

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sandbox import lifecycle
from sandbox.layout import CACHE

ROOT = Path(__file__).resolve().parents[2]
TESTS = Path("tests/end_to_end")
SECOND = ROOT / ".second"
"""Another checkout of what lies here: a sandbox is its checkout's."""
LOGS = ROOT / ".test-logs"
TIMES = CACHE / "end-to-end-seconds.json"
"""What each file took the last time, to begin with the longest."""
LONG = ("test_azure_sandbox", "test_entries", "test_fleet", "test_large_layer", "test_policy_engine", "test_takeover", "test_waves")  # fmt: skip
"""Only `make test-all` runs these, and of the other files the tests that are marked `long`."""
MEMORY_OF_TWO = 14 << 30
FILE_SECONDS = 2700
LOG_LINES = 60
NO_TESTS = 5
"""pytest's exit status for a file in which nothing was to be run."""


running: set["subprocess.Popen[bytes]"] = set()
stopping = threading.Event()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run of one file."""

    file: str
    passed: bool
    seconds: float


def main() -> int:
    arguments = parse()
    # A shell's background job ignores it, its children inherit that, and tests interrupt pulumi.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    missing = lifecycle.missing_requirements()
    if missing:
        say("left out, this machine lacks what the sandbox needs: " + "; ".join(missing))
        return 1 if os.environ.get("CI") == "true" else 0
    files = longest_first(chosen(arguments.files, everything=arguments.all), known_seconds())
    options = () if arguments.all or arguments.files else ("-m", "not long")
    begun = time.monotonic()
    checkouts = [ROOT, SECOND][: arguments.sandboxes]
    shutil.rmtree(LOGS, ignore_errors=True)
    if len(checkouts) > 1:
        copy_checkout(SECOND)
    try:
        first = run_all(files, checkouts, options)
        failed = [outcome.file for outcome in first if not outcome.passed]
        if failed and len(checkouts) > 1:
            sandbox(SECOND, "down")
        second = [run_anew(file, options) for file in failed]
    finally:
        for checkout in checkouts:
            sandbox(checkout, "down")
        shutil.rmtree(SECOND, ignore_errors=True)
    remember([*first, *second])
    return summary(files, first, second, time.monotonic() - begun)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.run", description="Run the end-to-end tests.")
    parser.add_argument(
        "files", nargs="*", help="names such as test_cache, each whole; all but what is long, if none is given"
    )
    parser.add_argument("--all", action="store_true", help="the long ones too")
    default = 2 if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >= MEMORY_OF_TWO else 1
    parser.add_argument("--sandboxes", type=int, choices=(1, 2), default=default, help=f"at a time (here: {default})")
    return parser.parse_args()


def chosen(names: Sequence[str], *, everything: bool) -> list[str]:
    """The files' names without their ending."""
    there = sorted(file.stem for file in (ROOT / TESTS).glob("test_*.py"))
    if names:
        wanted = [Path(name).stem for name in names]
        unknown = sorted(set(wanted) - set(there))
        if unknown:
            sys.exit(f"no file of {TESTS} is called {', '.join(unknown)}: there are {', '.join(there)}")
        return wanted
    return [name for name in there if everything or name not in LONG]


def known_seconds() -> dict[str, float]:
    try:
        known: dict[str, float] = json.loads(TIMES.read_text())
    except (OSError, ValueError):
        return {}
    return known


def longest_first(files: Iterable[str], seconds: dict[str, float]) -> list[str]:
    """Where nothing is known, a line takes a second: near enough, and one that is new is not left for the end."""
    return sorted(files, key=lambda file: seconds.get(file) or lines(file), reverse=True)


def lines(file: str) -> float:
    return float(len((ROOT / TESTS / f"{file}.py").read_text().splitlines()))


def copy_checkout(target: Path) -> None:
    """What git knows or would take in, as it lies here; the virtual environment is shared."""
    if target.is_dir():
        sandbox(target, "down")
        shutil.rmtree(target)
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    (target / ".venv").symlink_to(ROOT / ".venv")


def run_all(files: Sequence[str], checkouts: Sequence[Path], options: Sequence[str]) -> list[Outcome]:
    """Each checkout takes the next file when it is done with one."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for file in files:
        waiting.put(file)
    outcomes: list[Outcome] = []
    workers = [
        threading.Thread(target=work, args=(checkout, waiting, outcomes, len(files), options), daemon=True)
        for checkout in checkouts
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except BaseException:
        stopping.set()
        for child in list(running):
            child.send_signal(signal.SIGINT)
        for worker in workers:
            worker.join()
        raise
    return outcomes


def work(
    checkout: Path,
    waiting: "queue.SimpleQueue[str]",
    outcomes: list[Outcome],
    count: int,
    options: Sequence[str],
) -> None:
    while not stopping.is_set():
        try:
            file = waiting.get_nowait()
        except queue.Empty:
            return
        outcome = run_file(checkout, file, options)
        if stopping.is_set():
            return
        outcomes.append(outcome)
        say(f"{len(outcomes)} of {count}: {told(outcome)}")
        if not outcome.passed:
            show_end(file)
            sandbox(checkout, "down")


def run_anew(file: str, options: Sequence[str]) -> Outcome:
    say(f"once more, alone and on a fresh sandbox: {file} …")
    (LOGS / f"{file}.log").rename(LOGS / f"{file}.first.log")
    sandbox(ROOT, "down")
    outcome = run_file(ROOT, file, options)
    say(told(outcome))
    if not outcome.passed:
        show_end(file)
    return outcome


def run_file(checkout: Path, file: str, options: Sequence[str]) -> Outcome:
    """In a sandbox that is there afterwards, so that the next file finds it."""
    begun = time.monotonic()
    command = ["pytest", "-v", "--durations=10", *options, str(TESTS / f"{file}.py")]
    log = LOGS / f"{file}.log"
    passed = sandbox(checkout, "up", log) and run(checkout, command, log) in (0, NO_TESTS)
    return Outcome(file=file, passed=passed, seconds=time.monotonic() - begun)


def sandbox(checkout: Path, action: str, log: Path | None = None) -> bool:
    return run(checkout, ["sandbox", action], log or LOGS / "sandbox.log") == 0


def run(checkout: Path, module: Sequence[str], log: Path) -> int:
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as output:
        command = [sys.executable, "-m", *module]
        child = subprocess.Popen(command, cwd=checkout, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        running.add(child)
        try:
            return child.wait(FILE_SECONDS)
        except subprocess.TimeoutExpired:
            output.write(f"\nIt had not ended after {FILE_SECONDS} s and was killed.\n".encode())
            child.kill()
            return child.wait()
        finally:
            running.discard(child)


def show_end(file: str) -> None:
    log = LOGS / f"{file}.log"
    print("\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:]), flush=True)
    say(f"the whole of it: {log.relative_to(ROOT)}")


def remember(outcomes: Iterable[Outcome]) -> None:
    seconds = known_seconds() | {outcome.file: round(outcome.seconds) for outcome in outcomes if outcome.passed}
    TIMES.write_text(json.dumps(seconds, indent=1, sort_keys=True))


def summary(files: Sequence[str], first: Sequence[Outcome], second: Sequence[Outcome], seconds: float) -> int:
    """Every file with its time, what needed a second try, what failed; and the exit status."""
    say("")
    mended = sorted(outcome.file for outcome in second if outcome.passed)
    failed = sorted(set(files) - {outcome.file for outcome in first if outcome.passed} - set(mended))
    for outcome in sorted(first, key=lambda outcome: outcome.seconds, reverse=True):
        say(told(outcome) + (", passed only at the second try" if outcome.file in mended else ""))
    ran = f"{len(first)} files in {seconds / 60:.0f} min"
    if mended:
        say(f"passed only at the second try: {', '.join(mended)}")
    say(f"{ran}: failed: {', '.join(failed)}" if failed else f"{ran}: passed")
    return 1 if failed else 0


def told(outcome: Outcome) -> str:
    return f"{outcome.file:<28} {'passed' if outcome.passed else 'FAILED'} {outcome.seconds:6.0f} s"


def say(text: str) -> None:
    print(f"end-to-end: {text}" if text else "", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("stopped; the sandboxes are gone")
        sys.exit(130)
