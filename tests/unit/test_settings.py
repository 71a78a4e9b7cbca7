import base64
import json
from collections.abc import Callable
from pathlib import Path

import kubernetes
import pytest
import yaml

from sandbox.identities import Authority
from settings import cluster
from settings.access import resolve
from settings.certificate import read_certificate
from settings.cluster import find_cluster, version_problem
from settings.loading import Disabled, SettingsError, load
from settings.model import Node, Settings
from settings.stack import given_keys, read_stack
from tests.unit.messages import remember
from tests.unit.stacks import HOST_KEY, HTPASSWD, KUBECONFIG, PRIVATE_KEY, configuration, node

ROOT = Path(__file__).resolve().parents[2]


def checked(**keys: str) -> Settings:
    settings = load(configuration(**keys).get)
    assert isinstance(settings, Settings)
    return settings


def problems(read: Callable[[str], str | None]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(read)
    return caught.value.problems


def test_a_short_configuration_has_the_documented_defaults() -> None:
    settings = checked()
    assert settings.docker_cache_storage_backend == "filesystem"
    assert settings.docker_cache_fs_mount_path == "/var/lib/registry"
    assert settings.docker_cache_fs_min_free == 15
    assert settings.docker_cache_remote_url == "https://registry-1.docker.io"
    assert settings.docker_cache_image == "registry:3.1.2"
    assert settings.entry == "http://10.0.0.1:30500", "the entry is the first master's address and the NodePort"


def test_the_entry_is_taken_from_the_first_master_of_the_list() -> None:
    nodes = [node("w1", "10.0.0.2"), node("m1", "10.0.0.7", kube_master=True), node("m2", "10.0.0.8", kube_master=True)]
    settings = load(configuration(nodes).get)
    assert isinstance(settings, Settings)
    assert settings.entry == "http://10.0.0.7:30500"


def three_nodes(**keys: str) -> Settings:
    nodes = [node("w1", "10.0.0.2"), node("m1", "10.0.0.7", kube_master=True), node("m2", "10.0.0.8", kube_master=True)]
    settings = load(configuration(nodes, **keys).get)
    assert isinstance(settings, Settings)
    return settings


def test_each_node_gets_the_entries_that_are_asked_for() -> None:
    first, second = "http://10.0.0.7:30500", "http://10.0.0.8:30500"
    assert three_nodes().entries == dict.fromkeys(("w1", "m1", "m2"), (first,))
    masters = three_nodes(docker_cache_entries="masters")
    assert masters.entries == dict.fromkeys(("w1", "m1", "m2"), (first, second))
    own = three_nodes(docker_cache_entries="node")
    assert own.entries == {"w1": ("http://10.0.0.2:30500",), "m1": (first,), "m2": (second,)}
    assert masters.entry == own.entry == first, "one stands for all where one is shown"


def test_a_master_that_is_forgotten_is_no_entry() -> None:
    settings = three_nodes(docker_cache_entries="masters", docker_cache_forget_nodes='["m1"]')
    assert settings.entries == dict.fromkeys(("w1", "m2"), ("http://10.0.0.8:30500",))


def test_other_registries_are_the_caches_alone() -> None:
    keys = {"docker_cache_upstreams": '[{"host": "ghcr.io"}, {"host": "lab.example:5000"}]'}
    assert three_nodes(**keys).mirrored_hosts == ("ghcr.io", "lab.example:5000")


@pytest.mark.parametrize("spelling", ["true", "True", "TRUE", "yes", "on"])
def test_true_is_accepted_in_every_spelling_found_in_the_wild(spelling: str) -> None:
    assert isinstance(load(configuration(enable_docker_cache=spelling).get), Settings)


@pytest.mark.parametrize("spelling", ["false", "False", "no", "off", ""])
def test_a_disabled_cache_ignores_every_other_key_wrong_values_included(spelling: str) -> None:
    wrong = configuration(enable_docker_cache=spelling, docker_cache_remote_url="not a url", docker_cache_nodes="}")
    assert isinstance(load(wrong.get), Disabled)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("enable_docker_cache", "ja", 'enable_docker_cache is "ja": use true or false'),
        ("docker_cache_storage_backend", "s3", 'docker_cache_storage_backend is "s3": use "azure" or "filesystem"'),
        ("docker_cache_fs_mount_path", "var/x", 'docker_cache_fs_mount_path is "var/x": use an absolute path such as /var/lib/registry'),
        ("docker_cache_fs_mount_path", "/", 'docker_cache_fs_mount_path is "/": use an absolute path such as /var/lib/registry'),
        ("docker_cache_fs_min_free", "120%", 'docker_cache_fs_min_free is "120%": use a share of the disk from 1% to 90%, such as 15%'),
        ("docker_cache_fs_size", "many", 'docker_cache_fs_size is "many": use a size such as 100Gi'),
        ("docker_cache_remote_url", "ftp://x", 'docker_cache_remote_url is "ftp://x": use a URL such as https://registry-1.docker.io'),
        ("docker_cache_entry", "http://h:1/p", 'docker_cache_entry is "http://h:1/p": use host:port or a URL without a path, such as http://10.0.0.1:30500'),
        ("docker_cache_image", "a b", 'docker_cache_image is "a b": use an image reference such as registry:3.1.2'),
        ("docker_cache_ssh_port", "99999", 'docker_cache_ssh_port is "99999": use a port from 1 to 65535'),
        ("docker_cache_ssh_port", "true", 'docker_cache_ssh_port is "true": use a port from 1 to 65535'),
        ("docker_cache_ssh_user", "a b", 'docker_cache_ssh_user is "a b": use a user\'s name, such as root'),
        ("docker_cache_http_proxy", "::", "docker_cache_http_proxy is wrong (its value is not shown): use a URL such as http://proxy.example:3128"),
        ("docker_cache_remote_url", "https://u:hidden@h", 'docker_cache_remote_url is "https://…@h": use a URL without user, query or fragment'),
        ("docker_cache_nodes", "5", 'docker_cache_nodes is "5": write a list of maps with name and host, see docs/configuration.md'),
        ("docker_cache_nodes", '["a"]', 'docker_cache_nodes[0] is "a": write a list of maps with name and host, see docs/configuration.md'),
        ("docker_cache_nodes", "}", "docker_cache_nodes is not a list: see docs/configuration.md for its form"),
        ("docker_cache_nodes", "[]", "docker_cache_nodes is missing: list the cluster's nodes, each with name and host, see docs/configuration.md"),
        ("docker_cache_namespace", "A b", 'docker_cache_namespace is "A b": use a Kubernetes namespace: lower-case letters, digits and dashes'),
        ("docker_cache_azure_account_name", "My-Account", 'docker_cache_azure_account_name is "My-Account": use the storage account\'s name: 3 to 24 lower-case letters and digits'),
        ("docker_cache_azure_container_name", "a--b", 'docker_cache_azure_container_name is "a--b": use a blob container\'s name: 3 to 63 lower-case letters, digits and single dashes'),
        ("docker_cache_azure_account_key", "forexample", 'docker_cache_azure_account_key is wrong (its value is not shown): it is "forexample", the placeholder of OpenPAI\'s manual: copy a key that `az storage account keys list --account-name …` shows'),
        ("docker_cache_azure_account_key", "not base64", "docker_cache_azure_account_key is wrong (its value is not shown): it is not base64: copy a key that `az storage account keys list --account-name …` shows"),
        ("docker_cache_azure_account_key", "QUJD*", "docker_cache_azure_account_key is wrong (its value is not shown): it is not base64: copy a key that `az storage account keys list --account-name …` shows"),
        ("docker_cache_custom_registry", "10.0.0.9:5000/x", 'docker_cache_custom_registry is "10.0.0.9:5000/x": use host:port or a URL without a path, such as http://10.0.0.1:30500'),
        ("docker_cache_ssh_sudo_password", "two\nlines", "docker_cache_ssh_sudo_password is wrong (its value is not shown): use a single line"),
        ("docker_cache_nodes", '[{"name": "A B", "host": "h"}]', 'docker_cache_nodes[A B].name is "A B": use the node\'s name in Kubernetes: lower-case letters, digits, dots and dashes'),
        ("docker_cache_azure_realm", "nowhere", 'docker_cache_azure_realm is "nowhere": use the cloud\'s domain, such as core.windows.net or core.chinacloudapi.cn'),
        ("docker_cache_azure_location", "West Europe", 'docker_cache_azure_location is "West Europe": use one of `az account list-locations --query [].name`, such as westeurope'),
        ("docker_cache_azure_resource_group", "a/b", 'docker_cache_azure_resource_group is "a/b": use a resource group\'s name: letters, digits, dashes, underscores, dots and brackets'),
        ("docker_cache_generations", '{"w1": "x"}', 'docker_cache_generations.w1 is "x": use a whole number, such as 1'),
        ("docker_cache_generations", '["w1"]', "docker_cache_generations is wrong: write a map"),
        ("docker_cache_azure_delete_unread_after_days", "0", 'docker_cache_azure_delete_unread_after_days is "0": use a number of days from 1 to 9999'),
        ("docker_cache_azure_identity_client_id", "me", 'docker_cache_azure_identity_client_id is "me": use an id such as 00000000-0000-0000-0000-000000000000'),
        ("docker_cache_azure_allowed_networks", '["203.0.113.7/32"]', 'docker_cache_azure_allowed_networks[0] is "203.0.113.7/32": use each address by itself, such as 203.0.113.7: Azure\'s firewall refuses /31 and /32'),
        ("docker_cache_azure_allowed_networks", '["203.0.113.6/31"]', 'docker_cache_azure_allowed_networks[0] is "203.0.113.6/31": use each address by itself, such as 203.0.113.7: Azure\'s firewall refuses /31 and /32'),
        ("docker_cache_azure_allowed_networks", '["172.20.0.0/16"]', 'docker_cache_azure_allowed_networks[0] is "172.20.0.0/16": use the public addresses that the cluster and this machine come from: Azure\'s firewall refuses private ones (RFC 1918)'),
        ("docker_cache_azure_allowed_networks", '["192.168.1.1"]', 'docker_cache_azure_allowed_networks[0] is "192.168.1.1": use the public addresses that the cluster and this machine come from: Azure\'s firewall refuses private ones (RFC 1918)'),
        ("docker_cache_azure_account_key_name", "key3", 'docker_cache_azure_account_key_name is "key3": use "key1" or "key2"'),
        ("docker_cache_azure_allowed_networks", '["203.0.113.0/24", "x"]', 'docker_cache_azure_allowed_networks[1] is "x": use an IPv4 address or a network such as 203.0.113.0/24'),
        ("docker_cache_azure_allowed_networks", "5", 'docker_cache_azure_allowed_networks is "5": write a list'),
        ("docker_cache_wave_size", "many", 'docker_cache_wave_size is "many": use a number of nodes, or a share of them up to 100%, such as 25%'),
        ("docker_cache_wave_size", "120%", 'docker_cache_wave_size is "120%": use a number of nodes, or a share of them up to 100%, such as 25%'),
        ("docker_cache_wave_size", "0%", 'docker_cache_wave_size is "0%": use at least one node, or 1% of them'),
        ("docker_cache_max_failures", "-1", 'docker_cache_max_failures is "-1": use a number of nodes, or a share of them up to 100%, such as 25%'),
        ("docker_cache_canary", "A b", 'docker_cache_canary is "A b": use the node\'s name in Kubernetes: lower-case letters, digits, dots and dashes'),
        ("docker_cache_forget_nodes", "w1", "docker_cache_forget_nodes is not a list: see docs/configuration.md for its form"),
        ("docker_cache_forget_nodes", '["A b"]', 'docker_cache_forget_nodes[0] is "A b": use the node\'s name in Kubernetes: lower-case letters, digits, dots and dashes'),
        ("docker_cache_fs_claim", "a_b", 'docker_cache_fs_claim is "a_b": use the object\'s name in Kubernetes: lower-case letters, digits, dots and dashes'),
    ],
)  # fmt: skip
def test_a_wrong_value_names_the_key_the_value_and_the_remedy(key: str, value: str, message: str) -> None:
    assert problems(configuration(**{key: value}).get) == [message]


