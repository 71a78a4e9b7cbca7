"""Rules that span keys, and the htpasswd file."""

import json
from pathlib import Path

import pytest

from settings.azure import read_account_key
from settings.htpasswd import parse_htpasswd
from settings.loading import SettingsError, load
from settings.model import Settings
from settings.upstreams import folder, label, slug
from tests.unit.messages import remember
from tests.unit.stacks import BCRYPT, HTPASSWD, configuration, htpasswd, node


def problems(**keys: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(configuration(**keys).get)
    return caught.value.problems


def checked(nodes: list[dict[str, object]] | None = None, /, **keys: str) -> Settings:
    settings = load(configuration(nodes, **keys).get)
    assert isinstance(settings, Settings)
    return settings


def test_azure_keys_are_needed_with_azure_alone() -> None:
    assert problems(docker_cache_storage_backend="azure") == [
        'docker_cache_azure_account_name is missing: docker_cache_storage_backend "azure" needs it (or use "filesystem")',
        'docker_cache_azure_account_key is missing: docker_cache_storage_backend "azure" needs it (or use "filesystem")',
    ]
    assert checked(docker_cache_azure_account_name="account").docker_cache_storage_backend == "filesystem"


AZURE = {"docker_cache_storage_backend": "azure", "docker_cache_azure_account_name": "account"}


def test_an_account_that_is_created_has_no_key_to_give_and_needs_a_place() -> None:
    assert problems(docker_cache_azure_create_account="true", **AZURE) == [
        "docker_cache_azure_location is missing: docker_cache_azure_create_account needs it, such as westeurope"
    ]
    key = {"docker_cache_azure_account_key": "QUJD"}
    created = {"docker_cache_azure_create_account": "true", "docker_cache_azure_location": "westeurope"}
    assert checked(**created, **AZURE).docker_cache_azure_create_account
    (message,) = problems(**created, **key, **AZURE)
    assert message.startswith("docker_cache_azure_account_key is set, but nothing uses it")
    (message,) = problems(docker_cache_azure_auth="managed_identity", **key, **AZURE)
    assert message.startswith("docker_cache_azure_account_key is set, but nothing uses it")
    assert checked(docker_cache_azure_auth="managed_identity", **AZURE)


def test_the_networks_that_azure_takes_are_taken_as_they_are() -> None:
    networks = '["203.0.113.7", "203.0.113.4/30", "172.32.0.0/16", "8.0.0.0/8"]'
    created = {"docker_cache_azure_create_account": "true", "docker_cache_azure_location": "westeurope"}
    settings = checked(docker_cache_azure_allowed_networks=networks, **created, **AZURE)
    assert list(settings.docker_cache_azure_allowed_networks) == json.loads(networks)


def test_which_key_is_used_can_be_chosen_where_it_is_read_from_azure_alone() -> None:
    created = {"docker_cache_azure_create_account": "true", "docker_cache_azure_location": "westeurope"}
    second = {"docker_cache_azure_account_key_name": "key2"}
    assert checked(**second, **created, **AZURE).docker_cache_azure_account_key_name == "key2"
    (message,) = problems(docker_cache_azure_account_key="QUJD", **second, **AZURE)
    assert message.startswith("docker_cache_azure_account_key_name is key2, but no key is read from Azure")
    (message,) = problems(docker_cache_azure_auth="managed_identity", **second, **created, **AZURE)
    assert message.startswith("docker_cache_azure_account_key_name is key2, but no key is read from Azure")


def test_an_identitys_token_goes_over_https_alone() -> None:
    identity = {"docker_cache_azure_auth": "managed_identity"}
    (message,) = problems(docker_cache_azure_service_url="http://10.0.0.5:10000/account", **identity, **AZURE)
    assert message.startswith("docker_cache_azure_service_url is http://10.0.0.5:10000/account: an identity's token")
    assert checked(docker_cache_azure_service_url="https://10.0.0.5/account", **identity, **AZURE)


def test_what_only_a_created_account_can_have_is_refused_for_another() -> None:
    found = problems(docker_cache_azure_account_key="QUJD", docker_cache_azure_allowed_networks='["203.0.113.0/24"]', docker_cache_azure_delete_unread_after_days="9", **AZURE)  # fmt: skip
    assert len(found) == 2
    assert all("the account is not ours to change" in line for line in found)


def test_azures_keys_count_for_nothing_with_another_backend() -> None:
    left_over = {
        "docker_cache_azure_create_account": "true",
        "docker_cache_azure_allowed_networks": '["203.0.113.0/24"]',
    }
    assert checked(**left_over).docker_cache_storage_backend == "filesystem"


def test_azures_keys_are_not_needed_where_no_cache_is_installed() -> None:
    settings = checked(docker_cache_storage_backend="azure", docker_cache_custom_registry="10.0.0.9:5000")
    assert not settings.is_on_azure


def test_a_folder_needs_a_master_even_where_the_entry_is_given() -> None:
    nodes = json.dumps([node("w1", "10.0.0.2")])
    (message,) = problems(docker_cache_nodes=nodes, docker_cache_entry="10.0.0.9:30500")
    assert message.endswith("since the cache's folder lies on the first master (or set docker_cache_fs_storage_class)")


def test_the_key_and_its_file_are_one_too_many() -> None:
    assert problems(docker_cache_azure_account_key="QUJD", docker_cache_azure_account_key_path="key", **AZURE) == [
        "docker_cache_azure_account_key and docker_cache_azure_account_key_path are both set: keep one of the two"
    ]


def test_a_key_file_is_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "key"
    settings = checked(docker_cache_azure_account_key_path=str(file), **AZURE)
    wrong: list[str] = []
    assert read_account_key(settings, tmp_path, wrong) is None
    file.write_text("not base64")
    assert read_account_key(settings, tmp_path, wrong) is None
    remember(wrong)
    assert "the file can't be read" in wrong[0]
    assert wrong[1].startswith(f'docker_cache_azure_account_key_path is "{file}": it is not base64')
    file.write_text("\n")
    empty: list[str] = []
    assert read_account_key(settings, tmp_path, empty) is None
    remember(empty)
    assert "it is empty" in empty[0]
    file.write_text("QUJD\n")
    assert read_account_key(settings, tmp_path, []) == "QUJD"


def test_the_blob_services_address_follows_the_cloud() -> None:
    azure = {"docker_cache_azure_account_key": "QUJD", **AZURE}
    assert checked(**azure).blob_service_url == "https://account.blob.core.windows.net"
    china = checked(docker_cache_azure_realm="core.chinacloudapi.cn", **azure)
    assert china.blob_service_url == "https://account.blob.core.chinacloudapi.cn"
    private = checked(docker_cache_azure_service_url="https://private.example/", **azure)
    assert private.blob_service_url == "https://private.example"


def test_upstream_credentials_come_both_or_not_at_all() -> None:
    assert problems(docker_cache_remote_username="u") == [
        "docker_cache_remote_password is missing: docker_cache_remote_username is set, and the upstream takes both or none"
    ]
    assert problems(docker_cache_remote_password="p") == [
        "docker_cache_remote_username is missing: docker_cache_remote_password is set, and the upstream takes both or none"
    ]
    assert problems(docker_cache_entry="https://e", docker_cache_entry_username="u") == [
        "docker_cache_entry_password is missing: docker_cache_entry_username is set, and the entry takes both or none"
    ]
    assert checked(docker_cache_remote_username="u", docker_cache_remote_password="p").docker_cache_remote_username


def test_htpasswd_over_plain_http_is_an_error_with_the_reason_unless_accepted_by_name() -> None:
    (message,) = problems(docker_cache_htpasswd=HTPASSWD)
    assert "Docker Hub password" in message, "the reason is missing"
    assert "docker_cache_htpasswd_over_plain_http" in message
    assert checked(docker_cache_htpasswd=HTPASSWD, docker_cache_htpasswd_over_plain_http="yes")
    assert checked(docker_cache_htpasswd=HTPASSWD, docker_cache_entry="https://cache.example")


def test_a_certificate_belongs_to_an_https_entry_that_is_verified() -> None:
    (message,) = problems(docker_cache_entry_ca="ca.pem")
    assert message.startswith("docker_cache_entry_ca is set, but the entry http://10.0.0.1:30500 is plain http")
    both = {"docker_cache_entry_ca": "ca.pem", "docker_cache_entry_insecure": "true"}
    (message,) = problems(docker_cache_entry="https://e", **both)
    assert message.startswith("docker_cache_entry_ca and docker_cache_entry_insecure are both set")


def test_a_custom_registry_needs_neither_cluster_nor_master() -> None:
    settings = checked(
        [node("w1", "10.0.0.2")], docker_cache_custom_registry="10.0.0.9:5000", docker_cache_kube_context=""
    )
    assert settings.entry == "http://10.0.0.9:5000"
    assert settings.upstream == "https://registry-1.docker.io"


def test_a_custom_registry_beside_an_entry_of_the_cache_is_an_error() -> None:
    (message,) = problems(docker_cache_custom_registry="10.0.0.9:5000", docker_cache_entry="10.0.0.8:5000")
    assert message.startswith(
        'docker_cache_custom_registry is "http://10.0.0.9:5000" and docker_cache_entry is "http://10.0.0.8:5000": keep one'
    )


@pytest.mark.parametrize("key", ["docker_cache_custom_registry", "docker_cache_entry"])
def test_entries_beside_the_one_entry_of_all_nodes_are_an_error(key: str) -> None:
    (message,) = problems(**{key: "10.0.0.9:5000"}, docker_cache_entries="masters")
    assert message == (
        f'docker_cache_entries is "masters" and {key} is "http://10.0.0.9:5000", which all nodes get: keep one of the two'
    )


def test_a_claim_that_exists_and_a_class_for_a_new_one_are_an_error() -> None:
    (message,) = problems(docker_cache_fs_claim="kept", docker_cache_fs_storage_class="nfs")
    assert message.startswith('docker_cache_fs_claim is "kept" and docker_cache_fs_storage_class is "nfs": keep one')


def test_the_entry_has_the_port_of_the_service() -> None:
    assert checked(docker_cache_node_port="30600").entry == "http://10.0.0.1:30600"


def test_bcrypt_users_count_and_others_are_named() -> None:
    parsed = parse_htpasswd(htpasswd("# people", f"alice:{BCRYPT}", "", "bob:{SHA}x", "carol:$2y$05$short"))
    assert parsed.users == ("alice",)
    assert parsed.ignored == ("bob", "carol")


@pytest.mark.parametrize("variant", ["2a", "2b", "2y"])
def test_every_variant_of_bcrypt_that_go_takes_counts(variant: str) -> None:
    assert parse_htpasswd(htpasswd(f"a:{BCRYPT.replace('2y', variant)}")).users == ("a",)


def test_base64_may_be_folded_as_the_command_writes_it() -> None:
    assert parse_htpasswd(HTPASSWD[:40] + "\n" + HTPASSWD[40:]).users == ("alice",)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        ("***", "it is not the base64 of a text file: use `base64 --wrap=0 htpasswd`"),
        ("/////w==", "it is not the base64 of a text file: use `base64 --wrap=0 htpasswd`"),
        (htpasswd("no colon"), "its line 1 is not `user:hash`: write it with `htpasswd -B`"),
        (htpasswd(f"a:{BCRYPT}", "b:c:d"), "its line 2 is not `user:hash`: write it with `htpasswd -B`"),
        (htpasswd(f":{BCRYPT}"), "its line 1 is not `user:hash`: write it with `htpasswd -B`"),
        (
            htpasswd("a:{SHA}x"),
            "it has no bcrypt entry, and the registry ignores all others: write it with `htpasswd -B`",
        ),
        (
            htpasswd("# empty"),
            "it has no bcrypt entry, and the registry ignores all others: write it with `htpasswd -B`",
        ),
        (htpasswd(f"a:{BCRYPT}", f"a:{BCRYPT}"), 'it has the user "a" twice: keep one line'),
    ],
)
def test_a_file_that_would_not_work_is_refused_with_the_reason(encoded: str, message: str) -> None:
    found = problems(docker_cache_htpasswd=encoded, docker_cache_htpasswd_over_plain_http="true")
    assert found == [f"docker_cache_htpasswd is wrong (its value is not shown): {message}"]


