"""What the program creates, recorded by mocks: no engine, no cluster."""

import base64
import hashlib
import json
from dataclasses import replace

import pytest
import yaml

from settings.access import Hop
from tests.unit.recording import COMMAND, DEPLOYMENT, LOCAL, SERVICE, Recorder, container, deploy, stack
from tests.unit.stacks import BCRYPT, HOST_KEY, HTPASSWD, node


def test_each_node_gets_one_command_named_by_its_identity(recorder: Recorder) -> None:
    deploy(stack())
    names = {resource.name for resource in recorder.of(COMMAND)}
    assert names == {"cache-folder-10.0.0.1:/var/lib/registry", "m1@10.0.0.1:22", "w1@10.0.0.2:22"}, (
        "a changed host must be another resource"
    )


THREE = [node("m1", "10.0.0.1", kube_master=True), node("w1", "10.0.0.2"), node("w2", "10.0.0.3")]


def dependencies(recorder: Recorder) -> dict[str, list[str]]:
    """Whose Commands each node's Command waits for."""
    commands = {name: request for name, request in recorder.requests.items() if "@" in name}
    return {
        name.partition("@")[0]: [
            urn.rpartition("::")[2].partition("@")[0]
            for urn in request.dependencies
            if urn.rpartition("::")[2] in commands
        ]
        for name, request in commands.items()
    }


@pytest.mark.parametrize(
    ("keys", "canary"),
    [
        ({}, "w1"),
        ({"docker_cache_canary": "m1"}, "m1"),
        ({"docker_cache_canary": "w2"}, "w2"),
        ({"docker_cache_forget_nodes": '["w1"]'}, "w2"),
    ],
)
def test_every_node_waits_for_the_canary_and_for_no_other(
    recorder: Recorder, keys: dict[str, str], canary: str
) -> None:
    deploy(stack(THREE, **keys))
    waits = {
        name: after
        for name, after in dependencies(recorder).items()
        if name not in keys.get("docker_cache_forget_nodes", "")
    }
    assert waits.pop(canary) == []
    assert len(waits) >= 1
    assert all(after == [canary] for after in waits.values()), "nodes in a chain would tolerate no failure"


def test_a_cluster_of_masters_has_a_canary_too() -> None:
    assert stack([node("m1", "10.0.0.1", kube_master=True)]).settings.canary == "m1"


def test_a_forgotten_node_is_connected_to_never_again_and_keeps_its_record(recorder: Recorder) -> None:
    deploy(stack(THREE, docker_cache_forget_nodes='["w2"]', docker_cache_canary="m1"))
    assert {"create", "delete", "stdin"}.isdisjoint(recorder.command("w2@10.0.0.3:22")), "never made, it would be tried"
    request = recorder.requests["w2@10.0.0.3:22"]
    assert request.retainOnDelete
    assert set(recorder.command("w1@10.0.0.2:22")) <= set(request.ignoreChanges), (
        "a change would be an update, which connects"
    )
    assert dependencies(recorder)["w2"] == [], "it is recorded even where the canary fails"
    assert not recorder.requests["w1@10.0.0.2:22"].retainOnDelete
    assert not recorder.requests["w1@10.0.0.2:22"].ignoreChanges


def test_a_forgotten_master_hands_folder_and_entry_to_the_next_one(recorder: Recorder) -> None:
    masters = [
        node("m1", "10.0.0.1", kube_master=True),
        node("m2", "10.0.0.4", kube_master=True),
        node("w1", "10.0.0.2"),
    ]
    deploy(stack(masters, docker_cache_forget_nodes='["m1"]'))
    assert "create" not in recorder.command("cache-folder-10.0.0.1:/var/lib/registry")
    assert recorder.requests["cache-folder-10.0.0.1:/var/lib/registry"].retainOnDelete
    assert "prepare" in recorder.command("cache-folder-10.0.0.4:/var/lib/registry")["create"]
    assert " mirror http://10.0.0.4:30500 " in recorder.command("w1@10.0.0.2:22")["create"]


