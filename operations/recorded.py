"""What the stack's state says of the nodes: which have been given the mirror, and which one.

Read from the state and not from the outputs, which an update that fails at one node leaves as they were for all.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from operations import stacks
from operations.stacks import OperationError, StackName
from rendering.node_command import as_result

NODE_COMMAND = "docker-cache:nodes:NodeMirrors$command:remote:Command"
CACHE = "docker-cache:registry:RegistryCache$kubernetes:apps/v1:Deployment"
PROGRAM = "mirror"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A node's Command, as it last succeeded. `state` is None where the state keeps it as a secret; `also` and `upstreams` are
    the entry's further hosts and the registries besides Docker Hub.
    """

    urn: str
    entry: str
    state: str | None
    also: str = ""
    upstreams: str = ""

    def gives(self, words: Sequence[str]) -> bool:
        """Whether a command with these words would give the node the same mirror."""
        return (self.entry, self.also, self.upstreams) == mirror_in(words)


@dataclass(frozen=True, kw_only=True)
class State:
    """The nodes by their identities, and whether a cache of the stack's own was brought up."""

    nodes: Mapping[str, Recorded]
    has_cache: bool


def read(stack: StackName) -> State:
    """Raises OperationError."""
    deployment: Mapping[str, Any] = export(stack).get("deployment") or {}
    resources = deployment.get("resources") or []
    return State(
        nodes=dict(of_node(item) for item in resources if is_of_node(item)),
        has_cache=any(type_of(item) == CACHE for item in resources),
    )


def export(stack: StackName) -> dict[str, Any]:
    """The whole state, secrets encrypted. Raises OperationError."""
    exported = stacks.run_quietly(stack.pulumi("stack", "export"))
    if exported.returncode:
        raise OperationError(f"pulumi can't read the state of {stack.name}: {exported.stderr.strip()}")
    state: dict[str, Any] = json.loads(exported.stdout)
    return state


def is_of_node(item: Mapping[str, Any]) -> bool:
    """One that waits for its deletion, after its replacement, is none."""
    return type_of(item) == NODE_COMMAND and not item.get("delete") and PROGRAM in create_words(item)


def type_of(item: Mapping[str, Any]) -> str:
    """With those of its parents."""
    return str(item["urn"]).split("::")[2]


def of_node(item: Mapping[str, Any]) -> tuple[str, Recorded]:
    words, stdout = create_words(item), (item.get("outputs") or {}).get("stdout")
    urn = str(item["urn"])
    entry, also, upstreams = mirror_in(words)
    recorded = Recorded(
        urn=urn,
        entry=entry,
        state=as_result(stdout)["state"] if isinstance(stdout, str) else None,
        also=also,
        upstreams=upstreams,
    )
    return urn.rpartition("::")[2], recorded


def mirror_in(words: Sequence[str]) -> tuple[str, str, str]:
    """The mirror that a node's command names: the entry, its further hosts, and further registries."""
    entry, also, upstreams = (
        words[words.index(word) + 1] if word in words else "" for word in (PROGRAM, "--also", "--upstreams")
    )
    return entry, also, upstreams


def create_words(item: Mapping[str, Any]) -> list[str]:
    create = (item.get("inputs") or {}).get("create")
    return shlex.split(create) if isinstance(create, str) else []
