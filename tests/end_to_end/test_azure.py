"""The cache on Azure Blob Storage, with Azurite in Azure's place. The tests of this file follow one deployment, in order."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from sandbox import azure_account
from sandbox.enter import in_network
from sandbox.layout import AZURE_ACCOUNT, AZURE_BLOB_SERVICE, AZURE_STATE, CA
from sandbox.lifecycle import azurite_answers, wait_for
from tests.end_to_end.conftest import ROOT, WORKERS, Sandbox, wait_until

BLOBS = """
import json, sys
from azure.storage.blob import BlobServiceClient
url, account, key, container = json.load(sys.stdin)
client = BlobServiceClient(url, credential={"account_name": account, "account_key": key})
for name in [container] if container else [found.name for found in client.list_containers()]:
    print("\\n".join(f"{name}/{blob.name}" for blob in client.get_container_client(name).list_blobs()))
"""
DELETE_ALL = """
import json, sys
from azure.storage.blob import BlobServiceClient
url, account, key, _ = json.load(sys.stdin)
client = BlobServiceClient(url, credential={"account_name": account, "account_key": key})
for container in client.list_containers():
    client.delete_container(container.name)
"""
DELETE_LAYERS = """
import json, sys
from azure.storage.blob import BlobServiceClient, BlobType
url, account, key, container = json.load(sys.stdin)
client = BlobServiceClient(url, credential={"account_name": account, "account_key": key}).get_container_client(container)
for blob in client.list_blobs():
    if blob.blob_type == BlobType.APPENDBLOB and "/blobs/sha256/" in blob.name:
        client.delete_blob(blob.name)
        print(f"{container}/{blob.name}")
"""
PULLER = f"azure-puller-{int(time.time())}"
"""The journal keeps what an earlier run's puller has said."""
PULL_FOR_EVER = (
    "while :; do docker image rm -f app:2; docker pull -q app:2 && echo PULLED || echo FAILED; sleep 0.5; done"
)


def azure_keys() -> dict[str, object]:
    document = yaml.safe_load((ROOT / "Pulumi.dev-azure.yaml").read_text())["config"]
    keys = {key.removeprefix("docker-cache:"): value for key, value in document.items()}
    return {key: value for key, value in keys.items() if "azure" in key or "backend" in key}


CONTAINER = f"pulls-{int(time.time())}"
"""Azurite keeps what earlier stacks have left."""


def blobs(container: str = CONTAINER) -> list[str]:
    """What lies in the store, through azure-storage-blob."""
    return ask_store(container, BLOBS)


def ask_store(container: str, script: str) -> list[str]:
    """In the sandbox's network, which the host is not in."""
    given = [AZURE_BLOB_SERVICE, AZURE_ACCOUNT, azure_account.keys()[0], container]
    command = in_network([sys.executable, "-c", script])
    result = subprocess.run(command, input=json.dumps(given), env=os.environ | {"REQUESTS_CA_BUNDLE": str(CA)}, capture_output=True, text=True, check=True)  # fmt: skip
    return result.stdout.split()


@pytest.fixture(scope="module", name="azure")
def deployed(sandbox: Sandbox) -> Iterator[Sandbox]:
    keys = {"docker_cache_azure_container_name": CONTAINER, "docker_cache_upstreams": ["quay.io"]}
    azure = sandbox.with_stack("dev-azure-test", **azure_keys() | keys)
    azure.up()
    yield azure
    azure.destroy()
    ask_store("", DELETE_ALL)


def test_pulls_land_as_blobs_in_the_container(azure: Sandbox) -> None:
    azure.reset_upstream()
    azure.pull_anew("pai-worker1", "app:1")
    assert azure.upstream()["manifest_gets"] == 1
    # The registry stores a layer after its client has had the last byte.
    manifest_configuration_and_layers = 4
    wait_until(
        lambda: len([name for name in blobs() if "/blobs/sha256/" in name]) >= manifest_configuration_and_layers,
        "manifest, configuration and layers are stored",
    )
    stored = blobs()
    assert [name for name in stored if name.endswith("/library/app/_manifests/tags/1/current/link")], stored
    assert not [name for name in stored if "docker-cache-proof" in name], "something of the proof stays"
    state = azure.pulumi("stack", "export").stdout
    key, other_key = azure_account.keys()
    assert key not in state, "the key stands in the state in plain text"
    assert other_key not in state
    assert azure.outputs()["storage"] == f"azure:sandboxcache/{CONTAINER}"


def test_another_upstreams_images_lie_below_its_name_in_the_same_container(azure: Sandbox) -> None:
    azure.reset_upstream("quay.io")
    url = "http://10.30.0.10:30500/v2/team/app/manifests/1?ns=quay.io"
    azure.on("pai-worker1", "curl", "-sf", "-o", "/dev/null", url)
    assert azure.upstream("quay.io")["manifest_gets"] == 1
    below = f"{CONTAINER}/quay.io/docker/registry/v2/repositories/"
    wait_until(lambda: any(name.startswith(f"{below}team/app/") for name in blobs()), "it is stored")
    assert not [name for name in blobs() if name.startswith(f"{CONTAINER}/docker/") and "team/app" in name]
    assert not [name for name in blobs() if name.startswith(below) and "library/app" in name]