def test_every_problem_of_the_file_is_told_at_once_and_no_hash_is_shown() -> None:
    found = problems(docker_cache_htpasswd=htpasswd("x", "y", f"a:{BCRYPT}", f"a:{BCRYPT}"))
    assert len(found) == 3
    assert BCRYPT not in "".join(found)


def test_credentials_for_an_entry_over_plain_http_are_refused_unless_that_is_accepted_by_name() -> None:
    both = {"docker_cache_entry_username": "u", "docker_cache_entry_password": "p"}
    (message,) = problems(**both)
    assert message.startswith("docker_cache_entry_username is set, but the entry http://10.0.0.1:30500 is plain http")
    assert checked(docker_cache_htpasswd_over_plain_http="true", **both).docker_cache_entry_username
    assert checked(docker_cache_entry="https://e", **both).docker_cache_entry_username


def test_a_stack_without_any_engine_is_refused() -> None:
    assert problems(docker_cache_engines="[]") == [
        "docker_cache_engines is empty: name the engines that get the mirror, or leave the key out for all"
    ]


def test_a_canary_is_a_node_that_is_there() -> None:
    assert problems(docker_cache_canary="w9") == [
        'docker_cache_canary is "w9", which is not in docker_cache_nodes: use the name of a node'
    ]
    assert problems(docker_cache_canary="w1", docker_cache_forget_nodes='["w1"]') == [
        'docker_cache_canary is "w1", which docker_cache_forget_nodes has too: use the name of another node'
    ]


