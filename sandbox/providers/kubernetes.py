"""Stand-in for the pulumi-kubernetes plugin, used only where the official one can't be had; no part of the product.

It serves every kind of an API generically, in that plugin's default mode (server-side apply). Charts, Kustomize, YAML
files, lists and Patch resources it refuses.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass

from sandbox.providers.boundary import Boundary
from sandbox.providers.kubernetes_cluster import ApiError, Cluster, Kubeconfig, UnknownKindError
from sandbox.providers.kubernetes_readiness import AWAITERS, Awaiter, Patience, UnreadyError, await_ready, judge_job
from sandbox.providers.kubernetes_rules import (
    FIELD_MANAGER,
    PATCH_FORCE,
    PROPAGATION,
    REPLACE_UNREADY,
    SKIP_AWAIT,
    Defaults,
    Mutability,
    ObjectType,
    annotation,
    complete,
    difference,
    live_inputs,
    new_field_manager,
    qualified_name,
    timeout_seconds,
)
from sandbox.providers.protocol import (
    Checked,
    Creation,
    Difference,
    Existing,
    Found,
    Modification,
    NotInitializedError,
    ProviderError,
    StandIn,
    Target,
)
from sandbox.providers.values import (
    Properties,
    Value,
    at,
    contains_unknown,
    mapping,
    marked_like,
    revealed,
    secret,
    sequence,
    text,
)

_INPUTS = "__inputs"
_INITIAL_API_VERSION = "__initialApiVersion"
_MANAGER = "__fieldManager"
_SECRET_FIELDS = ("data", "stringData")
_DELETION_SECONDS = 600
_ORDINARY_FINALIZERS = frozenset({"foregroundDeletion", "orphan"})
_PROPAGATIONS = {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}
# kubectl's and our own non-apply edits are taken over before an apply, as the plugin does: else they would conflict.
_ADOPTED_MANAGERS = frozenset({"kubectl", "before-first-apply", "pulumi-kubernetes", "pulumi-resource-kubernetes"})


@dataclass(frozen=True)
class _Wait:
    """An object that was made or changed, how to wait for it, and what to say if it does not become ready."""

    target: Target
    kind: ObjectType
    inputs: Properties
    manager: str
    timeout: float
    failure: str
    awaiter: Awaiter | None


class KubernetesStandIn(StandIn):
    """Keeps one cluster's objects as the program says."""

    package = "kubernetes"
    distribution = "pulumi-kubernetes"

    def __init__(self) -> None:
        super().__init__()
        self._boundary = Boundary.from_environment()
        self._configured: Cluster | None = None
        self._mutability = Mutability()
        self._configuring = threading.Lock()

    def configure(self, settings: Properties) -> None:
        """Take a cluster; later ones must be the same, for requests don't tell which of two they mean."""
        plain = revealed(settings)
        kubeconfig = Kubeconfig.read(plain)
        mutability = Mutability(_enabled(plain, "enableConfigMapMutable"), _enabled(plain, "enableSecretMutable"))
        with self._configuring:
            before = self._configured
            if before is not None and _target(before.kubeconfig) != _target(kubeconfig):
                message = (
                    f"the kubernetes stand-in already serves {before.kubeconfig.server} (namespace "
                    f"{before.kubeconfig.namespace}) and can't serve {kubeconfig.server} (namespace "
                    f"{kubeconfig.namespace}) in the same run"
                )
                raise ProviderError(message)
            if before is None or before.kubeconfig != kubeconfig:
                self._configured = Cluster(kubeconfig, self._boundary)
            self._mutability = mutability

    def replaces_itself(self, olds: Properties, news: Properties) -> list[str]:
        """Say that another server means other objects."""
        if contains_unknown(news.get("kubeconfig")) or contains_unknown(news.get("context")):
            return []
        old, new = Kubeconfig.read(revealed(olds)), Kubeconfig.read(revealed(news))
        return ["kubeconfig"] if old.server != new.server else []

    def check(self, target: Target, olds: Properties, news: Properties, seed: bytes) -> Checked:
        """Complete the inputs."""
        kind = _served_kind(target)
        defaults = Defaults(target.name, self._cluster.kubeconfig.namespace, seed)
        completed = complete(kind, revealed(olds), revealed(news), defaults)
        return Checked(_with_secrets(kind, completed, news))

    def diff(self, old: Existing, news: Properties) -> Difference:
        """Compare inputs."""
        kind, inputs = _served_kind(old.target), revealed(news)
        unready = annotation(inputs, REPLACE_UNREADY) == "true" and self._is_unready_job(kind, inputs)
        return difference(kind, _recorded_inputs(old), inputs, self._mutability, unready=unready)

    def create(self, creation: Creation) -> tuple[str, Properties]:
        """Make the object and wait until it is ready."""
        kind, inputs = _served_kind(creation.target), creation.inputs
        manager = annotation(revealed(inputs), FIELD_MANAGER) or new_field_manager()
        if creation.preview:
            return "", self._previewed_creation(kind, inputs, manager)
        try:
            live = self._cluster.create(kind, revealed(inputs), manager, dry_run=False)
        except (ApiError, UnknownKindError) as error:
            name = qualified_name(revealed(inputs))
            message = f"resource {name} was not successfully created by the Kubernetes API server: {error}"
            raise ProviderError(message) from error
        failure = (
            f"resource {qualified_name(live)} was successfully created, but the Kubernetes API server reported that it "
            "failed to fully initialize or become live"
        )
        wait = _Wait(creation.target, kind, inputs, manager, creation.timeout, failure, AWAITERS.get(_key(kind)))
        ready = self._awaited(live, wait)
        return qualified_name(ready), _checkpoint(kind, ready, inputs, manager)

    def read(self, existing: Existing) -> Found | None:
        """Read the object back, and tell if it isn't ready."""
        kind = _served_kind(existing.target)
        try:
            live = self._cluster.find(kind, *_split(existing.identity))
        except UnknownKindError:
            return None
        if live is None:
            return None
        manager = text(existing.outputs.get(_MANAGER)) or new_field_manager()
        found = live_inputs(live, revealed(existing.inputs))
        inputs = _with_secrets(kind, found, existing.inputs)
        outputs = _checkpoint(kind, live, inputs, manager)
        awaiter = AWAITERS.get(_key(kind))
        if existing.inputs and awaiter and awaiter.on_read and annotation(found, SKIP_AWAIT) != "true":
            readiness = awaiter.judge(live, self._cluster)
            if not readiness.ready:
                failure = f"Resource '{text(at(live, 'metadata', 'name'))}' was created but failed to initialize"
                raise NotInitializedError(existing.identity, outputs, (failure, *readiness.reasons), inputs)
        return Found(existing.identity, outputs, inputs)

    def update(self, modification: Modification) -> Properties:
        """Apply the inputs and wait until the object is ready."""
        old, inputs = modification.old, modification.inputs
        kind = _served_kind(old.target)
        manager = annotation(revealed(inputs), FIELD_MANAGER) or text(old.outputs.get(_MANAGER)) or new_field_manager()
        if modification.preview:
            return self._previewed_update(kind, _recorded_inputs(old), inputs, manager)
        try:
            live = self._apply(kind, _recorded_inputs(old), revealed(inputs), manager, dry_run=False)
        except (ApiError, UnknownKindError) as error:
            message = f"update of resource {old.identity} failed: {error}"
            raise ProviderError(message) from error
        failure = f'the Kubernetes API server reported that "{old.identity}" failed to fully initialize or become live'
        awaiter = AWAITERS.get(_key(kind))
        chosen = awaiter if awaiter and awaiter.on_update else None
        ready = self._awaited(live, _Wait(old.target, kind, inputs, manager, old.timeout, failure, chosen))
        return _checkpoint(kind, ready, inputs, manager)

    def delete(self, existing: Existing) -> None:
        """Delete the object and wait until it is gone."""
        kind = _served_kind(existing.target)
        namespace, name = _split(existing.identity)
        outputs = revealed(existing.outputs)
        propagation = _PROPAGATIONS.get(annotation(outputs, PROPAGATION).lower(), "Foreground")
        try:
            self._cluster.delete(kind, namespace, name, propagation)
        except ApiError as error:
            if not error.not_found:
                raise
        except UnknownKindError:
            return
        if annotation(outputs, SKIP_AWAIT) != "true":
            seconds = timeout_seconds(existing.timeout, outputs, _DELETION_SECONDS)
            self._await_gone(kind, existing, text(at(outputs, "metadata", "uid")), seconds)

    @property
    def _cluster(self) -> Cluster:
        if self._configured is None:
            message = "the kubernetes stand-in has not been configured"
            raise ProviderError(message)
        return self._configured

    def _is_unready_job(self, kind: ObjectType, inputs: Properties) -> bool:
        """One that is gone is none: it shows in a refresh."""
        if _key(kind) != ("batch", "Job"):
            return False
        namespace, name = text(at(inputs, "metadata", "namespace")), text(at(inputs, "metadata", "name"))
        live = self._cluster.find(kind, namespace, name)
        return live is not None and not judge_job(live, self._cluster).ready

    def _previewed_creation(self, kind: ObjectType, inputs: Properties, manager: str) -> Properties:
        """Let the server say what it would make; where it can't yet, the inputs are all there is to tell."""
        if contains_unknown(inputs) or not self._cluster.serves(kind):
            return inputs
        try:
            live = self._cluster.create(kind, revealed(inputs), manager, dry_run=True)
        except ApiError as error:
            if error.unpreviewable:
                return inputs
            name = qualified_name(revealed(inputs))
            message = f"resource {name} was not successfully created by the Kubernetes API server: {error}"
            raise ProviderError(message) from error
        live.pop("status", None)
        return _checkpoint(kind, live, inputs, manager)

    def _previewed_update(self, kind: ObjectType, olds: Properties, inputs: Properties, manager: str) -> Properties:
        if contains_unknown(inputs) or not self._cluster.serves(kind):
            return inputs
        try:
            live = self._apply(kind, olds, revealed(inputs), manager, dry_run=True)
        except ApiError as error:
            if error.unpreviewable:
                return inputs
            raise
        return _checkpoint(kind, live, inputs, manager)

    def _apply(
        self, kind: ObjectType, olds: Properties, inputs: Properties, manager: str, *, dry_run: bool
    ) -> Properties:
        namespace, name = text(at(inputs, "metadata", "namespace")), text(at(inputs, "metadata", "name"))
        live = self._cluster.get(kind, namespace, name)
        if kind.kind == "CustomResourceDefinition":
            version = at(live, "metadata", "resourceVersion")
            whole: Properties = {**inputs, "metadata": {**mapping(inputs.get("metadata")), "resourceVersion": version}}
            return self._cluster.replace(kind, whole, manager, dry_run=dry_run)
        entries = sequence(at(live, "metadata", "managedFields"))
        adopted = adopted_entries(entries, manager, olds)
        if adopted != entries and not dry_run:
            self._cluster.set_managed_fields(kind, live, adopted)
        force = annotation(inputs, PATCH_FORCE) == "true" or (dry_run and adopted != entries)
        try:
            return self._cluster.apply(kind, inputs, manager, force=force, dry_run=dry_run)
        except ApiError as error:
            if error.conflict:
                message = f"Server-Side Apply field conflict detected: {error}"
                raise ProviderError(message) from error
            raise

    def _awaited(self, live: Properties, wait: _Wait) -> Properties:
        awaiter = wait.awaiter
        if awaiter is None or annotation(revealed(wait.inputs), SKIP_AWAIT) == "true":
            return live
        namespace, name = text(at(live, "metadata", "namespace")), text(at(live, "metadata", "name"))
        latest = [live]

        def fetch() -> Properties:
            latest[0] = self._cluster.get(wait.kind, namespace, name)
            return latest[0]

        seconds = timeout_seconds(wait.timeout, revealed(wait.inputs), awaiter.seconds)
        try:
            return await_ready(fetch, awaiter.judge, self._cluster, self._patience(wait.target, seconds))
        except (UnreadyError, ApiError) as error:
            reasons = error.reasons if isinstance(error, UnreadyError) else ()
            outputs = _checkpoint(wait.kind, latest[0], wait.inputs, wait.manager)
            raise NotInitializedError(qualified_name(live), outputs, (f"{wait.failure}: {error}", *reasons)) from error

    def _await_gone(self, kind: ObjectType, existing: Existing, uid: str, seconds: float) -> None:
        patience = self._patience(existing.target, seconds)
        deadline = threading.Event()
        timer = threading.Timer(seconds, deadline.set)
        timer.start()
        try:
            while (live := self._cluster.find(kind, *_split(existing.identity))) is not None:
                if uid and at(live, "metadata", "uid") != uid:
                    return
                pending = {text(finalizer) for finalizer in sequence(at(live, "metadata", "finalizers"))}
                finalizers = ", ".join(sorted(pending - _ORDINARY_FINALIZERS))
                waiting = f"finalizers might be preventing deletion ({finalizers})" if finalizers else ""
                patience.report(waiting or "Waiting for deletion")
                if deadline.is_set():
                    message = f'Timed out waiting for deletion of {kind.api_version}/{kind.kind} "{existing.identity}"'
                    raise ProviderError(f"{message}: {waiting}" if waiting else message)
                if patience.cancelled.wait(0.5):
                    message = f'Resource operation was cancelled for "{existing.identity}"'
                    raise ProviderError(message)
        finally:
            timer.cancel()

    def _patience(self, target: Target, seconds: float) -> Patience:
        shown: list[str] = []

        def report(message: str) -> None:
            if shown[-1:] != [message]:
                shown.append(message)
                self.engine.log(target.urn, message)

        return Patience(seconds, self.cancelled, report)