def test_a_healed_node_gets_another_command_and_no_other_node_does(recorder: Recorder) -> None:
    deploy(stack(docker_cache_generations='{"w1": 2, "long.gone": 1}'))
    assert recorder.command("w1@10.0.0.2:22")["create"].endswith(" --proof hello-world:latest --generation 2")
    assert recorder.command("w1@10.0.0.2:22")["delete"].endswith(" remove --owner w1@10.0.0.2:22")
    assert "--generation" not in recorder.command("m1@10.0.0.1:22")["create"]


def test_further_entries_and_registries_are_named_in_a_short_line(recorder: Recorder) -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True), node("m2", "10.0.0.3", kube_master=True), node("w1", "10.0.0.2")]
    upstreams = json.dumps([{"host": "ghcr.io"}, {"host": "quay.io"}])
    deploy(stack(nodes, docker_cache_entries="masters", docker_cache_upstreams=upstreams))
    assert recorder.command("w1@10.0.0.2:22")["create"].endswith(
        " mirror http://10.0.0.1:30500 --also 10.0.0.3 --upstreams ghcr.io,quay.io --owner w1@10.0.0.2:22"
        " --proof hello-world:latest"
    )


def test_each_node_can_be_its_own_entry(recorder: Recorder) -> None:
    deploy(stack(docker_cache_entries="node"))
    assert " mirror http://10.0.0.2:30500 --owner w1@" in recorder.command("w1@10.0.0.2:22")["create"]
    assert " mirror http://10.0.0.1:30500 --owner m1@" in recorder.command("m1@10.0.0.1:22")["create"]


def test_a_commands_two_directions_are_readable_lines_and_the_script_comes_by_stdin(recorder: Recorder) -> None:
    deploy(stack())
    command = recorder.command("m1@10.0.0.1:22")
    assert command["create"].endswith(" mirror http://10.0.0.1:30500 --owner m1@10.0.0.1:22 --proof hello-world:latest")
    assert command["delete"].endswith(" remove --owner m1@10.0.0.1:22")
    assert all("\n" not in command[key] for key in ("create", "delete"))
    assert len(command["stdin"]) > 1000
    assert "triggers" not in command, "a trigger replaces, and the old delete would take the new entry out"
    assert command["addPreviousOutputInEnv"] is False, "sshd would refuse the variable"
    assert command["connection"]["hostKey"] == HOST_KEY


def test_a_bastion_is_the_commands_proxy_with_its_own_host_key_and_secrets(recorder: Recorder) -> None:
    hop = Hop(
        place="docker_cache_ssh_bastion",
        host="gate",
        port=2222,
        user="jump",
        host_key=HOST_KEY,
        private_key="bastions-key",
        passphrase="opens",
        password="pass",
    )
    subject = stack()
    first, second = subject.nodes
    deploy(replace(subject, nodes=(replace(first, bastion=hop, passphrase="opens it"), second)))
    connection = recorder.command("m1@10.0.0.1:22")["connection"]
    assert connection["privateKeyPassword"] == "opens it"
    assert connection["dialErrorLimit"] == 0, "a second handshake on one channel would hide the first one's reason"
    assert connection["proxy"] == {
        "host": "gate",
        "port": 2222,
        "user": "jump",
        "hostKey": HOST_KEY,
        "privateKey": "bastions-key",
        "privateKeyPassword": "opens",
        "password": "pass",
        "dialErrorLimit": 6,
        "perDialTimeout": 15,
    }
    assert "proxy" not in recorder.command("w1@10.0.0.2:22")["connection"]


def test_sudo_and_pending_changes_reach_the_command(recorder: Recorder) -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True, sudo=True)]
    deploy(stack(nodes, docker_cache_allow_pending_changes="yes"))
    command = recorder.command("m1@10.0.0.1:22")
    assert command["create"].startswith("sudo -n python3 ")
    assert " --allow-pending-changes " in command["create"]
    assert command["delete"].endswith(" --allow-pending-changes")


def test_the_folder_is_made_by_us_with_the_registrys_user_and_mounted_only_if_it_is_there(recorder: Recorder) -> None:
    deploy(stack(docker_cache_fs_mount_path="/data/cache"))
    assert recorder.command("cache-folder-10.0.0.1:/data/cache")["create"].endswith(" prepare /data/cache 65532 65532")
    pod = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]
    assert pod["volumes"][0]["hostPath"] == {"path": "/data/cache", "type": "Directory"}, (
        "the kubelet must not make it as root's"
    )
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchFields"] == [{"key": "metadata.name", "operator": "In", "values": ["m1"]}]


