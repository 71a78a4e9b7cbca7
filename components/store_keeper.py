"""What keeps the stores of the file-system backend in order: a sidecar of the registry, and one of the front, which tells it what
is asked for there. One keeper has the stores of all upstreams, since they share one bound.
"""

from dataclasses import dataclass
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.metadata import metadata, upstream_labels
from components.pod import Sidecar, few_rights
from components.upstream_registry import SKIP_AWAIT
from rendering import keeper, registry, varnish
from settings.model import DOCKER_IO

SCRIPTS_VOLUME = "keeper-scripts"


@final
@dataclass(frozen=True, kw_only=True)
class KeeperArgs:
    """Bounds of 0 are none. `image` is the registry's, whose shell runs the script, `front_image` the front's."""

    namespace: str
    image: str
    front_image: str
    most_kib: int
    ttl_seconds: int


@final
@dataclass(frozen=True, kw_only=True)
class Keeper:
    """Beside the registry that has Docker Hub's store, and beside every front."""

    in_registry: Sidecar
    in_front: Sidecar


def create_keeper(name: str, args: KeeperArgs, opts: pulumi.ResourceOptions) -> Keeper:
    scripts = k8s.core.v1.ConfigMap(
        name, metadata=metadata(args.namespace), data=keeper.files(), immutable=True, opts=opts
    )
    volume: k8s.core.v1.VolumeArgsDict = {
        "name": SCRIPTS_VOLUME,
        "config_map": {"name": scripts.metadata.name},
    }
    service = create_service(args.namespace, opts)
    return Keeper(
        in_registry=Sidecar(
            container=keeping_container(args),
            # For its lock alone, which a full disk is to leave room for.
            volumes=[volume, {"name": "keeper-work", "empty_dir": {"medium": "Memory", "size_limit": "1Mi"}}],
        ),
        in_front=Sidecar(container=reporting_container(args, service.spec.cluster_ip), volumes=[volume]),
    )


def create_service(namespace: str, opts: pulumi.ResourceOptions) -> k8s.core.v1.Service:
    """For the fronts, which wait for nothing behind it: what they could not tell they tell again."""
    name = "docker-cache-keeper"
    return k8s.core.v1.Service(
        name,
        metadata={**metadata(namespace, name), "annotations": SKIP_AWAIT},
        spec={
            "selector": upstream_labels(DOCKER_IO),
            "publish_not_ready_addresses": True,
            "ports": [{"name": "keeper", "port": keeper.PORT, "target_port": keeper.PORT_NAME}],
        },
        opts=opts,
    )


def keeping_container(args: KeeperArgs) -> k8s.core.v1.ContainerArgsDict:
    return {
        "name": keeper.CONTAINER,
        "image": args.image,
        "command": list(keeper.command(args.most_kib, args.ttl_seconds)),
        "ports": [{"name": keeper.PORT_NAME, "container_port": keeper.PORT}],
        "security_context": few_rights(),
        "volume_mounts": [
            {"name": "store", "mount_path": registry.STORE},
            scripts_mount(),
            {"name": "keeper-work", "mount_path": keeper.WORK},
        ],
        # The plan of a million files, at most: the script gives it three quarters of that (MOST_MEMORY_KIB).
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "1Gi"}},
    }


def reporting_container(args: KeeperArgs, address: pulumi.Input[str]) -> k8s.core.v1.ContainerArgsDict:
    return {
        "name": "request-times",
        "image": args.front_image,
        "command": ["bash", f"{keeper.SCRIPTS}/{keeper.REPORT_SCRIPT}"],
        "args": [address, str(keeper.PORT)],
        "security_context": few_rights(),
        "volume_mounts": [scripts_mount(), {"name": "work", "mount_path": varnish.WORK, "read_only": True}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
    }


def scripts_mount() -> k8s.core.v1.VolumeMountArgsDict:
    return {"name": SCRIPTS_VOLUME, "mount_path": keeper.SCRIPTS, "read_only": True}
