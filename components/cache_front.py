"""What the nodes reach: Varnish before the registries, which fetches once what many ask for, and has what was asked for often.

It is ready as soon as it can serve; what is the matter with a registry, the storage or an upstream does not take its hits away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.front_tls import FrontTlsArgs, create_front_tls
from components.metadata import FRONT_LABELS, metadata
from components.pod import CONFIGURATION, Sidecar, configuration_mount, few_rights, on_nodes, pod, with_priority
from rendering import registry, varnish
from settings.cluster import service_name
from settings.values import size_in_bytes

NAME = "docker-cache-front"
ACCESS_LOG = "access-log"
"""The container that writes a line for each request."""
LEAVING_SECONDS = 5
"""Until every node's kube-proxy knows that the pod leaves, new pulls still come to it."""
DRAIN_SECONDS = 300
"""For the pulls in flight: a big layer over a slow line."""


@final
@dataclass(frozen=True, kw_only=True)
class FrontArgs:
    """`htpasswd` (a file's text) reaches the pod by a Secret alone; `registry_image` is what knows valid credentials by it. With
    `allowed_cidrs` the nodes' requests keep their clients' addresses, and are answered on the nodes of the pods alone, which are
    `node_names`, where there are some.
    """

    namespace: str
    node_port: int
    image: str
    registry_image: str
    hot_size: str
    tag_seconds: int
    replicas: int
    priority_class: str | None = None
    sidecars: Sequence[Sidecar] = ()
    htpasswd: str | None = field(repr=False, default=None)
    tls: FrontTlsArgs | None = None
    allowed_cidrs: Sequence[str] = ()
    node_names: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class FrontParts:
    """The names of the objects that the pod mounts."""

    configuration: pulumi.Input[str]
    htpasswd: pulumi.Input[str] | None
    sidecars: Sequence[Sidecar]


def create_front(
    name: str, args: FrontArgs, backends: Mapping[str, pulumi.Input[str]], opts: pulumi.ResourceOptions
) -> tuple[k8s.core.v1.Service, k8s.core.v1.Service]:
    """What is given back are the Services for the nodes and for what runs in the cluster. `backends` are the addresses of the
    registries' Services by their upstreams' hosts: no name has to resolve.
    """
    parts = FrontParts(
        configuration=create_configuration(name, args, backends, opts).metadata.name,
        htpasswd=create_htpasswd(name, args, opts),
        sidecars=[*tls_sidecars(name, args, opts), *args.sidecars],
    )
    deployment = create_deployment(name, args, parts, opts)
    # Where all of them run on one node, none could go elsewhere, and a drain would wait for ever.
    if args.replicas > 1 and len(args.node_names) != 1:
        create_disruption_budget(name, args, opts)
    return create_services(args, pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[deployment])))


def tls_sidecars(name: str, args: FrontArgs, opts: pulumi.ResourceOptions) -> list[Sidecar]:
    if args.tls is None:
        return []
    return [create_front_tls(f"{name}-tls", args.namespace, args.tls, varnish.PROXIED_PORT, opts)]


def create_configuration(
    name: str, args: FrontArgs, backends: Mapping[str, pulumi.Input[str]], opts: pulumi.ResourceOptions
) -> k8s.core.v1.ConfigMap:
    """Named by the provider: changed content makes a new one, and the pods that name it roll."""

    def files(addresses: Mapping[str, str]) -> dict[str, str]:
        return varnish.files(
            varnish.Front(
                backends=addresses,
                hot_size=args.hot_size,
                tag_seconds=args.tag_seconds,
                has_htpasswd=args.htpasswd is not None,
                allowed_cidrs=args.allowed_cidrs,
            )
        )

    addresses: pulumi.Output[Mapping[str, str]] = pulumi.Output.all(**backends)
    data = addresses.apply(files)
    return k8s.core.v1.ConfigMap(
        name, metadata=metadata(args.namespace, labels=FRONT_LABELS), data=data, immutable=True, opts=opts
    )


