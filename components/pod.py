"""What the registry's pod has in common with the one that proves its store: image, environment, and few rights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

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
        "security_context": {
            "allow_privilege_escalation": False,
            "read_only_root_filesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def pod(runs: k8s.core.v1.ContainerArgsDict, volumes: list[k8s.core.v1.VolumeArgsDict]) -> k8s.core.v1.PodSpecArgsDict:
    return {
        "containers": [runs],
        "volumes": volumes,
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


def configuration_volume(runtime: Runtime) -> k8s.core.v1.VolumeArgsDict:
    return {"name": "configuration", "config_map": {"name": runtime.configuration}}


def configuration_mount() -> k8s.core.v1.VolumeMountArgsDict:
    return {"name": "configuration", "mount_path": CONFIGURATION, "read_only": True}
