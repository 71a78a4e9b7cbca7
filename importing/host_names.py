"""Ansible's ranges in host names: `node[01:20]`, `rack-[a:c]-1`, `node[0:10:2]`."""

import re
import string

RANGE = re.compile(r"\[(?P<first>\w+):(?P<last>\w+)(:(?P<step>[1-9]\d*))?\]")


def expand(pattern: str) -> list[str]:
    """Every name that a pattern stands for; itself where it holds no range."""
    match = RANGE.search(pattern)
    if not match:
        return [pattern]
    parts = members(match["first"], match["last"], int(match["step"] or 1))
    if not parts:
        return [pattern]
    heads = [pattern[: match.start()] + part for part in parts]
    return [head + tail for head in heads for tail in expand(pattern[match.end() :])]


def members(first: str, last: str, step: int) -> list[str]:
    if first.isdecimal() and last.isdecimal():
        width = len(first) if first.startswith("0") else 0
        return [str(number).zfill(width) for number in range(int(first), int(last) + 1, step)]
    letters = string.ascii_letters
    if first in letters and last in letters and len(first) == len(last) == 1:
        return list(letters[letters.index(first) : letters.index(last) + 1 : step])
    return []
