"""Storage that outlives the registry's pod: a folder on the first master, a PersistentVolumeClaim, or Azure Blob Storage.

The data is kept when the stack goes, unless `delete_data` was set in an update before.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import pulumi
import pulumi_kubernetes as k8s
from pulumi_command import local

from components.azure_account import AzureAccount, AzureAccountArgs
from components.metadata import metadata
from components.pod import USER_ID
from components.remote import NodeScript, forget_on_node, run_on_node
from settings.access import Access


@final
@dataclass(frozen=True, kw_only=True)
class FolderArgs:
    """`path` on the node called `node_name`, which `access` reaches. On `forgotten` nodes it may have been before."""

    path: str
    node_name: str
    access: Access
    forgotten: Sequence[Access]
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
    """A blob container. `account` is one to create; without it the account exists, and `key` is its key. Neither a key given nor
    one of an account that is created: the registry signs in by the identity that it runs with.
    """

    account_name: str
    container_name: str
    service_url: str
    key: str | None = field(repr=False)
    account: AzureAccountArgs | None


StorageArgs = FolderArgs | ClaimArgs | ExistingClaimArgs | AzureArgs


class CacheStorage(pulumi.ComponentResource):
    """Gives the pod its volume, where there is one; `node_name` pins it where the volume is a folder."""

    volume: k8s.core.v1.VolumeArgsDict | None = None
    location: pulumi.Input[str]
    node_name: str | None = None
    secret_environment: Mapping[str, pulumi.Input[str]]
    """What the registry needs to use it: Distribution reads its configuration from REGISTRY_… too."""
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
        self.secret_environment = {}
        match args:
            case FolderArgs():
                self._create_folder(args, child)
            case ClaimArgs():
                self._create_claim(name, namespace, args, pulumi.ResourceOptions.merge(child, kubernetes))
            case ExistingClaimArgs():
                self._use_claim(args.name)
                self.location = f"claim {args.name}"
            case AzureArgs():
                self._use_container(name, args, child)
        self.register_outputs({"location": self.location})

    def _create_folder(self, args: FolderArgs, opts: pulumi.ResourceOptions) -> None:
        # Made over ssh, not by the kubelet: a hostPath that the kubelet makes is root's, and the registry is not root.
        owner = (str(USER_ID), str(USER_ID))
        flags = ("--delete-data",) if args.delete_data else ()
        script = NodeScript(
            script="cache_folder", create=("prepare", args.path, *owner), delete=("release", args.path, *flags)
        )
        run_on_node(folder_name(args.access, args.path), args.access, script, opts)
        for node in args.forgotten:
            forget_on_node(folder_name(node, args.path), node, opts)
        self.volume = {"name": "store", "host_path": {"path": args.path, "type": "Directory"}}
        self.location = f"{args.node_name}:{args.path}"
        self.node_name = args.node_name

    def _use_container(self, name: str, args: AzureArgs, opts: pulumi.ResourceOptions) -> None:
        self.location = f"azure:{args.account_name}/{args.container_name}"
        account = AzureAccount(f"{name}-account", args.account, opts) if args.account else None
        key: pulumi.Input[str] | None = account.key if account else args.key
        if key is None:
            return
        self.secret_environment = {"REGISTRY_STORAGE_AZURE_ACCOUNTKEY": key}
        after = pulumi.ResourceOptions(depends_on=[account] if account else [])
        prove_container(name, args, key, pulumi.ResourceOptions.merge(opts, after))

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


def folder_name(access: Access, path: str) -> str:
    """By its place, not by the node's name: a renamed node's old folder is the new one's, and must not be released."""
    return f"cache-folder-{access.host}:{path}"


def prove_container(name: str, args: AzureArgs, key: pulumi.Input[str], opts: pulumi.ResourceOptions) -> None:
    """Before the registry starts, and again whenever account, container or key change."""
    given = {"url": args.service_url, "account": args.account_name, "container": args.container_name}
    stays = f"released: the cached blobs stay in container {args.container_name} of account {args.account_name}"
    local.Command(
        f"{name}-proof",
        create=".venv/bin/python on_host/azure_store.py",
        delete=f"echo {shlex.quote(stays)}",
        stdin=pulumi.Output.json_dumps({**given, "key": pulumi.Output.secret(key)}),
        add_previous_output_in_env=False,
        opts=opts,
    )
