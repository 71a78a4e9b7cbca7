"""The sandbox's Azure: a program of its own creates, keeps and removes resources, against Azurite."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import azure_account
from sandbox.enter import in_network
from sandbox.layout import AZURE_ACCOUNT, AZURE_BLOB_SERVICE, CA
from sandbox.lifecycle import azurite_answers, wait_for
from tests.end_to_end.conftest import ROOT, Sandbox

PROGRAM = """
import pulumi
from pulumi_azure_native import authorization, resources, storage
from pulumi_command import local

settings = pulumi.Config()
group = resources.ResourceGroup("cache", location="westeurope")
account = storage.StorageAccount(
    "account",
    account_name=settings.require("account"),
    resource_group_name=group.name,
    kind=storage.Kind.STORAGE_V2,
    sku={"name": storage.SkuName.STANDARD_LRS},
    minimum_tls_version=storage.MinimumTlsVersion.TLS1_2,
    tags={"days": settings.get("days")},
)
where = {"account_name": account.name, "resource_group_name": group.name}
storage.BlobContainer("images", public_access=storage.PublicAccess.NONE, **where)
tracking = storage.BlobServiceProperties(
    "tracking", blob_services_name="default", last_access_time_tracking_policy={"enable": True}, **where
)
rule = {
    "name": "unread",
    "type": "Lifecycle",
    "definition": {
        "actions": {"base_blob": {"delete": {"days_after_last_access_time_greater_than": 30}}},
        "filters": {"blob_types": ["blockBlob"]},
    },
}
storage.ManagementPolicy(
    "expiry",
    management_policy_name="default",
    policy={"rules": [rule]},
    opts=pulumi.ResourceOptions(depends_on=[tracking]),
    **where,
)
authorization.RoleAssignment(
    "reader", principal_id="p", principal_type="ServicePrincipal", role_definition_id="r", scope=account.id
)
keys = storage.list_storage_account_keys_output(**where).keys
pulumi.export("key", pulumi.Output.secret(keys[0].value))
pulumi.export("endpoint", account.primary_endpoints.blob)
pulumi.export("here", local.Command("here", create="pwd").stdout)
"""
STORE = """
import json, sys
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient
url, account, key, call, *arguments = json.load(sys.stdin)
client = BlobServiceClient(url, credential={"account_name": account, "account_key": key}, retry_total=0)
try:
    result = getattr(client, call)(*arguments)
    print("\\n".join(item.name for item in result) if call == "list_containers" else "done")
except HttpResponseError as error:
    print(error.response.headers["x-ms-error-code"])
"""


class Throwaway:
    """A Pulumi project in a folder of its own, with the sandbox's pulumi."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "Pulumi.yaml").write_text("name: throwaway\nruntime: python\n")
        (folder / "__main__.py").write_text(PROGRAM)
        self.pulumi("stack", "init", "azure")
        self.configure("account", AZURE_ACCOUNT)

    def configure(self, key: str, value: str) -> None:
        self.pulumi("config", "set", key, value)

    def try_pulumi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "sandbox/pulumi"), *arguments]
        return subprocess.run(command, cwd=self._folder, capture_output=True, text=True, check=False)

    def pulumi(self, *arguments: str) -> str:
        result = self.try_pulumi(*arguments)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def up(self) -> str:
        return self.pulumi("up", "--yes", "--skip-preview")

    def remove(self) -> None:
        self.try_pulumi("destroy", "--yes", "--skip-preview")
        self.pulumi("stack", "rm", "--yes", "azure")
        shutil.rmtree(self._folder)


@pytest.fixture
def throwaway(sandbox: Sandbox, tmp_path: Path) -> Iterator[Throwaway]:  # noqa: ARG001 - the sandbox has to run
    (tmp_path / "project").mkdir()
    project = Throwaway(tmp_path / "project")
    yield project
    project.remove()


def store(key: str, call: str, *arguments: str) -> str:
    """What Azurite's data plane says to a call of azure-storage-blob's client."""
    return subprocess.run(
        in_network([sys.executable, "-c", STORE]),
        input=json.dumps([AZURE_BLOB_SERVICE, AZURE_ACCOUNT, key, call, *arguments]),
        env=os.environ | {"REQUESTS_CA_BUNDLE": str(CA)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def containers() -> list[str]:
    return store(azure_account.keys()[0], "list_containers").split()


def test_a_program_creates_keeps_changes_and_removes_an_account(throwaway: Throwaway) -> None:
    before = throwaway.pulumi("preview")
    assert "+ 8 to create" in before
    assert containers() == [], "a preview makes nothing"
    throwaway.up()
    assert containers() == ["images"]
    outputs = json.loads(throwaway.pulumi("stack", "output", "--json", "--show-secrets"))
    assert outputs["key"] == azure_account.keys()[0]
    assert outputs["endpoint"] == f"{AZURE_BLOB_SERVICE}/"
    assert outputs["here"].endswith("/project"), "a local command runs in the project's folder"
    throwaway.pulumi("preview", "--expect-no-changes")
    throwaway.pulumi("refresh", "--yes", "--skip-preview", "--expect-no-changes")
    throwaway.pulumi("preview", "--expect-no-changes")
    throwaway.configure("days", "30")
    assert "~ 1 updated" in throwaway.up()
    throwaway.pulumi("destroy", "--yes", "--skip-preview")
    assert containers() == []


def test_a_container_that_is_gone_comes_back(throwaway: Throwaway) -> None:
    throwaway.up()
    store(azure_account.keys()[0], "delete_container", "images")
    throwaway.pulumi("refresh", "--yes", "--skip-preview")
    assert "+ 1 created" in throwaway.up()
    assert containers() == ["images"]


def test_another_account_is_an_error_that_says_which_one_there_is(throwaway: Throwaway) -> None:
    throwaway.configure("account", "another")
    result = throwaway.try_pulumi("up", "--yes", "--skip-preview")
    text = result.stdout + result.stderr
    assert result.returncode != 0
    assert 'Code="StorageAccountAlreadyTaken"' in text
    assert f"one account only: {AZURE_ACCOUNT}" in text
    assert "Traceback" not in text


def test_azurite_stops_and_starts_by_name_and_keeps_what_it_has(sandbox: Sandbox) -> None:
    key = azure_account.keys()[0]
    assert store(key, "create_container", "kept") == "done"
    try:
        sandbox.on("azurite", "systemctl", "stop", "azurite")
        assert not azurite_answers()
        sandbox.on("azurite", "systemctl", "start", "azurite")
        wait_for("Azurite", azurite_answers)
        assert containers() == ["kept"]
    finally:
        store(key, "delete_container", "kept")


def test_a_renewed_key_ends_the_old_one_and_leaves_the_other(sandbox: Sandbox) -> None:
    first, second = azure_account.keys()
    renewed = azure_account.renew(1)
    wait_for("Azurite", azurite_answers)
    assert renewed not in {first, second}
    # Azure's own word is AuthenticationFailed; Azurite, once it takes tokens, takes the header for a wrong one.
    assert store(first, "list_containers") == "InvalidAuthenticationInfo"
    assert store(second, "list_containers") == ""
    assert store(renewed, "list_containers") == ""
    lines = sandbox.on("azurite", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "--blobPort" in lines
    assert renewed not in lines, "a key is on no command line"
