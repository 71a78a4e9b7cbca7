"""A Kubernetes API server as the stand-in uses it: any kind, objects as plain Python values, errors as one line."""

from __future__ import annotations

import json
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from kubernetes import client, config, dynamic
from kubernetes.dynamic import exceptions
from urllib3 import disable_warnings
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from sandbox.providers.boundary import Boundary
from sandbox.providers.kubernetes_rules import ObjectType
from sandbox.providers.protocol import ProviderError
from sandbox.providers.values import Properties, Value, at, mapping, sequence, text

_REQUEST_TIMEOUT_SECONDS = 60
_CONNECTIONS = 64
_NOT_FOUND = 404
_CONFLICT = 409
_FORBIDDEN = 403


class ApiError(ProviderError):
    """The API server refused a request."""

    def __init__(self, status: int, message: str, reason: str = "", missing_kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.missing_kind = missing_kind

    @property
    def not_found(self) -> bool:
        """Whether what was asked for doesn't exist."""
        return self.status == _NOT_FOUND

    @property
    def conflict(self) -> bool:
        """Whether another manager owns a field, or the object has changed meanwhile."""
        return self.status == _CONFLICT and self.reason == "Conflict"

    @property
    def unpreviewable(self) -> bool:
        """Whether a dry run fails for a reason that needn't be one later: what is in its way may go before."""
        return (
            self.status == _FORBIDDEN
            or self.reason == "AlreadyExists"
            or (self.not_found and self.missing_kind == "namespaces")
        )


class UnreachableError(ProviderError):
    """No API server answered."""


class UnknownKindError(ProviderError):
    """The API server doesn't serve the kind."""


@dataclass(frozen=True)
class Kubeconfig:
    """Which cluster, with which credentials, in which namespace by default."""

    document: str
    context: str
    namespace: str
    server: str

    @classmethod
    def read(cls, settings: Properties) -> Kubeconfig:
        """Read the provider's settings; the kubeconfig is a path or the content itself."""
        given = text(settings.get("kubeconfig"))
        if not given:
            message = "the kubernetes stand-in needs an explicit Provider(kubeconfig=...): it looks for none by itself"
            raise ProviderError(message)
        document = _content(given)
        parsed = _parsed(document)
        context = text(settings.get("context")) or text(parsed.get("current-context"))
        chosen = _named(parsed, "contexts", context)
        server = text(at(_named(parsed, "clusters", text(at(chosen, "context", "cluster"))), "cluster", "server"))
        if not server:
            message = f'the kubeconfig names no server for the context "{context}"'
            raise ProviderError(message)
        namespace = text(settings.get("namespace")) or text(at(chosen, "context", "namespace")) or "default"
        return cls(document, context, namespace, server)

    @property
    def host(self) -> str:
        """The server's host, without port."""
        return urlsplit(self.server).hostname or ""


class Cluster:
    """One API server."""

    def __init__(self, kubeconfig: Kubeconfig, boundary: Boundary) -> None:
        boundary.admit(kubeconfig.host)
        self.kubeconfig = kubeconfig
        self._lock = threading.Lock()
        self._client: dynamic.DynamicClient | None = None
        # The client's own place for this, a fixed name in the shared temporary folder, goes stale between sandboxes.
        self._scratch = tempfile.TemporaryDirectory(prefix="sandbox-providers-")

    def get(self, kind: ObjectType, namespace: str, name: str) -> Properties:
        """Read one object."""
        return self._request("get", kind, namespace, name)

    def find(self, kind: ObjectType, namespace: str, name: str) -> Properties | None:
        """Read one object, if there is one."""
        try:
            return self.get(kind, namespace, name)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    def list_all(self, kind: ObjectType, namespace: str, labels: str = "") -> list[Properties]:
        """Read a namespace's objects of a kind."""
        query = [("labelSelector", labels)] if labels else []
        return [mapping(item) for item in sequence(self._request("get", kind, namespace, query=query).get("items"))]

    def create(self, kind: ObjectType, obj: Properties, manager: str, *, dry_run: bool) -> Properties:
        """Make an object that mustn't exist yet."""
        namespace = text(at(obj, "metadata", "namespace"))
        query = [("fieldManager", manager), *_dry(dry_run)]
        return self._request("post", kind, namespace, body=obj, query=query)

    def apply(self, kind: ObjectType, obj: Properties, manager: str, *, force: bool, dry_run: bool) -> Properties:
        """Apply an object on the server's side, with the manager as the owner of its fields."""
        query = [("fieldManager", manager), ("force", str(force).lower()), *_dry(dry_run)]
        return self._change("patch", kind, obj, query, content="application/apply-patch+yaml")

    def replace(self, kind: ObjectType, obj: Properties, manager: str, *, dry_run: bool) -> Properties:
        """Put an object in the place of the one whose resourceVersion it carries."""
        return self._change("put", kind, obj, [("fieldManager", manager), *_dry(dry_run)])

    def set_managed_fields(self, kind: ObjectType, live: Properties, entries: list[Value]) -> None:
        """Rewrite who owns which field, unless the object has changed since it was read."""
        patch: list[Value] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": at(live, "metadata", "resourceVersion")},
            {"op": "replace", "path": "/metadata/managedFields", "value": entries},
        ]
        namespace, name = text(at(live, "metadata", "namespace")), text(at(live, "metadata", "name"))
        self._request("patch", kind, namespace, name, body=patch, content="application/json-patch+json")

    def delete(self, kind: ObjectType, namespace: str, name: str, propagation: str) -> None:
        """Ask for an object's deletion."""
        body: Properties = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": propagation}
        self._request("delete", kind, namespace, name, body=body)

    def serves(self, kind: ObjectType) -> bool:
        """Tell whether there is a reachable server that knows the kind."""
        try:
            self._path(kind, "", "")
        except (UnreachableError, UnknownKindError):
            return False
        return True

    def _change(
        self, method: str, kind: ObjectType, obj: Properties, query: list[tuple[str, str]], content: str = ""
    ) -> Properties:
        namespace, name = text(at(obj, "metadata", "namespace")), text(at(obj, "metadata", "name"))
        return self._request(method, kind, namespace, name, body=obj, query=query, content=content)

    def _request(
        self,
        method: str,
        kind: ObjectType,
        namespace: str,
        name: str = "",
        *,
        body: Value = None,
        query: list[tuple[str, str]] | None = None,
        content: str = "",
    ) -> Properties:
        path = self._path(kind, namespace, name)
        try:
            response = self._connected().request(
                method,
                path,
                body=body,
                query_params=list(query or []),
                content_type=content or "application/json",
                serialize=False,
                _request_timeout=_REQUEST_TIMEOUT_SECONDS,
            )
        except exceptions.DynamicApiError as error:
            raise _api_error(error) from error
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        return mapping(json.loads(response.data))

    def _path(self, kind: ObjectType, namespace: str, name: str) -> str:
        connected = self._connected()
        try:
            with self._lock:
                resource = connected.resources.get(api_version=kind.api_version, kind=kind.kind)
        except exceptions.ResourceNotFoundError as error:
            message = f'no matches for kind "{kind.kind}" in version "{kind.api_version}"'
            raise UnknownKindError(message) from error
        except (HTTPError, OSError) as error:
            raise self._unreachable(error) from error
        if not resource.namespaced:
            return str(resource.path(name=name or None))
        return str(resource.path(name=name or None, namespace=namespace or self.kubeconfig.namespace))

    def _connected(self) -> dynamic.DynamicClient:
        with self._lock:
            if self._client is None:
                try:
                    self._client = self._connect()
                except exceptions.DynamicApiError as error:
                    raise _api_error(error) from error
                except (HTTPError, OSError) as error:
                    raise self._unreachable(error) from error
            return self._client

    def _connect(self) -> dynamic.DynamicClient:
        # Whether to verify is the kubeconfig's decision, and one that needn't be repeated at every request.
        disable_warnings(InsecureRequestWarning)
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = _CONNECTIONS
        configuration.retries = False
        # A proxy would carry the requests out of the sandbox.
        configuration.proxy = None
        api = config.new_client_from_config_dict(  # type: ignore[no-untyped-call]
            yaml.safe_load(self.kubeconfig.document),
            context=self.kubeconfig.context,
            persist_config=False,
            temp_file_path=self._scratch.name,
            client_configuration=configuration,
        )
        cache = str(Path(self._scratch.name, "discovery.json"))
        return dynamic.DynamicClient(api, cache_file=cache)  # type: ignore[no-untyped-call]

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(f"configured Kubernetes cluster is unreachable: {self.kubeconfig.server}: {error}")


