"""A stack's file as it is: its values, its ciphers, and the text of what an import does not touch."""

import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml

from importing.document import HEADING, OWN_COMMENT
from importing.findings import ImportProblems
from importing.result import Secret, Tree
from settings.stack import PREFIX

CONFIG, SECURE = "config", "secure"


@dataclass(frozen=True, kw_only=True)
class Existing:
    """`heading` are the comments above the configuration that are not an import's own; `blocks` are the texts of its keys, each
    with the comments right above it; `rest` is what stands beside the configuration, such as encryptionsalt.
    """

    keys: Mapping[str, object]
    blocks: Mapping[str, str]
    heading: str = ""
    rest: str = ""

    @property
    def has_secrets(self) -> bool:
        return any(is_secure(value) or contains_secure(value) for value in self.keys.values())


NOTHING = Existing(keys={}, blocks={})


def read_existing(text: str, shown: str) -> Existing:
    """Raises ImportProblems."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        document = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ImportProblems([f"{shown} is not YAML: mend it, or move it away"]) from error
    if root is None:
        return NOTHING
    if not isinstance(root, yaml.MappingNode) or not isinstance(document, dict):
        raise ImportProblems([f"{shown} is not a stack's file: mend it, or move it away"])
    top = blocks_of(text, root, 0)
    rest = "".join(block for key, block in top.items() if key != CONFIG)
    config = next((value for key, value in root.value if key.value == CONFIG), None)
    if not isinstance(config, yaml.MappingNode):
        return Existing(keys={}, blocks={}, heading=own_comments(top.get(CONFIG, "")), rest=rest)
    if config.flow_style:
        raise ImportProblems([f"{shown}: write its config in lines, not in braces"])
    blocks = blocks_of(text, config, 2)
    return Existing(keys=document[CONFIG], blocks=blocks, heading=own_comments(top[CONFIG]), rest=rest)


def own_comments(block: str) -> str:
    """Those that somebody has written above the configuration."""
    above = block.partition(f"{CONFIG}:")[0].splitlines(keepends=True)
    return "".join(line for line in above if not line.startswith(HEADING))


def blocks_of(text: str, mapping: yaml.MappingNode, indent: int) -> dict[str, str]:
    """Each key's lines, from its own comments to before those of the next, indented anew."""
    lines = text.splitlines()
    starts = [first_line(lines, key.start_mark.line) for key, _ in mapping.value]
    end = mapping.end_mark.line + (1 if mapping.end_mark.column else 0)
    blocks = {}
    for number, (key, _) in enumerate(mapping.value):
        stop = starts[number + 1] if number + 1 < len(starts) else end
        own = [line for line in lines[starts[number] : stop] if not OWN_COMMENT.match(line)]
        body = textwrap.dedent("\n".join(own)).strip("\n")
        blocks[str(key.value)] = textwrap.indent(without_foreign_end(body), " " * indent) + "\n"
    return blocks


def first_line(lines: list[str], line: int) -> int:
    """Of the comments right above a line."""
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
    return line


def without_foreign_end(body: str) -> str:
    """Comments after a key's last line, set off by an empty line, are not its own."""
    return re.sub(r"\n\s*\n(\s*#[^\n]*(\n|$))*\s*\Z", "", body)


def is_secure(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {SECURE} and isinstance(value[SECURE], str)


def contains_secure(value: object) -> bool:
    if isinstance(value, dict):
        return any(is_secure(item) or contains_secure(item) for item in value.values())
    return isinstance(value, list) and any(is_secure(item) or contains_secure(item) for item in value)


def values_of(existing: Existing, decrypted: Mapping[str, object]) -> dict[str, Tree]:
    """The stack's keys without their prefix where it is ours, with their secrets' texts."""
    return {key.removeprefix(PREFIX): pair(value, decrypted.get(key)) for key, value in existing.keys.items()}


def pair(value: object, decrypted: object) -> Tree:
    """The file's value; where it is a cipher, with the text that pulumi shows for it."""
    if is_secure(value) and isinstance(value, dict):
        return Secret(text=scalar(decrypted), cipher=value[SECURE])
    if isinstance(value, dict):
        below = decrypted if isinstance(decrypted, dict) else {}
        return {str(key): pair(item, below.get(key)) for key, item in value.items()}
    if isinstance(value, list):
        items = decrypted if isinstance(decrypted, list) else [None] * len(value)
        return [pair(item, text) for item, text in zip(value, items, strict=False)]
    return scalar(value)


def scalar(value: object) -> str:
    """As pulumi hands it on."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def ciphers(tree: Tree) -> Iterator[tuple[str, str]]:
    """Every secret's text with its cipher, so that what has not changed need not be encrypted anew."""
    if isinstance(tree, Secret):
        if tree.cipher:
            yield tree.text, tree.cipher
    elif not isinstance(tree, str):
        for item in tree.values() if isinstance(tree, Mapping) else tree:
            yield from ciphers(item)


def kept_keys(existing: Existing, produced: Mapping[str, object]) -> list[str]:
    """The file's keys that an import does not produce."""
    return [key for key in existing.keys if key.removeprefix(PREFIX) not in produced or not key.startswith(PREFIX)]
