"""What `pulumi preview` says: for each kind of change exactly the resources that it concerns, in lines that can be read."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import Sandbox, dev_nodes

MASTER, WORKER1, WORKER2 = "pai-master@10.30.0.10:22", "pai-worker1@10.30.0.11:22", "pai-worker2@10.30.0.12:22"
NODES = (MASTER, WORKER1, WORKER2, "pai-worker3@10.30.0.13:22")
EVERY_NODE = {node: ["update"] for node in NODES}
FOLDER = "cache-folder-10.30.0.10:/var/lib/registry"
AZURE = {
    "docker_cache_storage_backend": "azure",
    "docker_cache_azure_account_name": "account",
    "docker_cache_azure_account_key": "QUJDRA==",
}


@pytest.fixture(scope="module", autouse=True)
def _deployed(sandbox: Sandbox) -> Iterator[None]:
    sandbox.up()
    yield
    sandbox.destroy()


def test_nothing_changed_is_nothing_to_do(sandbox: Sandbox) -> None:
    assert sandbox.preview() == {}


def test_another_entry_updates_every_node_and_nothing_else(sandbox: Sandbox) -> None:
    assert sandbox.preview(docker_cache_entry="http://10.30.0.10:30501") == EVERY_NODE


@pytest.mark.long
def test_a_change_of_the_entry_is_one_short_line_a_node(sandbox: Sandbox) -> None:
    result = sandbox.pulumi("preview", "--diff", docker_cache_entry="http://10.30.0.10:30501")
    lines = [line.strip() for line in result.stdout.splitlines()]
    changes = [line for line in lines if line.startswith("~ create") and "=>" in line]
    assert len(changes) == len(NODES), result.stdout
    for line in changes:
        assert "mirror http://10.30.0.10:30500" in line
        assert "mirror http://10.30.0.10:30501" in line
    assert max(len(line) for line in lines) < 300, "a line that nobody reads"
    assert len(lines) < 70, "a page of script"


def test_a_node_that_joins_is_created_and_no_other_is_touched(sandbox: Sandbox) -> None:
    host_key = dev_nodes()[0]["host_key_path"]
    joined = {"name": "pai-worker4", "host": "10.30.0.14", "host_key_path": host_key}
    assert sandbox.preview(docker_cache_nodes=[*dev_nodes(), joined]) == {"pai-worker4@10.30.0.14:22": ["create"]}


def test_a_node_that_leaves_is_deleted_and_no_other_is_touched(sandbox: Sandbox) -> None:
    assert sandbox.preview(docker_cache_nodes=dev_nodes("pai-master", "pai-worker1", "pai-worker3")) == {
        WORKER2: ["delete"]
    }


@pytest.mark.long
def test_a_change_of_one_nodes_access_updates_that_node_alone(sandbox: Sandbox) -> None:
    nodes = dev_nodes()
    nodes[1] |= {"private_key_path": ".sandbox/keys/ssh/id_ed25519", "password": "x"}
    assert sandbox.preview(docker_cache_nodes=nodes) == {WORKER1: ["update"]}


def test_another_upstream_replaces_the_configuration_and_rolls_the_pod(sandbox: Sandbox) -> None:
    steps = sandbox.preview(docker_cache_remote_url="https://mirror.example")
    assert set(steps) == {"docker-cache"}, "the ConfigMap and the Deployment have that name"
    assert sorted(steps["docker-cache"]) == ["replace", "update"]


def test_another_backend_moves_the_store_and_touches_no_node(sandbox: Sandbox) -> None:
    steps = sandbox.preview(**AZURE)
    assert steps.pop("docker-cache-environment") == ["create"], "the account key's Secret"
    assert steps.pop("docker-cache-store-proof") == ["create"]
    assert steps.pop(FOLDER) == ["delete"]
    assert sorted(steps.pop("docker-cache")) == ["replace", "update"]
    assert steps.pop("docker-cache-keeper") == ["delete", "delete"], (
        "the keeper's files and its Service: it keeps files alone"
    )
    assert steps.pop("docker-cache-front") == ["update"], "it tells no keeper any more what is asked for"
    assert steps == {}


def test_another_port_makes_a_service_before_the_old_one_goes(sandbox: Sandbox) -> None:
    assert sandbox.preview(docker_cache_node_port="30777") == {
        "docker-cache-30777": ["create"],
        **EVERY_NODE,
        "docker-cache-30500": ["delete"],
    }


def test_disabling_deletes_everything_and_creates_nothing(sandbox: Sandbox) -> None:
    steps = sandbox.preview(enable_docker_cache="false", docker_cache_remote_url="wrong, and ignored")
    assert {operation for operations in steps.values() for operation in operations} == {"delete"}
    assert {*NODES, FOLDER, "docker-cache-30500", "docker-cache"} <= set(steps)


@pytest.mark.long
def test_a_custom_registry_in_the_caches_place_keeps_the_nodes_commands(sandbox: Sandbox) -> None:
    steps = sandbox.preview(docker_cache_custom_registry="10.30.0.2:5000")
    assert [steps.pop(node) for node in NODES] == [["update"]] * len(NODES)
    assert {operation for operations in steps.values() for operation in operations} == {"delete"}


@pytest.mark.long
def test_what_will_disappoint_is_said_in_the_preview(sandbox: Sandbox) -> None:
    result = sandbox.pulumi(
        "preview", docker_cache_image="registry", docker_cache_remote_username="u", docker_cache_remote_password="p"
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "warning: docker_cache_image is registry, which is another image whenever its tag moves" in result.stdout
    assert "private ones too" in result.stdout
    assert "docker_cache_remote_password stands in the stack's file without encryption" in result.stdout
