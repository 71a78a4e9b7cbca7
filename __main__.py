"""docker-cache: a pull-through image cache in the cluster, and every node told to use it."""

import os
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from components.arguments import node_mirrors_args, registry_cache_args
from components.node_mirrors import NodeMirrors
from components.registry_cache import RegistryCache
from settings.loading import Disabled, SettingsError
from settings.stack import Stack, given_keys, read_stack


def deploy(stack: Stack) -> None:
    provider = k8s.Provider(
        "cluster", kubeconfig=pulumi.Output.secret(stack.cluster.kubeconfig), context=stack.cluster.context
    )
    cache = RegistryCache("docker-cache", registry_cache_args(stack), provider=provider)
    mirrors = NodeMirrors("nodes", node_mirrors_args(stack), pulumi.ResourceOptions(depends_on=[cache]))
    pulumi.export("entry", stack.settings.entry)
    pulumi.export("upstream", stack.settings.docker_cache_remote_url)
    pulumi.export("storage", cache.storage_location)
    pulumi.export("nodes", mirrors.results)


def main() -> None:
    try:
        stack = read_stack(pulumi.Config().get, Path(__file__).parent, os.environ, given_keys(os.environ))
    except SettingsError as error:
        raise pulumi.RunError(f"the stack's configuration has to be mended:\n{error}") from None
    if not isinstance(stack, Disabled):
        deploy(stack)


main()
