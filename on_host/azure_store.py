"""Prove that the cache can keep its data in a blob container, with the very credentials that the registry will have.

The registry itself would look ready for half a minute with a wrong key, and takes a missing container for a healthy one.
Run by Pulumi on the administrator's machine; account, key and container come as JSON by standard input.
"""

import json
import sys
import uuid

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ServiceRequestError
from azure.storage.blob import BlobServiceClient, ContainerClient, LinearRetry

RETRIES = 2
CONNECT_SECONDS = 10
REMEDIES = {
    "AuthenticationFailed": "the key is not one of this account's: set docker_cache_azure_account_key anew",
    "InvalidAuthenticationInfo": "the key is not one of this account's: set docker_cache_azure_account_key anew",
    "AuthorizationFailure": (
        "the key is not one of this account's, or the account's firewall keeps this machine out (then add its address there)"
    ),
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys: set docker_cache_azure_auth to managed_identity",
    "ContainerBeingDeleted": "the container was deleted a moment ago: wait a minute, then run it again",
    "AccountIsDisabled": "the account is disabled: look at it in Azure",
    "InsufficientAccountPermissions": "the key may not do that",
}


class StoreError(Exception):
    """Why the store can't be used, with the remedy."""


def prove(client: BlobServiceClient, container_name: str) -> str:
    """Make the container if it is missing; write, read and delete a blob. Raises StoreError."""
    where = f"the container {container_name} at {client.url.rstrip('/')}"
    try:
        made = make_container(client, container_name)
        write_read_delete(client.get_container_client(container_name))
    except ServiceRequestError as error:
        raise StoreError(
            f"{where} can't be reached: {str(error).splitlines()[0]}; check docker_cache_azure_account_name (an account that "
            "does not exist has no address) and this machine's way there"
        ) from error
    except HttpResponseError as error:
        code = code_of(error)
        raise StoreError(f"{where} refuses: {code}; {REMEDIES.get(code, 'look the code up in Azure')}") from error
    except AzureError as error:
        raise StoreError(f"{where} does not answer as a blob service: {type(error).__name__}") from error
    return f"ready: {where}{', which was made' if made else ''}; a blob was written, read and deleted"


def code_of(error: HttpResponseError) -> str:
    """Azure's own word for what is wrong, else the HTTP status."""
    word = getattr(error, "error_code", None)
    return str(getattr(word, "value", word) or error.status_code)


def make_container(client: BlobServiceClient, name: str) -> bool:
    """Whether it was missing. Asking first would need the right to read its properties, too."""
    try:
        client.create_container(name)
    except ResourceExistsError as error:
        if code_of(error) != "ContainerAlreadyExists":
            raise
        return False
    return True


def write_read_delete(container: ContainerClient) -> None:
    content = uuid.uuid4().bytes
    blob = container.get_blob_client(f"docker-cache-proof/{uuid.uuid4()}")
    blob.upload_blob(content)
    try:
        if blob.download_blob().readall() != content:
            raise StoreError(f"{blob.url} gave back something else than was written: is it a blob service?")
    finally:
        blob.delete_blob()


def main() -> int:
    given: dict[str, str] = json.load(sys.stdin)
    credential = {"account_name": given["account"], "account_key": given["key"]}
    client = BlobServiceClient(
        given["url"],
        credential=credential,
        retry_policy=LinearRetry(backoff=1, retry_total=RETRIES, random_jitter_range=0),
        connection_timeout=CONNECT_SECONDS,
    )
    try:
        print(prove(client, given["container"]))
    except StoreError as error:
        print(f"docker-cache: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
