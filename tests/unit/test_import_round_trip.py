"""Any cluster that can be described in OpenPAI's and kubespray's files comes out of an import as it went in."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import yaml
from hypothesis import given
from hypothesis import strategies as st

from importing.document import Cluster, Kept, render
from importing.existing import read_existing, values_of
from importing.result import Secret, Tree
from importing.sources import find_sources, import_files
from settings.access import Access, resolve
from settings.loading import Disabled, load
from settings.model import Settings
from tests.unit.import_files import write

names = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?", fullmatch=True)
users = st.from_regex(r"[a-z_][a-z0-9_-]{0,9}", fullmatch=True) | st.sampled_from(["no", "on", "null", "true"])
# YAML's awkward ones among them: what looks like a number, a boolean, a comment or a map.
passwords = st.one_of(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12),
    st.sampled_from(
        ["123", "0x1f", "yes", "null", "a: b", "# x", "- y", "'", '"', "a\\nb", "ü€", "1e3", "[secret]", "~"]
    ),
).filter(lambda text: "{{" not in text and "{%" not in text)
ports = st.integers(1, 65535)
key_paths = st.sampled_from(["/root/.ssh/id_rsa", "~/.ssh/id ed", "keys/a.pem"])


@dataclass(frozen=True)
class Machine:
    """One machine with its whole access."""

    name: str
    host: str
    inside: str
    is_master: bool
    user: str
    port: int
    password: str | None
    key_path: str | None
    sudo_password: str | None

    @property
    def sudo(self) -> bool:
        return self.user != "root"


@st.composite
def clusters(draw: st.DrawFn) -> list[Machine]:
    """A master first, then others; most share their access, since a pool of few is drawn from."""
    listed = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    pool = draw(
        st.lists(
            st.tuples(
                users | st.just("root"), ports, st.none() | passwords, st.none() | key_paths, st.none() | passwords
            ),
            min_size=1,
            max_size=3,
        )
    )
    masters = draw(st.integers(1, len(listed)))
    machines = []
    for number, name in enumerate(listed):
        user, port, password, key_path, sudo_password = draw(st.sampled_from(pool))
        inside = f"10.0.0.{number}"
        host = draw(st.sampled_from([inside, f"192.168.7.{number}"]))
        machines.append(Machine(name, host, inside, number < masters, user, port, password, key_path, sudo_password))
    return machines


def layout_of(machines: list[Machine]) -> str:
    listed = [
        {
            "hostname": m.name,
            "hostip": m.inside,
            "machine-type": "x",
            "pai-master" if m.is_master else "pai-worker": "true",
        }
        for m in machines
    ]
    return yaml.safe_dump({"machine-sku": {"x": {"mem": "1GB"}}, "machine-list": listed}, sort_keys=False)


def variables(machine: Machine) -> dict[str, Any]:
    given_ones = {
        "ansible_host": machine.host,
        "ip": machine.inside,
        "ansible_user": machine.user,
        "ansible_port": machine.port,
        "ansible_ssh_pass": machine.password,
        "ansible_ssh_private_key_file": machine.key_path,
        "ansible_become_password": machine.sudo_password,
    }
    return {key: value for key, value in given_ones.items() if value is not None}


def hosts_of(machines: list[Machine], data: st.DataObject) -> str:
    """Each variable stands with its host, or with a group or all of which every host says the same, or is overridden there."""
    hosts = {machine.name: variables(machine) for machine in machines}
    of_all: dict[str, Any] = {}
    for key in ("ansible_user", "ansible_port"):
        where = data.draw(st.sampled_from(["host", "all", "overridden"]))
        if where == "overridden":
            of_all[key] = 1 if key == "ansible_port" else "nobody"
        if where == "all" and len({own[key] for own in hosts.values()}) == 1:
            of_all[key] = {own.pop(key) for own in hosts.values()}.pop()
    master_group, node_group = data.draw(
        st.sampled_from([("kube-master", "kube-node"), ("kube_control_plane", "kube_node")])
    )
    groups = {
        master_group: {"hosts": {m.name: None for m in machines if m.is_master}},
        node_group: {"hosts": {m.name: None for m in machines if not m.is_master}},
        "k8s_cluster": {"children": {master_group: None, node_group: None}},
    }
    return yaml.safe_dump({"all": {"vars": of_all, "hosts": hosts, "children": groups}}, sort_keys=False)


config_keys = st.fixed_dictionaries(
    {"enable_docker_cache": st.sampled_from([True, "true", "True", "yes"])},
    optional={
        "docker_cache_fs_mount_path": st.sampled_from(["/mnt/cache", "/var/lib/a b"]),
        "docker_cache_remote_url": st.sampled_from(["https://registry-1.docker.io/", "https://mirror.example:5000"]),
        "docker_cache_storage_backend": st.just("filesystem"),
        "docker_cache_azure_container_name": names.map(lambda name: f"abc{name}"),
    },
)


def settings_of(text: str) -> Settings:
    """What the program reads of a written file, whose ciphers are the secrets' own bytes."""
    tree = values_of(read_existing(text, "Pulumi.x.yaml"), {})
    values = {key: unwrapped(value) for key, value in tree.items()} | {"docker_cache_kube_context": "prod"}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    settings = load(texts.get)
    assert not isinstance(settings, Disabled)
    return settings


def unwrapped(tree: Tree) -> object:
    if isinstance(tree, Secret):
        return bytes.fromhex((tree.cipher or "").removeprefix("v1:")).decode()
    if isinstance(tree, list):
        return [unwrapped(item) for item in tree]
    return {key: unwrapped(item) for key, item in tree.items()} if isinstance(tree, dict) else tree


def accesses(settings: Settings, folder: Path) -> tuple[Access, ...]:
    return resolve(settings, folder, {"SSH_AUTH_SOCK": "/x"}, [])


@hypothesis.settings(deadline=None)
@given(clusters(), config_keys, st.data())
def test_a_cluster_comes_out_as_it_went_in(
    machines: list[Machine], config: dict[str, Any], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = {"config.yaml": yaml.safe_dump(config), "hosts.yml": hosts_of(machines, data)}
        if data.draw(st.booleans()):
            texts["layout.yaml"] = layout_of(machines)
        write(folder, texts)
        imported = import_files(find_sources(folder=name))
        text = render(
            imported,
            "x",
            lambda secret: f"v1:{secret.encode().hex()}",
            cluster=Cluster(),
            kept=Kept(),
            keys=list(imported.values),
        )
        settings = settings_of(text)
        found = {access.name: access for access in accesses(settings, folder)}

    assert [(node.name, node.kube_master) for node in settings.docker_cache_nodes] == [
        (m.name, m.is_master) for m in machines
    ]
    for machine in machines:
        access = found[machine.name]
        assert (access.host, access.port, access.user, access.sudo) == (
            machine.host,
            machine.port,
            machine.user,
            machine.sudo,
        )
        assert access.password == machine.password
        assert access.sudo_password == (machine.sudo_password if machine.sudo else None)
        node = next(node for node in settings.docker_cache_nodes if node.name == machine.name)
        own = node.private_key_path or node.password
        assert (node.private_key_path if own else settings.docker_cache_ssh_private_key_path) == machine.key_path
    assert settings.entry == f"http://{machines[0].inside}:30500"
    assert settings.docker_cache_fs_mount_path == config.get("docker_cache_fs_mount_path", "/var/lib/registry")
    assert settings.docker_cache_remote_url == config.get(
        "docker_cache_remote_url", "https://registry-1.docker.io"
    ).rstrip("/")