def test_every_wrong_key_is_reported_at_once() -> None:
    wrong = configuration(docker_cache_remote_url="x", docker_cache_fs_min_free="0", docker_cache_ssh_port="-1")
    assert len(problems(wrong.get)) == 3


def test_a_misspelt_key_is_no_silent_default() -> None:
    values = configuration(docker_cache_fs_mountpath="/data", docker_cache_remote_url="ftp://x")
    with pytest.raises(SettingsError) as caught:
        load(values.get, values)
    assert (
        caught.value.problems[0] == "docker_cache_fs_mountpath is not known: did you mean docker_cache_fs_mount_path?"
    )
    assert len(caught.value.problems) == 2, "it comes with all other problems"


def test_a_misspelt_switch_does_not_switch_off_in_silence() -> None:
    values = configuration()
    values["enable_docker_cach"] = values.pop("enable_docker_cache")
    with pytest.raises(SettingsError, match=r"enable_docker_cach is not known: did you mean enable_docker_cache\?"):
        load(values.get, values)


def test_a_key_that_is_nothing_like_ours_is_left_alone() -> None:
    values = configuration(flavour_of_the_month="x")
    assert isinstance(load(values.get, values), Settings)


def test_a_wrong_key_hides_no_other_problem() -> None:
    """The rules that span keys are asked as far as they rest on right ones."""
    found = problems(
        configuration(
            [node("w1", "10.0.0.2"), node("w1", "10.0.0.3")],
            docker_cache_remote_url="x",
            docker_cache_storage_backend="azure",
            docker_cache_kube_context="",
        ).get
    )
    assert len(found) == 6, found
    assert any("docker_cache_azure_account_key is missing" in line for line in found)
    assert any("names no master" in line for line in found)
    assert not any("fs_storage_class" in line for line in found), "azure needs no folder on a master"