def adopted_entries(entries: list[Value], manager: str, claimed: Value) -> list[Value]:
    """Turn edits made without apply, by us or by kubectl, into fields that the manager has applied.

    Kubernetes takes an edit and an apply of one manager for two managers, so an object made by POST would conflict with
    its own first update. Only what the program claimed is turned: a field that is applied once and then left out is
    removed, which must not happen to what the server filled in (a claim's storage class, say).
    """
    ours: list[Value] = []
    others: list[Value] = []
    for entry in entries:
        mine = at(entry, "operation") == "Apply" and at(entry, "manager") == manager
        adopted = at(entry, "operation") == "Update" and at(entry, "manager") in {manager, *_ADOPTED_MANAGERS}
        (ours if (mine or adopted) and not at(entry, "subresource") else others).append(entry)
    if all(at(entry, "operation") == "Apply" for entry in ours):
        return entries
    fields: Properties = {}
    for entry in ours:
        owned = mapping(at(entry, "fieldsV1"))
        fields = _union(fields, owned if at(entry, "operation") == "Apply" else _restricted(owned, claimed))
    applied: Value = {**mapping(ours[0]), "manager": manager, "operation": "Apply", "fieldsV1": fields}
    return [applied, *others]


def _union(left: Properties, right: Properties) -> Properties:
    shared = {key: _union(mapping(left[key]), mapping(value)) for key, value in right.items() if key in left}
    return {**left, **right, **shared}