def test_a_storage_class_makes_a_claim_and_pins_nothing(recorder: Recorder) -> None:
    deploy(stack(docker_cache_fs_storage_class="nfs", docker_cache_fs_size="5Gi"))
    claim = recorder.one("kubernetes:core/v1:PersistentVolumeClaim")["spec"]
    assert claim["storageClassName"] == "nfs"
    assert claim["resources"]["requests"]["storage"] == "5Gi"
    spec = recorder.one(DEPLOYMENT)["spec"]
    assert "affinity" not in spec["template"]["spec"]
    assert spec["strategy"] == {"type": "Recreate"}, "a claim is mounted by one pod at a time"


def test_the_registry_is_reached_in_the_cluster_alone(recorder: Recorder) -> None:
    deploy(stack())
    spec = recorder.named(SERVICE, "docker-cache-registry")["spec"]
    assert "type" not in spec, "nodes come by the front"
    assert spec["ports"] == [{"name": "registry", "port": 5000, "targetPort": "registry"}]
    assert spec["selector"] == recorder.one(DEPLOYMENT)["spec"]["selector"]["matchLabels"]


def test_the_pod_has_no_more_rights_than_it_needs(recorder: Recorder) -> None:
    deploy(stack())
    pod = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    security = container(recorder)["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container(recorder)["resources"]["limits"]["memory"]
    assert {taint["key"] for taint in pod["tolerations"]} == {
        "node-role.kubernetes.io/control-plane",
        "node-role.kubernetes.io/master",
    }


def test_the_probes_do_not_ask_the_upstream(recorder: Recorder) -> None:
    deploy(stack())
    assert container(recorder)["readinessProbe"]["httpGet"] == {"path": "/", "port": "registry"}, (
        "/v2/<name> would pull"
    )
    assert container(recorder)["livenessProbe"]["tcpSocket"] == {"port": "registry"}


def test_a_pod_that_leaves_takes_pulls_until_every_node_knows(recorder: Recorder) -> None:
    deploy(stack())
    assert container(recorder)["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
    pod = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 5 + 60 + 15, "the pulls in flight get their time too"


def test_the_image_and_the_free_share_are_configurable(recorder: Recorder) -> None:
    deploy(stack(docker_cache_image="mirror.example/registry:3.1.2", docker_cache_fs_min_free="20%"))
    assert container(recorder)["image"] == "mirror.example/registry:3.1.2"
    assert container(recorder)["args"] == ["/var/lib/registry", "20"]


def test_the_configuration_is_named_by_the_provider_so_that_a_change_rolls_the_pod(recorder: Recorder) -> None:
    deploy(stack(docker_cache_remote_url="https://up.example"))
    config = recorder.one("kubernetes:core/v1:ConfigMap")
    assert "name" not in config["metadata"], "a named ConfigMap would be replaced under a pod that does not roll"
    assert "https://up.example" in config["data"]["proxy.yml"]
    volumes = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]["volumes"]
    assert volumes[1]["configMap"]["name"] == "docker-cache-made", "the pod must name the very ConfigMap that was made"


def test_proxies_reach_the_pod_by_a_secret_and_only_where_configured(recorder: Recorder) -> None:
    deploy(stack(docker_cache_https_proxy="http://u:proxy-password@p:3128", docker_cache_no_proxy="10.0.0.0/8"))
    secret = recorder.one("kubernetes:core/v1:Secret")
    assert set(secret["stringData"]) == {"HTTPS_PROXY", "NO_PROXY"}
    assert container(recorder)["envFrom"] == [{"secretRef": {"name": "docker-cache-environment-made"}}]
    assert "proxy-password" not in str(recorder.one(DEPLOYMENT))


AZURE = {
    "docker_cache_storage_backend": "azure",
    "docker_cache_azure_account_name": "account",
    "docker_cache_azure_account_key": "c2VjcmV0LWtleQ==",
}


def test_the_account_key_and_the_upstreams_password_reach_the_pod_by_a_secret_alone(recorder: Recorder) -> None:
    deploy(stack(docker_cache_remote_username="robot", docker_cache_remote_password="robots-password", **AZURE))
    secret = recorder.one("kubernetes:core/v1:Secret")
    assert secret["stringData"] == {
        "REGISTRY_PROXY_USERNAME": "robot",
        "REGISTRY_PROXY_PASSWORD": "robots-password",
        "REGISTRY_STORAGE_AZURE_ACCOUNTKEY": AZURE["docker_cache_azure_account_key"],
    }
    others = [
        resource.inputs for resource in recorder.resources if resource.typ not in {"kubernetes:core/v1:Secret", LOCAL}
    ]
    for hidden in ("robots-password", AZURE["docker_cache_azure_account_key"]):
        assert hidden not in str(others)


def test_the_store_is_proved_with_the_pods_own_key_before_the_registry_starts(recorder: Recorder) -> None:
    deploy(stack(**AZURE))
    proof = recorder.one(LOCAL)
    assert json.loads(proof["stdin"]) == {
        "url": "https://account.blob.core.windows.net",
        "account": "account",
        "container": "dockerregistry",
        "key": AZURE["docker_cache_azure_account_key"],
    }
    assert AZURE["docker_cache_azure_account_key"] not in proof["create"] + proof["delete"]
    assert "the cached blobs stay in container dockerregistry of account account" in proof["delete"]


CREATED = {
    "docker_cache_storage_backend": "azure",
    "docker_cache_azure_account_name": "account",
    "docker_cache_azure_create_account": "true",
    "docker_cache_azure_location": "westeurope",
}


def test_a_created_account_is_closed_where_azure_leaves_it_open(recorder: Recorder) -> None:
    deploy(stack(**CREATED))
    account = recorder.one("azure-native:storage:StorageAccount")
    assert account["accountName"] == "account"
    assert account["kind"] == "StorageV2"
    assert account["minimumTlsVersion"] == "TLS1_2"
    assert account["allowBlobPublicAccess"] is False
    assert account["enableHttpsTrafficOnly"] is True
    assert account["allowSharedKeyAccess"] is True
    assert account["sku"] == {"name": "Standard_LRS"}
    assert "networkRuleSet" not in account
    assert recorder.one("azure-native:storage:BlobContainer")["publicAccess"] == "None"
    assert (
        recorder.one("kubernetes:core/v1:Secret")["stringData"]["REGISTRY_STORAGE_AZURE_ACCOUNTKEY"] == "key1-of-azure"
    )
    assert json.loads(recorder.one(LOCAL)["stdin"])["key"] == "key1-of-azure"
    assert recorder.of("azure-native:storage:ManagementPolicy") == []
    assert recorder.of("azure-native:authorization:RoleAssignment") == []


def test_the_other_key_of_a_created_account_is_proved_and_used_where_it_is_named(recorder: Recorder) -> None:
    deploy(stack(docker_cache_azure_account_key_name="key2", **CREATED))
    environment = recorder.one("kubernetes:core/v1:Secret")["stringData"]
    assert environment["REGISTRY_STORAGE_AZURE_ACCOUNTKEY"] == "key2-of-azure"
    assert json.loads(recorder.one(LOCAL)["stdin"])["key"] == "key2-of-azure"


def test_a_firewall_and_a_lifecycle_come_where_configured(recorder: Recorder) -> None:
    deploy(stack(docker_cache_azure_allowed_networks='["203.0.113.0/24", "198.51.100.7"]', docker_cache_azure_delete_unread_after_days="90", **CREATED))  # fmt: skip
    assert recorder.one("azure-native:storage:StorageAccount")["networkRuleSet"] == {
        "defaultAction": "Deny",
        "bypass": "None",
        "ipRules": [
            {"action": "Allow", "iPAddressOrRange": "203.0.113.0/24"},
            {"action": "Allow", "iPAddressOrRange": "198.51.100.7"},
        ],
    }
    rules = [rule["definition"] for rule in recorder.one("azure-native:storage:ManagementPolicy")["policy"]["rules"]]
    deletions = {rule["filters"]["blobTypes"][0]: rule["actions"]["baseBlob"]["delete"] for rule in rules}
    assert deletions == {
        "blockBlob": {"daysAfterLastAccessTimeGreaterThan": 90},
        "appendBlob": {"daysAfterModificationGreaterThan": 90},
    }, "Distribution's layers are append blobs"
    tracking = recorder.one("azure-native:storage:BlobServiceProperties")["lastAccessTimeTrackingPolicy"]
    assert tracking["enable"] is True, "Azure would refuse the rule"


def test_with_a_managed_identity_there_is_no_key_anywhere(recorder: Recorder) -> None:
    principal, client = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
    deploy(stack(docker_cache_azure_auth="managed_identity", docker_cache_azure_identity_principal_id=principal, docker_cache_azure_identity_client_id=client, **CREATED))  # fmt: skip
    assert recorder.one("azure-native:storage:StorageAccount")["allowSharedKeyAccess"] is False
    role = recorder.one("azure-native:authorization:RoleAssignment")
    assert role["principalId"] == principal
    assert role["roleDefinitionId"].endswith("ba92f5b4-2d11-453d-a403-e96b0029c9fe")
    assert recorder.of("kubernetes:core/v1:Secret") == []
    assert recorder.of(LOCAL) == [], "only a pod can prove it"
    assert {"name": "AZURE_CLIENT_ID", "value": client} in container(recorder)["env"]
    proxy = yaml.safe_load(recorder.one("kubernetes:core/v1:ConfigMap")["data"]["proxy.yml"])
    assert proxy["storage"]["azure"]["credentials"] == {"type": "default_credentials"}


IDENTITY = {
    "docker_cache_storage_backend": "azure",
    "docker_cache_azure_account_name": "account",
    "docker_cache_azure_auth": "managed_identity",
    "docker_cache_azure_identity_client_id": "22222222-2222-2222-2222-222222222222",
}
JOB = "kubernetes:batch/v1:Job"


def test_with_a_managed_identity_a_job_proves_the_store_with_the_pods_own_means(recorder: Recorder) -> None:
    deploy(stack(docker_cache_https_proxy="http://proxy.example:3128", **IDENTITY))
    job = recorder.one(JOB)
    proof = job["spec"]["template"]["spec"]
    (runs,) = proof["containers"]
    assert runs["command"] == ["/bin/sh", "/etc/docker-cache/prove_store.sh"]
    assert runs["args"] == ["the container dockerregistry at https://account.blob.core.windows.net", "0"]
    for same in ("image", "env", "envFrom", "securityContext"):
        assert runs[same] == container(recorder)[same], f"another {same} proves nothing"
    registry_pod = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]
    for same in ("securityContext", "tolerations", "automountServiceAccountToken"):
        assert proof[same] == registry_pod[same]
    assert proof["restartPolicy"] == "Never"
    assert job["spec"]["backoffLimit"] == 0, "the script itself is the one that tries again"


