"""What observes the cache: the scripts that write its metrics, the alerts, and the dashboard, all of it text."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast
from urllib.parse import urlsplit

import yaml

from rendering.registry import IN_POD

ALERTS = Path(__file__).resolve().parent.parent / "observing" / "alerts.yml"
FRONT_SCRIPT = "front_metrics.sh"
REGISTRY_SCRIPT = "registry_metrics.sh"
PORT_NAME = "exporter"
HUB = "registry-1.docker.io"
DATA_SOURCE = "${source}"
"""Grafana's variable: which Prometheus is asked is chosen on the dashboard."""

Unit = Literal["short", "bytes", "Bps", "reqps", "s", "percentunit"]
COLUMNS = 24
WIDTH, HEIGHT = 12, 8


def scripts() -> dict[str, str]:
    names = (FRONT_SCRIPT, "front_metrics.awk", REGISTRY_SCRIPT)
    return {name: (IN_POD / name).read_text(encoding="utf-8") for name in names}


def probe_image(remote_url: str) -> str:
    """What an upstream is asked for: the hub has an image for the purpose (https://docs.docker.com/docker-hub/usage/pulls), and
    elsewhere one that is not there is answered, too.
    """
    host = urlsplit(remote_url).netloc
    return f"{host}/ratelimitpreview/test:latest" if host == HUB else f"{host}/docker-cache/probe:none"


def alert_groups() -> list[dict[str, object]]:
    """As Prometheus' rule files have them, and the operator's PrometheusRule."""
    return cast("list[dict[str, object]]", yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"])


def pod_monitor(labels: Mapping[str, str]) -> dict[str, object]:
    """Its spec: every pod of the cache has the port."""
    return {
        "selector": {"matchLabels": dict(labels)},
        "podMetricsEndpoints": [{"port": PORT_NAME, "interval": "30s"}],
    }


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A graph: queries by the legend of their lines."""

    title: str
    about: str
    unit: Unit
    queries: Mapping[str, str]


PANELS = (
    Panel(
        title="Requests by how they were answered",
        about="A hit never left the front; a miss went to a registry; stale is an older tag, where no newer one can be had.",
        unit="reqps",
        queries={"{{result}}": "sum by (result) (rate(docker_cache_requests_total[$__rate_interval]))"},
    ),
    Panel(
        title="Share of hits",
        about="Of tags, manifests and blobs that were asked for.",
        unit="percentunit",
        queries={
            "{{upstream}}": (
                'sum by (upstream) (rate(docker_cache_requests_total{result=~"hit|stale"}[$__rate_interval])) / '
                'sum by (upstream) (rate(docker_cache_requests_total{result!="refused"}[$__rate_interval]))'
            )
        },
    ),
    Panel(
        title="Bytes served against bytes fetched",
        about="What the nodes got, what the front took from the registries for it, and what those took from their upstreams.",
        unit="Bps",
        queries={
            "to the nodes": "sum(rate(docker_cache_served_bytes_total[$__rate_interval]))",
            "from the registries": "sum(rate(docker_cache_fetched_bytes_total[$__rate_interval]))",
            "from the upstreams": "sum(rate(registry_proxy_pulled_bytes_total[$__rate_interval]))",
        },
    ),
    Panel(
        title="One download for many",
        about="Requests that were answered from a download already in flight, and those that wait for one to begin.",
        unit="short",
        queries={
            "joined in five minutes": "sum(increase(docker_cache_joined_requests_total[5m]))",
            "waiting": "sum(docker_cache_waiting_requests)",
            "being answered": "sum(docker_cache_requests_in_flight)",
            "downloads": "sum(docker_cache_downloads_in_flight)",
        },
    ),
    Panel(
        title="Time to the first byte",
        about="19 of 20 answers of the front, and of the registries, began within this time.",
        unit="s",
        queries={
            "front, {{upstream}}": (
                "histogram_quantile(0.95, sum by (upstream, le) (rate(docker_cache_answer_seconds_bucket[$__rate_interval])))"
            ),
            "registry, {{upstream}}": (
                "histogram_quantile(0.95, sum by (upstream, le) (rate(docker_cache_fetch_seconds_bucket[$__rate_interval])))"
            ),
        },
    ),
    Panel(
        title="Upstreams: time of an answer",
        about="A HEAD from each registry's pod, every minute, with its token.",
        unit="s",
        queries={"{{upstream}}": "max by (upstream) (docker_cache_upstream_answer_seconds)"},
    ),
    Panel(
        title="Upstreams: errors",
        about="What the front was refused by a registry or its upstream, and HEADs that were not answered.",
        unit="short",
        queries={
            "{{upstream}}: {{code}}": (
                'sum by (upstream, code) (increase(docker_cache_fetches_total{code=~"none|429|5.."}[5m]))'
            ),
            "{{upstream}}: no answer to a HEAD": "sum by (upstream) (increase(docker_cache_upstream_failures_total[5m]))",
        },
    ),
    Panel(
        title="Docker Hub: pulls left",
        about="As its ratelimit-remaining says, for the address or the user that the registry has.",
        unit="short",
        queries={
            "{{upstream}}: left": "min by (upstream) (docker_cache_ratelimit_remaining)",
            "{{upstream}}: allowed": "max by (upstream) (docker_cache_ratelimit_limit)",
        },
    ),
    Panel(
        title="Store",
        about="What is used of the file system that the store lies on, and where storing ends. Azure has no such bound.",
        unit="percentunit",
        queries={
            "{{upstream}}": "1 - max by (upstream) (docker_cache_store_free_bytes / docker_cache_store_size_bytes)",
            "no more is stored": "1 - max(docker_cache_store_min_free_ratio)",
        },
    ),
    Panel(
        title="Hot tier",
        about="What the front itself holds.",
        unit="bytes",
        queries={
            "used": "sum(docker_cache_hot_used_bytes)",
            "size": "sum(docker_cache_hot_used_bytes) + sum(docker_cache_hot_free_bytes)",
        },
    ),
    Panel(
        title="Hot tier: evictions and failures",
        about="In five minutes. Evictions are no harm; no room is a download that was cut short.",
        unit="short",
        queries={
            "evicted": "sum(increase(docker_cache_hot_evictions_total[5m]))",
            "no room": "sum(increase(docker_cache_hot_failures_total[5m]))",
        },
    ),
    Panel(
        title="Registries that pull through",
        about="0: it serves what is stored, since its upstream can't be reached or its disk is full.",
        unit="short",
        queries={"{{upstream}}": "min by (upstream) (docker_cache_registry_proxies)"},
    ),
)


def dashboard() -> str:
    """Grafana's JSON."""
    document = {
        "title": "docker-cache",
        "uid": "docker-cache",
        "tags": ["docker-cache"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        },
        "panels": [graph(number, panel) for number, panel in enumerate(PANELS)],
    }
    return json.dumps(document, indent=1)


def graph(number: int, panel: Panel) -> dict[str, object]:
    column, row = number * WIDTH % COLUMNS, number * WIDTH // COLUMNS * HEIGHT
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": {"type": "prometheus", "uid": DATA_SOURCE},
        "gridPos": {"x": column, "y": row, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"tooltip": {"mode": "multi"}, "legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": list(targets(panel)),
    }


def targets(panel: Panel) -> Iterator[dict[str, str]]:
    for letter, (legend, query) in zip("ABCDEFGH", panel.queries.items(), strict=False):
        yield {"refId": letter, "expr": query, "legendFormat": legend}
