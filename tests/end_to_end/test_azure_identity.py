"""The cache on Azure without a key: Azurite checks the tokens of the sandbox's metadata service. The tests follow one deployment."""

import time
from collections.abc import Iterator

import pytest

from sandbox import azure_account
from sandbox.layout import AZURE_STATE
from tests.end_to_end.conftest import Sandbox
from tests.end_to_end.test_azure import DELETE_ALL, ask_store, azure_keys, blobs

CONTAINER = f"identity-{int(time.time())}"
MAKE = """
import json, sys
from azure.storage.blob import BlobServiceClient
url, account, key, container = json.load(sys.stdin)
BlobServiceClient(url, credential={"account_name": account, "account_key": key}).create_container(container)
"""
CLIENT_ID = "22222222-2222-2222-2222-222222222222"
PRINCIPAL_ID = "11111111-1111-1111-1111-111111111111"


@pytest.fixture(scope="module", name="azure")
def without_key(sandbox: Sandbox) -> Iterator[Sandbox]:
    keys = azure_keys() | {
        "docker_cache_azure_container_name": CONTAINER,
        "docker_cache_azure_account_key_path": "",
        "docker_cache_azure_auth": "managed_identity",
        "docker_cache_azure_identity_client_id": CLIENT_ID,
    }
    azure = sandbox.with_stack("dev-azure-identity-test", **keys)
    yield azure
    azure.destroy()
    ask_store("", DELETE_ALL)


def fails(azure: Sandbox, **changes: object) -> str:
    result = azure.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", **changes)
    assert result.returncode != 0
    return result.stdout + result.stderr


def test_a_missing_container_stops_the_update_before_there_is_a_registry(azure: Sandbox) -> None:
    text = fails(azure)
    assert (
        f"the container {CONTAINER} at https://10.30.0.3:10000/sandboxcache refuses: ContainerNotFound; make the"
        in text
    )
    there = azure.kubectl("get", "deployments", "-o", "name")
    assert "docker-cache-registry" not in there, "only the front, which waits for no registry, may be there"
    assert azure.mirrors("pai-worker1") == [], "a node was touched"


def test_once_the_container_is_there_the_next_update_proves_it_and_pulls_land_in_it(azure: Sandbox) -> None:
    ask_store(CONTAINER, MAKE)
    azure.up()
    azure.pull_anew("pai-worker1", "app:1")
    stored = blobs(CONTAINER)
    assert [name for name in stored if name.endswith("/library/app/_manifests/tags/1/current/link")], stored
    left = [name for name in stored if "docker-cache-proof" in name]
    assert len(left) == 1, "the proof's one blob, in a folder of its own"
    assert left[0].startswith(f"{CONTAINER}/docker-cache-proof/")
    assert azure.preview() == {}


def test_there_is_no_key_anywhere(azure: Sandbox) -> None:
    seen = azure.pulumi("stack", "export", "--show-secrets").stdout + azure.kubectl(
        "get", "secrets,pods,configmaps", "-o", "yaml"
    )
    first, second = azure_account.keys()
    assert first not in seen
    assert second not in seen
    assert "ACCOUNTKEY" not in seen


def test_a_new_pod_serves_what_is_stored_with_the_upstream_stopped(azure: Sandbox) -> None:
    azure.on("hub", "systemctl", "stop", "hub")
    try:
        azure.kubectl("delete", "pod", azure.pod())
        azure.kubectl("rollout", "status", "deployment/docker-cache-registry", "--timeout=300s")
        azure.forget_what_is_hot()
        azure.pull_anew("pai-worker2", "app:1")
    finally:
        azure.on("hub", "systemctl", "start", "hub")


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"docker_cache_azure_identity_client_id": "99999999-9999-9999-9999-999999999999"},
            "the node's virtual machine does not have this identity; assign it to every node",
        ),
        ({"docker_cache_azure_service_url": "https://10.30.0.3:10001/sandboxcache"}, "can't be reached: dial tcp"),
    ],
)
def test_a_store_that_the_identity_can_not_use_leaves_the_registry_as_it_is(
    azure: Sandbox, changes: dict[str, object], said: str
) -> None:
    pod = azure.pod()
    text = fails(azure, **changes)
    assert said in text
    assert azure.pod() == pod, "the registry was touched"
    azure.pull_anew("pai-worker1", "app:1")


@pytest.mark.long
def test_without_tokens_the_next_update_says_so_and_the_one_after_goes_on(azure: Sandbox) -> None:
    azure.on("azurite", "systemctl", "stop", "imds")
    try:
        text = fails(azure, docker_cache_remote_url="https://auth.docker.io")
    finally:
        azure.on("azurite", "systemctl", "start", "imds")
    assert "there is no token for the identity (" in text
    assert azure.up()
    assert azure.preview() == {}


def test_an_account_of_our_own_takes_no_keys_and_gives_the_identity_its_role(azure: Sandbox) -> None:
    azure.destroy()
    AZURE_STATE.unlink(missing_ok=True)
    created: dict[str, object] = {
        "docker_cache_azure_create_account": "true",
        "docker_cache_azure_location": "westeurope",
        "docker_cache_azure_identity_principal_id": PRINCIPAL_ID,
        "docker_cache_azure_container_name": f"{CONTAINER}-created",
    }
    azure.up(**created)
    azure.pull_anew("pai-worker2", "app:1")
    assert [name for name in blobs(f"{CONTAINER}-created") if "library/app" in name]
    assert azure.preview(**created) == {}
    azure.destroy()
    AZURE_STATE.unlink()
