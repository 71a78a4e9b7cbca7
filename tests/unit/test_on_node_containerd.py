"""What the node program does to containerd and its files, against a stand-in for the running containerd."""

import io
import itertools
import os
import re
import stat
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from on_node import address, containerd, containerd_config, docker, hosts_toml, mirror, owned, payload, places, tools
from on_node.address import parse_entry, parse_mirror
from on_node.engine import Change, Engine, Options, Said
from on_node.errors import Trouble
from on_node.files import digest
from tests.unit.messages import remember

ENTRY = "http://10.0.0.1:30500"
OPTIONS = Options(owner=None, engines=frozenset(), allow_pending_changes=False, allow_restart=False, proof_image=None)
OTHER = "http://10.0.0.2:30500"
STARTED = time.time() - 1000
PLAIN = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\n  sandbox_image = "pause"\n'
REGISTRY = '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"\n'
BLOCK = f"""{owned.BEGIN}
[host."{ENTRY}"]
  capabilities = ["pull", "resolve"]
{owned.END}
"""
THEIRS = 'server = "https://registry-1.docker.io"\n\n[host."https://m.example"]\n  capabilities = ["pull"]\n'


class Killed(BaseException):
    """A kill that strikes the program between two steps."""


class StandInNode:
    """A node in a folder of its own, with a stand-in for containerd: it reads its files when it starts, and answers tools."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, config: str | None = PLAIN + REGISTRY) -> None:
        self.root, self.places = root, places.Places(str(root))
        self.config = root / "etc/containerd/config.toml"
        self.folder = root / "etc/containerd/certs.d/docker.io"
        self.hosts = self.folder / "hosts.toml"
        self.config.parent.mkdir(parents=True)
        self.version, self.pid, self.restarts, self.ticks = "1.6.20", 300, 0, 0
        self.comes_back, self.unit_is_its, self.kill_mode = True, True, "process"
        self.steps = self.kill_at = 0
        self.cache: tuple[str | None, bool] = (None, True)
        if config is not None:
            self.write(self.config, config)
        (root / "proc/self/ns").mkdir(parents=True)
        for kind in ("pid", "mnt"):
            (root / "proc/self/ns" / kind).symlink_to(kind + ":[1]")
        (root / "proc/stat").write_text(f"cpu 1\nbtime {STARTED:.0f}\n")
        self.process(self.pid, "containerd", "/usr/bin/containerd", "--config", str(self.config))
        # Where the node has its folders.
        self.patch = monkeypatch
        monkeypatch.setattr(containerd, "DEFAULT_PATH", str(root / "etc/containerd/certs.d"))
        monkeypatch.setattr(
            containerd, "BUILT_IN_FOLDERS", [f"{root}/etc/containerd/certs.d", f"{root}/etc/docker/certs.d"]
        )

    def write(self, path: Path, text: str, at: float = STARTED - 100) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (at, at))

    def process(self, pid: int, name: str, *argv: str) -> None:
        process = self.root / "proc" / str(pid)
        (process / "ns").mkdir(parents=True, exist_ok=True)
        (process / "comm").write_text(name + "\n")
        (process / "cmdline").write_bytes(b"\0".join(word.encode() for word in argv) + b"\0")
        (process / "stat").write_text(f"{pid} ({name}) S " + " ".join(["0"] * 18) + f" {self.ticks} 0")
        for kind in ("pid", "mnt"):
            if not (process / "ns" / kind).is_symlink():
                (process / "ns" / kind).symlink_to(kind + ":[1]")
        if not (process / "exe").is_symlink():
            (process / "exe").symlink_to(argv[0])

    def tool(self, argv: list[str], _seconds: float) -> tuple[int, str, str]:
        if "--version" in argv and "containerd" in argv[0]:
            return 0, f"containerd github.com/containerd/containerd {self.version} abc\n", ""
        if "dump" in argv:
            text = Path(argv[2]).read_text() if Path(argv[2]).exists() else "version = 2\n"
            return (1, "", "bad") if "[[[" in text else (0, self.dump(text), "")
        if argv[:2] == ["systemctl", "restart"]:
            self.restarts += 1
            self.ticks = max(self.ticks + 1, int(time.time() - STARTED + 2) * os.sysconf("SC_CLK_TCK"))
            if self.comes_back:
                self.process(self.pid, "containerd", "/usr/bin/containerd", "--config", str(self.config))
            return 0 if self.comes_back else 1, "", ""
        if argv[0] == "systemctl" and "containerd.service" in argv:
            return 0, f"MainPID={self.pid if self.unit_is_its else 0}\nKillMode={self.kill_mode}\n", ""
        if argv[0] == "ctr":
            return 0, "Server:\n", ""
        return 127, "", ""

    def dump(self, text: str) -> str:
        """As containerd prints it: with the defaults, and its own file among the imports."""
        default = (
            "" if "config_path" in text else '[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = ""\n'
        )
        return f'imports = ["{self.config}"]\n' + re.sub(r"^#.*\n", "", text, flags=re.MULTILINE) + "\n" + default

    def step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The real call, with a kill before it and one after it."""

        def call(*words: Any, **more: Any) -> Any:
            self.strike()
            result = real(*words, **more)
            self.strike()
            return result

        return call

    def strike(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            raise Killed

    @contextmanager
    def in_effect(self) -> Iterator[None]:
        now = itertools.count(0, 5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tools, "run_tool", self.tool)
            patch.setattr(address, "probe", lambda *_: self.cache)
            patch.setattr(time, "sleep", lambda _: None)
            patch.setattr(time, "monotonic", lambda: next(now))
            patch.setattr(os, "geteuid", lambda: 0)
            patch.setattr(os, "fsync", self.step(lambda _: None))
            for name in ("replace", "unlink", "mkdir", "rmdir"):
                patch.setattr(os, name, self.step(getattr(os, name)))
            yield

    def run(self, *argv: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with self.in_effect(), redirect_stdout(out), redirect_stderr(err):
            status = mirror.run(argv, self.places)
        remember(line.partition(": ")[2] for line in err.getvalue().splitlines())
        return status, out.getvalue(), err.getvalue()

    def apply(self, entry: str = ENTRY, *words: str) -> str:
        status, out, err = self.run("mirror", entry, *words)
        assert (status, err) == (0, ""), "apply must succeed here"
        return out

    def remove(self, *words: str) -> str:
        status, out, err = self.run("remove", *words)
        assert (status, err) == (0, ""), "remove must succeed here"
        return out

    def refused(self, *argv: str) -> str:
        """The errors of a run that must leave everything as it is."""
        before = self.files()
        status, out, err = self.run(*argv)
        assert (status, out) == (1, ""), "a refusal exits 1 and prints nothing on stdout"
        assert self.files() == before, "a refusal leaves every file as it was"
        return err

    def files(self) -> dict[str, tuple[bytes, int, int]]:
        """Every file below /etc and of our record: content, mode and time."""
        found = [
            path
            for top in ("etc", "var")
            for path in (self.root / top).rglob("*")
            if path.is_file() and path.name != "lock"
        ]
        return {
            str(path.relative_to(self.root)): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
            for path in found
        }

    def folders(self) -> set[str]:
        return {str(path.relative_to(self.root)) for top in ("etc", "var/lib") for path in (self.root / top).rglob("*")}


@pytest.fixture
def new_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., StandInNode]:
    numbers = itertools.count()

    def make(config: str | None = "", **facts: object) -> StandInNode:
        root = tmp_path / str(next(numbers))
        in_force = PLAIN + REGISTRY.replace("/etc", f"{root}/etc")
        node = StandInNode(root, monkeypatch, in_force if config == "" else config)
        for name, value in facts.items():
            setattr(node, name, value)
        return node

    return make


# --- config_path in force ---


def test_the_mirror_is_a_file_of_ours_and_nothing_is_restarted(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    before = node.files()
    assert node.apply() == f"live: mirror {ENTRY}, containerd 1.6.20, hosts.toml written\n", "one stable line"
    assert node.hosts.read_text() == BLOCK
    assert node.restarts == 0, "hosts.toml is read at each pull"
    assert node.apply() == f"live: mirror {ENTRY}, containerd 1.6.20, nothing touched\n"
    assert node.remove() == "removed: hosts.toml as it was\n"
    assert node.files() == before, "everything is as it was, to the byte and the time"
    assert "etc/containerd/certs.d" not in node.folders(), "the folders were made for it"


def test_a_second_run_touches_nothing(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.apply(ENTRY, "--owner", "me")
    before = node.files()
    node.apply(ENTRY, "--owner", "me")
    assert node.files() == before, "not even the record is written anew"


def test_the_administrators_hosts_stay_and_come_after_ours(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.write(node.hosts, THEIRS)
    node.apply()
    text = node.hosts.read_text()
    assert text == THEIRS.replace("[host.", BLOCK + "[host.", 1), (
        "ours first among the hosts, and before no key of the top"
    )
    node.apply(OTHER)
    assert (OTHER in node.hosts.read_text(), ENTRY in node.hosts.read_text()) == (True, False)
    edited = node.hosts.read_text() + '[host."https://later.example"]\n'
    node.hosts.write_text(edited)
    node.remove()
    assert node.hosts.read_text() == THEIRS + '[host."https://later.example"]\n', "what came later stays too"


def test_a_mirror_that_the_administrator_wrote_himself_is_not_ours(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.write(node.hosts, f"[host.'{ENTRY}/']\n")
    before = node.files()
    assert "containerd 1.6.20, nothing touched" in node.apply()
    node.remove()
    assert node.files() == before


def test_hosts_for_all_registries_are_not_hidden_by_our_folder(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.write(node.folder.parent / "_default/hosts.toml", THEIRS)
    node.apply()
    assert node.hosts.read_text().endswith('[host."https://m.example"]\n  capabilities = ["pull"]\n')
    node.remove()
    assert not node.folder.exists(), "then the administrator's _default counts again"


def test_a_file_of_ours_that_somebody_replaced_stays(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.apply()
    node.hosts.write_text(THEIRS)
    assert node.remove() == f"removed: {node.hosts} was changed by somebody and stays\n"
    assert node.hosts.read_text() == THEIRS


def test_a_short_dial_timeout_is_given_where_containerd_knows_it(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(version="2.1.0")
    node.apply()
    assert '  dial_timeout = "2s"\n' in node.hosts.read_text(), "a dead mirror costs every pull half a minute otherwise"


def test_a_certificate_lies_beside_and_is_named(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, pem = new_node(), "-----BEGIN CERTIFICATE-----\nours\n"
    monkeypatch.setattr(payload, "certificate", pem)
    node.apply("https://cache:5000", "--ca", digest(pem.encode()))
    certificate = node.folder / "docker-cache.crt"
    assert certificate.read_text() == pem
    assert f'  ca = "{certificate}"\n' in node.hosts.read_text()
    monkeypatch.setattr(payload, "certificate", None)
    node.apply("https://cache:5000", "--insecure")
    assert "  skip_verify = true\n" in node.hosts.read_text()
    assert not certificate.exists(), "it is no longer wanted"
    node.remove()
    assert not node.folder.exists()


def test_credentials_lie_in_a_file_for_root_alone(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_node()
    node.write(node.hosts, THEIRS)
    monkeypatch.setattr(payload, "authorization", "Basic dTpw")
    said = node.apply("https://cache:5000")
    assert '[host."https://cache:5000".header]\n  Authorization = "Basic dTpw"\n' in node.hosts.read_text()
    assert stat.S_IMODE(node.hosts.stat().st_mode) == 0o600
    record = (Path(node.places.state) / "containerd.json").read_text()
    assert "dTpw" not in said + record, "the secret is in its file alone"
    node.remove()
    assert (node.hosts.read_text(), stat.S_IMODE(node.hosts.stat().st_mode)) == (THEIRS, 0o644)


def test_the_folder_is_that_of_the_file_that_containerd_reads(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(PLAIN + "use_local_image_pull = true\n", version="2.2.0")
    theirs = node.root / "etc/docker/certs.d/docker.io/hosts.toml"
    node.write(theirs, THEIRS)
    assert "hosts.toml written" in node.apply(), "2.2 looks into both folders of itself"
    assert owned.BEGIN in theirs.read_text()
    assert not node.folder.exists(), "the first folder would have hidden the second"


# --- several registries and several entries ---


def test_each_registry_has_a_file_of_its_own_and_goes_without_a_trace(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    before = node.files(), node.folders()
    node.apply(ENTRY, "--upstreams", "ghcr.io,lab.example:5000")
    certs = node.folder.parent
    assert sorted(path.name for path in certs.iterdir()) == ["docker.io", "ghcr.io", "lab.example:5000"]
    assert {(path / "hosts.toml").read_text() for path in certs.iterdir()} == {BLOCK}, "containerd says ns= by itself"
    assert "nothing touched" in node.apply(ENTRY, "--upstreams", "ghcr.io,lab.example:5000")
    node.apply(ENTRY, "--upstreams", "ghcr.io")
    assert sorted(path.name for path in certs.iterdir()) == ["docker.io", "ghcr.io"], (
        "one that is no longer served goes"
    )
    node.remove()
    assert (node.files(), node.folders()) == before


def test_a_folder_with_underlines_for_the_port_is_the_one_that_containerd_reads(
    new_node: Callable[..., StandInNode],
) -> None:
    node = new_node()
    theirs = node.folder.parent / "lab.example_5000_/hosts.toml"
    node.write(theirs, THEIRS)
    node.apply(ENTRY, "--upstreams", "lab.example:5000")
    assert theirs.read_text() == THEIRS.replace("[host", BLOCK + "[host", 1)
    assert not (node.folder.parent / "lab.example:5000").exists()


def test_hosts_for_all_registries_go_with_ours_into_each_folder(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    default = node.folder.parent / "_default/hosts.toml"
    node.write(default, '[host."https://m.example"]\n')
    node.apply(ENTRY, "--upstreams", "ghcr.io")
    for name in ("docker.io", "ghcr.io"):
        assert (node.folder.parent / name / "hosts.toml").read_text() == BLOCK + '[host."https://m.example"]\n'
    assert default.read_text() == '[host."https://m.example"]\n'


def test_hosts_for_all_registries_find_their_certificates_from_each_folder(
    new_node: Callable[..., StandInNode],
) -> None:
    node = new_node()
    default = node.folder.parent / "_default/hosts.toml"
    theirs = """server = "https://m.example"
ca = "ours/ca.pem"
[host."https://a.example"]
  ca = ["/etc/ca.pem", 'b.pem']  # both
  override_path = true
[host."https://b.example"]
  client = [
    ["c.pem", "c.key"],
    # of the other
    ["/d.pem", ""]
  ]
  [host."https://b.example".header]
    Authorization = "Basic dTpw"
"""
    node.write(default, theirs)
    node.apply()
    copied = tomllib.loads(node.hosts.read_text().replace(BLOCK, ""))
    folder = str(default.parent)
    expected = tomllib.loads(theirs)
    expected["ca"] = f"{folder}/ours/ca.pem"
    expected["host"]["https://a.example"]["ca"][1] = f"{folder}/b.pem"
    expected["host"]["https://b.example"]["client"][0] = [f"{folder}/c.pem", f"{folder}/c.key"]
    assert copied == expected, "containerd looks for them from the folder of the file"
    assert "nothing touched" in node.apply()
    assert default.read_text() == theirs


def test_hosts_that_not_everybody_may_read_are_copied_for_root_alone(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    default = node.folder.parent / "_default/hosts.toml"
    node.write(default, THEIRS)
    node.apply()
    assert stat.S_IMODE(node.hosts.stat().st_mode) == 0o644
    default.chmod(0o640)
    assert "hosts.toml written" in node.apply()
    assert stat.S_IMODE(node.hosts.stat().st_mode) == 0o600, "it may hold credentials"
    assert "nothing touched" in node.apply()
    node.remove()
    assert not node.folder.exists()


def test_an_entry_that_is_there_for_all_registries_is_not_written_twice(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.write(node.folder.parent / "_default/hosts.toml", f'[host."{ENTRY}"]\n')
    assert "nothing touched" in node.apply(), "twice in one file, containerd would read none of it"
    assert not node.folder.exists()


def test_entries_are_asked_in_their_order(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    said = node.apply(ENTRY, "--also", "10.0.0.2,10.0.0.3")
    hosts = re.findall(r'\[host\."(.*?)"\]', node.hosts.read_text())
    assert hosts == [ENTRY, OTHER, "http://10.0.0.3:30500"]
    assert said.startswith(f"live: mirror {ENTRY} or {OTHER} or http://10.0.0.3:30500, containerd")
    node.apply()
    assert node.hosts.read_text() == BLOCK


def test_an_entry_of_the_administrators_own_stays_behind_those_that_he_lacks(
    new_node: Callable[..., StandInNode],
) -> None:
    node = new_node()
    node.write(node.hosts, f'[host."{ENTRY}"]\n')
    node.apply(ENTRY, "--also", "10.0.0.2")
    assert node.hosts.read_text() == BLOCK.replace(ENTRY, OTHER) + f'[host."{ENTRY}"]\n'


# --- config_path missing ---


def test_without_config_path_nothing_is_written_unless_a_restart_is_allowed(
    new_node: Callable[..., StandInNode],
) -> None:
    node = new_node(PLAIN)
    error = node.refused("mirror", ENTRY)
    assert f"(config_path is not set to one folder in {node.config})" in error
    assert "set docker_cache_allow_restart: true" in error
    assert node.restarts == 0


@pytest.mark.parametrize("ending", ["", REGISTRY.partition("\n")[0] + "\n  config_path = ''\n", "[x]\ny = 1"])
def test_config_path_is_set_once_and_taken_back(new_node: Callable[..., StandInNode], ending: str) -> None:
    node = new_node(PLAIN + ending)
    before = node.files()
    assert node.apply(ENTRY, "--allow-restart").endswith("containerd 1.6.20, restarted for config_path\n")
    assert node.restarts == 1
    assert containerd_config.parse_dump(node.config.read_text()).config_path == containerd.DEFAULT_PATH
    assert node.apply(ENTRY).endswith("nothing touched\n"), "the second run needs no leave to restart"
    assert node.restarts == 1
    said = node.remove()
    assert said == "removed: hosts.toml as it was; config.toml as it was, which containerd takes at its next restart\n"
    assert node.files() == before
    assert node.restarts == 1, "taking it back restarts nothing"


@pytest.mark.parametrize("version", ["2.1.0", "2.4.2"])
def test_several_folders_count_for_nothing_where_the_transfer_service_pulls(
    new_node: Callable[..., StandInNode], version: str
) -> None:
    node = new_node("", version=version)
    folders = f"{containerd.DEFAULT_PATH}:{node.root}/etc/docker/certs.d"
    node.write(node.config, PLAIN + REGISTRY.replace("/etc/containerd/certs.d", folders))
    assert "config_path is not set to one folder" in node.refused("mirror", ENTRY)
    node.apply(ENTRY, "--allow-restart")
    assert containerd_config.parse_dump(node.config.read_text()).config_path == containerd.DEFAULT_PATH
    node.write(node.config, PLAIN)
    assert "config_path is not set to one folder" in node.refused("mirror", ENTRY), "nor does the built-in default"


def test_a_containerd_without_a_file_gets_one(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(None)
    node.apply(ENTRY, "--allow-restart")
    assert node.config.read_text().startswith("version = 2\n")
    node.remove()
    assert not node.config.exists()


def test_a_file_that_containerd_has_not_read_yet_counts_for_nothing(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    os.utime(node.config, (STARTED + 500, STARTED + 500))
    assert f"({node.config} was changed after containerd's start)" in node.refused("mirror", ENTRY)
    assert "restarted for config_path" in node.apply(ENTRY, "--allow-restart")
    assert owned.BEGIN not in node.config.read_text(), "config_path is in it already"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"kill_mode": "control-group"}, "KillMode=control-group: a restart would end its containers"),
        ({"unit_is_its": False}, "is no containerd.service of systemd's"),
    ],
)
def test_a_restart_that_would_harm_is_refused(
    new_node: Callable[..., StandInNode], facts: dict[str, object], reason: str
) -> None:
    node = new_node(PLAIN, **facts)
    assert reason in node.refused("mirror", ENTRY, "--allow-restart")
    assert node.restarts == 0


def test_mirrors_in_the_old_place_are_refused(new_node: Callable[..., StandInNode]) -> None:
    old = '[plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]\n  endpoint = ["https://m"]\n'
    node = new_node(PLAIN + old)
    assert "which containerd refuses beside config_path" in node.refused("mirror", ENTRY, "--allow-restart")


def test_a_containerd_that_does_not_come_back_gets_its_old_file_back(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(PLAIN, comes_back=False)
    error = node.refused("mirror", ENTRY, "--allow-restart")
    assert "the change was taken back: `systemctl restart containerd` failed with status 1" in error
    assert node.restarts == 2, "once with the change and once without"


def test_a_file_that_would_read_otherwise_is_left_to_the_administrator(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_node(PLAIN)
    monkeypatch.setattr(containerd, "with_config_path", lambda raw, *_: raw + b'[debug]\nlevel = "debug"\n')
    assert "config_path can't be set safely" in node.refused("mirror", ENTRY, "--allow-restart")


# --- whose containerd ---


def test_dockers_own_containerd_is_nobodys_engine(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.process(node.pid, "containerd", "containerd", "--config", "/var/run/docker/containerd/containerd.toml")
    assert "no container engine on this node" in node.apply()


@pytest.mark.parametrize(
    ("words", "settings_text", "counts"),
    [
        (["/usr/bin/kubelet", "--container-runtime-endpoint=unix:///run/containerd/containerd.sock"], "", True),
        (["/usr/bin/kubelet", "--container-runtime-endpoint=unix:///run/cri-dockerd.sock"], "", False),
        (["/usr/bin/kubelet", "--container-runtime=docker"], "", False),
        (["/opt/kube", "kubelet"], "", True),
        (["/usr/bin/kubelet"], "containerRuntimeEndpoint: unix:///run/cri-dockerd.sock\n", False),
        (["/usr/bin/kubelet"], 'containerRuntimeEndpoint: "unix:///run/containerd/containerd.sock"\n', True),
        (["/usr/bin/sleep"], "", False),
    ],
)
def test_beside_docker_containerd_counts_where_the_kubelet_uses_it(
    new_node: Callable[..., StandInNode],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    settings_text: str,
    counts: bool,
) -> None:
    node = new_node()
    monkeypatch.setattr(docker, "find_docker", lambda _: object())
    file = node.root / "kubelet.yaml"
    file.write_text(settings_text)
    node.process(400, "some", *words, *(["--config", str(file)] if settings_text else []))
    with node.in_effect():
        change = containerd.prepare(node.places, parse_mirror(parse_entry(ENTRY), None, None), OPTIONS)
    assert (change is not None) == counts


@pytest.mark.parametrize("disabled", ['"cri"', '"io.containerd.grpc.v1.cri"'])
def test_a_containerd_without_cri_pulls_nothing(new_node: Callable[..., StandInNode], disabled: str) -> None:
    node = new_node(f"disabled_plugins = [{disabled}]\n")
    assert "no container engine on this node" in node.apply()


def test_a_file_that_k3s_writes_is_left_alone(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    config = node.root / "var/lib/rancher/k3s/agent/etc/containerd/config.toml"
    node.write(config, PLAIN)
    node.process(node.pid, "containerd", "/usr/bin/containerd", "-c", str(config))
    assert "is written by k3s or rke2 at each start" in node.refused("mirror", ENTRY)


def test_two_containerds_are_told(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.process(301, "containerd", "/usr/bin/containerd")
    assert "several containerd run here, processes 300, 301" in node.refused("mirror", ENTRY)


def test_an_engine_that_is_left_out_loses_its_mirror(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    before = node.files()
    node.apply()
    assert node.apply(ENTRY, "--engines", "docker") == f"removed: mirror {ENTRY}; hosts.toml as it was\n"
    assert node.files() == before


def test_a_mirror_that_does_not_answer_is_not_written(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(cache=("refused", True))
    assert "does not answer this node" in node.refused("mirror", ENTRY)


def test_another_owners_mirror_is_kept(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.apply(ENTRY, "--owner", "old")
    node.apply(ENTRY, "--owner", "new")
    assert node.remove("--owner", "old") == "kept: the mirror here is kept by new, nothing touched\n"
    assert node.remove("--owner", "new").startswith("removed: ")


def test_a_damaged_record_is_told(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.write(Path(node.places.state) / "containerd.json", '{"files": 1}')
    assert "containerd.json is damaged" in node.refused("mirror", ENTRY)


def test_a_configuration_that_containerd_refuses_is_told(new_node: Callable[..., StandInNode]) -> None:
    assert "config dump` fails with status 1; mend that file" in new_node("[[[").refused("mirror", ENTRY)


@pytest.mark.parametrize("text", ["'''\n[x]\n'''", '"""\n"""'])
def test_a_string_of_several_lines_is_refused(new_node: Callable[..., StandInNode], text: str) -> None:
    node = new_node()
    node.write(node.hosts, f"server = {text}\n")
    assert "has a string of several lines" in node.refused("mirror", ENTRY)


def test_files_that_are_no_text_are_refused(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.hosts.parent.mkdir(parents=True)
    node.hosts.write_bytes(b"\xff")
    assert "is not UTF-8" in node.refused("mirror", ENTRY)
    with pytest.raises(Trouble, match="not UTF-8"):
        containerd_config.with_config_path(b"\xff", "/x", "f")


# --- together with docker, and killed ---


def test_where_docker_fails_containerd_is_put_back(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_node()

    def fail() -> Said:
        raise Trouble("several dockerd run here, processes 1, 2; stop all but one")

    change = Change(settled=False, carry_out=fail)
    monkeypatch.setattr(
        mirror,
        "ENGINES",
        [*mirror.ENGINES[:1], Engine("docker", lambda *_: change, lambda *_: None, lambda _: None)],
    )
    before = node.files()
    status, _, error = node.run("mirror", ENTRY)
    assert (status, "several dockerd" in error) == (1, True)
    assert node.files() == before, "all engines or none"


@pytest.mark.parametrize("allow", [["--allow-restart"], []])
@pytest.mark.parametrize("config", [PLAIN, ""])
def test_killed_at_any_point_files_are_the_old_or_the_new_ones_and_the_next_run_finishes(
    new_node: Callable[..., StandInNode], config: str, allow: list[str]
) -> None:
    if config == PLAIN and not allow:
        pytest.skip("that is refused before anything is written")
    for kill_at in itertools.count(1):
        node = new_node(config)
        node.write(node.hosts, THEIRS)
        before = node.files()
        node.kill_at = kill_at
        try:
            node.apply(ENTRY, *allow)
        except Killed:
            assert node.hosts.read_text() in (THEIRS, THEIRS.replace("[host.", BLOCK + "[host.", 1)), "old or new"
            node.kill_at = 0
            node.apply(ENTRY, "--allow-restart")
            assert owned.BEGIN in node.hosts.read_text(), "the next run finishes"
            node.remove()
            assert node.files() == before, f"killed at step {kill_at}: everything comes back"
        else:
            break
    assert kill_at > 10, "there were steps to strike at"


def test_killed_while_it_is_taken_back_the_next_run_finishes(new_node: Callable[..., StandInNode]) -> None:
    for kill_at in itertools.count(1):
        node = new_node()
        node.write(node.hosts, THEIRS)
        before = node.files()
        node.apply()
        node.steps, node.kill_at = 0, kill_at
        try:
            node.remove()
        except Killed:
            node.kill_at = 0
            node.remove()
            assert node.files() == before, f"killed at step {kill_at}"
        else:
            break
    assert kill_at > 5, "there were steps to strike at"


# --- the text ---

NAMES = st.text("abcdefghij.-", min_size=1, max_size=8)
LINES = st.one_of(
    st.builds('[host."https://{}"]'.format, NAMES),
    st.builds('  capabilities = ["{}"]'.format, NAMES),
    st.builds("# {}".format, NAMES),
    st.just(""),
    st.builds('[host."https://{}".header]'.format, NAMES),
)
FILES = st.builds(lambda head, lines, end: head + "\n".join(lines) + end, st.sampled_from(["", 'server = "https://x"\n']), st.lists(LINES), st.sampled_from(["", "\n"]))  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(text=FILES)
def test_our_block_can_be_taken_out_of_any_file_again(text: str) -> None:
    block = hosts_toml.mirror_block([parse_entry(ENTRY)], None, dial_timeout=False)
    written = hosts_toml.with_mirror(text.encode(), block, "f")
    left = owned.without_block(written)
    assert left is not None
    assert left.decode() in (text, text + "\n"), "at most a missing end of line is added"
    first = re.search(r"^[ \t]*\[host", written.decode(), re.MULTILINE)
    assert first is not None
    assert written.decode()[first.start() :].startswith(f'[host."{ENTRY}"]'), "ours comes first"


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("[plugins.cri]\n", "[plugins.cri.registry]"),
        ("version = 1\n", "[plugins.cri.registry]"),
        ("version = 2\n", '[plugins."io.containerd.grpc.v1.cri".registry]'),
        ("version = 3\n", '[plugins."io.containerd.cri.v1.images".registry]'),
        ("version = 4\n", '[plugins."io.containerd.cri.v1.images".registry]'),
        ("version = 3", '[plugins."io.containerd.cri.v1.images".registry]'),
    ],
)
def test_config_path_goes_into_the_table_of_the_files_version(text: str, table: str) -> None:
    written = containerd_config.with_config_path(text.encode(), "/p", "f").decode()
    assert f'{table}\n  config_path = "/p"\n' in written
    assert containerd_config.parse_dump(written).config_path == "/p"
    assert owned.without_block(written.encode()) in (text.encode(), text.encode() + b"\n")


def test_the_dump_of_containerd_2_is_understood() -> None:
    dump = containerd_config.parse_dump(
        "version = 4\nimports = ['/etc/containerd/conf.d/*.toml']\ndisabled_plugins = []\n[plugins]\n"
        "  [plugins.'io.containerd.cri.v1.images']\n    [plugins.'io.containerd.cri.v1.images'.registry]\n"
        "      config_path = '/a:/b'\n  [plugins.'io.containerd.transfer.v1.local']\n    config_path = ''\n"
    )
    assert (dump.config_path, dump.has_mirrors, dump.has_cri) == ("/a:/b", False, True)
    assert dump.imports == ["/etc/containerd/conf.d/*.toml"]
