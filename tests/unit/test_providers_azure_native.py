"""The azure-native stand-in names, checks, compares and replaces as the plugin does, and refuses what Azure refuses."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox import azure_account
from sandbox.identities import AZURE_KEY_FILES, write_azure_key
from sandbox.layout import AZURE_BLOB_SERVICE, ROOT
from sandbox.providers.azure_cloud import Cloud
from sandbox.providers.azure_containers import AzuriteContainers
from sandbox.providers.azure_native import AzureNativeStandIn
from sandbox.providers.boundary import OutsideSandboxError
from sandbox.providers.protocol import (
    Checked,
    Creation,
    Difference,
    Existing,
    Found,
    Modification,
    ProviderError,
    Target,
)
from sandbox.providers.values import UNKNOWN, Properties, Secret, Value

GROUP, ACCOUNT, CONTAINER = "resources:ResourceGroup", "storage:StorageAccount", "storage:BlobContainer"
SERVICE, POLICY, ROLE = "storage:BlobServiceProperties", "storage:ManagementPolicy", "authorization:RoleAssignment"
IN_ACCOUNT: Properties = {"accountName": "sandboxcache", "resourceGroupName": "cache"}
SEED = b"seed"
AT_ONCE = """
import threading
from sandbox.providers.azure_types import output_names

names = ("StorageAccount", "BlobContainer", "BlobServiceProperties", "ManagementPolicy")
start, asked = threading.Barrier(len(names)), []

def ask(name):
    start.wait()
    asked.append(output_names("storage", name))

