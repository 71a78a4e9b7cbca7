"""The cache in the cluster: its storage, a registry for each upstream, and the front that the nodes reach them by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import pulumi
import pulumi_kubernetes as k8s

from components.cache_front import FrontArgs, create_front
from components.cache_storage import CacheStorage, StorageArgs
from components.exporters import ExporterArgs, create_exporters, front_exporters
from components.network_policy import create_network_policies
from components.observing import ObservingArgs, create_observing
from components.pod import create_secret
from components.store_keeper import Keeper, KeeperArgs, create_keeper
from components.store_proof import StoreProofArgs, create_store_proof
from components.upstream_registry import (
    Common,
    UpstreamArgs,
    create_deployment,
    create_runtime,
    create_service,
    resource_name,
)
from rendering import registry
from settings.model import DOCKER_IO


@final
@dataclass(frozen=True, kw_only=True)
class RegistryCacheArgs:
    """`upstreams` begins with Docker Hub. `htpasswd` (a file's text) holds credentials: it reaches the pods by a Secret alone.
    `store_proof` is there where only a pod can prove the store, `keeper` where the store is a file system.
    """

    namespace: str
    image: str
    front: FrontArgs
    upstreams: Sequence[UpstreamArgs]
    storage: StorageArgs
    store_proof: StoreProofArgs | None
    keeper: KeeperArgs | None
    min_free_percent: int
    environment: Mapping[str, str]
    exporters: ExporterArgs
    observing: ObservingArgs
    htpasswd: str | None = field(repr=False)
    network_policy: bool


class RegistryCache(pulumi.ComponentResource):
    """The registries with their front."""

    storage_location: pulumi.Input[str]
    front_address: pulumi.Output[str]
    """Within the cluster, by plain http."""

    def __init__(self, name: str, args: RegistryCacheArgs, *, provider: k8s.Provider) -> None:
        super().__init__("docker-cache:registry:RegistryCache", name)
        kubernetes = pulumi.ResourceOptions(provider=provider)
        child = pulumi.ResourceOptions(parent=self, provider=provider)
        storage = CacheStorage(
            f"{name}-store",
            args.storage,
            pulumi.ResourceOptions(parent=self),
            kubernetes=kubernetes,
            namespace=args.namespace,
        )
        self.storage_location = storage.location
        htpasswd = {registry.HTPASSWD_FILE: args.htpasswd} if args.htpasswd else {}
        exporters = create_exporters(f"{name}-metrics", args.namespace, args.exporters, child)
        common = Common(
            namespace=args.namespace,
            image=args.image,
            environment=args.environment,
            min_free_percent=args.min_free_percent,
            storage=storage,
            htpasswd=create_secret(f"{name}-htpasswd", args.namespace, htpasswd, child),
            exporters=exporters,
            are_many=len(args.upstreams) > 1,
            priority_class=args.front.priority_class,
        )
        if args.keeper:
            args = with_keeper(args, create_keeper(f"{name}-keeper", args.keeper, child))
        addresses = create_registries(name, args, common, child)
        # The front waits for no registry: it has hits to serve where one can't start.
        observed = [*args.front.sidecars, *front_exporters(exporters, args.front.image, list(addresses))]
        nodes, inside = create_front(f"{name}-front", replace(args.front, sidecars=observed), addresses, child)
        self.front_address = inside.spec.cluster_ip
        create_observing(name, args.observing, child)
        if args.network_policy:
            # In a cache from before the front the nodes' Service leads to the registry until then.
            led = pulumi.ResourceOptions(depends_on=[nodes])
            create_network_policies(name, args.front, pulumi.ResourceOptions.merge(child, led))
        self.register_outputs({})


def with_keeper(args: RegistryCacheArgs, keeper: Keeper) -> RegistryCacheArgs:
    """It runs beside Docker Hub's registry, whose pod has the whole store, and beside the front."""
    hub, *others = args.upstreams
    hub = replace(hub, sidecars=(*hub.sidecars, keeper.in_registry))
    front = replace(args.front, sidecars=(*args.front.sidecars, keeper.in_front))
    return replace(args, upstreams=(hub, *others), front=front)


def create_registries(
    name: str, args: RegistryCacheArgs, common: Common, opts: pulumi.ResourceOptions
) -> Mapping[str, pulumi.Output[str]]:
    """The addresses of their Services by host. The pods begin once the store is proved, and none waits for another."""
    runtimes = {
        upstream.host: create_runtime(
            resource_name(name, upstream.host), upstream, common, proof_files(args, upstream), opts
        )
        for upstream in args.upstreams
    }
    ready: list[pulumi.Resource] = [common.storage]
    if args.store_proof:
        after_storage = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[common.storage]))
        runtime = runtimes[DOCKER_IO]
        ready.append(
            create_store_proof(f"{name}-store-proof", args.namespace, args.store_proof, runtime, after_storage)
        )
    after_proof = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=ready))
    addresses = {}
    for upstream in args.upstreams:
        own_name = resource_name(name, upstream.host)
        addresses[upstream.host] = create_service(own_name, upstream, common, opts).spec.cluster_ip
        create_deployment(own_name, upstream, common, runtimes[upstream.host], after_proof)
    return addresses


def proof_files(args: RegistryCacheArgs, upstream: UpstreamArgs) -> Mapping[str, str]:
    """All share one store, which is proved once: with what Docker Hub's registry runs with."""
    is_prover = args.store_proof and upstream.host == DOCKER_IO
    return registry.proof_files(args.store_proof.storage_section) if args.store_proof and is_prover else {}
