"""config.yaml of OpenPAI: the section of docker-cache, the login, and what is left out."""

from pathlib import Path

import pytest

from importing.findings import ImportProblems
from importing.result import Secret
from tests.unit.import_files import AZURE_CONFIG, CONFIG, FILESYSTEM_CONFIG, LAYOUT, imported, values


def test_the_manuals_example_with_azure_is_taken_key_for_key(tmp_path: Path) -> None:
    result = imported(tmp_path, config=AZURE_CONFIG)
    assert values(result) == {
        "enable_docker_cache": "true",
        "docker_cache_storage_backend": "azure",
        "docker_cache_azure_account_name": "forexample",
        "docker_cache_azure_account_key": "forexample",
        "docker_cache_ssh_user": "forexample",
        "docker_cache_ssh_password": "forexample",
        "docker_cache_ssh_sudo": "true",
        "docker_cache_ssh_sudo_password": "forexample",
    }


def test_the_manuals_example_with_the_file_system_is_taken_key_for_key(tmp_path: Path) -> None:
    taken = values(imported(tmp_path, config=FILESYSTEM_CONFIG))
    assert taken["docker_cache_storage_backend"] == "filesystem"
    assert taken["docker_cache_fs_mount_path"] == "/var/lib/registry"
    assert "docker_cache_azure_account_name" not in taken


def test_the_manuals_placeholders_are_imported_and_reported(tmp_path: Path) -> None:
    result = imported(tmp_path, config=AZURE_CONFIG)
    assert 'config.yaml: user is "forexample", the placeholder of OpenPAI\'s manual' in result.unusable


def test_keys_and_passwords_are_secrets_and_the_others_are_not(tmp_path: Path) -> None:
    result = imported(tmp_path, config=AZURE_CONFIG + "docker_cache_htpasswd: eDp5\n")
    secret = {setting.key for setting in result.settings if isinstance(setting.value, Secret)}
    assert secret == {
        "docker_cache_azure_account_key",
        "docker_cache_htpasswd",
        "docker_cache_ssh_password",
        "docker_cache_ssh_sudo_password",
    }


@pytest.mark.parametrize(
    ("alias", "key"),
    [
        ("docker_azure_account_name", "docker_cache_azure_account_name"),
        ("docker_azure_account_key", "docker_cache_azure_account_key"),
        ("docker_cache_registry_htpasswd", "docker_cache_htpasswd"),
    ],
)
def test_the_other_names_of_keys_are_taken_as_the_main_ones(alias: str, key: str, tmp_path: Path) -> None:
    assert values(imported(tmp_path, config=f"{alias}: abcd\n"))[key] == "abcd"


def test_two_names_of_one_key_with_two_values_are_refused_and_a_secret_is_not_shown(tmp_path: Path) -> None:
    text = "docker_azure_account_key: first-secret\ndocker_cache_azure_account_key: second-secret\n"
    text += "docker_azure_account_name: one\ndocker_cache_azure_account_name: two\n"
    with pytest.raises(ImportProblems) as error:
        imported(tmp_path, config=text)
    assert len(error.value.problems) == 2, "both keys, at once"
    assert '"two" and config.yaml: docker_azure_account_name "one"' in str(error.value)
    assert "-secret" not in str(error.value)


def test_the_same_value_under_both_names_is_one(tmp_path: Path) -> None:
    text = "docker_azure_account_name: one\ndocker_cache_azure_account_name: one\n"
    assert values(imported(tmp_path, config=text)) == {"docker_cache_azure_account_name": "one"}


def test_the_login_of_config_yaml_is_that_of_the_nodes(tmp_path: Path) -> None:
    taken = values(imported(tmp_path, config=CONFIG + "ssh_key_file_path: /root/.ssh/id_rsa\n", layout=LAYOUT))
    assert taken["docker_cache_ssh_user"] == "admin"
    assert taken["docker_cache_ssh_password"] == "pass-of-admin"
    assert taken["docker_cache_ssh_private_key_path"] == "/root/.ssh/id_rsa"
    assert taken["docker_cache_ssh_sudo"] == "true", "OpenPAI's playbooks become root"
    assert taken["docker_cache_ssh_sudo_password"] == "pass-of-admin"


def test_root_needs_no_sudo(tmp_path: Path) -> None:
    taken = values(imported(tmp_path, config="user: root\npassword: x\n", layout=LAYOUT))
    assert not {"docker_cache_ssh_sudo", "docker_cache_ssh_sudo_password"} & set(taken)


def test_nothing_that_is_empty_is_taken(tmp_path: Path) -> None:
    assert values(imported(tmp_path, config='password: ""\ndocker_cache_htpasswd: ""\nuser:\n')) == {}


