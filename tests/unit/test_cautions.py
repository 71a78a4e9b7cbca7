"""What is said of configurations that work and will disappoint."""

import base64
import json
from pathlib import Path

import pytest

from settings.access import resolve
from settings.azure import read_account_key
from settings.cautions import cautions
from settings.cluster import Answer
from settings.loading import load
from settings.model import Settings
from settings.stack import Stack, plain_keys, read_stack
from tests.unit.stacks import BCRYPT, HTPASSWD, configuration, htpasswd, node

AZURE = {"docker_cache_storage_backend": "azure", "docker_cache_azure_account_name": "account"}


def said(*plain: str, **keys: str) -> list[str]:
    settings = load(configuration(None, **keys).get)
    assert isinstance(settings, Settings)
    return cautions(settings, plain, read_account_key(settings, Path(), []), resolve(settings, Path(), {}, []))


def test_an_ordinary_stack_is_warned_of_nothing() -> None:
    assert said() == []


def test_docker_nodes_with_an_htpasswd_cache_are_warned_of() -> None:
    (line,) = said(docker_cache_htpasswd=HTPASSWD, docker_cache_entry="https://cache.example")
    assert "docker sends a mirror no credentials of its own" in line


def test_entries_that_the_registry_ignores_are_named() -> None:
    mixed = htpasswd(f"alice:{BCRYPT}", "bob:{SHA}hash-of-bob")
    line = said(docker_cache_htpasswd=mixed, docker_cache_entry="https://cache.example")[0]
    assert line.startswith("docker_cache_htpasswd has entries that are not bcrypt, and the registry ignores them: bob;")
    assert "hash-of-bob" not in line


def test_an_account_key_of_unusual_length_is_named_without_its_value() -> None:
    short = base64.b64encode(b"a" * 32).decode()
    (line,) = said(docker_cache_azure_account_key=short, **AZURE)
    assert line.startswith("docker_cache_azure_account_key has 32 bytes, where Azure's keys have 64")
    assert short not in line
    assert said(docker_cache_azure_account_key=base64.b64encode(b"a" * 64).decode(), **AZURE) == []


@pytest.mark.parametrize(("length", "warned"), [(63, True), (64, False)])
def test_an_account_key_of_unusual_length_in_a_file_is_named_by_its_place(
    tmp_path: Path, length: int, warned: bool
) -> None:
    file = tmp_path / "key"
    file.write_text(base64.b64encode(b"a" * length).decode())
    given = configuration(docker_cache_azure_account_key_path=str(file), **AZURE)
    stack = read_stack(given.get, tmp_path, {}, ask=lambda *_: Answer())
    assert isinstance(stack, Stack)
    place = f'the key in docker_cache_azure_account_key_path ("{file}") has 63 bytes'
    assert [line.startswith(place) for line in stack.cautions] == [True] * warned
    assert file.read_text() not in str(stack.cautions)


def test_upstream_credentials_make_private_images_everybodys() -> None:
    (line,) = said(docker_cache_remote_username="robot", docker_cache_remote_password="p")
    assert "private ones too" in line
    assert "robot" not in line


@pytest.mark.parametrize(("image", "warned"), [("registry", True), ("r.example:5000/registry:latest", True), ("r.example:5000/registry", True), ("registry:3.1.2", False), ("registry@sha256:" + "0" * 64, False)])  # fmt: skip
def test_an_image_whose_tag_moves_is_named(image: str, warned: bool) -> None:
    assert any(image in line for line in said(docker_cache_image=image)) == warned


@pytest.mark.parametrize(("entry", "warned"), [("http://8.8.8.8:30500", True), ("http://10.0.0.1:30500", False), ("https://8.8.8.8", False), ("http://cache.internal:30500", False)])  # fmt: skip
def test_plain_http_beyond_the_clusters_network_is_named(entry: str, warned: bool) -> None:
    assert bool(said(docker_cache_entry=entry)) == warned


def test_an_upstream_in_the_clear_is_named() -> None:
    (line,) = said(docker_cache_remote_url="http://9.9.9.9")
    assert line.startswith("docker_cache_remote_url is http://9.9.9.9: over plain http, images can be changed")


def test_trusting_blindly_is_named_with_the_nodes() -> None:
    nodes: list[dict[str, object]] = [
        {"name": f"n{n}", "host": f"10.0.0.{n}", "kube_master": n == 1} for n in range(1, 8)
    ]
    (line,) = said(docker_cache_nodes=json.dumps(nodes), docker_cache_ssh_trust_any_host_key="true")
    assert "n1, n2, n3, n4, n5 and 2 more" in line
    (line,) = said(docker_cache_entry="https://e", docker_cache_entry_insecure="true")
    assert line.startswith("docker_cache_entry_insecure is on")


