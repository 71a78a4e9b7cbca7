"""What the Prometheus operator and Grafana are told of the cache, each only where it is asked for."""

from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from components.metadata import PART, metadata
from rendering import observing

NAME = "docker-cache"
MONITORING = "monitoring.coreos.com/v1"


@dataclass(frozen=True, kw_only=True)
class ObservingArgs:
    """What is wanted: a PodMonitor, a PrometheusRule, a dashboard."""

    namespace: str
    pod_monitor: bool
    alert_rules: bool
    dashboard: bool


def create_observing(name: str, args: ObservingArgs, opts: pulumi.ResourceOptions) -> None:
    if args.pod_monitor:
        create_custom(f"{name}-pods", "PodMonitor", args.namespace, observing.pod_monitor(PART), opts)
    if args.alert_rules:
        create_custom(f"{name}-alerts", "PrometheusRule", args.namespace, {"groups": observing.alert_groups()}, opts)
    if args.dashboard:
        create_dashboard(f"{name}-dashboard", args.namespace, opts)


def create_custom(
    name: str, kind: str, namespace: str, spec: dict[str, object], opts: pulumi.ResourceOptions
) -> k8s.apiextensions.CustomResource:
    """Their names are fixed: an update changes them in place, and no alert is there twice."""
    return k8s.apiextensions.CustomResource(
        name, api_version=MONITORING, kind=kind, metadata=metadata(namespace, NAME), spec=spec, opts=opts
    )


def create_dashboard(name: str, namespace: str, opts: pulumi.ResourceOptions) -> k8s.core.v1.ConfigMap:
    """Grafana's sidecar finds it by its label: https://github.com/grafana/helm-charts/tree/main/charts/grafana#sidecar-for-dashboards."""
    labelled = metadata(namespace)
    labelled |= {"labels": {**PART, "grafana_dashboard": "1"}}
    return k8s.core.v1.ConfigMap(
        name, metadata=labelled, data={"docker-cache.json": observing.dashboard()}, immutable=True, opts=opts
    )
