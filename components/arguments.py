"""From a checked stack to the components' arguments: pure, and the one place where the two vocabularies meet."""

from components.cache_storage import ClaimArgs, FolderArgs
from components.node_mirrors import NodeMirrorsArgs
from components.registry_cache import RegistryCacheArgs
from settings.stack import Stack


def registry_cache_args(stack: Stack) -> RegistryCacheArgs:
    settings = stack.settings
    return RegistryCacheArgs(
        image=settings.docker_cache_image,
        upstream=settings.docker_cache_remote_url,
        storage=storage_args(stack),
        min_free_percent=settings.docker_cache_fs_min_free,
        proxy_environment=stack.proxy_environment,
    )


def storage_args(stack: Stack) -> FolderArgs | ClaimArgs:
    settings = stack.settings
    if settings.docker_cache_fs_storage_class:
        return ClaimArgs(storage_class=settings.docker_cache_fs_storage_class, size=settings.docker_cache_fs_size)
    if stack.master is None:
        raise ValueError("settings without a storage class have a master")
    return FolderArgs(path=settings.docker_cache_fs_mount_path, node_name=stack.master.name, access=stack.master)


def node_mirrors_args(stack: Stack) -> NodeMirrorsArgs:
    settings = stack.settings
    return NodeMirrorsArgs(
        entry=settings.entry,
        nodes=stack.nodes,
        allow_pending_changes=settings.docker_cache_allow_pending_changes,
    )
