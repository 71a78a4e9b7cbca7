"""The kubernetes stand-in's rules that need no cluster: names, namespaces, what forces a new object, timeouts.

They restate the behaviour of pulumi-kubernetes 4 (provider/pkg/provider/diff.go and provider/pkg/metadata in its
source), in its default mode: server-side apply, ConfigMaps and Secrets taken as immutable.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from kubernetes.utils.quantity import parse_quantity

from sandbox.providers.differences import Change, Path, changes
from sandbox.providers.differences import Kind as ChangeKind
from sandbox.providers.protocol import Difference
from sandbox.providers.values import (
    UNKNOWN,
    Properties,
    Value,
    at,
    contains_unknown,
    mapping,
    reveal,
    sequence,
    text,
)

AUTONAMED = "pulumi.com/autonamed"
SKIP_AWAIT = "pulumi.com/skipAwait"
TIMEOUT = "pulumi.com/timeoutSeconds"
REPLACE_UNREADY = "pulumi.com/replaceUnready"
PATCH_FORCE = "pulumi.com/patchForce"
FIELD_MANAGER = "pulumi.com/patchFieldManager"
PROPAGATION = "pulumi.com/deletionPropagationPolicy"
MANAGED_BY = ("app.kubernetes.io/managed-by", "pulumi")

_CLUSTER_WIDE = frozenset(
    {
        ("", "Namespace"),
        ("", "Node"),
        ("", "PersistentVolume"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apiregistration.k8s.io", "APIService"),
        ("certificates.k8s.io", "CertificateSigningRequest"),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
        ("networking.k8s.io", "IngressClass"),
        ("node.k8s.io", "RuntimeClass"),
        ("rbac.authorization.k8s.io", "ClusterRole"),
        ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("storage.k8s.io", "CSIDriver"),
        ("storage.k8s.io", "CSINode"),
        ("storage.k8s.io", "StorageClass"),
        ("storage.k8s.io", "VolumeAttachment"),
    }
)
_SERVER_FIELDS = frozenset(
    {
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    }
)
_POD_SPEC = (
    "affinity automountServiceAccountToken dnsConfig dnsPolicy enableServiceLinks hostAliases hostIPC hostNetwork "
    "hostPID hostname imagePullSecrets nodeName nodeSelector overhead preemptionPolicy priority priorityClassName "
    "readinessGates restartPolicy runtimeClassName schedulerName securityContext serviceAccount serviceAccountName "
    "shareProcessNamespace subdomain terminationGracePeriodSeconds volumes"
)
_CONTAINER = (
    "args command env image imagePullPolicy lifecycle livenessProbe ports readinessProbe resources securityContext "
    "stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices volumeMounts workingDir"
)
_VOLUME_SOURCES = (
    "awsElasticBlockStore azureDisk azureFile cephfs cinder csi fc flexVolume flocker gcePersistentDisk glusterfs "
    "hostPath iscsi local nfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume"
)


def _under(prefix: str, names: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in names.split())


_FORCING: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "PersistentVolume"): _under("spec", _VOLUME_SOURCES),
    ("", "PersistentVolumeClaim"): _under("spec", "accessModes selector storageClassName volumeName"),
    ("", "Pod"): (
        *_under("spec", _POD_SPEC),
        *_under("spec.containers.*", _CONTAINER),
        *_under("spec.initContainers.*", _CONTAINER),
    ),
    ("", "ResourceQuota"): ("spec.scopes",),
    ("", "Service"): ("spec.clusterIP",),
    ("apps", "DaemonSet"): ("spec.selector",),
    ("apps", "Deployment"): ("spec.selector",),
    ("apps", "StatefulSet"): _under(
        "spec", "podManagementPolicy revisionHistoryLimit selector serviceName volumeClaimTemplates"
    ),
    ("batch", "Job"): _under("spec", "completions parallelism selector template"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): ("roleRef",),
    ("rbac.authorization.k8s.io", "RoleBinding"): ("roleRef",),
    ("storage.k8s.io", "StorageClass"): ("parameters", "provisioner"),
}


@dataclass(frozen=True)
class ObjectType:
    """An API's kind, such as apps/v1 Deployment."""

    api_version: str
    kind: str

    @classmethod
    def from_token(cls, token: str) -> ObjectType | None:
        """Read a type token such as ``kubernetes:core/v1:Secret``; None if it names no kind of an API."""
        _, module, kind = token.split(":")
        group, _, version = module.partition("/")
        if not version or group in {"helm.sh", "yaml", "kustomize"} or kind.endswith(("Patch", "List")):
            return None
        return cls(version if group == "core" else module, kind)

    @property
    def group(self) -> str:
        """The API's group; core is the empty one."""
        return self.api_version.rpartition("/")[0]

    @property
    def namespaced(self) -> bool:
        """Whether objects lie in a namespace; kinds that aren't known do."""
        return (self.group, self.kind) not in _CLUSTER_WIDE


