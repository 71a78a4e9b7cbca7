"""docker's daemon.json with our entries and without them: documents and facts, no I/O."""

import ipaddress
import json
import re
from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from on_node.address import Entry
from on_node.errors import Trouble
from on_node.files import digest, unpack

MIRRORS, INSECURE = "registry-mirrors", "insecure-registries"
ALWAYS_INSECURE = {"127.0.0.0/8", "::1/128"}
# What docker reloads and `docker info` does not show: moby daemon/reload.go, reload_unix.go, of 20.10 to 29.
UNSEEN = (
    "allow-nondistributable-artifacts",
    "cluster-advertise",
    "cluster-store",
    "cluster-store-opts",
    "default-cgroupns-mode",
    "default-ipc-mode",
    "default-shm-size",
    "default-stop-timeout",
    "features",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "network-diagnostic-port",
    "nri-opts",
    "runtimes",
    "shutdown-timeout",
)
# A reload puts these to docker's defaults where they came as flags and are not in the file.
RESET_FLAGS = ("feature", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts")
SHORT_FLAGS = {
    "-D": "debug",
    "-G": "group",
    "-H": "host",
    "-b": "bridge",
    "-g": "graph",
    "-l": "log-level",
    "-p": "pidfile",
    "-s": "storage-driver",
}
Document = Dict[str, Any]
Entries = Dict[str, List[str]]
Record = Dict[str, Any]
Certificate = Dict[str, Any]
Plan = NamedTuple(
    "Plan",
    [
        ("raw", Optional[bytes]),
        ("doc", Document),
        ("before", Optional[bytes]),
        ("owned", Entries),
        ("brought", List[str]),
        ("need", Entries),
        ("gone", Entries),
        ("owner", Optional[str]),
        ("certificates", List[Certificate]),
        ("replaced", List[str]),
    ],
)


def mirror_form(url: str) -> str:
    """A mirror as docker compares it: it ends in one slash, and a host's case says nothing."""
    match = re.match(r"([a-zA-Z]+://[^/]*)(.*)$", url, re.DOTALL)
    plain = match.group(1).lower() + match.group(2) if match else url
    return (plain[:-1] if plain.endswith("/") else plain) + "/"


def insecure_form(entry: str) -> str:
    """An insecure registry as docker keeps it: no scheme, a network in its canonical spelling."""
    bare = re.sub(r"^https?://", "", entry.lower())
    try:
        return str(ipaddress.ip_network(bare, strict=False)) if "/" in bare else bare
    except ValueError:
        return bare


def alike(key: str, one: str, other: str) -> bool:
    """Whether two entries are the same for the question whose they are (a URL is no `host:port` here)."""
    return mirror_form(one) == mirror_form(other) if key == MIRRORS else one.lower() == other.lower()


def forms(key: str, entries: Sequence[str]) -> List[str]:
    """Entries of one of our two keys, as they look once docker has taken them in."""
    return list(OrderedDict.fromkeys(mirror_form(e) if key == MIRRORS else insecure_form(e) for e in entries))


def parse_document(raw: Optional[bytes], path: str) -> Document:
    """The object in daemon.json, in the file's order; Trouble names the spot, never the content."""
    doubles = []  # type: List[str]

    def one_object(pairs: List[Tuple[str, Any]]) -> Document:
        keys = [key for key, _ in pairs]
        doubles.extend(key for key in OrderedDict.fromkeys(keys) if keys.count(key) > 1)
        return OrderedDict(pairs)

    def finite(word: str) -> float:
        number = float(word)
        if number - number:
            raise ValueError("docker takes no such number")
        return number

    try:
        text = (raw or b"").decode("utf-8-sig")
        doc = (
            json.loads(text, object_pairs_hook=one_object, parse_constant=finite, parse_float=finite)
            if text.strip(" \t\r\n")
            else OrderedDict()
        )
    except json.JSONDecodeError as error:
        raise Trouble(
            "{} is not valid JSON: line {} column {}: {}; mend it, docker would not start with it".format(
                path, error.lineno, error.colno, error.msg
            )
        ) from None
    except (ValueError, RecursionError) as error:
        kind = "not UTF-8" if isinstance(error, UnicodeDecodeError) else "nested too deep or with a number out of range"
        raise Trouble("{} is {}; mend it".format(path, kind)) from None
    return checked(doc, doubles, text, path)


def checked(doc: Any, doubles: List[str], text: str, path: str) -> Document:
    """The parsed content, if it is one that can be changed without guessing."""
    if not isinstance(doc, dict):
        raise Trouble("{}: line 1 column 1: the top level must be an object {{...}}; mend it".format(path))
    problems = []
    for key in doubles:
        spot = [m.start() for m in re.finditer(re.escape(json.dumps(key)) + r"\s*:", text)][-1:]
        where = (
            "line {} column {}: ".format(text.count("\n", 0, spot[0]) + 1, spot[0] - text.rfind("\n", 0, spot[0]))
            if spot
            else ""
        )
        problems.append("{}: {}the key {!r} stands twice; keep one".format(path, where, key))
    for key in (MIRRORS, INSECURE):
        value = doc.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            problems.append("{}: {!r} must be a list of strings; mend it".format(path, key))
    if problems:
        raise Trouble(*problems)
    return doc


def render(doc: Document, model: Optional[bytes]) -> bytes:
    """The document as text, in the style of the file it takes the place of."""
    raw = b"{\n  \n}\n" if model is None or not model.strip() else model
    text = raw.decode("utf-8-sig")
    inside = re.search(r"\n([ \t]*)(?=[^\s}])", text) or re.search(r"\n([ \t]*)", text.strip())
    layout = {"indent": inside.group(1), "separators": (",", ": ")} if inside else {}  # type: Dict[str, Any]
    try:
        body = json.dumps(doc, ensure_ascii=False, **layout).encode("utf-8").decode("utf-8")
    except UnicodeEncodeError:
        body = json.dumps(doc, **layout)
    body += text[len(text.rstrip()) :]
    body = body.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in text else body
    return (b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b"") + body.encode("utf-8")


def withdraw(doc: Document, record: Record) -> Document:
    """The document without what the record calls ours; everything else keeps its place."""
    # OpenPAI's playbook may have been run beside our mirror, or we were killed before its pair was replaced.
    left = without(doc, [url for url in record["owned"].get(MIRRORS, []) if url.startswith("http:")], (INSECURE,))
    for key, ours in record["owned"].items():
        for entry in ours:
            found = [at for at, item in enumerate(left.get(key, [])) if alike(key, item, entry)][:1]
            left[key] = [item for at, item in enumerate(left.get(key, [])) if at not in found]
        if key not in doc or (not left[key] and key in record["brought"]):
            left.pop(key, None)
    return left


def without_ours(
    raw: Optional[bytes], doc: Document, record: Optional[Record], path: str
) -> Tuple[Optional[bytes], Document]:
    """What the file would be had we never come: to the byte, unless someone edited it since."""
    if record is None:
        return raw, doc
    before = unpack(record["before"])
    if digest(raw) in record["written"]:
        return before, parse_document(before, path)
    base = withdraw(doc, record)
    if base == doc:
        return raw, doc
    return (None if before is None and not base else render(base, raw)), base


def predecessors(doc: Document, url: str) -> List[str]:
    """The URLs that OpenPAI's own docker-cache left in both lists, where docker wants `host:port` in the second.

    Beside our own mirror, its URL there can't be told from such a pair: it counts before we come as it does afterwards.
    """
    mirrors = forms(MIRRORS, doc.get(MIRRORS, []) + [url])
    found = [item for item in doc.get(INSECURE, []) if re.match("http://[^/]+:[0-9]+/?$", item)]
    return [item for item in found if mirror_form(item) in mirrors]


def without(doc: Document, urls: Sequence[str], keys: Sequence[str] = (MIRRORS, INSECURE)) -> Document:
    """The document without these URLs in the two lists; a list that had nothing else goes."""
    left, gone = OrderedDict(doc), forms(MIRRORS, urls)
    for key in keys:
        kept = [item for item in doc.get(key, []) if mirror_form(item) not in gone]
        if kept != doc.get(key, []):
            left[key] = kept
            if not kept:
                del left[key]
    return left


def plan_apply(
    raw: Optional[bytes],
    doc: Document,
    record: Optional[Record],
    entries: Sequence[Entry],
    path: str,
    owner: Optional[str] = None,
) -> Plan:
    """How the file has to look for the entries to be first among the mirrors, and what of it is ours."""
    before, base = without_ours(raw, doc, record, path)
    replaced = still_replaced(record) + [url for entry in entries for url in predecessors(doc, entry.url)]
    replaced = list(OrderedDict.fromkeys(replaced))
    left = without(base, replaced)
    if left != base:
        # They are not put back: what they point at goes, or is gone already.
        first = unpack(record["before"]) if record else raw
        base, before = left, None if first is None and not left else render(left, before)
    wanted, owned = OrderedDict(base), {}  # type: Document, Entries
    need = OrderedDict([(MIRRORS, [entry.url for entry in entries])])  # type: Entries
    if entries[0].insecure:
        need[INSECURE] = [entry.hostport for entry in entries]
    for key, values in need.items():
        listed = base.get(key, [])
        missing = [value for value in values if not any(alike(key, item, value) for item in listed)]
        if missing:
            owned[key] = missing
            wanted[key] = missing + listed if key == MIRRORS else listed + missing
    gone = not_wanted(record["owned"] if record else {}, replaced, wanted)
    brought = [key for key in owned if key not in base]
    if same(wanted, doc):
        content = raw
    else:
        content, doc = render(wanted, raw if before is None else before), wanted
    return Plan(content, doc, before, owned, brought, need, gone, owner, [], replaced)


def plan_remove(raw: Optional[bytes], doc: Document, record: Record, path: str) -> Plan:
    """How the file has to look without us."""
    before, base = without_ours(raw, doc, record, path)
    replaced = still_replaced(record)
    return Plan(before, base, before, {}, [], {}, not_wanted(record["owned"], replaced, base), None, [], replaced)


def still_replaced(record: Optional[Record]) -> List[str]:
    """OpenPAI's URLs that a killed run took out of the file, which docker may have all the same."""
    return record.get("replaced", []) if record else []


def not_wanted(owned: Entries, replaced: List[str], doc: Document) -> Entries:
    """Earlier entries, ours and OpenPAI's, that the document no longer asks for, as docker would show them."""
    entries = merged(owned, {MIRRORS: replaced, INSECURE: replaced})
    return {key: [e for e in forms(key, old) if e not in forms(key, doc.get(key, []))] for key, old in entries.items()}


def same(one: Document, other: Document) -> bool:
    """Whether two documents say the same to docker; the order of insecure registries says nothing."""
    left, right = (
        {key: sorted(value) if key == INSECURE else value for key, value in doc.items()} for doc in (one, other)
    )
    return left == right


def live_settings(info: Document) -> Document:
    """What `docker info` shows of the settings that a reload would change."""
    registry = info.get("RegistryConfig") or {}
    networks = registry.get("InsecureRegistryCIDRs") or []
    insecure = [name for name, index in (registry.get("IndexConfigs") or {}).items() if not index.get("Secure", True)]
    return {
        MIRRORS: forms(MIRRORS, registry.get("Mirrors") or []),
        INSECURE: sorted(set(forms(INSECURE, insecure + networks)) - ALWAYS_INSECURE),
        "debug": info.get("Debug"),
        "labels": sorted(info.get("Labels") or []),
        "live-restore": info.get("LiveRestoreEnabled"),
        "default-runtime": info.get("DefaultRuntime"),
        "authorization-plugins": sorted((info.get("Plugins") or {}).get("Authorization") or []),
    }


def pending(doc: Document, info: Document, ours: Entries, flags: Entries, *, unseen_applied: bool) -> List[str]:
    """The keys, ours apart, that a reload of this document would change besides, as far as can be told."""
    live, found = live_settings(info), []
    for key in sorted(live):
        value = doc.get(key, [] if key == "authorization-plugins" and key not in flags else None)
        if value is None or (key == "default-runtime" and not value):
            continue
        mine = forms(key, ours.get(key, []))
        if key in (MIRRORS, INSECURE):
            hidden = set(mine) | (ALWAYS_INSECURE if key == INSECURE else set())
            file_side = [item for item in forms(key, value) if item not in hidden]
            live_side = [item for item in live[key] if item not in hidden]
            differs = file_side != live_side if key == MIRRORS else set(file_side) != set(live_side)
        elif isinstance(live[key], list):
            differs = not isinstance(value, list) or sorted(set(map(str, value))) != sorted(set(live[key]))
        else:
            differs = value != live[key]
        found += [key] if differs else []
    found += [key + " (may be waiting)" for key in UNSEEN if key in doc and not unseen_applied]
    return found + ["--{} (a flag that a reload resets)".format(flag) for flag in RESET_FLAGS if flag in flags]


def deadly(doc: Document, info: Document, path: str) -> List[str]:
    """The problem of a new authorization plugin: a reload that does not find it ends dockerd."""
    listed = doc.get("authorization-plugins")
    live = live_settings(info)["authorization-plugins"]
    if not info or not isinstance(listed, list) or set(map(str, listed)) <= set(live):
        return []
    return [
        "'authorization-plugins' in {} names a plugin that docker does not run: a reload that fails to find it "
        "ends dockerd; restart docker yourself when it suits, then run again".format(path)
    ]


def off_target(info: Document, need: Entries, gone: Entries) -> List[str]:
    """What docker still has to do: entries that are not live, and entries that should not be."""
    live = live_settings(info)
    late = [
        item
        for key, items in need.items()
        for item in items
        if forms(key, [item])[0] not in live[key] and not (key == INSECURE and in_network(item, live[key]))
    ]
    return ["{} is not live".format(item) for item in late] + [
        "{} is still live".format(item) for key, items in gone.items() for item in items if item in live[key]
    ]


def in_network(hostport: str, networks: Sequence[str]) -> bool:
    """Whether an address lies in one of the insecure networks."""
    try:
        address = ipaddress.ip_address(urlsplit("//" + hostport).hostname or "")
    except ValueError:
        return False
    nets = [ipaddress.ip_network(net) for net in ALWAYS_INSECURE | {n for n in networks if "/" in n}]
    return any(address in net for net in nets if net.version == address.version)


def bridge(doc: Document, gone: Entries, info: Document) -> Document:
    """The document to reload: docker keeps what a vanished key said, so such a key stays once more, empty."""
    live, reloaded = live_settings(info), OrderedDict(doc)
    for key, items in gone.items():
        if key not in doc and any(item in live[key] for item in items):
            reloaded[key] = []
    return reloaded


def parse_flags(argv: Sequence[str]) -> Entries:
    """The command line of dockerd: long names to their values."""
    flags = OrderedDict()  # type: Entries
    for at, word in enumerate(argv):
        head, _, value = word.partition("=")
        name = head[2:] if head.startswith("--") else SHORT_FLAGS.get(head[:2], "") if head.startswith("-") else ""
        if not head.startswith("--") and len(head) > 2:
            value = word[2:].lstrip("=")
        following = argv[at + 1] if at + 1 < len(argv) else "-"
        if name:
            flags.setdefault(name, []).append(value or ("" if following.startswith("-") else following))
    return flags


def conflicts(doc: Document, flags: Entries, path: str) -> List[str]:
    """Keys given both as a flag and in the file: a reload is refused, and the next start fails."""
    found = []
    for key in doc:
        single = "insecure-registry" if key == INSECURE else key[:-1] if key.endswith("s") else key
        flag = next((name for name in (key, single) if name in flags), None)
        if flag and key != "runtimes":
            found.append(
                "dockerd runs with the flag --{} and {} has (or would get) {!r}: docker refuses both at once; "
                "move the flag into the file and restart docker when it suits".format(flag, path, key)
            )
    if "authorization-plugin" in flags:
        found.append(
            "dockerd runs with the flag --authorization-plugin: a reload would drop the plugin; move the flag "
            "into {} as 'authorization-plugins' and restart docker when it suits".format(path)
        )
    return found


def merged(one: Entries, other: Entries) -> Entries:
    """All entries of both, none twice."""
    return {key: list(OrderedDict.fromkeys(one.get(key, []) + other.get(key, []))) for key in sorted({**one, **other})}