def test_a_failed_proof_is_made_anew_and_no_pull_comes_to_its_pod(recorder: Recorder) -> None:
    deploy(stack(**IDENTITY))
    job = recorder.one(JOB)
    assert job["metadata"]["annotations"] == {"pulumi.com/replaceUnready": "true"}, "pulumi would wait for it for ever"
    assert "name" not in job["metadata"], "the old one would have to go first"
    labels = job["spec"]["template"]["metadata"]["labels"]
    for service in recorder.of(SERVICE):
        assert not service.inputs["spec"]["selector"].items() <= labels.items()


def test_the_role_on_an_account_of_our_own_is_given_time(recorder: Recorder) -> None:
    deploy(stack(docker_cache_azure_create_account="true", docker_cache_azure_location="westeurope", **IDENTITY))
    spec = recorder.one(JOB)["spec"]
    (runs,) = spec["template"]["spec"]["containers"]
    assert runs["args"][1] == "600"
    assert spec["activeDeadlineSeconds"] > 600, "the script has to have the last word"


def test_what_the_proof_does_stays_in_a_folder_of_its_own(recorder: Recorder) -> None:
    deploy(stack(**IDENTITY))
    files = recorder.one("kubernetes:core/v1:ConfigMap")["data"]
    proxy, proof = (yaml.safe_load(files[name])["storage"] for name in ("proxy.yml", "proof.yml"))
    assert proof["azure"] == {**proxy["azure"], "rootdirectory": "docker-cache-proof"}
    assert proof["redirect"] == proxy["redirect"]
    assert yaml.safe_load(files["proof.yml"])["http"]["addr"].startswith("127.0.0.1:"), "it takes blobs from anybody"