threads = [threading.Thread(target=ask, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(asked) == len(names)
"""


class Records:
    """Containers in memory, in Azurite's place."""

    def __init__(self) -> None:
        self.live: dict[str, Properties] = {}

    def find(self, name: str) -> Properties | None:
        return self.live.get(name)

    def create(self, name: str, properties: Properties) -> None:
        self.live[name] = {"publicAccess": properties.get("publicAccess", "None"), "metadata": {}}

    def change(self, name: str, properties: Properties) -> None:
        self.create(name, properties)

    def delete(self, name: str) -> None:
        self.live.pop(name, None)

    def names(self) -> list[str]:
        return list(self.live)


class Program:
    """Takes resources through the stand-in as the engine would."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.containers = Records()
        self.stand_in = self.restarted()

    def restarted(self) -> AzureNativeStandIn:
        """Another process' stand-in on the same state."""
        return AzureNativeStandIn(Cloud(self.file, self.containers))

    def check(self, kind: str, inputs: Properties, olds: Properties | None = None) -> Checked:
        return self.stand_in.check(target(kind), olds or {}, inputs, SEED)

    def create(self, kind: str, /, **inputs: Value) -> Existing:
        checked = self.check(kind, inputs)
        assert checked.failures == ()
        identity, outputs = self.stand_in.create(Creation(target(kind), checked.inputs, preview=False, timeout=0))
        return Existing(target(kind), identity, outputs, checked.inputs)

    def update(self, old: Existing, /, **inputs: Value) -> Properties:
        checked = self.check(kind_of(old), inputs, old.inputs)
        assert checked.failures == ()
        return self.stand_in.update(Modification(old, checked.inputs, preview=False))

    def group(self) -> Existing:
        return self.create(GROUP, resourceGroupName="cache", location="westeurope")

    def account(self, **inputs: Value) -> Existing:
        self.group()
        return self.create(ACCOUNT, **account_inputs(**inputs))

    def diff(self, old: Existing, /, **changed: Value) -> Difference:
        given = {name: value for name, value in old.inputs.items() if not name.startswith("__")}
        return self.stand_in.diff(old, self.check(kind_of(old), {**given, **changed}, old.inputs).inputs)

    def read(self, existing: Existing) -> Found:
        found = self.stand_in.read(existing)
        assert found is not None
        return found


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "azure" / "state.json")


def target(kind: str, name: str = "thing") -> Target:
    return Target(f"urn:pulumi:dev::project::azure-native:{kind}::{name}")


def kind_of(existing: Existing) -> str:
    return existing.target.type.removeprefix("azure-native:")


def account_inputs(**inputs: Value) -> Properties:
    return {**IN_ACCOUNT, "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, **inputs}


def policy_inputs(condition: str, **inputs: Value) -> Properties:
    actions: Value = {"baseBlob": {"delete": {condition: 30}}}
    definition: Value = {"actions": actions, "filters": {"blobTypes": ["blockBlob"]}}
    rules: Value = [{"name": "unread", "type": "Lifecycle", "definition": definition}]
    return {**IN_ACCOUNT, "managementPolicyName": "default", "policy": {"rules": rules}, **inputs}


# What the types have.


def test_inputs_that_the_types_have_are_taken(program: Program) -> None:
    network: Value = {"defaultAction": "Deny", "ipRules": [{"action": "Allow", "iPAddressOrRange": "192.0.2.1"}]}
    inputs = account_inputs(
        location="westeurope",
        networkRuleSet=network,
        tags={"a": "b"},
        minimumTlsVersion="TLS1_2",
        allowBlobPublicAccess=False,
    )
    assert program.check(ACCOUNT, inputs).failures == ()
    assert program.check(POLICY, policy_inputs("daysAfterModificationGreaterThan")).failures == ()


@pytest.mark.parametrize(
    ("inputs", "failing", "reason"),
    [
        ({"minimumTlsVerson": "TLS1_2"}, "minimumTlsVerson", "no property of StorageAccount"),
        ({"networkRuleSet": {"defaultAction": "Deny", "rules": []}}, "networkRuleSet.rules", "no property of"),
        (
            {"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"range": "1"}]}},
            "networkRuleSet.ipRules[0].range",
            "no property of IPRule",
        ),
        ({"sku": {}}, "sku.name", "missing required property"),
        ({"minimumTlsVersion": "TLS12"}, "minimumTlsVersion", "Azure knows .*'TLS1_2'"),
        ({"allowBlobPublicAccess": "false"}, "allowBlobPublicAccess", "should be of type 'boolean'"),
        ({"networkRuleSet": "Deny"}, "networkRuleSet", "should be of type"),
        ({"tags": {"a": 1}}, "tags.a", "should be of type 'string'"),
    ],
)
def test_what_the_types_do_not_have_is_named(program: Program, inputs: Properties, failing: str, reason: str) -> None:
    failures = program.check(ACCOUNT, account_inputs(location="westeurope", **inputs)).failures
    assert failing in [name for name, _ in failures]
    assert any(re.search(reason, text) for _, text in failures)


def test_what_a_type_needs_is_named(program: Program) -> None:
    failing = {name for name, _ in program.check(ACCOUNT, {"accountName": "sandboxcache", "location": "x"}).failures}
    assert failing == {"kind", "resourceGroupName", "sku"}


def test_what_is_unknown_or_secret_is_checked_as_far_as_it_can_be(program: Program) -> None:
    inputs = account_inputs(accountName=UNKNOWN, location=UNKNOWN, networkRuleSet=Secret({"wrong": UNKNOWN}))
    failing = {name for name, _ in program.check(ACCOUNT, inputs).failures}
    assert failing == {"networkRuleSet.wrong"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ab", "too short"),
        ("a" * 25, "too long"),
        ("sandbox-cache", "does not match"),
        ("SandboxCache", "does not match"),
        ("sandboxcache1", ""),
    ],
)
def test_an_accounts_name_is_checked_as_azure_does(program: Program, name: str, reason: str) -> None:
    failures = program.check(ACCOUNT, account_inputs(location="westeurope", accountName=name)).failures
    assert [(failed, reason in text) for failed, text in failures] == ([("accountName", True)] if reason else [])


@pytest.mark.parametrize("name", ["ab", "Images", "two--dashes", "dash-", "under_score"])
def test_a_containers_name_is_checked(program: Program, name: str) -> None:
    failures = program.check(CONTAINER, {**IN_ACCOUNT, "containerName": name}).failures
    assert {failed for failed, _ in failures} == {"containerName"}


def test_the_sdk_can_be_asked_by_several_threads_at_once() -> None:
    """The engine does so at a refresh, in a process that has loaded nothing of the SDK yet."""
    result = subprocess.run([sys.executable, "-c", AT_ONCE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# Names, places and defaults.


def test_a_name_that_is_left_open_is_random_for_a_root_and_the_programs_own_for_a_child(program: Program) -> None:
    group = program.check(GROUP, {"location": "westeurope"}).inputs
    assert re.fullmatch(r"thing[0-9a-f]{8}", str(group["resourceGroupName"]))
    assert group["__createBeforeDelete"] is True
    container = program.check(CONTAINER, IN_ACCOUNT).inputs
    assert container["containerName"] == "thing"
    assert "__createBeforeDelete" not in container
    role: Properties = {"principalId": "p", "principalType": "User", "roleDefinitionId": "r", "scope": "/s"}
    assert re.fullmatch(
        r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(program.check(ROLE, role).inputs["roleAssignmentName"])
    )


def test_a_random_name_is_kept_from_then_on(program: Program) -> None:
    first = program.check(GROUP, {"location": "westeurope"}).inputs
    again = program.stand_in.check(target(GROUP), first, {"location": "westeurope"}, b"another seed").inputs
    assert again == first


def test_a_location_is_the_providers_else_the_groups(program: Program) -> None:
    missing = program.check(ACCOUNT, account_inputs()).failures
    assert "pulumi config set azure-native:location" in dict(missing)["location"]
    program.group()
    assert program.check(ACCOUNT, account_inputs()).inputs["location"] == "westeurope"
    assert program.check(ACCOUNT, account_inputs(resourceGroupName=UNKNOWN)).inputs["location"] is UNKNOWN
    program.stand_in.configure({"location": "northeurope"})
    assert program.check(ACCOUNT, account_inputs()).inputs["location"] == "northeurope"


def test_an_account_has_azures_defaults_and_the_sandboxs_endpoint(program: Program) -> None:
    outputs = program.account(networkRuleSet={"defaultAction": "Deny"}).outputs
    assert outputs["minimumTlsVersion"] == "TLS1_0", "the default is the weakest: a program has to set it"
    assert outputs["primaryEndpoints"] == {"blob": f"{AZURE_BLOB_SERVICE}/"}
    assert outputs["sku"] == {"name": "Standard_LRS", "tier": "Standard"}
    assert outputs["networkRuleSet"] == {
        "bypass": "AzureServices",
        "defaultAction": "Deny",
        "ipRules": [],
        "virtualNetworkRules": [],
    }
    assert not {"accountName", "created"} & {*outputs}
    assert outputs["name"] == "sandboxcache"


def test_ids_are_azures_and_hold_the_providers_subscription(program: Program) -> None:
    program.stand_in.configure({"subscriptionId": "sub"})
    account = program.account()
    container = program.create(CONTAINER, **IN_ACCOUNT, containerName="images")
    path = "/subscriptions/sub/resourceGroups/cache/providers/Microsoft.Storage/storageAccounts/sandboxcache"
    assert account.identity == path
    assert container.identity == f"{path}/blobServices/default/containers/images"


def test_one_process_serves_one_subscription(program: Program) -> None:
    program.stand_in.configure({"subscriptionId": "one", "clientId": "a"})
    program.stand_in.configure({"subscriptionId": "one", "clientId": "b"})
    with pytest.raises(ProviderError, match=r"can't serve .*two"):
        program.stand_in.configure({"subscriptionId": "two"})


# What changes in place and what does not.


@pytest.mark.parametrize(
    ("changed", "replacing"),
    [
        ({"accountName": "another"}, {"accountName"}),
        ({"resourceGroupName": "other"}, {"resourceGroupName"}),
        ({"location": "northeurope"}, {"location"}),
        ({"isHnsEnabled": True}, {"isHnsEnabled"}),
        ({"sku": {"name": "Standard_ZRS"}}, set()),
        ({"minimumTlsVersion": "TLS1_2"}, set()),
    ],
)
def test_an_account_is_made_anew_for_another_name_group_or_place(
    program: Program, changed: Properties, replacing: set[str]
) -> None:
    result = program.diff(program.account(), **changed)
    assert len(result.changes) == 1
    assert result.replacing == replacing
    assert result.delete_first == bool(replacing)


def test_a_location_may_be_written_in_two_ways(program: Program) -> None:
    assert not program.diff(program.account(), location="West Europe").changes


def test_a_group_with_a_random_name_is_made_before_the_old_one_goes(program: Program) -> None:
    group = program.create(GROUP, location="westeurope")
    result = program.stand_in.diff(group, {**group.inputs, "location": "northeurope"})
    assert result.replacing == {"location"}
    assert not result.delete_first


def test_a_container_is_made_anew_for_another_name_only(program: Program) -> None:
    program.account(allowBlobPublicAccess=True)
    container = program.create(CONTAINER, **IN_ACCOUNT, containerName="images")
    assert program.diff(container, containerName="others").replacing == {"containerName"}
    assert not program.diff(container, publicAccess="Blob").replacing
    assert (
        program.update(container, **IN_ACCOUNT, containerName="images", publicAccess="Blob")["publicAccess"] == "Blob"
    )


def test_a_role_is_assigned_anew_for_another_principal_and_its_definition_stays(program: Program) -> None:
    given: Properties = {"principalId": "p", "principalType": "User", "scope": "/subscriptions/s"}
    role = program.create(ROLE, **given, roleDefinitionId="r")
    assert role.identity.startswith("/subscriptions/s/providers/Microsoft.Authorization/roleAssignments/")
    assert role.outputs["scope"] == "/subscriptions/s"
    assert program.diff(role, principalId="q").replacing == {"principalId"}
    with pytest.raises(ProviderError, match="RoleAssignmentUpdateNotPermitted"):
        program.update(role, **given, roleDefinitionId="another")


def test_a_preview_knows_what_the_program_says_and_makes_nothing(program: Program) -> None:
    inputs = program.check(ACCOUNT, account_inputs(location="westeurope")).inputs
    identity, outputs = program.stand_in.create(Creation(target(ACCOUNT), inputs, preview=True, timeout=0))
    assert (identity, outputs["location"], outputs["name"]) == ("", "westeurope", UNKNOWN)
    assert outputs["primaryEndpoints"] is UNKNOWN
    account = program.account()
    outputs = program.stand_in.update(Modification(account, account.inputs, preview=True))
    assert outputs["name"] == "sandboxcache", "a name does not change by an update"


# What Azure refuses.


def test_there_is_one_account(program: Program) -> None:
    program.group()
    with pytest.raises(ProviderError, match=r'Code="StorageAccountAlreadyTaken".*one account only: sandboxcache'):
        program.create(ACCOUNT, **account_inputs(accountName="another"))
    account = program.create(ACCOUNT, **account_inputs())
    with pytest.raises(ProviderError, match=f"cannot create already existing resource '{account.identity}'"):
        program.create(ACCOUNT, **account_inputs())
    program.create(GROUP, resourceGroupName="second", location="westeurope")
    with pytest.raises(ProviderError, match="StorageAccountAlreadyTaken"):
        program.create(ACCOUNT, **account_inputs(resourceGroupName="second"))


def test_what_a_resource_lies_in_must_be_there(program: Program) -> None:
    with pytest.raises(ProviderError, match="Resource group 'cache' could not be found"):
        program.create(ACCOUNT, **account_inputs(location="westeurope"))
    program.group()
    for kind, inputs in ((CONTAINER, {}), (SERVICE, {"blobServicesName": "default"})):
        with pytest.raises(
            ProviderError, match="storageAccounts/sandboxcache' under resource group 'cache' was not found"
        ):
            program.create(kind, **IN_ACCOUNT, **inputs)


@pytest.mark.parametrize(
    ("kind", "inputs"), [(SERVICE, IN_ACCOUNT), (POLICY, policy_inputs("daysAfterModificationGreaterThan"))]
)
def test_what_an_account_has_one_of_is_called_default(program: Program, kind: str, inputs: Properties) -> None:
    program.account()
    inputs = {name: value for name, value in inputs.items() if name != "managementPolicyName"}
    with pytest.raises(ProviderError, match='"InvalidValuesForRequestParameters"'):
        program.create(kind, **inputs)


def test_no_container_is_more_public_than_its_account(program: Program) -> None:
    program.account()
    program.create(CONTAINER, **IN_ACCOUNT, containerName="images", publicAccess="None")
    with pytest.raises(ProviderError, match="PublicAccessNotPermitted"):
        program.create(CONTAINER, **IN_ACCOUNT, containerName="public", publicAccess="Container")
    assert program.containers.names() == ["images"]


def test_a_lifecycle_by_last_access_needs_its_tracking(program: Program) -> None:
    program.account()
    with pytest.raises(ProviderError, match="MissingLastAccessTimeBasedTrackingPolicy"):
        program.create(POLICY, **policy_inputs("daysAfterLastAccessTimeGreaterThan"))
    program.create(SERVICE, **IN_ACCOUNT, blobServicesName="default", lastAccessTimeTrackingPolicy={"enable": True})
    program.create(POLICY, **policy_inputs("daysAfterLastAccessTimeGreaterThan"))


def test_other_types_and_functions_are_refused_by_name(program: Program) -> None:
    with pytest.raises(ProviderError, match="does not serve azure-native:storage:FileShare"):
        program.check("storage:FileShare", {})
    with pytest.raises(ProviderError, match="does not serve azure-native:authorization:getClientConfig"):
        program.stand_in.invoke("azure-native:authorization:getClientConfig", {})


def test_nothing_is_reached_where_the_sandboxs_networks_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SANDBOX_NETWORKS", raising=False)
    with pytest.raises(OutsideSandboxError, match=r'"10\.30\.0\.3".*names no network'):
        AzuriteContainers().names()


# What is there, and what remains.


def test_resources_outlive_the_process_in_a_file_of_ones_own(program: Program) -> None:
    account = program.account()
    program.stand_in = program.restarted()
    assert program.read(account).outputs == account.outputs
    assert stat.S_IMODE(program.file.stat().st_mode) == 0o600


def test_a_refresh_without_drift_changes_nothing(program: Program) -> None:
    resources = [
        program.account(),
        program.create(CONTAINER, **IN_ACCOUNT, containerName="images"),
        program.create(POLICY, **policy_inputs("daysAfterModificationGreaterThan")),
    ]
    for existing in resources:
        found = program.read(existing)
        assert (found.inputs, found.outputs) == (existing.inputs, existing.outputs)


def test_a_refresh_takes_drift_also_in_what_the_program_left_to_azure(program: Program) -> None:
    account, container = program.account(), program.create(CONTAINER, **IN_ACCOUNT, containerName="images")
    recorded = json.loads(program.file.read_text())
    recorded[account.identity]["minimumTlsVersion"] = "TLS1_2"
    program.file.write_text(json.dumps(recorded))
    program.containers.live["images"]["publicAccess"] = "Blob"
    assert program.read(account).inputs == {**account.inputs, "minimumTlsVersion": "TLS1_2"}
    assert program.read(container).inputs == {**container.inputs, "publicAccess": "Blob"}


def test_a_container_is_what_the_data_plane_says(program: Program) -> None:
    program.account()
    program.containers.create("images", {})
    with pytest.raises(ProviderError, match="already existing"):
        program.create(CONTAINER, **IN_ACCOUNT, containerName="images")
    container = program.create(CONTAINER, **IN_ACCOUNT, containerName="others")
    program.containers.delete("others")
    assert program.stand_in.read(container) is None


def test_an_import_reads_everything_from_the_id(program: Program) -> None:
    account = program.account(minimumTlsVersion="TLS1_2")
    found = program.read(Existing(target(ACCOUNT), account.identity, {}, {}))
    assert found.inputs == account.inputs


def test_deleting_an_account_or_its_group_takes_the_data_along(program: Program) -> None:
    for kept in (ACCOUNT, GROUP):
        resources = {GROUP: program.group(), ACCOUNT: program.create(ACCOUNT, **account_inputs())}
        container = program.create(CONTAINER, **IN_ACCOUNT, containerName="images")
        program.stand_in.delete(resources[kept])
        assert program.containers.names() == []
        assert program.stand_in.read(container) is None
        program.stand_in.delete(container)
        program.stand_in.delete(resources[GROUP])
    assert json.loads(program.file.read_text()) == {}


def test_deleting_a_container_leaves_the_others(program: Program) -> None:
    program.account()
    container = program.create(CONTAINER, **IN_ACCOUNT, containerName="images")
    program.create(CONTAINER, **IN_ACCOUNT, containerName="others")
    program.stand_in.delete(container)
    assert program.containers.names() == ["others"]


def test_an_account_that_was_never_made_keeps_its_containers(program: Program) -> None:
    account = program.account()
    program.stand_in.delete(account)
    program.containers.create("adopted", {})
    program.stand_in.delete(account)
    assert program.containers.names() == ["adopted"]


def test_deleting_a_services_properties_resets_them(program: Program) -> None:
    program.account()
    given: Properties = {**IN_ACCOUNT, "blobServicesName": "default"}
    service = program.create(SERVICE, **given, lastAccessTimeTrackingPolicy={"enable": True})
    program.create(SERVICE, **given)
    assert "lastAccessTimeTrackingPolicy" not in program.read(service).outputs, "it was there with its account"
    program.stand_in.delete(service)
    assert program.stand_in.read(service) is None


def test_an_accounts_keys_are_listed_once_it_is_there(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure_account, "AZURE_KEYS", tmp_path)
    for name in AZURE_KEY_FILES:
        write_azure_key(tmp_path / name)
    with pytest.raises(ProviderError, match="ResourceNotFound"):
        program.stand_in.invoke("azure-native:storage:listStorageAccountKeys", IN_ACCOUNT)
    program.account()
    listed = program.stand_in.invoke("azure-native:storage:listStorageAccountKeys", IN_ACCOUNT)["keys"]
    assert isinstance(listed, list)
    found = {key["keyName"]: key["value"] for key in listed if isinstance(key, dict)}
    assert found == dict(zip(("key1", "key2"), azure_account.keys(), strict=True))
    assert len({*found.values()}) == 2


def test_what_is_secret_in_the_program_is_secret_in_the_outputs(program: Program) -> None:
    assert program.account(tags=Secret({"a": "b"})).outputs["tags"] == Secret({"a": "b"})
