"""From a checked stack to the components' arguments: pure, and the one place where the two vocabularies meet."""

import base64
from collections.abc import Mapping

from pydantic import SecretStr

from components.azure_account import AzureAccountArgs
from components.cache_front import FrontArgs
from components.cache_storage import AzureArgs, ClaimArgs, ExistingClaimArgs, FolderArgs, StorageArgs
from components.exporters import ExporterArgs
from components.front_tls import ExistingSecret, FrontTlsArgs, GivenPair
from components.node_mirrors import NodeMirrorsArgs
from components.observing import ObservingArgs
from components.prefetch import PrefetchArgs
from components.registry_cache import RegistryCacheArgs
from components.store_keeper import KeeperArgs
from components.store_proof import StoreProofArgs
from components.upstream_registry import UpstreamArgs
from rendering import registry
from rendering.prefetch import Regctl, words
from settings.htpasswd import parse_htpasswd
from settings.model import DOCKER_IO, Settings, Upstream
from settings.stack import Stack
from settings.upstreams import folder
from settings.values import size_in_bytes

ROLE_SECONDS = 600
"""What a role that was just assigned needs to take effect, and a new account to get its address:
https://learn.microsoft.com/azure/role-based-access-control/troubleshooting#symptom---role-assignment-changes-are-not-being-detected."""
IDENTITY_ENDPOINT = "169.254.169.254"
"""Where a virtual machine in Azure gets the tokens of its identity."""


def registry_cache_args(stack: Stack) -> RegistryCacheArgs:
    settings = stack.settings
    return RegistryCacheArgs(
        namespace=settings.docker_cache_namespace,
        image=settings.docker_cache_image,
        front=front_args(stack),
        upstreams=[upstream_args(settings, upstream) for upstream in settings.upstreams],
        storage=storage_args(stack),
        store_proof=store_proof_args(settings) if settings.signs_in_by_identity else None,
        keeper=None if settings.is_on_azure else keeper_args(settings),
        min_free_percent=settings.docker_cache_fs_min_free,
        environment=environment(settings),
        exporters=exporter_args(settings),
        observing=observing_args(settings),
        htpasswd=htpasswd_text(settings),
        network_policy=settings.docker_cache_network_policy,
    )


def exporter_args(settings: Settings) -> ExporterArgs:
    return ExporterArgs(
        exporter_image=settings.docker_cache_exporter_image, client_image=settings.docker_cache_prefetch_image
    )


def observing_args(settings: Settings) -> ObservingArgs:
    return ObservingArgs(
        namespace=settings.docker_cache_namespace,
        pod_monitor=settings.docker_cache_service_monitor,
        alert_rules=settings.docker_cache_alert_rules,
        dashboard=settings.docker_cache_dashboard,
    )


def front_args(stack: Stack) -> FrontArgs:
    settings = stack.settings
    return FrontArgs(
        namespace=settings.docker_cache_namespace,
        node_port=settings.docker_cache_node_port,
        image=settings.docker_cache_front_image,
        registry_image=settings.docker_cache_image,
        hot_size=settings.docker_cache_hot_size,
        tag_seconds=settings.docker_cache_tag_ttl,
        replicas=settings.docker_cache_replicas,
        priority_class=settings.docker_cache_priority_class,
        htpasswd=htpasswd_text(settings),
        tls=tls_args(stack),
        allowed_cidrs=settings.docker_cache_allowed_cidrs,
        node_names=[node.name for node in settings.front_nodes] if settings.docker_cache_allowed_cidrs else (),
    )


def tls_args(stack: Stack) -> FrontTlsArgs | None:
    name, pair = stack.settings.docker_cache_tls_secret, stack.tls
    image = stack.settings.docker_cache_tls_image
    if name:
        return FrontTlsArgs(image=image, certificate=ExistingSecret(name=name))
    if pair:
        return FrontTlsArgs(image=image, certificate=GivenPair(certificate=pair.certificate, key=pair.key))
    return None


def htpasswd_text(settings: Settings) -> str | None:
    given = settings.docker_cache_htpasswd
    return parse_htpasswd(given.get_secret_value()).text if given else None


def storage_args(stack: Stack) -> StorageArgs:
    settings = stack.settings
    if settings.is_on_azure:
        return azure_args(stack)
    if settings.docker_cache_fs_claim:
        return ExistingClaimArgs(name=settings.docker_cache_fs_claim)
    if settings.docker_cache_fs_storage_class:
        return ClaimArgs(
            storage_class=settings.docker_cache_fs_storage_class,
            size=settings.docker_cache_fs_size,
            delete_data=settings.docker_cache_delete_data,
        )
    if stack.master is None:
        raise ValueError("the settings' rules ask for a master where the cache lies in a folder")
    return FolderArgs(
        path=settings.docker_cache_fs_mount_path,
        node_name=stack.master.name,
        access=stack.master,
        forgotten=stack.forgotten_masters,
        delete_data=settings.docker_cache_delete_data,
    )


def azure_args(stack: Stack) -> AzureArgs:
    settings = stack.settings
    return AzureArgs(
        account_name=settings.docker_cache_azure_account_name or "",
        container_name=settings.docker_cache_azure_container_name,
        service_url=settings.blob_service_url,
        key=stack.azure_account_key,
        account=azure_account_args(settings) if settings.docker_cache_azure_create_account else None,
    )


