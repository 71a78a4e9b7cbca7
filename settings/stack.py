"""The stack's configuration as everything that `__main__.py` needs, or a list of what is wrong with it."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from settings.access import Access, resolve
from settings.cluster import Cluster, check_version, find_cluster
from settings.loading import Disabled, Read, SettingsError, load
from settings.model import Settings

PREFIX = "docker-cache:"


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Checked settings with what they refer to: the cluster, and how each node is reached (in the order of the list)."""

    settings: Settings
    cluster: Cluster
    nodes: tuple[Access, ...]

    @property
    def master(self) -> Access | None:
        first = self.settings.first_master
        return next((node for node in self.nodes if first and node.name == first.name), None)

    @property
    def proxy_environment(self) -> dict[str, str]:
        secrets = {
            "HTTP_PROXY": self.settings.docker_cache_http_proxy,
            "HTTPS_PROXY": self.settings.docker_cache_https_proxy,
        }
        values = {name: secret.get_secret_value() for name, secret in secrets.items() if secret}
        no_proxy = self.settings.docker_cache_no_proxy
        return values | ({"NO_PROXY": no_proxy} if no_proxy else {})


def given_keys(environment: Mapping[str, str]) -> list[str]:
    """The keys of this project that the engine hands on, declared or not (pulumi's SDK reads them from there too)."""
    keys: dict[str, str] = json.loads(environment.get("PULUMI_CONFIG") or "{}")
    return [key.removeprefix(PREFIX) for key in keys if key.startswith(PREFIX)]


def read_stack(read: Read, base: Path, environment: Mapping[str, str], given: Collection[str] = ()) -> Stack | Disabled:
    """Check the configuration, the files it names and the cluster. Raises SettingsError with all problems found."""
    settings = load(read, given)
    if isinstance(settings, Disabled):
        return settings
    nodes, problems = resolve(settings, base, environment)
    try:
        cluster = find_cluster(settings, base)
        if not problems:
            check_version(cluster)
    except SettingsError as error:
        problems += error.problems
        raise SettingsError(problems) from error
    if problems:
        raise SettingsError(problems)
    return Stack(settings=settings, cluster=cluster, nodes=tuple(nodes))
