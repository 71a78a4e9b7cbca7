"""Safe YAML with what these files hold beyond it: Ansible's tags. A key that is written twice is refused, with its line."""

import datetime
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from importing.findings import Found, Given, ImportProblems, Unusable

TEMPLATE = re.compile(r"\{\{|\{%")
INI_SECTION = re.compile(r"^\s*\[[^\[\]\s,]+\]\s*(#.*)?$", re.MULTILINE)
VAULT_FILE = "$ANSIBLE_VAULT;"
VAULT_REASON = "is encrypted by ansible-vault: set its value in the stack by hand"


@dataclass(frozen=True)
class Vaulted:
    """A value under `!vault`."""


class Literal(str):
    """A value under `!unsafe`: text that is no template, whatever it holds."""

    __slots__ = ()


class Loader(yaml.SafeLoader):
    """Knows Ansible's tags; a key that is written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise DuplicateKeyError(key.value, key.start_mark.line + 1)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class DuplicateKeyError(yaml.YAMLError):
    def __init__(self, key: str, line: int) -> None:
        super().__init__(f'its line {line} has the key "{key}" a second time: keep one')


def construct_vaulted(_loader: yaml.SafeLoader, _node: yaml.Node) -> Vaulted:
    return Vaulted()


def construct_literal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Literal:
    return Literal(loader.construct_scalar(node))


for tag in ("!vault", "!vault-encrypted"):
    Loader.add_constructor(tag, construct_vaulted)
Loader.add_constructor("!unsafe", construct_literal)


def read_text(path: Path) -> str:
    """Raises ImportProblems."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ImportProblems([f"{path} can't be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ImportProblems([f"{path} is not text in UTF-8"]) from error


def read_mapping(path: Path, shown: str) -> dict[str, object]:
    """A file that is a map of keys; an empty one has none. Raises ImportProblems."""
    text = read_text(path)
    if text.startswith(VAULT_FILE):
        raise ImportProblems([f"{shown} is encrypted by ansible-vault: decrypt a copy of it and import that"])
    try:
        document = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        raise ImportProblems([f"{shown} is not YAML: {problem_of(error)}"]) from error
    except DuplicateKeyError as error:
        raise ImportProblems([f"{shown}: {error}"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ImportProblems([f"{shown} is not YAML: {str(error).splitlines()[0]}"]) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ImportProblems([f"{shown} is not a map of keys: see docs/import.md for the files that are read"])
    return {str(key): value for key, value in document.items()}


def problem_of(error: yaml.MarkedYAMLError) -> str:
    """Without the excerpt that the error's own text has: it may hold a secret."""
    line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
    # PyYAML quotes the text of a scalar or a tag here.
    return line + re.sub(r"'[^']*'", "…", error.problem or "it can't be parsed")


def is_ini(text: str) -> bool:
    """An INI inventory has its groups in brackets, a line each; as YAML that is a list, or nothing at all."""
    return INI_SECTION.search(text) is not None and re.search(r"^\s*[\w.-]+\s*:(\s|$)", text, re.MULTILINE) is None


def as_map(value: object) -> dict[str, object] | None:
    """None where it is something else; what is left empty is an empty map."""
    if value is None:
        return {}
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else None


def found(value: object, source: str) -> Found:
    """A single value as text. Nothing and "" are not set."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, Vaulted):
        return Unusable(source=source, reason=VAULT_REASON)
    if isinstance(value, bool):
        return Given(text="true" if value else "false", source=source)
    if isinstance(value, str | int | float):
        text = str(value).rstrip("\n")
        if not isinstance(value, Literal) and TEMPLATE.search(text):
            return Unusable(source=source, reason="is a template ({{ … }}): set its value in the stack by hand")
        return Given(text=text, source=source)
    kind = "a date" if isinstance(value, datetime.date) else "no single value"
    return Unusable(source=source, reason=f"is {kind}: write it as text, in quotes")
