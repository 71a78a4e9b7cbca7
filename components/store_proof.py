"""The proof of a store that only a pod has the credentials for: a Job that Pulumi waits for, before the registry starts or rolls.

Where there is a key, `on_host/azure_store.py` proves the store instead.
"""

from dataclasses import dataclass
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.metadata import metadata
from components.pod import Runtime, configuration_mount, configuration_volume, container, pod
from rendering import registry

LABELS = {"app.kubernetes.io/name": "docker-cache-store-proof"}
"""None of the registry's own: its Service must not lead here."""
WORK = "/tmp"  # noqa: S108 - a volume of the pod's own
START_SECONDS = 300
"""For the image and for Azure's library, which tries an address again for a minute or two."""


@final
@dataclass(frozen=True, kw_only=True)
class StoreProofArgs:
    """`store` is what messages call it; `patience_seconds` is how long it is tried until it counts as wrong."""

    store: str
    storage_section: registry.Storage
    patience_seconds: int


def create_store_proof(
    name: str, namespace: str, args: StoreProofArgs, runtime: Runtime, opts: pulumi.ResourceOptions
) -> k8s.batch.v1.Job:
    """Named by the provider: another image, configuration or environment makes a new one, which is to succeed."""
    seconds = args.patience_seconds + START_SECONDS
    labelled = metadata(namespace)
    # Else one that failed is waited for for ever, and never tried again.
    retried = labelled | {"annotations": {"pulumi.com/replaceUnready": "true"}}
    timeouts = pulumi.CustomTimeouts(create=f"{seconds + 60}s", update=f"{seconds + 60}s")
    return k8s.batch.v1.Job(
        name,
        metadata=retried,
        spec={
            "backoff_limit": 0,
            "active_deadline_seconds": seconds,
            "template": {"metadata": {"labels": LABELS}, "spec": proof_pod(args, runtime)},
        },
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(custom_timeouts=timeouts)),
    )


def proof_pod(args: StoreProofArgs, runtime: Runtime) -> k8s.core.v1.PodSpecArgsDict:
    runs = container("store-proof", registry.PROOF_SCRIPT, [args.store, str(args.patience_seconds)], runtime)
    runs |= {
        "volume_mounts": [configuration_mount(), {"name": "work", "mount_path": WORK}],
        # The script writes why it failed; this is for what ends the script itself.
        "termination_message_policy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    }
    volumes: list[k8s.core.v1.VolumeArgsDict] = [configuration_volume(runtime), {"name": "work", "empty_dir": {}}]
    return pod(runs, volumes) | {"restart_policy": "Never", "termination_grace_period_seconds": 5}
