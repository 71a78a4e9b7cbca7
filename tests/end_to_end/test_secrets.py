"""No secret's text in anything that a user, a log or a neighbour on the node can see, while it is used for real."""

import base64
import functools
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Self, cast

import asyncssh
import pytest

from tests.end_to_end.conftest import ROOT, WORKERS, Sandbox, dev_nodes
from tests.unit.stacks import BCRYPT, htpasswd

SUDO_USER, SUDO_PASSWORD = "admin", "sudo pass/word+of=admin"
KEY_FILE = ROOT / ".sandbox/keys/ssh/id_ed25519"
PUBLIC_KEY_FILE = KEY_FILE.with_name(f"{KEY_FILE.name}.pub")
PASSPHRASES = {"nodes": "pass phrase/of=nodes", "bastion": "pass phrase/of=bastion"}
BASTION = "docker_cache_ssh_bastion"


@functools.cache
def locked_key(whose: str) -> str:
    """The sandbox's key, locked anew."""
    key = asyncssh.import_private_key(KEY_FILE.read_text())
    return key.export_private_key(passphrase=PASSPHRASES[whose]).decode().strip()


def secrets() -> dict[str, str]:
    """Every secret that the stack is given, by its key."""
    kubeconfig = (ROOT / ".sandbox/kubeconfig").read_text()
    return {
        "docker_cache_kubeconfig": kubeconfig,
        "docker_cache_azure_account_key": base64.b64encode(b"account-key" * 6).decode()[:88],
        "docker_cache_htpasswd": htpasswd(f"alice:{BCRYPT}"),
        "docker_cache_remote_username": "robot-of-the-hub",
        "docker_cache_remote_password": "dckr_pat/secret+of=robot",
        "docker_cache_https_proxy": "http://proxy-user:proxy-pass@10.30.0.2:9",
        "docker_cache_ssh_private_key": locked_key("nodes"),
        "docker_cache_ssh_private_key_passphrase": PASSPHRASES["nodes"],
        "docker_cache_ssh_password": "ssh pass/word+never=used",
        "docker_cache_ssh_sudo_password": SUDO_PASSWORD,
        f"{BASTION}.private_key": locked_key("bastion"),
        f"{BASTION}.private_key_passphrase": PASSPHRASES["bastion"],
        f"{BASTION}.password": "bastion's pass/word+never=used",
    }


def forms(secret: str) -> set[str]:
    """The text, its lines (of a key, as a diff would show them), and how else it may be written."""
    lines = {line for line in secret.splitlines() if len(line) > 30 and "KEY" not in line}
    whole = {secret, secret.strip(), *lines}
    return {
        form
        for text in whole
        for form in (
            text,
            base64.b64encode(text.encode()).decode(),
            urllib.parse.quote(text, safe=""),
            urllib.parse.quote_plus(text),
            json.dumps(text)[1:-1],
        )
    }


def hidden_texts() -> dict[str, str]:
    """What must not be seen: parts of secrets too, such as a hash in an htpasswd or a token in a kubeconfig."""
    given = secrets()
    kubeconfig = given.pop("docker_cache_kubeconfig")
    parts = {
        "kubeconfig's key": next(line for line in kubeconfig.splitlines() if "client-key-data" in line).split()[-1],
        "htpasswd's hash": BCRYPT,
        "proxy's password": "proxy-pass",
    }
    return given | parts


@pytest.fixture(name="keys")
def prepared_keys(sandbox: Sandbox) -> Iterator[dict[str, object]]:
    """worker1 is entered as a user whose sudo asks for a password, through a bastion."""
    sandbox.on(
        "pai-worker1",
        "sh",
        "-c",
        f"useradd --create-home {SUDO_USER} && echo '{SUDO_USER}:{SUDO_PASSWORD}' | chpasswd && "
        f"echo '{SUDO_USER} ALL=(ALL) ALL' > /etc/sudoers.d/admin && "
        f"install -D -o {SUDO_USER} -m 600 /root/.ssh/authorized_keys /home/{SUDO_USER}/.ssh/authorized_keys && "
        f"chown -R {SUDO_USER} /home/{SUDO_USER}/.ssh",
    )
    nodes = dev_nodes("pai-master", "pai-worker1")
    nodes[1] |= {"user": SUDO_USER, "sudo": True}
    encrypted = sandbox.encrypted(secrets())
    bastion = encrypted.pop(BASTION)
    assert isinstance(bastion, dict)
    assert {*map(tuple, bastion.values())} == {("secure",)}, "each value of the map is encrypted by itself"
    yield {
        **encrypted,
        BASTION: {"host": "10.30.0.2", "host_key_path": nodes[0]["host_key_path"], **bastion},
        "docker_cache_nodes": nodes,
        "docker_cache_no_proxy": "registry-1.docker.io,10.0.0.0/8",
        "docker_cache_ssh_private_key_path": "",
        "docker_cache_htpasswd_over_plain_http": "true",
    }
    sandbox.destroy()
    sandbox.on("pai-worker1", "sh", "-c", f"rm -f /etc/sudoers.d/admin; userdel --remove {SUDO_USER}")