@dataclass(frozen=True)
class Mutability:
    """The provider's settings that let data change in place."""

    config_maps: bool = False
    secrets: bool = False


@dataclass(frozen=True)
class Defaults:
    """What stands in for a name and a namespace that the program did not give."""

    name: str
    namespace: str
    seed: bytes


def complete(kind: ObjectType, olds: Properties, news: Properties, defaults: Defaults) -> Properties:
    """Fill in what the program left out: API, kind, name, namespace. The arguments' secrets must be revealed."""
    completed: Properties = {"apiVersion": kind.api_version, "kind": kind.kind, **news}
    known = completed.get("metadata", {})
    if known is UNKNOWN:
        return completed
    metadata = dict(mapping(known))
    completed["metadata"] = metadata
    if not metadata.get("name") and not metadata.get("generateName"):
        metadata["name"] = _automatic_name(defaults, olds)
        _set(metadata, "annotations", AUTONAMED, "true")
    if text(at(olds, "metadata", "labels", MANAGED_BY[0])) == MANAGED_BY[1]:
        _set(metadata, "labels", *MANAGED_BY)
    if kind.namespaced and not metadata.get("namespace"):
        metadata["namespace"] = defaults.namespace
    return completed


def difference(
    kind: ObjectType, olds: Properties, news: Properties, mutability: Mutability, *, unready: bool = False
) -> Difference:
    """Compare inputs; a new object whose name is the old one's can only be made after the old one is gone. One that is `unready`
    is to be replaced for that alone.
    """
    found = tuple(changes(olds, news))
    patterns = _forcing(kind, news, mutability)
    replacing = frozenset(change.name for change in found if any(_forces(change, pattern) for pattern in patterns))
    if unready:
        because = Change(("metadata", "annotations", REPLACE_UNREADY), ChangeKind.UPDATE, "true")
        found, replacing = (*found, because), replacing | {because.name}
    same_name = at(news, "metadata", "name") == at(olds, "metadata", "name")
    same_namespace = at(news, "metadata", "namespace") == at(olds, "metadata", "namespace")
    autonamed = annotation(news, AUTONAMED) == "true"
    delete_first = bool(replacing) and not autonamed and same_name and same_namespace
    return Difference(found, replacing, delete_first)


def annotation(inputs: Mapping[str, Value], name: str) -> str:
    """Give an annotation's value, or an empty text."""
    return text(at(mapping(inputs.get("metadata")).get("annotations"), name))


def timeout_seconds(requested: float, inputs: Mapping[str, Value], default: float) -> float:
    """Give how long to wait: the resource's customTimeouts, else its annotation, else the kind's default."""
    if requested > 0:
        return requested
    annotated = annotation(inputs, TIMEOUT)
    return float(annotated) if annotated.isdecimal() and int(annotated) > 0 else default


def new_field_manager() -> str:
    """Give a name under which one resource's fields are owned."""
    return f"pulumi-kubernetes-{secrets.token_hex(4)}"


