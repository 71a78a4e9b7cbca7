"""From the stack's configuration to checked settings, or to one list of everything that is wrong with it."""

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import get_args, get_origin

import pydantic
from pydantic_core import ErrorDetails

from settings.model import SECRET_KEYS, Bastion, Settings
from settings.rules import problems_across
from settings.values import parse_bool

LIST_KEYS = frozenset(name for name, field in Settings.model_fields.items() if get_origin(field.annotation) is tuple)
MAP_KEYS = frozenset(
    name
    for name, field in Settings.model_fields.items()
    if get_origin(field.annotation) is dict or Bastion in get_args(field.annotation)
)
"""Keys that hold a list or a map, which the engine hands on as JSON."""
ALIASES = {
    "docker_cache_azure_account_name": "docker_azure_account_name",
    "docker_cache_azure_account_key": "docker_azure_account_key",
    "docker_cache_htpasswd": "docker_cache_registry_htpasswd",
}
"""Names under which OpenPAI's manual and templates have the same keys."""

NEARLY = 0.9
"""The likeness that makes a key a misspelling. The original's own keys that are not read here are less alike."""
LIST_OF_NODES = "write a list of maps with name and host, see docs/configuration.md"
BASTION = "write a map with host, see docs/configuration.md"
UPSTREAM = "write a host such as ghcr.io, or a map with host, see docs/configuration.md"
PREFETCHED = "write an image's name, or a map with image, see docs/configuration.md"
OUR_WORDS = {
    "string_type": "write it as text, in quotes",
    "dict_type": "write a map",
}
"""pydantic's kinds of error whose own words speak of Python."""

Read = Callable[[str], str | None]
"""Gives a key's text as the engine hands it on: JSON for a list or a map; None where the key is not set."""


class SettingsError(Exception):
    """Everything that is wrong with a configuration, a line each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Disabled:
    """`enable_docker_cache` is off: nothing else counts, wrong values included."""


@dataclass(frozen=True, kw_only=True)
class Examined:
    """Settings as far as they are right; the keys in `wrong` have their defaults in them, and must not be gone by."""

    settings: Settings
    problems: tuple[str, ...]
    wrong: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The keys that are set, by their main names, and what is wrong with some already."""

    values: Mapping[str, object]
    problems: Mapping[str, str]


def load(read: Read, given: Collection[str] = ()) -> Settings | Disabled:
    """Check every key at once. Raises SettingsError with all problems."""
    examined = examine(read, given)
    if isinstance(examined, Disabled):
        return examined
    if examined.problems:
        raise SettingsError(list(examined.problems))
    return examined.settings


def examine(read: Read, given: Collection[str] = ()) -> Examined | Disabled:
    """Check every key by itself and with the others. Raises SettingsError where the switch itself can't be read.

    `given` are the keys that the stack has, known or not: a misspelt one would be a default taken in silence.
    """
    switch = read("enable_docker_cache")
    try:
        enabled = parse_bool(switch or "false")
    except ValueError as error:
        raise SettingsError([f'enable_docker_cache is "{switch}": {error}']) from error
    misspelt = misspelt_keys(given)
    if not enabled and (switch or not misspelt):
        return Disabled()
    collected = collect(read)
    settings, found = validate(collected.values, read)
    wrong = frozenset({*collected.problems, *found})
    single = [*collected.problems.values(), *(line for lines in found.values() for line in lines)]
    return Examined(settings=settings, problems=(*misspelt, *single, *problems_across(settings, wrong)), wrong=wrong)


def validate(values: Mapping[str, object], read: Read) -> tuple[Settings, dict[str, list[str]]]:
    """The settings without the keys that are wrong, and those keys' problems."""
    try:
        return Settings.model_validate(values), {}
    except pydantic.ValidationError as error:
        found: dict[str, list[str]] = {}
        for details in error.errors():
            found.setdefault(str(details["loc"][0]), []).extend(describe(details, read))
    return Settings.model_validate({key: value for key, value in values.items() if key not in found}), found


def misspelt_keys(given: Collection[str]) -> list[str]:
    """Keys that are nearly ours. Others, such as those of another version, are left alone."""
    known = [*Settings.model_fields, *ALIASES.values()]
    nearest = {key: difflib.get_close_matches(key, known, 1, NEARLY) for key in given if key not in known}
    return [f"{key} is not known: did you mean {match[0]}?" for key, match in nearest.items() if match]


