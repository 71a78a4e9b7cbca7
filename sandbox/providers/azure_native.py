"""Stand-in for the pulumi-azure-native plugin, used only where the official one can't be had; no part of the product.

The plugin logs in to Azure and needs credentials to do so (a service principal, a managed identity, or `az login`).
This one takes none: its Azure is the sandbox's, with one storage account, whose containers are real ones in Azurite.
The other resources are records in a file, under the rules of Azure that a program meets. What Azure would enforce on
the data (network rules, lifecycle, roles, no shared keys) happens to nothing here.

It serves the types in `azure_kinds.py` and `listStorageAccountKeys`, and refuses the others by name.
"""

from __future__ import annotations

import threading
from typing import Final

from sandbox import azure_account
from sandbox.layout import AZURE_STATE
from sandbox.providers.azure_cloud import AzureError, Cloud
from sandbox.providers.azure_containers import AzuriteContainers
from sandbox.providers.azure_kinds import (
    ACCOUNT,
    CREATE_BEFORE_DELETE,
    GROUP,
    KINDS,
    Kind,
    Naming,
    automatic_name,
    name_problems,
    normalized_location,
    service_defaults,
)
from sandbox.providers.azure_types import input_names, output_names, problems
from sandbox.providers.differences import changes
from sandbox.providers.protocol import (
    Checked,
    Creation,
    Difference,
    Existing,
    Found,
    Modification,
    ProviderError,
    StandIn,
    Target,
)
from sandbox.providers.values import UNKNOWN, Properties, Value, mapping, marked_like, reveal, revealed, text

_API_VERSION: Final = "azureApiVersion"
_LIST_KEYS: Final = "azure-native:storage:listStorageAccountKeys"
_SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000000"
_TARGETING: Final = ("subscriptionId", "location")
"""The provider's settings that matter here."""


class AzureNativeStandIn(StandIn):
    """Keeps the resources of the sandbox's Azure as the program says."""

    package = "azure-native"
    distribution = "pulumi-azure-native"

    def __init__(self, cloud: Cloud | None = None) -> None:
        super().__init__()
        self._cloud = cloud or Cloud(AZURE_STATE, AzuriteContainers())
        self._settings: Properties | None = None
        self._configuring = threading.Lock()

    def configure(self, settings: Properties) -> None:
        """Take a subscription and a default location; later ones must be the same, for requests don't tell which."""
        taken: Properties = {name: reveal(settings[name]) for name in _TARGETING if name in settings}
        with self._configuring:
            if self._settings not in (None, taken):
                message = f"the azure-native stand-in serves {self._settings} and can't serve {taken} in the same run"
                raise ProviderError(message)
            self._settings = taken

    def check(self, target: Target, olds: Properties, news: Properties, seed: bytes) -> Checked:
        """Complete the inputs, and tell what the type does not have and what Azure would not take."""
        kind = _served(target)
        found = problems(kind.module, kind.name, news)
        inputs = self._completed(kind, target, olds, news, seed)
        if kind.located and "location" not in inputs:
            hint = "Either set it explicitly or configure it with 'pulumi config set azure-native:location <value>'."
            found.append(("location", f"missing required property 'location'. {hint}"))
        return Checked(inputs, (*found, *name_problems(revealed(inputs))))

    def diff(self, old: Existing, news: Properties) -> Difference:
        """Compare inputs; with a name that is not random the old resource has to go first."""
        kind = _served(old.target)
        olds = dict(old.inputs)
        if normalized_location(olds.get("location")) == normalized_location(news.get("location")):
            olds["location"] = news.get("location")
        found = tuple(changes(olds, news))
        replacing = frozenset(change.name for change in found if change.path[0] in kind.replacing)
        return Difference(found, replacing, bool(replacing) and old.inputs.get(CREATE_BEFORE_DELETE) is not True)

    def create(self, creation: Creation) -> tuple[str, Properties]:
        """Make the resource."""
        kind, inputs = _served(creation.target), creation.inputs
        if creation.preview:
            return "", _previewed(kind, inputs)
        identity = kind.identity(inputs, self._subscription)
        return identity, _outputs(kind, identity, self._cloud.create(kind, identity, _body(kind, inputs)), inputs)

    def read(self, existing: Existing) -> Found | None:
        """Read the resource back; what has changed in Azure since the last time goes into the inputs."""
        kind, identity = _served(existing.target), existing.identity
        live = self._cloud.find(kind, identity)
        if live is None:
            return None
        outputs = _outputs(kind, identity, live, existing.inputs)
        if not existing.inputs:
            known = input_names(kind.module, kind.name)
            told = {name: value for name, value in live.items() if name in known}
            return Found(identity, outputs, {**kind.parsed(identity), **told, _API_VERSION: kind.api_version})
        return Found(identity, outputs, _drifted(kind, existing, outputs))

    def update(self, modification: Modification) -> Properties:
        """Change the resource in place."""
        old, inputs = modification.old, modification.inputs
        kind = _served(old.target)
        if modification.preview:
            stable: Properties = {name: old.outputs[name] for name in ("name", "location") if name in old.outputs}
            return {**_previewed(kind, inputs), **stable}
        live = self._cloud.change(kind, old.identity, _body(kind, inputs))
        return _outputs(kind, old.identity, live, inputs)

    def delete(self, existing: Existing) -> None:
        """Take the resource away with all that is in it."""
        self._cloud.delete(_served(existing.target), existing.identity)

    def invoke(self, token: str, arguments: Properties) -> Properties:
        """Give the account's keys."""
        if token != _LIST_KEYS:
            return super().invoke(token, arguments)
        identity = ACCOUNT.identity(arguments, self._subscription)
        found = self._cloud.find(ACCOUNT, identity)
        if found is None:
            name, group = (text(arguments.get(key)) for key in ("accountName", "resourceGroupName"))
            message = f"The Resource '{ACCOUNT.arm_type}/{name}' under resource group '{group}' was not found."
            raise AzureError(404, "ResourceNotFound", message)
        keys: list[Value] = [
            {"keyName": f"key{number}", "value": key, "permissions": "FULL", "creationTime": found.get("created")}
            for number, key in enumerate(azure_account.keys(), 1)
        ]
        return {"keys": keys}

    @property
    def _subscription(self) -> str:
        return text(mapping(self._settings).get("subscriptionId")) or _SUBSCRIPTION

    def _completed(self, kind: Kind, target: Target, olds: Properties, news: Properties, seed: bytes) -> Properties:
        inputs = {_API_VERSION: kind.api_version, **news}
        if kind.named_by not in news:
            inputs[kind.named_by] = olds.get(kind.named_by) or automatic_name(kind, target.name, seed)
            if olds.get(CREATE_BEFORE_DELETE) if kind.named_by in olds else kind.naming is not Naming.COPY:
                inputs[CREATE_BEFORE_DELETE] = True
        if kind.located and "location" not in news:
            location = olds.get("location") or mapping(self._settings).get("location") or self._group_location(news)
            if location:
                inputs["location"] = location
        return inputs

    def _group_location(self, news: Properties) -> Value:
        """A resource is where its group is, unless it says otherwise."""
        group = reveal(news.get("resourceGroupName"))
        if not isinstance(group, str):
            return group
        found = self._cloud.find(GROUP, GROUP.identity({"resourceGroupName": group}, self._subscription))
        return mapping(found).get("location")


