"""The registry's two configurations (Distribution v3), as files of one ConfigMap."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import yaml

IN_POD = Path(__file__).resolve().parent.parent / "in_pod"

PORT = 5000
PROXY_METRICS_PORT = 5001
STORED_METRICS_PORT = 5002
"""Not the proxy's: a draining process keeps its metrics port until it ends."""
DRAIN_SECONDS = 60
STORE = "/var/lib/registry"
"""Where the pod sees the store, wherever it lies on the node."""

HTPASSWD_FOLDER, HTPASSWD_FILE = "/etc/docker-cache-htpasswd", "htpasswd"
REALM = "docker-cache"

STORED_HEADER = "X-Docker-Cache-Stored"
"""Says that an answer is from the store alone: the upstream was not asked."""

SERVE_SCRIPT = "serve.sh"
PROOF_SCRIPT = "prove_store.sh"
PROOF_PORT = 5003
PROOF_FOLDER = "docker-cache-proof"
"""In the store: what the proof does there can't touch what is cached."""

Storage = dict[str, object]
"""A `storage` section: one driver with its parameters."""


@dataclass(frozen=True, kw_only=True)
class Registry:
    """What the registry's configuration depends on."""

    upstream: str
    storage: Storage
    has_htpasswd: bool


def files(registry: Registry) -> dict[str, str]:
    """`proxy.yml` pulls through, `stored.yml` serves the same store read-only, `serve.sh` chooses between the two."""
    return {
        "proxy.yml": render(proxy(registry)),
        "stored.yml": render(stored(registry)),
        SERVE_SCRIPT: (IN_POD / SERVE_SCRIPT).read_text(encoding="utf-8"),
    }


def proof_files(storage: Storage) -> dict[str, str]:
    """`proof.yml` is a registry that takes and deletes blobs, for the script that runs it: nobody else reaches it."""
    configuration: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json"},
        "storage": storage | {"delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{PROOF_PORT}"},
    }
    return {
        "proof.yml": render(configuration),
        PROOF_SCRIPT: (IN_POD / PROOF_SCRIPT).read_text(encoding="utf-8"),
    }


def proxy(registry: Registry) -> dict[str, object]:
    """`ttl: 0` keeps what is cached: Distribution's expiry deletes blobs that other images share (distribution #2367).

    Its own five minutes are too short for a layer of gigabytes: it would be fetched, and not be kept.
    """
    upstream: dict[str, object] = {"remoteurl": registry.upstream, "ttl": 0, "cachewritetimeout": "24h"}
    return common(registry, PROXY_METRICS_PORT) | {"proxy": upstream}


def stored(registry: Registry) -> dict[str, object]:
    storage = registry.storage | {"maintenance": {"readonly": {"enabled": True}}}
    configuration = common(registry, STORED_METRICS_PORT, {STORED_HEADER: ["yes"]})
    return configuration | {"storage": storage}


def common(
    registry: Registry, metrics_port: int, headers: Mapping[str, list[str]] = MappingProxyType({})
) -> dict[str, object]:
    """No blob-descriptor cache: it answers for blobs that are gone (distribution #4191). The debug server has more than metrics
    (pprof), and is the pod's own.
    """
    configuration: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": False}},
        "storage": registry.storage,
        "http": {
            "addr": f":{PORT}",
            "draintimeout": f"{DRAIN_SECONDS}s",
            "headers": {"X-Content-Type-Options": ["nosniff"], **headers},
            "debug": {"addr": f"127.0.0.1:{metrics_port}", "prometheus": {"enabled": True, "path": "/metrics"}},
        },
        "health": {"storagedriver": {"enabled": True, "interval": health_interval(registry.storage), "threshold": 3}},
    }
    if registry.has_htpasswd:
        path = f"{HTPASSWD_FOLDER}/{HTPASSWD_FILE}"
        configuration["auth"] = {"htpasswd": {"realm": REALM, "path": path}}
    return configuration


def health_interval(storage: Storage) -> str:
    """Each look at Azure is a request that is paid for."""
    return "30s" if "azure" in storage else "10s"


def filesystem(folder: str | None = None) -> Storage:
    """Without a folder the registry has the whole store."""
    return {"filesystem": {"rootdirectory": f"{STORE}/{folder}" if folder else STORE}}


@dataclass(frozen=True, kw_only=True)
class Azure:
    """A blob container; `service_url` takes the place of the address made of account and realm."""

    account: str
    container: str
    has_key: bool
    realm: str
    service_url: str | None
    redirect: bool


def azure(place: Azure, folder: str | None = None) -> Storage:
    """The key comes by the environment, from a Secret. With a redirect, every node itself fetches the blobs from Azure. Without a
    folder the registry has the whole container.
    """
    address: dict[str, object] = {"serviceurl": place.service_url} if place.service_url else {"realm": place.realm}
    return {
        "azure": {
            "accountname": place.account,
            "container": place.container,
            "credentials": {"type": "shared_key" if place.has_key else "default_credentials"},
            **address,
            **({"rootdirectory": folder} if folder else {}),
        },
        "redirect": {"disable": not place.redirect},
    }


def render(configuration: dict[str, object]) -> str:
    return yaml.safe_dump(configuration, sort_keys=False)
