"""What each engine of this node is, what it has of ours, and what may disappoint: looked at, with nothing changed."""

import os
from typing import List, NamedTuple, Optional

from on_node import containerd, docker, owned, podman
from on_node.address import HUB, Mirror
from on_node.daemon_json import MIRRORS, alike, off_target
from on_node.errors import Trouble
from on_node.files import read_file
from on_node.hosts_toml import missing
from on_node.places import Places
from on_node.registries_conf import location
from on_node.room import scarce

CONTAINERD_ROOT = "/var/lib/containerd"

LIVE = "live"
"""The engine has the mirror, and it is ours."""
FOREIGN = "foreign"
"""The engine has the mirror, by an entry of the administrator's own."""
WRITTEN = "written"
"""The entry is in the file, and the engine does not have it: it is stopped, or was not reloaded."""
ANOTHER = "another"
"""What is ours here is another mirror, that of an earlier configuration."""
CHANGED = "changed"
"""Our record is here, and the mirror is not: somebody took it out."""
ABSENT = "absent"
UNKNOWN = "unknown"
"""The engine or its file can't be read."""

Description = NamedTuple(
    "Description",
    [("engine", str), ("version", str), ("mirror", str), ("containers", Optional[int]), ("cautions", List[str])],
)
"""An engine as it is: ``mirror`` is one of the above, ``cautions`` are what works and may disappoint."""


def describe_docker(places: Places, mirror: Optional[Mirror]) -> Optional[Description]:
    """This node's docker as it is, and the state of the mirror, or of what is ours; None where there is none."""
    found, record = docker.find_docker(places), docker.load_record(places)
    if found is None:
        return None if record is None else Description("docker", "gone", CHANGED, None, [])
    try:
        node = docker.look(record, found, os.path.realpath(found.config))
    except Trouble:
        return Description("docker", "", UNKNOWN, None, [])
    version = str(node.info.get("ServerVersion", "?")) if node.info else "stopped"
    running = node.info.get("ContainersRunning")
    return Description("docker", version, docker_mirror(node, mirror), running, docker_cautions(node, mirror))


def describe_containerd(places: Places, mirror: Optional[Mirror]) -> Optional[Description]:
    """This node's containerd as it is, where images are pulled by it, and the state of the mirror."""
    found, record = containerd.find(places), owned.load(places, containerd.NAME)
    if found is None or not (containerd.is_used(places) or record["files"]):
        return Description("containerd", "gone", CHANGED, None, []) if record["files"] else None
    state = containerd_mirror(places, found, mirror, record)
    return Description("containerd", found.version_text, state, None, scarce(CONTAINERD_ROOT))


def describe_podman(places: Places, mirror: Optional[Mirror]) -> Optional[Description]:
    """This node's podman and its kin as they are, and the state of the mirror."""
    found, record = podman.find_tools(), owned.load(places, podman.NAME)
    if not found:
        return Description(podman.NAME, "gone", CHANGED, None, []) if record["files"] else None
    try:
        state = podman_mirror(places, mirror, record)
    except Trouble:
        state = UNKNOWN
    return Description(podman.NAME, ", ".join(podman.told(found)), state, None, [])


def podman_mirror(places: Places, mirror: Optional[Mirror], record: owned.Record) -> str:
    """Whether the files have the mirror, or without one, any that is ours. Raises Trouble where they can't be read."""
    kept = [path for path in record["files"] if path.endswith(".conf")]
    ours = [path for path in kept if has_block(path)]
    if mirror is None:
        return LIVE if ours else CHANGED if record["files"] else ABSENT
    wanted, registries = podman.wanted_files(places, mirror, record)
    if all(read_file(file.path)[0] == file.raw for file in wanted):
        return LIVE if registries.files else FOREIGN
    return what_is_left(ours, kept, record)


def containerd_mirror(
    places: Places, found: containerd.Containerd, mirror: Optional[Mirror], record: owned.Record
) -> str:
    """Whether containerd has the mirror for each registry, or without one, any that is ours."""
    try:
        dump = containerd.config_dump(found, found.config)
    except Trouble:
        return UNKNOWN
    folders = containerd.folders_of(found, dump)
    upstreams = mirror.upstreams if mirror else [HUB]
    there = [containerd.folder_of(folders or [containerd.config_path(dump)], upstream) for upstream in upstreams]
    kept = [path for path in record["files"] if path.endswith("hosts.toml")]
    ours = [path for path in {os.path.join(folder, "hosts.toml") for folder in there} | set(kept) if has_block(path)]
    if all(has_mirror(folder, mirror) for folder in there) if mirror else ours:
        is_live = bool(folders) and containerd.is_in_force(places, found, dump)
        return WRITTEN if not is_live else LIVE if ours else FOREIGN
    return what_is_left(ours, kept, record)


def has_mirror(folder: str, mirror: Mirror) -> bool:
    """Whether containerd finds the mirror where it looks for a registry whose folder this is."""
    path = os.path.join(folder, "hosts.toml")
    raw = read_file(path)[0]
    return not missing(containerd.for_all(folder)[0] if raw is None else raw, mirror.entries, path)


def has_block(path: str) -> bool:
    """Whether there is something of ours in a file that is not ours alone."""
    raw = read_file(path)[0]
    return owned.without_block(raw) != raw


def what_is_left(ours: List[str], kept: List[str], record: owned.Record) -> str:
    """What to say where the mirror is not there: `kept` are the files that something of ours was put into, `ours` have it."""
    if ours and set(kept) <= set(ours):
        return ANOTHER
    return CHANGED if record["files"] else ABSENT


def docker_mirror(node: docker.Node, mirror: Optional[Mirror]) -> str:
    """Whether docker has the mirror, or without one, what is ours."""
    ours = node.record["owned"].get(MIRRORS, []) if node.record else []
    wanted = [entry.url for entry in mirror.entries] if mirror else ours
    is_written = bool(wanted) and all(is_listed(node, url) for url in wanted)
    if is_written and not off_target(node.info, {MIRRORS: wanted}, {}):
        return LIVE if node.record else FOREIGN
    if is_written:
        return WRITTEN
    if node.record is None:
        return ABSENT
    return ANOTHER if any(is_listed(node, url) for url in ours) else CHANGED


def is_listed(node: docker.Node, url: str) -> bool:
    """Whether docker's file has this mirror."""
    return any(alike(MIRRORS, item, url) for item in node.doc.get(MIRRORS, []))


def docker_cautions(node: docker.Node, mirror: Optional[Mirror]) -> List[str]:
    """What is worth knowing before a docker is relied on."""
    if not node.info:
        return []
    found, others = [], mirror.upstreams[1:] if mirror else []
    if mirror and others:
        found.append(
            "docker has mirrors for Docker Hub alone: images of {} do not come through the cache; pull them by its own name, "
            "{}/…, where they should".format(", ".join(others), location(others[0], mirror.entries[0]))
        )
    found += scarce(str(node.info.get("DockerRootDir") or "/var/lib/docker"))
    if not node.info.get("LiveRestoreEnabled"):
        found.append(
            "live-restore is off: whoever restarts docker ends its containers (docker-cache only reloads it); "
            "set 'live-restore' in daemon.json and reload docker, if that is not wanted"
        )
    return found
