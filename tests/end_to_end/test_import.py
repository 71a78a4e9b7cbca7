"""`make import` with the real pulumi, against a state backend of its own: no cluster is needed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import pytest
import yaml

from sandbox import lifecycle, toolchain
from sandbox.layout import ROOT
from tests.end_to_end.conftest import leave_out

FILE = ROOT / "Pulumi.imported.yaml"
CONFIG = """\
user: admin
password: 'pass: "word"'
enable_docker_cache: "true"
docker_cache_storage_backend: azure
docker_cache_azure_account_name: account
docker_azure_account_key: c2VjcmV0LWFjY291bnQta2V5
"""
LAYOUT = """\
machine-list:
  - {hostname: pai-master, hostip: 127.0.0.1, machine-type: x, pai-master: "true"}
  - {hostname: pai-worker1, hostip: 127.0.0.2, machine-type: x, pai-worker: "true"}
"""
HOSTS = """\
all:
  children:
    kube-master: {hosts: {pai-master: }}
    kube-node: {hosts: {pai-worker1: {ansible_user: other, ansible_password: own-password}}}
"""
SECRETS = ('pass: "word"', "c2VjcmV0LWFjY291bnQta2V5", "own-password")


@dataclass(frozen=True, kw_only=True)
class Import:
    """The command with its environment."""

    files: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "operations",
            "import",
            "--stack",
            "imported",
            "--folder",
            str(self.files),
            *arguments,
        ]
        return self.command(*command)

    def command(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, input="", capture_output=True, text=True, check=False, timeout=120
        )

    def values(self) -> dict[str, dict[str, object]]:
        shown = self.command("pulumi", "config", "--show-secrets", "--json", "--stack", "imported")
        assert shown.returncode == 0, shown.stderr
        values: dict[str, dict[str, object]] = json.loads(shown.stdout)
        return values


@pytest.fixture(name="importing")
def import_with_a_backend_of_its_own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Import]:
    if missing := lifecycle.missing_requirements():
        leave_out(request.config, missing)
    assert not FILE.exists(), f"{FILE.name} is in the way"
    files, home, backend = tmp_path / "cluster-configuration", tmp_path / "home", tmp_path / "state"
    for folder in (files, home, backend):
        folder.mkdir()
    for name, text in {"config.yaml": CONFIG, "layout.yaml": LAYOUT, "hosts.yml": HOSTS}.items():
        (files / name).write_text(text)
    environment = os.environ | {
        "PATH": ":".join([*map(str, toolchain.pulumi_folders()), os.environ["PATH"]]),
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": backend.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "of this test",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "HOME": str(home),
    }
    yield Import(files=files, environment=environment)
    FILE.unlink(missing_ok=True)


def stacks(importing: Import) -> list[str]:
    return [stack["name"] for stack in json.loads(importing.command("pulumi", "stack", "ls", "--json").stdout)]


def test_the_files_become_a_stack_whose_secrets_pulumi_gives_back(importing: Import) -> None:
    result = importing.run("--no-scan")
    assert result.returncode == 0, result.stderr
    text = FILE.read_text()
    assert not any(secret in text + result.stdout + result.stderr for secret in SECRETS)
    config = yaml.safe_load(text)["config"]
    assert all(
        set(config[f"docker-cache:{key}"]) == {"secure"}
        for key in ("docker_cache_ssh_password", "docker_cache_azure_account_key")
    )

    values = {key.removeprefix("docker-cache:"): item for key, item in importing.values().items()}
    assert values["docker_cache_ssh_password"] == {"value": 'pass: "word"', "secret": True}
    assert values["docker_cache_azure_account_key"] == {"value": "c2VjcmV0LWFjY291bnQta2V5", "secret": True}
    assert values["docker_cache_nodes"]["secret"] is True
    assert values["docker_cache_nodes"]["objectValue"] == [
        {"name": "pai-master", "host": "127.0.0.1", "kube_master": True, "sudo_password": 'pass: "word"'},
        {"name": "pai-worker1", "host": "127.0.0.2", "user": "other", "password": "own-password"},
    ]

    assert not list((importing.files.parent / "home").glob("workspaces/*")), (
        "pulumi remembers nothing of the folder it ran in"
    )

    again = importing.run("--no-scan")
    assert "nothing to change" in again.stdout, "a cipher made anew is no difference"
    assert FILE.read_text() == text


@pytest.mark.long
def test_what_pulumi_sets_later_is_kept_and_the_comments_too(importing: Import) -> None:
    importing.run("--no-scan")
    for arguments in (["docker_cache_kube_context", "prod"], ["--secret", "docker_cache_remote_password", "kept"]):
        assert importing.command("pulumi", "config", "set", "--stack", "imported", *arguments).returncode == 0
    assert "# config.yaml: docker_cache_storage_backend\n" in FILE.read_text(), "pulumi leaves comments where they are"
    (importing.files / "config.yaml").write_text(CONFIG.replace("account\n", "other\n", 1))

    refused = importing.run("--no-scan")
    assert refused.returncode == 1
    assert "There is no terminal to ask at: YES=1 answers yes" in refused.stderr
    assert importing.values()["docker-cache:docker_cache_azure_account_name"]["value"] == "account"

    assert importing.run("--no-scan", "--yes").returncode == 0
    values = importing.values()
    assert values["docker-cache:docker_cache_azure_account_name"]["value"] == "other"
    assert values["docker-cache:docker_cache_kube_context"]["value"] == "prod"
    assert values["docker-cache:docker_cache_remote_password"] == {"value": "kept", "secret": True}


@pytest.mark.long
def test_where_pulumi_cannot_encrypt_nothing_is_left(importing: Import) -> None:
    without = {key: value for key, value in importing.environment.items() if key != "PULUMI_CONFIG_PASSPHRASE"}
    result = Import(files=importing.files, environment=without).run("--no-scan")
    assert result.returncode == 1
    assert "pulumi can't" in result.stderr
    assert "Traceback" not in result.stderr
    assert not FILE.exists()
    assert stacks(importing) == []


@pytest.mark.long
def test_a_stack_that_was_made_to_read_a_file_is_taken_back_with_the_answer_no(importing: Import) -> None:
    importing.run("--no-scan")
    text = FILE.read_text()
    removed = importing.command("pulumi", "stack", "rm", "--yes", "--preserve-config", "--stack", "imported")
    assert removed.returncode == 0, removed.stderr
    (importing.files / "config.yaml").write_text(CONFIG.replace("account\n", "other\n", 1))
    refused = importing.run("--no-scan")
    assert "-docker_cache_azure_account_name: account" in refused.stdout
    assert refused.returncode == 1
    assert FILE.read_text() == text
    assert stacks(importing) == []


def test_host_keys_are_asked_for(importing: Import) -> None:
    """A server of asyncssh's stands for the first node's sshd; at the second's port nobody answers."""
    server = [sys.executable, "-c", SERVER]
    with subprocess.Popen(server, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as sshd:
        assert sshd.stdout
        port, key = sshd.stdout.readline().strip().split(" ", 1)
        (importing.files / "hosts.yml").write_text(
            f"all:\n  vars: {{ansible_port: {port}}}\n  children:\n    kube-master: {{hosts: {{pai-master: }}}}\n"
        )
        result = importing.run()
        sshd.communicate()
    fingerprint = asyncssh.import_public_key(key).get_fingerprint()
    assert f"pai-master 127.0.0.1:{port} ssh-ed25519 {fingerprint}" in result.stdout
    assert "Nodes without an answer" in result.stdout
    first, second = yaml.safe_load(FILE.read_text())["config"]["docker-cache:docker_cache_nodes"]
    assert first["host_key"] == key
    assert "host_key" not in second


SERVER = """
import asyncio, asyncssh, sys

async def serve():
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen("127.0.0.1", 0, server_host_keys=[key])
    print(server.get_port(), key.export_public_key().decode().strip(), flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(serve())
"""