def test_a_rule_that_rests_on_a_wrong_key_is_not_asked() -> None:
    assert problems(configuration(docker_cache_nodes="}").get) == [
        "docker_cache_nodes is not a list: see docs/configuration.md for its form"
    ]


@pytest.mark.parametrize(
    ("key", "alias"),
    [
        ("docker_cache_azure_account_name", "docker_azure_account_name"),
        ("docker_cache_azure_account_key", "docker_azure_account_key"),
        ("docker_cache_htpasswd", "docker_cache_registry_htpasswd"),
    ],
)
def test_the_names_of_openpais_manual_and_templates_are_taken_too(key: str, alias: str) -> None:
    value = {"docker_cache_azure_account_name": "account", "docker_cache_htpasswd": HTPASSWD}.get(key, "QUJD")
    values = configuration(docker_cache_htpasswd_over_plain_http="true", **{alias: value})
    settings = load(values.get, values)
    assert isinstance(settings, Settings)
    taken = getattr(settings, key)
    assert (taken if isinstance(taken, str) else taken.get_secret_value()) == value
    both = configuration(docker_cache_htpasswd_over_plain_http="true", **{key: value, alias: value})
    assert isinstance(load(both.get), Settings), "the same value twice is no contradiction"


def test_two_names_of_one_key_with_different_values_are_an_error_that_names_both() -> None:
    (message,) = problems(configuration(docker_cache_azure_account_name="one", docker_azure_account_name="other").get)
    assert message == (
        'docker_cache_azure_account_name is "one", but its other name docker_azure_account_name is "other": keep one of the two'
    )
    (message,) = problems(configuration(docker_cache_azure_account_key="QUJD", docker_azure_account_key="REVG").get)
    assert "docker_azure_account_key" in message
    assert "QUJD" not in message
    assert "REVG" not in message


