"""kubespray's hosts.yml: groups, variables, their order of precedence, and the files beside it."""

import json
from pathlib import Path

import pytest

from importing.findings import ImportProblems
from importing.host_names import expand
from importing.result import Secret
from tests.unit.import_files import HOSTS, imported, nodes, values, write

NEW_SPELLING = """\
all:
  vars:
    ansible_user: kube
  hosts:
    node1: {ansible_host: 95.54.0.12, ip: 10.3.0.1, access_ip: 10.3.0.1}
    node2: {ansible_host: 95.54.0.13, ip: 10.3.0.2, access_ip: 10.3.0.2}
    node3: {ansible_host: 95.54.0.14, ip: 10.3.0.3, access_ip: 10.3.0.3}
  children:
    kube_control_plane:
      hosts: {node1: {}, node2: {}}
    kube_node:
      hosts: {node2: {}, node3: {}}
    etcd:
      hosts: {node1: {}}
    k8s_cluster:
      children: {kube_control_plane: {}, kube_node: {}}
    calico_rr:
      hosts: {}
"""


def with_groups(hosts: str, more: str = "") -> str:
    """An inventory of these hosts, all of them Kubernetes nodes."""
    names = [line.split(":")[0].strip() for line in hosts.splitlines() if line.startswith("    ") and line[4] != " "]
    listed = "".join(f"        {name}:\n" for name in names)
    return f"all:\n  hosts:\n{hosts}{more}  children:\n    kube_node:\n      hosts:\n{listed}"


def test_openpais_own_inventory_gives_addresses_login_and_masters(tmp_path: Path) -> None:
    result = imported(tmp_path, hosts=HOSTS)
    assert nodes(result) == {
        "pai-master": {"host": "10.0.0.1", "kube_master": "true"},
        "pai-worker1": {"host": "10.0.0.2"},
    }
    assert values(result)["docker_cache_ssh_user"] == "admin"
    assert values(result)["docker_cache_ssh_password"] == "pass-of-admin"
    assert values(result)["docker_cache_ssh_sudo_password"] == "pass-of-admin"


@pytest.mark.parametrize("group", ["kube-master", "kube_master", "kube_control_plane", "kube-control-plane"])
def test_every_spelling_of_the_masters_group_is_known(group: str, tmp_path: Path) -> None:
    result = imported(tmp_path, hosts=HOSTS.replace("kube-master", group))
    assert nodes(result)["pai-master"]["kube_master"] == "true"


def test_masters_come_first_and_the_new_spelling_is_known(tmp_path: Path) -> None:
    taken = nodes(imported(tmp_path, hosts=NEW_SPELLING))
    assert list(taken) == ["node1", "node2", "node3"]
    assert [name for name, node in taken.items() if "kube_master" in node] == ["node1", "node2"]


def test_where_ssh_goes_elsewhere_the_entry_is_the_masters_own_address(tmp_path: Path) -> None:
    taken = values(imported(tmp_path, hosts=NEW_SPELLING))
    assert taken["docker_cache_nodes"][0]["host"] == "95.54.0.12"
    assert taken["docker_cache_entry"] == "10.3.0.1:30500"
    assert "docker_cache_entry" not in values(imported(tmp_path, hosts=HOSTS))


