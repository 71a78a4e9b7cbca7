"""containers' registries.conf(.d) with our mirror in it: text, no I/O.

The rules are those of containers/image (pkg/sysregistriesv2): files are read in order, and the last one that defines a prefix has
it wholly, mirrors included; within a file the first definition counts; what has no prefix has its location for one; names of keys
are taken in any case. So a file of ours would hide the administrator's definition, and our mirror goes into his.
"""

import importlib
import json
import re
from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from on_node.address import HUB, Entry, Mirror
from on_node.errors import Trouble
from on_node.owned import block

Source = NamedTuple("Source", [("path", str), ("raw", bytes)])
Statement = NamedTuple("Statement", [("brackets", int), ("names", Tuple[str, ...]), ("value", str), ("end", int)])
"""A table's header (one or two brackets) or a key with its value (none), and where the line after it begins."""
Endpoint = Dict[str, str]
Registry = NamedTuple("Registry", [("keys", Endpoint), ("mirrors", List[Endpoint]), ("end", int)])
"""A definition's own keys, its mirrors, and where its own keys end."""
Plan = NamedTuple("Plan", [("files", Dict[str, bytes]), ("said", List[str])])
"""The files that get our mirror and what they then hold; none where the administrator's own have it already."""

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


def plan(sources: List[Source], drop_in: str, mirror: Mirror) -> Plan:
    """Where our mirror goes, by what the files hold without us, in the order in which they are read. Raises Trouble."""
    problems, found, said = [], OrderedDict(), []  # type: List[str], Dict[str, Tuple[Source, Registry]], List[str]
    for source in sources:
        try:
            registries = definitions(source, mirror.upstreams)
        except Trouble as trouble:
            problems += trouble.problems
            continue
        said += [
            "{} goes its own way in {}".format(prefix(each), source.path)
            for each in registries
            if prefix(each).startswith(tuple(upstream + "/" for upstream in mirror.upstreams))
        ]
        # Backwards: within a file the first definition counts.
        found.update(
            (prefix(each), (source, each)) for each in reversed(registries) if prefix(each) in mirror.upstreams
        )
    if problems:
        raise Trouble(*problems)
    files = OrderedDict()  # type: Dict[str, bytes]
    for source in OrderedDict.fromkeys(source for source, _ in found.values()):
        here = [registry for other, registry in found.values() if other is source]
        raw = inserted(source, here, mirror.entries)
        files.update({source.path: raw} if raw != source.raw else {})
        ours = [registry for registry in here if lacking(registry, mirror.entries)]
        said += [line for registry in ours for line in elsewhere(source, registry)]
    left = [upstream for upstream in mirror.upstreams if upstream not in found]
    if left:
        base = files.get(drop_in) or next((source.raw for source in sources if source.path == drop_in), b"")
        joint = b"" if not base or base.endswith(b"\n") else b"\n"
        files[drop_in] = base + joint + definition(left, mirror.entries)
    return Plan(files, said)


def definition(upstreams: List[str], entries: List[Entry]) -> bytes:
    """A file of ours, for what nobody else defines."""
    tables = [
        ["[[registry]]", 'prefix = "{}"'.format(upstream), 'location = "{}"'.format(upstream), ""]
        + mirror_lines(upstream, entries)
        for upstream in upstreams
    ]
    return block("\n\n".join("\n".join(lines) for lines in tables).split("\n")).encode("utf-8")


def mirror_lines(upstream: str, entries: List[Entry]) -> List[str]:
    """Our mirror as tables. `insecure` is for plain http too, and counts for this endpoint alone."""
    lines = []  # type: List[str]
    for entry in entries:
        lines += ["[[registry.mirror]]", 'location = "{}"'.format(location(upstream, entry))]
        lines += ["insecure = true"] * entry.insecure
    return lines


def location(upstream: str, entry: Entry) -> str:
    """Where an entry has a registry's images: these engines say by no other means which one they mean.

    A colon within a path is no image's name to them, and ends the pull.
    """
    return entry.hostport if upstream == HUB else "{}/{}".format(entry.hostport, upstream.replace(":", "-"))