def collect(read: Read) -> Collected:
    """The keys that are set. Pulumi.yaml declares "" for a key without a default: that is not set."""
    values: dict[str, object] = {}
    problems: dict[str, str] = {}
    for key in Settings.model_fields:
        text, alias = read(key), read(ALIASES[key]) if key in ALIASES else None
        if text and alias and text != alias:
            problems[key] = two_values(key, text, alias)
        elif text or alias:
            try:
                values[key] = parse_object(key, text or alias or "") if key in LIST_KEYS | MAP_KEYS else text or alias
            except ValueError as error:
                problems[key] = str(error)
    return Collected(values=values, problems=problems)


def two_values(key: str, text: str, alias: str) -> str:
    shown = (shown_value(key, value).removeprefix(" is ") for value in (text, alias))
    first, second = shown if not is_secret(key) else ("one value", "another (their values are not shown)")
    return f"{key} is {first}, but its other name {ALIASES[key]} is {second}: keep one of the two"


def parse_object(key: str, text: str) -> object:
    """Raises ValueError with the message for the user."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise ValueError(
            f"{key} is not {'a map' if key in MAP_KEYS else 'a list'}: see docs/configuration.md for its form"
        ) from None


def describe(details: ErrorDetails, read: Read) -> list[str]:
    """`key is "value": remedy`; a secret's value never, and none where there is none."""
    message = details["msg"].removeprefix("Value error, ")
    key = place(details["loc"], read)
    if details["type"] == "missing":
        return [f"{key} is missing: {who_needs(key)} needs it, see docs/configuration.md"]
    if details["type"] == "extra_forbidden":
        return [f"{key} is not a key that is known here: see docs/configuration.md"]
    message = OUR_WORDS.get(details["type"], message)
    if details["type"] == "model_type":
        message = form_of(key)
    if details["type"] == "tuple_type":
        message = LIST_OF_NODES if key == "docker_cache_nodes" else "write a list"
    if details["type"] == "literal_error":
        message = f"use {details.get('ctx', {}).get('expected', '')}".replace("'", '"')
    return [f"{key}{shown_value(key, details['input'])}: {line[0].lower()}{line[1:]}" for line in message.splitlines()]


def who_needs(key: str) -> str:
    if key.startswith("docker_cache_upstreams"):
        return "each upstream"
    if key.startswith("docker_cache_prefetch"):
        return "each image"
    return "each node" if re.fullmatch(r"docker_cache_nodes\[[^\]]*\]\.\w+", key) else "a bastion"


def form_of(key: str) -> str:
    """What to write where a map stands in the list, or alone."""
    if key.startswith("docker_cache_upstreams"):
        return UPSTREAM
    if key.startswith("docker_cache_prefetch"):
        return PREFETCHED
    return BASTION if key.endswith("bastion") else LIST_OF_NODES


def is_secret(place: str) -> bool:
    """Whether the value at `docker_cache_x` or `docker_cache_nodes[name].x` must not be shown."""
    key = place.rpartition(".")[2]
    return key in SECRET_KEYS or key.endswith("private_key_path")


def shown_value(key: str, value: object) -> str:
    if is_secret(key):
        return " is wrong (its value is not shown)"
    if not isinstance(value, str | int | float):
        return " is wrong"
    return f' is "{without_credentials(str(value))}"'


def without_credentials(text: str) -> str:
    """What stands before an `@` may be a password, and what follows a `?` a signature."""
    scheme, separator, rest = text.rpartition("://") if "://" in text else ("", "", text)
    before, at, address = rest.rpartition("@")
    address, query, _ = address.partition("?")
    return f"{scheme}{separator}{'…@' if at and before else ''}{address}{'?…' if query else ''}"


def place(location: tuple[int | str, ...], read: Read) -> str:
    """`docker_cache_nodes[pai-worker1].port`: a node by its name, as far as it has one."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{node_name(part, read) if text == 'docker_cache_nodes' else part}]"
        else:
            text += f".{part}" if text else part
    return text


def node_name(index: int, read: Read) -> str:
    entry = json.loads(read("docker_cache_nodes") or "[]")[index]
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name else str(index)
