"""What changed between old and new inputs, property by property, as `pulumi preview --diff` shows it."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from sandbox.providers.values import Secret, Unknown, Value

Path: TypeAlias = tuple[str | int, ...]


class Kind(enum.Enum):
    """How a property changed."""

    ADD = "ADD"
    DELETE = "DELETE"
    UPDATE = "UPDATE"


@dataclass(frozen=True)
class Change:
    """One property that differs; for a whole subtree that came or went, its root."""

    path: Path
    kind: Kind
    value: Value

    @property
    def name(self) -> str:
        """The path in the engine's notation, such as ``spec.containers[0].image``."""
        return property_path(self.path)


def changes(old: Value, new: Value, path: Path = ()) -> Iterator[Change]:
    """Give every difference between two values; whether they are secret makes none."""
    if isinstance(old, Secret):
        old = old.value
    if isinstance(new, Secret):
        new = new.value
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _entry(old.get(key), new.get(key), (*path, key))
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            yield from _entry(_item(old, index), _item(new, index), (*path, index))
    elif not _same(old, new):
        yield Change(path, Kind.UPDATE, new)


def property_path(path: Path) -> str:
    """Write a path in the engine's notation."""
    written = ""
    for step in path:
        if isinstance(step, int):
            written += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_$][\w$]*", step):
            written += f".{step}" if written else step
        else:
            written += f"[{json.dumps(step, ensure_ascii=False)}]"
    return written


def _entry(old: Value, new: Value, path: Path) -> Iterator[Change]:
    if old is None and new is None:
        return
    if old is None:
        yield Change(path, Kind.ADD, new)
    elif new is None:
        yield Change(path, Kind.DELETE, old)
    else:
        yield from changes(old, new, path)


def _item(values: list[Value], index: int) -> Value:
    return values[index] if index < len(values) else None


def _same(old: Value, new: Value) -> bool:
    # Two unknowns may turn out different, and in Python True == 1.
    if isinstance(old, Unknown) or isinstance(new, Unknown) or isinstance(old, bool) != isinstance(new, bool):
        return False
    return old == new
