"""What wins where several files speak of one machine, and what the nodes share."""

from pathlib import Path

import pytest

from importing.findings import ImportProblems
from importing.sources import find_sources
from tests.unit.import_files import CONFIG, HOSTS, LAYOUT, imported, nodes, values, write
from tests.unit.messages import remember


def test_layout_and_inventory_are_joined_by_name_and_the_inventory_wins_for_ssh(tmp_path: Path) -> None:
    hosts = HOSTS.replace("ansible_host: 10.0.0.2", "ansible_host: 192.168.0.2\n      ansible_port: 2222")
    result = imported(tmp_path, config=CONFIG, layout=LAYOUT, hosts=hosts)
    assert nodes(result)["pai-worker1"] == {"host": "192.168.0.2", "port": "2222"}
    assert nodes(result)["pai-worker2"]["host"] == "10.0.0.3", "only the layout has it"


def test_two_addresses_of_one_machine_are_reported(tmp_path: Path) -> None:
    hosts = HOSTS.replace("ansible_host: 10.0.0.2", "ansible_host: 192.168.0.2")
    result = imported(tmp_path, layout=LAYOUT, hosts=hosts)
    assert (
        'layout.yaml: machine-list[pai-worker1].hostip is "10.0.0.2", but hosts.yml: all.hosts.pai-worker1.ansible_host is '
        '"192.168.0.2": ssh goes to the latter'
    ) in result.ignored


def test_a_machine_that_one_file_does_not_have_is_reported_and_taken(tmp_path: Path) -> None:
    hosts = HOSTS.replace(
        "        pai-worker1:\n", "        pai-worker1:\n        extra: {ansible_host: 10.0.0.8}\n", 1
    )
    result = imported(tmp_path, layout=LAYOUT, hosts=hosts)
    assert "extra" in nodes(result)
    assert "extra: the layout does not list it; it is taken, since it is a Kubernetes node" in result.unusable
    assert "pai-worker2: the inventory does not have it; it is taken with what the layout says" in result.unusable


def test_a_master_in_one_file_only_is_a_master_and_is_reported(tmp_path: Path) -> None:
    layout = LAYOUT.replace(
        '    pai-worker: "true"\n  - hostname: pai-worker2', '    pai-master: "true"\n  - hostname: pai-worker2'
    )
    result = imported(tmp_path, layout=layout, hosts=HOSTS)
    assert nodes(result)["pai-worker1"]["kube_master"] == "true"
    assert "pai-worker1: a master in one of layout and inventory only; it is taken as a master" in result.ignored


def test_config_yamls_password_goes_to_its_own_user_only(tmp_path: Path) -> None:
    hosts = (
        HOSTS.replace("ansible_ssh_user: admin", "ansible_ssh_user: somebody")
        .replace("ansible_ssh_pass", "x")
        .replace("ansible_become_pass", "y")
    )
    taken = values(imported(tmp_path, config=CONFIG, hosts=hosts))
    assert taken["docker_cache_ssh_user"] == "somebody"
    assert "docker_cache_ssh_password" not in taken
    assert "docker_cache_ssh_sudo_password" not in taken


def test_what_most_nodes_share_is_the_stacks_and_the_others_say_their_own(tmp_path: Path) -> None:
    machines = "".join(
        f"- {{hostname: n{n}, hostip: 10.0.0.{n}, username: many, password: p, sshport: 2222}}\n" for n in range(3)
    )
    machines += "- {hostname: odd, hostip: 10.0.0.9, username: few, password: q, sshport: 22}\n"
    result = imported(tmp_path, layout=f"machine-list:\n{machines}")
    shared = {key: value for key, value in values(result).items() if key != "docker_cache_nodes"}
    assert shared == {
        "docker_cache_ssh_user": "many",
        "docker_cache_ssh_port": "2222",
        "docker_cache_ssh_password": "p",
        "docker_cache_ssh_sudo": "true",
        "docker_cache_ssh_sudo_password": "p",
    }
    assert nodes(result)["n1"] == {"host": "10.0.0.1"}
    assert nodes(result)["odd"] == {
        "host": "10.0.0.9",
        "user": "few",
        "port": "22",
        "password": "q",
        "sudo_password": "q",
    }


