"""When an object counts as ready, and what to tell while it isn't: pulumi-kubernetes' awaiters, in short.

The judgements are pure functions of what was read, so that they can be tested without a cluster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from sandbox.providers.kubernetes_cluster import ApiError, UnreachableError
from sandbox.providers.kubernetes_rules import ObjectType, qualified_name
from sandbox.providers.protocol import ProviderError
from sandbox.providers.values import Properties, Value, at, integer, mapping, sequence, text

_POLL_SECONDS = 1.0
_REVISION = "deployment.kubernetes.io/revision"
_POD = ObjectType("v1", "Pod")
_CLAIM = ObjectType("v1", "PersistentVolumeClaim")
_REPLICA_SET = ObjectType("apps/v1", "ReplicaSet")
_ENDPOINT_SLICE = ObjectType("discovery.k8s.io/v1", "EndpointSlice")
_STORAGE_CLASS = ObjectType("storage.k8s.io/v1", "StorageClass")
_NO_LIVE_PODS = "Minimum number of live Pods was not attained"
_NO_ENDPOINTS = (
    "Service does not target any Pods. Selected Pods may not be ready, or field '.spec.selector' may not match labels "
    "on any Pods"
)


@dataclass(frozen=True)
class Readiness:
    """One judgement: ready, not yet, or (hopeless) never."""

    ready: bool
    reasons: tuple[str, ...] = ()
    hopeless: bool = False
    progress: str = ""


class Reader(Protocol):
    """What judging needs of a cluster."""

    def find(self, kind: ObjectType, namespace: str, name: str) -> Properties | None:
        """Read one object, if there is one."""

    def list_all(self, kind: ObjectType, namespace: str, labels: str = "") -> list[Properties]:
        """Read a namespace's objects of a kind."""


class UnreadyError(ProviderError):
    """Waiting ended without the object being ready; the reasons say what was in its way."""

    def __init__(self, message: str, reasons: Iterable[str]) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


Judge: TypeAlias = Callable[[Properties, Reader], Readiness]


@dataclass(frozen=True)
class Awaiter:
    """How to judge a kind, how long to wait for it, and whether a mere read judges too."""

    judge: Judge
    seconds: float = 600
    on_update: bool = True
    on_read: bool = True


@dataclass(frozen=True)
class Patience:
    """How long to wait, what ends the waiting early, and where progress is shown."""

    seconds: float
    cancelled: threading.Event
    report: Callable[[str], None]


def await_ready(fetch: Callable[[], Properties], judge: Judge, reader: Reader, patience: Patience) -> Properties:
    """Wait until the object is ready and give it as it then is."""
    deadline = time.monotonic() + patience.seconds
    readiness, name = Readiness(ready=False), ""
    while True:
        try:
            live = fetch()
            name = text(at(live, "metadata", "name"))
            readiness = judge(live, reader)
            if readiness.ready:
                return live
        except (ApiError, UnreachableError) as error:
            # A server that restarts is none of the object's business; one that lost the object is.
            if isinstance(error, ApiError) and error.not_found:
                raise
            readiness = Readiness(ready=False, reasons=(str(error),))
        if readiness.hopeless:
            message = f"Resource '{name}' was created but failed to initialize"
            raise UnreadyError(message, readiness.reasons)
        if time.monotonic() >= deadline:
            message = f"'{name}' timed out waiting to be Ready"
            raise UnreadyError(message, readiness.reasons)
        patience.report(readiness.progress or "; ".join(readiness.reasons))
        if patience.cancelled.wait(min(_POLL_SECONDS, max(deadline - time.monotonic(), 0.05))):
            message = f'Resource operation was cancelled for "{name}"'
            raise UnreadyError(message, readiness.reasons)


def judge_deployment(live: Properties, reader: Reader) -> Readiness:
    """Judge a deployment: ready when its rollout is complete and it is available."""
    wanted = integer(at(live, "spec", "replicas"), 1)
    status = mapping(live.get("status"))
    updated, available = integer(status.get("updatedReplicas")), integer(status.get("availableReplicas"))
    complete = (
        _observed(live)
        and updated >= wanted
        and integer(status.get("replicas")) <= updated
        and available >= updated
        and _condition(live, "Available").get("status") == "True"
    )
    namespace = text(at(live, "metadata", "namespace"))
    unbound = _unbound_claims(live, reader)
    if complete and not unbound:
        return Readiness(ready=True)
    reasons = _condition_reasons(live, {"Progressing": "True", "Available": "True", "ReplicaFailure": "False"})
    if unbound:
        reasons.append(f'Failed to bind PersistentVolumeClaim(s): "{",".join(unbound)}"')
    reasons.append(_NO_LIVE_PODS)
    owners = _current_replica_sets(live, reader.list_all(_REPLICA_SET, namespace))
    reasons += pod_reasons(_owned(reader.list_all(_POD, namespace), owners))
    progress = f"Waiting for app ReplicaSet to be available ({available}/{wanted} Pods available)"
    return Readiness(ready=False, reasons=tuple(reasons), progress=progress)


