"""From the stack's configuration to how each node is reached: bastions, host keys, passphrases."""

import json
from pathlib import Path

import asyncssh
import pytest

from settings import private_keys
from settings.access import Access, Hop, resolve
from settings.cautions import cautions
from settings.host_keys import preferred_key
from settings.loading import SettingsError, load
from settings.model import Settings
from settings.stack import read_stack
from tests.unit.messages import remember
from tests.unit.stacks import HOST_KEY, PRIVATE_KEY, configuration, node

BASTION = {"host": "203.0.113.7", "host_key": HOST_KEY}
KEYS = {kind: asyncssh.generate_private_key(kind) for kind in ("ecdsa-sha2-nistp256", "ssh-rsa", "ssh-ed25519")}
LINES = {kind: " ".join(key.export_public_key().decode().split()[:2]) for kind, key in KEYS.items()}
MASTER = node("m1", "10.0.0.1", kube_master=True)


def checked(nodes: list[dict[str, object]], **keys: str) -> Settings:
    settings = load(configuration(nodes, **keys).get)
    assert isinstance(settings, Settings)
    return settings


def found(nodes: list[dict[str, object]], base: Path = Path(), /, **keys: str) -> tuple[list[Access], list[str]]:
    wrong: list[str] = []
    accesses = resolve(checked(nodes, **keys), base, {}, wrong)
    remember(wrong)
    return list(accesses), wrong