def test_the_given_keys_are_those_of_this_project_alone() -> None:
    environment = {"PULUMI_CONFIG": json.dumps({"docker-cache:docker_cache_entry": "x", "kubernetes:context": "y"})}
    assert given_keys(environment) == ["docker_cache_entry"]


def test_a_missing_context_is_named() -> None:
    without = configuration()
    del without["docker_cache_kube_context"]
    assert problems(without.get) == [
        "docker_cache_kube_context is missing, and has no default, so that no other cluster is changed by accident: set it to one of `kubectl config get-contexts --output name`"
    ]


def test_a_node_without_host_is_named() -> None:
    assert problems(configuration([{"name": "m1", "kube_master": True}]).get) == [
        "docker_cache_nodes[m1].host is missing: each node needs it, see docs/configuration.md"
    ]


def test_a_wrong_key_of_a_node_is_named_by_the_nodes_name() -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True), node("w1", "not a host", port=0, colour="red")]
    assert problems(configuration(nodes).get) == [
        'docker_cache_nodes[w1].host is "not a host": use an IPv4 address or a host name',
        'docker_cache_nodes[w1].port is "0": use a port from 1 to 65535',
        "docker_cache_nodes[w1].colour is not a key that is known here: see docs/configuration.md",
    ]


def test_two_nodes_with_one_name_or_one_address_are_refused_and_a_list_without_master_too() -> None:
    found = problems(configuration([node("w1", "10.0.0.2"), node("w1", "10.0.0.2")]).get)
    assert 'docker_cache_nodes has the name "w1" twice: give each node a name of its own' in found
    assert 'docker_cache_nodes has "10.0.0.2:22" twice: list each node once' in found
    assert any("names no master" in line for line in found)