def judge_stateful_set(live: Properties, reader: Reader) -> Readiness:
    """Judge a stateful set: ready when all its pods are, in the current revision."""
    wanted = integer(at(live, "spec", "replicas"), 1)
    status = mapping(live.get("status"))
    ready = integer(status.get("readyReplicas"))
    on_delete = at(live, "spec", "updateStrategy", "type") == "OnDelete"
    current = on_delete or status.get("updateRevision") == status.get("currentRevision")
    if _observed(live) and ready >= wanted and current:
        return Readiness(ready=True)
    progress = f"Waiting for StatefulSet to be ready ({ready}/{wanted} Pods ready)"
    return _pods_awaited(
        live, reader, f"Failed to observe the expected number of ready replicas: {ready}/{wanted}", progress
    )


def judge_daemon_set(live: Properties, reader: Reader) -> Readiness:
    """Judge a daemon set: ready when every node that is to run it does, in the current revision."""
    status = mapping(live.get("status"))
    wanted = integer(status.get("desiredNumberScheduled"))
    updated, available = integer(status.get("updatedNumberScheduled")), integer(status.get("numberAvailable"))
    on_delete = at(live, "spec", "updateStrategy", "type") == "OnDelete"
    if _observed(live) and (on_delete or updated >= wanted) and available >= wanted:
        return Readiness(ready=True)
    progress = f"Waiting for DaemonSet to be ready ({available}/{wanted} Pods available)"
    return _pods_awaited(
        live, reader, f"Failed to observe the expected number of available Pods: {available}/{wanted}", progress
    )


def judge_job(live: Properties, reader: Reader) -> Readiness:
    """Judge a job: ready when it is complete; one that has failed never will be."""
    if _condition(live, "Complete").get("status") == "True":
        return Readiness(ready=True)
    failed = _condition(live, "Failed")
    if failed.get("status") == "True":
        pods = pod_reasons(_owned(reader.list_all(_POD, text(at(live, "metadata", "namespace"))), {_uid(live)}))
        reason = f"[Job {qualified_name(live)}]: [{text(failed.get('reason'))}] {text(failed.get('message'))}"
        return Readiness(ready=False, reasons=(reason, *pods), hopeless=True)
    waiting = f'Waiting for Job "{qualified_name(live)}" to succeed'
    return _pods_awaited(live, reader, waiting, waiting)


def judge_pod(live: Properties, reader: Reader) -> Readiness:
    """Judge a pod: ready when its containers are, or when they have done their work."""
    del reader
    if at(live, "status", "phase") == "Succeeded" or _condition(live, "Ready").get("status") == "True":
        return Readiness(ready=True)
    return Readiness(ready=False, reasons=tuple(pod_reasons([live])), progress="Waiting for Pod to be ready")


def judge_service(live: Properties, reader: Reader) -> Readiness:
    """Judge a service: ready when it leads to a ready pod; one that selects none is at once."""
    spec = mapping(live.get("spec"))
    reasons = []
    if spec.get("type") == "LoadBalancer" and not sequence(at(live, "status", "loadBalancer", "ingress")):
        reasons.append("Service was not allocated an IP address; does your cloud provider support this?")
    leads_to_pods = spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None" and spec.get("selector")
    if leads_to_pods:
        labels = f"kubernetes.io/service-name={text(at(live, 'metadata', 'name'))}"
        slices = reader.list_all(_ENDPOINT_SLICE, text(at(live, "metadata", "namespace")), labels)
        if not any(map(_has_ready_endpoint, slices)):
            reasons.append(_NO_ENDPOINTS)
    return Readiness(ready=not reasons, reasons=tuple(reasons), progress="Finding Pods to direct traffic to")


def judge_claim(live: Properties, reader: Reader) -> Readiness:
    """Judge a claim: ready when it is bound, or at once where its class binds only for a pod."""
    phase = text(at(live, "status", "phase"))
    if phase == "Bound":
        return Readiness(ready=True)
    name = text(at(live, "spec", "storageClassName"))
    storage_class = reader.find(_STORAGE_CLASS, "", name) if name else None
    if storage_class is not None and storage_class.get("volumeBindingMode") == "WaitForFirstConsumer":
        return Readiness(ready=True)
    reason = f"PersistentVolumeClaim: [{qualified_name(live)}] is not ready. status.phase currently at: {phase}"
    return Readiness(ready=False, reasons=(reason,))


def judge_volume(live: Properties, reader: Reader) -> Readiness:
    """Judge a volume: ready when it can be, or is, claimed."""
    del reader
    phase = text(at(live, "status", "phase"))
    reason = f"PersistentVolume: [{qualified_name(live)}] is not ready. status.phase currently at: {phase}"
    return Readiness(ready=phase in {"Available", "Bound"}, reasons=(reason,))


def judge_ingress(live: Properties, reader: Reader) -> Readiness:
    """Judge an ingress: ready when a controller has given it an address."""
    del reader
    reason = "Ingress .status.loadBalancer field was not updated with a hostname/IP address"
    return Readiness(ready=bool(sequence(at(live, "status", "loadBalancer", "ingress"))), reasons=(reason,))


