"""From a checked stack to the components' arguments: pure, and the one place where the two vocabularies meet."""

from collections.abc import Mapping

from pydantic import SecretStr

from components.cache_storage import AzureArgs, ClaimArgs, ExistingClaimArgs, FolderArgs, StorageArgs
from components.node_mirrors import NodeMirrorsArgs
from components.registry_cache import RegistryCacheArgs
from settings.htpasswd import parse_htpasswd
from settings.model import Settings
from settings.stack import Stack


def registry_cache_args(stack: Stack) -> RegistryCacheArgs:
    settings = stack.settings
    htpasswd = settings.docker_cache_htpasswd
    return RegistryCacheArgs(
        namespace=settings.docker_cache_namespace,
        node_port=settings.docker_cache_node_port,
        image=settings.docker_cache_image,
        upstream=settings.docker_cache_remote_url,
        storage=storage_args(stack),
        min_free_percent=settings.docker_cache_fs_min_free,
        secret_environment=secret_environment(settings),
        htpasswd=parse_htpasswd(htpasswd.get_secret_value()).text if htpasswd else None,
    )


def storage_args(stack: Stack) -> StorageArgs:
    settings = stack.settings
    if settings.docker_cache_storage_backend == "azure":
        return AzureArgs(
            account_name=settings.docker_cache_azure_account_name or "",
            container_name=settings.docker_cache_azure_container_name,
        )
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
        delete_data=settings.docker_cache_delete_data,
    )


def secret_environment(settings: Settings) -> Mapping[str, str]:
    """The registry's variables that hold, or may hold, credentials; Distribution reads its configuration from REGISTRY_… too."""
    secrets: dict[str, SecretStr | None] = {
        "HTTP_PROXY": settings.docker_cache_http_proxy,
        "HTTPS_PROXY": settings.docker_cache_https_proxy,
        "REGISTRY_PROXY_USERNAME": settings.docker_cache_remote_username,
        "REGISTRY_PROXY_PASSWORD": settings.docker_cache_remote_password,
    }
    if settings.docker_cache_storage_backend == "azure":
        secrets["REGISTRY_STORAGE_AZURE_ACCOUNTKEY"] = settings.docker_cache_azure_account_key
    values = {name: secret.get_secret_value() for name, secret in secrets.items() if secret}
    no_proxy = settings.docker_cache_no_proxy
    return values | ({"NO_PROXY": no_proxy} if no_proxy else {})


def node_mirrors_args(stack: Stack) -> NodeMirrorsArgs:
    settings = stack.settings
    return NodeMirrorsArgs(
        entry=settings.entry,
        nodes=stack.nodes,
        certificate=stack.entry_ca,
        insecure=settings.docker_cache_entry_insecure,
        allow_pending_changes=settings.docker_cache_allow_pending_changes,
    )