def test_a_restart_that_is_allowed_is_announced() -> None:
    (line,) = said(docker_cache_allow_restart="true")
    assert line.startswith("docker_cache_allow_restart is on: where containerd has no config_path yet")
    assert said(docker_cache_allow_restart="true", docker_cache_engines='["docker"]') == []


def test_keys_of_the_cache_beside_a_custom_registry_are_named() -> None:
    (line,) = said(docker_cache_custom_registry="10.0.0.9:5000", docker_cache_fs_claim="kept")
    assert line.endswith("no cache is installed, and docker_cache_fs_claim count for nothing")
    (line,) = said(docker_cache_custom_registry="10.0.0.9:5000", docker_cache_allowed_cidrs='["10.0.0.0/8"]')
    assert line.endswith("no cache is installed, and docker_cache_allowed_cidrs count for nothing")
    (line,) = said(docker_cache_custom_registry="10.0.0.9:5000", docker_cache_ttl="30d", docker_cache_fs_max_size="1Ti")
    assert line.endswith("no cache is installed, and docker_cache_ttl, docker_cache_fs_max_size count for nothing")


def test_a_secret_without_encryption_in_the_stacks_file_is_named() -> None:
    given = {"docker-cache:docker_cache_ssh_password": "p", "docker-cache:docker_cache_ssh_port": "22", "docker-cache:docker_cache_remote_password": "p", "docker-cache:docker_cache_kubeconfig": "~/.kube/config"}  # fmt: skip
    environment = {
        "PULUMI_CONFIG": json.dumps(given),
        "PULUMI_CONFIG_SECRET_KEYS": json.dumps(["docker-cache:docker_cache_remote_password"]),
    }
    (line,) = said(*plain_keys(environment))
    assert line.startswith("docker_cache_ssh_password stands in the stack's file without encryption")
    assert said("docker_cache_htpasswd_over_plain_http", "docker_cache_ssh_private_key_path") == []


def test_secrets_under_other_names_and_of_nodes_are_named_too() -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True, password="p")]
    first, second = said("docker_azure_account_key", "docker_cache_nodes", docker_cache_nodes=json.dumps(nodes))
    assert first.startswith("docker_azure_account_key stands in the stack's file without encryption")
    assert second.startswith("docker_cache_nodes has secrets without encryption, of m1")


def test_what_stays_on_a_forgotten_node_is_said() -> None:
    (line,) = said(docker_cache_forget_nodes='["w1"]')
    assert line.startswith(
        "docker_cache_forget_nodes has w1: nothing connects there, and what docker-cache did there stays"
    )


def test_upstreams_are_warned_of_as_docker_hub_is() -> None:
    listed = [
        {"host": "ghcr.io", "username": "robot", "password": "p"},
        {"host": "plain.example", "url": "http://9.9.9.9"},
    ]
    shared, clear, plain = said("docker_cache_upstreams", docker_cache_upstreams=json.dumps(listed))
    assert shared.startswith("docker_cache_upstreams[ghcr.io].username is set: every image that this user may pull")
    assert clear.startswith("docker_cache_upstreams[plain.example].url is http://9.9.9.9: over plain http")
    assert plain.startswith(
        "docker_cache_upstreams has secrets without encryption, of ghcr.io: `pulumi config set --secret"
    )
    (unused,) = said(docker_cache_custom_registry="10.0.0.9:5000", docker_cache_upstreams='["ghcr.io"]')
    assert unused.endswith("no cache is installed, and docker_cache_upstreams count for nothing")


def test_allowed_networks_are_held_against_what_the_cache_will_see() -> None:
    assert said(docker_cache_allowed_cidrs='["10.0.0.0/24"]') == []
    (line,) = said(docker_cache_allowed_cidrs='["10.0.0.1/32", "fd00::/8"]')
    assert line.startswith(
        "docker_cache_allowed_cidrs has no network with the host of w1: unless they pull from other addr"
    )
    (line,) = said(docker_cache_allowed_cidrs='["10.0.0.0/24"]', docker_cache_entry="https://cache.example")
    assert line.startswith(
        "docker_cache_allowed_cidrs is set, and the entry is https://cache.example: the cache then answers"
    )
