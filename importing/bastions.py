"""The machines that nodes are reached through: what most of them share is the stack's, and each node keeps what differs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from importing.access import SECRETS, TRUE
from importing.findings import Findings, Unusable
from importing.login import Login
from importing.result import Secret, Setting, Value

BASTION = "docker_cache_ssh_bastion"
PARTS = ("host", "user", "port", "private_key", "private_key_path", "password")


@dataclass(frozen=True, kw_only=True)
class Way:
    """A bastion as pairs of a key and its text, so that two can be compared. None: it can't be known; then nothing is taken."""

    parts: tuple[tuple[str, str], ...] | None = field(repr=False)
    source: str

    @property
    def value(self) -> Value | dict[str, Value]:
        """Empty where it can't be known, so that the stack's check names the node."""
        if self.parts is None:
            return ""
        return {key: Secret(text=text) if key in SECRETS else text for key, text in self.parts}


def way(login: Login | Unusable | None, findings: Findings) -> Way | None:
    """Through which machine a node is reached; None: directly."""
    if login is None:
        return None
    if isinstance(login, Unusable):
        findings.usable(login)
        return Way(parts=None, source=login.source)
    found = {part: findings.usable(getattr(login, part)) for part in PARTS}
    host = found["host"]
    if host is None:
        return Way(parts=None, source=str(getattr(login.host, "source", "")))
    return Way(parts=tuple((part, item.text) for part, item in found.items() if item), source=host.source)


def hoist(ways: Sequence[Way | None]) -> tuple[tuple[Setting, ...], list[tuple[Setting, ...]]]:
    """The stack's own setting, if any, and each node's."""
    counted = Counter(item.parts for item in ways if item and item.parts)
    if not counted:
        return (), [tuple(own(item, None)) for item in ways]
    shared = next(item for item in ways if item and item.parts == counted.most_common(1)[0][0])
    stacks = Setting(key=BASTION, value=shared.value, source=shared.source)
    return (stacks,), [tuple(own(item, shared)) for item in ways]


def own(item: Way | None, shared: Way | None) -> Iterator[Setting]:
    if item is None:
        if shared:
            yield Setting(key="direct", value=TRUE, source="no bastion is named for it")
    elif shared is None or item.parts != shared.parts:
        yield Setting(key="bastion", value=item.value, source=item.source)
