"""OpenPAI's config.yaml (and services-configuration.yaml, which OpenPAI generates from it): the keys that count here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from importing.findings import Findings, Given, Unusable
from importing.login import Login
from importing.yaml_files import as_map, found, read_mapping
from settings.loading import ALIASES, is_secret, misspelt_keys
from settings.values import PLACEHOLDER

KEYS = (
    "enable_docker_cache",
    "docker_cache_storage_backend",
    "docker_cache_azure_account_name",
    "docker_cache_azure_account_key",
    "docker_cache_azure_container_name",
    "docker_cache_fs_mount_path",
    "docker_cache_remote_url",
    "docker_cache_htpasswd",
)
"""The section of docker-cache in config.yaml."""

SERVICES_SECTION = "docker-cache"
SERVICES_KEYS = {
    "enable_docker_cache": ("enabled",),
    "docker_cache_storage_backend": ("storage_backend",),
    "docker_cache_azure_account_name": ("azure_account_name",),
    "docker_cache_azure_account_key": ("azure_account_key",),
    "docker_cache_azure_container_name": ("azure_container_name",),
    "docker_cache_fs_mount_path": ("fs_mount_path",),
    "docker_cache_remote_url": ("remote_url",),
    "docker_cache_htpasswd": ("registry_htpasswd", "registry-htpasswd"),
}
"""The same in services-configuration.yaml."""

USER, PASSWORD, KEY_PATH = "user", "password", "ssh_key_file_path"
CONFIG_FILE_PATH = "docker_config_file_path"
DAEMON_JSON = "/etc/docker/daemon.json"
CUSTOM_REGISTRY = "docker_cache_host"
HINTS = {
    "http_proxy": "set docker_cache_http_proxy if the cache needs it too",
    "https_proxy": "set docker_cache_https_proxy if the cache needs it too",
    "no_proxy": "set docker_cache_no_proxy if the cache needs it too",
    "openpai_docker_registry_mirrors": "what stands in a node's daemon.json stays there",
    "openpai_docker_insecure_registries": "what stands in a node's daemon.json stays there",
    "docker_registry_domain": "of OpenPAI's own images, not of the cache",
    "docker_registry_namespace": "of OpenPAI's own images, not of the cache",
    "docker_registry_username": "of OpenPAI's own images: docker_cache_remote_username signs the cache in",
    "docker_registry_password": "of OpenPAI's own images: docker_cache_remote_password signs the cache in",
}
"""What to know about keys that are not taken."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The stack's keys by name, and the login that OpenPAI makes its hosts.yml with."""

    settings: Mapping[str, Given]
    login: Login
    custom_registry: Given | None = None


NO_CONFIG = Config(settings={}, login=Login())


def read_config(path: Path, findings: Findings) -> Config:
    """Raises ImportProblems where the file is none."""
    file = path.name
    document = read_mapping(path, file)
    if SERVICES_SECTION in document:
        return read_services(document, file, findings)
    settings = {
        key: value for key in KEYS if (value := one_of(document, file, (key, *aliases(key)), key, findings)) is not None
    }
    describe_rest(document, file, findings)
    return Config(
        settings=settings,
        login=Login(
            user=found(document.get(USER), f"{file}: {USER}"),
            password=found(document.get(PASSWORD), f"{file}: {PASSWORD}"),
            become_password=found(document.get(PASSWORD), f"{file}: {PASSWORD}"),
            private_key_path=found(document.get(KEY_PATH), f"{file}: {KEY_PATH}"),
        ),
        custom_registry=findings.usable(found(document.get(CUSTOM_REGISTRY), f"{file}: {CUSTOM_REGISTRY}")),
    )


def read_services(document: Mapping[str, object], file: str, findings: Findings) -> Config:
    section = as_map(document[SERVICES_SECTION])
    if section is None:
        findings.problems.append(f"{file}: {SERVICES_SECTION} is not a map of keys")
        return NO_CONFIG
    place = f"{file}: {SERVICES_SECTION}"
    settings = {
        key: value
        for key, names in SERVICES_KEYS.items()
        if (value := one_of(section, place, names, key, findings, joint=".")) is not None
    }
    return Config(settings=settings, login=Login())


def aliases(key: str) -> tuple[str, ...]:
    return (ALIASES[key],) if key in ALIASES else ()


def one_of(
    document: Mapping[str, object],
    place: str,
    names: tuple[str, ...],
    key: str,
    findings: Findings,
    *,
    joint: str = ": ",
) -> Given | None:
    """The value of a key that may have two names. Different values under both are a problem."""
    items = [item for name in names if (item := found(document.get(name), f"{place}{joint}{name}")) is not None]
    for item in items:
        if isinstance(item, Unusable):
            findings.unusable.append(str(item))
    values = [Given(text=item.text.strip(), source=item.source) for item in items if isinstance(item, Given)]
    if len({item.text for item in values}) > 1:
        shown = " and ".join(item.source if is_secret(key) else f'{item.source} "{item.text}"' for item in values)
        findings.problems.append(f"{shown} are one key, {key}, with two values: keep one of the two")
    return values[0] if values else None


def describe_rest(document: Mapping[str, object], file: str, findings: Findings) -> None:
    taken = {*KEYS, *ALIASES.values(), USER, PASSWORD, KEY_PATH, CUSTOM_REGISTRY}
    rest = [key for key in document if key not in taken]
    misspelt = misspelt_keys(rest)
    findings.unusable += [f"{file}: {line}" for line in misspelt]
    findings.unusable += placeholders(document, file)
    for key in rest:
        if key == CONFIG_FILE_PATH:
            findings.ignored.append(docker_config_path(document[key], file))
        elif not any(line.startswith(f"{key} ") for line in misspelt):
            findings.ignored.append(f"{file}: {key}" + (f" ({HINTS[key]})" if key in HINTS else ""))


def docker_config_path(value: object, file: str) -> str:
    line = f"{file}: {CONFIG_FILE_PATH} (the path is found on each node by itself, from dockerd's command line"
    return f"{line})" if value == DAEMON_JSON else f'{line}; "{value}" is not what OpenPAI\'s own docker-cache writes)'


def placeholders(document: Mapping[str, object], file: str) -> Iterator[str]:
    for key in (USER, PASSWORD):
        if document.get(key) == PLACEHOLDER:
            yield f'{file}: {key} is "{PLACEHOLDER}", the placeholder of OpenPAI\'s manual'