def create_htpasswd(name: str, args: FrontArgs, opts: pulumi.ResourceOptions) -> pulumi.Output[str] | None:
    if args.htpasswd is None:
        return None
    secret = k8s.core.v1.Secret(
        f"{name}-htpasswd",
        metadata=metadata(args.namespace, labels=FRONT_LABELS),
        string_data={registry.HTPASSWD_FILE: pulumi.Output.secret(args.htpasswd)},
        immutable=True,
        opts=opts,
    )
    return secret.metadata.name


def create_deployment(
    name: str, args: FrontArgs, parts: FrontParts, opts: pulumi.ResourceOptions
) -> k8s.apps.v1.Deployment:
    return k8s.apps.v1.Deployment(
        name,
        metadata=metadata(args.namespace, NAME, FRONT_LABELS),
        spec={
            "replicas": args.replicas,
            "strategy": {"type": "RollingUpdate", "rolling_update": {"max_surge": 1, "max_unavailable": 0}},
            "selector": {"match_labels": FRONT_LABELS},
            "template": {"metadata": {"labels": FRONT_LABELS}, "spec": pod_spec(args, parts)},
        },
        opts=opts,
    )


def create_services(args: FrontArgs, opts: pulumi.ResourceOptions) -> tuple[k8s.core.v1.Service, k8s.core.v1.Service]:
    """One for the nodes, by its port: another port is another Service, made before the nodes change over; the old one goes after
    them. And one for what runs in the cluster.
    """
    name = service_name(args.node_port)
    target = "https" if args.tls else "entry"
    # Else a node that hands a request on to another node's pod puts its own address in the client's place.
    keeps_addresses: k8s.core.v1.ServiceSpecArgsDict = (
        {"external_traffic_policy": "Local"} if args.allowed_cidrs else {}
    )
    nodes = k8s.core.v1.Service(
        name,
        metadata=metadata(args.namespace, name, FRONT_LABELS),
        spec={
            "type": "NodePort",
            "selector": FRONT_LABELS,
            "ports": [{"name": "registry", "port": 5000, "target_port": target, "node_port": args.node_port}],
            **keeps_addresses,
        },
        opts=opts,
    )
    inside = k8s.core.v1.Service(
        NAME,
        metadata=metadata(args.namespace, NAME, FRONT_LABELS),
        spec={"selector": FRONT_LABELS, "ports": [{"name": "http", "port": 80, "target_port": "http"}]},
        opts=opts,
    )
    return nodes, inside


def create_disruption_budget(name: str, args: FrontArgs, opts: pulumi.ResourceOptions) -> None:
    """A node that is drained takes one front with it, and waits with another."""
    k8s.policy.v1.PodDisruptionBudget(
        name,
        metadata=metadata(args.namespace, NAME, FRONT_LABELS),
        spec={"max_unavailable": 1, "selector": {"match_labels": FRONT_LABELS}},
        opts=opts,
    )


def pod_spec(args: FrontArgs, parts: FrontParts) -> k8s.core.v1.PodSpecArgsDict:
    sidecars = [access_log(args.image), *credentials(args, parts), *parts.sidecars]
    spec = pod(front_container(args), volumes(parts), sidecars)
    spec |= {
        "termination_grace_period_seconds": LEAVING_SECONDS + DRAIN_SECONDS + 15,
        "topology_spread_constraints": [spread(args)],
    }
    if args.node_names:
        spec |= {"affinity": on_nodes(args.node_names)}
    return with_priority(spec, args.priority_class)


def spread(args: FrontArgs) -> k8s.core.v1.TopologySpreadConstraintArgsDict:
    """Where the nodes' addresses are entries, each of them needs a pod of its own; while pods roll, the new ones are counted."""
    constraint: k8s.core.v1.TopologySpreadConstraintArgsDict = {
        "max_skew": 1,
        "topology_key": "kubernetes.io/hostname",
        "when_unsatisfiable": "ScheduleAnyway",
        "label_selector": {"match_labels": FRONT_LABELS},
    }
    if len(args.node_names) > 1:
        constraint |= {"when_unsatisfiable": "DoNotSchedule", "match_label_keys": ["pod-template-hash"]}
    return constraint


