"""What ends TLS in the front's pod: a sidecar, its configuration, and the certificate's Secret where that is ours."""

from dataclasses import dataclass, field
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.metadata import metadata
from components.pod import CONFIGURATION, Sidecar, few_rights
from rendering import haproxy

LEAVING_SECONDS = 5


@final
@dataclass(frozen=True, kw_only=True)
class GivenPair:
    """PEM texts; another pair makes another Secret, and the pods roll."""

    certificate: str
    key: str = field(repr=False)


@final
@dataclass(frozen=True, kw_only=True)
class ExistingSecret:
    """Of type kubernetes.io/tls; what it holds later is taken up without a new pod."""

    name: str


@final
@dataclass(frozen=True, kw_only=True)
class FrontTlsArgs:
    image: str
    certificate: GivenPair | ExistingSecret


def create_front_tls(
    name: str, namespace: str, args: FrontTlsArgs, front_port: int, opts: pulumi.ResourceOptions
) -> Sidecar:
    """It answers at the port `https`, and hands on to the front's port for the PROXY protocol, which is the pod's own."""
    configuration = k8s.core.v1.ConfigMap(
        name, metadata=metadata(namespace), data=haproxy.files(front_port), immutable=True, opts=opts
    )
    secret = secret_name(f"{name}-certificate", namespace, args.certificate, opts)
    return Sidecar(
        container=tls_container(args.image),
        volumes=[
            {"name": "tls-configuration", "config_map": {"name": configuration.metadata.name}},
            {"name": "tls-certificate", "secret": {"secret_name": secret, "default_mode": 0o440}},
        ],
    )


def secret_name(
    name: str, namespace: str, certificate: GivenPair | ExistingSecret, opts: pulumi.ResourceOptions
) -> pulumi.Input[str]:
    if isinstance(certificate, ExistingSecret):
        return certificate.name
    pair = {"tls.crt": certificate.certificate, "tls.key": certificate.key}
    secret = k8s.core.v1.Secret(
        name,
        metadata=metadata(namespace),
        type="kubernetes.io/tls",
        string_data={file: pulumi.Output.secret(text) for file, text in pair.items()},
        immutable=True,
        opts=opts,
    )
    return secret.metadata.name


def tls_container(image: str) -> k8s.core.v1.ContainerArgsDict:
    return {
        "name": "tls",
        "image": image,
        "command": ["/bin/sh", f"{CONFIGURATION}/{haproxy.SCRIPT}"],
        "args": [f"{CONFIGURATION}/{haproxy.CONFIGURATION_FILE}", haproxy.CERTIFICATES],
        "ports": [{"name": "https", "container_port": haproxy.PORT}],
        "security_context": few_rights(),
        "volume_mounts": [
            {"name": "tls-configuration", "mount_path": CONFIGURATION, "read_only": True},
            {"name": "tls-certificate", "mount_path": haproxy.CERTIFICATES, "read_only": True},
        ],
        "readiness_probe": {"tcp_socket": {"port": "https"}, "period_seconds": 5, "failure_threshold": 3},
        "liveness_probe": {"tcp_socket": {"port": "https"}, "period_seconds": 10, "failure_threshold": 6},
        # Until every node's kube-proxy knows that the pod leaves, new pulls still come to it.
        "lifecycle": {"pre_stop": {"exec_": {"command": ["sleep", str(LEAVING_SECONDS)]}}},
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
    }