def test_a_store_that_is_proved_from_here_has_no_job(recorder: Recorder) -> None:
    deploy(stack(**AZURE))
    assert recorder.of(JOB) == []
    assert "proof.yml" not in recorder.one("kubernetes:core/v1:ConfigMap")["data"]


def test_the_identitys_token_is_not_asked_for_by_a_proxy(recorder: Recorder) -> None:
    deploy(stack(docker_cache_http_proxy="http://proxy.example:3128", docker_cache_no_proxy="10.0.0.0/8", **IDENTITY))
    assert recorder.one("kubernetes:core/v1:Secret")["stringData"]["NO_PROXY"] == "10.0.0.0/8,169.254.169.254"


def test_azure_needs_no_volume_no_folder_and_no_pinning(recorder: Recorder) -> None:
    deploy(stack(**AZURE))
    proxy = yaml.safe_load(recorder.one("kubernetes:core/v1:ConfigMap")["data"]["proxy.yml"])
    assert proxy["storage"] == {
        "azure": {
            "accountname": "account",
            "container": "dockerregistry",
            "credentials": {"type": "shared_key"},
            "realm": "core.windows.net",
        },
        "redirect": {"disable": True},
    }
    pod = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]
    assert not [volume for volume in pod["volumes"] if {"hostPath", "persistentVolumeClaim"} & volume.keys()]
    assert "affinity" not in pod
    assert not [resource.name for resource in recorder.of(COMMAND) if resource.name.startswith("cache-folder")]


