"""containers' registries.conf(.d) with our mirror of docker.io in it: text, no I/O.

The rules are those of containers/image (pkg/sysregistriesv2): files are read in order, and the last one that defines a prefix has
it wholly, mirrors included; within a file the first definition counts; what has no prefix has its location for one; names of keys
are taken in any case. So a file of ours would hide the administrator's definition, and our mirror goes into his.
"""

import importlib
import json
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from on_node.address import Entry
from on_node.errors import Trouble
from on_node.owned import block

UPSTREAM = "docker.io"
Source = NamedTuple("Source", [("path", str), ("raw", bytes)])
Statement = NamedTuple("Statement", [("brackets", int), ("names", Tuple[str, ...]), ("value", str), ("end", int)])
"""A table's header (one or two brackets) or a key with its value (none), and where the line after it begins."""
Endpoint = Dict[str, str]
Registry = NamedTuple("Registry", [("keys", Endpoint), ("mirrors", List[Endpoint]), ("end", int)])
"""A definition's own keys, its mirrors, and where its own keys end."""
Plan = NamedTuple("Plan", [("path", str), ("raw", Optional[bytes]), ("said", List[str])])
"""The file that gets our mirror and what it then holds; nothing where the administrator's own has it already."""

OLD_FORMAT = (("registries",), ("registries", "block"), ("registries", "insecure"))
STRING = r'"""(?:\\.|[^\\])*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:\'{0,2})|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''
NAME = r'(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\')'
NAMES = r"{0}(?:[ \t]*\.[ \t]*{0})*".format(NAME)
REST = r"[ \t]*(?:#[^\n]*)?(?:\r?\n|\Z)"
BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
HEADER = re.compile(r"(?:\[\[[ \t]*({0})[ \t]*\]\]|\[[ \t]*({0})[ \t]*\]){1}".format(NAMES, REST))
KEY = re.compile(r"({0})[ \t]*=[ \t]*".format(NAMES))
VALUE_PART = re.compile(
    r"({0})|(#[^\n]*)|(\r?\n)|([\[{{])|([\]}}])|[^\s\"'#\[\]{{}}]+|[ \t]+".format(STRING), re.DOTALL
)


def plan(sources: List[Source], drop_in: str, entry: Entry) -> Plan:
    """Where our mirror goes, by what the files hold without us, in the order in which they are read. Raises Trouble."""
    problems, found, own_ways = [], None, []  # type: List[str], Optional[Tuple[Source, Registry]], List[str]
    for source in sources:
        try:
            registries = definitions(source)
        except Trouble as trouble:
            problems += trouble.problems
            continue
        own_ways += [
            "{} goes its own way in {}".format(prefix(each), source.path)
            for each in registries
            if prefix(each).startswith(UPSTREAM + "/")
        ]
        first = next((each for each in registries if prefix(each) == UPSTREAM), None)
        found = (source, first) if first else found
    if problems:
        raise Trouble(*problems)
    if found is None:
        return Plan(drop_in, definition(entry), own_ways)
    source, registry = found
    if any(is_ours(entry, each) for each in registry.mirrors):
        return Plan(source.path, None, own_ways)
    return Plan(source.path, inserted(source, registry, entry), own_ways + elsewhere(source, registry))


def definition(entry: Entry) -> bytes:
    """A file of ours, where nobody else defines docker.io."""
    lines = ["[[registry]]", 'prefix = "{}"'.format(UPSTREAM), 'location = "{}"'.format(UPSTREAM), ""]
    return block(lines + mirror_lines(entry)).encode("utf-8")


def mirror_lines(entry: Entry) -> List[str]:
    """Our mirror as a table. `insecure` is for plain http too, and counts for this endpoint alone."""
    return ["[[registry.mirror]]", 'location = "{}"'.format(entry.hostport)] + ["insecure = true"] * entry.insecure


def is_ours(entry: Entry, mirror: Endpoint) -> bool:
    """Whether a mirror of the administrator's does what ours would."""
    is_insecure = mirror.get("insecure", "false") == "true"
    every_pull = mirror.get("pull-from-mirror", "all") in ("", "all")
    return mirror.get("location", "").rstrip("/") == entry.hostport and is_insecure == entry.insecure and every_pull


def prefix(registry: Registry) -> str:
    """What the images' names begin with."""
    return (registry.keys.get("prefix") or registry.keys.get("location", "")).rstrip("/")


def elsewhere(source: Source, registry: Registry) -> List[str]:
    """What is said where the administrator takes docker.io from another place than Docker Hub."""
    location = registry.keys.get("location", UPSTREAM).rstrip("/")
    return (
        [] if location == UPSTREAM else ["{} leads to {} in {}, asked after us".format(UPSTREAM, location, source.path)]
    )


def definitions(source: Source) -> List[Registry]:
    """A file's registries. Raises Trouble for what can't be read, or where ours can't be put in."""
    found, last = [], None  # type: List[Registry], Optional[Endpoint]
    table = ()  # type: Tuple[str, ...]
    for line in statements(source):
        names = tuple(name.lower() for name in line.names)
        if line.brackets:
            table, last = names, None
            if names == ("registry",):
                last = {}
                found.append(Registry(last, [], line.end))
            elif names == ("registry", "mirror") and found:
                last = {}
                found[-1].mirrors.append(last)
            # Written otherwise, a name is another one to TOML, and the same to the engines.
            if names[0] == "registry" and (line.brackets == 1 or names != line.names):
                raise unextendable(source)
        elif not table and names[0] == "registry":
            raise unextendable(source)
        elif (table + names)[:2] in OLD_FORMAT:
            refuse_old_format(source, line.value)
        elif last is not None:
            last[names[0]] = text_of(line.value)
            if table == ("registry",):
                found[-1] = found[-1]._replace(end=line.end)
    return found


