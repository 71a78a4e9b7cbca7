"""What the cache has counted: its fronts' access logs, read through the API server, so that nothing more has to be reachable."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import kubernetes
import urllib3

from components.cache_front import ACCESS_LOG
from components.metadata import FRONT_LABELS
from settings.cluster import Cluster, api_client

ASK_SECONDS = 15
LOOKS = 30
LOOK_SECONDS = 0.5
"""A request stands in the log a moment after it has been answered."""
TRIES = 3
TRY_SECONDS = 2
"""A node that can't be proved loses its mirror, which one answer that fails must not cost it."""
NEVER = ("~", 0.0)
"""After every time of a log."""
OLDER_SECONDS = 60
"""What is read beyond the time that was asked for: the clocks of this machine and of the node are not the same."""


class MetricsError(Exception):
    """The cache can't be asked; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was answered, by the fronts together. A miss is what was fetched for it, a layer or what names its layers."""

    manifest_requests: int = 0
    misses: int = 0
    bytes_served: int = 0


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Where each front's log ended, and when that was by this machine's clock."""

    begun: float
    ends: Mapping[str, tuple[str, float]]


class CacheMetrics:
    """The fronts' logs, asked of their pods."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._api = kubernetes.client.CoreV1Api(api_client(cluster))
        self._namespace = namespace

    def now(self) -> Moment:
        """Raises MetricsError where no pod answers."""
        begun = time.monotonic()
        ends = {}
        for pod, text in self._logs(tail_lines=1).items():
            times = [NEVER] if text is None else [at for at, _ in parse_lines(text)]
            ends[pod] = times[-1] if times else ("", 0.0)
        return Moment(begun=begun, ends=ends)

    def since(self, moment: Moment) -> Counts:
        """Once the log says nothing more."""
        seen = Counts()
        for _ in range(LOOKS):
            time.sleep(LOOK_SECONDS)
            before, seen = seen, self._count(moment)
            if seen.manifest_requests and seen == before:
                break
        return seen

    def _count(self, moment: Moment) -> Counts:
        seconds = int(time.monotonic() - moment.begun) + OLDER_SECONDS
        requests = []
        for pod, text in self._logs(since_seconds=seconds).items():
            end = moment.ends.get(pod, ("", 0.0))
            requests += [request for at, request in parse_lines(text or "") if at > end]
        return count(requests)

    def _logs(self, tries: int = TRIES, **part: int) -> dict[str, str | None]:
        """Raises MetricsError where no pod answers."""
        try:
            return self._logs_at_once(**part)
        except MetricsError:
            if tries == 1:
                raise
            time.sleep(TRY_SECONDS)
            return self._logs(tries - 1, **part)

    def _logs_at_once(self, **part: int) -> dict[str, str | None]:
        """None for a pod that can't be read, such as one whose machine is away: it serves no pull either."""
        logs: dict[str, str | None] = {}
        why = "no front of the cache is running"
        for pod in self._running_pods():
            try:
                logs[pod] = self._log(pod, **part)
            except MetricsError as error:
                logs[pod], why = None, str(error)
        if all(text is None for text in logs.values()):
            raise MetricsError(why)
        return logs

    def _log(self, pod: str, *, tail_lines: int | None = None, since_seconds: int | None = None) -> str:
        try:
            text = self._api.read_namespaced_pod_log(
                pod,
                self._namespace,
                container=ACCESS_LOG,
                timestamps=True,
                tail_lines=tail_lines,
                since_seconds=since_seconds,
                _request_timeout=ASK_SECONDS,
            )
        except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise MetricsError(f"the log of {pod} can't be read: {getattr(error, 'reason', error)}") from error
        return str(text)

    def _running_pods(self) -> list[str]:
        selector = ",".join(f"{key}={value}" for key, value in FRONT_LABELS.items())
        try:
            found = self._api.list_namespaced_pod(
                self._namespace, label_selector=selector, _request_timeout=ASK_SECONDS
            ).to_dict()
        except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError) as error:
            raise MetricsError(f"the cluster does not answer: {getattr(error, 'reason', error)}") from error
        pods: list[dict[str, dict[str, str | None]]] = found["items"]
        running = [pod["metadata"] for pod in pods if pod["status"]["phase"] == "Running"]
        return [str(metadata["name"]) for metadata in running if metadata["deletion_timestamp"] is None]


def parse_lines(text: str) -> list[tuple[tuple[str, float], dict[str, Any]]]:
    """Each request with its time, as the kubelet has it: `2026-11-29T17:35:46.123456789Z {…}`."""
    found = []
    for line in text.splitlines():
        stamp, _, written = line.partition(" ")
        # Zeros at the end of the fraction are left out, so the texts do not sort.
        seconds, fraction = stamp[:19], "".join(sign for sign in stamp[19:30] if sign.isdigit())
        try:
            found.append(((seconds, float(f"0.{fraction or 0}")), json.loads(written)))
        except ValueError:
            continue  # What the log's own program says.
    return found


def count(requests: Iterable[Mapping[str, Any]]) -> Counts:
    """A 404 or 503 of the cache is what sends docker to the hub: it counts for nothing."""
    answered = [request for request in requests if 200 <= int(request["status"]) < 400]  # noqa: PLR2004
    return Counts(
        manifest_requests=sum(request["kind"] in {"manifest", "tag"} for request in answered),
        misses=sum(
            request["kind"] in {"manifest", "blob"} and request["cache"] not in {"hit", "stale"} for request in answered
        ),
        bytes_served=sum(int(request["bytes"]) for request in answered if request["kind"] == "blob"),
    )
