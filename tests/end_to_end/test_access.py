"""Every way to reach a node, each used for a real change of docker there, for the proof, and for taking the change back.

The nodes get a registry on the machine `hub` as their mirror: no cluster is needed, and only ssh is tried here.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.proof import Result
from sandbox.enter import in_network
from sandbox.layout import ROOT
from tests.end_to_end.conftest import WORKERS, Sandbox, dev_nodes, prove, run
from tests.end_to_end.test_custom_registry import ADDRESS, Registry

PASSWORD, SUDO_PASSWORD, PASSPHRASE = "pass word/1", "sudo pass/word+2", "open sesame/3"
BASTION, BASTION_PASSWORD = "10.30.0.2", "jump pass/4"
ONLY_FROM_BASTION = ("INPUT", "--protocol", "tcp", "--match", "multiport", "--dports", "22,2222", "!", "--source", BASTION, "--jump", "REJECT")  # fmt: skip
SSHD = "printf '{settings}' > /etc/ssh/sshd_config.d/access.conf && systemctl reload ssh"
"""Read before the sandbox's own file: sshd goes by the first value."""
DEFAULT_KEY = ".sandbox/keys/ssh/id_ed25519"


@pytest.fixture(name="registry", scope="module", autouse=True)
def registry_on_the_hub(sandbox: Sandbox) -> Iterator[None]:
    registry = Registry(sandbox)
    registry.start()
    yield
    registry.stop()


@pytest.fixture(name="users", scope="module", autouse=True)
def users_on_the_machines(sandbox: Sandbox) -> Iterator[None]:
    """`easy` has sudo without a password, `asked` with one; `jump` may go through the bastion and do nothing else there."""
    users = {"easy": "NOPASSWD: ALL", "asked": "ALL"}
    for name, rule in users.items():
        for worker in WORKERS:
            sandbox.on(
                worker,
                "sh",
                "-c",
                f"useradd --create-home {name} && echo '{name} ALL=(ALL) {rule}' > /etc/sudoers.d/{name} && "
                f"install -D -o {name} -m 600 /root/.ssh/authorized_keys /home/{name}/.ssh/authorized_keys && "
                f"chown {name} /home/{name}/.ssh",
            )
            set_password(sandbox, worker, name, SUDO_PASSWORD if name == "asked" else PASSWORD)
    sandbox.on("hub", "useradd", "--create-home", "--shell", "/usr/sbin/nologin", "jump")
    set_password(sandbox, "hub", "jump", BASTION_PASSWORD)
    for machine in ("hub", *WORKERS):
        settings = r"Port 22\nPort 2222\nPasswordAuthentication yes\n"
        sandbox.on(machine, "sh", "-c", SSHD.format(settings=settings))
    yield
    for worker in WORKERS:
        for name in users:
            sandbox.on(worker, "sh", "-c", f"rm /etc/sudoers.d/{name}; userdel --remove {name} 2>/dev/null")
    sandbox.on("hub", "sh", "-c", "userdel --remove jump 2>/dev/null")
    for machine in ("hub", *WORKERS):
        sandbox.on(machine, "sh", "-c", "rm /etc/ssh/sshd_config.d/access.conf && systemctl reload ssh")


def set_password(sandbox: Sandbox, machine: str, user: str, password: str) -> None:
    sandbox.on(machine, "sh", "-c", f"echo '{user}:{password}' | chpasswd")


def keys(*nodes: dict[str, object], **changes: object) -> dict[str, object]:
    return {
        "docker_cache_custom_registry": ADDRESS,
        "docker_cache_kube_context": "",
        "docker_cache_proof_image": "app:1",
        "docker_cache_ssh_private_key_path": "",
        "docker_cache_nodes": list(nodes),
        **changes,
    }


def workers(*changes: dict[str, object]) -> list[dict[str, object]]:
    """The workers, each with what is its own."""
    return [node | change for node, change in zip(dev_nodes(*WORKERS), changes, strict=False)]


def has_mirror(sandbox: Sandbox, worker: str) -> bool:
    return sandbox.mirrors(worker) == [f"http://{ADDRESS}/"]


def prove_all(**settings: object) -> dict[str, Result]:
    """The nodes have one engine each."""
    names = [str(node["name"]) for node in settings["docker_cache_nodes"]]  # type: ignore[attr-defined]
    return {result.node: result for result in prove(settings, names)}


def go_there_and_back(sandbox: Sandbox, settings: dict[str, object]) -> None:
    """Up, proof and destroy by this way alone."""
    names = [str(node["name"]) for node in settings["docker_cache_nodes"]]  # type: ignore[attr-defined]
    sandbox.up(**settings)
    assert all(has_mirror(sandbox, name) for name in names)
    assert all(result.is_good for result in prove_all(**settings).values())
    sandbox.destroy()
    assert not any(has_mirror(sandbox, name) for name in names)


def failing_up(sandbox: Sandbox, **settings: object) -> str:
    result = sandbox.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", **settings)
    text = result.stdout + result.stderr
    sandbox.destroy()
    assert result.returncode != 0, text
    assert "Traceback" not in text
    return text