def test_no_master_is_needed_where_entry_and_storage_class_are_given() -> None:
    keys = {"docker_cache_entry": "10.9.9.9:30500", "docker_cache_fs_storage_class": "nfs"}
    settings = load(configuration([node("w1", "10.0.0.2")], **keys).get)
    assert isinstance(settings, Settings)
    assert settings.entry == "http://10.9.9.9:30500"


def test_no_master_is_needed_where_each_node_is_its_own_entry() -> None:
    keys = {"docker_cache_entries": "node", "docker_cache_fs_storage_class": "nfs"}
    settings = load(configuration([node("w1", "10.0.0.2"), node("w2", "10.0.0.3")], **keys).get)
    assert isinstance(settings, Settings)
    assert settings.entries["w2"] == ("http://10.0.0.3:30500",)


def test_a_secrets_value_is_never_shown() -> None:
    secret = "not-to-be-shown"
    nodes = [node("m1", "10.0.0.1", kube_master=True, password=[secret], private_key={"x": secret})]
    found = problems(configuration(nodes).get)
    assert len(found) == 2
    assert secret not in "".join(found)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("docker_cache_custom_registry", "user:s3cret@10.0.0.9:5000"),
        ("docker_cache_azure_service_url", "https://a.example/?sv=1&sig=s3cret"),
        ("docker_cache_remote_url", "https://u:pa/s3cret@h"),
        ("docker_cache_remote_url", "https://u:p@s3cret@h"),
        ("docker_cache_entry", "s3cret@h:1"),
    ],
)
def test_credentials_in_an_address_are_not_shown(key: str, value: str) -> None:
    (message,) = problems(configuration(**{key: value}).get)
    assert "s3cret" not in message
    assert key in message


def test_a_trailing_slash_of_the_upstream_is_tolerated() -> None:
    assert checked(docker_cache_remote_url="https://r.example/").docker_cache_remote_url == "https://r.example"


