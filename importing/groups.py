"""The groups of an inventory, and the order in which a host's groups have their say."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

ALL = "all"
PRIORITY = "ansible_group_priority"


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One variable, with its place. Its value may be a secret."""

    value: object = field(repr=False)
    source: str


Variables = Mapping[str, Variable]


@dataclass(kw_only=True)
class Group:
    """Filled while the inventory is read: a group may stand in several places."""

    name: str
    hosts: dict[str, dict[str, Variable]] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    children: set[str] = field(default_factory=set)

    @property
    def priority(self) -> int:
        given = self.variables.get(PRIORITY)
        return int(str(given.value)) if given and str(given.value).isdecimal() else 1


def chain(host: str, groups: Mapping[str, Group]) -> list[Group]:
    """The host's groups, the weakest first: parents before children, then by priority and name."""
    depths = depths_below(ALL, groups)
    own = {name for name, group in groups.items() if host in group.hosts}
    names = {ALL, *own, *(parent for name in own for parent in ancestors(name, groups))}
    return [groups[name] for name in sorted(names, key=lambda name: (depths.get(name, 0), groups[name].priority, name))]


def ancestors(name: str, groups: Mapping[str, Group]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        child = waiting.pop()
        parents = {parent for parent, group in groups.items() if child in group.children} - found
        found |= parents
        waiting += parents
    return found


def depths_below(name: str, groups: Mapping[str, Group]) -> dict[str, int]:
    """The longest way down to each group; one that is its own ancestor is gone by once."""
    depths: dict[str, int] = {}
    for path in paths(name, groups, ()):
        depths[path[-1]] = max(depths.get(path[-1], 0), len(path) - 1)
    return depths


def paths(name: str, groups: Mapping[str, Group], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if name in above:
        return
    path = (*above, name)
    yield path
    for child in sorted(groups[name].children):
        yield from paths(child, groups, path)
