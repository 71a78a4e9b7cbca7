"""Who reaches the cache's pods: the registries the front alone, the front its clients. A policy engine has to enforce it.

A node reaches its own pods whatever a policy says, so that the kubelet's probes need no rule.
"""

from collections.abc import Mapping

import pulumi
import pulumi_kubernetes as k8s

from components import exporters
from components.cache_front import FrontArgs
from components.metadata import FRONT_LABELS, LABELS, PART, metadata
from rendering import haproxy, varnish


def create_network_policies(name: str, front: FrontArgs, opts: pulumi.ResourceOptions) -> None:
    create(f"{name}-front", front.namespace, FRONT_LABELS, front_rules(front), opts)
    create(f"{name}-registry", front.namespace, LABELS, registry_rules(), opts)


def create(
    name: str,
    namespace: str,
    pods: Mapping[str, str],
    rules: list[k8s.networking.v1.NetworkPolicyIngressRuleArgsDict],
    opts: pulumi.ResourceOptions,
) -> k8s.networking.v1.NetworkPolicy:
    return k8s.networking.v1.NetworkPolicy(
        name,
        metadata=metadata(namespace, name),
        spec={"pod_selector": {"match_labels": pods}, "policy_types": ["Ingress"], "ingress": rules},
        opts=opts,
    )


def front_rules(front: FrontArgs) -> list[k8s.networking.v1.NetworkPolicyIngressRuleArgsDict]:
    """Without networks the entry is everybody's, which is a rule that names nobody. While nodes change over from http to https,
    there is a Service for each.
    """
    entry: k8s.networking.v1.NetworkPolicyIngressRuleArgsDict = {
        "ports": [{"port": varnish.ENTRY_PORT}, {"port": haproxy.PORT}]
    }
    if front.allowed_cidrs:
        entry |= {"from_": [{"ip_block": {"cidr": cidr}} for cidr in front.allowed_cidrs]}
    return [entry, {"from_": [{"pod_selector": {"match_labels": PART}}]}, metrics()]


def registry_rules() -> list[k8s.networking.v1.NetworkPolicyIngressRuleArgsDict]:
    return [{"from_": [{"pod_selector": {"match_labels": FRONT_LABELS}}]}, metrics()]


def metrics() -> k8s.networking.v1.NetworkPolicyIngressRuleArgsDict:
    return {"from_": [{"namespace_selector": {}}], "ports": [{"port": exporters.PORT}]}
