"""The pull-through registry in the cluster: its configuration, Deployment and Service."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.cache_storage import CacheStorage, StorageArgs
from components.metadata import LABELS, metadata
from components.pod import Runtime, configuration_mount, configuration_volume, container, pod
from components.store_proof import StoreProofArgs, create_store_proof
from rendering import registry
from settings.cluster import service_name

LEAVING_SECONDS = 5


@final
@dataclass(frozen=True, kw_only=True)
class RegistryCacheArgs:
    """`secret_environment` and `htpasswd` (a file's text) hold credentials: they reach the pod by Secrets alone. `store_proof` is
    there where only a pod can prove the store.
    """

    namespace: str
    node_port: int
    image: str
    upstream: str
    storage: StorageArgs
    storage_section: registry.Storage
    store_proof: StoreProofArgs | None
    min_free_percent: int
    environment: Mapping[str, str]
    secret_environment: Mapping[str, str] = field(repr=False)
    htpasswd: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PodParts:
    """What the pod is put together from; the names are those of the objects that it mounts."""

    storage: CacheStorage
    runtime: Runtime
    htpasswd: pulumi.Input[str] | None


class RegistryCache(pulumi.ComponentResource):
    """The cache as the nodes see it: a NodePort."""

    storage_location: pulumi.Input[str]

    def __init__(self, name: str, args: RegistryCacheArgs, *, provider: k8s.Provider) -> None:
        super().__init__("docker-cache:registry:RegistryCache", name)
        kubernetes = pulumi.ResourceOptions(provider=provider)
        child = pulumi.ResourceOptions(parent=self, provider=provider)
        storage = CacheStorage(
            f"{name}-store",
            args.storage,
            pulumi.ResourceOptions(parent=self),
            kubernetes=kubernetes,
            namespace=args.namespace,
        )
        self.storage_location = storage.location
        runtime = Runtime(
            image=args.image,
            environment=args.environment,
            secret_environment=create_secret(
                f"{name}-environment", args.namespace, {**args.secret_environment, **storage.secret_environment}, child
            ),
            configuration=create_configuration(name, args, child).metadata.name,
        )
        parts = PodParts(
            storage=storage,
            runtime=runtime,
            htpasswd=create_secret(f"{name}-htpasswd", args.namespace, htpasswd_file(args), child),
        )
        after_storage = pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[storage]))
        ready: list[pulumi.Resource] = [storage]
        if args.store_proof:
            proof = f"{name}-store-proof"
            ready.append(create_store_proof(proof, args.namespace, args.store_proof, runtime, after_storage))
        after_proof = pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=ready))
        deployment = create_deployment(name, args, parts, after_proof)
        create_service(
            args.namespace,
            args.node_port,
            pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[deployment])),
        )
        self.register_outputs({})


def create_configuration(name: str, args: RegistryCacheArgs, opts: pulumi.ResourceOptions) -> k8s.core.v1.ConfigMap:
    """Named by the provider: changed content makes a new one, and the pod that names it rolls."""
    files = registry.files(
        registry.Registry(upstream=args.upstream, storage=args.storage_section, has_htpasswd=bool(args.htpasswd))
    )
    if args.store_proof:
        files |= registry.proof_files(args.store_proof.storage_section)
    return k8s.core.v1.ConfigMap(name, metadata=metadata(args.namespace), data=files, immutable=True, opts=opts)


def htpasswd_file(args: RegistryCacheArgs) -> Mapping[str, str]:
    return {registry.HTPASSWD_FILE: args.htpasswd} if args.htpasswd else {}


def create_secret(
    name: str, namespace: str, values: Mapping[str, pulumi.Input[str]], opts: pulumi.ResourceOptions
) -> pulumi.Output[str] | None:
    """The Secret's name, made up by the provider so that other values roll the pod; none where there are no values."""
    if not values:
        return None
    hidden = {key: pulumi.Output.secret(value) for key, value in values.items()}
    secret = k8s.core.v1.Secret(name, metadata=metadata(namespace), string_data=hidden, immutable=True, opts=opts)
    return secret.metadata.name


def create_deployment(
    name: str, args: RegistryCacheArgs, parts: PodParts, opts: pulumi.ResourceOptions
) -> k8s.apps.v1.Deployment:
    """It rolls where old and new pod may have the store at once; a claim is mounted by one pod at a time."""
    roll: k8s.apps.v1.DeploymentStrategyArgsDict = {
        "type": "RollingUpdate",
        "rolling_update": {"max_surge": 1, "max_unavailable": 0},
    }
    return k8s.apps.v1.Deployment(
        name,
        metadata=metadata(args.namespace, "docker-cache-registry"),
        spec={
            "replicas": 1,
            "strategy": roll if parts.storage.is_shared else {"type": "Recreate"},
            "selector": {"match_labels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": pod_spec(args, parts)},
        },
        opts=opts,
    )


def create_service(namespace: str, node_port: int, opts: pulumi.ResourceOptions) -> k8s.core.v1.Service:
    """Another port is another Service, made before the nodes change over; the old one goes after them."""
    name = service_name(node_port)
    return k8s.core.v1.Service(
        name,
        metadata=metadata(namespace, name),
        spec={
            "type": "NodePort",
            "selector": LABELS,
            "ports": [{"name": "registry", "port": registry.PORT, "target_port": "registry", "node_port": node_port}],
        },
        opts=opts,
    )


def pod_spec(args: RegistryCacheArgs, parts: PodParts) -> k8s.core.v1.PodSpecArgsDict:
    storage = parts.storage
    spec = pod(registry_container(args, parts), volumes(parts))
    spec |= {"termination_grace_period_seconds": LEAVING_SECONDS + registry.DRAIN_SECONDS + 15}
    return spec | {"affinity": on_node(storage.node_name)} if storage.node_name else spec


def volumes(parts: PodParts) -> list[k8s.core.v1.VolumeArgsDict]:
    listed = [configuration_volume(parts.runtime)]
    if parts.storage.volume:
        listed.insert(0, parts.storage.volume)
    if parts.htpasswd is not None:
        listed.append({"name": "htpasswd", "secret": {"secret_name": parts.htpasswd, "default_mode": 0o440}})
    return listed


def volume_mounts(parts: PodParts) -> list[k8s.core.v1.VolumeMountArgsDict]:
    mounts = [configuration_mount()]
    if parts.storage.volume:
        mounts.insert(0, {"name": "store", "mount_path": registry.STORE})
    if parts.htpasswd is not None:
        mounts.append({"name": "htpasswd", "mount_path": registry.HTPASSWD_FOLDER, "read_only": True})
    return mounts


def on_node(name: str) -> k8s.core.v1.AffinityArgsDict:
    """By the node's name: its hostname label is another at times."""
    term: k8s.core.v1.NodeSelectorTermArgsDict = {
        "match_fields": [{"key": "metadata.name", "operator": "In", "values": [name]}]
    }
    return {"node_affinity": {"required_during_scheduling_ignored_during_execution": {"node_selector_terms": [term]}}}


def registry_container(args: RegistryCacheArgs, parts: PodParts) -> k8s.core.v1.ContainerArgsDict:
    # Without a store of the pod's own there is no disk to run full.
    disk = [registry.STORE, str(args.min_free_percent)] if parts.storage.volume else ["/", "0"]
    return container("registry", registry.SERVE_SCRIPT, disk, parts.runtime) | {
        "ports": [
            {"name": "registry", "container_port": registry.PORT},
            {"name": "metrics", "container_port": registry.PROXY_METRICS_PORT},
        ],
        "volume_mounts": volume_mounts(parts),
        # `/` is 503 while the storage is unhealthy; neither probe asks the upstream.
        "readiness_probe": {"http_get": {"path": "/", "port": "registry"}, "period_seconds": 5, "failure_threshold": 3},
        "liveness_probe": {
            "tcp_socket": {"port": "registry"},
            "initial_delay_seconds": 15,
            "period_seconds": 10,
            "failure_threshold": 6,
        },
        # Until every node's kube-proxy knows that the pod leaves, new pulls still come to it.
        "lifecycle": {"pre_stop": {"exec_": {"command": ["sleep", str(LEAVING_SECONDS)]}}},
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
    }
