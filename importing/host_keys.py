"""The nodes' ssh host keys: those that the stack has already, and those that a scan has found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from importing.result import Imported, NodeSettings, Setting
from settings.host_keys import preferred_key

KEYS = ("host_key", "host_key_path")

Known = Mapping[tuple[str, str], Mapping[str, str]]
"""What the stack has, by a node's name and address: `host_key` or `host_key_path`."""
Scanned = Mapping[tuple[str, int], str]
"""What answered, by address and port: `ssh-ed25519 AAAA…`."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a node's sshd answers."""

    name: str
    host: str
    port: int


def places(imported: Imported) -> list[Place]:
    """The nodes whose address and port can be asked."""
    shared = imported.get("docker_cache_ssh_port")
    found = []
    for node in imported.nodes or ():
        port = node.get("port") or shared or "22"
        if node.address and isinstance(port, str) and port.isdecimal():
            found.append(Place(name=node.name, host=node.address, port=int(port)))
    return found


def with_host_keys(imported: Imported, known: Known, scanned: Scanned) -> Imported:
    """A key that the stack has is kept: one that answers otherwise now is for the administrator to judge."""
    at = {place.name: (place.host, place.port) for place in places(imported)}
    nodes = tuple(
        with_key(node, known, scanned.get(at[node.name]) if node.name in at else None) for node in imported.nodes or ()
    )
    return replace(imported, nodes=nodes if imported.nodes is not None else None)


def with_key(node: NodeSettings, known: Known, answered: str | None) -> NodeSettings:
    kept = known.get((node.name, node.address or ""), {})
    if kept:
        for key, value in kept.items():
            node = node.with_setting(Setting(key=key, value=value, source="as it was in the stack"))
        return node
    return (
        node.with_setting(Setting(key="host_key", value=answered, source="what answered at the import"))
        if answered
        else node
    )


def changed(imported: Imported, known: Known, scanned: Scanned) -> list[Place]:
    """Nodes that show another key than the stack has."""
    found = []
    for place in places(imported):
        kept, answered = known.get((place.name, place.host), {}).get("host_key"), scanned.get((place.host, place.port))
        if kept and answered and preferred_key(kept) != preferred_key(answered):
            found.append(place)
    return found


def known_keys(nodes: Sequence[Mapping[str, object]]) -> dict[tuple[str, str], dict[str, str]]:
    """Of a stack's docker_cache_nodes."""
    return {
        (str(node.get("name")), str(node.get("host"))): {key: str(node[key]) for key in KEYS if node.get(key)}
        for node in nodes
        if any(node.get(key) for key in KEYS)
    }