def _served(target: Target) -> Kind:
    kind = KINDS.get(target.type)
    if kind is None:
        raise ProviderError(f"the sandbox's stand-in for azure-native does not serve {target.type}")
    return kind


def _body(kind: Kind, inputs: Properties) -> Properties:
    """What Azure is told of a resource beside its ID."""
    left_out = {*kind.parameters, _API_VERSION, CREATE_BEFORE_DELETE} - {"scope"}
    return {name: value for name, value in revealed(inputs).items() if name not in left_out}


def _previewed(kind: Kind, inputs: Properties) -> Properties:
    """Everything that the program did not say is known only after the update."""
    return {name: inputs.get(name, UNKNOWN) for name in output_names(kind.module, kind.name)}


def _outputs(kind: Kind, identity: str, live: Properties, inputs: Properties) -> Properties:
    defaults = service_defaults(kind, live)
    own: Properties = {
        "name": identity.rpartition("/")[2],
        "type": kind.arm_type,
        _API_VERSION: kind.api_version,
        "creationTime": live.get("created"),
    }
    merged = {**defaults, **live, **own}
    for name, default in defaults.items():
        if isinstance(default, dict):
            merged[name] = {**default, **mapping(merged[name])}
    known = output_names(kind.module, kind.name)
    return marked_like({name: value for name, value in merged.items() if name in known}, inputs)


def _drifted(kind: Kind, existing: Existing, outputs: Properties) -> Properties:
    """Only what differs from the last time: the rest are defaults of Azure's that the program never set."""
    inputs = dict(existing.inputs)
    for name in input_names(kind.module, kind.name) & output_names(kind.module, kind.name):
        before, now = reveal(existing.outputs.get(name)), reveal(outputs.get(name))
        if before != now and now is None:
            inputs.pop(name, None)
        elif before != now:
            inputs[name] = now
    return inputs
