"""The mirror entry on every node: one `remote.Command` a node."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import pulumi

from components.remote import NodeScript, run_on_node
from rendering import node_command
from settings.access import Access
from settings.model import ENGINES, Engine


@final
@dataclass(frozen=True, kw_only=True)
class NodeMirrorsArgs:
    """The entry (a URL) and the nodes that get it. `certificate` is the CA's PEM text; `insecure` verifies none; `authorization`
    is the header for an entry that asks for credentials.
    """

    entry: str
    nodes: Sequence[Access]
    certificate: str | None
    insecure: bool
    authorization: str | None = field(repr=False)
    engines: Sequence[Engine]
    allow_pending_changes: bool
    allow_restart: bool


class NodeMirrors(pulumi.ComponentResource):
    """Tells each node's container engine to pull through the entry. Deleting a node's Command takes its entry back."""

    results: dict[str, pulumi.Output[dict[str, str]]]
    """What each node said, by the node's name: `state` and `detail`."""

    def __init__(self, name: str, args: NodeMirrorsArgs, opts: pulumi.ResourceOptions) -> None:
        super().__init__("docker-cache:nodes:NodeMirrors", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.results = {
            node.name: run_on_node(node.identity, node, mirror_script(args, node), child).stdout.apply(
                node_command.as_result
            )
            for node in args.nodes
        }
        self.register_outputs({})


def mirror_script(args: NodeMirrorsArgs, node: Access) -> NodeScript:
    """The owner keeps a renamed node's mirror: the old name's Command is deleted after the new one's was made."""
    owner = ("--owner", node.identity)
    waiting = ("--allow-pending-changes",) if args.allow_pending_changes else ()
    insecure = ("--insecure",) if args.insecure else ()
    engines = ("--engines", ",".join(args.engines)) if set(args.engines) != set(ENGINES) else ()
    restart = ("--allow-restart",) if args.allow_restart else ()
    trust = ("--ca", node_command.fingerprint(args.certificate)) if args.certificate else ()
    return NodeScript(
        script="mirror",
        create=("mirror", args.entry, *owner, *trust, *insecure, *engines, *waiting, *restart),
        delete=("remove", *owner, *waiting),
        certificate=args.certificate,
        authorization=args.authorization,
    )
