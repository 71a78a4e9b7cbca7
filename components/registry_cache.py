"""The pull-through registry in the cluster: its configuration, Deployment and Service."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.cache_storage import USER_ID, CacheStorage, StorageArgs
from components.metadata import LABELS, metadata
from rendering import registry
from settings.cluster import service_name

CONFIGURATION = "/etc/docker-cache"
LEAVING_SECONDS = 5
MASTER_TAINTS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


@final
@dataclass(frozen=True, kw_only=True)
class RegistryCacheArgs:
    """`secret_environment` and `htpasswd` (a file's text) hold credentials: they reach the pod by Secrets alone."""

    namespace: str
    node_port: int
    image: str
    upstream: str
    storage: StorageArgs
    storage_section: registry.Storage
    min_free_percent: int
    environment: Mapping[str, str]
    secret_environment: Mapping[str, str] = field(repr=False)
    htpasswd: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PodParts:
    """What the pod is put together from; the names are those of the objects that it mounts."""

    storage: CacheStorage
    configuration: pulumi.Input[str]
    environment: pulumi.Input[str] | None
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
        parts = PodParts(
            storage=storage,
            configuration=create_configuration(name, args, child).metadata.name,
            environment=create_secret(
                f"{name}-environment", args.namespace, {**args.secret_environment, **storage.secret_environment}, child
            ),
            htpasswd=create_secret(f"{name}-htpasswd", args.namespace, htpasswd_file(args), child),
        )
        after_storage = pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[storage]))
        deployment = create_deployment(name, args, parts, after_storage)
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
    pod: k8s.core.v1.PodSpecArgsDict = {
        "containers": [container(args, parts)],
        "volumes": volumes(parts),
        "tolerations": [{"key": taint, "operator": "Exists", "effect": "NoSchedule"} for taint in MASTER_TAINTS],
        "automount_service_account_token": False,
        "enable_service_links": False,
        "security_context": {
            "run_as_non_root": True,
            "run_as_user": USER_ID,
            "run_as_group": USER_ID,
            "fs_group": USER_ID,
            # Else the kubelet walks every blob of a claim at each start of the pod.
            "fs_group_change_policy": "OnRootMismatch",
            "seccomp_profile": {"type": "RuntimeDefault"},
        },
        "termination_grace_period_seconds": LEAVING_SECONDS + registry.DRAIN_SECONDS + 15,
    }
    return pod | {"affinity": on_node(storage.node_name)} if storage.node_name else pod


def volumes(parts: PodParts) -> list[k8s.core.v1.VolumeArgsDict]:
    listed: list[k8s.core.v1.VolumeArgsDict] = [
        {"name": "configuration", "config_map": {"name": parts.configuration}},
    ]
    if parts.storage.volume:
        listed.insert(0, parts.storage.volume)
    if parts.htpasswd is not None:
        listed.append({"name": "htpasswd", "secret": {"secret_name": parts.htpasswd, "default_mode": 0o440}})
    return listed


def volume_mounts(parts: PodParts) -> list[k8s.core.v1.VolumeMountArgsDict]:
    mounts: list[k8s.core.v1.VolumeMountArgsDict] = [
        {"name": "configuration", "mount_path": CONFIGURATION, "read_only": True},
    ]
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


def container(args: RegistryCacheArgs, parts: PodParts) -> k8s.core.v1.ContainerArgsDict:
    # Without a store of the pod's own there is no disk to run full.
    disk = [registry.STORE, str(args.min_free_percent)] if parts.storage.volume else ["/", "0"]
    return {
        "name": "registry",
        "image": args.image,
        "command": ["/bin/sh", f"{CONFIGURATION}/serve.sh"],
        "args": disk,
        # Distribution exports traces to localhost unless told not to.
        "env": [
            {"name": name, "value": value}
            for name, value in {"OTEL_TRACES_EXPORTER": "none", **args.environment}.items()
        ],
        "env_from": [{"secret_ref": {"name": parts.environment}}] if parts.environment is not None else [],
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
        "security_context": {
            "allow_privilege_escalation": False,
            "read_only_root_filesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