def test_a_forgotten_node_is_still_in_the_list() -> None:
    (message,) = problems(docker_cache_forget_nodes='["w1", "w9"]')
    assert message.startswith('docker_cache_forget_nodes has "w9", which is not in docker_cache_nodes')


def test_a_cluster_whose_masters_are_all_gone_has_no_entry_and_no_folder() -> None:
    (message,) = problems(docker_cache_forget_nodes='["m1"]')
    assert message.startswith("docker_cache_nodes names no master that is not forgotten: set kube_master: true")


def test_a_forgotten_nodes_address_may_be_anothers_now() -> None:
    nodes = [node("m1", "10.0.0.1", kube_master=True), node("w1", "10.0.0.2"), node("w2", "10.0.0.2")]
    assert problems(docker_cache_nodes=json.dumps(nodes)) == [
        'docker_cache_nodes has "10.0.0.2:22" twice: list each node once'
    ]
    assert checked(nodes, docker_cache_forget_nodes='["w1"]').canary == "w2"


@pytest.mark.parametrize(
    ("text", "of_three", "of_thousand"), [("4", 4, 4), ("10%", 1, 100), ("25 %", 1, 250), ("34%", 2, 340), ("0", 0, 0), ("100%", 3, 1000)]
)  # fmt: skip
def test_a_share_of_the_nodes_is_rounded_up(text: str, of_three: int, of_thousand: int) -> None:
    amount = checked(docker_cache_max_failures=text).docker_cache_max_failures
    assert (amount.of(3), amount.of(1000)) == (of_three, of_thousand)


