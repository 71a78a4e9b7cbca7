"""The one machine that ssh's options lead through: `-J`, `ProxyJump`, or a `ProxyCommand` of ssh itself."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PLACE = re.compile(r"(?:ssh://)?(?:(?P<user>[^@\s]+)@)?(?P<host>[-\w.]+)(?::(?P<port>\d+))?/?")
WITHOUT_VALUE = frozenset("46AaCfGgKkMNnqsTtVvXxYy")
"""Ssh's options that take no value."""
JUMPS = re.compile(r"(?i:proxy)|(^|\s)-\w*J")
FORWARDED = "%h:%p"


class UnclearJumpError(Exception):
    """There is a way through another machine, and what it is can't be told."""


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A bastion as ssh's options name it."""

    host: str
    user: str | None = None
    port: str | None = None
    key_path: str | None = None


def find_jump(arguments: str) -> Jump | None:
    """Of ssh's arguments; None where they lead straight to the machine. Raises UnclearJumpError."""
    if not JUMPS.search(arguments):
        return None
    try:
        options = list(read_options(shlex.split(arguments)))
    except ValueError as error:
        raise UnclearJumpError from error
    found = [jump for name, value in options if (jump := jump_of(name, value)) is not None]
    if len(set(found)) > 1:
        raise UnclearJumpError
    return found[0] if found else None


def jump_of(name: str, value: str) -> Jump | None:
    if value.lower() == "none":
        return None
    if name in {"j", "proxyjump"}:
        return at(value)
    return of_command(value) if name == "proxycommand" else None


def read_options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each option's name in lower case with its value, -o's as the option that it sets; what is no option has the name ""."""
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not re.match(r"-\w", word):
            yield "", word
            continue
        letters = word[1:]
        while letters and letters[0] in WITHOUT_VALUE:
            letters = letters[1:]
        if not letters:
            continue
        value = letters[1:] or (waiting.pop(0) if waiting else "")
        if letters[0] == "o":
            name, _, setting = value.strip().replace("=", " ", 1).partition(" ")
            yield name.lower(), setting.strip()
        else:
            # -l is a user, -L a forwarding.
            yield (letters[0].lower() if letters[0] in "JWlpi" else letters[0] * 2), value


def at(text: str) -> Jump:
    place = PLACE.fullmatch(text.strip())
    if not place:
        raise UnclearJumpError
    return Jump(host=place["host"], user=place["user"], port=place["port"])


def of_command(text: str) -> Jump:
    """`ssh -W %h:%p -q user@host`."""
    program, *words = shlex.split(text) or [""]
    options = list(read_options(words))
    given = dict(options)
    targets = [value for name, value in options if name == ""]
    if program.rpartition("/")[2] != "ssh" or given.get("w") != FORWARDED or len(targets) != 1:
        raise UnclearJumpError
    if {"j", "proxyjump", "proxycommand"} & set(given):
        raise UnclearJumpError
    target = at(targets[0])
    return Jump(
        host=target.host,
        user=target.user or given.get("l") or given.get("user"),
        port=target.port or given.get("p") or given.get("port"),
        key_path=given.get("i") or given.get("identityfile"),
    )