def volumes(parts: FrontParts) -> list[k8s.core.v1.VolumeArgsDict]:
    listed: list[k8s.core.v1.VolumeArgsDict] = [
        {"name": "configuration", "config_map": {"name": parts.configuration}},
        # Varnish's shared memory, with what every request has said: no disk's business.
        {"name": "work", "empty_dir": {"medium": "Memory", "size_limit": "256Mi"}},
        {"name": "hot", "empty_dir": {}},
    ]
    if parts.htpasswd is not None:
        listed.append({"name": "htpasswd", "secret": {"secret_name": parts.htpasswd, "default_mode": 0o440}})
    return listed


def front_container(args: FrontArgs) -> k8s.core.v1.ContainerArgsDict:
    """Neither probe asks a registry."""
    store = [varnish.HOT, str(size_in_bytes(args.hot_size))]
    healthy: k8s.core.v1.HTTPGetActionArgsDict = {"path": varnish.HEALTH_PATH, "port": "http"}
    return {
        **scripted("front", args.image, varnish.START_SCRIPT, [*store, *(str(port) for port in varnish.PORTS)]),
        "env": [{"name": "NODE_ADDRESS", "value_from": {"field_ref": {"field_path": "status.hostIP"}}}],
        "ports": [
            {"name": "http", "container_port": varnish.PORT},
            {"name": "entry", "container_port": varnish.ENTRY_PORT},
        ],
        "volume_mounts": [configuration_mount(), work_mount(), {"name": "hot", "mount_path": varnish.HOT}],
        "startup_probe": {"http_get": healthy, "period_seconds": 1, "failure_threshold": 120},
        "readiness_probe": {"http_get": healthy, "period_seconds": 5, "timeout_seconds": 3, "failure_threshold": 2},
        "liveness_probe": {
            "http_get": healthy,
            "period_seconds": 10,
            "timeout_seconds": 5,
            "failure_threshold": 6,
            # The pulls of one that hangs do not end: they are not waited for (Kubernetes 1.25; an older one does not know it).
            "termination_grace_period_seconds": 10,
        },
        "lifecycle": {"pre_stop": {"exec_": {"command": drain_command()}}},
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "3Gi"}},
    }


def drain_command() -> list[str]:
    return ["/bin/sh", f"{CONFIGURATION}/{varnish.DRAIN_SCRIPT}", str(LEAVING_SECONDS), str(DRAIN_SECONDS)]


def until_drained() -> k8s.core.v1.LifecycleArgsDict:
    """A pod's containers are told to end all at once; this one is needed until the front has answered its last request."""
    wait = f"until [ -e {varnish.WORK}/{varnish.DRAINED} ]; do sleep 1; done"
    return {"pre_stop": {"exec_": {"command": ["/bin/sh", "-c", wait]}}}


def access_log(image: str) -> Sidecar:
    return Sidecar(
        container={
            **scripted(ACCESS_LOG, image, varnish.LOG_SCRIPT, []),
            "volume_mounts": [configuration_mount(), work_mount()],
            "lifecycle": until_drained(),
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        }
    )


def credentials(args: FrontArgs, parts: FrontParts) -> list[Sidecar]:
    """A registry that has no images: who asks the front for anything is asked about here, whatever is the matter elsewhere."""
    if parts.htpasswd is None:
        return []
    return [
        Sidecar(
            container={
                "name": "credentials",
                "image": args.registry_image,
                "command": ["registry", "serve", f"{CONFIGURATION}/{varnish.CREDENTIALS}"],
                "env": [{"name": "OTEL_TRACES_EXPORTER", "value": "none"}],
                "security_context": few_rights(),
                "volume_mounts": [
                    configuration_mount(),
                    work_mount() | {"read_only": True},
                    {"name": "htpasswd", "mount_path": registry.HTPASSWD_FOLDER, "read_only": True},
                ],
                "lifecycle": until_drained(),
                "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
            }
        )
    ]


def scripted(name: str, image: str, script: str, arguments: Sequence[str]) -> k8s.core.v1.ContainerArgsDict:
    """A container of the front's image that runs a script of `in_pod/`."""
    return {
        "name": name,
        "image": image,
        "command": ["/bin/sh", f"{CONFIGURATION}/{script}"],
        "args": list(arguments),
        "security_context": few_rights(),
    }


def work_mount() -> k8s.core.v1.VolumeMountArgsDict:
    return {"name": "work", "mount_path": varnish.WORK}
