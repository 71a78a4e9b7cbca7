"""The registry of one upstream: the pod that pulls through from there, and the Service by which the front reaches it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.cache_storage import CacheStorage
from components.exporters import Exporters, Observed, registry_exporters
from components.metadata import LABELS, metadata, upstream_labels
from components.pod import (
    Runtime,
    Sidecar,
    configuration_mount,
    configuration_volume,
    container,
    create_secret,
    on_nodes,
    pod,
    with_priority,
)
from rendering import registry
from settings.model import DOCKER_IO
from settings.upstreams import slug

LEAVING_SECONDS = 5
SKIP_AWAIT = {"pulumi.com/skipAwait": "true"}


@final
@dataclass(frozen=True, kw_only=True)
class UpstreamArgs:
    """`host` is what images name it by. `secret_environment` holds its credentials, which reach the pod by a Secret alone."""

    host: str
    url: str
    storage_section: registry.Storage
    secret_environment: Mapping[str, str] = field(repr=False)
    sidecars: Sequence[Sidecar] = ()


@dataclass(frozen=True, kw_only=True)
class Common:
    """What the registries of all upstreams have in common; `htpasswd` is a Secret's name. `are_many`: there is more than one."""

    namespace: str
    image: str
    environment: Mapping[str, str]
    min_free_percent: int
    storage: CacheStorage
    htpasswd: pulumi.Input[str] | None
    exporters: Exporters
    are_many: bool
    priority_class: str | None


def object_name(host: str) -> str:
    """The name of its Deployment and of its Service."""
    return "docker-cache-registry" if host == DOCKER_IO else f"docker-cache-registry-{slug(host)}"


def port_name(host: str) -> str:
    """The Service of a cache from before the front leads to every pod of these labels that has a port `registry`, until it is
    updated.
    """
    return "registry" if host == DOCKER_IO else "upstream"


def resource_name(name: str, host: str) -> str:
    """What pulumi calls its resources by; Docker Hub's were there before there were others."""
    return name if host == DOCKER_IO else f"{name}-{slug(host)}"


def create_runtime(
    name: str, args: UpstreamArgs, common: Common, more_files: Mapping[str, str], opts: pulumi.ResourceOptions
) -> Runtime:
    """Named by the provider: changed content makes a new ConfigMap or Secret, and the pod that names it rolls."""
    subject = registry.Registry(
        upstream=args.url, storage=args.storage_section, has_htpasswd=common.htpasswd is not None
    )
    files = {**registry.files(subject), **more_files}
    configuration = k8s.core.v1.ConfigMap(
        name, metadata=metadata(common.namespace), data=files, immutable=True, opts=opts
    )
    secrets = {**args.secret_environment, **common.storage.secret_environment}
    return Runtime(
        image=common.image,
        environment=common.environment,
        secret_environment=create_secret(f"{name}-environment", common.namespace, secrets, opts),
        configuration=configuration.metadata.name,
    )


