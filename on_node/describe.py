"""What each engine of this node is, what it has of ours, and what may disappoint: looked at, with nothing changed."""

import os
from typing import List, NamedTuple, Optional

from on_node import containerd, docker, owned, podman
from on_node.address import Entry
from on_node.daemon_json import MIRRORS, alike, off_target
from on_node.errors import Trouble
from on_node.files import read_file
from on_node.hosts_toml import names_host
from on_node.places import Places
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


def describe_docker(places: Places, entry: Optional[Entry]) -> Optional[Description]:
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
    return Description("docker", version, docker_mirror(node, entry), running, docker_cautions(node))


def describe_containerd(places: Places, entry: Optional[Entry]) -> Optional[Description]:
    """This node's containerd as it is, where images are pulled by it, and the state of the mirror."""
    found, record = containerd.find(places), owned.load(places, containerd.NAME)
    if found is None or not (containerd.is_used(places) or record["files"]):
        return Description("containerd", "gone", CHANGED, None, []) if record["files"] else None
    mirror = containerd_mirror(places, found, entry, record)
    return Description("containerd", found.version_text, mirror, None, scarce(CONTAINERD_ROOT))


def describe_podman(places: Places, entry: Optional[Entry]) -> Optional[Description]:
    """This node's podman and its kin as they are, and the state of the mirror."""
    found, record = podman.find_tools(), owned.load(places, podman.NAME)
    if not found:
        return Description(podman.NAME, "gone", CHANGED, None, []) if record["files"] else None
    try:
        state = podman_mirror(places, entry, record)
    except Trouble:
        state = UNKNOWN
    return Description(podman.NAME, ", ".join(podman.told(found)), state, None, [])


def podman_mirror(places: Places, entry: Optional[Entry], record: owned.Record) -> str:
    """Whether the files have the mirror, or without an entry, one that is ours. Raises Trouble where they can't be read."""
    blocks = [path for path in record["files"] if owned.without_block(read_file(path)[0]) != read_file(path)[0]]
    if entry is None:
        return LIVE if blocks else CHANGED if record["files"] else ABSENT
    wanted, registries = podman.wanted_files(places, entry, record)
    if all(read_file(file.path)[0] == file.raw for file in wanted):
        return FOREIGN if registries.raw is None else LIVE
    return ANOTHER if blocks else CHANGED if record["files"] else ABSENT


def containerd_mirror(
    places: Places, found: containerd.Containerd, entry: Optional[Entry], record: owned.Record
) -> str:
    """Whether containerd has the mirror, or without an entry, one that is ours."""
    try:
        dump = containerd.config_dump(found, found.config)
    except Trouble:
        return UNKNOWN
    folders = containerd.folders_of(found, dump)
    place = containerd.folder_of(folders or [containerd.config_path(dump)])
    raw = read_file(os.path.join(place, "hosts.toml"))[0]
    is_ours = raw is not None and owned.without_block(raw) != raw
    is_named = names_host(raw, entry.url) if entry else is_ours
    if is_named:
        is_live = bool(folders) and containerd.is_in_force(places, found, dump)
        return WRITTEN if not is_live else LIVE if is_ours else FOREIGN
    return ANOTHER if is_ours else CHANGED if record["files"] else ABSENT


def docker_mirror(node: docker.Node, entry: Optional[Entry]) -> str:
    """Whether docker has the mirror, or without an entry, the one that is ours."""
    ours = (node.record["owned"].get(MIRRORS, []) if node.record else []) or [None]
    wanted = entry.url if entry else ours[0]
    is_written = wanted is not None and any(alike(MIRRORS, item, wanted) for item in node.doc.get(MIRRORS, []))
    if is_written and not off_target(node.info, {MIRRORS: [str(wanted)]}, {}):
        return LIVE if node.record else FOREIGN
    if is_written:
        return WRITTEN
    if node.record is None:
        return ABSENT
    is_ours = any(alike(MIRRORS, item, ours[0] or "") for item in node.doc.get(MIRRORS, []))
    return ANOTHER if is_ours else CHANGED


def docker_cautions(node: docker.Node) -> List[str]:
    """What is worth knowing before a docker is relied on."""
    if not node.info:
        return []
    found = scarce(str(node.info.get("DockerRootDir") or "/var/lib/docker"))
    if not node.info.get("LiveRestoreEnabled"):
        found.append(
            "live-restore is off: whoever restarts docker ends its containers (docker-cache only reloads it); "
            "set 'live-restore' in daemon.json and reload docker, if that is not wanted"
        )
    return found
