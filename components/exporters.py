"""What hands out the metrics of a pod: a container that writes them as text, and node_exporter, which serves that text.

What the text says, and where it comes from, is in the scripts of `in_pod/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pulumi
import pulumi_kubernetes as k8s

from components.cache_front import work_mount
from components.metadata import metadata
from components.pod import CONFIGURATION, Sidecar, few_rights
from rendering import observing, registry, varnish

PORT = 9100
METRICS = "/metrics"
"""Where both containers have the text."""
SCRIPTS_VOLUME, TEXT_VOLUME = "metrics-scripts", "metrics"
CREDENTIALS = ("REGISTRY_PROXY_USERNAME", "REGISTRY_PROXY_PASSWORD")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, kw_only=True)
class ExporterArgs:
    """`client_image` has regctl, for what is asked of an upstream."""

    exporter_image: str
    client_image: str


@dataclass(frozen=True, kw_only=True)
class Exporters:
    """What the exporters of all pods have in common; `scripts` is a ConfigMap's name."""

    args: ExporterArgs
    scripts: pulumi.Input[str]


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A registry as its metrics need to know it. Without a store's mount it has no disk of its own; `secret_environment` is the
    name of the Secret with its proxies and credentials.
    """

    upstream: str
    remote_url: str
    store: k8s.core.v1.VolumeMountArgsDict | None
    min_free_percent: int
    secret_environment: pulumi.Input[str] | None


def create_exporters(name: str, namespace: str, args: ExporterArgs, opts: pulumi.ResourceOptions) -> Exporters:
    """Their ConfigMap is named by the provider: other scripts roll the pods."""
    files = observing.scripts()
    made = k8s.core.v1.ConfigMap(name, metadata=metadata(namespace), data=files, immutable=True, opts=opts)
    return Exporters(args=args, scripts=made.metadata.name)


def front_exporters(exporters: Exporters, front_image: str, upstreams: Sequence[str]) -> list[Sidecar]:
    """With Varnish's own tools, which share its memory."""
    writer: k8s.core.v1.ContainerArgsDict = {
        "name": "metrics",
        "image": front_image,
        "command": ["/bin/sh", f"{CONFIGURATION}/{observing.FRONT_SCRIPT}"],
        "args": [METRICS, varnish.INSTANCE, *upstreams],
        "volume_mounts": [scripts_mount(), text_mount(), read_only(work_mount())],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
        "security_context": few_rights(),
    }
    return [Sidecar(container=writer, volumes=shared_volumes(exporters.scripts)), node_exporter(exporters.args)]


def registry_exporters(exporters: Exporters, observed: Observed) -> list[Sidecar]:
    writer: k8s.core.v1.ContainerArgsDict = {
        "name": "metrics",
        "image": exporters.args.client_image,
        "command": ["/bin/sh", f"{CONFIGURATION}/{observing.REGISTRY_SCRIPT}"],
        "args": [METRICS, *registry_arguments(observed)],
        "env": [
            # Where it keeps what it signs in with: memory.
            {"name": "REGCTL_CONFIG", "value": f"{METRICS}/regctl/config.json"},
            *from_secret(observed.secret_environment),
        ],
        "volume_mounts": [
            scripts_mount(),
            text_mount(),
            *([read_only(observed.store)] if observed.store else []),
        ],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "security_context": few_rights(),
    }
    return [Sidecar(container=writer, volumes=shared_volumes(exporters.scripts)), node_exporter(exporters.args)]


def registry_arguments(observed: Observed) -> list[str]:
    url = urlsplit(observed.remote_url)
    disk = [registry.STORE, str(observed.min_free_percent)] if observed.store else ["/", "0"]
    tls = "disabled" if url.scheme == "http" else "enabled"
    return [observed.upstream, observing.probe_image(observed.remote_url), tls, *disk]


def from_secret(name: pulumi.Input[str] | None) -> list[k8s.core.v1.EnvVarArgsDict]:
    """Of the registry's Secret only what it takes to ask the upstream: the storage's key is none of it."""
    if name is None:
        return []
    return [
        {"name": key, "value_from": {"secret_key_ref": {"name": name, "key": key, "optional": True}}}
        for key in (*PROXIES, *CREDENTIALS)
    ]


def node_exporter(args: ExporterArgs) -> Sidecar:
    """With nothing on but the text: what it could tell of a node, a node's own exporter tells."""
    return Sidecar(
        container={
            "name": "exporter",
            "image": args.exporter_image,
            "args": [
                f"--web.listen-address=:{PORT}",
                "--web.disable-exporter-metrics",
                "--collector.disable-defaults",
                "--collector.textfile",
                f"--collector.textfile.directory={METRICS}",
            ],
            "ports": [{"name": observing.PORT_NAME, "container_port": PORT}],
            "volume_mounts": [read_only(text_mount())],
            "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "128Mi"}},
            "security_context": few_rights(),
        }
    )


def shared_volumes(scripts: pulumi.Input[str]) -> list[k8s.core.v1.VolumeArgsDict]:
    return [
        {"name": SCRIPTS_VOLUME, "config_map": {"name": scripts}},
        {"name": TEXT_VOLUME, "empty_dir": {"medium": "Memory", "size_limit": "64Mi"}},
    ]


def scripts_mount() -> k8s.core.v1.VolumeMountArgsDict:
    return {"name": SCRIPTS_VOLUME, "mount_path": CONFIGURATION, "read_only": True}


def text_mount() -> k8s.core.v1.VolumeMountArgsDict:
    return {"name": TEXT_VOLUME, "mount_path": METRICS}


def read_only(mount: k8s.core.v1.VolumeMountArgsDict) -> k8s.core.v1.VolumeMountArgsDict:
    return {**mount, "read_only": True}
