"""Each node's ssh access as its sources say it, and what the nodes share as the stack's own keys."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from importing.findings import Findings, Found, Given, Unusable, first
from importing.login import Login
from importing.result import Secret, Setting

DEFAULT_USER, DEFAULT_PORT = "root", "22"
SHARED = "docker_cache_ssh_"
TRUE, FALSE = "true", "false"
CREDENTIALS = ("private_key", "private_key_path", "password")
SECRETS = ("private_key", "password", "sudo_password")
ANSIBLE_TRUE = {"true", "yes", "on", "1", "t", "y"}

Access = dict[str, Given]
"""By the key of a node: user, port, the credentials, sudo, sudo_password."""


@dataclass(frozen=True, kw_only=True)
class Hoisted:
    """What all or most nodes share, and what is left to each."""

    shared: tuple[Setting, ...]
    own: tuple[tuple[Setting, ...], ...]


def access(logins: Sequence[Login], name: str, findings: Findings) -> Access:
    """Of one node; `logins` are its sources, the strongest first. A password or a key counts for its own source's user only."""
    user = first(*(login.user for login in logins))
    own = [login for login in logins if is_of_user(login.user, user)]
    found: dict[str, Found] = {
        "user": user,
        "port": first(*(login.port for login in logins)),
        "private_key": first(*(login.private_key for login in own)),
        "private_key_path": first(*(login.private_key_path for login in own)),
        "password": first(*(login.password for login in own)),
        "sudo_password": first(*(login.become_password for login in own)),
    }
    values = {key: item for key, value in found.items() if (item := findings.usable(value)) is not None}
    for key in ("user", "port"):
        if isinstance(unknown := found[key], Unusable):
            # Left out, it would be the default: a guess. Empty, it is a problem that names the node.
            values[key] = Given(text="", source=unknown.source)
    refuse_key_text(values, findings)
    values["sudo"] = sudo(user, findings.usable(first(*(login.become for login in logins))), name, findings)
    if values["sudo"].text == FALSE:
        values.pop("sudo_password", None)
    return values


def is_of_user(own: Found, user: Found) -> bool:
    if own is None:
        return True
    return own is user or (isinstance(own, Given) and isinstance(user, Given) and own.text == user.text)


def refuse_key_text(values: Access, findings: Findings) -> None:
    path = values.get("private_key_path")
    if path and "\n" in path.text:
        findings.unusable.append(f"{path.source} is not the path of a file (its value is not shown)")
        del values["private_key_path"]


def sudo(user: Found, become: Given | None, name: str, findings: Findings) -> Given:
    """OpenPAI's and kubespray's playbooks become root whatever the inventory says, unless it says no."""
    if isinstance(user, Unusable):
        return Given(text=TRUE, source="since the user is not known")
    who = user.text if user else DEFAULT_USER
    if who == DEFAULT_USER:
        return Given(text=FALSE, source=f"since the user is {DEFAULT_USER}")
    if become and become.text.lower() not in ANSIBLE_TRUE:
        findings.unusable.append(
            f'{become.source} is "{become.text}", but {name}\'s user is "{who}": docker is changed as root, so set sudo: true or '
            "another user in the stack"
        )
        return Given(text=FALSE, source=become.source)
    return Given(text=TRUE, source=become.source if become else f"since the user is {who}, as the playbooks do")


def hoist(accesses: Sequence[Access]) -> Hoisted:
    """The most common values become the stack's own; each node keeps what differs."""
    accesses = [with_defaults(item, accesses) for item in accesses]
    groups = [("user",), ("port",), CREDENTIALS, ("sudo",), ("sudo_password",)]
    shared: dict[str, Setting] = {}
    left: list[dict[str, Given]] = [dict(item) for item in accesses]
    for keys in groups:
        if not can_be_shared(keys, accesses):
            continue
        chosen = most_common(keys, accesses)
        for number, item in enumerate(accesses):
            if texts(keys, item) == texts(keys, accesses[chosen]):
                for key in keys:
                    left[number].pop(key, None)
        shared |= {key: setting(f"{SHARED}{key}", accesses[chosen][key]) for key in keys if key in accesses[chosen]}
    return Hoisted(
        shared=tuple(shared[key] for key in shared if not is_default(key, shared[key].value)),
        own=tuple(tuple(setting(key, value) for key, value in item.items()) for item in left),
    )


def with_defaults(own: Access, accesses: Sequence[Access]) -> Access:
    """Where some nodes say a user or a port, the others say theirs too: the stack's key would speak for them."""
    defaults = {"user": DEFAULT_USER, "port": DEFAULT_PORT}
    missing = {
        key: Given(text=text, source="the default")
        for key, text in defaults.items()
        if key not in own and any(key in item for item in accesses)
    }
    return own | missing


def can_be_shared(keys: tuple[str, ...], accesses: Sequence[Access]) -> bool:
    """A node can't say that it has none of what the stack's keys give: then each says its own."""
    needing = [item for item in accesses if keys != ("sudo_password",) or item["sudo"].text == TRUE]
    return bool(needing) and all(any(key in item and item[key].text for key in keys) for item in needing)


def texts(keys: tuple[str, ...], item: Access) -> tuple[str | None, ...]:
    return tuple(item[key].text if key in item else None for key in keys)


def most_common(keys: tuple[str, ...], accesses: Sequence[Access]) -> int:
    """The number of the first node that has the most common values."""
    counted = Counter(texts(keys, item) for item in accesses if any(key in item for key in keys))
    best = counted.most_common(1)[0][0]
    return next(number for number, item in enumerate(accesses) if texts(keys, item) == best)


def is_default(key: str, value: object) -> bool:
    return (key, value) in {("port", DEFAULT_PORT), ("sudo", FALSE)}


def setting(key: str, given: Given) -> Setting:
    is_secret = key.removeprefix(SHARED) in SECRETS
    return Setting(key=key, value=Secret(text=given.text) if is_secret else given.text, source=given.source)