def refuse_old_format(source: Source, value: str) -> None:
    """A list of registries in the format of 2019 that has docker.io: a file of ours would take that back."""
    if re.search(r"[\"']{}/?[\"']".format(re.escape(UPSTREAM)), value):
        raise Trouble(
            "{} blocks {} or has it insecure in the old format (version 1), where no mirror can be; write it as "
            "[[registry]] (man containers-registries.conf)".format(source.path, UPSTREAM)
        )


def unextendable(source: Source) -> Trouble:
    """Valid, and nothing can be added to it by a table of its own."""
    return Trouble(
        "{} has registries in a form that our mirror can't be put beside; write them as [[registry]] and [[registry.mirror]] "
        "(man containers-registries.conf)".format(source.path)
    )


def inserted(source: Source, registry: Registry, entry: Entry) -> bytes:
    """The administrator's file with our mirror before his own, every byte of his kept. Raises Trouble."""
    if "mirror" in registry.keys:
        raise unextendable(source)
    if registry.keys.get("mirror-by-digest-only") == "true":
        raise Trouble(
            "{} has mirror-by-digest-only for {}, which keeps every mirror from pulls by tag; write pull-from-mirror = "
            '"digest-only" at your own mirrors in its place'.format(source.path, UPSTREAM)
        )
    text = source.raw.decode("utf-8")
    head, tail = text[: registry.end], text[registry.end :]
    joint = "" if head.endswith("\n") else "\n"
    raw = (head + joint + block(mirror_lines(entry)) + tail).encode("utf-8")
    check(source, raw, entry)
    return raw


def check(source: Source, raw: bytes, entry: Entry) -> None:
    """See that a real reader finds our mirror in the new file, and all else as it was, where this Python has one."""
    before, after = load(source.raw), load(raw)
    if before is None:
        return
    wanted = {"location": entry.hostport}  # type: Dict[str, Any]
    wanted.update({"insecure": True} if entry.insecure else {})
    for registry in before["registry"]:
        keys = {key.lower(): value for key, value in registry.items()}
        if str(keys.get("prefix") or keys.get("location", "")).rstrip("/") == UPSTREAM:
            registry["mirror"] = [wanted] + registry.get("mirror", [])
            break
    if before != after:
        raise unextendable(source)


def load(raw: bytes) -> Optional[Dict[str, Any]]:
    """What Python's own reader (3.11 on) makes of it; None where it has none, or can't read it."""
    try:
        reader = importlib.import_module("tomllib")
    except ImportError:
        return None
    try:
        return dict(reader.loads(raw.decode("utf-8")))
    except ValueError:
        return None


def statements(source: Source) -> List[Statement]:
    """The file, statement by statement. Raises Trouble with the line that can't be read."""
    try:
        text = source.raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Trouble("{} is not UTF-8; mend it, the engines would not read it either".format(source.path)) from None
    found, at = [], 1 if text.startswith("\ufeff") else 0  # type: List[Statement], int
    while True:
        at = skipped(text, at)
        if at == len(text):
            return found
        header, key = HEADER.match(text, at), KEY.match(text, at)
        if header:
            found.append(
                Statement(2 if header.group(1) else 1, names_of(header.group(1) or header.group(2)), "", header.end())
            )
        elif key:
            value, end = value_at(source, text, key.end())
            found.append(Statement(0, names_of(key.group(1)), value, end))
        else:
            raise unreadable(source, text, at)
        at = found[-1].end


def skipped(text: str, at: int) -> int:
    """Where the next statement begins."""
    blank = BLANK.match(text, at)
    return blank.end() if blank else at


def value_at(source: Source, text: str, begin: int) -> Tuple[str, int]:
    """A value, and where the line after it begins. Raises Trouble."""
    at, depth = begin, 0
    while at < len(text):
        part = VALUE_PART.match(text, at)
        if part is None:
            raise unreadable(source, text, at)
        if part.group(3) and not depth:
            break
        depth += bool(part.group(4)) - bool(part.group(5))
        at = part.end()
    value = text[begin:at]
    if depth or not re.sub(r"#[^\n]*$", "", value).strip():
        raise unreadable(source, text, begin)
    return value, min(len(text), text.find("\n", at) + 1 or len(text))


def unreadable(source: Source, text: str, at: int) -> Trouble:
    """A line that is no TOML."""
    return Trouble(
        "{} is no valid TOML, line {}; mend it, the engines would not read it either".format(
            source.path, text.count("\n", 0, at) + 1
        )
    )


def names_of(dotted: str) -> Tuple[str, ...]:
    """The parts of a key."""
    return tuple(text_of(name) for name in re.findall(NAME, dotted))


def text_of(value: str) -> str:
    """A string's content, or another value as it is written."""
    quoted = re.match(STRING, value, re.DOTALL)
    if not quoted:
        return value.partition("#")[0].strip()
    text = quoted.group(0)
    if text.startswith(('"""', "'''")):
        return text[3:-3].lstrip("\r\n")
    if text.startswith("'"):
        return text[1:-1]
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        return text[1:-1]