def test_every_key_is_described_in_the_project_file_without_a_type() -> None:
    declared = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    assert set(declared) == set(Settings.model_fields), "a key is described but not read, or read but not described"
    for key, entry in declared.items():
        assert len(entry["description"]) > 20, f"{key} needs a description"
        assert "type" not in entry, f"{key}: the engine would refuse values before the model sees them"
        assert entry["default"] == "", f"{key}: without a default the engine demands the key"


def test_every_key_has_a_line_in_the_configuration_page() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for key in (*Settings.model_fields, *Node.model_fields):
        assert f"`{key}`" in page, f"docs/configuration.md does not have {key}"


def access(
    nodes: list[dict[str, object]], environment: dict[str, str] | None = None, **keys: str
) -> tuple[list[str], list[str]]:
    settings = load(configuration(nodes, **keys).get)
    assert isinstance(settings, Settings)
    wrong: list[str] = []
    found = resolve(settings, ROOT, environment or {}, wrong)
    remember(wrong)
    return [
        f"{item.user}@{item.host}:{item.port} {'key' if item.private_key else ''}{item.password or ''}"
        for item in found
    ], wrong


def test_a_nodes_own_access_wins_over_the_stacks() -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True), node("w1", "10.0.0.2", user="u", port=2222, password="own")]
    found, wrong = access(nodes, docker_cache_ssh_user="admin")
    assert found == ["admin@10.0.0.1:22 key", "u@10.0.0.2:2222 own"]
    assert wrong == []


def test_without_key_and_password_there_must_be_an_agent() -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True)]
    _, wrong = access(nodes, docker_cache_ssh_private_key="")
    assert len(wrong) == 1
    assert "docker_cache_nodes[m1] has nothing to sign in with" in wrong[0]
    assert access(nodes, {"SSH_AUTH_SOCK": "/run/agent"}, docker_cache_ssh_private_key="")[1] == []


def test_a_node_without_host_key_is_refused_unless_trust_is_asked_for_by_name() -> None:
    nodes: list[dict[str, object]] = [{"name": "m1", "host": "10.0.0.1", "kube_master": True}]
    assert "ssh-keyscan" in access(nodes)[1][0]
    assert access(nodes, docker_cache_ssh_trust_any_host_key="true")[1] == []


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "absent")
    nodes = [node("m1", "10.0.0.1", kube_master=True, private_key_path=path)]
    assert access(nodes)[1] == [
        f'docker_cache_nodes[m1].private_key_path is "{path}": the file can\'t be read: No such file or directory'
    ]


@pytest.mark.parametrize(
    "line", [HOST_KEY, f"10.0.0.1 {HOST_KEY}", f"{HOST_KEY} root@m1", f"[10.0.0.1]:22 {HOST_KEY}\n"]
)
def test_a_host_key_is_taken_from_every_form_that_openssh_writes(line: str) -> None:
    settings = load(configuration([{"name": "m1", "host": "10.0.0.1", "kube_master": True, "host_key": line}]).get)
    assert isinstance(settings, Settings)
    assert resolve(settings, ROOT, {}, [])[0].host_key == HOST_KEY


def cluster_of(**keys: str) -> tuple[cluster.Cluster | None, list[str]]:
    wrong: list[str] = []
    found = find_cluster(checked(**keys), ROOT, wrong)
    remember(wrong)
    return found, wrong


def test_the_context_is_never_the_current_one_by_accident() -> None:
    assert cluster_of(docker_cache_kube_context="staging") == (
        None,
        ['docker_cache_kube_context is "staging": docker_cache_kubeconfig has prod'],
    )


def test_a_kubeconfig_may_be_a_file_and_a_broken_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    found, wrong = cluster_of(docker_cache_kubeconfig=str(file))
    assert (found.context if found else None, wrong) == ("prod", [])
    file.write_text("nonsense")
    assert "is not a kubeconfig" in cluster_of(docker_cache_kubeconfig=str(file))[1][0]


