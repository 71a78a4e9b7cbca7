"""Give this node's docker a registry mirror, or take it out again.

Runs as root, on Python 3.5 or later, with nothing but the standard library: ``python3 -c LOADER mirror URL``, where the
loader reads this script, compressed, from standard input and refuses an incomplete one before any of it runs. A certificate
that is to be placed (a CA's PEM text) is set in front of the script as CERTIFICATE.
docker is reloaded, never restarted, and ``docker info`` has the last word on what is live.
"""

import argparse
import base64
import contextlib
import errno
import fcntl
import glob
import hashlib
import http.client
import ipaddress
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple
from urllib.parse import urlsplit

MIRRORS, INSECURE = "registry-mirrors", "insecure-registries"
CERTIFICATE_FILE = "docker-cache.crt"
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
NOTHING_OF_OURS = "none: nothing of ours on this node, nothing touched"
SETTLE_FOR_APPLY = (
    "reload docker yourself when it suits, or set docker_cache_allow_pending_changes (--allow-pending-changes)"
)
# A destroy runs the command that the last `pulumi up` stored: the setting counts from the next one on.
SETTLE_FOR_REMOVE = (
    "reload docker yourself and run it again, or set docker_cache_allow_pending_changes: true, `pulumi up`, then again"
)
REMEDIES = {
    errno.EACCES: "run as root (log in as root, or give the user sudo without a password)",
    errno.EPERM: "run as root; if that is so, look at `lsattr` and at the security module's log",
    errno.EROFS: "make the file system writable (look at `dmesg`: a broken disk is remounted read-only)",
    errno.ENOSPC: "free some space on that file system",
    errno.EBUSY: "it is a mount of its own: put it into its folder as an ordinary file",
}

Document = Dict[str, Any]
Entries = Dict[str, List[str]]
Record = Dict[str, Any]
Certificate = Dict[str, Any]
Entry = NamedTuple(
    "Entry", [("url", str), ("hostport", str), ("insecure", bool), ("verified", bool), ("certificate", Optional[str])]
)
Docker = NamedTuple("Docker", [("pid", Optional[int]), ("ticks", Optional[int]), ("flags", Entries), ("config", str)])
Node = NamedTuple(
    "Node",
    [
        ("docker", Optional[Docker]),
        ("path", str),
        ("raw", Optional[bytes]),
        ("mtime", int),
        ("doc", Document),
        ("info", Document),
        ("record", Optional[Record]),
    ],
)
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


class Trouble(Exception):
    """What keeps us from going on: one problem or several, each as `what, value, remedy`."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = list(problems)


class Places:
    """Where things are on a node."""

    def __init__(self, root: str = "/") -> None:
        self.proc = os.path.join(root, "proc")
        self.pid_file = os.path.join(root, "var/run/docker.pid")
        self.config = os.path.join(root, "etc/docker/daemon.json")
        self.certificates = os.path.join(root, "etc/docker/certs.d")
        self.state = os.path.join(root, "var/lib/docker-cache")
        self.record = os.path.join(self.state, "record.json")
        self.original = os.path.join(self.state, "daemon.json.original")
        self.was_absent = os.path.join(self.state, "daemon.json.was-absent")


# --- The core: documents and facts, no I/O ---------------------------------------------------------------------------


def parse_entry(text: str, certificate: Optional[str] = None, *, insecure: bool = False) -> Entry:
    """The mirror's address in docker's terms, and how its certificate is verified."""
    shape = "the mirror's address must look like http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Trouble(shape) from None
    if parts.username is not None or parts.password is not None:
        raise Trouble("the mirror's address holds a user name: docker refuses such mirrors; take it out")
    clean = parts.path in ("", "/") and not (parts.query or parts.fragment)
    if parts.scheme not in ("http", "https") or not parts.hostname or not clean or re.search(r"\s", text):
        raise Trouble("{}, got {!r}".format(shape, text))
    host = "[{}]".format(parts.hostname) if ":" in parts.hostname else parts.hostname
    hostport = host if port is None else "{}:{}".format(host, port)
    plain = parts.scheme == "http"
    return Entry("{}://{}".format(parts.scheme, hostport), hostport, plain or insecure, not insecure, certificate)


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


def digest(raw: Optional[bytes]) -> str:
    """What tells one content of the file from another."""
    return "absent" if raw is None else hashlib.sha256(raw).hexdigest()


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


def unpack(text: Optional[str]) -> Optional[bytes]:
    """A file's content as the record keeps it."""
    return None if text is None else base64.b64decode(text)


