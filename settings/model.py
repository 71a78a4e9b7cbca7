"""The model of the stack's configuration: every key that the program reads, with its default and its rules.

Descriptions stand beside the keys in Pulumi.yaml, where a user looks for them; a test keeps the two lists the same.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, model_validator

from settings.values import (
    Bool,
    Entry,
    Folder,
    Host,
    ImageReference,
    NodeName,
    Percent,
    Port,
    Proxy,
    Quantity,
    Url,
    User,
    check_entry,
)

NODE_PORT = 30500


class Model(BaseModel):
    """Frozen, and strict about keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True)


class Node(Model):
    """One node of the cluster: how to reach it. What is not given here comes from the `docker_cache_ssh_…` keys."""

    name: NodeName
    host: Host
    kube_master: Bool = False
    user: User | None = None
    port: Port | None = None
    private_key: SecretStr | None = None
    private_key_path: str | None = None
    password: SecretStr | None = None
    sudo: Bool | None = None
    host_key: str | None = None
    host_key_path: str | None = None


def check_not_empty(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    if not nodes:
        raise ValueError("list at least one node")
    return nodes


Nodes = Annotated[tuple[Node, ...], AfterValidator(check_not_empty)]


class Settings(Model):
    """The checked configuration of an enabled cache."""

    enable_docker_cache: Bool = False
    docker_cache_storage_backend: Literal["filesystem"] = "filesystem"
    docker_cache_fs_mount_path: Folder = "/var/lib/registry"
    docker_cache_fs_storage_class: str | None = None
    docker_cache_fs_size: Quantity = "100Gi"
    docker_cache_fs_min_free: Percent = 15
    docker_cache_remote_url: Url = "https://registry-1.docker.io"
    docker_cache_image: ImageReference = "registry:3.1.2"
    docker_cache_http_proxy: Proxy | None = None
    docker_cache_https_proxy: Proxy | None = None
    docker_cache_no_proxy: str | None = None
    docker_cache_entry: Entry | None = None
    docker_cache_kubeconfig: SecretStr = SecretStr("~/.kube/config")
    docker_cache_kube_context: str
    docker_cache_nodes: Nodes
    docker_cache_ssh_user: User = "root"
    docker_cache_ssh_port: Port = 22
    docker_cache_ssh_private_key: SecretStr | None = None
    docker_cache_ssh_private_key_path: str | None = None
    docker_cache_ssh_password: SecretStr | None = None
    docker_cache_ssh_sudo: Bool = False
    docker_cache_ssh_trust_any_host_key: Bool = False
    docker_cache_allow_pending_changes: Bool = False
    docker_cache_proof_image: ImageReference = "hello-world:latest"

    @property
    def first_master(self) -> Node | None:
        return next((node for node in self.docker_cache_nodes if node.kube_master), None)

    @property
    def entry(self) -> str:
        """The URL that every node gets as its mirror; `consistent` has seen to it that there is one."""
        if self.docker_cache_entry:
            return self.docker_cache_entry
        return check_entry(f"http://{self.first_master.host if self.first_master else ''}:{NODE_PORT}")

    @model_validator(mode="after")
    def consistent(self) -> Self:
        """Rules that span keys; all findings at once."""
        problems = [*self._duplicates(), *self._without_master()]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _duplicates(self) -> list[str]:
        names = [node.name for node in self.docker_cache_nodes]
        places = [(node.host, node.port or self.docker_cache_ssh_port) for node in self.docker_cache_nodes]
        twice_named = sorted({name for name in names if names.count(name) > 1})
        twice_placed = sorted({place for place in places if places.count(place) > 1})
        return [
            *(
                f'docker_cache_nodes has the name "{name}" twice: give each node a name of its own'
                for name in twice_named
            ),
            *(f'docker_cache_nodes has "{host}:{port}" twice: list each node once' for host, port in twice_placed),
        ]

    def _without_master(self) -> list[str]:
        if self.first_master:
            return []
        needs = []
        if not self.docker_cache_entry:
            needs.append("the entry is the first master's address (or set docker_cache_entry)")
        if not self.docker_cache_fs_storage_class:
            needs.append("the cache's folder lies on the first master (or set docker_cache_fs_storage_class)")
        remedy = "set kube_master: true on the first Kubernetes master"
        return [f"docker_cache_nodes names no master: {remedy}, since {' and '.join(needs)}"] if needs else []
