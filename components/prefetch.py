"""Images that are in the cache before anybody asks for them: a Job that Pulumi waits for, which pulls them through the front.

The nodes do not wait for it, and where it fails they have the cache nonetheless.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.metadata import PART, metadata
from components.pod import Runtime, configuration_mount, configuration_volume, container, pod
from rendering import prefetch

LABELS = {"app.kubernetes.io/name": "docker-cache-prefetch", **PART}
TEMPLATE = "docker-cache-prefetch"
"""The CronJob that `make prefetch` makes its Jobs from, and that never makes one by itself."""
NEVER = "0 0 1 1 *"
LONGEST_SECONDS = 6 * 3600


@final
@dataclass(frozen=True, kw_only=True)
class PrefetchArgs:
    """`images` are the script's words for those that an update sees to; there may be none."""

    namespace: str
    image: str
    regctl: prefetch.Regctl
    images: Sequence[str]


class Prefetch(pulumi.ComponentResource):
    """`front` is the address of the front within the cluster, by plain http."""

    def __init__(
        self,
        name: str,
        args: PrefetchArgs,
        front: pulumi.Input[str],
        opts: pulumi.ResourceOptions,
        *,
        provider: k8s.Provider,
    ) -> None:
        super().__init__("docker-cache:prefetch:Prefetch", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, provider=provider)
        configuration = k8s.core.v1.ConfigMap(
            name, metadata=metadata(args.namespace, labels=LABELS), data=prefetch.files(), immutable=True, opts=child
        )
        regctl = create_regctl_configuration(f"{name}-regctl", args, front, child)
        runtime = Runtime(
            image=args.image,
            environment={"REGCTL_CONFIG": f"{prefetch.REGCTL_FOLDER}/{prefetch.REGCTL_FILE}"},
            secret_environment=None,
            configuration=configuration.metadata.name,
        )
        create_template(f"{name}-template", args.namespace, job_spec((), runtime, regctl), child)
        if args.images:
            create_job(f"{name}-images", args.namespace, job_spec(args.images, runtime, regctl), child)
        self.register_outputs({})


def create_regctl_configuration(
    name: str, args: PrefetchArgs, front: pulumi.Input[str], opts: pulumi.ResourceOptions
) -> pulumi.Output[str]:
    """The Secret's name; a Secret since it holds a password where the front asks for one."""
    text = pulumi.Output.secret(front).apply(lambda front: prefetch.regctl_configuration(args.regctl, front))
    secret = k8s.core.v1.Secret(
        name,
        metadata=metadata(args.namespace, labels=LABELS),
        string_data={prefetch.REGCTL_FILE: text},
        immutable=True,
        opts=opts,
    )
    return secret.metadata.name


def create_template(
    name: str, namespace: str, spec: k8s.batch.v1.JobSpecArgsDict, opts: pulumi.ResourceOptions
) -> k8s.batch.v1.CronJob:
    """Suspended for good: its Jobs are made by hand, and go with it."""
    return k8s.batch.v1.CronJob(
        name,
        metadata=metadata(namespace, TEMPLATE, LABELS),
        spec={"schedule": NEVER, "suspend": True, "job_template": {"spec": spec}},
        opts=opts,
    )


def create_job(
    name: str, namespace: str, spec: k8s.batch.v1.JobSpecArgsDict, opts: pulumi.ResourceOptions
) -> k8s.batch.v1.Job:
    """Named by the provider: another list, image or configuration makes a new one, which is to succeed."""
    # Else one that failed is waited for for ever, and never tried again.
    retried = metadata(namespace, labels=LABELS) | {"annotations": {"pulumi.com/replaceUnready": "true"}}
    timeouts = pulumi.CustomTimeouts(create=f"{LONGEST_SECONDS + 60}s", update=f"{LONGEST_SECONDS + 60}s")
    return k8s.batch.v1.Job(
        name,
        metadata=retried,
        spec=spec,
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(custom_timeouts=timeouts)),
    )


def job_spec(images: Sequence[str], runtime: Runtime, regctl: pulumi.Input[str]) -> k8s.batch.v1.JobSpecArgsDict:
    """The script tries each image again by itself."""
    return {
        "backoff_limit": 0,
        "active_deadline_seconds": LONGEST_SECONDS,
        "template": {"metadata": {"labels": LABELS}, "spec": prefetch_pod(images, runtime, regctl)},
    }


def prefetch_pod(images: Sequence[str], runtime: Runtime, regctl: pulumi.Input[str]) -> k8s.core.v1.PodSpecArgsDict:
    runs = container("prefetch", prefetch.SCRIPT, images, runtime)
    runs |= {
        "volume_mounts": [
            configuration_mount(),
            {"name": "regctl", "mount_path": prefetch.REGCTL_FOLDER, "read_only": True},
        ],
        # The script writes what failed; this is for what ends the script itself.
        "termination_message_policy": "FallbackToLogsOnError",
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    }
    volumes: list[k8s.core.v1.VolumeArgsDict] = [
        configuration_volume(runtime),
        {"name": "regctl", "secret": {"secret_name": regctl, "default_mode": 0o440}},
    ]
    return pod(runs, volumes) | {"restart_policy": "Never", "termination_grace_period_seconds": 5}
