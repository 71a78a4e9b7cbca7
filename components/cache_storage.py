"""Storage that outlives the registry's pod: a folder on the first master, a PersistentVolumeClaim, or Azure Blob Storage.

The data is kept when the stack goes, unless `delete_data` was set in an update before.
"""

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
    delete_data: bool


@final
@dataclass(frozen=True, kw_only=True)
class ClaimArgs:
    """A claim of `size` from `storage_class`."""

    storage_class: str
    size: str
    delete_data: bool


@final
@dataclass(frozen=True, kw_only=True)
class ExistingClaimArgs:
    """A claim that somebody else has made, in the cache's namespace."""

    name: str


@final
@dataclass(frozen=True, kw_only=True)
class AzureArgs:
    """A blob container of a storage account; its key is in the registry's secret environment."""

    account_name: str
    container_name: str


StorageArgs = FolderArgs | ClaimArgs | ExistingClaimArgs | AzureArgs


class CacheStorage(pulumi.ComponentResource):
    """Gives the pod its volume, where there is one; `node_name` pins it where the volume is a folder."""

    volume: k8s.core.v1.VolumeArgsDict | None = None
    location: pulumi.Input[str]
    node_name: str | None = None
    is_shared: bool = True
    """Whether two pods may have the store at once, as they do while one takes the other's place."""

    def __init__(
        self,
        name: str,
        args: StorageArgs,
        opts: pulumi.ResourceOptions,
        *,
        kubernetes: pulumi.ResourceOptions,
        namespace: str,
    ) -> None:
        super().__init__("docker-cache:storage:CacheStorage", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        match args:
            case FolderArgs():
                self._create_folder(args, child)
            case ClaimArgs():
                self._create_claim(name, namespace, args, pulumi.ResourceOptions.merge(child, kubernetes))
            case ExistingClaimArgs():
                self._use_claim(args.name)
                self.location = f"claim {args.name}"
            case AzureArgs():
                self.location = f"azure:{args.account_name}/{args.container_name}"
        self.register_outputs({"location": self.location})

    def _create_folder(self, args: FolderArgs, opts: pulumi.ResourceOptions) -> None:
        # Made over ssh, not by the kubelet: a hostPath that the kubelet makes is root's, and the registry is not root.
        owner = (str(USER_ID), str(USER_ID))
        flags = ("--delete-data",) if args.delete_data else ()
        script = NodeScript(
            script="cache_folder.py", create=("prepare", args.path, *owner), delete=("release", args.path, *flags)
        )
        # By its place, not by the node's name: a renamed node's old folder is the new one's, and must not be released.
        run_on_node(f"cache-folder-{args.access.host}:{args.path}", args.access, script, opts)
        self.volume = {"name": "store", "host_path": {"path": args.path, "type": "Directory"}}
        self.location = f"{args.node_name}:{args.path}"
        self.node_name = args.node_name

    def _create_claim(self, name: str, namespace: str, args: ClaimArgs, opts: pulumi.ResourceOptions) -> None:
        claim = k8s.core.v1.PersistentVolumeClaim(
            name,
            metadata=metadata(namespace),
            spec={
                "access_modes": ["ReadWriteOnce"],
                "storage_class_name": args.storage_class,
                "resources": {"requests": {"storage": args.size}},
            },
            opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(retain_on_delete=not args.delete_data)),
        )
        self._use_claim(claim.metadata.name)
        # Named, since a claim that was kept is used again by its name (docker_cache_fs_claim).
        self.location = pulumi.Output.concat("claim ", claim.metadata.name)

    def _use_claim(self, claim_name: pulumi.Input[str]) -> None:
        self.volume = {"name": "store", "persistent_volume_claim": {"claim_name": claim_name}}
        self.is_shared = False
