"""The mirror entry on every node: one `remote.Command` a node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final
from urllib.parse import urlsplit

import pulumi
from pulumi_command import remote

from components.remote import NodeScript, forget_on_node, run_on_node
from rendering import node_command
from settings.access import Access
from settings.model import ENGINES, Engine

FORGOTTEN = {"state": "forgotten", "detail": "gone for good: what was done there stays"}


@final
@dataclass(frozen=True, kw_only=True)
class NodeMirrorsArgs:
    """The nodes and by name the entries (URLs) that each gets, the one called `canary` before all others. `forgotten` ones are
    gone for good. `upstreams` are the registries besides Docker Hub that the entries serve, by their hosts. `certificate` is the
    CA's PEM text; `insecure` verifies none; `authorization` is the header for an entry that asks for credentials. `proof_image`
    is what docker pulls once it has the mirror. `generations` counts by node's name how often `make heal` had it done again.
    """

    entries: Mapping[str, Sequence[str]]
    upstreams: Sequence[str]
    nodes: Sequence[Access]
    canary: str | None
    forgotten: Sequence[Access]
    certificate: str | None
    insecure: bool
    authorization: str | None = field(repr=False)
    engines: Sequence[Engine]
    allow_pending_changes: bool
    allow_restart: bool
    proof_image: str | None
    generations: Mapping[str, int] = field(default_factory=dict)


class NodeMirrors(pulumi.ComponentResource):
    """Tells each node's container engine to pull through the entry. Deleting a node's Command takes its entry back.

    All other nodes depend on the canary: where it fails, they are left alone. Waves are no part of this: depending on each other,
    they would tolerate no failure at all.
    """

    results: dict[str, pulumi.Output[dict[str, str]]]
    """What each node said, by the node's name: `state` and `detail`."""

    def __init__(self, name: str, args: NodeMirrorsArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("docker-cache:nodes:NodeMirrors", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        commands: dict[str, remote.Command] = {}
        after = child
        for node in sorted(args.nodes, key=lambda node: node.name != args.canary):
            commands[node.name] = run_on_node(node.identity, node, mirror_script(args, node), after)
            if node.name == args.canary:
                after = pulumi.ResourceOptions(parent=self, depends_on=[commands[node.name]])
        self.results = {name: command.stdout.apply(node_command.as_result) for name, command in commands.items()}
        for node in args.forgotten:
            forget_on_node(node.identity, node, child)
            self.results[node.name] = pulumi.Output.from_input(FORGOTTEN)
        self.register_outputs({})


def mirror_script(args: NodeMirrorsArgs, node: Access) -> NodeScript:
    """The owner keeps a renamed node's mirror: the old name's Command is deleted after the new one's was made."""
    owner = ("--owner", node.identity)
    entry, *others = args.entries[node.name]
    # They differ in their hosts alone, and a preview shows this line.
    also = ("--also", ",".join(str(urlsplit(each).hostname) for each in others)) if others else ()
    upstreams = ("--upstreams", ",".join(args.upstreams)) if args.upstreams else ()
    waiting = ("--allow-pending-changes",) if args.allow_pending_changes else ()
    insecure = ("--insecure",) if args.insecure else ()
    engines = ("--engines", ",".join(args.engines)) if set(args.engines) != set(ENGINES) else ()
    restart = ("--allow-restart",) if args.allow_restart else ()
    trust = ("--ca", node_command.fingerprint(args.certificate)) if args.certificate else ()
    proof = ("--proof", args.proof_image) if args.proof_image else ()
    generation = args.generations.get(node.name)
    healed = ("--generation", str(generation)) if generation else ()
    return NodeScript(
        script="mirror",
        create=(
            *("mirror", entry, *also, *upstreams, *owner),
            *(*trust, *insecure, *engines, *waiting, *restart, *proof, *healed),
        ),
        delete=("remove", *owner, *waiting),
        certificate=args.certificate,
        authorization=args.authorization,
    )
