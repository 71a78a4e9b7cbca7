"""Azure's control plane as far as the stand-in needs it: a file of resources, and the rules that Azure applies to them."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from sandbox.layout import AZURE_ACCOUNT
from sandbox.providers.azure_containers import Containers
from sandbox.providers.azure_kinds import ACCOUNT, CONTAINER, POLICY, ROLE, SERVICE_PROPERTIES, Kind
from sandbox.providers.protocol import ProviderError
from sandbox.providers.values import Properties, Value, at, mapping

_LAST_ACCESS = "daysAfterLastAccessTimeGreaterThan"
_CHILDREN = (CONTAINER, SERVICE_PROPERTIES, POLICY)

Resources: TypeAlias = dict[str, Properties]
"""What is there, by ID: what the program set, and `created`."""


class AzureError(ProviderError):
    """Azure said no."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f'Status={status} Code="{code}" Message="{message}"')


class Cloud:
    """All resources of the one subscription; they outlive the process, and several processes can use them at once."""

    def __init__(self, file: Path, containers: Containers) -> None:
        self._file = file
        self._containers = containers

    def find(self, kind: Kind, identity: str) -> Properties | None:
        """Give what the resource was last told, with what it has by itself; None if it is not there."""
        with self._resources() as resources:
            return self._find(resources, kind, identity)

    def create(self, kind: Kind, identity: str, properties: Properties) -> Properties:
        """Make a resource that must not be there yet."""
        with self._resources() as resources:
            if not kind.singleton and self._find(resources, kind, identity) is not None:
                raise ProviderError(f"cannot create already existing resource '{identity}'")
            _judge(resources, kind, identity, properties)
            if kind is CONTAINER:
                self._containers.create(_last(identity), properties)
            created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            resources[identity] = {**properties, "created": created}
            return mapping(self._find(resources, kind, identity))

    def change(self, kind: Kind, identity: str, properties: Properties) -> Properties:
        """Tell a resource what it is to be from now on; one that is gone is made, as Azure's PUT does."""
        with self._resources() as resources:
            _judge(resources, kind, identity, properties)
            before = self._find(resources, kind, identity)
            if kind is ROLE and before and before.get("roleDefinitionId") != properties.get("roleDefinitionId"):
                message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
                raise AzureError(400, "RoleAssignmentUpdateNotPermitted", message)
            if kind is CONTAINER:
                (self._containers.create if before is None else self._containers.change)(_last(identity), properties)
            resources[identity] = {**properties, "created": mapping(before).get("created")}
            return mapping(self._find(resources, kind, identity))

    def delete(self, kind: Kind, identity: str) -> None:
        """Take a resource away with all that is in it; one that is gone already is no error."""
        with self._resources() as resources:
            if kind is CONTAINER:
                self._containers.delete(_last(identity))
            for gone in [other for other in resources if other == identity or other.startswith(f"{identity}/")]:
                if ACCOUNT.parsed(gone):
                    for name in self._containers.names():
                        self._containers.delete(name)
                del resources[gone]

    def _find(self, resources: Resources, kind: Kind, identity: str) -> Properties | None:
        recorded = resources.get(identity)
        if kind is not CONTAINER:
            return recorded
        # A container can also be made and deleted without the control plane: Azurite knows.
        live = self._containers.find(_last(identity)) if _parent(kind, identity) in resources else None
        return None if live is None else {**(recorded or {}), **live}

    @contextlib.contextmanager
    def _resources(self) -> Iterator[Resources]:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._file.read_text() if self._file.is_file() else "{}"
            resources: Resources = json.loads(before)
            yield resources
            after = json.dumps(resources, indent=1)
            if after != before:
                self._write(after)

    def _write(self, content: str) -> None:
        partial = self._file.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(content)
        partial.replace(self._file)


def _judge(resources: Resources, kind: Kind, identity: str, properties: Properties) -> None:
    """Refuse what Azure refuses."""
    if kind is ACCOUNT:
        _judge_account(resources, identity)
    if kind in _CHILDREN:
        _require(resources, _parent(kind, identity))
    if kind in {SERVICE_PROPERTIES, POLICY} and _last(identity) != "default":
        message = f"Values for request parameters are invalid: {kind.named_by}."
        raise AzureError(400, "InvalidValuesForRequestParameters", message)
    if kind is CONTAINER and properties.get("publicAccess", "None") != "None":
        _require_public_access(resources[_parent(kind, identity)])
    if kind is POLICY and _mentions(properties, _LAST_ACCESS) and not _tracks_access(resources, identity):
        message = (
            "Last access time based tracking policy must be enabled before using its specific actions in object "
            "lifecycle management policy"
        )
        raise AzureError(400, "MissingLastAccessTimeBasedTrackingPolicy", message)


def _judge_account(resources: Resources, identity: str) -> None:
    name = _last(identity)
    others = [other for other in resources if other != identity and ACCOUNT.parsed(other)]
    if name != AZURE_ACCOUNT or others:
        message = (
            f"The storage account named {name} is already taken. (The sandbox's Azure has one account only: "
            f"{AZURE_ACCOUNT}, in one resource group.)"
        )
        raise AzureError(409, "StorageAccountAlreadyTaken", message)
    group, _, _ = identity.partition("/providers/")
    if group not in resources:
        message = f"Resource group '{_last(group)}' could not be found."
        raise AzureError(404, "ResourceGroupNotFound", message)


def _require(resources: Resources, account: str) -> None:
    if account not in resources:
        group = _last(account.partition("/providers/")[0])
        message = f"The Resource '{ACCOUNT.arm_type}/{_last(account)}' under resource group '{group}' was not found."
        raise AzureError(404, "ResourceNotFound", message)


def _require_public_access(account: Properties) -> None:
    if account.get("allowBlobPublicAccess") is not True:
        raise AzureError(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")


def _tracks_access(resources: Resources, identity: str) -> bool:
    service = f"{_parent(POLICY, identity)}/blobServices/default"
    return at(resources.get(service), "lastAccessTimeTrackingPolicy", "enable") is True


def _mentions(value: Value, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_mentions(item, key) for item in value.values())
    return isinstance(value, list) and any(_mentions(item, key) for item in value)


def _parent(kind: Kind, identity: str) -> str:
    """The account that a resource in it belongs to."""
    parts = kind.parsed(identity)
    subscription = identity.split("/")[2]
    return ACCOUNT.identity(parts, subscription)


def _last(identity: str) -> str:
    return identity.rpartition("/")[2]
