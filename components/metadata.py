"""What every Kubernetes resource of ours carries."""

from collections.abc import Mapping

import pulumi_kubernetes as k8s

from settings.upstreams import label

PART = {"app.kubernetes.io/part-of": "docker-cache"}
LABELS = {"app.kubernetes.io/name": "docker-cache-registry", **PART}
FRONT_LABELS = {"app.kubernetes.io/name": "docker-cache-front", **PART}
UPSTREAM_LABEL = "docker-cache/upstream"


def upstream_labels(host: str) -> Mapping[str, str]:
    """Of the pods of one upstream's registry."""
    return {**LABELS, UPSTREAM_LABEL: label(host)}


def metadata(
    namespace: str, name: str | None = None, labels: Mapping[str, str] = LABELS
) -> k8s.meta.v1.ObjectMetaArgsDict:
    """Without a name the provider makes one up, and a replacement is made before the old one goes."""
    named: k8s.meta.v1.ObjectMetaArgsDict = {"name": name} if name else {}
    return {"namespace": namespace, "labels": labels, **named}
