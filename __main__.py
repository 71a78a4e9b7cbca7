"""docker-cache: a pull-through image cache in the cluster, and every node told to use it."""

import os
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from components.arguments import node_mirrors_args, prefetch_args, registry_cache_args
from components.node_mirrors import NodeMirrors
from components.prefetch import Prefetch
from components.registry_cache import RegistryCache
from settings.loading import Disabled, SettingsError
from settings.stack import Stack, given_keys, plain_keys, read_stack


def deploy(stack: Stack) -> None:
    for caution in stack.cautions:
        pulumi.warn(caution)
    cache = create_cache(stack)
    mirrors = NodeMirrors(
        "nodes", node_mirrors_args(stack), pulumi.ResourceOptions(depends_on=[cache] if cache else [])
    )
    pulumi.export("entry", stack.settings.entry)
    pulumi.export("upstream", stack.settings.upstream)
    if cache:
        pulumi.export("storage", cache.storage_location)
    pulumi.export("nodes", mirrors.results)


def create_cache(stack: Stack) -> RegistryCache | None:
    """None where the nodes are given a registry of the user's own."""
    if stack.cluster is None:
        return None
    provider = k8s.Provider(
        "cluster", kubeconfig=pulumi.Output.secret(stack.cluster.kubeconfig), context=stack.cluster.context
    )
    cache = RegistryCache("docker-cache", registry_cache_args(stack), provider=provider)
    # The nodes do not wait for it: it is no part of the cache.
    after = pulumi.ResourceOptions(depends_on=[cache])
    Prefetch("prefetch", prefetch_args(stack.settings), cache.front_address, after, provider=provider)
    return cache


def main() -> None:
    try:
        stack = read_stack(
            pulumi.Config().get,
            Path(__file__).parent,
            os.environ,
            given=given_keys(os.environ),
            plain=plain_keys(os.environ),
        )
    except SettingsError as error:
        raise pulumi.RunError(f"the stack's configuration has to be mended:\n{error}") from None
    if not isinstance(stack, Disabled):
        deploy(stack)


main()