def test_hosts_outside_the_groups_of_kubernetes_are_left_out_and_named(tmp_path: Path) -> None:
    result = imported(
        tmp_path, hosts=NEW_SPELLING.replace("{node1: {}}", "{node1: {}, etcd1: {ansible_host: 10.3.0.9}}")
    )
    assert "etcd1" not in nodes(result)
    assert "etcd1: only the inventory has it, and in no group of Kubernetes' nodes" in result.ignored


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("ansible_user", "docker_cache_ssh_user", "u1"),
        ("ansible_ssh_user", "docker_cache_ssh_user", "u1"),
        ("ansible_port", "docker_cache_ssh_port", "2022"),
        ("ansible_ssh_port", "docker_cache_ssh_port", "2022"),
        ("ansible_password", "docker_cache_ssh_password", "p1"),
        ("ansible_ssh_pass", "docker_cache_ssh_password", "p1"),
        ("ansible_ssh_private_key_file", "docker_cache_ssh_private_key_path", "~/.ssh/k"),
        ("ansible_private_key_file", "docker_cache_ssh_private_key_path", "~/.ssh/k"),
        ("ansible_become_password", "docker_cache_ssh_sudo_password", "p2"),
        ("ansible_become_pass", "docker_cache_ssh_sudo_password", "p2"),
        ("ansible_sudo_pass", "docker_cache_ssh_sudo_password", "p2"),
    ],
)
def test_every_name_of_a_variable_is_known(name: str, key: str, value: str, tmp_path: Path) -> None:
    host = f"    n1:\n      ansible_host: 10.0.0.1\n      {name}: {value}\n"
    user = "" if key.endswith("_user") else "      ansible_user: someone\n"
    assert values(imported(tmp_path, hosts=with_groups(host + user)))[key] == value


@pytest.mark.parametrize("name", ["ansible_host", "ansible_ssh_host"])
def test_every_name_of_the_address_is_known(name: str, tmp_path: Path) -> None:
    assert (
        nodes(imported(tmp_path, hosts=with_groups(f"    n1:\n      {name}: 10.0.0.7\n")))["n1"]["host"] == "10.0.0.7"
    )


def test_without_an_address_the_name_is_it(tmp_path: Path) -> None:
    assert nodes(imported(tmp_path, hosts=with_groups("    n1.example:\n")))["n1.example"]["host"] == "n1.example"


def test_of_two_names_with_two_values_ansibles_is_taken_and_the_other_reported(tmp_path: Path) -> None:
    host = "    n1:\n      ansible_user: new\n      ansible_ssh_user: old\n"
    result = imported(tmp_path, hosts=with_groups(host))
    assert values(result)["docker_cache_ssh_user"] == "old", "ansible's ssh plugin goes by the last of its names"
    assert any("ansible_ssh_user says it otherwise" in line for line in result.ignored)


PRECEDENCE = """\
all:
  vars: {ansible_user: of-all, ansible_port: 1}
  children:
    k8s-cluster:
      vars: {ansible_user: of-parent, ansible_port: 2}
      children:
        kube-node:
          vars: {ansible_port: 3}
          hosts:
            by-child:
            by-host: {ansible_port: 4}
        kube-master:
          hosts:
            by-parent:
    kube_node:
      hosts:
        by-all:
"""


def access(result: dict[str, dict[str, str]], shared: dict[str, str], key: str) -> dict[str, str]:
    """A key of every node, with what the stack says for all filled in."""
    return {name: node.get(key, shared.get(f"docker_cache_ssh_{key}", "")) for name, node in result.items()}


def test_a_host_wins_over_its_group_and_a_child_group_over_its_parent(tmp_path: Path) -> None:
    result = imported(tmp_path, hosts=PRECEDENCE)
    assert access(nodes(result), values(result), "port") == {
        "by-parent": "2",
        "by-child": "3",
        "by-host": "4",
        "by-all": "1",
    }
    assert access(nodes(result), values(result), "user") == {
        "by-parent": "of-parent",
        "by-child": "of-parent",
        "by-host": "of-parent",
        "by-all": "of-all",
    }


def test_groups_of_one_depth_go_by_priority_and_then_by_name(tmp_path: Path) -> None:
    text = """\
all:
  children:
    kube_node: {hosts: {n1: }}
    a: {vars: {ansible_port: 11}, hosts: {n1: }}
    b: {vars: {ansible_port: 12}, hosts: {n1: }}
"""
    assert values(imported(tmp_path, hosts=text))["docker_cache_ssh_port"] == "12"
    text = text.replace("{ansible_port: 11}", "{ansible_port: 11, ansible_group_priority: 5}")
    assert values(imported(tmp_path, hosts=text))["docker_cache_ssh_port"] == "11"


