"""The pull-through registry in the cluster: its configuration, Deployment and Service."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.cache_storage import USER_ID, CacheStorage, ClaimArgs, FolderArgs
from components.metadata import LABELS, metadata
from rendering import registry
from settings.model import NODE_PORT

CONFIGURATION = "/etc/docker-cache"
MASTER_TAINTS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


@final
@dataclass(frozen=True, kw_only=True)
class RegistryCacheArgs:
    """`proxy_environment` may hold credentials (HTTPS_PROXY has user info at times): its values are secrets."""

    image: str
    upstream: str
    storage: FolderArgs | ClaimArgs
    min_free_percent: int
    proxy_environment: Mapping[str, str]


class RegistryCache(pulumi.ComponentResource):
    """The cache as the nodes see it: NodePort 30500."""

    storage_location: str

    def __init__(self, name: str, args: RegistryCacheArgs, *, provider: k8s.Provider) -> None:
        super().__init__("docker-cache:registry:RegistryCache", name)
        kubernetes = pulumi.ResourceOptions(provider=provider)
        child = pulumi.ResourceOptions(parent=self, provider=provider)
        storage = CacheStorage(
            f"{name}-store", args.storage, pulumi.ResourceOptions(parent=self), kubernetes=kubernetes
        )
        self.storage_location = storage.location
        configuration = create_configuration(name, args.upstream, child)
        proxies = create_proxy_secret(name, args.proxy_environment, child) if args.proxy_environment else None
        pod = pod_spec(args, storage, configuration.metadata.name, proxies.metadata.name if proxies else None)
        after_storage = pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[storage]))
        deployment = create_deployment(name, pod, rolling=storage.node_name is not None, opts=after_storage)
        create_service(name, pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=[deployment])))
        self.register_outputs({})


def create_configuration(name: str, upstream: str, opts: pulumi.ResourceOptions) -> k8s.core.v1.ConfigMap:
    """Named by the provider: changed content makes a new one, and the pod that names it rolls."""
    files = registry.files(registry.Registry(upstream=upstream))
    return k8s.core.v1.ConfigMap(name, metadata=metadata(), data=files, immutable=True, opts=opts)


def create_proxy_secret(name: str, environment: Mapping[str, str], opts: pulumi.ResourceOptions) -> k8s.core.v1.Secret:
    values = {key: pulumi.Output.secret(value) for key, value in environment.items()}
    return k8s.core.v1.Secret(f"{name}-proxies", metadata=metadata(), string_data=values, immutable=True, opts=opts)


def create_deployment(
    name: str, pod: k8s.core.v1.PodSpecArgsDict, *, rolling: bool, opts: pulumi.ResourceOptions
) -> k8s.apps.v1.Deployment:
    """`rolling` where old and new pod may have the store at once; a claim is mounted by one pod at a time."""
    roll: k8s.apps.v1.DeploymentStrategyArgsDict = {
        "type": "RollingUpdate",
        "rolling_update": {"max_surge": 1, "max_unavailable": 0},
    }
    return k8s.apps.v1.Deployment(
        name,
        metadata=metadata("docker-cache-registry"),
        spec={
            "replicas": 1,
            "strategy": roll if rolling else {"type": "Recreate"},
            "selector": {"match_labels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": pod},
        },
        opts=opts,
    )


def create_service(name: str, opts: pulumi.ResourceOptions) -> k8s.core.v1.Service:
    return k8s.core.v1.Service(
        name,
        metadata=metadata("docker-cache"),
        spec={
            "type": "NodePort",
            "selector": LABELS,
            "ports": [{"name": "registry", "port": registry.PORT, "target_port": "registry", "node_port": NODE_PORT}],
        },
        opts=opts,
    )


def pod_spec(
    args: RegistryCacheArgs,
    storage: CacheStorage,
    configuration: pulumi.Input[str],
    proxies: pulumi.Input[str] | None,
) -> k8s.core.v1.PodSpecArgsDict:
    pod: k8s.core.v1.PodSpecArgsDict = {
        "containers": [container(args, proxies)],
        "volumes": [storage.volume, {"name": "configuration", "config_map": {"name": configuration}}],
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
        "termination_grace_period_seconds": registry.DRAIN_SECONDS + 15,
    }
    return pod | {"affinity": on_node(storage.node_name)} if storage.node_name else pod


def on_node(name: str) -> k8s.core.v1.AffinityArgsDict:
    """By the node's name: its hostname label is another at times."""
    term: k8s.core.v1.NodeSelectorTermArgsDict = {
        "match_fields": [{"key": "metadata.name", "operator": "In", "values": [name]}]
    }
    return {"node_affinity": {"required_during_scheduling_ignored_during_execution": {"node_selector_terms": [term]}}}


def container(args: RegistryCacheArgs, proxies: pulumi.Input[str] | None) -> k8s.core.v1.ContainerArgsDict:
    return {
        "name": "registry",
        "image": args.image,
        "command": ["/bin/sh", f"{CONFIGURATION}/serve.sh"],
        "args": [registry.STORE, str(args.min_free_percent)],
        # Distribution exports traces to localhost unless told not to.
        "env": [{"name": "OTEL_TRACES_EXPORTER", "value": "none"}],
        "env_from": [{"secret_ref": {"name": proxies}}] if proxies is not None else [],
        "ports": [
            {"name": "registry", "container_port": registry.PORT},
            {"name": "metrics", "container_port": registry.PROXY_METRICS_PORT},
        ],
        "volume_mounts": [
            {"name": "store", "mount_path": registry.STORE},
            {"name": "configuration", "mount_path": CONFIGURATION, "read_only": True},
        ],
        # `/` is 503 while the storage is unhealthy; neither probe asks the upstream.
        "readiness_probe": {"http_get": {"path": "/", "port": "registry"}, "period_seconds": 5, "failure_threshold": 3},
        "liveness_probe": {
            "tcp_socket": {"port": "registry"},
            "initial_delay_seconds": 15,
            "period_seconds": 10,
            "failure_threshold": 6,
        },
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "2Gi"}},
        "security_context": {
            "allow_privilege_escalation": False,
            "read_only_root_filesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
