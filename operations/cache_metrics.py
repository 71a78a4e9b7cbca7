"""What the registry has counted: read through the API server, so that nothing more has to be reachable."""

from dataclasses import dataclass

import kubernetes
import urllib3
from prometheus_client.parser import text_string_to_metric_families

from components.metadata import LABELS
from rendering.registry import PROXY_METRICS_PORT, STORED_METRICS_PORT
from settings.cluster import Cluster, api_client

ASK_SECONDS = 15


class MetricsError(Exception):
    """The registry can't be asked; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Totals since the registry's process started."""

    manifest_requests: int = 0
    misses: int = 0
    bytes_served: int = 0

    def since(self, earlier: "Counts") -> "Counts":
        return Counts(
            manifest_requests=self.manifest_requests - earlier.manifest_requests,
            misses=self.misses - earlier.misses,
            bytes_served=self.bytes_served - earlier.bytes_served,
        )


class CacheMetrics:
    """The registry's counters, asked of its pod."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._api = kubernetes.client.CoreV1Api(api_client(cluster))
        self._namespace = namespace

    def read(self) -> Counts:
        """Raises MetricsError where no pod answers."""
        errors = []
        for pod in self._running_pods():
            # The read-only process has another port than the one that pulls through.
            for port in (PROXY_METRICS_PORT, STORED_METRICS_PORT):
                try:
                    text = self._api.connect_get_namespaced_pod_proxy_with_path(
                        f"{pod}:{port}", self._namespace, "metrics", _request_timeout=ASK_SECONDS
                    )
                except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError) as error:
                    errors.append(f"{pod}:{port}: {getattr(error, 'reason', error)}")
                else:
                    return parse(str(text))
        raise MetricsError("no registry pod answers for its counters" + "".join(f"; {error}" for error in errors))

    def _running_pods(self) -> list[str]:
        selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
        try:
            found = self._api.list_namespaced_pod(
                self._namespace, label_selector=selector, _request_timeout=ASK_SECONDS
            ).to_dict()
        except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise MetricsError(f"the cluster does not answer: {getattr(error, 'reason', error)}") from error
        pods: list[dict[str, dict[str, str | None]]] = found["items"]
        running = [pod["metadata"] for pod in pods if pod["status"]["phase"] == "Running"]
        return [str(metadata["name"]) for metadata in running if metadata["deletion_timestamp"] is None]


def parse(text: str) -> Counts:
    """Distribution's metrics, as Prometheus text."""
    manifests = misses = served = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # A 404 or 503 of the cache is what sends docker to the hub.
            is_answered = sample.labels.get("code", "").startswith("2")
            if is_answered and sample.name == "registry_http_requests_total" and sample.labels["handler"] == "manifest":
                manifests += sample.value
            if sample.name == "registry_proxy_misses_total":
                misses += sample.value
            if sample.name == "registry_proxy_pushed_bytes_total":
                served += sample.value
    return Counts(manifest_requests=int(manifests), misses=int(misses), bytes_served=int(served))
