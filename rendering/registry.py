"""The registry's two configurations (Distribution v3), as files of one ConfigMap."""

from dataclasses import dataclass
from pathlib import Path

import yaml

IN_POD = Path(__file__).resolve().parent.parent / "in_pod"

PORT = 5000
PROXY_METRICS_PORT = 5001
STORED_METRICS_PORT = 5002
"""Not the proxy's: a draining process keeps its metrics port until it ends."""
DRAIN_SECONDS = 60
STORE = "/var/lib/registry"
"""Where the pod sees the store, wherever it lies on the node."""


@dataclass(frozen=True, kw_only=True)
class Registry:
    """What the registry's configuration depends on."""

    upstream: str


def files(registry: Registry) -> dict[str, str]:
    """`proxy.yml` pulls through, `stored.yml` serves the same store read-only, `serve.sh` chooses between the two."""
    return {
        "proxy.yml": render(proxy(registry)),
        "stored.yml": render(stored()),
        "serve.sh": (IN_POD / "serve.sh").read_text(encoding="utf-8"),
    }


def proxy(registry: Registry) -> dict[str, object]:
    """`ttl: 0` keeps what is cached: Distribution's expiry deletes blobs that other images share (distribution #2367)."""
    return common(PROXY_METRICS_PORT) | {"proxy": {"remoteurl": registry.upstream, "ttl": 0}}


def stored() -> dict[str, object]:
    configuration = common(STORED_METRICS_PORT)
    storage = {**filesystem(), "maintenance": {"readonly": {"enabled": True}}}
    return configuration | {"storage": storage}


def common(metrics_port: int) -> dict[str, object]:
    """No blob-descriptor cache: it answers for blobs that are gone (distribution #4191)."""
    return {
        "version": 0.1,
        "log": {"level": "info", "formatter": "json", "accesslog": {"disabled": False}},
        "storage": filesystem(),
        "http": {
            "addr": f":{PORT}",
            "draintimeout": f"{DRAIN_SECONDS}s",
            "headers": {"X-Content-Type-Options": ["nosniff"]},
            "debug": {"addr": f":{metrics_port}", "prometheus": {"enabled": True, "path": "/metrics"}},
        },
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }


def filesystem() -> dict[str, object]:
    return {"filesystem": {"rootdirectory": STORE}}


def render(configuration: dict[str, object]) -> str:
    return yaml.safe_dump(configuration, sort_keys=False)