def _restricted(fields: Properties, claimed: Value) -> Properties:
    """Keep of a fieldsV1 tree what has a counterpart in the claimed value.

    Its keys are ``f:`` and a field's name, ``k:`` and a list item's identifying fields, ``v:`` and a set's member,
    ``i:`` and an index, or ``.`` for the thing itself.
    """
    kept: Properties = {}
    for key, below in fields.items():
        counterpart = claimed if key == "." else _counterpart(key, claimed)
        if counterpart is not None:
            kept[key] = _restricted(mapping(below), counterpart)
    return kept


def _counterpart(key: str, claimed: Value) -> Value:
    mark, _, name = key.partition(":")
    if mark == "f":
        return mapping(claimed).get(name)
    if mark == "k":
        identity = mapping(json.loads(name))
        # A port's protocol identifies it even where the program leaves it to the default.
        matches = (
            item
            for item in sequence(claimed)
            if all(mapping(item).get(field, value) == value for field, value in identity.items())
        )
        return next(matches, None)
    if mark == "v":
        member = json.loads(name)
        return member if member in sequence(claimed) else None
    return claimed


def _served_kind(target: Target) -> ObjectType:
    kind = ObjectType.from_token(target.type)
    if kind is None:
        message = f"the sandbox's stand-in for kubernetes does not serve {target.type}"
        raise ProviderError(message)
    return kind