def test_a_new_pod_with_an_empty_disk_serves_them_with_the_upstream_stopped(azure: Sandbox) -> None:
    azure.on("hub", "systemctl", "stop", "hub")
    try:
        azure.kubectl("delete", "pod", azure.pod())
        azure.kubectl("rollout", "status", "deployment/docker-cache-registry", "--timeout=300s")
        azure.forget_what_is_hot()
        azure.pull_anew("pai-worker2", "app:1")
    finally:
        azure.on("hub", "systemctl", "start", "hub")
    wait_until(lambda: "pulling through again" in azure.kubectl("logs", "deployment/docker-cache-registry", "--tail=300"), "it pulls through again")  # fmt: skip


def registry_is_healthy(azure: Sandbox) -> bool:
    """By its pod's address: the machine itself has no route to a Service's."""
    address = azure.kubectl("get", "pod", azure.pod(), "-o", "jsonpath={.status.podIP}")
    return azure.try_on("pai-master", "curl", "-sf", "-m", "5", f"http://{address}:5000/").returncode == 0


def test_without_azure_pulls_fall_back_and_all_comes_back_by_itself(azure: Sandbox) -> None:
    pod = azure.pod()
    azure.on("azurite", "systemctl", "stop", "azurite")
    try:
        azure.reset_upstream()
        azure.pull_anew("pai-worker1", "app:3")
        assert azure.upstream()["blob_gets"] > 0, "docker must have gone to the upstream itself"
    finally:
        azure.on("azurite", "systemctl", "start", "azurite")
        wait_for("Azurite", azurite_answers)
    wait_until(lambda: registry_is_healthy(azure), "the registry is healthy again")
    azure.forget_what_is_hot()
    azure.reset_upstream()
    azure.pull_anew("pai-worker2", "app:1")
    assert azure.upstream()["blob_gets"] == 0, "what was stored is served again"
    assert azure.pod() == pod, "nobody had to restart anything"


@contextmanager
def pulls_that_must_not_fail(azure: Sandbox, unit: str) -> Iterator[None]:
    """While the block runs, both workers pull again and again, and have no way round the cache: their limit is used up."""
    for worker in WORKERS:
        azure.pull_anew(worker, "app:2")
        azure.use_up_hub_limit(worker)
        azure.on(worker, "systemd-run", f"--unit={unit}", "sh", "-c", PULL_FOR_EVER)
    try:
        yield
        wait_until(
            lambda: "deletionTimestamp" not in azure.kubectl("get", "pods", "-o", "yaml"), "the old pod has ended"
        )
        time.sleep(3)
    finally:
        for worker in WORKERS:
            azure.on(worker, "systemctl", "stop", unit)
    for worker in WORKERS:
        log = azure.on(worker, "journalctl", f"--unit={unit}", "--output=cat", "--no-pager").splitlines()
        assert log.count("PULLED") > 3, "the test has seen too little"
        assert log.count("FAILED") == 0, "\n".join(log[-40:])


def renew_a_key_that_is_not_in_use(azure: Sandbox, number: int) -> None:
    """In Azure it changes while the service runs; Azurite has to be started anew for it."""
    azure_account.renew(number)
    wait_for("Azurite", azurite_answers)
    wait_until(lambda: registry_is_healthy(azure), "the registry is healthy")
    azure.forget_what_is_hot()
    azure.reset_upstream()
    azure.pull_anew("pai-worker2", "app:2")
    assert azure.upstream()["blob_gets"] == 0, "the renewed key was not the one in use"


def test_a_rotated_key_rolls_the_pod_and_no_pull_fails(azure: Sandbox) -> None:
    pod = azure.pod()
    with pulls_that_must_not_fail(azure, PULLER):
        azure.up(docker_cache_azure_account_key_path=".sandbox/keys/azure/account_key2")
        assert azure.pod() != pod, "the pod still has the old key"
    renew_a_key_that_is_not_in_use(azure, 1)
    azure.up()


