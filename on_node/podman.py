"""This node's readers of /etc/containers: podman, buildah and CRI-O, which share their registries.

podman and buildah have no daemon, and read the files at each pull. A CRI-O that runs is reloaded.
"""

import json
import os
import re
from collections import OrderedDict
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

from on_node import crio, owned, tools
from on_node.address import CERTIFICATE_FILE, Mirror
from on_node.crio import Crio
from on_node.engine import Change, Options, Said
from on_node.errors import Trouble
from on_node.files import sweep
from on_node.owned import Record, Wanted
from on_node.places import Places
from on_node.proxy import proxies_of, proxy_problems
from on_node.registries_conf import Plan, Source, location, plan
from on_node.room import unwritable

NAME = "podman"
DROP_IN = "000-docker-cache.conf"
"""Read before an administrator's file of a later day, so that his counts until the next run puts our mirror into it."""
OLDEST = {"podman": (1, 9), "buildah": (1, 15), "crio": (1, 19)}
"""The versions from which registries.conf.d is surely read: containers/image has it since 5.3.0."""
Tool = NamedTuple("Tool", [("name", str), ("version", str)])


def find_tools() -> List[Tool]:
    """The programs of this node that read registries.conf(.d) and pull."""
    found = []
    for name in sorted(OLDEST, key=lambda name: name != NAME):
        status, text, _ = tools.run_tool([name, "--version"], 30)
        version = re.search(r"\d+\.\d+\S*", text)
        if not status and version:
            found.append(Tool(name, version.group(0)))
    return found


def refuse_old(found: List[Tool]) -> List[str]:
    """The programs that would not look at a file of ours."""
    return [
        "{} {} is too old to read registries.conf.d; update it to {}.{} or newer".format(
            tool.name, tool.version, *OLDEST[tool.name]
        )
        for tool in found
        if tuple(int(part) for part in re.findall(r"\d+", tool.version)[:2]) < OLDEST[tool.name]
    ]


def sources(places: Places, record: Record) -> List[Source]:
    """The files in the order in which root's engines read them, as they would be without us. Raises Trouble."""
    own = os.path.join(places.root_containers, "registries.conf")
    if os.path.exists(own):
        raise Trouble("{} hides all of {} from root's engines; move its lines there".format(own, places.containers))
    paths = [os.path.join(places.containers, "registries.conf")]
    for place in (places.containers, places.root_containers):
        folder = os.path.join(place, "registries.conf.d")
        names = sorted(os.listdir(folder), key=os.fsencode) if os.path.isdir(folder) else []
        paths += [os.path.join(folder, name) for name in names if name.endswith(".conf")]
    paths = [os.path.realpath(path) for path in paths if os.path.isfile(path)]
    bases = [(path, owned.original(record, path)) for path in paths]
    return [Source(path, base) for path, base in bases if base is not None]


def wanted_files(places: Places, mirror: Mirror, record: Record) -> Tuple[List[Wanted], Plan]:
    """The files as they have to be, and what the registries' ones are to be. Raises Trouble."""
    found = plan(sources(places, record), os.path.join(places.containers, "registries.conf.d", DROP_IN), mirror)
    wanted = [Wanted(path, raw, None) for path, raw in found.files.items()]
    for entry in mirror.entries:
        if entry.certificate is not None:
            path = os.path.join(places.containers, "certs.d", entry.hostport, CERTIFICATE_FILE)
            wanted.append(Wanted(path, entry.certificate.encode("utf-8"), None))
    return wanted, found


def prepare(places: Places, mirror: Mirror, options: Options) -> Optional[Change]:
    """What has to be done for podman and its kin to pull through the mirror; None where there are none. Raises Trouble."""
    found, running = find_tools(), crio.find(places)
    if not found:
        return None
    record, problems = owned.load(places, NAME), refuse_old(found)
    try:
        wanted, registries = wanted_files(places, mirror, record)
    except Trouble as trouble:
        raise Trouble(*(problems + trouble.problems)) from None
    settled = owned.is_settled(record, wanted)
    if running:
        problems += refuse_elsewhere(running) + proxy_problems(
            mirror.entries, proxies_of(running.environment), crio.NAME
        )
    if not settled:
        problems += refuse_waiting(places, running, options)
        problems += unwritable([places.state] + [os.path.dirname(file.path) for file in wanted])
    if problems:
        raise Trouble(*problems)

    def carry_it_out() -> Said:
        undo = owned.write(places, NAME, options.owner, wanted, take_effect(places, running, mirror, found))
        return Said("live", facts(places, found, registries, running, settled=settled), registries.said, undo)

    return Change(settled=settled, carry_out=carry_it_out)