def upstream_problems(*listed: object) -> list[str]:
    return problems(docker_cache_upstreams=json.dumps(listed))


def test_upstreams_are_hosts_or_maps_with_one() -> None:
    settings = checked(docker_cache_upstreams='["ghcr.io", {"host": "quay.io", "url": "https://quay.example"}]')
    assert [(upstream.host, upstream.remote_url) for upstream in settings.upstreams] == [
        ("docker.io", "https://registry-1.docker.io"),
        ("ghcr.io", "https://ghcr.io"),
        ("quay.io", "https://quay.example"),
    ], "Docker Hub is always served, and first"
    assert upstream_problems("nothost/x", {"url": "https://u"}, 5) == [
        'docker_cache_upstreams[0].host is "nothost/x": use the registry\'s host as images name it, such as ghcr.io or registry.example:5000',
        "docker_cache_upstreams[1].host is missing: each upstream needs it, see docs/configuration.md",
        'docker_cache_upstreams[2] is "5": write a host such as ghcr.io, or a map with host, see docs/configuration.md',
    ]


def test_each_upstream_is_served_once_and_docker_hub_always_is() -> None:
    assert upstream_problems("ghcr.io", {"host": "ghcr.io", "url": "https://other"}) == [
        'docker_cache_upstreams has "ghcr.io" twice: list each registry once'
    ]
    for host in ("docker.io", "registry-1.docker.io", "index.docker.io"):
        (message,) = upstream_problems(host)
        assert message.startswith(f'docker_cache_upstreams has "{host}", which is Docker Hub and is always served')
    (message,) = upstream_problems("a.example:5000", "a-example.5000")
    assert message.startswith('docker_cache_upstreams has "a.example:5000" and "a-example.5000", whose objects')