def test_a_node_that_says_no_port_and_no_user_has_the_defaults_and_not_the_others(tmp_path: Path) -> None:
    machines = "".join(f"- {{hostname: n{n}, hostip: 10.0.0.{n}, username: u, sshport: 2222}}\n" for n in range(2))
    result = imported(tmp_path, layout=f"machine-list:\n{machines}- {{hostname: plain, hostip: 10.0.0.9}}\n")
    assert values(result)["docker_cache_ssh_port"] == "2222"
    assert nodes(result)["plain"] == {"host": "10.0.0.9", "user": "root", "port": "22", "sudo": "false"}


def test_a_node_without_a_password_keeps_the_others_passwords_their_own(tmp_path: Path) -> None:
    machines = (
        "- {hostname: a, hostip: 10.0.0.1, username: u, password: p}\n- {hostname: b, hostip: 10.0.0.2, username: u}\n"
    )
    result = imported(tmp_path, layout=f"machine-list:\n{machines}")
    assert "docker_cache_ssh_password" not in values(result), "b would get it"
    assert nodes(result)["a"]["password"] == "p"


def test_a_node_with_a_key_of_its_own_says_its_password_too(tmp_path: Path) -> None:
    machines = "".join(f"- {{hostname: n{n}, hostip: 10.0.0.{n}, username: u, password: p}}\n" for n in range(2))
    machines += "- {hostname: k, hostip: 10.0.0.9, username: u, password: p, keyfile-path: /k}\n"
    taken = nodes(imported(tmp_path, layout=f"machine-list:\n{machines}"))
    assert taken["k"]["private_key_path"] == "/k"
    assert taken["k"]["password"] == "p", "a node's own credentials replace the stack's, all of them"


def test_without_any_user_root_is_taken_and_said(tmp_path: Path) -> None:
    result = imported(tmp_path, layout=LAYOUT)
    assert any(line.startswith("no file names a user: root is taken") for line in result.ignored)


def test_config_yaml_alone_leaves_the_nodes_alone(tmp_path: Path) -> None:
    assert imported(tmp_path, config=CONFIG).nodes is None


def test_problems_of_all_files_are_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ImportProblems) as error:
        imported(tmp_path, config="- a\n", layout="machine-list: []\n", hosts="all: x\n")
    assert [line.split(" ")[0].rstrip(":") for line in error.value.problems] == [
        "config.yaml",
        "layout.yaml",
        "hosts.yml",
    ]


def test_a_folder_has_its_files_and_its_cluster_id(tmp_path: Path) -> None:
    write(tmp_path, {"config.yaml": CONFIG, "layout.yaml": LAYOUT, "hosts.yml": HOSTS, "cluster-id": "pai\n"})
    found = find_sources(config=str(tmp_path))
    assert [path.name for path in (found.config, found.layout, found.hosts) if path] == [
        "config.yaml",
        "layout.yaml",
        "hosts.yml",
    ]
    assert found.cluster_id == "pai"


def test_a_named_file_goes_before_the_folders(tmp_path: Path) -> None:
    write(
        tmp_path, {"a/config.yaml": CONFIG, "a/layout.yaml": LAYOUT, "b/other.yaml": LAYOUT, "c/inventory.yml": HOSTS}
    )
    found = find_sources(
        folder=str(tmp_path / "a"), layout=str(tmp_path / "b/other.yaml"), hosts=str(tmp_path / "c"), cluster_id="x"
    )
    assert found.layout == tmp_path / "b/other.yaml"
    assert found.hosts == tmp_path / "c/inventory.yml", "kubespray's inventories are folders"
    assert found.cluster_id == "x"


def test_every_file_that_is_not_there_is_named_with_its_variable(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportProblems) as error:
        find_sources(
            config="/nowhere/c.yaml", layout="/nowhere/l.yaml", hosts=str(tmp_path / "empty"), folder="/nowhere"
        )
    remember([str(error.value)])
    assert [line.split(" ")[0] for line in error.value.problems] == ["FOLDER", "CONFIG", "LAYOUT", "HOSTS"]


@pytest.mark.parametrize("folder", [None, "empty"])
def test_nothing_to_import_is_an_error_with_the_variables(folder: str | None, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportProblems, match=r"nothing to import|it has none of") as error:
        find_sources(folder=str(tmp_path / folder) if folder else None)
    remember([str(error.value)])
