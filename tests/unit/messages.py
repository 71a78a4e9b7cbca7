"""Every message that the unit tests have produced, for the test that compares them with docs/errors.md."""

from collections.abc import Iterable

PRODUCED: set[str] = set()


def remember(messages: Iterable[str]) -> None:
    """Add messages, by lines."""
    PRODUCED.update(line for message in messages for line in message.splitlines())
