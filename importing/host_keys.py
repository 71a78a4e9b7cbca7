"""The nodes' ssh host keys: those that the stack has already, and those that a scan has found."""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from importing.bastions import BASTION
from importing.result import NODES, Imported, NodeSettings, Setting, Value
from settings.host_keys import preferred_key

KEYS = ("host_key", "host_key_path")

Known = Mapping[tuple[str, str], Mapping[str, str]]
"""What the stack has, by a node's name and address: `host_key` or `host_key_path`."""
Scanned = Mapping[tuple[str, int], str]
"""What answered, by address and port: `ssh-ed25519 AAAA…`."""


class Way(enum.Enum):
    """How a machine is reached."""

    DIRECT = "directly"
    BASTION = "through docker_cache_ssh_bastion"
    OWN_BASTION = "through a bastion of its own"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a node's or a bastion's sshd answers."""

    name: str
    host: str
    port: int
    way: Way = Way.DIRECT


def places(imported: Imported) -> list[Place]:
    """The machines whose address and port can be asked, bastions first."""
    stacks = imported.get(BASTION)
    found = [place_of_bastion(BASTION, stacks)] if isinstance(stacks, dict) else []
    for node in imported.nodes or ():
        own, port = node.get("bastion"), node.get("port") or imported.get("docker_cache_ssh_port") or "22"
        if isinstance(own, dict):
            found.append(place_of_bastion(name_of_bastion(node), own))
        behind = (
            Way.OWN_BASTION if own is not None else Way.BASTION if stacks and not node.get("direct") else Way.DIRECT
        )
        found.append(place_of(node.name, node.address, port, behind))
    return [place for place in found if place]


def place_of(name: str, host: object, port: object, way: Way = Way.DIRECT) -> Place | None:
    if not (isinstance(host, str) and host and isinstance(port, str) and port.isdecimal()):
        return None
    return Place(name=name, host=host, port=int(port), way=way)


def place_of_bastion(name: str, bastion: Mapping[str, Value]) -> Place | None:
    return place_of(name, bastion.get("host"), bastion.get("port", "22"))


def name_of_bastion(node: NodeSettings) -> str:
    return f"{node.name}.bastion"


def with_host_keys(imported: Imported, known: Known, scanned: Scanned) -> Imported:
    """A key that the stack has is kept: one that answers otherwise now is for the administrator to judge."""
    at = {place.name: place for place in places(imported)}

    def keys_of(name: str, host: object) -> Iterator[Setting]:
        place = at.get(name)
        kept = known.get((name, str(host)), {})
        answered = scanned.get((place.host, place.port)) if place else None
        if kept:
            yield from (Setting(key=key, value=value, source="as it was in the stack") for key, value in kept.items())
        elif answered:
            yield Setting(key="host_key", value=answered, source="what answered at the import")

    def with_keys(setting: Setting, name: str) -> Setting:
        """Of a setting that is a bastion."""
        if not isinstance(setting.value, dict):
            return setting
        found = keys_of(name, setting.value.get("host"))
        return replace(setting, value=setting.value | {key.key: plain_text(key) for key in found})

    def node_with_keys(node: NodeSettings) -> NodeSettings:
        own = [with_keys(item, name_of_bastion(node)) if item.key == "bastion" else item for item in node.settings]
        return replace(node, settings=(*own, *keys_of(node.name, node.address or "")))

    return replace(
        imported,
        settings=tuple(with_keys(item, BASTION) if item.key == BASTION else item for item in imported.settings),
        nodes=tuple(node_with_keys(node) for node in imported.nodes) if imported.nodes is not None else None,
    )


def plain_text(setting: Setting) -> str:
    return setting.value if isinstance(setting.value, str) else ""


def changed(imported: Imported, known: Known, scanned: Scanned) -> list[Place]:
    """Machines that show another key than the stack has."""
    found = []
    for place in places(imported):
        kept, answered = known.get((place.name, place.host), {}).get("host_key"), scanned.get((place.host, place.port))
        if kept and answered and preferred_key(kept) != preferred_key(answered):
            found.append(place)
    return found


def known_keys(values: Mapping[str, object]) -> dict[tuple[str, str], dict[str, str]]:
    """Of a stack's configuration."""
    nodes = values.get(NODES)
    listed = [node for node in nodes if isinstance(node, Mapping)] if isinstance(nodes, list) else []
    machines = [
        (BASTION, values.get(BASTION)),
        *((f"{node.get('name')}.bastion", node.get("bastion")) for node in listed),
        *((str(node.get("name")), node) for node in listed),
    ]
    return {
        (name, str(machine.get("host"))): {key: str(machine[key]) for key in KEYS if machine.get(key)}
        for name, machine in machines
        if isinstance(machine, Mapping) and any(machine.get(key) for key in KEYS)
    }
