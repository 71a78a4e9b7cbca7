"""A node's container engine, as the proof asks it over ssh: what it is, which mirrors it has, and how it pulls an image."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from on_node import containerd
from on_node.containerd_config import parse_dump
from on_node.owned import record_path
from on_node.places import Places
from operations.ssh import NodeError, Shell

ASK_SECONDS = 60
CTR = ("ctr", "--namespace", "docker-cache-proof", "images")
"""In a namespace of its own, where no image of Kubernetes' is touched."""
HOST = re.compile(r"^[ \t]*\[host\.[\"']([^\"']+)[\"']\][ \t]*$", re.MULTILINE)
DEFAULT_FOLDER = "/etc/containerd/certs.d"
CONTAINERDS_RECORD = record_path(Places(), containerd.NAME)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What a node's engine says of itself, and the commands that an image's name follows.

    docker and containerd name their mirrors as URLs, podman without their scheme.
    """

    program: str
    version: str
    mirrors: tuple[str, ...]
    find: tuple[str, ...]
    pull: tuple[str, ...]
    drop: tuple[str, ...]

    def has_mirrors(self, entries: Collection[str]) -> bool:
        return all(entry in self.mirrors or entry.partition("://")[2] in self.mirrors for entry in entries)


async def ask_engines(shell: Shell, wanted: Collection[str]) -> list[Engine]:
    """The node's engines, of those that get the mirror."""
    engines: list[Engine | None] = []
    for program, ask in (("docker", ask_docker), ("podman", ask_podman)):
        if program in wanted and await holds(shell, f"command -v {program}"):
            engines.append(await ask(shell))
    # Docker brings a containerd along, which nobody asks for images unless a kubelet does; the node knows.
    is_used = "command -v ctr" + (f" && test -e {CONTAINERDS_RECORD}" if any(engines) else "")
    if "containerd" in wanted and await holds(shell, is_used):
        engines.append(await ask_containerd(shell))
    return [engine for engine in engines if engine]


async def holds(shell: Shell, condition: str) -> bool:
    """What the node's shell says of a condition: a list of commands whose status counts, and not what they print."""
    question = f"if {{ {condition}; }} >/dev/null 2>&1; then echo yes; fi"
    return bool(await shell.run("sh", "-c", question, seconds=ASK_SECONDS))


async def ask_docker(shell: Shell) -> Engine | None:
    """None where podman goes by docker's name."""
    info = await ask_info(shell, "docker", "{{json .}}")
    if "registries" in info:
        return None
    mirrors = (info.get("RegistryConfig") or {}).get("Mirrors") or []
    return with_images("docker", str(info.get("ServerVersion")), tuple(str(mirror).rstrip("/") for mirror in mirrors))


async def ask_podman(shell: Shell) -> Engine:
    info = await ask_info(shell, "podman", "json")
    registry = (info.get("registries") or {}).get("docker.io") or {}
    mirrors = tuple(str(mirror.get("Location")) for mirror in registry.get("Mirrors") or [])
    return with_images("podman", str((info.get("version") or {}).get("Version")), mirrors)


def with_images(program: str, version: str, mirrors: tuple[str, ...]) -> Engine:
    """Docker and podman have the same commands for images."""
    return Engine(
        program=program,
        version=f"{program} {version}",
        mirrors=mirrors,
        find=(program, "images", "--quiet"),
        pull=(program, "pull", "--quiet"),
        drop=(program, "image", "rm"),
    )


async def ask_containerd(shell: Shell) -> Engine | None:
    """Its own client pulls by the same hosts.toml as CRI does, in a namespace in which nothing is before. None without CRI."""
    version = re.findall(r"Version:\s*v?(\S+)", await shell.run("ctr", "version", seconds=ASK_SECONDS))
    dump = parse_dump(await shell.run("containerd", "config", "dump", seconds=ASK_SECONDS))
    if not dump.has_cri:
        return None
    folder = dump.config_path.split(":")[0] or DEFAULT_FOLDER
    hosts = f"{folder}/docker.io/hosts.toml"
    text = await shell.run("sh", "-c", f"cat '{hosts}' 2>/dev/null || true", seconds=ASK_SECONDS)
    return Engine(
        program="containerd",
        version=f"containerd {version[-1] if version else '?'}",
        mirrors=tuple(mirror.rstrip("/") for mirror in HOST.findall(text)),
        # Never: what the proof has pulled goes again.
        find=("true",),
        pull=(*CTR, "pull", "--hosts-dir", folder),
        drop=(*CTR, "rm", "--sync"),
    )


async def ask_info(shell: Shell, program: str, form: str) -> dict[str, Any]:
    try:
        info: dict[str, Any] = json.loads(await shell.run(program, "info", "--format", form, seconds=ASK_SECONDS))
    except json.JSONDecodeError as error:
        raise NodeError(f"`{program} info` gives no JSON: is it {program}?") from error
    return info
