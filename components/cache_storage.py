"""Storage that outlives the registry's pod: a folder on the first master, or a PersistentVolumeClaim."""

from dataclasses import dataclass
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.metadata import metadata
from components.remote import NodeScript, run_on_node
from settings.access import Access

USER_ID = 65532
"""The registry's user and group; unprivileged, and no user of any distribution."""


@final
@dataclass(frozen=True, kw_only=True)
class FolderArgs:
    """`path` on the node called `node_name`, which `access` reaches."""

    path: str
    node_name: str
    access: Access


@final
@dataclass(frozen=True, kw_only=True)
class ClaimArgs:
    """A claim of `size` from `storage_class`."""

    storage_class: str
    size: str


class CacheStorage(pulumi.ComponentResource):
    """Gives the pod its volume; `node_name` pins it where the volume is a folder."""

    volume: k8s.core.v1.VolumeArgsDict
    location: str
    node_name: str | None

    def __init__(
        self,
        name: str,
        args: FolderArgs | ClaimArgs,
        opts: pulumi.ResourceOptions,
        *,
        kubernetes: pulumi.ResourceOptions,
    ) -> None:
        super().__init__("docker-cache:storage:CacheStorage", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        match args:
            case FolderArgs():
                self._create_folder(args, child)
            case ClaimArgs():
                self._create_claim(name, args, pulumi.ResourceOptions.merge(child, kubernetes))
        self.register_outputs({"location": self.location})

    def _create_folder(self, args: FolderArgs, opts: pulumi.ResourceOptions) -> None:
        # Made over ssh, not by the kubelet: a hostPath that the kubelet makes is root's, and the registry is not root.
        owner = (str(USER_ID), str(USER_ID))
        script = NodeScript(
            script="cache_folder.py", create=("prepare", args.path, *owner), delete=("release", args.path)
        )
        run_on_node(f"cache-folder-{args.access.identity}", args.access, script, opts)
        self.volume = {"name": "store", "host_path": {"path": args.path, "type": "Directory"}}
        self.location = f"{args.node_name}:{args.path}"
        self.node_name = args.node_name

    def _create_claim(self, name: str, args: ClaimArgs, opts: pulumi.ResourceOptions) -> None:
        claim = k8s.core.v1.PersistentVolumeClaim(
            name,
            metadata=metadata(),
            spec={
                "access_modes": ["ReadWriteOnce"],
                "storage_class_name": args.storage_class,
                "resources": {"requests": {"storage": args.size}},
            },
            opts=opts,
        )
        self.volume = {"name": "store", "persistent_volume_claim": {"claim_name": claim.metadata.name}}
        self.location = f"claim of {args.size} from storage class {args.storage_class}"
        self.node_name = None