def azure_account_args(settings: Settings) -> AzureAccountArgs:
    return AzureAccountArgs(
        account_name=settings.docker_cache_azure_account_name or "",
        container_name=settings.docker_cache_azure_container_name,
        resource_group=settings.docker_cache_azure_resource_group,
        location=settings.docker_cache_azure_location or "",
        sku=settings.docker_cache_azure_sku,
        networks=settings.docker_cache_azure_allowed_networks,
        delete_unread_after_days=settings.docker_cache_azure_delete_unread_after_days,
        key_name=None if settings.signs_in_by_identity else settings.docker_cache_azure_account_key_name,
        principal_id=settings.docker_cache_azure_identity_principal_id,
        delete_data=settings.docker_cache_delete_data,
    )


def upstream_args(settings: Settings, upstream: Upstream) -> UpstreamArgs:
    """Docker Hub's images have the root of the store: they lay there when there was no other upstream."""
    place = None if upstream.host == DOCKER_IO else folder(upstream.host)
    is_on_azure = settings.is_on_azure
    return UpstreamArgs(
        host=upstream.host,
        url=upstream.remote_url,
        storage_section=registry.azure(azure_place(settings), place) if is_on_azure else registry.filesystem(place),
        secret_environment=secret_environment(settings, upstream),
    )


def azure_place(settings: Settings) -> registry.Azure:
    return registry.Azure(
        account=settings.docker_cache_azure_account_name or "",
        container=settings.docker_cache_azure_container_name,
        has_key=not settings.signs_in_by_identity,
        realm=settings.docker_cache_azure_realm,
        service_url=settings.docker_cache_azure_service_url,
        redirect=settings.docker_cache_azure_redirect,
    )


def store_proof_args(settings: Settings) -> StoreProofArgs:
    return StoreProofArgs(
        store=f"the container {settings.docker_cache_azure_container_name} at {settings.blob_service_url}",
        storage_section=registry.azure(azure_place(settings), registry.PROOF_FOLDER),
        patience_seconds=ROLE_SECONDS if settings.docker_cache_azure_create_account else 0,
    )


def keeper_args(settings: Settings) -> KeeperArgs:
    most = settings.docker_cache_fs_max_size
    return KeeperArgs(
        namespace=settings.docker_cache_namespace,
        image=settings.docker_cache_image,
        front_image=settings.docker_cache_front_image,
        most_kib=size_in_bytes(most) // 1024 if most else 0,
        ttl_seconds=settings.docker_cache_ttl or 0,
    )


def environment(settings: Settings) -> Mapping[str, str]:
    """Azure's library takes the client id of the identity that it is to sign in with from there."""
    client = settings.docker_cache_azure_identity_client_id
    return {"AZURE_CLIENT_ID": client} if client and settings.is_on_azure else {}


def secret_environment(settings: Settings, upstream: Upstream) -> Mapping[str, str]:
    """The registry's variables that hold, or may hold, credentials; Distribution reads its configuration from REGISTRY_… too."""
    secrets: dict[str, SecretStr | None] = {
        "HTTP_PROXY": settings.docker_cache_http_proxy,
        "HTTPS_PROXY": settings.docker_cache_https_proxy,
        "REGISTRY_PROXY_USERNAME": upstream.username,
        "REGISTRY_PROXY_PASSWORD": upstream.password,
    }
    values = {name: secret.get_secret_value() for name, secret in secrets.items() if secret}
    no_proxy = unproxied(settings)
    return values | ({"NO_PROXY": no_proxy} if no_proxy else {})


def unproxied(settings: Settings) -> str:
    """What the registry reaches directly. Its library asks for the identity's token by a proxy, too, where one is set."""
    has_proxy = settings.docker_cache_http_proxy or settings.docker_cache_https_proxy
    hosts = [settings.docker_cache_no_proxy] if settings.docker_cache_no_proxy else []
    if has_proxy and settings.signs_in_by_identity:
        hosts.append(IDENTITY_ENDPOINT)
    return ",".join(hosts)


def node_mirrors_args(stack: Stack) -> NodeMirrorsArgs:
    settings = stack.settings
    return NodeMirrorsArgs(
        entries=settings.entries,
        upstreams=settings.mirrored_hosts,
        nodes=stack.nodes,
        canary=settings.canary,
        forgotten=stack.forgotten,
        certificate=stack.entry_ca,
        insecure=settings.docker_cache_entry_insecure,
        authorization=authorization(settings),
        engines=settings.docker_cache_engines,
        allow_pending_changes=settings.docker_cache_allow_pending_changes,
        allow_restart=settings.docker_cache_allow_restart,
        proof_image=settings.docker_cache_proof_image if settings.docker_cache_proof else None,
        generations=settings.docker_cache_generations,
    )


def authorization(settings: Settings) -> str | None:
    """The header of basic authentication (RFC 7617) for an entry that asks for credentials."""
    name, password = settings.docker_cache_entry_username, settings.docker_cache_entry_password
    if not name or not password:
        return None
    pair = f"{name.get_secret_value()}:{password.get_secret_value()}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def prefetch_args(settings: Settings) -> PrefetchArgs:
    name, password = settings.docker_cache_entry_username, settings.docker_cache_entry_password
    return PrefetchArgs(
        namespace=settings.docker_cache_namespace,
        image=settings.docker_cache_prefetch_image,
        regctl=Regctl(
            hosts=[upstream.host for upstream in settings.upstreams],
            username=name.get_secret_value() if name else None,
            password=password.get_secret_value() if password else None,
        ),
        images=words((item.image, item.platforms) for item in settings.docker_cache_prefetch),
    )
