"""This node's docker: found, looked at, and brought to its daemon.json by a reload, never by a restart."""

import base64
import contextlib
import json
import os
import re
import shlex
import signal
import time
from collections import OrderedDict
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from on_node import tools
from on_node.address import CERTIFICATE_FILE, HUB, Entry, Mirror
from on_node.daemon_json import (
    UNSEEN,
    Certificate,
    Document,
    Entries,
    Plan,
    Record,
    bridge,
    conflicts,
    deadly,
    forms,
    live_settings,
    merged,
    off_target,
    parse_document,
    parse_flags,
    pending,
    plan_apply,
    plan_remove,
    render,
)
from on_node.engine import Change, Options, Said
from on_node.errors import Trouble, explain
from on_node.files import digest, read_file, sweep, unpack, write_file
from on_node.places import Places
from on_node.proof import Proof, Prove, prove
from on_node.proxy import Proxies, proxies_of, proxy_problems
from on_node.room import unwritable
from on_node.tools import arguments, clock_time, processes, start_of

NAME = "docker"
SETTLE_FOR_APPLY = (
    "reload docker yourself when it suits, or set docker_cache_allow_pending_changes (--allow-pending-changes)"
)
# A destroy runs the command that the last `pulumi up` stored: the setting counts from the next one on.
SETTLE_FOR_REMOVE = (
    "reload docker yourself and run it again, or set docker_cache_allow_pending_changes: true, `pulumi up`, then again"
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


def certificates_for(
    places: Places, entries: Sequence[Entry], info: Document, record: Optional[Record]
) -> List[Certificate]:
    """Where the entries' CA goes, and which folders are made for it.

    docker takes every ``*.crt`` of such a folder as a root, at each pull: a name of ours is in nobody's way. With the
    containerd image store it looks for a mirror's under the name of what is mirrored (moby daemon/hosts.go, of 28 on).
    """
    text = entries[0].certificate
    if text is None:
        return []
    names = [entry.hostport for entry in entries] + ([HUB] if not info or has_containerd_store(info) else [])
    return [certificate_at(places, name, text, record) for name in names]


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


def running_dockers(places: Places) -> List[int]:
    """The process numbers of this system's dockerd; the one in its pid file alone, where that is right."""
    with contextlib.suppress(OSError, ValueError), open(places.pid_file) as source:
        pid = int(source.read())
        if start_of(places, pid) is not None:
            return [pid]
    return processes(places, "dockerd")


def find_docker(places: Places) -> Optional[Docker]:
    """This node's docker, running or stopped; None where there is none."""
    pids = running_dockers(places)
    if len(pids) > 1:
        raise Trouble("several dockerd run here, processes {}; stop all but one".format(", ".join(map(str, pids))))
    pid, argv = (pids[0] if pids else None), []  # type: Optional[int], List[str]
    if pid is not None:
        argv = arguments(places, pid)
    else:
        argv = service_command()
        # A service can outlive its program (Debian leaves /etc/init.d/docker behind).
        is_dockerd = bool(argv) and os.path.basename(argv[0]) == "dockerd" and os.access(argv[0], os.X_OK)
        if not is_dockerd and tools.run_tool(["dockerd", "--version"], 30)[0] == 127:
            return None
    flags = parse_flags(argv)
    return Docker(pid, start_of(places, pid) if pid else None, flags, flags.get("config-file", [places.config])[-1])


def service_command() -> List[str]:
    """The command line that systemd would start docker with, its variables put in; empty where there is none."""
    status, shown, _ = tools.run_tool(
        ["systemctl", "show", "docker.service", "-p", "ExecStart", "-p", "Environment"], 30
    )
    command = re.search(r"argv\[\]=(.*?) ; ", shown)
    if status or not command:
        return []
    line = command.group(1)
    for name, value in environment_in(shown).items():
        line = re.sub(r"\$(\{%s\}|%s\b)" % (re.escape(name), re.escape(name)), lambda _: value, line)  # noqa: B023
    return line.split()


def environment_in(shown: str) -> Dict[str, str]:
    """The variables that systemd shows of a service."""
    settings = re.search(r"^Environment=(.*)$", shown, re.MULTILINE)
    found = OrderedDict()  # type: Dict[str, str]
    with contextlib.suppress(ValueError):
        for pair in shlex.split(settings.group(1)) if settings else []:
            name, _, value = pair.partition("=")
            found[name] = value
    return found


def proxies_for(node: Node) -> Proxies:
    """The proxies that docker pulls through: as it says itself, else as it would be started."""
    if node.info:
        known = [str(node.info.get(key) or "") for key in ("HttpProxy", "HttpsProxy", "NoProxy")]
        return Proxies(*known)
    shown = tools.run_tool(["systemctl", "show", "docker.service", "-p", "Environment"], 30)[1]
    of_service, listed = proxies_of(environment_in(shown)), node.doc.get("proxies")
    in_file = listed if isinstance(listed, dict) else {}
    flags = node.docker.flags if node.docker else {}
    names = ("http-proxy", "https-proxy", "no-proxy")
    given = [str(in_file.get(name) or (flags.get(name) or [""])[-1]) for name in names]
    return Proxies(*(given[at] or of_service[at] for at in range(len(names))))


def ask_docker(docker: Docker, doc: Document, words: Sequence[str], seconds: float) -> str:
    """The output of a docker command, spoken to the dockerd that was found and no other."""
    client = client_of(docker, doc)
    status, output, _ = tools.run_tool(client + list(words), seconds)
    if status == 127:
        raise Trouble("dockerd runs, but there is no `docker` command to ask it with; install docker's CLI")
    if status:
        raise Trouble(
            "`docker {}` failed with status {} at {}; look at `journalctl -u docker`".format(
                words[0], status, client[-1]
            )
        )
    return output


def client_of(docker: Docker, doc: Document) -> List[str]:
    """The client, with the socket of that dockerd."""
    listed = doc.get("hosts")
    hosts = docker.flags.get("host", []) + (listed if isinstance(listed, list) else [])
    sockets = [host for host in hosts if isinstance(host, str) and host.startswith("unix://")]
    return ["docker", "--host", sockets[0] if sockets else "unix:///var/run/docker.sock"]


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


def validate(doc: Document, raw: Optional[bytes], path: str) -> List[str]:
    """What dockerd itself says of the new file, where its version can be asked."""
    if raw is None or "--validate" not in "".join(tools.run_tool(["dockerd", "--help"], 30)[1:]):
        return []
    # By standard input: a look at a node leaves no file behind, even a killed one.
    status, output, errors = tools.run_tool(["dockerd", "--validate", "--config-file", "/dev/stdin"], 30, raw)
    if not status:
        return []
    # dockerd's own words may quote values of the file.
    named = [key for key in doc if re.search(r"\b{}\b".format(re.escape(key)), output + errors)]
    keys = " ({})".format(", ".join(named)) if named else ""
    remedy = "run `dockerd --validate --config-file {}` and mend it".format(path)
    return ["`dockerd --validate` refuses {} as it would be{}; {}".format(path, keys, remedy)]


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
    docker, deadline = node.docker, time.monotonic() + 30
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


def carry_out(
    places: Places, node: Node, plan: Plan, certificate: Optional[str], proof: Optional[Prove], *, reload: bool
) -> List[str]:
    """Bring files and docker to the plan, or all back to where they were; returns what `finish` says."""
    proven = Proof(None, "")
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
        # What the file held before, too, is not ours to take back.
        if reason is None and reload and proof and plan.raw != node.raw:
            proven = proof()
            reason = proven.failure
    except OSError as error:
        reason = explain(error)
    if reason is not None:
        take_back(places, node, plan, former, reason)
    said = finish(places, node, plan) if node.record or owns(plan) else []
    return ([proven.said] if proven.said else []) + said


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


def prepare(places: Places, mirror: Mirror, options: Options) -> Optional[Change]:
    """What has to be done for docker to pull through the mirror; None where there is no docker. Raises Trouble."""
    docker, record = find_docker(places), load_record(places)
    if docker is None:
        return None
    path = os.path.realpath(docker.config)
    stale = record if record and record["config"] != path else None
    node = look(None if stale else record, docker, path)
    entries = [fitting(entry, node.info) for entry in mirror.entries]
    plan = plan_apply(node.raw, node.doc, node.record, entries, path, options.owner)
    plan = plan._replace(certificates=certificates_for(places, entries, node.info, node.record))
    clash = conflicts(plan.doc, docker.flags, path)
    at_rest = plan.raw == node.raw and not (docker.pid and off_target(node.info, plan.need, plan.gone))
    settled = at_rest and not clash and in_place(plan.certificates, node.record)
    also = [] if at_rest else waiting(places, node, plan)
    problems = clash + proxy_problems(entries, proxies_for(node), "docker")
    problems += [refusal(path, also, SETTLE_FOR_APPLY)] if also and not options.allow_pending_changes else []
    if not at_rest:
        problems += deadly(plan.doc, node.info, path) + validate(plan.doc, plan.raw, path)
    if not settled:
        problems += unwritable(
            [places.state, os.path.dirname(path)] + [os.path.dirname(c["path"]) for c in plan.certificates]
        )
    if problems:
        raise Trouble(*problems)

    def carry_it_out() -> Said:
        tidy(places, path, record)
        if settled:
            if node.record and node.record["unfinished"]:
                finish(places, node, plan)
            elif node.record and options.owner not in (None, node.record.get("owner")):
                save_record(places, dict(node.record, owner=options.owner))
            return success(node, "nothing touched", [])
        wanted = plan
        if stale:
            former = look(stale, None, stale["config"])
            carry_out(places, former, plan_remove(former.raw, former.doc, stale, former.path), None, None, reload=False)
            # Its certificate went with it, and the folders that are now to be made anew.
            wanted = plan._replace(certificates=certificates_for(places, entries, node.info, None))
        proof, reload = proof_by(places, node, docker, entries, options.proof_image), docker.pid is not None
        said = carry_out(places, node, wanted, entries[0].certificate, proof, reload=reload and not at_rest)
        said = ["replaced OpenPAI's " + url for url in wanted.replaced] + said
        said += ["docker took these changes too: " + ", ".join(also)] if also else []
        done = "certificate placed" if wanted.certificates else "certificate given up"
        return success(node, done if at_rest else "reloaded", said)

    return Change(settled=settled, carry_out=carry_it_out)


def proof_by(
    places: Places, node: Node, docker: Docker, entries: Sequence[Entry], image: Optional[str]
) -> Optional[Prove]:
    """The proof with this image, if one is asked for."""
    if image is None or docker.pid is None:
        return None
    wanted, pid, client = image, docker.pid, client_of(docker, node.doc)

    def ask(words: Sequence[str], seconds: float) -> Tuple[int, str]:
        status, _, errors = tools.run_tool(client + list(words), seconds)
        return status, errors

    return lambda: prove(places, entries, wanted, pid, ask)


def success(node: Node, done: str, more: Sequence[str]) -> Said:
    """It stays in Pulumi's state, so it is the same for the same outcome."""
    if node.info:
        return Said("live", ["docker " + str(node.info.get("ServerVersion", "?")), done], list(more), None)
    facts = ["docker is stopped", "live at its next start"] + ([done] if done == "nothing touched" else [])
    return Said("written", facts, list(more), None)


def owner_of(places: Places) -> Optional[str]:
    """Who keeps docker's mirror here."""
    record = load_record(places)
    return record.get("owner") if record else None


def prepare_removal(places: Places, options: Options) -> Optional[Change]:
    """What has to be done to take our mirror out of docker; None where nothing is ours. Raises Trouble."""
    record = load_record(places)
    if record is None:
        # A run that was killed before its record, or after it.
        tidy(places, places.config, None)
        drop_original(places, read_file(places.config)[0])
        return None
    path, docker = record["config"], find_docker(places)
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
    problems += [refusal(path, also, SETTLE_FOR_REMOVE)] if also and not options.allow_pending_changes else []
    if problems:
        raise Trouble(*problems)

    def carry_it_out() -> Said:
        tidy(places, path, record)
        said = carry_out(places, node, plan, None, None, reload=reload) or ["daemon.json as it was"]
        said += ["docker took these changes too: " + ", ".join(also)] if also else []
        return Said("removed", [], said, None)

    return Change(settled=False, carry_out=carry_it_out)


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