def problems(nodes: list[dict[str, object]], **keys: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(configuration(nodes, **keys).get)
    return caught.value.problems


def test_every_node_goes_through_the_stacks_bastion_unless_it_says_otherwise() -> None:
    own = {"host": "gate", "port": 2222, "user": "jump", "password": "p", "host_key": HOST_KEY}
    nodes = [MASTER, node("w1", "10.0.0.2", bastion=own), node("w2", "10.0.0.3", direct=True)]
    (m1, w1, w2), wrong = found(nodes, docker_cache_ssh_bastion=json.dumps(BASTION), docker_cache_ssh_user="admin")
    assert wrong == []
    assert m1.bastion == Hop(
        place="docker_cache_ssh_bastion",
        host="203.0.113.7",
        port=22,
        user="admin",
        host_key=HOST_KEY,
        private_key=PRIVATE_KEY + "\n",
    )
    assert w1.bastion == Hop(
        place="docker_cache_nodes[w1].bastion", host="gate", port=2222, user="jump", host_key=HOST_KEY, password="p"
    )
    assert w2.bastion is None


def test_a_bastions_port_is_its_own() -> None:
    (m1,), _ = found([MASTER], docker_cache_ssh_port="2200", docker_cache_ssh_bastion=json.dumps(BASTION))
    assert (m1.port, m1.bastion and m1.bastion.port) == (2200, 22)


def test_a_bastion_is_no_part_of_a_nodes_identity() -> None:
    (direct,), _ = found([MASTER])
    (behind,), _ = found([MASTER], docker_cache_ssh_bastion=json.dumps(BASTION))
    assert direct.identity == behind.identity


def test_what_is_wrong_with_a_bastion_is_named_by_its_key() -> None:
    assert problems([MASTER], docker_cache_ssh_bastion=json.dumps({"host": "a b", "port": 0, "hots": 1})) == [
        'docker_cache_ssh_bastion.host is "a b": use an IPv4 address or a host name',
        'docker_cache_ssh_bastion.port is "0": use a port from 1 to 65535',
        "docker_cache_ssh_bastion.hots is not a key that is known here: see docs/configuration.md",
    ]
    assert problems([node("m1", "10.0.0.1", kube_master=True, bastion={"user": "u"})]) == [
        "docker_cache_nodes[m1].bastion.host is missing: a bastion needs it, see docs/configuration.md"
    ]
    (message,) = problems([node("m1", "10.0.0.1", kube_master=True, bastion="u:pass@gate")])
    assert message == 'docker_cache_nodes[m1].bastion is "…@gate": write a map with host, see docs/configuration.md'
    assert problems([MASTER], docker_cache_ssh_bastion="gate") == [
        "docker_cache_ssh_bastion is not a map: see docs/configuration.md for its form"
    ]
    assert problems([node("m1", "10.0.0.1", kube_master=True, bastion=BASTION, direct=True)]) == [
        "docker_cache_nodes[m1] has a bastion and direct: true: keep one of the two"
    ]


def test_a_bastions_host_key_is_needed_too() -> None:
    bastion = {"host": "gate", "port": 2222, "user": "jump"}
    nodes: list[dict[str, object]] = [{"name": "m1", "host": "10.0.0.1", "kube_master": True}]
    _, (of_bastion, of_node) = found(nodes, docker_cache_ssh_bastion=json.dumps(bastion))
    assert of_bastion.startswith(
        "docker_cache_ssh_bastion.host_key is missing: set it to what `ssh-keyscan -p 2222 gate` shows"
    )
    assert of_node.startswith(
        "docker_cache_nodes[m1].host_key is missing: set it to what `ssh -p 2222 jump@gate ssh-keyscan -p 22 10.0.0.1` shows"
    ), "ssh-keyscan knows no bastion"


def test_whoever_is_trusted_blindly_is_named_bastions_too() -> None:
    nodes: list[dict[str, object]] = [MASTER, {"name": "w1", "host": "10.0.0.2"}]
    trusting = {
        "docker_cache_ssh_bastion": json.dumps({"host": "gate"}),
        "docker_cache_ssh_trust_any_host_key": "true",
    }
    accesses, wrong = found(nodes, **trusting)
    assert wrong == []
    (line,) = cautions(checked(nodes, **trusting), [], None, accesses)
    assert "at the addresses of docker_cache_ssh_bastion, w1; give them a host_key" in line


def test_secrets_of_a_bastion_without_encryption_are_named() -> None:
    nodes = [MASTER, node("w1", "10.0.0.2", bastion={**BASTION, "password": "p"})]
    bastion = {**BASTION, "private_key_passphrase": "p"}
    settings = checked(nodes, docker_cache_ssh_bastion=json.dumps(bastion))
    of_nodes, of_bastion = cautions(settings, ["docker_cache_nodes", "docker_cache_ssh_bastion"], None)
    assert of_nodes.startswith("docker_cache_nodes has secrets without encryption, of w1")
    assert of_bastion.startswith("docker_cache_ssh_bastion has secrets without encryption")
    plain = checked([MASTER], docker_cache_ssh_bastion=json.dumps(BASTION))
    assert cautions(plain, ["docker_cache_nodes", "docker_cache_ssh_bastion"], None) == []


def test_no_secret_of_a_machine_is_in_a_representation_or_a_message() -> None:
    bastion = {**BASTION, "password": "hunter2", "private_key_passphrase": "hunter2", "port": "x"}
    (message,) = problems([MASTER], docker_cache_ssh_bastion=json.dumps(bastion))
    assert "hunter2" not in message
    assert "hunter2" not in repr(found([MASTER], docker_cache_ssh_bastion=json.dumps({**bastion, "port": 22})))


@pytest.mark.parametrize(
    ("kinds", "taken"),
    [
        (["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"], "ecdsa-sha2-nistp256"),
        (["ssh-ed25519", "ssh-rsa"], "ssh-rsa"),
        (["ssh-ed25519"], "ssh-ed25519"),
    ],
)
def test_of_several_host_keys_the_one_that_pulumi_command_asks_for_first_is_taken(kinds: list[str], taken: str) -> None:
    scanned = "".join(f"# 10.0.0.1:22 SSH-2.0-OpenSSH\n10.0.0.1 {LINES[kind]}\n" for kind in kinds)
    assert preferred_key(scanned) == LINES[taken]


@pytest.fixture(name="known_hosts")
def file_of_known_hosts(tmp_path: Path) -> Path:
    """Lines as OpenSSH writes them: hashed (`ssh-keygen -H` of 10.0.0.2), with a port, revoked, of an authority."""
    hashed = "|1|LIorq2cgESgngCa2pdlqE87OvRI=|jX8OsYH2rdObXBO4F0et1o5lU+U="
    file = tmp_path / "known_hosts"
    file.write_text(
        f"10.0.0.1,m1 {LINES['ssh-ed25519']}\n"
        f"10.0.0.1 {LINES['ecdsa-sha2-nistp256']}\n"
        f"{hashed} {LINES['ssh-rsa']}\n"
        f"[10.0.0.3]:2222 {LINES['ssh-ed25519']}\n"
        f"10.0.0.4 {LINES['ssh-ed25519']}\n"
        f"@revoked 10.0.0.4 {LINES['ssh-ed25519']}\n"
        f"@cert-authority 10.0.0.5 {LINES['ssh-rsa']}\n"
    )
    return file


def test_a_host_key_is_taken_from_the_file_of_known_hosts(known_hosts: Path) -> None:
    nodes: list[dict[str, object]] = [
        {"name": "m1", "host": "10.0.0.1", "kube_master": True},
        {"name": "w2", "host": "10.0.0.2"},
        {"name": "w3", "host": "10.0.0.3", "port": 2222},
        node("w4", "10.0.0.4"),
    ]
    accesses, wrong = found(nodes, known_hosts.parent, docker_cache_ssh_known_hosts_path="known_hosts")
    assert wrong == []
    assert [item.host_key for item in accesses] == [
        LINES["ecdsa-sha2-nistp256"],
        LINES["ssh-rsa"],
        LINES["ssh-ed25519"],
        HOST_KEY,
    ]


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("10.0.0.4", "the key is revoked"),
        ("10.0.0.5", "an authority is no host's key"),
        ("10.0.0.9", "it is not there"),
    ],
)
def test_what_the_file_does_not_have_is_missing(known_hosts: Path, host: str, reason: str) -> None:
    nodes: list[dict[str, object]] = [{"name": "m1", "host": host, "kube_master": True}]
    _, wrong = found(nodes, docker_cache_ssh_known_hosts_path=str(known_hosts))
    assert [line.partition(":")[0] for line in wrong] == ["docker_cache_nodes[m1].host_key is missing"], reason