def test_the_path_of_dockers_configuration_is_found_on_each_node(tmp_path: Path) -> None:
    (line,) = imported(tmp_path, config="docker_config_file_path: /etc/docker/daemon.json\n").ignored
    assert "found on each node by itself" in line
    assert "OpenPAI" not in line
    (other,) = imported(tmp_path, config="docker_config_file_path: /data/docker.json\n").ignored
    assert '"/data/docker.json" is not what OpenPAI\'s own docker-cache writes' in other


def test_keys_that_are_not_taken_are_listed_without_their_values(tmp_path: Path) -> None:
    text = CONFIG + "docker_registry_password: not-to-be-shown\nhttp_proxy: http://u:not-to-be-shown@p:1\n"
    result = imported(tmp_path, config=text)
    listed = "\n".join(result.ignored)
    assert "docker_registry_password (of OpenPAI's own images" in listed
    assert "http_proxy (set docker_cache_http_proxy" in listed
    assert "config.yaml: docker_image_tag" in result.ignored
    assert "not-to-be-shown" not in listed


def test_a_misspelt_key_is_named_with_what_was_meant(tmp_path: Path) -> None:
    result = imported(tmp_path, config="docker_cache_fs_mount_pth: /mnt\n")
    assert (
        "config.yaml: docker_cache_fs_mount_pth is not known: did you mean docker_cache_fs_mount_path?"
        in result.unusable
    )


def test_services_configuration_has_the_same_section_under_shorter_names(tmp_path: Path) -> None:
    (tmp_path / "services-configuration.yaml").write_text(
        "cluster:\n  common:\n    cluster-id: pai\n"
        "docker-cache:\n  enabled: true\n  storage_backend: azure\n  azure_account_name: acc\n  azure_account_key: abcd\n"
        "  azure_container_name: dockerregistry\n  remote_url: https://registry-1.docker.io\n  registry_htpasswd: ''\n"
    )
    assert values(imported(tmp_path, layout=LAYOUT)) | {"docker_cache_nodes": None} == {
        "enable_docker_cache": "true",
        "docker_cache_storage_backend": "azure",
        "docker_cache_azure_account_name": "acc",
        "docker_cache_azure_account_key": "abcd",
        "docker_cache_azure_container_name": "dockerregistry",
        "docker_cache_remote_url": "https://registry-1.docker.io",
        "docker_cache_nodes": None,
    }


def test_a_section_that_is_no_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportProblems, match="docker-cache is not a map of keys"):
        imported(tmp_path, config="docker-cache: true\n")


def test_docker_cache_host_is_a_registry_of_ones_own_unless_it_is_the_cache(tmp_path: Path) -> None:
    taken = values(imported(tmp_path, config="docker_cache_host: http://10.9.9.9:5000\n", layout=LAYOUT))
    assert taken["docker_cache_custom_registry"] == "10.9.9.9:5000"
    taken = values(imported(tmp_path, config="docker_cache_host: 10.0.0.1:30500\n", layout=LAYOUT))
    assert "docker_cache_custom_registry" not in taken


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("user: a\nuser: b\n", 'its line 2 has the key "user" a second time'),
        ("user: [a\n", "is not YAML: line 2"),
        ("- a\n- b\n", "is not a map of keys"),
        ("user: !!python/name:os.system x\n", "is not YAML"),
        ("$ANSIBLE_VAULT;1.1;AES256\n3061\n", "is encrypted by ansible-vault"),
        ("user: \x00\n", "is not YAML"),
    ],
)
def test_a_file_that_is_not_right_is_refused_with_the_place(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ImportProblems, match=problem):
        imported(tmp_path, config=text)


def test_a_broken_file_does_not_show_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ImportProblems) as error:
        imported(tmp_path, config="password: 'geheim\nuser: &x *geheim\n")
    assert "geheim" not in str(error.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "layout.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImportProblems, match="is not text in UTF-8"):
        imported(tmp_path, config=CONFIG)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('\'{{ lookup("env", "PW") }}\'', "is a template"),
        ("!vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3061", "is encrypted by ansible-vault"),
        ("2020-01-01", "is a date"),
        ("[a, b]", "is no single value"),
    ],
)
def test_a_value_that_cannot_be_known_is_reported_by_name_and_not_guessed(
    value: str, reason: str, tmp_path: Path
) -> None:
    result = imported(tmp_path, config=f"user: admin\npassword: {value}\n")
    assert any(line.startswith(f"config.yaml: password {reason}") for line in result.unusable)
    assert "docker_cache_ssh_password" not in values(result)


def test_an_unsafe_value_is_text_even_with_braces(tmp_path: Path) -> None:
    assert (
        values(imported(tmp_path, config="user: admin\npassword: !unsafe 'a{{b'\n"))["docker_cache_ssh_password"]
        == "a{{b"
    )