def plan_apply(
    raw: Optional[bytes], doc: Document, record: Optional[Record], entry: Entry, path: str, owner: Optional[str] = None
) -> Plan:
    """How the file has to look for the entry to be first among the mirrors, and whose the entries are."""
    before, base = without_ours(raw, doc, record, path)
    replaced = list(OrderedDict.fromkeys(still_replaced(record) + predecessors(doc, entry.url)))
    left = without(base, replaced)
    if left != base:
        # They are not put back: what they point at goes, or is gone already.
        first = unpack(record["before"]) if record else raw
        base, before = left, None if first is None and not left else render(left, before)
    wanted, owned, need = OrderedDict(base), {}, {}  # type: Document, Entries, Entries
    for key, value in [(MIRRORS, entry.url)] + ([(INSECURE, entry.hostport)] if entry.insecure else []):
        need[key] = [value]
        listed = base.get(key, [])
        if not any(alike(key, item, value) for item in listed):
            owned[key] = [value]
            wanted[key] = [value] + listed if key == MIRRORS else listed + [value]
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


# --- The node: files, processes, docker, the network -----------------------------------------------------------------


def read_file(path: str) -> Tuple[Optional[bytes], int]:
    """A file's bytes and its time of change, or None where there is no file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Trouble("{} is not an ordinary file; put one there, or nothing".format(path))
        with open(path, "rb") as source:
            return source.read(), os.fstat(source.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None, 0


def sync_folder(folder: str) -> None:
    """Bring a rename to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_identity(path: str, handle: int, mode: int) -> None:
    """Give a new file the mode, owner and security label of the one that it takes the place of."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        os.fchmod(handle, mode)
        return
    os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, stat.S_IMODE(old.st_mode))
    with contextlib.suppress(OSError):
        os.setxattr(handle, "security.selinux", os.getxattr(path, "security.selinux"))


def temp_prefix(path: str) -> str:
    """How the names of our unfinished files begin, beside the file that they are for."""
    return ".{}.docker-cache.".format(os.path.basename(path))


def write_file(path: str, raw: Optional[bytes], mode: int = 0o644, mtime: Optional[int] = None) -> None:
    """Make the file hold these bytes (None: be gone) in one step, safe on the disk when this returns."""
    folder = os.path.dirname(path)
    if raw is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            sync_folder(folder)
        return
    os.makedirs(folder, exist_ok=True)
    handle, temp = tempfile.mkstemp(prefix=temp_prefix(path), dir=folder)
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(raw)
            target.flush()
            take_identity(path, handle, mode)
            if mtime is not None:
                os.utime(temp, ns=(mtime, mtime))
            os.fsync(handle)
        os.replace(temp, path)
    except OSError:
        os.unlink(temp)
        raise
    sync_folder(folder)


def has_containerd_store(info: Document) -> bool:
    """Whether docker keeps its images in containerd: then a pull takes another way through it."""
    return any("containerd.snapshotter" in str(fact) for fact in info.get("DriverStatus") or [])


def fitting(entry: Entry, info: Document) -> Entry:
    """The entry as it suits this docker: with the containerd store, a mirror and Docker Hub share one client.

    An insecure mirror would make docker take Docker Hub's images unverified too (moby daemon/hosts.go, 29), and over http no
    mirror needs it.
    """
    plain_is_enough = not info or has_containerd_store(info)
    return entry._replace(insecure=False) if entry.verified and plain_is_enough else entry


def certificates_for(places: Places, entry: Entry, info: Document, record: Optional[Record]) -> List[Certificate]:
    """Where the entry's CA goes, and which folders are made for it.

    docker takes every ``*.crt`` of such a folder as a root, at each pull: a name of ours is in nobody's way. With the
    containerd image store it looks for a mirror's under the name of what is mirrored (moby daemon/hosts.go, of 28 on).
    """
    if entry.certificate is None:
        return []
    names = [entry.hostport] + (["docker.io"] if not info or has_containerd_store(info) else [])
    return [certificate_at(places, name, entry.certificate, record) for name in names]


def certificate_at(places: Places, name: str, text: str, record: Optional[Record]) -> Certificate:
    """The certificate in the folder of that name."""
    folder = os.path.join(places.certificates, name)
    path = os.path.join(folder, CERTIFICATE_FILE)
    ours = [made for old in certificates(record) for made in old["folders"]]
    made = [each for each in (places.certificates, folder) if each in ours or not os.path.isdir(each)]
    return {"path": path, "digest": digest(text.encode("utf-8")), "folders": made}


def certificates(record: Optional[Record]) -> List[Certificate]:
    """The certificates that are ours."""
    return record.get("certificates", []) if record else []


def in_place(wanted: List[Certificate], record: Optional[Record]) -> bool:
    """Whether the wanted certificates, and no others of ours, are on the node."""
    return certificates(record) == wanted and all(digest(read_file(c["path"])[0]) == c["digest"] for c in wanted)


def drop(certificate: Certificate) -> Optional[str]:
    """Remove a certificate of ours with the folders made for it; what is said of one that somebody has changed."""
    raw = read_file(certificate["path"])[0]
    if raw is not None and digest(raw) != certificate["digest"]:
        return "{} was changed by somebody and stays".format(certificate["path"])
    with contextlib.suppress(FileNotFoundError):
        write_file(certificate["path"], None)
    for folder in sorted(certificate["folders"], reverse=True):
        # Others may have put something there.
        with contextlib.suppress(OSError):
            os.rmdir(folder)
    return None


def sweep(path: str) -> None:
    """Remove what a killed run left unfinished beside this file."""
    for left in glob.glob(os.path.join(glob.escape(os.path.dirname(path)), temp_prefix(path) + "*")):
        os.unlink(left)


@contextlib.contextmanager
def locked(places: Places) -> Iterator[None]:
    """Keep other runs on this node out."""
    path = os.path.join(places.state, "lock")
    lock = take_lock(places.state, path, time.monotonic() + 120)
    try:
        yield
    finally:
        try:
            leave(places.state, path)
        finally:
            os.close(lock)


def leave(folder: str, lock: str) -> None:
    """Remove our folder where it holds nothing but the lock."""
    if os.listdir(folder) == [os.path.basename(lock)]:
        os.unlink(lock)
        # Another run may have made its lock meanwhile.
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def take_lock(folder: str, path: str, deadline: float) -> int:
    """The lock, held; a run before us gets two minutes to end."""
    while True:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # `remove` unlinks the lock: only the file that still has the name counts.
            if os.path.exists(path) and os.fstat(lock).st_ino == os.stat(path).st_ino:
                return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Trouble(
                    "another run has held {} for two minutes; wait for its end, then run again".format(path)
                ) from None
        os.close(lock)
        time.sleep(0.5)


def load_record(places: Places) -> Optional[Record]:
    """What earlier runs wrote down, if they did."""
    raw = read_file(places.record)[0]
    if raw is None:
        return None
    try:
        record = json.loads(raw.decode("utf-8"))  # type: Record
        unpack(record["before"])
        if {"config", "owned", "brought", "written", "mtime", "unfinished"} <= set(record):
            return record
    except (ValueError, KeyError, TypeError):
        pass
    raise Trouble("{} is damaged; take our mirror out of daemon.json by hand, then delete it".format(places.record))


def save_record(places: Places, record: Optional[Record]) -> None:
    """Write down what is ours, or that nothing is."""
    text = None if record is None else json.dumps(record, indent=1, sort_keys=True).encode("utf-8")
    write_file(places.record, text, 0o600)


def run_tool(argv: Sequence[str], seconds: float) -> Tuple[int, str, str]:
    """A tool's exit status, output and errors; 127 where there is no such tool."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
    env = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
    tool = shutil.which(argv[0], path=path)
    if tool is None:
        return 127, "", ""
    try:
        done = subprocess.run(
            [tool] + list(argv[1:]),
            env=dict(env, PATH=path, LC_ALL="C"),
            timeout=seconds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Trouble(
            "`{}` gave no answer in {:.0f} s; look at `journalctl -u docker`, mend docker, run again".format(
                argv[0], seconds
            )
        ) from None
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def start_of(places: Places, pid: int) -> Optional[int]:
    """When a process started, in ticks since the boot; None where it is no dockerd of this very system."""
    try:
        process = os.path.join(places.proc, str(pid))
        with open(os.path.join(process, "comm")) as comm:
            if comm.read().strip() != "dockerd":
                return None
        # A docker inside a container is a dockerd too, in namespaces of its own.
        for kind in ("pid", "mnt"):
            if os.readlink(os.path.join(process, "ns", kind)) != os.readlink(
                os.path.join(places.proc, "self/ns", kind)
            ):
                return None
        with open(os.path.join(process, "stat")) as stats:
            return int(stats.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def clock_time(places: Places, ticks: int) -> float:
    """Ticks since the boot as seconds since 1970, of the clock as it goes now: a clock that is set moves the boot too."""
    with open(os.path.join(places.proc, "stat")) as stats:
        boot = next((int(line.split()[1]) for line in stats if line.startswith("btime")), 0)
    return boot + ticks / float(os.sysconf("SC_CLK_TCK"))


def running_dockers(places: Places) -> List[int]:
    """The process numbers of this system's dockerd; the one in its pid file alone, where that is right."""
    with contextlib.suppress(OSError, ValueError), open(places.pid_file) as source:
        pid = int(source.read())
        if start_of(places, pid) is not None:
            return [pid]
    numbers = [int(name) for name in os.listdir(places.proc) if name.isdigit()]
    return sorted(number for number in numbers if start_of(places, number) is not None)


def find_docker(places: Places) -> Optional[Docker]:
    """This node's docker, running or stopped; None where there is none."""
    pids = running_dockers(places)
    if len(pids) > 1:
        raise Trouble("several dockerd run here, processes {}; stop all but one".format(", ".join(map(str, pids))))
    pid, argv = (pids[0] if pids else None), []  # type: Optional[int], List[str]
    if pid is not None:
        with open(os.path.join(places.proc, str(pid), "cmdline"), "rb") as source:
            argv = source.read().decode("utf-8", "replace").rstrip("\0").split("\0")
    else:
        argv = service_command()
        # A service can outlive its program (Debian leaves /etc/init.d/docker behind).
        is_dockerd = bool(argv) and os.path.basename(argv[0]) == "dockerd" and os.access(argv[0], os.X_OK)
        if not is_dockerd and run_tool(["dockerd", "--version"], 30)[0] == 127:
            return None
    flags = parse_flags(argv)
    return Docker(pid, start_of(places, pid) if pid else None, flags, flags.get("config-file", [places.config])[-1])


def service_command() -> List[str]:
    """The command line that systemd would start docker with, its variables put in; empty where there is none."""
    status, shown, _ = run_tool(["systemctl", "show", "docker.service", "-p", "ExecStart", "-p", "Environment"], 30)
    command = re.search(r"argv\[\]=(.*?) ; ", shown)
    if status or not command:
        return []
    line, settings = command.group(1), re.search(r"^Environment=(.*)$", shown, re.MULTILINE)
    with contextlib.suppress(ValueError):
        for pair in shlex.split(settings.group(1)) if settings else []:
            name, _, value = pair.partition("=")
            line = re.sub(r"\$(\{%s\}|%s\b)" % (re.escape(name), re.escape(name)), lambda _: value, line)  # noqa: B023
    return line.split()


def ask_docker(docker: Docker, doc: Document, words: Sequence[str], seconds: float) -> str:
    """The output of a docker command, spoken to the dockerd that was found and no other."""
    listed = doc.get("hosts")
    hosts = docker.flags.get("host", []) + (listed if isinstance(listed, list) else [])
    sockets = [host for host in hosts if isinstance(host, str) and host.startswith("unix://")]
    host = sockets[0] if sockets else "unix:///var/run/docker.sock"
    status, output, _ = run_tool(["docker", "--host", host] + list(words), seconds)
    if status == 127:
        raise Trouble("dockerd runs, but there is no `docker` command to ask it with; install docker's CLI")
    if status:
        raise Trouble(
            "`docker {}` failed with status {} at {}; look at `journalctl -u docker`".format(words[0], status, host)
        )
    return output


def docker_info(docker: Docker, doc: Document, seconds: float = 30) -> Document:
    """What docker says of itself."""
    try:
        info = json.loads(ask_docker(docker, doc, ["info", "--format", "{{json .}}"], seconds))  # type: Document
    except ValueError:
        info = {}
    # The client prints an object, and ends well, where no dockerd answers.
    if not isinstance(info, dict) or not info.get("RegistryConfig") or info.get("ServerErrors"):
        raise Trouble(
            "dockerd (process {}) does not answer `docker info`; look at `journalctl -u docker`".format(docker.pid)
        )
    return info


def reloaded_since(places: Places, docker: Docker, doc: Document, mtime: int) -> bool:
    """Whether docker has read its file since then, going by its start and by its own memory of reloads."""
    started = clock_time(places, docker.ticks or 0)
    if mtime < started * 1e9:
        return True
    words = [
        "events",
        "--since",
        str(int(started)),
        "--until",
        "{:.9f}".format(time.time()),
        "--filter",
        "type=daemon",
        "--filter",
        "event=reload",
        "--format",
        "{{.TimeNano}}",
    ]
    try:
        return any(int(line) > mtime for line in ask_docker(docker, doc, words, 30).split())
    except (Trouble, ValueError):
        return False


def check_cache(places: Places, entry: Entry) -> List[str]:
    """Why the mirror can't be used from this node: nothing, or one problem."""
    url, deadline = entry.url + "/v2/", time.monotonic() + 10
    while True:
        reason, final = probe(url, os.path.join(places.certificates, entry.hostport), entry)
        if reason is None:
            return []
        if final or time.monotonic() > deadline:
            return [
                "the mirror does not answer this node at {}: {}; mend that first, docker is as it was".format(
                    url, reason
                )
            ]
        time.sleep(2)


def probe(url: str, folder: str, entry: Entry) -> Tuple[Optional[str], bool]:
    """One try: None or the reason why not, and whether another try is pointless."""
    try:
        trust = ssl.create_default_context(cadata=entry.certificate)
        trust.load_default_certs()
        # As docker verifies: what is given is a root even if another signed it (X509_V_FLAG_PARTIAL_CHAIN), and need not be as
        # strict as Python 3.13 wants it.
        trust.verify_flags = trust.verify_flags & ~ssl.VERIFY_X509_STRICT | 0x80000
        for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.crt"))):
            # Ours counts as it will be, not as it is there now; docker skips what is no certificate.
            if os.path.basename(path) != CERTIFICATE_FILE:
                with contextlib.suppress(ssl.SSLError):
                    trust.load_verify_locations(path)
        if not entry.verified:
            trust.check_hostname = False
            trust.verify_mode = ssl.CERT_NONE
        handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
        opener = urllib.request.build_opener(*handlers)
        with contextlib.closing(opener.open(url, timeout=10)) as answer:
            status, headers = answer.getcode(), answer.headers
    except urllib.error.HTTPError as error:
        status, headers = error.code, error.headers
    # Until Python 3.7 a certificate for another host is a ValueError.
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, (ssl.SSLError, ssl.CertificateError)):
            return (
                "its certificate can't be verified ({}); give its CA as docker_cache_entry_ca".format(
                    getattr(cause, "reason", None) or "TLS error"
                )
            ), True
        return ("no answer in 10 s" if isinstance(cause, socket.timeout) else str(cause) or type(cause).__name__), False
    if status not in (200, 401):
        return "HTTP status {}".format(status), status < 500
    if headers.get("Docker-Distribution-Api-Version", "").strip().lower() != "registry/2.0":
        return "HTTP status {}, but what answers is no registry".format(status), True
    return None, True


def validate(places: Places, doc: Document, raw: Optional[bytes], path: str) -> List[str]:
    """What dockerd itself says of the new file, where its version can be asked."""
    if raw is None or "--validate" not in "".join(run_tool(["dockerd", "--help"], 30)[1:]):
        return []
    with tempfile.NamedTemporaryFile(prefix=temp_prefix(places.record), dir=places.state) as trial:
        trial.write(raw)
        trial.flush()
        status, output, errors = run_tool(["dockerd", "--validate", "--config-file", trial.name], 30)
    if not status:
        return []
    # dockerd's own words may quote values of the file.
    named = [key for key in doc if re.search(r"\b{}\b".format(re.escape(key)), output + errors)]
    keys = " ({})".format(", ".join(named)) if named else ""
    remedy = "run `dockerd --validate --config-file {}` and mend it".format(path)
    return ["`dockerd --validate` refuses {} as it would be{}; {}".format(path, keys, remedy)]


# --- The change: recorded, written, reloaded, proved, or taken back --------------------------------------------------


def look(record: Optional[Record], docker: Optional[Docker], path: str) -> Node:
    """The facts that a decision rests on."""
    raw, mtime = read_file(path)
    doc, info, problems = OrderedDict(), {}, []  # type: Document, Document, List[str]
    try:
        doc = parse_document(raw, path)
    except Trouble as trouble:
        problems += trouble.problems
    if docker and docker.pid:
        try:
            info = docker_info(docker, doc)
        except Trouble as trouble:
            problems += trouble.problems
    if problems:
        raise Trouble(*problems)
    return Node(docker, path, raw, mtime, doc, info, record)


def waiting(places: Places, node: Node, plan: Plan) -> List[str]:
    """The keys that a reload would change besides ours."""
    docker, record = node.docker, node.record
    if docker is None or not docker.pid:
        return []
    reloaded = bridge(plan.doc, plan.gone, node.info)
    known = record is not None and digest(node.raw) in record["written"] + [digest(unpack(record["before"]))]
    seen = known or not any(key in reloaded for key in UNSEEN) or reloaded_since(places, docker, node.doc, node.mtime)
    return pending(
        reloaded,
        node.info,
        merged(merged(record["owned"] if record else {}, plan.need), plan.gone),
        docker.flags,
        unseen_applied=seen,
    )


def refusal(path: str, keys: Sequence[str], remedy: str) -> str:
    """The problem of hand edits that a reload would apply."""
    return (
        "docker's reload would change more than the mirror, because these differ between docker and {}: {}; {}".format(
            path, ", ".join(keys), remedy
        )
    )


def same_process(places: Places, docker: Docker) -> bool:
    """Whether the dockerd that was found still runs."""
    return docker.pid is not None and docker.ticks is not None and start_of(places, docker.pid) == docker.ticks


def reload_and_prove(places: Places, node: Node, need: Entries, gone: Entries) -> Optional[str]:
    """Reload docker and wait until it shows what was asked for; else the reason."""
    docker, deadline = node.docker, time.monotonic() + 15
    if docker is None or docker.pid is None or not same_process(places, docker):
        return "dockerd ended"
    os.kill(docker.pid, signal.SIGHUP)
    while True:
        try:
            late = off_target(docker_info(docker, node.doc, 15), need, gone)
        except Trouble as trouble:
            late = trouble.problems
        if not same_process(places, docker):
            return "dockerd (process {}) ended during the reload".format(docker.pid)
        if not late or time.monotonic() > deadline:
            return "; ".join(late) or None
        time.sleep(0.5)


def record_of(node: Node, plan: Plan, contents: Sequence[Optional[bytes]], *, unfinished: bool) -> Record:
    """What is ours once the file holds one of these contents."""
    old = node.record or {"owned": {}, "brought": [], "written": [], "mtime": node.mtime}
    kept = digest(node.raw) in old["written"]
    earlier = old["written"] if unfinished and kept else []
    owners = [old.get("owner"), plan.owner] if unfinished else [plan.owner, old.get("owner")]
    return {
        "config": node.path,
        "owner": owners[0] or owners[1],
        "owned": merged(plan.owned, old["owned"]) if unfinished else plan.owned,
        "brought": sorted(set(plan.brought) | set(old["brought"] if unfinished else [])),
        "written": list(OrderedDict.fromkeys(earlier + [digest(raw) for raw in contents])),
        "before": None if plan.before is None else base64.b64encode(plan.before).decode("ascii"),
        "mtime": old["mtime"] if kept else node.mtime,
        "unfinished": unfinished,
        "replaced": plan.replaced if unfinished else [],
        "certificates": plan.certificates
        + [old for old in certificates(node.record) if unfinished and old not in plan.certificates],
    }


def keep_original(places: Places, raw: Optional[bytes]) -> None:
    """Keep what the file held before we ever touched it."""
    if not os.path.exists(places.original) and not os.path.exists(places.was_absent):
        write_file(places.was_absent if raw is None else places.original, raw or b"", 0o600)


def owns(plan: Plan) -> bool:
    """Whether anything on the node is ours once the plan is carried out."""
    return bool(plan.owned or plan.certificates)


def carry_out(places: Places, node: Node, plan: Plan, certificate: Optional[str] = None, *, reload: bool) -> List[str]:
    """Bring files and docker to the plan, or all back to where they were; returns what `finish` says."""
    reloaded = bridge(plan.doc, plan.gone, node.info) if reload else plan.doc
    first = plan.raw if reloaded == plan.doc else render(reloaded, plan.raw)
    if node.record or owns(plan):
        keep_original(places, node.raw)
        save_record(places, record_of(node, plan, [first, plan.raw], unfinished=True))
    # Put back to the byte, the file gets its old date too: the date tells what docker has read.
    mtime = node.mtime if node.raw is not None else None
    if node.record and plan.raw == unpack(node.record["before"]):
        mtime = node.record["mtime"]
    former = {c["path"]: read_file(c["path"])[0] for c in plan.certificates}
    try:
        for path in sorted(former):
            if certificate is not None and former[path] != certificate.encode("utf-8"):
                write_file(path, certificate.encode("utf-8"))
        if first != node.raw:
            write_file(node.path, first, mtime=None if plan.owned or first != plan.raw else mtime)
        reason = reload_and_prove(places, node, plan.need, plan.gone) if reload else None
        if reason is None and first != plan.raw:
            write_file(node.path, plan.raw, mtime=mtime)
    except OSError as error:
        reason = explain(error)
    if reason is not None:
        take_back(places, node, plan, former, reason)
    return finish(places, node, plan) if node.record or owns(plan) else []


def finish(places: Places, node: Node, plan: Plan) -> List[str]:
    """Remove certificates that are no longer wanted and write down what is ours now; what is worth saying of that."""
    kept = [certificate["path"] for certificate in plan.certificates]
    said = [drop(old) for old in certificates(node.record) if old["path"] not in kept]
    if not owns(plan) and not drop_original(places, plan.raw):
        said.append("other changes in daemon.json kept; what it was at first is in {}".format(places.state))
    save_record(places, record_of(node, plan, [plan.raw], unfinished=False) if owns(plan) else None)
    return [line for line in said if line]


def take_back(places: Places, node: Node, plan: Plan, former: Dict[str, Optional[bytes]], reason: str) -> None:
    """Restore files, docker and record as they were, and say why; `former` is what the certificates' files held."""
    for certificate in plan.certificates:
        if former[certificate["path"]] is None:
            drop(certificate)
        elif read_file(certificate["path"])[0] != former[certificate["path"]]:
            write_file(certificate["path"], former[certificate["path"]])
    ending = "daemon.json and docker are as they were"
    if read_file(node.path)[0] != node.raw:
        if node.info:
            late = reload_former(places, node, plan)
            ending = "daemon.json is as it was, but docker is not: " + late if late else ending
        write_file(node.path, node.raw, mtime=node.mtime)
    save_record(places, node.record)
    if node.record is None:
        drop_original(places, node.raw)
    raise Trouble(
        "the change was taken back: {}; {}; mend that (`journalctl -u docker`), run again".format(reason, ending)
    )


def reload_former(places: Places, node: Node, plan: Plan) -> Optional[str]:
    """Make docker forget the change; the reason where it does not."""
    live = live_settings(node.info)
    gone = {key: [form for form in forms(key, items) if form not in live[key]] for key, items in plan.need.items()}
    need = {
        key: [item for item in items if item in forms(key, node.doc.get(key, [])) and item in live[key]]
        for key, items in plan.gone.items()
    }
    # Whatever docker took of a key that was not there, it keeps unless the key is there, empty.
    former = OrderedDict(node.doc)
    former.update((key, []) for key in gone if key not in node.doc)
    write_file(node.path, node.raw if former == node.doc else render(former, node.raw), mtime=node.mtime or None)
    return reload_and_prove(places, node, need, gone)


def apply(places: Places, entry: Entry, owner: Optional[str] = None, *, allow: bool) -> str:
    """Make docker pull through the mirror; the line that says how it went."""
    with locked(places):
        docker, record = find_docker(places), load_record(places)
        if docker is None:
            return "none: no docker on this node, nothing to do"
        path = os.path.realpath(docker.config)
        tidy(places, path, record)
        stale = record if record and record["config"] != path else None
        node = look(None if stale else record, docker, path)
        entry = fitting(entry, node.info)
        plan = plan_apply(node.raw, node.doc, node.record, entry, path, owner)
        plan = plan._replace(certificates=certificates_for(places, entry, node.info, node.record))
        clash = conflicts(plan.doc, docker.flags, path)
        settled = plan.raw == node.raw and not (docker.pid and off_target(node.info, plan.need, plan.gone))
        if settled and not clash and in_place(plan.certificates, node.record):
            if node.record and node.record["unfinished"]:
                finish(places, node, plan)
            elif node.record and owner not in (None, node.record.get("owner")):
                save_record(places, dict(node.record, owner=owner))
            return success(entry, node, "nothing touched", [])
        also = [] if settled else waiting(places, node, plan)
        problems = clash + check_cache(places, entry)
        problems += [refusal(path, also, SETTLE_FOR_APPLY)] if also and not allow else []
        if not settled:
            problems += deadly(plan.doc, node.info, path) + validate(places, plan.doc, plan.raw, path)
        if problems:
            raise Trouble(*problems)
        if stale:
            former = look(stale, None, stale["config"])
            carry_out(places, former, plan_remove(former.raw, former.doc, stale, former.path), reload=False)
            # Its certificate went with it, and the folders that are now to be made anew.
            plan = plan._replace(certificates=certificates_for(places, entry, node.info, None))
        said = carry_out(places, node, plan, entry.certificate, reload=docker.pid is not None and not settled)
        said = ["replaced OpenPAI's " + url for url in plan.replaced] + said
        said += ["docker took these changes too: " + ", ".join(also)] if also else []
        done = "certificate placed" if plan.certificates else "certificate given up"
        return success(entry, node, done if settled else "reloaded", said)


def success(entry: Entry, node: Node, done: str, more: Sequence[str]) -> str:
    """The line on stdout: it stays in Pulumi's state, so it is the same for the same outcome."""
    if node.info:
        facts = ["docker " + str(node.info.get("ServerVersion", "?")), done]
    else:
        facts = ["docker is stopped", "live at its next start"] + ([done] if done == "nothing touched" else [])
    facts.insert(0, "{}: mirror {}".format("live" if node.info else "written", entry.url))
    return "; ".join([", ".join(facts)] + list(more))


def remove(places: Places, owner: Optional[str] = None, *, allow: bool) -> str:
    """Take our mirror out of docker, unless another owner keeps it; the line that says how it went.

    A node that gets another name is another Command to Pulumi, made before the old name's is deleted: without the owner,
    that deletion would take out the mirror that the new name has just been given.
    """
    if not os.path.exists(places.state):
        return NOTHING_OF_OURS
    with locked(places):
        record = load_record(places)
        if record is None:
            # A run that was killed before its record, or after it.
            tidy(places, places.config, None)
            drop_original(places, read_file(places.config)[0])
            return NOTHING_OF_OURS
        keeper = record.get("owner")
        if owner and keeper and owner != keeper:
            return "kept: the mirror here is kept by {}, nothing touched".format(keeper)
        path, docker = record["config"], find_docker(places)
        tidy(places, path, record)
        if docker and (not docker.pid or os.path.realpath(docker.config) != path):
            docker = None
        node = look(record, docker, path)
        plan = plan_remove(node.raw, node.doc, record, path)
        reload = docker is not None and bool(off_target(node.info, {}, plan.gone))
        also = waiting(places, node, plan) if reload and docker else []
        reloaded = bridge(plan.doc, plan.gone, node.info)
        problems = []  # type: List[str]
        if reload and docker:
            problems += conflicts(reloaded, docker.flags, path) + deadly(reloaded, node.info, path)
        problems += [refusal(path, also, SETTLE_FOR_REMOVE)] if also and not allow else []
        if problems:
            raise Trouble(*problems)
        said = carry_out(places, node, plan, reload=reload) or ["daemon.json as it was"]
        said += ["docker took these changes too: " + ", ".join(also)] if also else []
    return "removed: " + "; ".join(said)


def drop_original(places: Places, raw: Optional[bytes]) -> bool:
    """Drop the backup where the file is what it was before we first came; else say that it differs."""
    first = read_file(places.original)[0]
    if first != raw and (first is not None or os.path.exists(places.was_absent)):
        return False
    write_file(places.original, None)
    write_file(places.was_absent, None)
    return True


def tidy(places: Places, path: str, record: Optional[Record]) -> None:
    """Remove what a killed run left unfinished."""
    for each in [path, places.record, places.original, places.was_absent] + [c["path"] for c in certificates(record)]:
        sweep(each)


def explain(error: OSError) -> str:
    """An error of the system, with what to do."""
    remedy = REMEDIES.get(error.errno or 0, "mend that, then run again")
    place = error.filename2 or error.filename or "the system"
    return "{}: {}; {}".format(place, error.strerror or type(error).__name__, remedy)


def refuse_all_but_root() -> None:
    """Stop where the rights are missing: halfway through, the reason would be harder to see."""
    if os.geteuid() != 0:
        raise Trouble(
            "only root can change docker; log in as root, or set docker_cache_ssh_sudo: true with a sudo rule that "
            "needs no password"
        )


def given_certificate(wanted: Optional[str]) -> Optional[str]:
    """The certificate that came with the script, if it is the one that the command line names."""
    text = globals().get("CERTIFICATE")
    if (None if text is None else digest(text.encode("utf-8"))) != wanted:
        raise Trouble("--ca names another certificate than the one that came with the script; run `pulumi up` again")
    return text


def run(argv: Sequence[str], places: Places) -> int:
    """One command; its exit status."""
    parser = argparse.ArgumentParser(prog="docker_mirror", description="This node's docker and its registry mirror.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    for name, text in (("mirror", "make docker pull through ENTRY"), ("remove", "take our mirror out again")):
        command = commands.add_parser(name, help=text, description=text)
        if name == "mirror":
            command.add_argument("entry", metavar="ENTRY", help="http://HOST:PORT or https://HOST:PORT")
            command.add_argument("--ca", metavar="SHA256", help="place the certificate that came with the script")
            command.add_argument("--insecure", action="store_true", help="do not verify an https entry")
        command.add_argument(
            "--owner", metavar="ID", help="who keeps the mirror here: no other owner's remove takes it out"
        )
        command.add_argument(
            "--allow-pending-changes",
            action="store_true",
            help="let the reload apply other edits that wait in daemon.json too",
        )
    words = parser.parse_args(argv)
    # A hardened root's 077 would close the folders of certificates to clients that are not root.
    os.umask(0o022)
    try:
        refuse_all_but_root()
        if words.command == "mirror":
            entry = parse_entry(words.entry, given_certificate(words.ca), insecure=words.insecure)
            print(apply(places, entry, words.owner, allow=words.allow_pending_changes))
        else:
            print(remove(places, words.owner, allow=words.allow_pending_changes))
    except Trouble as trouble:
        problems = trouble.problems
    except OSError as error:
        problems = [explain(error)]
    else:
        return 0
    for problem in problems:
        sys.stderr.write("docker-cache on {}: {}\n".format(socket.gethostname(), problem))
    return 1


def main() -> None:
    """Run the command line."""
    sys.exit(run(sys.argv[1:], Places()))


if __name__ == "__main__":
    main()