def test_a_group_that_stands_in_several_places_is_one(tmp_path: Path) -> None:
    text = "all:\n  hosts: {n1: }\n  children:\n    kube_node: {hosts: {n1: }}\nkube_node:\n  vars: {ansible_user: later}\n"
    assert values(imported(tmp_path, hosts=text))["docker_cache_ssh_user"] == "later"


def test_a_group_that_is_its_own_ancestor_ends(tmp_path: Path) -> None:
    text = "all:\n  children:\n    kube_node:\n      hosts: {n1: }\n      children: {x: }\n    x:\n      children: {kube_node: }\n"
    assert list(nodes(imported(tmp_path, hosts=text))) == ["n1"]


def test_group_vars_and_host_vars_beside_the_inventory_count(tmp_path: Path) -> None:
    result = imported(
        tmp_path,
        hosts=HOSTS.replace("ansible_ssh_user", "x_user")
        .replace("ansible_ssh_pass", "x_pass")
        .replace("ansible_become_pass", "x"),
        group_vars__all__access_yml="ansible_user: of-all\nansible_port: 2001\n",
        group_vars__k8s_cluster="unused: true\n",
        **{
            "group_vars__kube-node_yml": "ansible_port: 2002\n",
            "host_vars__pai-worker1__main_yml": "ansible_port: 2003\n",
        },
    )
    assert values(result)["docker_cache_ssh_user"] == "of-all"
    assert access(nodes(result), values(result), "port") == {"pai-master": "2002", "pai-worker1": "2003"}
    assert "group_vars/k8s_cluster (the inventory has no such name)" in result.ignored


def test_files_for_all_win_over_the_inventorys_own_groups_as_in_ansible(tmp_path: Path) -> None:
    result = imported(tmp_path, hosts=PRECEDENCE, group_vars__all_yml="ansible_port: 9\n")
    assert access(nodes(result), values(result), "port") == {
        "by-parent": "9",
        "by-child": "9",
        "by-host": "4",
        "by-all": "9",
    }


def test_hidden_and_backup_files_are_no_variables(tmp_path: Path) -> None:
    write(tmp_path, {"group_vars/all/.x.yml": "ansible_port: 5\n", "group_vars/all/x.yml~": "ansible_port: 6\n"})
    write(tmp_path, {"group_vars/.all.yml.swp": "\n", "group_vars/all.yml~": "\n"})
    result = imported(tmp_path, hosts=HOSTS)
    assert "docker_cache_ssh_port" not in values(result)
    assert not any("all.yml" in line for line in result.ignored), "they are no word worth"


def test_a_file_that_is_wholly_encrypted_is_reported_by_name(tmp_path: Path) -> None:
    result = imported(tmp_path, hosts=HOSTS, group_vars__all__vault_yml="$ANSIBLE_VAULT;1.1;AES256\n3061\n")
    assert any(line.startswith("group_vars/all/vault.yml is encrypted by ansible-vault") for line in result.unusable)


def test_a_file_of_variables_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/all").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ImportProblems, match="all can't be read: No such file or directory"):
        imported(tmp_path, hosts=HOSTS)


def test_all_broken_files_of_variables_are_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(ImportProblems) as error:
        imported(tmp_path, hosts=HOSTS, group_vars__all_yml="a: [\n", group_vars__etcd_yml="- a\n")
    first, second = error.value.problems
    assert first.startswith("group_vars/all.yml is not YAML: line 2")
    assert second.startswith("group_vars/etcd.yml is not a map of keys")


@pytest.mark.parametrize(
    "value", ["'{{ vault_password }}'", "!vault |\n        $ANSIBLE_VAULT;1.1;AES256\n        3061"]
)
def test_a_template_or_a_vault_is_reported_and_nothing_is_taken_in_its_place(value: str, tmp_path: Path) -> None:
    host = f"    n1:\n      ansible_user: admin\n      ansible_password: {value}\n"
    result = imported(tmp_path, config="user: admin\npassword: of-config\n", hosts=with_groups(host))
    assert any(line.startswith("hosts.yml: all.hosts.n1.ansible_password is") for line in result.unusable)
    assert "docker_cache_ssh_password" not in values(result)