def is_ours(upstream: str, entry: Entry, mirror: Endpoint) -> bool:
    """Whether a mirror of the administrator's does what ours would."""
    is_insecure = mirror.get("insecure", "false") == "true"
    every_pull = mirror.get("pull-from-mirror", "all") in ("", "all")
    is_there = mirror.get("location", "").rstrip("/") == location(upstream, entry)
    return is_there and is_insecure == entry.insecure and every_pull


def lacking(registry: Registry, entries: List[Entry]) -> List[Entry]:
    """The entries that the administrator's definition does not have."""
    upstream = prefix(registry)
    return [entry for entry in entries if not any(is_ours(upstream, entry, each) for each in registry.mirrors)]


def prefix(registry: Registry) -> str:
    """What the images' names begin with."""
    return (registry.keys.get("prefix") or registry.keys.get("location", "")).rstrip("/")


def elsewhere(source: Source, registry: Registry) -> List[str]:
    """What is said where the administrator takes a registry's images from another place."""
    name, place = prefix(registry), registry.keys.get("location", prefix(registry)).rstrip("/")
    return [] if place == name else ["{} leads to {} in {}, asked after us".format(name, place, source.path)]


def definitions(source: Source, upstreams: List[str]) -> List[Registry]:
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
            refuse_old_format(source, line.value, upstreams)
        elif last is not None:
            last[names[0]] = text_of(line.value)
            if table == ("registry",):
                found[-1] = found[-1]._replace(end=line.end)
    return found


def refuse_old_format(source: Source, value: str, upstreams: List[str]) -> None:
    """A list of registries in the format of 2019 that has one of ours: a file of ours would take that back."""
    for upstream in upstreams:
        if re.search(r"[\"']{}/?[\"']".format(re.escape(upstream)), value):
            raise Trouble(
                "{} blocks {} or has it insecure in the old format (version 1), where no mirror can be; write it as "
                "[[registry]] (man containers-registries.conf)".format(source.path, upstream)
            )


def unextendable(source: Source) -> Trouble:
    """Valid, and nothing can be added to it by a table of its own."""
    return Trouble(
        "{} has registries in a form that our mirror can't be put beside; write them as [[registry]] and [[registry.mirror]] "
        "(man containers-registries.conf)".format(source.path)
    )


def inserted(source: Source, registries: List[Registry], entries: List[Entry]) -> bytes:
    """The administrator's file with our mirror before his own, every byte of his kept. Raises Trouble."""
    text = source.raw.decode("utf-8")
    for registry in sorted(registries, key=lambda registry: -registry.end):
        new = lacking(registry, entries)
        if not new:
            continue
        if "mirror" in registry.keys:
            raise unextendable(source)
        if registry.keys.get("mirror-by-digest-only") == "true":
            raise Trouble(
                "{} has mirror-by-digest-only for {}, which keeps every mirror from pulls by tag; write pull-from-mirror = "
                '"digest-only" at your own mirrors in its place'.format(source.path, prefix(registry))
            )
        head, tail = text[: registry.end], text[registry.end :]
        joint = "" if head.endswith("\n") else "\n"
        text = head + joint + block(mirror_lines(prefix(registry), new)) + tail
    raw = text.encode("utf-8")
    check(source, raw, {prefix(registry): lacking(registry, entries) for registry in registries})
    return raw


def check(source: Source, raw: bytes, new: Dict[str, List[Entry]]) -> None:
    """See that a real reader finds our mirror in the new file, and all else as it was, where this Python has one."""
    before, after = load(source.raw), load(raw)
    if before is None:
        return
    for registry in before.get("registry", []):
        keys = {key.lower(): value for key, value in registry.items()}
        name = str(keys.get("prefix") or keys.get("location", "")).rstrip("/")
        ours = [
            dict({"location": location(name, entry)}, **({"insecure": True} if entry.insecure else {}))
            for entry in new.pop(name, [])
        ]
        if ours:
            registry["mirror"] = ours + registry.get("mirror", [])
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