@pytest.mark.parametrize(("given", "missing"), [("username", "password"), ("password", "username")])
def test_an_upstream_takes_a_user_with_a_password(given: str, missing: str) -> None:
    (message,) = upstream_problems("quay.io", {"host": "ghcr.io", given: "the-secret"})
    assert message == (
        f"docker_cache_upstreams[ghcr.io].{missing} is missing: docker_cache_upstreams[ghcr.io].{given} is set, and the "
        "upstream takes both or none"
    )


def test_what_is_called_after_a_host_is_short_enough_for_kubernetes_and_tells_hosts_apart() -> None:
    assert (slug("registry.example:5000"), label("registry.example:5000"), folder("registry.example:5000")) == ("registry-example-5000", "registry.example-5000", "registry.example-5000")  # fmt: skip
    long = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
    assert len(slug(long)) <= 41
    assert slug(long) != slug(long.replace("com", "org"))
    assert len(label("a" * 100 + ".example")) == 63


MASTERS = [node("m1", "10.0.0.1", kube_master=True), node("m2", "10.0.0.2", kube_master=True)]


def test_allowed_networks_need_a_front_at_each_address_that_is_an_entry() -> None:
    cidrs = {"docker_cache_allowed_cidrs": '["10.0.0.0/8"]'}
    (message,) = problems(docker_cache_entries="node", **cidrs)
    assert message.endswith('use "master" or "masters"')
    both = {"docker_cache_nodes": json.dumps(MASTERS), "docker_cache_entries": "masters", **cidrs}
    (message,) = problems(**both)
    assert message.endswith("set docker_cache_replicas to 2, one for each master")
    assert checked(MASTERS, docker_cache_entries="masters", docker_cache_replicas="2", **cidrs)
    assert checked(MASTERS, docker_cache_entries="masters"), "without networks nobody's address counts"
    assert checked(**cidrs)


def test_on_azure_the_bounds_are_azures_own() -> None:
    key = {"docker_cache_azure_account_key": "QUJD"}
    first, second = problems(docker_cache_ttl="30d", docker_cache_fs_max_size="1Ti", **key, **AZURE)
    assert first.startswith(
        "docker_cache_ttl is set, but the images lie on Azure, where the cache itself removes nothing: "
    )
    assert second.startswith("docker_cache_fs_max_size is set, but the images lie on Azure, which has room for all: ")
    assert checked(docker_cache_ttl="30d", docker_cache_fs_max_size="1Ti").docker_cache_ttl == 30 * 86400


def test_a_bound_that_a_claim_has_no_room_for_is_none() -> None:
    claim = {"docker_cache_fs_storage_class": "fast", "docker_cache_fs_size": "100Gi"}
    (message,) = problems(docker_cache_fs_max_size="90Gi", **claim)
    assert message == (
        "docker_cache_fs_max_size is 90Gi, but the claim has 100Gi (docker_cache_fs_size), of which docker_cache_fs_min_free "
        "leaves 85% to the cache: it would stop storing before it makes room; use less"
    )
    assert checked(docker_cache_fs_max_size="85Gi", **claim)
    assert checked(docker_cache_fs_max_size="90Gi", docker_cache_fs_min_free="5%", **claim)
    assert checked(docker_cache_fs_max_size="5Ti"), "how large a disk is that is there already, nobody knows here"
