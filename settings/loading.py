"""From the stack's configuration to checked settings, or to one list of everything that is wrong with it."""

import difflib
import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

import pydantic
from pydantic_core import ErrorDetails

from settings.model import Settings
from settings.values import parse_bool

OBJECT_KEYS = ("docker_cache_nodes",)
SECRET_WORDS = ("private_key", "password", "kubeconfig", "http_proxy", "https_proxy")

NEARLY = 0.9
"""The likeness that makes a key a misspelling. The original's own keys that are not read here are less alike."""
LIST_OF_NODES = "write a list of maps with name and host, see docs/configuration.md"
OUR_WORDS = {
    "tuple_type": LIST_OF_NODES,
    "model_type": LIST_OF_NODES,
    "string_type": "write it as text, in quotes",
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


def load(read: Read, given: Collection[str] = ()) -> Settings | Disabled:
    """Check every key at once. Raises SettingsError with all problems.

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
    try:
        settings = Settings.model_validate(collect(read))
    except pydantic.ValidationError as error:
        found = [line for details in error.errors() for line in describe(details, read)]
        raise SettingsError([*misspelt, *found]) from error
    if misspelt:
        raise SettingsError(misspelt)
    return settings


def misspelt_keys(given: Collection[str]) -> list[str]:
    """Keys that are nearly ours. Others, such as those of another version, are left alone."""
    known = list(Settings.model_fields)
    nearest = {key: difflib.get_close_matches(key, known, 1, NEARLY) for key in given if key not in known}
    return [f"{key} is not known: did you mean {match[0]}?" for key, match in nearest.items() if match]


def collect(read: Read) -> dict[str, object]:
    """The keys that are set. Pulumi.yaml declares "" for a key without a default: that is not set."""
    values: dict[str, object] = {}
    for key in Settings.model_fields:
        text = read(key)
        if text is None or text == "":
            continue
        values[key] = parse_object(key, text) if key in OBJECT_KEYS else text
    return values


def parse_object(key: str, text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise SettingsError([f"{key} is not a list: see docs/configuration.md for its form"]) from None


def describe(details: ErrorDetails, read: Read) -> list[str]:
    """`key is "value": remedy`; a secret's value never, and none where there is none."""
    message = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return message.splitlines()
    key = place(details["loc"], read)
    if details["type"] == "missing":
        return [
            f"{key} is missing, and has no default: `pulumi config set docker-cache:{key} …`, see docs/configuration.md"
        ]
    if details["type"] == "extra_forbidden":
        return [f"{key} is not a key that is known here: see docs/configuration.md"]
    message = OUR_WORDS.get(details["type"], message)
    if details["type"] == "literal_error":
        message = f"use {details.get('ctx', {}).get('expected', '')}".replace("'", '"')
    return [f"{key}{shown_value(key, details['input'])}: {message[0].lower()}{message[1:]}"]


def shown_value(key: str, value: object) -> str:
    if any(word in key for word in SECRET_WORDS):
        return " is wrong (its value is not shown)"
    if not isinstance(value, str | int | float):
        return " is wrong"
    without_password = re.sub(r"//[^/@\s]*@", "//…@", str(value))
    return f' is "{without_password}"'


def place(location: tuple[int | str, ...], read: Read) -> str:
    """`docker_cache_nodes[pai-worker1].port`: a node by its name, as far as it has one."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{node_name(part, read)}]"
        else:
            text += f".{part}" if text else part
    return text


def node_name(index: int, read: Read) -> str:
    entry = json.loads(read("docker_cache_nodes") or "[]")[index]
    name = entry.get("name") if isinstance(entry, dict) else None
    return name if isinstance(name, str) and name else str(index)
