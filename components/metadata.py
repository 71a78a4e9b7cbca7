"""What every Kubernetes resource of ours carries."""

import pulumi_kubernetes as k8s

LABELS = {"app.kubernetes.io/name": "docker-cache-registry", "app.kubernetes.io/part-of": "docker-cache"}


def metadata(namespace: str, name: str | None = None) -> k8s.meta.v1.ObjectMetaArgsDict:
    """Without a name the provider makes one up, and a replacement is made before the old one goes."""
    named: k8s.meta.v1.ObjectMetaArgsDict = {"name": name} if name else {}
    return {"namespace": namespace, "labels": LABELS, **named}