@pytest.mark.parametrize(
    ("version", "is_old"),
    [
        ("v1.21.14", True),
        ("v1.22.0", False),
        ("v1.34.2", False),
        ("v1.9.1+k3s", True),
        ("v2.0.0", False),
        ("dev", True),
        ("", True),
    ],
)
def test_a_cluster_older_than_server_side_apply_is_refused(version: str, is_old: bool) -> None:
    problem = version_problem(version, checked())
    remember([problem or ""])
    assert (problem is not None) == is_old
    if problem:
        assert version in problem
        assert "1.22" in problem


@pytest.mark.parametrize(
    ("version", "masters", "is_old"), [("v1.26.9", 2, True), ("v1.27.0", 2, False), ("v1.26.9", 1, False)]
)
def test_fronts_on_several_masters_need_a_cluster_that_keeps_them_apart(
    version: str, masters: int, *, is_old: bool
) -> None:
    nodes = [{"name": f"m{n}", "host": f"10.0.0.{n}", "kube_master": "true"} for n in range(masters)]
    keys = {"docker_cache_nodes": json.dumps(nodes), "docker_cache_entries": "masters", "docker_cache_replicas": "2"}
    problem = version_problem(version, checked(docker_cache_allowed_cidrs='["10.0.0.0/8"]', **keys))
    remember([problem or ""])
    assert (problem is not None) == is_old
    assert version_problem(version, checked(**keys)) is None, "they need not be apart"


def held(name: str) -> cluster.Service:
    return cluster.Service(namespace="default", name=name, node_ports=frozenset({30500}))


def test_a_nodeport_that_somebody_else_has_is_named_with_the_remedy() -> None:
    settings = checked()
    assert cluster.node_port_problem([], settings) is None
    assert cluster.node_port_problem([held("docker-cache-30500")], settings) is None, "it is our own"
    problem = cluster.node_port_problem([held("web")], settings)
    assert problem == "the NodePort 30500 is taken by the Service default/web: set docker_cache_node_port to a free one"
    remember([problem])
    assert cluster.node_port_problem([held("web")], checked(docker_cache_node_port="30501")) is None


def test_openpais_own_cache_is_recognised_and_the_takeover_named() -> None:
    service = held("docker-registry-cache-service")
    problem = cluster.node_port_problem([service], checked())
    assert problem is not None
    assert "OpenPAI's own docker-cache: `make takeover STACK=…`" in problem
    (caution,) = cluster.predecessor_cautions([held("web"), service])
    remember([problem, caution])
    assert "(Service default/docker-registry-cache-service): `make takeover STACK=…`" in caution


def test_a_namespace_that_is_not_there_is_named_and_one_that_may_not_be_seen_is_no_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(status: int) -> str | None:
        def refuse(*_: object, **__: object) -> None:
            raise kubernetes.client.ApiException(status=status)

        monkeypatch.setattr(cluster, "get", refuse)
        return cluster.namespace_problem(kubernetes.client.ApiClient(), checked(docker_cache_namespace="images"))

    problem = answer(404)
    assert problem == 'docker_cache_namespace is "images": make it first with `kubectl create namespace images`'
    remember([problem])
    assert answer(403) is None
    with pytest.raises(kubernetes.client.ApiException):
        answer(500)


def test_a_service_is_read_as_the_api_gives_it() -> None:
    item = {
        "metadata": {"namespace": "a", "name": "b"},
        "spec": {"ports": [{"port": 80}, {"port": 5000, "nodePort": 30500}]},
    }
    assert cluster.as_service(item).node_ports == {30500}
    assert cluster.as_service(item | {"spec": {}}).node_ports == frozenset()


def certificate(text: str) -> list[str]:
    wrong: list[str] = []
    read_certificate(checked(docker_cache_entry="https://e", docker_cache_entry_ca=text), ROOT, wrong)
    remember(wrong)
    return wrong