def live_inputs(live: Properties, olds: Properties) -> Properties:
    """Give the inputs that would make the live object: for a refresh to show drift in what the program set.

    What the program never set stays out. Without old inputs (an import) all but the server's own fields come in.
    """
    if not olds:
        metadata = {key: value for key, value in mapping(live.get("metadata")).items() if key not in _SERVER_FIELDS}
        return {key: value for key, value in {**live, "metadata": metadata}.items() if key != "status"}
    pruned = mapping(_prune(live, olds))
    if live.get("kind") == "Secret" and "stringData" in olds:
        pruned["stringData"] = _string_data(live, mapping(olds["stringData"]))
    return pruned


def qualified_name(obj: Mapping[str, Value]) -> str:
    """Give the object's identity: namespace/name, or the name alone."""
    namespace, name = text(at(obj.get("metadata"), "namespace")), text(at(obj.get("metadata"), "name"))
    return f"{namespace}/{name}" if namespace else name


def _automatic_name(defaults: Defaults, olds: Properties) -> str:
    old_name = text(at(olds, "metadata", "name"))
    if old_name and annotation(olds, AUTONAMED) == "true":
        return old_name
    suffix = hashlib.sha256(defaults.seed).hexdigest()[:8] if defaults.seed else secrets.token_hex(4)
    return f"{defaults.name}-{suffix}"


def _set(metadata: Properties, field: str, key: str, value: str) -> None:
    if metadata.get(field) is not UNKNOWN:
        metadata[field] = {**mapping(metadata.get(field)), key: value}


def _forcing(kind: ObjectType, news: Properties, mutability: Mutability) -> tuple[Path, ...]:
    patterns = ["metadata.name", "metadata.namespace", *_FORCING.get((kind.group, kind.kind), ())]
    immutable = news.get("immutable") is True
    if (kind.group, kind.kind) == ("", "Secret"):
        patterns += ["type"] if mutability.secrets and not immutable else ["type", "data", "stringData"]
    if (kind.group, kind.kind) == ("", "ConfigMap") and (not mutability.config_maps or immutable):
        patterns += ["data", "binaryData"]
    return tuple(tuple(pattern.split(".")) for pattern in patterns)


def _forces(change: Change, pattern: Path) -> bool:
    """Tell whether the change touches the property, be it above or below it."""
    for step, wanted in zip(change.path, pattern, strict=False):
        if wanted != step and not (wanted == "*" and isinstance(step, int)):
            return False
    rest = pattern[len(change.path) :]
    return contains_unknown(change.value) or _holds(change.value, rest)


def _holds(value: Value, path: Path) -> bool:
    if not path:
        return True
    if path[0] == "*":
        return any(_holds(item, path[1:]) for item in sequence(value))
    return str(path[0]) in mapping(value) and _holds(mapping(value)[str(path[0])], path[1:])


def _prune(live: Value, olds: Value) -> Value:
    if isinstance(live, dict) and isinstance(olds, dict):
        return {key: _prune(live[key], old) for key, old in olds.items() if key in live}
    if isinstance(live, list) and isinstance(olds, list):
        kept = [_prune(item, old) for item, old in zip(live, olds, strict=False)]
        return kept + live[len(olds) :]
    return reveal(olds) if _same_quantity(live, olds) else live


def _same_quantity(live: Value, old: Value) -> bool:
    """Tell whether the server only wrote an amount its own way (1024Mi as 1Gi, 1 as "1")."""
    if isinstance(live, bool) or isinstance(old, bool) or type(live) is type(old) is not str:
        return False
    if not isinstance(live, str | int | float) or not isinstance(old, str | int | float):
        return False
    try:
        return bool(parse_quantity(live) == parse_quantity(old))  # type: ignore[no-untyped-call]
    except ValueError:
        return False


def _string_data(live: Properties, olds: Properties) -> Value:
    data = mapping(live.get("data"))
    return {key: _decoded(text(data[key])) for key in olds if key in data}


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return value
