"""What the sandbox tells while it works: one line a step, with its seconds."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

HEARTBEAT_SECONDS = 15


class SandboxError(Exception):
    """Something that the user can mend; the text says what and how."""


@contextlib.contextmanager
def step(title: str, *, log: Path | None = None) -> Iterator[Path]:
    """Say that `title` begins, that it goes on, and when it is done. A failing command shows the end of its log."""
    begun = time.monotonic()
    finished = threading.Event()
    say(f"{title} …")
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
    threading.Thread(target=beat, args=(title, begun, finished), daemon=True).start()
    try:
        yield log or Path("/dev/null")
    except (subprocess.CalledProcessError, OSError) as error:
        tail = log.read_text(errors="replace")[-2000:] if log and log.is_file() else ""
        message = f"{title} failed: {error}\n{tail}" + (f"\nThe whole log: {log}" if log else "")
        raise SandboxError(message) from error
    finally:
        finished.set()
    say(f"{title}: {time.monotonic() - begun:.0f} s")


def beat(title: str, begun: float, finished: threading.Event) -> None:
    while not finished.wait(HEARTBEAT_SECONDS):
        say(f"{title}: {time.monotonic() - begun:.0f} s so far")


def say(text: str) -> None:
    print(f"sandbox: {text}", file=sys.stderr, flush=True)