def create_deployment(
    name: str, args: UpstreamArgs, common: Common, runtime: Runtime, opts: pulumi.ResourceOptions
) -> k8s.apps.v1.Deployment:
    """It rolls where old and new pod may have the store at once; a claim is mounted by one pod of an upstream at a time."""
    labels = upstream_labels(args.host)
    roll: k8s.apps.v1.DeploymentStrategyArgsDict = {
        "type": "RollingUpdate",
        "rolling_update": {"max_surge": 1, "max_unavailable": 0},
    }
    return k8s.apps.v1.Deployment(
        name,
        metadata=metadata(common.namespace, object_name(args.host)),
        spec={
            "replicas": 1,
            "strategy": roll if common.storage.is_shared else {"type": "Recreate"},
            "selector": {"match_labels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(args, common, runtime)},
        },
        opts=opts,
    )


def create_service(name: str, args: UpstreamArgs, common: Common, opts: pulumi.ResourceOptions) -> k8s.core.v1.Service:
    """Not waited for: what needs its address needs no pod behind it, and one that is away holds up nothing."""
    labelled = metadata(common.namespace, object_name(args.host))
    return k8s.core.v1.Service(
        f"{name}-registry",
        metadata={**labelled, "annotations": SKIP_AWAIT},
        spec={
            "selector": upstream_labels(args.host),
            "ports": [{"name": "registry", "port": registry.PORT, "target_port": port_name(args.host)}],
        },
        opts=opts,
    )


def pod_spec(args: UpstreamArgs, common: Common, runtime: Runtime) -> k8s.core.v1.PodSpecArgsDict:
    sidecars = [*args.sidecars, *registry_exporters(common.exporters, observed(args, common, runtime))]
    spec = pod(registry_container(port_name(args.host), common, runtime), volumes(common, runtime), sidecars)
    spec |= {"termination_grace_period_seconds": LEAVING_SECONDS + registry.DRAIN_SECONDS + 15}
    affinity = place(common)
    if affinity:
        spec |= {"affinity": affinity}
    return with_priority(spec, common.priority_class)


def observed(args: UpstreamArgs, common: Common, runtime: Runtime) -> Observed:
    return Observed(
        upstream=args.host,
        remote_url=args.url,
        store=store_mount() if common.storage.volume else None,
        min_free_percent=common.min_free_percent,
        secret_environment=runtime.secret_environment,
    )


def place(common: Common) -> k8s.core.v1.AffinityArgsDict | None:
    """Where the store is. A folder's node is known; a claim that one node mounts at a time is where the others' pods are."""
    storage = common.storage
    if storage.node_name:
        return on_nodes([storage.node_name])
    return beside_the_others() if common.are_many and not storage.is_shared else None


def beside_the_others() -> k8s.core.v1.AffinityArgsDict:
    """The first pod has nobody to be beside, and Kubernetes lets it go anywhere, since it is one of those that it asks for."""
    term: k8s.core.v1.PodAffinityTermArgsDict = {
        "label_selector": {"match_labels": LABELS},
        "topology_key": "kubernetes.io/hostname",
    }
    return {"pod_affinity": {"required_during_scheduling_ignored_during_execution": [term]}}


def volumes(common: Common, runtime: Runtime) -> list[k8s.core.v1.VolumeArgsDict]:
    listed = [configuration_volume(runtime)]
    if common.storage.volume:
        listed.insert(0, common.storage.volume)
    if common.htpasswd is not None:
        listed.append({"name": "htpasswd", "secret": {"secret_name": common.htpasswd, "default_mode": 0o440}})
    return listed


def volume_mounts(common: Common) -> list[k8s.core.v1.VolumeMountArgsDict]:
    mounts = [configuration_mount()]
    if common.storage.volume:
        mounts.insert(0, store_mount())
    if common.htpasswd is not None:
        mounts.append({"name": "htpasswd", "mount_path": registry.HTPASSWD_FOLDER, "read_only": True})
    return mounts


def store_mount() -> k8s.core.v1.VolumeMountArgsDict:
    return {"name": "store", "mount_path": registry.STORE}


def registry_container(port: str, common: Common, runtime: Runtime) -> k8s.core.v1.ContainerArgsDict:
    # Without a store of the pod's own there is no disk to run full.
    disk = [registry.STORE, str(common.min_free_percent)] if common.storage.volume else ["/", "0"]
    return container("registry", registry.SERVE_SCRIPT, disk, runtime) | {
        "ports": [{"name": port, "container_port": registry.PORT}],
        "volume_mounts": volume_mounts(common),
        # `/` is 503 while the storage is unhealthy; neither probe asks the upstream.
        "readiness_probe": {"http_get": {"path": "/", "port": port}, "period_seconds": 5, "failure_threshold": 3},
        "liveness_probe": {
            "tcp_socket": {"port": port},
            "initial_delay_seconds": 15,
            "period_seconds": 10,
            "failure_threshold": 6,
        },
        # Until every node's kube-proxy knows that the pod leaves, new pulls still come to it.
        "lifecycle": {"pre_stop": {"exec_": {"command": ["sleep", str(LEAVING_SECONDS)]}}},
        # One for each upstream: most of the time most of them do nothing.
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}},
    }
