"""What the cache's pods have in common: few rights, and for those that run a registry its image and environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.metadata import metadata

CONFIGURATION = "/etc/docker-cache"
USER_ID = 65532
"""The registry's user and group; unprivileged, and no user of any distribution."""
MASTER_TAINTS = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Image and environment of a registry; `configuration` is a ConfigMap's name, `secret_environment` a Secret's."""

    image: str
    environment: Mapping[str, str]
    secret_environment: pulumi.Input[str] | None
    configuration: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """A container that runs beside a pod's main one, with the volumes that it needs."""

    container: k8s.core.v1.ContainerArgsDict
    volumes: Sequence[k8s.core.v1.VolumeArgsDict] = ()


def few_rights() -> k8s.core.v1.SecurityContextArgsDict:
    """What every container of ours runs with: it gains nothing, and writes to its volumes alone."""
    return {
        "allow_privilege_escalation": False,
        "read_only_root_filesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def container(name: str, script: str, arguments: Sequence[str], runtime: Runtime) -> k8s.core.v1.ContainerArgsDict:
    """Runs a script of `in_pod/` that starts the registry."""
    # Distribution exports traces to localhost unless told not to.
    environment = {"OTEL_TRACES_EXPORTER": "none", **runtime.environment}
    return {
        "name": name,
        "image": runtime.image,
        "command": ["/bin/sh", f"{CONFIGURATION}/{script}"],
        "args": list(arguments),
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "env_from": (
            [{"secret_ref": {"name": runtime.secret_environment}}] if runtime.secret_environment is not None else []
        ),
        "security_context": few_rights(),
    }


def pod(
    runs: k8s.core.v1.ContainerArgsDict,
    volumes: Sequence[k8s.core.v1.VolumeArgsDict],
    sidecars: Sequence[Sidecar] = (),
) -> k8s.core.v1.PodSpecArgsDict:
    return {
        "containers": [runs, *(sidecar.container for sidecar in sidecars)],
        "volumes": [*volumes, *(volume for sidecar in sidecars for volume in sidecar.volumes)],
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
    }


def create_secret(
    name: str, namespace: str, values: Mapping[str, pulumi.Input[str]], opts: pulumi.ResourceOptions
) -> pulumi.Output[str] | None:
    """The Secret's name, made up by the provider so that other values roll the pod; none where there are no values."""
    if not values:
        return None
    hidden = {key: pulumi.Output.secret(value) for key, value in values.items()}
    secret = k8s.core.v1.Secret(name, metadata=metadata(namespace), string_data=hidden, immutable=True, opts=opts)
    return secret.metadata.name


def with_priority(spec: k8s.core.v1.PodSpecArgsDict, priority_class: str | None) -> k8s.core.v1.PodSpecArgsDict:
    return spec | {"priority_class_name": priority_class} if priority_class else spec


def configuration_volume(runtime: Runtime) -> k8s.core.v1.VolumeArgsDict:
    return {"name": "configuration", "config_map": {"name": runtime.configuration}}


def configuration_mount() -> k8s.core.v1.VolumeMountArgsDict:
    return {"name": "configuration", "mount_path": CONFIGURATION, "read_only": True}


def on_nodes(names: Sequence[str]) -> k8s.core.v1.AffinityArgsDict:
    """On one of them, by the nodes' names: their hostname labels are others at times. A term takes one name."""
    terms: list[k8s.core.v1.NodeSelectorTermArgsDict] = [
        {"match_fields": [{"key": "metadata.name", "operator": "In", "values": [name]}]} for name in names
    ]
    return {"node_affinity": {"required_during_scheduling_ignored_during_execution": {"node_selector_terms": terms}}}