def make_key(sandbox: Sandbox, folder: Path, *, passphrase: str = "") -> Path:
    """A key of ssh-keygen's, which worker1's root then lets in."""
    key = folder / "id"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(key)])
    public = (folder / "id.pub").read_text().strip()
    sandbox.on("pai-worker1", "sh", "-c", f"echo '{public}' >> /root/.ssh/authorized_keys")
    return key


@pytest.fixture(name="authorized")
def authorized_keys_as_they_were(sandbox: Sandbox) -> Iterator[None]:
    before = sandbox.on("pai-worker1", "cat", "/root/.ssh/authorized_keys")
    yield
    sandbox.on("pai-worker1", "sh", "-c", f"echo '{before}' > /root/.ssh/authorized_keys")


@pytest.mark.long
@pytest.mark.usefixtures("authorized")
def test_a_key_with_a_passphrase(sandbox: Sandbox, tmp_path: Path) -> None:
    key = make_key(sandbox, tmp_path, passphrase=PASSPHRASE)
    settings = keys(*workers({"private_key_path": str(key)}))
    assert "has a passphrase" in failing_up(sandbox, **settings)
    settings["docker_cache_nodes"][0]["private_key_passphrase"] = PASSPHRASE  # type: ignore[index]
    go_there_and_back(sandbox, settings)