def test_htpasswd_is_enforced_by_both_processes_and_its_file_is_a_secrets(recorder: Recorder) -> None:
    deploy(stack(docker_cache_htpasswd=HTPASSWD, docker_cache_htpasswd_over_plain_http="true"))
    files = recorder.one("kubernetes:core/v1:ConfigMap")["data"]
    for name in ("proxy.yml", "stored.yml"):
        auth = yaml.safe_load(files[name])["auth"]["htpasswd"]
        assert auth == {"realm": "docker-cache", "path": "/etc/docker-cache-htpasswd/htpasswd"}
    assert recorder.one("kubernetes:core/v1:Secret")["stringData"] == {"htpasswd": f"alice:{BCRYPT}\n"}
    pod = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]
    (volume,) = [item for item in pod["volumes"] if item["name"] == "htpasswd"]
    assert volume["secret"] == {"secretName": "docker-cache-htpasswd-made", "defaultMode": 0o440}
    assert container(recorder)["volumeMounts"][-1]["mountPath"] == "/etc/docker-cache-htpasswd"
    assert BCRYPT not in str(files)


def test_another_port_is_another_service_so_that_the_old_one_goes_after_the_nodes(recorder: Recorder) -> None:
    deploy(stack(docker_cache_node_port="30600", docker_cache_namespace="images"))
    metadata = recorder.named(SERVICE, "docker-cache-30600")["metadata"]
    assert metadata["name"] == "docker-cache-30600"
    assert metadata["namespace"] == "images"
    assert " mirror http://10.0.0.1:30600 " in recorder.command("w1@10.0.0.2:22")["create"]


def test_a_claim_that_exists_is_used_by_its_name(recorder: Recorder) -> None:
    deploy(stack(docker_cache_fs_claim="kept"))
    assert recorder.of("kubernetes:core/v1:PersistentVolumeClaim") == []
    pod = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "kept"}


def test_the_folders_data_goes_only_if_asked_for_by_name(recorder: Recorder) -> None:
    deploy(stack())
    assert recorder.command("cache-folder-10.0.0.1:/var/lib/registry")["delete"].endswith(" release /var/lib/registry")


def test_data_asked_to_be_deleted_goes_with_the_folder(recorder: Recorder) -> None:
    deploy(stack(docker_cache_delete_data="true"))
    assert recorder.command("cache-folder-10.0.0.1:/var/lib/registry")["delete"].endswith(
        " release /var/lib/registry --delete-data"
    )