def _key(kind: ObjectType) -> tuple[str, str]:
    return kind.group, kind.kind


def _target(kubeconfig: Kubeconfig) -> tuple[str, str]:
    return kubeconfig.server, kubeconfig.namespace


def _enabled(settings: Properties, name: str) -> bool:
    return settings.get(name) in (True, "true")


def _split(identity: str) -> tuple[str, str]:
    namespace, _, name = identity.rpartition("/")
    return namespace, name


def _recorded_inputs(existing: Existing) -> Properties:
    """Give the inputs that made the object as it is.

    They are kept with the outputs, because the engine keeps the inputs before them when an update did not become ready.
    """
    return revealed(mapping(existing.outputs.get(_INPUTS)) or existing.inputs)


def _with_secrets(kind: ObjectType, properties: Properties, pattern: Properties) -> Properties:
    marked = marked_like(properties, pattern)
    if (kind.group, kind.kind) == ("", "Secret"):
        marked |= {field: secret(marked[field]) for field in _SECRET_FIELDS if field in marked}
    return marked


def _checkpoint(kind: ObjectType, live: Properties, inputs: Properties, manager: str) -> Properties:
    """Give what the engine records: the live object, and what made it."""
    return {
        **_with_secrets(kind, live, inputs),
        _INPUTS: dict(inputs),
        _INITIAL_API_VERSION: kind.api_version,
        _MANAGER: manager,
    }
