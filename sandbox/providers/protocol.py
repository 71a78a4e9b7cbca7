"""What every stand-in shares: the engine's provider protocol on gRPC, spoken with plain Python values.

A stand-in subclasses :class:`StandIn` and raises :class:`ProviderError` or :class:`NotInitializedError`; the user sees
their text and never a traceback. One process serves one engine at a time, so a stand-in has one target only.
"""

from __future__ import annotations

import functools
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent import futures
from dataclasses import dataclass, field
from importlib import metadata
from typing import ParamSpec, Protocol, TypeVar

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import (
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

from sandbox.providers.boundary import OutsideSandboxError
from sandbox.providers.differences import Change
from sandbox.providers.values import Properties, decode, encode

# The engine runs 4 x cores steps at once, and a step may wait ten minutes for a rollout.
_WORKERS = 128
_CHANNEL_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_LOG_TIMEOUT_SECONDS = 5

_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")

_logger = logging.getLogger(__name__)


class ProviderError(Exception):
    """An operation failed, and nothing of it is to be recorded; the text is for the user."""


class NotInitializedError(Exception):
    """The object exists but isn't ready: the engine records it as such and tries again at the next update."""

    def __init__(
        self, identity: str, outputs: Properties, reasons: Iterable[str], inputs: Properties | None = None
    ) -> None:
        self.reasons = tuple(reasons)
        super().__init__(self.reasons[0])
        self.identity = identity
        self.outputs = outputs
        self.inputs = inputs


@dataclass(frozen=True)
class Target:
    """The resource an operation is about."""

    urn: str

    @property
    def type(self) -> str:
        """The type token, such as ``kubernetes:core/v1:Secret``."""
        return self.urn.split("::")[2].rpartition("$")[2]

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return self.urn.split("::", 3)[3]


@dataclass(frozen=True)
class Checked:
    """Inputs as they are to be recorded, or why they can't be (property, reason)."""

    inputs: Properties
    failures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Difference:
    """What an update would change, which of it needs a new object, and in which order the two are swapped."""

    changes: tuple[Change, ...]
    replacing: frozenset[str] = frozenset()
    delete_first: bool = False


@dataclass(frozen=True)
class Creation:
    """Everything the engine tells about an object to be made."""

    target: Target
    inputs: Properties
    preview: bool
    timeout: float


@dataclass(frozen=True)
class Existing:
    """Everything the engine tells about an object that is there."""

    target: Target
    identity: str
    outputs: Properties
    inputs: Properties = field(default_factory=dict)
    timeout: float = 0


@dataclass(frozen=True)
class Modification:
    """An object that is there, and the inputs it is to follow from now on."""

    old: Existing
    inputs: Properties
    preview: bool


@dataclass(frozen=True)
class Found:
    """An object's state as it was read; the inputs are those that would make it so."""

    identity: str
    outputs: Properties
    inputs: Properties


class Reporter(Protocol):
    """Something that shows a line of progress or a warning beside a resource."""

    def __call__(self, urn: str, message: str, *, warning: bool = False) -> None:
        """Show the message."""


class Engine:
    """The engine's side of the conversation: where messages to the user go."""

    def __init__(self) -> None:
        self._channel: grpc.Channel | None = None

    def attach(self, address: str) -> None:
        """Use the engine that listens there; the one before it is gone."""
        previous, self._channel = self._channel, grpc.insecure_channel(address)
        if previous is not None:
            previous.close()

    def log(self, urn: str, message: str, *, warning: bool = False) -> None:
        """Show a passing status, or a warning that stays. A message that can't be delivered is lost, no more."""
        if self._channel is None or not message:
            return
        severity = engine_pb2.LogSeverity.WARNING if warning else engine_pb2.LogSeverity.INFO
        request = engine_pb2.LogRequest(severity=severity, message=message, urn=urn, ephemeral=not warning)
        try:
            engine_pb2_grpc.EngineStub(self._channel).Log(request, timeout=_LOG_TIMEOUT_SECONDS)
        except (grpc.RpcError, ValueError):
            _logger.debug("the engine did not take a message", exc_info=True)


class StandIn(ABC):
    """A provider's behaviour, free of the wire."""

    package: str
    distribution: str

    def __init__(self) -> None:
        self.engine = Engine()
        self.cancelled = threading.Event()

    @property
    def version(self) -> str:
        """The version of the SDK that is installed, whose plugin this stands in for."""
        return metadata.version(self.distribution)

    @abstractmethod
    def configure(self, settings: Properties) -> None:
        """Take the provider's settings; refuse those of another target than before."""

    def replaces_itself(self, olds: Properties, news: Properties) -> list[str]:
        """Name the provider settings whose change means another target, so that every resource moves."""
        del olds, news
        return []

    @abstractmethod
    def check(self, target: Target, olds: Properties, news: Properties, seed: bytes) -> Checked:
        """Complete and validate inputs; olds are empty for an object to be made."""

    @abstractmethod
    def diff(self, old: Existing, news: Properties) -> Difference:
        """Compare what was recorded with the new inputs."""

    @abstractmethod
    def create(self, creation: Creation) -> tuple[str, Properties]:
        """Make the object; give its identity and outputs."""

    @abstractmethod
    def read(self, existing: Existing) -> Found | None:
        """Read the object back, or tell that it is gone."""

    @abstractmethod
    def update(self, modification: Modification) -> Properties:
        """Change the object in place; give its outputs."""

    @abstractmethod
    def delete(self, existing: Existing) -> None:
        """Take the object away; one that is gone already is no error."""

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """Call a function of the provider."""
        del arguments
        message = f"the sandbox's stand-in for {self.package} does not serve {token}"
        raise ProviderError(message)

    def cancel(self) -> None:
        """Interrupt what can be interrupted: the user pressed Ctrl-C."""
        self.cancelled.set()


def serve(stand_in: StandIn) -> tuple[grpc.Server, int]:
    """Start the stand-in on a free loopback port."""
    server = grpc.server(futures.ThreadPoolExecutor(_WORKERS), options=_CHANNEL_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(_Servicer(stand_in), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def _plainly(method: Callable[_Parameters, _Answer]) -> Callable[_Parameters, _Answer]:
    """Turn a handler's exceptions into errors of the protocol, without tracebacks."""

    @functools.wraps(method)
    def wrapped(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Answer:
        context = args[-1]
        try:
            return method(*args, **kwargs)
        except NotInitializedError as error:
            context.set_trailing_metadata(_init_failed_details(error))  # type: ignore[attr-defined]
            message = str(error)
        except (ProviderError, OutsideSandboxError) as error:
            message = str(error)
        except Exception as error:
            _logger.debug("unexpected", exc_info=True)
            message = f"a sandbox stand-in failed unexpectedly: {type(error).__name__}: {error}"
        context.abort(grpc.StatusCode.UNKNOWN, message)  # type: ignore[attr-defined]
        raise AssertionError(message)

    return wrapped


def _init_failed_details(error: NotInitializedError) -> tuple[tuple[str, bytes], ...]:
    failure = provider_pb2.ErrorResourceInitFailed(
        id=error.identity,
        properties=encode(error.outputs),
        reasons=error.reasons,
        inputs=None if error.inputs is None else encode(error.inputs),
    )
    detail = any_pb2.Any()
    detail.Pack(failure)
    code = grpc.StatusCode.UNKNOWN.value[0]
    status = status_pb2.Status(code=code, message=str(error), details=[detail])
    return (("grpc-status-details-bin", status.SerializeToString()),)


class _Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """The wire's side of a stand-in."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in

    @_plainly
    def Attach(self, request: plugin_pb2.PluginAttach, context: grpc.ServicerContext) -> empty_pb2.Empty:
        # A new engine: an earlier one's cancellation is not meant for it.
        self._stand_in.cancelled.clear()
        self._stand_in.engine.attach(request.address)
        return empty_pb2.Empty()

    @_plainly
    def GetPluginInfo(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> plugin_pb2.PluginInfo:
        return plugin_pb2.PluginInfo(version=self._stand_in.version)

    @_plainly
    def GetSchema(
        self, request: provider_pb2.GetSchemaRequest, context: grpc.ServicerContext
    ) -> provider_pb2.GetSchemaResponse:
        message = f"the sandbox's stand-in for {self._stand_in.package} has no schema"
        raise ProviderError(message)

    @_plainly
    def CheckConfig(
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        return provider_pb2.CheckResponse(inputs=request.news)

    @_plainly
    def DiffConfig(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        olds, news = decode(request.old_inputs), decode(request.news)
        changed = sorted(key for key in {*olds, *news} if olds.get(key) != news.get(key))
        replaces = self._stand_in.replaces_itself(olds, news)
        return provider_pb2.DiffResponse(changes=_verdict(changed=bool(changed)), diffs=changed, replaces=replaces)

    @_plainly
    def Configure(
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        self._stand_in.configure(decode(request.args))
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, acceptResources=True, acceptOutputs=True
        )

    @_plainly
    def Check(self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext) -> provider_pb2.CheckResponse:
        news = decode(request.news)
        checked = self._stand_in.check(Target(request.urn), decode(request.olds), news, request.randomSeed)
        failures = [provider_pb2.CheckFailure(property=name, reason=reason) for name, reason in checked.failures]
        return provider_pb2.CheckResponse(inputs=encode(checked.inputs), failures=failures)

    @_plainly
    def Diff(self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext) -> provider_pb2.DiffResponse:
        old = Existing(Target(request.urn), request.id, decode(request.olds), decode(request.old_inputs))
        difference = self._stand_in.diff(old, decode(request.news))
        return _diff_response(difference)

    @_plainly
    def Create(self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext) -> provider_pb2.CreateResponse:
        creation = Creation(Target(request.urn), decode(request.properties), request.preview, request.timeout)
        identity, outputs = self._stand_in.create(creation)
        return provider_pb2.CreateResponse(id=identity, properties=encode(outputs))

    @_plainly
    def Read(self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext) -> provider_pb2.ReadResponse:
        existing = Existing(Target(request.urn), request.id, decode(request.properties), decode(request.inputs))
        found = self._stand_in.read(existing)
        if found is None:
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(
            id=found.identity, properties=encode(found.outputs), inputs=encode(found.inputs)
        )

    @_plainly
    def Update(self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext) -> provider_pb2.UpdateResponse:
        target, olds, old_inputs = Target(request.urn), decode(request.olds), decode(request.old_inputs)
        old = Existing(target, request.id, olds, old_inputs, request.timeout)
        outputs = self._stand_in.update(Modification(old, decode(request.news), request.preview))
        return provider_pb2.UpdateResponse(properties=encode(outputs))

    @_plainly
    def Delete(self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        outputs, inputs = decode(request.properties), decode(request.old_inputs)
        self._stand_in.delete(Existing(Target(request.urn), request.id, outputs, inputs, request.timeout))
        return empty_pb2.Empty()

    @_plainly
    def Invoke(self, request: provider_pb2.InvokeRequest, context: grpc.ServicerContext) -> provider_pb2.InvokeResponse:
        response = provider_pb2.InvokeResponse()
        # "return" is no name in Python.
        getattr(response, "return").CopyFrom(encode(self._stand_in.invoke(request.tok, decode(request.args))))
        return response

    @_plainly
    def Cancel(self, request: empty_pb2.Empty, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self._stand_in.cancel()
        return empty_pb2.Empty()


def _verdict(*, changed: bool) -> provider_pb2.DiffResponse.DiffChanges.ValueType:
    return provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE


def _diff_response(difference: Difference) -> provider_pb2.DiffResponse:
    detailed = {}
    for change in difference.changes:
        suffix = "_REPLACE" if change.name in difference.replacing else ""
        kind = provider_pb2.PropertyDiff.Kind.Value(change.kind.value + suffix)
        detailed[change.name] = provider_pb2.PropertyDiff(kind=kind, inputDiff=True)
    return provider_pb2.DiffResponse(
        changes=_verdict(changed=bool(difference.changes)),
        replaces=sorted(difference.replacing),
        deleteBeforeReplace=difference.delete_first,
        diffs=sorted({str(change.path[0]) for change in difference.changes}),
        detailedDiff=detailed,
        hasDetailedDiff=True,
    )