def test_a_wrong_file_of_known_hosts_is_named(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("nonsense\n")
    assert found([MASTER], docker_cache_ssh_known_hosts_path=str(file))[1] == [
        f'docker_cache_ssh_known_hosts_path is "{file}": it is no file of known hosts; give one as ssh writes it'
    ]
    (message,) = found([MASTER], docker_cache_ssh_known_hosts_path=str(tmp_path / "absent"))[1]
    assert message.endswith("the file can't be read: No such file or directory")


def test_a_passphrase_opens_the_key_and_is_kept_only_where_the_key_needs_it() -> None:
    locked = KEYS["ssh-ed25519"].export_private_key(passphrase="open").decode()
    nodes = [MASTER, node("w1", "10.0.0.2", private_key=locked, private_key_passphrase="open")]
    (m1, w1), wrong = found(nodes, docker_cache_ssh_private_key_passphrase="of another key")
    assert wrong == []
    assert (m1.passphrase, w1.passphrase) == (None, "open"), "pulumi-command refuses a passphrase for a key without one"


def test_a_locked_key_without_its_passphrase_is_named_with_the_remedy() -> None:
    locked = KEYS["ssh-ed25519"].export_private_key(passphrase="open").decode()
    assert found([MASTER], docker_cache_ssh_private_key=locked)[1] == [
        "docker_cache_ssh_private_key has a passphrase: set docker_cache_ssh_private_key_passphrase to it (a secret), or use an ssh agent"
    ]
    nodes = [node("m1", "10.0.0.1", kube_master=True, private_key=locked, private_key_passphrase="wrong")]
    assert found(nodes)[1] == [
        "docker_cache_nodes[m1].private_key_passphrase does not open docker_cache_nodes[m1].private_key (its value is not shown)"
    ]
    of_openssl = KEYS["ssh-rsa"].export_private_key("pkcs8-pem", passphrase="open").decode()
    keys = {"docker_cache_ssh_private_key": of_openssl, "docker_cache_ssh_private_key_passphrase": "open"}
    assert found([MASTER], **keys)[1] == [
        "docker_cache_ssh_private_key is locked in openssl's form, which can't be used: `ssh-keygen -p -f FILE` writes it in ssh's own"
    ]


def test_one_locked_key_of_a_thousand_nodes_is_opened_once() -> None:
    locked = KEYS["ssh-ed25519"].export_private_key(passphrase="of all").decode()
    keys = {"docker_cache_ssh_private_key": locked, "docker_cache_ssh_private_key_passphrase": "of all"}
    nodes = [node(f"n{number}", f"10.0.{number // 250}.{number % 250}") for number in range(1000)]
    nodes[0]["kube_master"] = True
    settings = checked(nodes, **keys)
    before = private_keys.load_private_key.cache_info().misses
    wrong: list[str] = []
    assert len(resolve(settings, Path(), {}, wrong)) == 1000
    assert wrong == []
    assert private_keys.load_private_key.cache_info().misses - before <= 4, "a tenth of a second each"


def test_a_wrong_bastion_does_not_hide_what_else_is_wrong() -> None:
    with pytest.raises(SettingsError) as caught:
        read_stack(configuration([MASTER], docker_cache_ssh_bastion="{}", docker_cache_htpasswd="!").get, Path(), {})
    assert len(caught.value.problems) == 2
