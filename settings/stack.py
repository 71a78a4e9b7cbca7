"""The stack's configuration as everything that `__main__.py` needs, or a list of what is wrong with it."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from settings.access import Access, resolve
from settings.azure import read_account_key
from settings.cautions import cautions
from settings.certificate import read_certificate
from settings.cluster import Answer, Ask, Cluster, ask_cluster, find_cluster
from settings.loading import Disabled, Read, SettingsError, examine
from settings.model import Settings
from settings.tls import TlsPair, read_tls, tls_cautions

PREFIX = "docker-cache:"
SSH_KEYS = frozenset(
    {
        "docker_cache_nodes",
        "docker_cache_forget_nodes",
        "docker_cache_ssh_private_key",
        "docker_cache_ssh_private_key_path",
        "docker_cache_ssh_private_key_passphrase",
        "docker_cache_ssh_password",
        "docker_cache_ssh_known_hosts_path",
        "docker_cache_ssh_bastion",
        "docker_cache_ssh_trust_any_host_key",
    }
)
CLUSTER_KEYS = frozenset({"docker_cache_kubeconfig", "docker_cache_kube_context", "docker_cache_custom_registry"})
"""Keys without which there is nothing to look at."""
TLS_KEYS = frozenset(
    {
        "docker_cache_entry",
        "docker_cache_entry_insecure",
        "docker_cache_nodes",
        "docker_cache_forget_nodes",
        "docker_cache_tls_key",
    }
)
"""What the certificate is held against."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Checked settings with what they refer to: the cluster (None for a custom registry), and how each node is reached (in the
    order of the list). Nothing connects to a node in `forgotten`. `cautions` are for the user's eyes.
    """

    settings: Settings
    cluster: Cluster | None
    nodes: tuple[Access, ...]
    forgotten: tuple[Access, ...] = ()
    entry_ca: str | None = None
    tls: TlsPair | None = None
    azure_account_key: str | None = field(default=None, repr=False)
    cautions: tuple[str, ...] = ()

    @property
    def master(self) -> Access | None:
        first = self.settings.first_master
        return next((node for node in self.nodes if first and node.name == first.name), None)

    @property
    def forgotten_masters(self) -> tuple[Access, ...]:
        masters = {node.name for node in self.settings.docker_cache_nodes if node.kube_master}
        return tuple(node for node in self.forgotten if node.name in masters)


def given_keys(environment: Mapping[str, str]) -> list[str]:
    """The keys of this project that the engine hands on, declared or not."""
    return list(given_values(environment))


def plain_keys(environment: Mapping[str, str]) -> list[str]:
    """The given keys, as far as they have a value and the engine does not know them as secrets."""
    encrypted: list[str] = json.loads(environment.get("PULUMI_CONFIG_SECRET_KEYS") or "[]")
    return [key for key, value in given_values(environment).items() if value and PREFIX + key not in encrypted]


def given_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Where pulumi's SDK reads them from too."""
    values: dict[str, str] = json.loads(environment.get("PULUMI_CONFIG") or "{}")
    return {key.removeprefix(PREFIX): value for key, value in values.items() if key.startswith(PREFIX)}


def read_stack(
    read: Read,
    base: Path,
    environment: Mapping[str, str],
    given: Collection[str] = (),
    plain: Collection[str] = (),
    *,
    ask: Ask = ask_cluster,
) -> Stack | Disabled:
    """Check the configuration, the files it names and, by `ask`, the cluster. Raises SettingsError with all problems found."""
    examined = examine(read, given)
    if isinstance(examined, Disabled):
        return examined
    settings, problems = examined.settings, list(examined.problems)
    nodes = () if examined.wrong & SSH_KEYS else resolve(settings, base, environment, problems)
    entry_ca = read_certificate(settings, base, problems)
    tls = None if examined.wrong & TLS_KEYS else read_tls(settings, base, entry_ca, problems)
    azure_account_key = read_account_key(settings, base, problems)
    cluster = None
    if not settings.docker_cache_custom_registry and not examined.wrong & CLUSTER_KEYS:
        cluster = find_cluster(settings, base, problems)
    answer = ask(cluster, settings, entry_ca) if cluster and not problems else Answer()
    problems += answer.problems
    if problems:
        raise SettingsError(problems)
    kept = {node.name for node in settings.kept_nodes}
    return Stack(
        settings=settings,
        cluster=cluster,
        nodes=tuple(node for node in nodes if node.name in kept),
        forgotten=tuple(node for node in nodes if node.name not in kept),
        entry_ca=entry_ca,
        tls=tls,
        azure_account_key=azure_account_key,
        cautions=(
            *cautions(settings, plain, azure_account_key, nodes),
            *tls_cautions(tls, settings),
            *answer.cautions,
        ),
    )