def test_an_unknown_user_or_port_is_no_default(tmp_path: Path) -> None:
    host = "    n1:\n      ansible_user: '{{ who }}'\n      ansible_port: '{{ port }}'\n    n2:\n      ansible_user: admin\n      ansible_port: 2222\n"
    taken = nodes(imported(tmp_path, hosts=with_groups(host)))
    assert taken["n1"]["user"] == taken["n1"]["port"] == "", "the check of the stack names them"


def test_an_unknown_address_is_left_out_and_not_guessed(tmp_path: Path) -> None:
    result = imported(tmp_path, hosts=with_groups("    n1:\n      ansible_host: '{{ address }}'\n"))
    assert "host" not in nodes(result)["n1"]


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        ("ansible_become_user: deploy", 'is "deploy": the nodes\' docker is changed as root'),
        ("ansible_become_method: su", 'is "su": only sudo is known here'),
        ("ansible_connection: local", 'is "local": nodes are reached over ssh'),
        ("ansible_become_method: '{{ method }}'", "is a template"),
        ("ansible_ssh_common_args: -o ProxyCommand='nc -x proxy %h %p'", "goes through another machine in a way"),
        ("ansible_ssh_extra_args: -J first,second", "goes through another machine in a way"),
        ("ansible_ssh_args: '{{ ours }}'", "is a template"),
        ("ansible_become: false", 'but n1\'s user is "admin": docker is changed as root'),
        ('ansible_ssh_private_key_file: "-----BEGIN\\nKEY"', "is not the path of a file (its value is not shown)"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_reason(variable: str, reason: str, tmp_path: Path) -> None:
    host = f"    n1:\n      ansible_user: admin\n      {variable}\n"
    result = imported(tmp_path, hosts=with_groups(host))
    (line,) = result.unusable
    assert variable.split(":", maxsplit=1)[0] in line
    assert reason in line
    assert "BEGIN" not in line


@pytest.mark.parametrize(
    "variable",
    [
        "ansible_become_user: root",
        "ansible_become_method: sudo",
        "ansible_connection: ssh",
        "ansible_become: yes",
        "ansible_ssh_extra_args: '-o StrictHostKeyChecking=no'",
    ],
)
def test_what_comes_to_the_same_is_no_word_worth(variable: str, tmp_path: Path) -> None:
    host = f"    n1:\n      ansible_user: admin\n      {variable}\n"
    result = imported(tmp_path, hosts=with_groups(host))
    assert result.unusable == ()
    assert values(result)["docker_cache_ssh_sudo"] == "true"


def with_bastion(**variables: object) -> str:
    return HOSTS + f"    bastion: {json.dumps({'hosts': {'gate': variables}})}\n"


def test_kubesprays_bastion_lies_before_every_node_and_is_none(tmp_path: Path) -> None:
    hosts = with_bastion(
        ansible_host="1.2.3.4",
        ansible_user="jump",
        ansible_port=2222,
        ansible_private_key_file="~/.ssh/jump",
        ansible_password="bastions-pass",
    )
    result = imported(tmp_path, hosts=hosts)
    assert values(result)["docker_cache_ssh_bastion"] == {
        "host": "1.2.3.4",
        "user": "jump",
        "port": "2222",
        "private_key_path": "~/.ssh/jump",
        "password": "bastions-pass",
    }
    assert isinstance(result.values["docker_cache_ssh_bastion"], dict)
    assert isinstance(result.values["docker_cache_ssh_bastion"]["password"], Secret)
    assert set(nodes(result)) == {"pai-master", "pai-worker1"}
    assert not any({"bastion", "direct"} & set(node) for node in nodes(result).values())
    assert result.unusable == ()


def test_a_bastion_that_is_a_node_too_is_reached_directly(tmp_path: Path) -> None:
    hosts = HOSTS + "    bastion: {hosts: {pai-master: }}\n"
    result = imported(tmp_path, hosts=hosts)
    assert values(result)["docker_cache_ssh_bastion"]["host"] == "10.0.0.1"
    assert nodes(result)["pai-master"]["direct"] == "true"
    assert "direct" not in nodes(result)["pai-worker1"]


def test_a_bastion_without_an_address_is_reached_by_its_name(tmp_path: Path) -> None:
    assert values(imported(tmp_path, hosts=with_bastion()))["docker_cache_ssh_bastion"] == {"host": "gate"}


@pytest.mark.parametrize(
    ("arguments", "bastion"),
    [
        ('-o ProxyCommand="ssh -W %h:%p -q jump@gw"', {"host": "gw", "user": "jump"}),
        ("-J jump@gw:2222 -o ControlMaster=auto", {"host": "gw", "user": "jump", "port": "2222"}),
        ("-Cqo ProxyJump=jump@gw", {"host": "gw", "user": "jump"}),
        ("-o 'ProxyJump ssh://jump@gw:22'", {"host": "gw", "user": "jump", "port": "22"}),
        (
            "-o 'ProxyCommand=/usr/bin/ssh -p 2222 -i ~/.ssh/b -o StrictHostKeyChecking=no -l jump gw -W %h:%p'",
            {"host": "gw", "user": "jump", "port": "2222", "private_key_path": "~/.ssh/b"},
        ),
        ('-o ProxyCommand="ssh -o User=jump -oPort=2222 -W %h:%p gw"', {"host": "gw", "user": "jump", "port": "2222"}),
        ("-o ProxyCommand=none", None),
        ("-o ControlPath=~/proxy-%h", None),
        ("-L 1:J:2", None),
    ],
)
def test_the_machine_that_ssh_is_told_to_go_through_is_taken(
    arguments: str, bastion: dict[str, str] | None, tmp_path: Path
) -> None:
    more = f"  vars:\n    ansible_ssh_common_args: {json.dumps(arguments)}\n"
    result = imported(tmp_path, hosts=with_groups("    n1:\n      ansible_user: admin\n", more))
    assert result.unusable == ()
    assert values(result).get("docker_cache_ssh_bastion") == bastion


@pytest.mark.parametrize(
    "arguments",
    [
        "-J a,b",
        "-J a -o ProxyJump=b",
        '-o ProxyCommand="nc %h %p"',
        '-o ProxyCommand="ssh gw nc %h %p"',
        '-o ProxyCommand="ssh -J a -W %h:%p b"',
        '-o ProxyCommand="ssh -W %h:22 gw"',
        '-o ProxyCommand="ssh -W %h:%p',
        "-J '[::1]:22'",
    ],
)
def test_a_way_that_is_not_clear_is_named_and_the_stacks_check_names_the_node(arguments: str, tmp_path: Path) -> None:
    host = f"    n1:\n      ansible_user: admin\n      ansible_ssh_common_args: {json.dumps(arguments)}\n"
    result = imported(tmp_path, hosts=with_groups(host))
    (line,) = result.unusable
    assert line.startswith("hosts.yml: all.hosts.n1.ansible_ssh_common_args goes through another machine in a way that")
    assert nodes(result)["n1"]["bastion"] == ""
    assert "docker_cache_ssh_bastion" not in values(result)


def test_nodes_that_go_another_way_say_so(tmp_path: Path) -> None:
    hosts = (
        "    n1: {ansible_ssh_common_args: -J u@gw}\n    n2: {ansible_ssh_common_args: -J u@gw}\n"
        "    n3: {ansible_ssh_common_args: -J u@other}\n    n4: {}\n"
    )
    result = imported(tmp_path, hosts=with_groups(hosts))
    assert values(result)["docker_cache_ssh_bastion"] == {"host": "gw", "user": "u"}
    taken = nodes(result)
    assert taken["n3"]["bastion"] == {"host": "other", "user": "u"}
    assert taken["n4"]["direct"] == "true"
    assert not {"bastion", "direct"} & (set(taken["n1"]) | set(taken["n2"]))


def test_a_bastion_without_a_user_is_said(tmp_path: Path) -> None:
    result = imported(tmp_path, hosts=with_groups("    n1: {ansible_ssh_common_args: -J gw}\n"))
    assert any("names no user on gw" in line for line in result.ignored)


def test_the_name_in_kubernetes_may_be_another(tmp_path: Path) -> None:
    result = imported(
        tmp_path, hosts=with_groups("    n1:\n      ansible_host: 10.0.0.1\n      kube_override_hostname: real\n")
    )
    assert nodes(result) == {"real": {"host": "10.0.0.1"}}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("node1", ["node1"]),
        ("node[1:3]", ["node1", "node2", "node3"]),
        ("node[08:10].x", ["node08.x", "node09.x", "node10.x"]),
        ("n[0:4:2]", ["n0", "n2", "n4"]),
        ("r[a:b]-[1:2]", ["ra-1", "ra-2", "rb-1", "rb-2"]),
        ("n[x:10]", ["n[x:10]"]),
    ],
)
def test_ranges_of_hosts_are_every_host_in_them(pattern: str, names: list[str]) -> None:
    assert expand(pattern) == names


