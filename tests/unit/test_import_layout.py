"""layout.yaml of OpenPAI: today's form, the quick start's, and the older ones with ssh access in them."""

from pathlib import Path

import pytest

from importing.findings import ImportProblems
from tests.unit.import_files import CONFIG, LAYOUT, imported, nodes, values

QUICK_START = """\
kubernetes:
  api-servers-url: https://10.1.0.1:6443
  dashboard-url: https://10.1.0.1:9090

machine-sku:
  GENERIC-MASTER:
    mem: 1
    gpu: {type: generic, count: 1}
    os: ubuntu16.04

machine-list:
    - hostname: openpai-master-01
      nodename: openpai-master-01
      hostip: 10.1.0.1
      machine-type: GENERIC-MASTER
      dashboard: "true"
      pai-master: "true"
    - hostname: openpai-master-02
      nodename: openpai-master-02
      hostip: 10.1.0.2
      machine-type: GENERIC-MASTER
    - hostname: openpai-001
      nodename: openpai-001
      hostip: 10.1.0.4
      machine-type: GENERIC-MASTER
      pai-worker: "true"
"""
BEFORE_1_0 = """\
default-machine-properties:
  # A Linux host account with sudo permission
  username: core
  password: pass-of-core
  sshport: 2222

machine-list:

    - hostname: w1
      hostip: 10.2.0.3
      machine-type: NC24R
      username: other
      keyfile-path: /keys/other
      nodename: 10.2.0.3 # should be the same as hostip
      k8s-role: worker
      pai-worker: "true"
      docker-data: "/var/lib/docker"

    - hostname: m2
      hostip: 10.2.0.2
      etcdid: etcdid2
      sshport: 22
      k8s-role: master

    - hostname: m1
      hostip: 10.2.0.1
      etcdid: etcdid1
      k8s-role: master
      dashboard: "true"
      zkid: "1"
      pai-master: "true"

    - hostname: lb
      hostip: 10.2.0.9
      k8s-role: proxy
"""


def test_every_machine_is_a_node_and_masters_are_marked(tmp_path: Path) -> None:
    assert nodes(imported(tmp_path, layout=LAYOUT)) == {
        "pai-master": {"host": "10.0.0.1", "kube_master": "true"},
        "pai-worker1": {"host": "10.0.0.2"},
        "pai-worker2": {"host": "10.0.0.3"},
    }


def test_a_boolean_is_as_good_as_the_text_true(tmp_path: Path) -> None:
    taken = nodes(imported(tmp_path, layout=LAYOUT.replace('"true"', "true")))
    assert taken["pai-master"]["kube_master"] == "true"
    assert "kube_master" not in taken["pai-worker1"]


def test_the_quick_starts_layout_is_taken_with_all_its_machines(tmp_path: Path) -> None:
    taken = nodes(imported(tmp_path, config=CONFIG, layout=QUICK_START))
    assert list(taken) == ["openpai-master-01", "openpai-master-02", "openpai-001"]
    assert [name for name, node in taken.items() if "kube_master" in node] == ["openpai-master-01"]


def test_before_1_0_the_layout_has_the_login_with_a_default_for_all(tmp_path: Path) -> None:
    result = imported(tmp_path, layout=BEFORE_1_0)
    assert {key: value for key, value in values(result).items() if key != "docker_cache_nodes"} == {
        "docker_cache_ssh_user": "core",
        "docker_cache_ssh_port": "2222",
        "docker_cache_ssh_password": "pass-of-core",
        "docker_cache_ssh_sudo": "true",
    }
    assert nodes(result) == {
        "m1": {"host": "10.2.0.1", "kube_master": "true", "sudo_password": "pass-of-core"},
        "m2": {"host": "10.2.0.2", "kube_master": "true", "port": "22", "sudo_password": "pass-of-core"},
        "10.2.0.3": {"host": "10.2.0.3", "user": "other", "private_key_path": "/keys/other"},
    }


def test_the_pai_master_is_the_first_whatever_the_order(tmp_path: Path) -> None:
    assert next(iter(nodes(imported(tmp_path, layout=BEFORE_1_0)))) == "m1"


def test_a_password_is_not_given_to_another_user(tmp_path: Path) -> None:
    other = nodes(imported(tmp_path, layout=BEFORE_1_0))["10.2.0.3"]
    assert "password" not in other, "the default password is core's"
    assert "sudo_password" not in other


def test_a_proxy_machine_is_no_node(tmp_path: Path) -> None:
    result = imported(tmp_path, layout=BEFORE_1_0)
    assert "lb" not in nodes(result)
    assert 'layout.yaml: machine-list[lb]: its k8s-role is "proxy", so it is no Kubernetes node' in result.ignored


def test_dockers_data_folder_stays_where_it_is(tmp_path: Path) -> None:
    assert (
        "layout.yaml: machine-list[…].docker-data (docker's data stays where it is)"
        in imported(tmp_path, layout=BEFORE_1_0).ignored
    )


def test_a_key_in_a_kubernetes_secret_cannot_be_used(tmp_path: Path) -> None:
    layout = LAYOUT.replace("    pai-master:", "    ssh-secret-name: the-key\n    pai-master:")
    (line,) = imported(tmp_path, layout=layout).unusable
    assert line.startswith("layout.yaml: machine-list[…].ssh-secret-name names a Kubernetes secret")


def test_everything_that_is_wrong_with_a_layout_is_said_at_once(tmp_path: Path) -> None:
    layout = "machine-list:\n- hostname: a\n- hostip: 10.0.0.1\n- just text\n- {hostname: b, hostip: 1.1.1.1}\n- {hostname: b, hostip: 1.1.1.2}\n"
    layout += "- {hostname: '{{ name }}', hostip: 1.1.1.3}\n"
    with pytest.raises(ImportProblems) as error:
        imported(tmp_path, layout=layout)
    assert error.value.problems == [
        "layout.yaml: machine-list[0].hostip is missing",
        "layout.yaml: machine-list[1].hostname is missing",
        "layout.yaml: machine-list[2] is not a map of keys such as hostname and hostip",
        "layout.yaml: machine-list[5].hostname is a template ({{ … }}): set its value in the stack by hand",
        'layout.yaml: machine-list has the hostname "b" twice: give each machine a name of its own',
    ]


@pytest.mark.parametrize("layout", ["machine-sku: {}\n", "machine-list: []\n", "machine-list: {a: b}\n", ""])
def test_a_layout_without_machines_is_refused(layout: str, tmp_path: Path) -> None:
    with pytest.raises(ImportProblems, match="machine-list is missing or empty"):
        imported(tmp_path, layout=layout)