class ProcessList:
    """Reads every command line and environment on a node again and again, as a neighbour could."""

    def __init__(self, sandbox: Sandbox, machine: str) -> None:
        self._sandbox, self._machine = sandbox, machine
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.seen: set[str] = set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            listed = self._sandbox.try_on(self._machine, "ps", "axwwe", "-o", "args").stdout
            self.seen.update(line for line in listed.splitlines() if not line.startswith("ps axww"))
            time.sleep(0.1)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


def test_no_secret_is_seen_in_any_output_state_log_or_process_list(sandbox: Sandbox, keys: dict[str, object]) -> None:
    shown: dict[str, str] = {}

    def note(what: str, *arguments: str, **changes: object) -> int:
        result = sandbox.pulumi(*arguments, **(keys | changes))
        shown[what] = result.stdout + result.stderr
        return result.returncode

    azure = {"docker_cache_storage_backend": "azure", "docker_cache_azure_account_name": "account"}
    with ProcessList(sandbox, "pai-worker1") as processes:
        assert note("preview", "preview", "--diff") == 0, shown["preview"]
        assert note("preview for programs", "preview", "--json", "--show-config") == 0
        assert note("preview of azure", "preview", "--diff", **azure) == 0, shown["preview of azure"]
        assert note("up", "up", "--yes", "--diff") == 0, shown["up"]
        shown["state"] = sandbox.pulumi("stack", "export").stdout
        shown["outputs"] = sandbox.pulumi("stack", "output", "--json").stdout
        shown["configuration"] = sandbox.pulumi("config").stdout
        assert (
            note("failing up", "up", "--yes", "--continue-on-error", docker_cache_ssh_sudo_password="wrong") != 0
            or True
        )
        assert (
            note("failing entry", "up", "--yes", "--continue-on-error", docker_cache_entry="http://10.30.0.99:1") != 0
        )
        another = {BASTION: {**cast("dict[str, object]", keys[BASTION]), "host_key": PUBLIC_KEY_FILE.read_text()}}
        assert note("unknown bastion", "up", "--yes", "--continue-on-error", **another) != 0
        assert "proxy: failed to dial" in shown["unknown bastion"]
        locked = {"docker_cache_ssh_private_key_passphrase": "wrong"}
        assert note("wrong passphrase", "preview", **locked) != 0
        assert note("wrong values", "preview", docker_cache_htpasswd="!", docker_cache_azure_account_key="!") != 0
        shown["pods"] = sandbox.kubectl("get", "pods,deployments,configmaps,services,events", "-A", "-o", "yaml")
        shown["pod's log"] = sandbox.kubectl("logs", sandbox.pod(), "--tail=-1")
        result = sandbox.pulumi("destroy", "--yes", "--diff")
        shown["destroy"] = result.stdout + result.stderr
        assert result.returncode == 0, shown["destroy"]
        for worker in ("hub", *WORKERS):
            shown[f"journal of {worker}"] = sandbox.on(worker, "journalctl", "--boot", "--no-pager", "--output=cat")
        shown["daemon.json"] = sandbox.try_on("pai-worker1", "cat", "/etc/docker/daemon.json").stdout
    shown["processes"] = "\n".join(processes.seen)
    assert any("python3" in line for line in processes.seen), "the script was never seen running: the test saw nothing"
    assert "ciphertext" in shown["state"], "the state has no secret at all: the test saw nothing"
    found = [
        f"{name} in {what}"
        for name, secret in hidden_texts().items()
        for what, text in shown.items()
        if any(form in text for form in forms(secret))
    ]
    assert not found, found