def test_a_custom_registry_installs_nothing_but_the_nodes_mirrors(recorder: Recorder) -> None:
    deploy(stack(docker_cache_custom_registry="https://10.0.0.9:5000", docker_cache_entry_insecure="true"))
    assert {resource.typ for resource in recorder.resources} == {"docker-cache:nodes:NodeMirrors", COMMAND}
    assert recorder.command("w1@10.0.0.2:22")["create"].endswith(
        " mirror https://10.0.0.9:5000 --owner w1@10.0.0.2:22 --insecure --proof hello-world:latest"
    )


def test_the_proof_can_be_switched_off(recorder: Recorder) -> None:
    deploy(stack(docker_cache_proof="false"))
    assert "--proof" not in recorder.command("w1@10.0.0.2:22")["create"]


def test_a_certificate_travels_with_the_script_and_is_named_by_its_fingerprint(recorder: Recorder) -> None:
    subject = replace(stack(docker_cache_entry="https://cache.example"), entry_ca="-----BEGIN CERTIFICATE-----\n")
    deploy(subject)
    deploy_again = recorder.command("w1@10.0.0.2:22")
    fingerprint = hashlib.sha256(b"-----BEGIN CERTIFICATE-----\n").hexdigest()
    assert f" --ca {fingerprint}" in deploy_again["create"]
    assert "BEGIN" not in deploy_again["create"]
    assert b"BEGIN CERTIFICATE" in eval(deploy_again["stdin"])  # noqa: S307 - as the loader does


def test_credentials_for_the_entry_travel_in_secret_and_on_no_command_line(recorder: Recorder) -> None:
    deploy(
        stack(
            docker_cache_entry="https://cache.example",
            docker_cache_entry_username="reader",
            docker_cache_entry_password="the-entry-password",
        )
    )
    command = recorder.command("w1@10.0.0.2:22")
    header = base64.b64encode(b"reader:the-entry-password").decode()
    assert header.encode() in eval(command["stdin"])  # noqa: S307 - as the loader does
    assert not {header, "the-entry-password"} & set(command["create"].split())
    assert header not in command["create"]


def test_what_is_allowed_and_which_engines_are_chosen_stands_in_the_command(recorder: Recorder) -> None:
    deploy(stack(docker_cache_engines='["docker"]', docker_cache_allow_restart="true"))
    words = recorder.command("w1@10.0.0.2:22")["create"]
    assert " --engines docker --allow-restart " in words
    assert "--allow-restart" not in recorder.command("w1@10.0.0.2:22")["delete"]


def test_a_sudo_password_goes_by_standard_input_alone(recorder: Recorder) -> None:
    subject = stack([node("m1", "10.0.0.1", kube_master=True, sudo=True)])
    subject = replace(subject, nodes=(replace(subject.nodes[0], sudo_password="the-sudo-password"),))
    deploy(subject)
    command = recorder.command("m1@10.0.0.1:22")
    assert command["stdin"].startswith("the-sudo-password\n")
    for key in ("create", "delete"):
        assert command[key].startswith("sudo -S ")
        assert "the-sudo-password" not in command[key]


def test_without_credentials_there_is_no_secret(recorder: Recorder) -> None:
    deploy(stack())
    assert recorder.of("kubernetes:core/v1:Secret") == []
    assert not container(recorder).get("envFrom")


def test_every_kubernetes_resource_goes_through_the_explicit_provider(recorder: Recorder) -> None:
    deploy(stack())
    made = [resource for resource in recorder.resources if resource.typ.startswith("kubernetes:")]
    assert made
    for resource in made:
        assert "cluster" in (resource.provider or ""), f"{resource.name} would use the user's current context"


def test_the_type_tokens_do_not_change(recorder: Recorder) -> None:
    deploy(stack())
    assert {resource.typ for resource in recorder.resources} == {
        "pulumi:providers:kubernetes",
        "docker-cache:registry:RegistryCache",
        "docker-cache:storage:CacheStorage",
        "docker-cache:nodes:NodeMirrors",
        COMMAND,
        DEPLOYMENT,
        "kubernetes:core/v1:ConfigMap",
        "kubernetes:core/v1:Service",
        "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    }, "a changed token replaces every resource below it in stacks that exist"