def test_a_ca_is_a_path_or_a_text_and_is_looked_at_before_it_travels(tmp_path: Path) -> None:
    pem = Authority().certificate.decode()
    file = tmp_path / "ca.pem"
    file.write_text(pem)
    assert certificate(pem) == []
    assert certificate(str(file)) == []
    assert "the file can't be read" in certificate(str(tmp_path / "absent"))[0]
    assert certificate("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----") == [
        "docker_cache_entry_ca is not a certificate: give a file with -----BEGIN CERTIFICATE-----, or its text"
    ]
    (message,) = certificate(pem + PRIVATE_KEY)
    assert message.startswith("docker_cache_entry_ca holds a private key (its value is not shown)")
    assert PRIVATE_KEY.splitlines()[1] not in message


def test_a_cluster_that_does_not_answer_is_named_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(SettingsError, match='the cluster of docker_cache_kube_context "prod" does not answer'):
        read_stack(configuration().get, ROOT, {})


def test_problems_of_keys_files_and_cluster_come_together() -> None:
    nodes: list[dict[str, object]] = [{"name": "m1", "host": "10.0.0.1", "kube_master": True}]
    wrong = configuration(
        nodes,
        docker_cache_kube_context="x",
        docker_cache_remote_url="x",
        docker_cache_entry="https://e",
        docker_cache_entry_ca="absent",
    )
    with pytest.raises(SettingsError) as caught:
        read_stack(wrong.get, ROOT, {})
    assert len(caught.value.problems) == 4, caught.value.problems


def test_the_development_stack_is_valid() -> None:
    config = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())["config"]
    values = {
        key.removeprefix("docker-cache:"): value if isinstance(value, str) else json.dumps(value)
        for key, value in config.items()
    }
    assert isinstance(load(values.get), Settings)


@pytest.mark.parametrize(
    "text", ["SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8", "AAAAC3NzaC1lZDI1NTE5", "# none"]
)
def test_a_host_key_that_is_none_is_refused_and_never_means_trust(text: str) -> None:
    nodes: list[dict[str, object]] = [{"name": "m1", "host": "10.0.0.1", "kube_master": True, "host_key": text}]
    assert access(nodes)[1] == [f'docker_cache_nodes[m1].host_key is "{text}": use a line such as "ssh-ed25519 AAAA…"']


def test_a_secret_put_where_a_path_belongs_is_not_shown() -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True, private_key_path=PRIVATE_KEY)]
    (message,) = access(nodes)[1]
    assert "is not a path" in message
    assert "PRIVATE KEY" not in message
    encoded = base64.b64encode(KUBECONFIG.encode()).decode()
    (message,) = cluster_of(docker_cache_kubeconfig=encoded)[1]
    assert encoded not in message
    assert "is not a path" in message


def test_a_key_that_cannot_be_used_is_named_once_and_not_shown() -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True), node("w1", "10.0.0.2")]
    (message,) = access(nodes, docker_cache_ssh_private_key="-----BEGIN nonsense")[1]
    assert message.startswith("docker_cache_ssh_private_key is not a private key")
    assert "nonsense" not in message


def test_an_unknown_home_folder_is_a_message() -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True, private_key_path="~nobody-at-all/id")]
    assert "can't be read" in access(nodes)[1][0]


@pytest.mark.parametrize("broken", ["certificate-authority-data: '!'", "server: 5"])
def test_a_kubeconfig_that_cannot_be_used_is_a_message_without_its_text(broken: str) -> None:
    text = KUBECONFIG.replace('server: "https://127.0.0.1:1"', f'server: "https://127.0.0.1:1", {broken}')
    with pytest.raises(SettingsError) as caught:
        read_stack(configuration(docker_cache_kubeconfig=text).get, ROOT, {})
    assert "kubectl --context prod version" in str(caught.value)
    assert "kubeconfig-token" not in str(caught.value)


def test_the_entrys_host_is_kept_in_lower_case_as_docker_shows_it() -> None:
    assert checked(docker_cache_entry="Registry.Local:30500").entry == "http://registry.local:30500"