def _dry(dry_run: bool) -> list[tuple[str, str]]:  # noqa: FBT001 - a private helper with one meaning
    return [("dryRun", "All")] if dry_run else []


def _content(given: str) -> str:
    if "\n" in given or given.lstrip().startswith("{"):
        return given
    try:
        return Path(given).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        message = f"the kubeconfig can't be read: {error}"
        raise ProviderError(message) from error


def _parsed(document: str) -> Properties:
    try:
        return mapping(yaml.safe_load(document))
    except yaml.YAMLError as error:
        # Not the parser's own text: it quotes the line, which may hold credentials.
        message = "the kubeconfig is not valid YAML"
        raise ProviderError(message) from error


def _named(parsed: Properties, section: str, name: str) -> Properties:
    return next((mapping(item) for item in sequence(parsed.get(section)) if at(item, "name") == name), {})


def _api_error(error: exceptions.DynamicApiError) -> ApiError:
    body = error.body.decode() if isinstance(error.body, bytes) else str(error.body or "")
    status = _status(body)
    message = text(status.get("message")) or body or str(error.reason)
    return ApiError(int(error.status or 0), message, text(status.get("reason")), text(at(status, "details", "kind")))


def _status(body: str) -> Properties:
    try:
        return mapping(json.loads(body))
    except ValueError:
        return {}