@pytest.mark.long
@pytest.mark.usefixtures("authorized")
def test_a_key_in_an_agent(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key(sandbox, tmp_path, passphrase="")
    socket = tmp_path / "agent"
    settings = keys(*workers({}))
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as agent:
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            assert "unable to authenticate" in failing_up(sandbox, **settings), "the agent has no key yet"
            assert run(["ssh-add", "-q", str(key)]).returncode == 0
            key.unlink()
            go_there_and_back(sandbox, settings)
        finally:
            agent.terminate()
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert "has nothing to sign in with" in failing_up(sandbox, **settings)


def test_a_password(sandbox: Sandbox) -> None:
    own = {"user": "easy", "sudo": True}
    assert "unable to authenticate" in failing_up(sandbox, **keys(*workers({**own, "password": "wrong"})))
    go_there_and_back(sandbox, keys(*workers({**own, "password": PASSWORD})))


def test_another_user_and_port_for_each_node_and_sudo_with_and_without_a_password(sandbox: Sandbox) -> None:
    nodes = workers(
        {"user": "easy", "port": 2222, "sudo": True},
        {"user": "asked", "sudo": True, "sudo_password": SUDO_PASSWORD},
    )
    settings = keys(*nodes, docker_cache_ssh_private_key_path=DEFAULT_KEY)
    go_there_and_back(sandbox, settings)
    nodes[1].pop("sudo_password")
    assert re.search(r"pai-worker2.*sudo: a password is required", failing_up(sandbox, **settings), re.DOTALL)


@pytest.mark.long
@pytest.mark.parametrize("hashed", [False, True])
def test_host_keys_from_a_file_of_known_hosts(sandbox: Sandbox, tmp_path: Path, hashed: bool) -> None:
    file = tmp_path / "known_hosts"
    scan = ["ssh-keyscan", "-T", "30", *(["-H"] if hashed else []), "-p", "2222", "10.30.0.11", "10.30.0.12"]
    file.write_text(run(in_network(scan)).stdout)
    assert ("|1|" in file.read_text()) == hashed
    nodes = workers({"port": 2222}, {"port": 2222})
    for node in nodes:
        del node["host_key_path"]
    settings = keys(*nodes, docker_cache_ssh_private_key_path=DEFAULT_KEY)
    assert "docker_cache_nodes[pai-worker2].host_key is missing" in failing_up(sandbox, **settings)
    go_there_and_back(sandbox, settings | {"docker_cache_ssh_known_hosts_path": str(file)})


def test_a_node_with_another_host_key_is_refused_and_named_with_both_fingerprints(sandbox: Sandbox) -> None:
    """As after a reinstallation under the same name."""
    before = sandbox.docker_pid("pai-worker1"), sandbox.mirrors("pai-worker1")
    (node,) = workers({})
    del node["host_key_path"]
    node["host_key"] = (ROOT / f"{DEFAULT_KEY}.pub").read_text()
    settings = keys(node, docker_cache_ssh_private_key_path=DEFAULT_KEY)
    text = failing_up(sandbox, **settings)
    assert "pai-worker1@10.30.0.11:22" in text
    assert "host key mismatch" in text
    assert (sandbox.docker_pid("pai-worker1"), sandbox.mirrors("pai-worker1")) == before
    verdict = prove_all(**settings)["pai-worker1"].verdict
    shown, expected = (
        run(["ssh-keygen", "-l", "-f", f".sandbox/keys/ssh/{name}.pub"]).stdout.split()[1]
        for name in ("ssh_host_ed25519_key", "id_ed25519")
    )
    assert f"shows the host key ssh-ed25519 {shown}, where ssh-ed25519 {expected} is expected" in verdict
    assert "set docker_cache_nodes[pai-worker1].host_key" in verdict


@pytest.mark.long
def test_of_a_nodes_host_keys_the_one_counts_that_ssh_keyscan_and_pulumi_command_agree_on(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """Debian's sshd has three keys, and Go asks for ECDSA before Ed25519."""
    settings = r"Port 22\nHostKey /run/ecdsa\nHostKey /etc/ssh/ssh_host_ed25519_key\n"
    sandbox.on("pai-worker1", "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", "/run/ecdsa")
    before = sandbox.on("pai-worker1", "cat", "/etc/ssh/sshd_config.d/access.conf")
    sandbox.on("pai-worker1", "sh", "-c", SSHD.format(settings=settings))
    try:
        alone = keys(*workers({}), docker_cache_ssh_private_key_path=DEFAULT_KEY)
        assert "host key mismatch" in failing_up(sandbox, **alone)
        file = tmp_path / "keys"
        file.write_text(run(in_network(["ssh-keyscan", "-T", "30", "10.30.0.11"])).stdout)
        assert len(file.read_text().splitlines()) >= 2
        nodes = workers({"host_key_path": str(file)})
        go_there_and_back(sandbox, keys(*nodes, docker_cache_ssh_private_key_path=DEFAULT_KEY))
    finally:
        sandbox.on("pai-worker1", "sh", "-c", f"rm /run/ecdsa*; {SSHD.format(settings=before)}")


@pytest.fixture(name="behind")
def worker1_behind_the_bastion(sandbox: Sandbox) -> Iterator[None]:
    sandbox.on("pai-worker1", "iptables", "--insert", *ONLY_FROM_BASTION)
    yield
    sandbox.on("pai-worker1", "iptables", "--delete", *ONLY_FROM_BASTION)


def jump(**changes: object) -> dict[str, object]:
    host_key = dev_nodes()[0]["host_key_path"]
    return {"host": BASTION, "user": "jump", "password": BASTION_PASSWORD, "host_key_path": host_key, **changes}


@pytest.mark.usefixtures("behind")
def test_a_node_that_only_a_bastion_reaches(sandbox: Sandbox) -> None:
    nodes = workers({"user": "asked", "sudo": True, "sudo_password": SUDO_PASSWORD}, {"direct": True})
    settings = keys(*nodes, docker_cache_ssh_private_key_path=DEFAULT_KEY)
    assert "connection refused" in failing_up(sandbox, **settings), "without the bastion there must be no way"
    go_there_and_back(sandbox, settings | {"docker_cache_ssh_bastion": jump(port=2222)})
    entered = sandbox.on("hub", "journalctl", "--unit=ssh", "--no-pager", "--output=cat")
    assert "Accepted password for jump from 10.30.0.1" in entered


@pytest.mark.long
@pytest.mark.usefixtures("behind")
def test_a_changed_bastion_changes_nothing_but_the_way_there(sandbox: Sandbox) -> None:
    nodes = workers({"bastion": jump()}, {})
    settings = keys(*nodes, docker_cache_ssh_private_key_path=DEFAULT_KEY)
    sandbox.up(**settings)
    before = (
        sandbox.docker_pid("pai-worker1"),
        sandbox.on("pai-worker1", "stat", "-c", "%Y %i", "/etc/docker/daemon.json"),
    )
    settings["docker_cache_nodes"] = workers({"bastion": jump(port=2222)}, {})
    assert sandbox.preview(**settings) == {"pai-worker1@10.30.0.11:22": ["update"]}
    sandbox.up(**settings)
    assert before == (
        sandbox.docker_pid("pai-worker1"),
        sandbox.on("pai-worker1", "stat", "-c", "%Y %i", "/etc/docker/daemon.json"),
    )
    assert sandbox.preview(**settings) == {}
    sandbox.destroy()
    assert not has_mirror(sandbox, "pai-worker1")


@pytest.mark.long
@pytest.mark.usefixtures("behind")
def test_what_is_wrong_on_the_way_through_a_bastion_is_told_with_its_place(sandbox: Sandbox) -> None:
    another = (ROOT / f"{DEFAULT_KEY}.pub").read_text()
    good = keys(*workers({}), docker_cache_ssh_private_key_path=DEFAULT_KEY)
    of_bastion = good | {"docker_cache_ssh_bastion": jump(host_key=another)}
    assert re.search(r'proxy: failed to dial "10\.30\.0\.2:22".*host key mismatch', failing_up(sandbox, **of_bastion))
    assert "docker_cache_ssh_bastion.host_key" in prove_all(**of_bastion)["pai-worker1"].verdict
    node = workers({"host_key": another})
    of_node = good | {"docker_cache_ssh_bastion": jump(), "docker_cache_nodes": node}
    assert re.search(r'failed to dial "10\.30\.0\.11:22".*host key mismatch', failing_up(sandbox, **of_node))
    closed = good | {"docker_cache_ssh_bastion": jump(password="wrong")}
    assert re.search(r'proxy: failed to dial "10\.30\.0\.2:22".*unable to authenticate', failing_up(sandbox, **closed))


def test_no_agent_of_this_machine_takes_part_in_these_tests() -> None:
    assert not os.environ.get("SSH_AUTH_SOCK"), "an agent would be another way in"
