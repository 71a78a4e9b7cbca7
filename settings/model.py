"""The model of the stack's configuration: every key that the program reads, with its default and its rules.

Descriptions stand beside the keys in Pulumi.yaml, where a user looks for them; a test keeps the two lists the same.
"""

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from settings.values import (
    AccountKey,
    AccountName,
    Amount,
    AmountOfNodes,
    AzureLocation,
    AzureRealm,
    Bool,
    Cidr,
    ContainerName,
    Count,
    Days,
    Duration,
    Entry,
    Folder,
    Generation,
    Host,
    HtpasswdText,
    ImageReference,
    Namespace,
    Network,
    NodeName,
    ObjectName,
    OneLine,
    Percent,
    Platform,
    Port,
    Proxy,
    Quantity,
    RegistryHost,
    ResourceGroupName,
    SomeNodes,
    Url,
    User,
    Uuid,
    check_entry,
)

DOCKER_HUB = "https://registry-1.docker.io"
DOCKER_IO = "docker.io"
"""The host that images of Docker Hub are named by, where they name one."""
Engine = Literal["docker", "containerd", "podman"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


class Model(BaseModel):
    """Frozen, and strict about keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True)


class Machine(Model):
    """How one machine is reached over ssh. What is not given here comes from the `docker_cache_ssh_…` keys."""

    host: Host
    user: User | None = None
    port: Port | None = None
    private_key: SecretStr | None = None
    private_key_path: str | None = None
    private_key_passphrase: OneLine | None = None
    password: SecretStr | None = None
    host_key: str | None = None
    host_key_path: str | None = None


class Bastion(Machine):
    """A machine that nodes are reached through."""


class Node(Machine):
    """One node of the cluster."""

    name: NodeName
    kube_master: Bool = False
    sudo: Bool | None = None
    sudo_password: OneLine | None = None
    bastion: Bastion | None = None
    direct: Bool = False


class Upstream(Model):
    """A registry that the cache pulls through, by the host that images name it by."""

    host: RegistryHost
    url: Url | None = None
    username: OneLine | None = None
    password: OneLine | None = None

    @model_validator(mode="before")
    @classmethod
    def from_text(cls, value: object) -> object:
        """A host alone stands for the registry there."""
        return {"host": value} if isinstance(value, str) else value

    @property
    def remote_url(self) -> str:
        return self.url or f"https://{self.host}"


class PrefetchedImage(Model):
    """An image that is in the cache before anybody asks for it, for all of its platforms or for those named (`linux/amd64`)."""

    image: ImageReference
    platforms: tuple[Platform, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def from_text(cls, value: object) -> object:
        """An image's name alone stands for all of its platforms."""
        return {"image": value} if isinstance(value, str) else value


class Settings(Model):
    """The configuration of an enabled cache, each value checked by itself; `rules.py` has what spans keys."""

    enable_docker_cache: Bool = False
    docker_cache_storage_backend: Literal["azure", "filesystem"] = "filesystem"
    docker_cache_azure_account_name: AccountName | None = None
    docker_cache_azure_account_key: AccountKey | None = None
    docker_cache_azure_account_key_path: str | None = None
    docker_cache_azure_account_key_name: Literal["key1", "key2"] = "key1"
    docker_cache_azure_container_name: ContainerName = "dockerregistry"
    docker_cache_azure_auth: Literal["shared_key", "managed_identity"] = "shared_key"
    docker_cache_azure_identity_client_id: Uuid | None = None
    docker_cache_azure_identity_principal_id: Uuid | None = None
    docker_cache_azure_create_account: Bool = False
    docker_cache_azure_resource_group: ResourceGroupName = "docker-cache"
    docker_cache_azure_location: AzureLocation | None = None
    docker_cache_azure_sku: Literal[
        "Standard_LRS", "Standard_ZRS", "Standard_GRS", "Standard_GZRS", "Standard_RAGRS", "Standard_RAGZRS"
    ] = "Standard_LRS"
    docker_cache_azure_allowed_networks: tuple[Network, ...] = ()
    docker_cache_azure_delete_unread_after_days: Days | None = None
    docker_cache_azure_realm: AzureRealm = "core.windows.net"
    docker_cache_azure_service_url: Url | None = None
    docker_cache_azure_redirect: Bool = False
    docker_cache_fs_mount_path: Folder = "/var/lib/registry"
    docker_cache_fs_storage_class: str | None = None
    docker_cache_fs_size: Quantity = "100Gi"
    docker_cache_fs_claim: ObjectName | None = None
    docker_cache_fs_min_free: Percent = 15
    docker_cache_delete_data: Bool = False
    docker_cache_remote_url: Url = DOCKER_HUB
    docker_cache_remote_username: OneLine | None = None
    docker_cache_remote_password: OneLine | None = None
    docker_cache_upstreams: tuple[Upstream, ...] = ()
    docker_cache_ttl: Duration | None = None
    docker_cache_fs_max_size: Quantity | None = None
    docker_cache_htpasswd: HtpasswdText | None = None
    docker_cache_htpasswd_over_plain_http: Bool = False
    docker_cache_tls_certificate: str | None = None
    docker_cache_tls_key: SecretStr | None = None
    docker_cache_tls_key_path: str | None = None
    docker_cache_tls_secret: ObjectName | None = None
    docker_cache_allowed_cidrs: tuple[Cidr, ...] = ()
    docker_cache_network_policy: Bool = True
    docker_cache_image: ImageReference = "registry:3.1.2"
    docker_cache_front_image: ImageReference = "varnish:7.7.3"
    docker_cache_tls_image: ImageReference = "haproxy:3.2.4"
    docker_cache_exporter_image: ImageReference = "prom/node-exporter:v1.9.1"
    docker_cache_prefetch_image: ImageReference = "ghcr.io/regclient/regctl:v0.9.2-alpine"
    docker_cache_hot_size: Quantity = "10Gi"
    docker_cache_tag_ttl: Duration = 60
    docker_cache_replicas: Count = 1
    docker_cache_priority_class: ObjectName | None = None
    docker_cache_service_monitor: Bool = False
    docker_cache_alert_rules: Bool = False
    docker_cache_dashboard: Bool = False
    docker_cache_prefetch: tuple[PrefetchedImage, ...] = ()
    docker_cache_http_proxy: Proxy | None = None
    docker_cache_https_proxy: Proxy | None = None
    docker_cache_no_proxy: str | None = None
    docker_cache_custom_registry: Entry | None = None
    docker_cache_entry: Entry | None = None
    docker_cache_entries: Literal["master", "masters", "node"] = "master"
    docker_cache_entry_ca: str | None = None
    docker_cache_entry_insecure: Bool = False
    docker_cache_entry_username: OneLine | None = None
    docker_cache_entry_password: OneLine | None = None
    docker_cache_kubeconfig: SecretStr = SecretStr("~/.kube/config")
    docker_cache_kube_context: str | None = None
    docker_cache_namespace: Namespace = "default"
    docker_cache_node_port: Port = 30500
    docker_cache_nodes: tuple[Node, ...] = ()
    docker_cache_forget_nodes: tuple[NodeName, ...] = ()
    docker_cache_canary: NodeName | None = None
    docker_cache_wave_size: SomeNodes = Amount(number=25, is_percent=True)
    docker_cache_max_failures: AmountOfNodes = Amount(number=10, is_percent=True)
    docker_cache_ssh_user: User = "root"
    docker_cache_ssh_port: Port = 22
    docker_cache_ssh_private_key: SecretStr | None = None
    docker_cache_ssh_private_key_path: str | None = None
    docker_cache_ssh_private_key_passphrase: OneLine | None = None
    docker_cache_ssh_password: SecretStr | None = None
    docker_cache_ssh_sudo: Bool = False
    docker_cache_ssh_sudo_password: OneLine | None = None
    docker_cache_ssh_known_hosts_path: str | None = None
    docker_cache_ssh_trust_any_host_key: Bool = False
    docker_cache_ssh_bastion: Bastion | None = None
    docker_cache_engines: tuple[Engine, ...] = ENGINES
    docker_cache_allow_pending_changes: Bool = False
    docker_cache_allow_restart: Bool = False
    docker_cache_generations: dict[NodeName, Generation] = {}
    docker_cache_proof: Bool = True
    docker_cache_proof_image: ImageReference = "hello-world:latest"

    @property
    def kept_nodes(self) -> tuple[Node, ...]:
        """The nodes that are there: all but the forgotten ones."""
        return tuple(node for node in self.docker_cache_nodes if node.name not in self.docker_cache_forget_nodes)

    @property
    def first_master(self) -> Node | None:
        return next((node for node in self.kept_nodes if node.kube_master), None)

    @property
    def canary(self) -> str | None:
        """The node that every change is tried on first; None where there is no node to try it on."""
        workers_first = sorted(self.kept_nodes, key=lambda node: node.kube_master)
        return self.docker_cache_canary or next((node.name for node in workers_first), None)

    @property
    def masters(self) -> tuple[Node, ...]:
        return tuple(node for node in self.kept_nodes if node.kube_master)

    @property
    def front_nodes(self) -> tuple[Node, ...]:
        """The nodes whose addresses are the entries, as far as they are the same for all; an entry of the user's own says nothing
        of nodes.
        """
        if self.docker_cache_entry or self.first_master is None:
            return ()
        return (self.first_master,) if self.docker_cache_entries == "master" else self.masters

    @property
    def given_entry(self) -> str | None:
        """The one URL that the configuration itself names."""
        return self.docker_cache_custom_registry or self.docker_cache_entry

    @property
    def has_entry(self) -> bool:
        """Whether there is one yet: a rule asks for nodes, and others look at the entry meanwhile."""
        return bool(self.given_entry or self.docker_cache_nodes)

    @property
    def entry(self) -> str:
        """The URL that stands for all; only without any node is there none."""
        first = self.first_master or next(iter(self.kept_nodes or self.docker_cache_nodes), None)
        return self.given_entry or self.entry_at(first.host if first else "")

    @property
    def entries(self) -> dict[str, tuple[str, ...]]:
        """The URLs that each node gets as its mirrors, in the order in which its engines try them, by the node's name."""
        if self.docker_cache_entries == "node" and not self.given_entry:
            return {node.name: (self.entry_at(node.host),) for node in self.kept_nodes}
        masters = self.masters if self.docker_cache_entries == "masters" and not self.given_entry else ()
        alike = tuple(dict.fromkeys(self.entry_at(node.host) for node in masters)) or (self.entry,)
        return {node.name: alike for node in self.kept_nodes}

    def entry_at(self, host: str) -> str:
        """The NodePort answers on every node of the cluster."""
        scheme = "https" if self.has_tls else "http"
        return check_entry(f"{scheme}://{host}:{self.docker_cache_node_port}")

    @property
    def has_tls(self) -> bool:
        """Whether the cache itself answers by https, at every entry of its own."""
        return bool(self.docker_cache_tls_certificate or self.docker_cache_tls_secret)

    @property
    def mirrored_hosts(self) -> tuple[str, ...]:
        """The registries besides Docker Hub that the nodes ask the cache for; a registry of the user's own serves none."""
        return () if self.docker_cache_custom_registry else tuple(each.host for each in self.docker_cache_upstreams)

    @property
    def upstream(self) -> str:
        """What the mirror stands for: a registry of the user's own answers for Docker Hub, the one that docker mirrors."""
        return DOCKER_HUB if self.docker_cache_custom_registry else self.docker_cache_remote_url

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """Every registry that the cache pulls through; Docker Hub, which it always does, is the first."""
        hub = Upstream(
            host=DOCKER_IO,
            url=self.docker_cache_remote_url,
            username=self.docker_cache_remote_username,
            password=self.docker_cache_remote_password,
        )
        return (hub, *self.docker_cache_upstreams)

    @property
    def is_on_azure(self) -> bool:
        """Whether a cache is installed that keeps its data on Azure."""
        return self.docker_cache_storage_backend == "azure" and not self.docker_cache_custom_registry

    @property
    def signs_in_by_identity(self) -> bool:
        """Whether the registry has no key for its storage, but the identity that its pod runs with."""
        return self.is_on_azure and self.docker_cache_azure_auth == "managed_identity"

    @property
    def blob_service_url(self) -> str:
        """The account's blob service, without a slash at the end."""
        account, realm = self.docker_cache_azure_account_name, self.docker_cache_azure_realm
        return self.docker_cache_azure_service_url or f"https://{account}.blob.{realm}"

    @property
    def has_folder(self) -> bool:
        """Whether the cache lies in a folder on the first master."""
        is_elsewhere = self.docker_cache_fs_storage_class or self.docker_cache_fs_claim
        return self.docker_cache_storage_backend == "filesystem" and not is_elsewhere


def holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(holds_secret(part) for part in get_args(annotation))


SECRET_KEYS = frozenset(
    name
    for model in (Settings, Node, Bastion, Upstream)
    for name, field in model.model_fields.items()
    if holds_secret(field.annotation)
)
"""Keys of the stack and of its nodes whose values are never shown."""