def test_variables_of_a_range_are_those_of_each_host(tmp_path: Path) -> None:
    result = imported(tmp_path, hosts="kube_node:\n  hosts:\n    n[1:2].x: {ansible_user: admin}\n")
    assert list(nodes(result)) == ["n1.x", "n2.x"]
    assert values(result)["docker_cache_ssh_user"] == "admin"


INI = """\
[all]
node1 ansible_host=95.54.0.12 ip=10.3.0.1

[kube-master]
node1

[k8s-cluster:children]
kube-master
"""


def test_an_ini_inventory_is_named_as_such_with_the_way_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "inventory.ini").write_text(INI)
    with pytest.raises(ImportProblems) as error:
        imported(tmp_path)
    assert "inventory.ini is an INI inventory" in str(error.value)
    assert "`ansible-inventory -i inventory.ini --list --yaml --output hosts.yml`" in str(error.value)


def test_an_ini_inventory_under_a_name_of_yaml_is_no_broken_yaml(tmp_path: Path) -> None:
    with pytest.raises(ImportProblems, match=r"hosts\.yml is an INI inventory"):
        imported(tmp_path, hosts=INI)


def test_the_json_of_ansible_inventory_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ImportProblems, match="is the JSON of `ansible-inventory --list`"):
        imported(tmp_path, hosts='{"_meta": {"hostvars": {}}, "all": {"children": []}}')


@pytest.mark.parametrize(
    ("hosts", "problem"),
    [
        ("all: [n1]\n", "hosts.yml: all is not a group"),
        ("all:\n  hosts: [n1]\n", "hosts.yml: all.hosts is not a map of keys"),
        ("all:\n  hosts:\n    n1: 10.0.0.1\n", "hosts.yml: all.hosts.n1 is not a map of variables"),
        ("all:\n  hosts:\n    n1: {a: 1, a: 2}\n", 'its line 3 has the key "a" a second time'),
    ],
)
def test_an_inventory_of_another_form_is_refused_with_the_place(hosts: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ImportProblems, match=problem.replace("[", "\\[")):
        imported(tmp_path, hosts=hosts)


def test_a_single_host_may_be_plain_text_and_a_foreign_key_is_reported(tmp_path: Path) -> None:
    result = imported(tmp_path, hosts="kube_node:\n  hosts: n1\n  host: n2\n")
    assert list(nodes(result)) == ["n1"]
    assert "hosts.yml: kube_node.host (no part of a group)" in result.ignored