AWAITERS: Mapping[tuple[str, str], Awaiter] = {
    ("", "PersistentVolume"): Awaiter(judge_volume, 300, on_update=False, on_read=False),
    ("", "PersistentVolumeClaim"): Awaiter(judge_claim, 300, on_update=False, on_read=False),
    ("", "Pod"): Awaiter(judge_pod),
    ("", "Service"): Awaiter(judge_service),
    ("apps", "DaemonSet"): Awaiter(judge_daemon_set),
    ("apps", "Deployment"): Awaiter(judge_deployment),
    ("apps", "StatefulSet"): Awaiter(judge_stateful_set),
    ("batch", "Job"): Awaiter(judge_job),
    ("networking.k8s.io", "Ingress"): Awaiter(judge_ingress),
}


def pod_reasons(pods: Iterable[Properties]) -> list[str]:
    """Tell for each pod that isn't ready what its conditions and containers say."""
    reasons = []
    for pod in pods:
        ready = _condition(pod, "Ready")
        if ready.get("status") == "True" or at(pod, "status", "phase") == "Succeeded":
            continue
        unscheduled = _condition(pod, "PodScheduled")
        said = [
            text(condition.get("message")) for condition in (unscheduled, ready) if condition.get("status") == "False"
        ]
        containers = sequence(at(pod, "status", "initContainerStatuses")) + sequence(
            at(pod, "status", "containerStatuses")
        )
        said += [problem for container in containers for problem in _container_problems(mapping(container))]
        if any(said):
            reasons.append(f"[Pod {qualified_name(pod)}]: {' -- '.join(filter(None, said))}")
    return reasons


def _container_problems(status: Properties) -> list[str]:
    if status.get("ready") is True or at(status, "state", "terminated", "exitCode") == 0:
        return []
    problems = []
    waiting, terminated = mapping(at(status, "state", "waiting")), mapping(at(status, "state", "terminated"))
    if waiting and waiting.get("reason") not in {"ContainerCreating", "PodInitializing"}:
        problems.append(f"[{text(waiting.get('reason'))}] {text(waiting.get('message'))}".strip())
    name = text(status.get("name"))
    if terminated.get("reason"):
        exited = f'container "{name}" completed with exit code {integer(terminated.get("exitCode"))}'
        said = text(terminated.get("message"))
        problems.append(f"[{text(terminated.get('reason'))}] {said}" if said else exited)
    last = mapping(at(status, "lastState", "terminated"))
    if last:
        how = f"{text(last.get('reason'))}: exit code {integer(last.get('exitCode'))}"
        problems.append(f'container "{name}" terminated at {text(last.get("finishedAt"))} ({how})')
    return problems


def _pods_awaited(live: Properties, reader: Reader, reason: str, progress: str) -> Readiness:
    pods = pod_reasons(_owned(reader.list_all(_POD, text(at(live, "metadata", "namespace"))), {_uid(live)}))
    return Readiness(ready=False, reasons=(reason, *pods), progress=progress)


def _observed(live: Properties) -> bool:
    """Tell whether the controller has seen the object as it now is."""
    return integer(at(live, "status", "observedGeneration")) >= integer(at(live, "metadata", "generation"), 1)


def _condition(live: Properties, kind: str) -> Properties:
    conditions = map(mapping, sequence(at(live, "status", "conditions")))
    return next((condition for condition in conditions if condition.get("type") == kind), {})


def _condition_reasons(live: Properties, expected: Mapping[str, str]) -> list[str]:
    found = [(_condition(live, kind), wanted) for kind, wanted in expected.items()]
    return [
        f"[{text(condition.get('reason'))}] {text(condition.get('message'))}"
        for condition, wanted in found
        if condition and condition.get("status") != wanted
    ]


def _current_replica_sets(live: Properties, replica_sets: Iterable[Properties]) -> set[str]:
    revision = at(live, "metadata", "annotations", _REVISION)
    return {
        _uid(replica_set)
        for replica_set in _owned(replica_sets, {_uid(live)})
        if at(replica_set, "metadata", "annotations", _REVISION) == revision
    }


def _owned(objects: Iterable[Properties], owners: set[str]) -> list[Properties]:
    def owned(obj: Properties) -> bool:
        references: list[Value] = sequence(at(obj, "metadata", "ownerReferences"))
        return any(text(at(reference, "uid")) in owners for reference in references)

    return [obj for obj in objects if owned(obj)]


def _unbound_claims(live: Properties, reader: Reader) -> list[str]:
    volumes = sequence(at(live, "spec", "template", "spec", "volumes"))
    names = [text(at(volume, "persistentVolumeClaim", "claimName")) for volume in volumes]
    namespace = text(at(live, "metadata", "namespace"))
    claims = {name: reader.find(_CLAIM, namespace, name) for name in names if name}
    return [name for name, claim in claims.items() if at(claim, "status", "phase") != "Bound"]


def _has_ready_endpoint(endpoint_slice: Properties) -> bool:
    return any(
        at(endpoint, "conditions", "ready") is not False and sequence(at(endpoint, "addresses"))
        for endpoint in sequence(endpoint_slice.get("endpoints"))
    )


def _uid(obj: Properties) -> str:
    return text(at(obj, "metadata", "uid"))
