"""Questions and tables: what differs between a terminal and a log."""

import sys

from rich.console import Console

from operations.stacks import OperationError

LOG_WIDTH = 140


def console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; a log has no width of its own, and a table should not be folded there."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else LOG_WIDTH)


def confirm(question: str, *, yes: bool) -> bool:
    """Ask, with no as the default; `yes` answers. Raises OperationError where there is nobody to ask."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise OperationError(f"{question} There is no terminal to ask at: YES=1 answers yes")
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}