@pytest.mark.long
def test_what_a_lifecycle_has_deleted_is_fetched_and_stored_anew(azure: Sandbox) -> None:
    """Azure's rule for layers goes by age, and so by their type; their links and manifests may be younger."""
    azure.pull_anew("pai-worker1", "app:1")
    layers = ask_store(CONTAINER, DELETE_LAYERS)
    assert layers
    assert not set(layers) & set(blobs())
    azure.forget_what_is_hot()
    for worker in WORKERS:
        azure.pull_anew(worker, "app:1")
    wait_until(
        lambda: any("/blobs/sha256/" in name and name in blobs() for name in layers), "the layer is stored again"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"docker_cache_azure_account_key_path": "", "docker_cache_azure_account_key": "d3Jvbmcta2V5"}, "refuses: "),
        pytest.param(
            {"docker_cache_azure_service_url": "http://10.30.0.99:10000/sandboxcache"},
            "can't be reached: ",
            marks=pytest.mark.long,
        ),
        pytest.param({"docker_cache_azure_account_name": "another"}, "refuses: ", marks=pytest.mark.long),
    ],
)
def test_a_store_that_can_not_be_used_stops_the_update_before_the_registry(
    azure: Sandbox, changes: dict[str, object], said: str
) -> None:
    pod = azure.pod()
    result = azure.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", **changes)
    text = result.stdout + result.stderr
    assert result.returncode != 0
    assert said in text
    assert f"the container {CONTAINER} at " in text
    assert "d3Jvbmcta2V5" not in text
    assert azure.pod() == pod, "the registry was touched"
    azure.pull_anew("pai-worker1", "app:1")


@pytest.mark.long
def test_a_missing_container_is_made(azure: Sandbox) -> None:
    azure.up(docker_cache_azure_container_name=f"{CONTAINER}-b")
    try:
        azure.forget_what_is_hot()
        azure.pull_anew("pai-worker1", "app:4")
        wait_until(lambda: any("library/app" in name for name in blobs(f"{CONTAINER}-b")), "it is stored there")
    finally:
        azure.up()


@pytest.mark.long
def test_switching_the_backend_is_one_up_that_says_where_the_data_stays(azure: Sandbox) -> None:
    before = azure.on("pai-worker1", "stat", "--format", "%Y %Z %i", "/etc/docker/daemon.json")
    there = blobs()
    output = azure.up(docker_cache_storage_backend="filesystem")
    assert f"the cached blobs stay in container {CONTAINER} of account sandboxcache" in output
    azure.forget_what_is_hot()
    azure.pull_anew("pai-worker1", "app:1")
    assert azure.on("pai-master", "find", "/var/lib/registry/docker", "-path", "*library/app*", "-name", "link")
    assert blobs() == there
    output = azure.up()
    assert "released: /var/lib/registry stays with what is in it" in output
    azure.forget_what_is_hot()
    azure.reset_upstream()
    azure.pull_anew("pai-worker2", "app:1")
    assert azure.upstream()["blob_gets"] == 0, "what was kept on Azure is served again"
    assert azure.on("pai-worker1", "stat", "--format", "%Y %Z %i", "/etc/docker/daemon.json") == before, (
        "a node was touched"
    )
    azure.empty_store()


CREATED: dict[str, object] = {
    "docker_cache_azure_account_key_path": "",
    "docker_cache_azure_create_account": "true",
    "docker_cache_azure_location": "westeurope",
    "docker_cache_azure_container_name": f"{CONTAINER}-created",
    "docker_cache_azure_delete_unread_after_days": "90",
}


@pytest.mark.long
def test_renewing_a_key_of_an_account_of_our_own_loses_no_pull(azure: Sandbox) -> None:
    azure.destroy()
    AZURE_STATE.unlink(missing_ok=True)
    created = CREATED | {"docker_cache_azure_container_name": f"{CONTAINER}-renewed"}
    azure.up(**created)
    pod = azure.pod()
    with pulls_that_must_not_fail(azure, f"{PULLER}-created"):
        azure.up(docker_cache_azure_account_key_name="key2", **created)
        assert azure.pod() != pod, "the pod still has the first key"
    renew_a_key_that_is_not_in_use(azure, 1)
    assert azure.preview(docker_cache_azure_account_key_name="key2", **created) == {}, "the renewed key is not in use"


@pytest.mark.long
def test_an_account_of_our_own_is_kept_unless_asked_otherwise(azure: Sandbox) -> None:
    azure.destroy()
    AZURE_STATE.unlink(missing_ok=True)
    azure.up(**CREATED)
    azure.pull_anew("pai-worker1", "app:1")
    assert [name for name in blobs(f"{CONTAINER}-created") if "library/app" in name]
    assert azure.preview(**CREATED) == {}
    state = azure.pulumi("stack", "export").stdout
    assert azure_account.keys()[0] not in state
    assert azure.preview(enable_docker_cache="false")["docker-cache-store-account"], "it would go from the stack"
    azure.destroy()
    assert [name for name in blobs(f"{CONTAINER}-created") if "library/app" in name], (
        "the data went, and nobody asked for that"
    )
    # What was kept is used again, as an account that exists.
    azure.up(docker_cache_azure_container_name=f"{CONTAINER}-created")
    azure.reset_upstream()
    azure.pull_anew("pai-worker2", "app:1")
    assert azure.upstream()["blob_gets"] == 0
    azure.destroy()
    AZURE_STATE.unlink()
