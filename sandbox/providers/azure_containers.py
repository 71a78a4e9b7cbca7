"""The containers of the sandbox's storage account, over Azurite's data plane: no record of ours can differ from it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from sandbox import azure_account
from sandbox.layout import AZURE_ACCOUNT, AZURE_ADDRESS, AZURE_BLOB_SERVICE, CA
from sandbox.providers.boundary import Boundary
from sandbox.providers.protocol import ProviderError
from sandbox.providers.values import Properties, mapping, text

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

_PATIENCE_SECONDS = 10


class Containers(Protocol):
    """What the control plane needs of the data plane."""

    def find(self, name: str) -> Properties | None:
        """Give a container's properties, or None."""

    def create(self, name: str, properties: Properties) -> None:
        """Make a container."""

    def change(self, name: str, properties: Properties) -> None:
        """Set a container's public access and metadata."""

    def delete(self, name: str) -> None:
        """Delete a container with its blobs; one that is gone already is no error."""

    def names(self) -> list[str]:
        """Name all containers."""


class AzuriteContainers:
    """The real ones."""

    def __init__(self) -> None:
        self._boundary = Boundary.from_environment()

    def find(self, name: str) -> Properties | None:
        from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415

        with self._service() as service:
            try:
                found = service.get_container_client(name).get_container_properties()
            except ResourceNotFoundError:
                return None
        return {
            "publicAccess": (found.public_access or "none").capitalize(),
            "metadata": dict(found.metadata or {}),
            "etag": found.etag,
            "lastModifiedTime": found.last_modified.isoformat(),
            "leaseState": found.lease.state.capitalize(),
            "leaseStatus": found.lease.status.capitalize(),
        }

    def create(self, name: str, properties: Properties) -> None:
        with self._service() as service:
            service.create_container(name, metadata=_metadata(properties), public_access=_access(properties))

    def change(self, name: str, properties: Properties) -> None:
        with self._service() as service:
            container = service.get_container_client(name)
            container.set_container_access_policy({}, public_access=_access(properties))
            container.set_container_metadata(_metadata(properties))

    def delete(self, name: str) -> None:
        from azure.core.exceptions import ResourceNotFoundError  # noqa: PLC0415

        with self._service() as service, contextlib.suppress(ResourceNotFoundError):
            service.delete_container(name)

    def names(self) -> list[str]:
        with self._service() as service:
            return [container.name for container in service.list_containers()]

    @contextlib.contextmanager
    def _service(self) -> Iterator[BlobServiceClient]:
        """A client with the key of this moment, which may be renewed at any time; errors in a user's words."""
        # Loaded here, since it takes longer than everything else that `sandbox/pulumi` does before it starts pulumi.
        from azure.core.exceptions import AzureError  # noqa: PLC0415
        from azure.storage.blob import BlobServiceClient  # noqa: PLC0415

        self._boundary.admit(AZURE_ADDRESS)
        credential = {"account_name": AZURE_ACCOUNT, "account_key": azure_account.keys()[0]}
        client = BlobServiceClient(
            AZURE_BLOB_SERVICE,
            credential=credential,
            connection_verify=str(CA),
            retry_total=0,
            connection_timeout=_PATIENCE_SECONDS,
            read_timeout=_PATIENCE_SECONDS,
        )
        try:
            with client as service:
                yield service
        except AzureError as error:
            raise ProviderError(f"{AZURE_BLOB_SERVICE}: {error.message.splitlines()[0]}") from error


def _access(properties: Properties) -> str | None:
    access = text(properties.get("publicAccess")).lower()
    return None if access in {"", "none"} else access


def _metadata(properties: Properties) -> dict[str, str]:
    return {key: text(value) for key, value in mapping(properties.get("metadata")).items()}