def refuse_elsewhere(running: Crio) -> List[str]:
    """A CRI-O that does not look where the others do."""
    return [
        "CRI-O has its registries from {}, not from /etc/containers; take that out and restart it when it suits".format(
            flag
        )
        for flag in running.elsewhere
    ]


def refuse_waiting(places: Places, running: Optional[Crio], options: Options) -> List[str]:
    """Edits of CRI-O's own files that a reload would put into effect."""
    late = crio.waiting(places, running) if running and not options.allow_pending_changes else []
    if not late:
        return []
    return [
        "CRI-O's reload would change more than the mirror, because these were changed since it read them: {}; {}".format(
            ", ".join(late), crio.SETTLE
        )
    ]


def take_effect(
    places: Places, running: Optional[Crio], mirror: Optional[Mirror], found: List[Tool]
) -> Callable[[], Optional[str]]:
    """What makes the engines take the files, and says why one did not."""
    wanted = {each: [location(each, entry) for entry in mirror.entries] for each in mirror.upstreams} if mirror else {}

    def reload_and_ask() -> Optional[str]:
        # CRI-O is told in any case: it is told of the former files as well.
        refused = crio.reload_and_ask(places, running, [place for each in wanted.values() for place in each])
        asked = ask_podman(wanted) if wanted and any(tool.name == NAME for tool in found) else None
        return refused or asked

    return reload_and_ask


def ask_podman(wanted: Dict[str, List[str]]) -> Optional[str]:
    """Why podman does not show each registry's mirrors; None where it does."""
    status, text, errors = tools.run_tool(["podman", "info", "--format", "json"], 60)
    if status:
        last = (errors.strip().splitlines() or ["status {}".format(status)])[-1]
        return "`podman info` fails: {}".format(last)
    try:
        registries = json.loads(text)["registries"]
        shown = all(
            place in [each["Location"] for each in registries[upstream]["Mirrors"]]
            for upstream, places in wanted.items()
            for place in places
        )
    except (ValueError, KeyError, TypeError):
        shown = False
    return None if shown else "`podman info` does not show the mirror"


def facts(places: Places, found: List[Tool], registries: Plan, running: Optional[Crio], *, settled: bool) -> List[str]:
    """It stays in Pulumi's state, so it is the same for the same outcome."""
    if settled:
        return told(found) + ["nothing touched"]
    drop_ins = os.path.join(places.containers, "registries.conf.d")
    files = ["registries.conf.d" if os.path.dirname(path) == drop_ins else path for path in registries.files]
    done = [file + " written" for file in OrderedDict.fromkeys(files)] or ["certificate placed"]
    return told(found) + done + (["CRI-O reloaded"] if running else [])


def told(found: List[Tool]) -> List[str]:
    """The programs with their versions, as they are told."""
    return ["{} {}".format("CRI-O" if tool.name == crio.NAME else tool.name, tool.version) for tool in found]


def owner_of(places: Places) -> Optional[str]:
    """Who keeps the mirror here."""
    return owned.owner_of(places, NAME)


def prepare_removal(places: Places, options: Options) -> Optional[Change]:
    """What has to be done to take our mirror out; None where nothing is ours. Raises Trouble."""
    record = owned.load(places, NAME)
    if not record["files"]:
        # A run that was killed before its record, or after it.
        sweep(owned.record_path(places, NAME))
        return None
    running = crio.find(places)
    problems = refuse_waiting(places, running, options)
    if problems:
        raise Trouble(*problems)

    def carry_it_out() -> Said:
        stay = owned.changed_by_others(record)
        undo = owned.write(places, NAME, None, [], take_effect(places, running, None, []))
        said = ["{} was changed by somebody and stays".format(path) for path in stay] or ["registries.conf.d as it was"]
        return Said("removed", [], said, undo)

    return Change(settled=False, carry_out=carry_it_out)
