"""What docker_mirror.py does to a node's docker and its daemon.json, against a stand-in for dockerd."""

import datetime
import hashlib
import io
import ipaddress
import json
import os
import signal
import ssl
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from on_node import address, daemon_json, docker, errors, files, mirror, payload, places, tools
from rendering import node_command
from sandbox.identities import Authority
from tests.unit.messages import remember

ENTRY, HOSTPORT = "http://10.0.0.1:30500", "10.0.0.1:30500"
OTHER, OTHER_HOSTPORT = "http://10.0.0.2:30500", "10.0.0.2:30500"
OURS = {ENTRY, HOSTPORT, OTHER, OTHER_HOSTPORT, "https://cache:5000"}
STARTED = 1_000_000.0
SECRET = "s3cr3t"


class Killed(BaseException):
    """A kill that strikes the script between two steps."""


class StandInDocker:
    """Stands for dockerd: reads its file at its start and on SIGHUP, and then applies only the keys it finds there."""

    def __init__(self, node: "StandInNode") -> None:
        self.node, self.pid, self.reloads = node, 4242, 0
        self.live: dict[str, Any] = {}
        self.obedient, self.dies, self.answers = True, False, True
        self.store = "overlay2"
        self.proxies: dict[str, str] = {}
        self.ticks = 0
        self.reload_times: list[int] = []

    def file(self) -> dict[str, Any]:
        raw = self.node.config.read_bytes() if self.node.config.exists() else b""
        return json.loads(raw.decode("utf-8-sig")) if raw.strip() else {}

    def start(self) -> None:
        self.live = self.file()
        process = Path(self.node.places.proc) / str(self.pid)
        (process / "ns").mkdir(parents=True, exist_ok=True)
        (process / "comm").write_text("dockerd\n")
        (process / "cmdline").write_bytes(b"\0".join(flag.encode() for flag in self.node.argv) + b"\0")
        (process / "stat").write_text(f"{self.pid} (dockerd) S " + " ".join(["0"] * 18) + f" {self.ticks} 0")
        for kind in ("pid", "mnt"):
            link = process / "ns" / kind
            if not link.is_symlink():
                link.symlink_to(kind + ":[1]")

    def stop(self) -> None:
        (Path(self.node.places.proc) / str(self.pid) / "comm").unlink()

    def reload(self) -> None:
        self.reloads += 1
        if self.dies:
            self.stop()
        elif self.obedient:
            self.live.update(self.file())

    def info(self) -> dict[str, Any]:
        insecure = [entry.removeprefix("http://") for entry in self.live.get("insecure-registries", [])]
        return {
            "ServerVersion": "20.10.24",
            "ContainersRunning": 2,
            **self.proxies,
            "DockerRootDir": str(self.node.config.parent),
            "DriverStatus": [["driver-type", self.store]],
            "Debug": self.live.get("debug", False),
            "Labels": self.live.get("labels", []),
            "LiveRestoreEnabled": self.live.get("live-restore", False),
            "DefaultRuntime": self.live.get("default-runtime", "runc"),
            "Plugins": {"Authorization": self.live.get("authorization-plugins")},
            "RegistryConfig": {
                "Mirrors": [url.rstrip("/") + "/" for url in self.live.get("registry-mirrors", [])],
                "IndexConfigs": {"docker.io": {"Secure": True}}
                | {name: {"Secure": False} for name in insecure if "/" not in name},
                "InsecureRegistryCIDRs": ["127.0.0.0/8", *(name for name in insecure if "/" in name)],
            },
        }


class StandInNode:
    """A node in a folder of its own: its /proc, its files, its docker, and a mirror that answers or does not."""

    def __init__(self, root: Path, content: str | bytes | None = None) -> None:
        self.places = places.Places(str(root))
        self.config = root / "etc/docker/daemon.json"
        self.config.parent.mkdir(parents=True)
        self.argv = ["/usr/bin/dockerd", "-H", "fd://", "--config-file", str(self.config)]
        self.cache: tuple[str | None, bool] = (None, True)
        self.silent: set[str] = set()
        self.validates: tuple[int, str] | None = None
        self.installed, self.uid, self.steps, self.kill_at = True, 0, 0, 0
        self.service = ""
        (root / "proc/self/ns").mkdir(parents=True)
        for kind in ("pid", "mnt"):
            (root / "proc/self/ns" / kind).symlink_to(kind + ":[1]")
        (root / "proc/stat").write_text(f"cpu 1\nbtime {STARTED:.0f}\n")
        self.docker = StandInDocker(self)
        if content is not None:
            self.write(content, at=STARTED - 100)
        self.docker.start()

    def write(self, content: str | bytes, at: float | None = None) -> None:
        self.config.write_bytes(content.encode() if isinstance(content, str) else content)
        if at is not None:
            os.utime(self.config, (at, at))

    def raw(self) -> bytes | None:
        return self.config.read_bytes() if self.config.exists() else None

    def doc(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.raw() or b"{}").decode("utf-8-sig"))
        return found

    def tool(self, argv: list[str], _seconds: float, given: bytes = b"") -> tuple[int, str, str]:
        if argv[0] == "docker" and "info" in argv:
            return (0, json.dumps(self.docker.info()), "") if self.docker.answers else (1, "", "no answer")
        if argv[0] == "docker":
            return 0, "\n".join(map(str, self.docker.reload_times)), ""
        if argv[0] == "systemctl":
            shown = "ExecStart={ path=x ; argv[]=" + " ".join(self.argv) + " ; ignore_errors=no ; }\n" + self.service
            return (0, shown, "") if self.installed else (0, "", "")
        if "--help" in argv:
            return 0, "--validate" if self.validates else "", ""
        if "--validate" in argv and self.validates:
            assert json.loads(given.decode("utf-8-sig")), "dockerd is given the file by standard input"
            return self.validates[0], "", self.validates[1]
        return (0 if self.installed else 127), "", ""

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

    def kill(self, pid: int, number: int) -> None:
        assert (pid, number) == (self.docker.pid, signal.SIGHUP), "docker may be reloaded, and nothing else"
        self.docker.reload()

    def probe(self, url: str, *_: object) -> tuple[str | None, bool]:
        return ("no route to host", True) if url[: -len("/v2/")] in self.silent else self.cache

    @contextmanager
    def in_effect(self) -> Iterator[None]:
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] += seconds

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tools, "run_tool", self.tool)
            patch.setattr(address, "probe", self.probe)
            patch.setattr(time, "sleep", sleep)
            patch.setattr(time, "monotonic", lambda: now[0])
            patch.setattr(os, "geteuid", lambda: self.uid)
            patch.setattr(os, "kill", self.step(self.kill))
            patch.setattr(os, "fsync", self.step(lambda _: None))
            for name in ("replace", "unlink", "mkdir", "rmdir"):
                patch.setattr(os, name, self.step(getattr(os, name)))
            yield

    def run(self, *argv: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with self.in_effect(), redirect_stdout(out), redirect_stderr(err):
            status = mirror.run(argv, self.places)
        assert SECRET not in out.getvalue() + err.getvalue(), "contents of daemon.json must never be printed"
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
        before, live, date = self.raw(), dict(self.docker.live), (self.stamp() or (0,))[0]
        status, out, err = self.run(*argv)
        assert (status, out) == (1, ""), "a refusal exits 1 and prints nothing on stdout"
        assert (self.raw(), (self.stamp() or (0,))[0]) == (before, date), "a refusal leaves the file as it was"
        settled = {key: value for key, value in self.docker.live.items() if value or key in live}
        assert settled == live, "a refusal leaves docker as it is"
        return err

    def stamp(self) -> tuple[int, int] | None:
        return (self.config.stat().st_mtime_ns, self.config.stat().st_ino) if self.config.exists() else None

    def leftovers(self) -> list[str]:
        found = [str(path) for path in self.config.parent.iterdir() if path != self.config]
        state = Path(self.places.state)
        return found + [path.name for path in (state.iterdir() if state.exists() else ()) if path.name.startswith(".")]


@pytest.fixture
def new_node(tmp_path: Path) -> Callable[..., StandInNode]:
    return lambda content=None: StandInNode(tmp_path / "node", content)


# --- apply ---


@pytest.mark.parametrize(
    ("content", "entry", "wanted"),
    [
        (None, ENTRY, {"registry-mirrors": [ENTRY], "insecure-registries": [HOSTPORT]}),
        ("", ENTRY, {"registry-mirrors": [ENTRY], "insecure-registries": [HOSTPORT]}),
        (" \n", ENTRY, {"registry-mirrors": [ENTRY], "insecure-registries": [HOSTPORT]}),
        ("{}", "https://cache:5000", {"registry-mirrors": ["https://cache:5000"]}),
        (
            '{"a": 1, "registry-mirrors": ["https://m"], "insecure-registries": ["x:1"]}',
            ENTRY,
            {"a": 1, "registry-mirrors": [ENTRY, "https://m"], "insecure-registries": ["x:1", HOSTPORT]},
        ),
        (
            '{"insecure-registries": ["http://10.0.0.1:30500"]}',
            ENTRY,
            {"insecure-registries": [HOSTPORT], "registry-mirrors": [ENTRY]},
        ),
        (
            '{"registry-mirrors": ["https://m", "HTTP://10.0.0.1:30500/"]}',
            ENTRY,
            {"registry-mirrors": ["https://m", "HTTP://10.0.0.1:30500/"], "insecure-registries": [HOSTPORT]},
        ),
    ],
)
def test_apply_puts_the_mirror_first_and_keeps_everything_else(
    new_node: Callable[..., StandInNode], content: str | None, entry: str, wanted: dict[str, Any]
) -> None:
    node = new_node(content)
    more = f"; replaced OpenPAI's {ENTRY}" if content and '["http://10.0.0.1:30500"]' in content else ""
    assert node.apply(entry) == f"live: mirror {entry}, docker 20.10.24, reloaded{more}\n", "one stable line"
    assert node.doc() == wanted, "exactly our entries are added, ours first"
    assert node.docker.live == wanted, "docker has taken the file"
    assert node.docker.reloads == 1, "one reload is enough"
    assert node.leftovers() == [], "no temporary file stays"


def test_a_generation_says_nothing_to_the_node(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply()
    assert "nothing touched" in node.apply(ENTRY, "--generation", "3"), "it only makes the command another one"


def test_several_entries_come_first_in_their_order_and_go_again(new_node: Callable[..., StandInNode]) -> None:
    content = '{"registry-mirrors": ["https://m.example", "http://10.0.0.3:30500"]}'
    node = new_node(content)
    words = ("--also", "10.0.0.2,10.0.0.3", "--upstreams", "ghcr.io")
    said = node.apply(ENTRY, *words)
    assert node.doc()["registry-mirrors"] == [ENTRY, OTHER, "https://m.example", "http://10.0.0.3:30500"], (
        "the administrator's own keeps its place, and docker knows of Docker Hub alone"
    )
    assert node.doc()["insecure-registries"] == ["10.0.0.1:30500", "10.0.0.2:30500", "10.0.0.3:30500"]
    assert said.startswith(f"live: mirror {ENTRY} or {OTHER} or http://10.0.0.3:30500, docker")
    assert "nothing touched" in node.apply(ENTRY, *words)
    node.apply(ENTRY, "--also", "10.0.0.3")
    assert node.doc()["insecure-registries"] == ["10.0.0.1:30500", "10.0.0.3:30500"], "one that left is gone"
    node.remove()
    assert node.raw() == content.encode()


def test_one_entry_that_answers_is_enough(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.silent = {ENTRY, OTHER}
    said = node.refused("mirror", ENTRY, "--also", "10.0.0.2")
    assert f"{ENTRY}/v2/: no route to host" in said
    assert f"{OTHER}/v2/: no route to host" in said
    node.silent = {ENTRY}
    assert node.apply(ENTRY, "--also", "10.0.0.2").startswith("live")


def test_a_second_apply_touches_nothing(new_node: Callable[..., StandInNode]) -> None:
    node = new_node('{"debug": true}')
    node.apply()
    stamp = node.stamp()
    assert node.apply() == f"live: mirror {ENTRY}, docker 20.10.24, nothing touched\n", "it says so"
    assert node.stamp() == stamp, "the file is not even rewritten"
    assert node.docker.reloads == 1, "docker is not reloaded again"


def test_what_the_administrator_wrote_himself_is_used_and_not_ours(new_node: Callable[..., StandInNode]) -> None:
    content = json.dumps({"registry-mirrors": [ENTRY + "/"], "insecure-registries": [HOSTPORT]})
    node = new_node(content)
    assert "nothing touched" in node.apply(), "his entries serve"
    assert node.remove() == "none: nothing of ours on this node, nothing touched\n", (
        "his entries are not ours to remove"
    )
    assert node.raw() == content.encode(), "the file is his"


def test_an_entry_of_ours_that_changed_replaces_the_old_one(new_node: Callable[..., StandInNode]) -> None:
    node = new_node('{"registry-mirrors": ["https://m"]}')
    node.apply()
    node.apply(OTHER)
    wanted = {"registry-mirrors": [OTHER, "https://m"], "insecure-registries": [OTHER_HOSTPORT]}
    assert (node.doc(), node.docker.live) == (wanted, wanted), "the old entry is gone from file and docker"
    node.remove()
    assert node.raw() == b'{"registry-mirrors": ["https://m"]}', "the original comes back to the byte"


def test_a_change_from_http_to_https_leaves_no_insecure_entry_live(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply()
    node.apply("https://cache:5000")
    assert node.doc() == {"registry-mirrors": ["https://cache:5000"]}, "the key that we brought vanished again"
    assert node.docker.live["insecure-registries"] == [], "docker keeps a key that vanishes: it had to be emptied"


def test_a_mirror_that_was_moved_back_is_put_first_again(new_node: Callable[..., StandInNode]) -> None:
    node = new_node('{"registry-mirrors": ["https://m"]}')
    node.apply()
    doc = node.doc() | {"registry-mirrors": ["https://m", ENTRY]}
    node.write(json.dumps(doc))
    node.docker.reload()
    node.apply()
    assert node.docker.live["registry-mirrors"] == [ENTRY, "https://m"], "ours goes first"


def test_a_stopped_docker_gets_its_file_and_no_signal(new_node: Callable[..., StandInNode]) -> None:
    node = new_node('{"debug": true}')
    node.docker.stop()
    assert node.apply() == f"written: mirror {ENTRY}, docker is stopped, live at its next start\n", "it says so"
    assert node.docker.reloads == 0, "there is nothing to reload"
    assert "nothing touched" in node.apply(), "the second run writes nothing"
    node.remove()
    assert node.raw() == b'{"debug": true}', "removal works without docker"


def test_a_node_without_docker_is_left_alone(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.docker.stop()
    node.installed = False
    assert node.apply() == "none: no container engine on this node, nothing to do\n", "it says so"
    assert not Path(node.places.state).exists(), "nothing is written"


def test_a_docker_inside_a_container_is_not_this_nodes_docker(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    link = Path(node.places.proc) / "4242/ns/mnt"
    link.unlink()
    link.symlink_to("mnt:[2]")
    node.installed = False
    assert node.apply() == "none: no container engine on this node, nothing to do\n", (
        "another mount namespace, another machine"
    )


def test_a_link_is_followed_and_stays_a_link(new_node: Callable[..., StandInNode], tmp_path: Path) -> None:
    node = new_node()
    real = tmp_path / "elsewhere.json"
    real.write_text("{}")
    real.chmod(0o640)
    os.utime(real, (STARTED - 1, STARTED - 1))
    node.config.symlink_to(real)
    node.apply()
    assert node.config.is_symlink(), "the link stays"
    assert ENTRY in real.read_text(), "the real file changed"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640, "its mode stays"
    node.remove()
    assert real.read_text() == "{}", "and it comes back"


def test_a_new_file_is_world_readable_and_the_state_is_not(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.apply()
    assert stat.S_IMODE(node.config.stat().st_mode) == 0o644, "as docker's packages make it"
    state = Path(node.places.state)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700, "the state folder is root's alone"
    assert stat.S_IMODE((state / "record.json").stat().st_mode) == 0o600, "the record holds the file's content"


# --- refusals ---


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1,\n "b": }', "line 2 column 7"),
        ("[1]", "top level"),
        ('{"registry-mirrors": "x"}', "'registry-mirrors' must be a list of strings"),
        ('{"insecure-registries": [1]}', "'insecure-registries' must be a list of strings"),
        ('{"debug": true,\n "debug": false}', "line 2 column 2: the key 'debug' stands twice"),
        ('{"a": NaN}', "out of range"),
        ('{"a": 1e999}', "out of range"),
        (b'{"a": "\xff"}', "not UTF-8"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_a_file_that_docker_could_not_read_is_named_with_the_spot(
    new_node: Callable[..., StandInNode], content: str | bytes, words: str
) -> None:
    node = new_node("{}")
    node.write(content)
    assert words in node.refused("mirror", ENTRY), "the message names the trouble"


@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.1:30500",
        "ftp://h:1",
        "http://",
        "http://u:s3cr3t@h:1",
        "http://h:99999",
        "http://h:1/path",
        "http://h:1?q",
        "http://[::1",
        "http://h :1",
    ],
)
def test_an_address_that_docker_would_refuse_is_refused(new_node: Callable[..., StandInNode], entry: str) -> None:
    assert "mirror's address" in new_node().refused("mirror", entry), "the address is named as the trouble"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--registry-mirror=https://m"], "--registry-mirror"),
        (["--insecure-registry", "x:1"], "--insecure-registry"),
        (["--authorization-plugin=p"], "--authorization-plugin"),
        (["-D"], "--debug"),
    ],
)
def test_a_key_given_as_a_flag_too_is_refused(
    new_node: Callable[..., StandInNode], flags: list[str], named: str
) -> None:
    node = new_node('{"debug": false}')
    node.argv += flags
    node.docker.start()
    assert named in node.refused("mirror", ENTRY), "docker would refuse the reload and not start again"
    node.docker.stop()
    if named != "--insecure-registry":
        assert named in node.refused("mirror", ENTRY), "the service's own command line counts where docker is stopped"


def test_a_stopped_docker_gets_no_insecure_entry_since_its_store_is_not_known(
    new_node: Callable[..., StandInNode],
) -> None:
    node = new_node("{}")
    node.docker.stop()
    node.apply()
    assert node.doc() == {"registry-mirrors": [ENTRY]}, "docker 29 would no longer verify Docker Hub itself"


def test_an_insecure_flag_does_not_hinder_an_https_mirror(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.argv += ["--insecure-registry=x:1"]
    node.docker.start()
    assert "live: mirror" in node.apply("https://cache:5000"), "that key is not written"


def test_all_problems_are_said_at_once(new_node: Callable[..., StandInNode]) -> None:
    node = new_node('{"debug": false}')
    node.argv += ["--registry-mirror=https://m"]
    node.docker.start()
    node.docker.live["debug"] = True
    node.cache = ("refused", True)
    said = node.refused("mirror", ENTRY).splitlines()
    assert len(said) == 3, "the flag, the cache and the waiting edit, a line each"
    assert all(line.startswith("docker-cache on ") for line in said), "each names the node"


def test_a_cache_that_does_not_answer_stops_apply_but_not_remove(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply()
    node.cache = ("connection refused", False)
    assert f"{OTHER}/v2/: connection refused" in node.refused("mirror", OTHER), "URL and reason are named"
    assert node.remove() == "removed: daemon.json as it was\n", "taking out needs no cache"


def test_a_docker_that_does_not_answer_is_a_clear_error(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.docker.answers = False
    assert "journalctl -u docker" in node.refused("mirror", ENTRY), "with a remedy"


def test_what_dockerd_says_of_the_file_counts_and_its_values_stay_secret(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(json.dumps({"log-opts": {"token": SECRET}}))
    node.validates = (1, f"log-opts: bad {SECRET}")
    assert "(log-opts)" in node.refused("mirror", ENTRY), "the key is named, the value is not"
    node.validates = (0, "")
    assert "live: mirror" in node.apply(), "a valid file is taken"


PENDING: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({"debug": True}, {"debug": True}, []),
    ({"debug": True}, {}, ["debug"]),
    ({}, {"debug": True}, []),
    ({"labels": ["b", "a"]}, {"labels": ["a", "b"]}, []),
    ({"labels": ["a"]}, {}, ["labels"]),
    ({"live-restore": True}, {}, ["live-restore"]),
    ({"default-runtime": "nvidia"}, {}, ["default-runtime"]),
    ({"default-runtime": ""}, {"default-runtime": "nvidia"}, []),
    ({"authorization-plugins": ["p"]}, {"authorization-plugins": ["p"]}, []),
    ({}, {"authorization-plugins": ["p"]}, ["authorization-plugins"]),
    ({"registry-mirrors": ["https://m"]}, {}, ["registry-mirrors"]),
    ({}, {"registry-mirrors": ["https://m"]}, ["registry-mirrors"]),
    ({"registry-mirrors": ["https://m"]}, {"registry-mirrors": ["https://M/"]}, []),
    ({"insecure-registries": ["10.1.2.3/8"]}, {"insecure-registries": ["10.0.0.0/8"]}, []),
    ({"insecure-registries": ["x:1"]}, {}, ["insecure-registries"]),
    ({"insecure-registries": ["http://x:1"]}, {"insecure-registries": ["x:1"]}, []),
    ({"max-concurrent-downloads": 9}, {"max-concurrent-downloads": 9}, ["max-concurrent-downloads (may be waiting)"]),
    ({"log-driver": "json-file"}, {}, []),
]


@pytest.mark.parametrize(("content", "live", "named"), PENDING)
def test_edits_that_wait_for_a_reload_are_named(
    new_node: Callable[..., StandInNode], content: dict[str, Any], live: dict[str, Any], named: list[str]
) -> None:
    node = new_node(json.dumps(content))
    node.write(json.dumps(content), at=STARTED + 100)
    node.docker.live = live
    if not named:
        assert "live: mirror" in node.apply(), "nothing waits"
        return
    said = node.refused("mirror", ENTRY)
    assert f": {', '.join(named)}; reload" in said, "exactly the waiting keys are named"
    assert "docker_cache_allow_pending_changes" in said, "with the key that allows it"
    status, out, _ = node.run("mirror", ENTRY, "--allow-pending-changes")
    assert (status, named[0] in out) == (0, True), "allowed, they are applied and said"


def test_what_docker_read_already_does_not_wait(new_node: Callable[..., StandInNode]) -> None:
    node = new_node('{"features": {"buildkit": true}}')
    assert "reloaded" in node.apply(), "the file is older than dockerd"
    assert "reloaded" in node.apply(OTHER), "the file is the one that we had reloaded ourselves"
    node.write(json.dumps(node.doc() | {"features": {}}), at=STARTED + 100)
    assert "features" in node.refused("mirror", ENTRY), "an edit since may be waiting"
    node.docker.reload_times = [int((STARTED + 99) * 1e9)]
    assert "features" in node.refused("mirror", ENTRY), "an earlier reload did not read it"
    node.docker.reload_times = [int((STARTED + 101) * 1e9)]
    assert "reloaded" in node.apply(), "a later one did"


@pytest.mark.parametrize("words", [("mirror", OTHER), ("remove",)])
def test_a_plugin_that_could_end_docker_is_refused_even_where_waiting_edits_are_allowed(
    new_node: Callable[..., StandInNode], words: tuple[str, ...]
) -> None:
    node = new_node("{}")
    node.apply()
    node.write(json.dumps(node.doc() | {"authorization-plugins": ["p"]}))
    said = node.refused(*words, "--allow-pending-changes")
    assert "ends dockerd" in said, "docker 20.10 and 29 exit in a reload that does not find a plugin"
    node.docker.live["authorization-plugins"] = ["p"]
    assert node.run(*words)[0] == 0, "one that runs already is no danger"


def test_flags_that_a_reload_resets_are_named(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.argv += ["--max-concurrent-downloads=10"]
    node.docker.start()
    assert "--max-concurrent-downloads" in node.refused("mirror", ENTRY), "docker puts it back to its default"


# --- taken back ---


@pytest.mark.parametrize("content", [None, "{}", '{"registry-mirrors": ["https://m"]}'])
def test_a_reload_that_docker_ignores_is_taken_back(new_node: Callable[..., StandInNode], content: str | None) -> None:
    node = new_node(content)
    node.docker.obedient = False
    assert "is not live" in node.refused("mirror", ENTRY), "it fails with the reason"
    assert node.raw() == (None if content is None else content.encode()), "the file is as it was"
    assert not Path(node.places.state).exists(), "nothing of ours stays"


@pytest.mark.parametrize("content", ["{}", '{"registry-mirrors": ["https://m"]}'])
def test_half_a_reload_is_taken_back_from_docker_too(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    node = new_node(content)

    def half() -> None:
        node.docker.live.update({k: v for k, v in node.docker.file().items() if k == "registry-mirrors"})

    monkeypatch.setattr(node.docker, "reload", half)
    assert "daemon.json and docker are as they were" in node.refused("mirror", ENTRY), "docker gave the mirror up again"


def test_a_docker_that_ends_in_the_reload_finds_its_old_file(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.docker.dies = True
    status, _, said = node.run("mirror", ENTRY)
    assert status == 1, "it fails"
    assert "ended during the reload" in said, "with the reason"
    assert node.raw() == b"{}", "and the next start reads what it read before"


def test_a_removal_that_docker_ignores_is_taken_back(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply()
    before = (node.raw(), Path(node.places.record).read_bytes())
    node.docker.obedient = False
    assert node.run("remove")[0] == 1, "docker still pulls through the mirror"
    assert (node.raw(), Path(node.places.record).read_bytes()) == before, "file and record are as they were"
    node.docker.obedient = True
    assert node.remove() == "removed: daemon.json as it was\n", "the next run succeeds"


def test_a_disk_that_refuses_leaves_everything_as_it_was(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, real = new_node("{}"), os.replace

    def refuse(source: str, target: str) -> None:
        if target == str(node.config):
            raise OSError(30, "Read-only file system", source, None, target)
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    said = node.refused("mirror", ENTRY)
    assert "daemon.json: Read-only file system; make" in said, "file, reason and remedy"
    assert not Path(node.places.record).exists(), "nothing is ours then"
    assert node.docker.reloads == 0, "docker heard nothing"


# --- remove ---


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{}",
        "{}\n",
        '{"a":1}',
        '{\n\t"a": {\n\t\t"b": []\n\t}\n}',
        '{\r\n  "labels": ["x=ü"]\r\n}\r\n',
        '\ufeff{\n    "insecure-registries": []\n}\n',
        '{"registry-mirrors": ["https://m"], "z": 1.50}',
    ],
)
def test_removal_brings_the_file_back_to_the_byte(new_node: Callable[..., StandInNode], content: str | None) -> None:
    node = new_node(content)
    before = node.stamp()
    node.apply()
    assert node.remove() == "removed: daemon.json as it was\n", "it says so"
    assert node.raw() == (None if content is None else content.encode()), "to the byte"
    assert not before or (node.stamp() or (0,))[0] == before[0], "with its old date: what docker has read does not wait"
    assert not any(ENTRY in str(value) or HOSTPORT in str(value) for value in node.docker.live.values()), "not live"
    assert node.docker.reloads == 2, "one reload each"
    assert not Path(node.places.state).exists(), "nothing of ours stays"
    assert node.remove() == "none: nothing of ours on this node, nothing touched\n", (
        "a second removal has nothing to do"
    )


def test_removal_keeps_what_the_administrator_added_and_his_style(new_node: Callable[..., StandInNode]) -> None:
    node = new_node('{\n    "debug": false\n}\n')
    node.apply()
    doc = OrderedDict([("labels", ["a"]), *node.doc().items()])
    doc["registry-mirrors"].append("https://m")
    node.write(json.dumps(doc, indent=4) + "\n")
    node.docker.reload()
    assert "kept" in node.remove(), "it says that the file differs from the first one"
    wanted = {"labels": ["a"], "debug": False, "registry-mirrors": ["https://m"]}
    assert node.raw() == (json.dumps(wanted, indent=4) + "\n").encode(), "only ours went, in the file's style"
    assert (Path(node.places.state) / "daemon.json.original").read_bytes() == b'{\n    "debug": false\n}\n', "kept"


def test_removal_leaves_a_file_that_holds_nothing_of_ours_to_the_byte(new_node: Callable[..., StandInNode]) -> None:
    node, his = new_node("{}"), '{ "debug":false   }'
    node.apply()
    node.write(his)
    assert "kept" in node.remove(), "the file is not what it was at first"
    assert node.raw() == his.encode(), "his layout stays"
    assert node.docker.live["registry-mirrors"] == [], "docker, which kept the vanished key, gave the mirror up"


def test_removal_takes_one_entry_and_leaves_the_administrators_own_copy(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply()
    node.write(json.dumps(node.doc() | {"registry-mirrors": [ENTRY, ENTRY + "/"]}))
    assert "kept" in node.remove(), "docker still has a mirror there, and is to have it"
    assert node.doc() == {"registry-mirrors": [ENTRY + "/"]}, "the copy is his"


def test_removal_does_not_apply_waiting_edits_unasked(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply()
    node.write(json.dumps(node.doc() | {"debug": True}))
    said = node.refused("remove")
    assert ": debug; reload" in said, "the edit waits"
    assert "`pulumi up`, then again" in said, "the setting alone does not reach the command that a destroy runs"
    status, out, _ = node.run("remove", "--allow-pending-changes")
    assert (status, node.docker.live["debug"], "debug" in out) == (0, True, True), "allowed, it is applied and said"


def test_removal_restores_the_file_of_a_docker_that_is_gone(new_node: Callable[..., StandInNode]) -> None:
    node = new_node('{"a": 1}')
    node.apply()
    node.docker.stop()
    node.installed = False
    assert node.remove() == "removed: daemon.json as it was\n", "our record goes"
    assert node.raw() == b'{"a": 1}', "and the file is as it was"


def test_a_docker_that_reads_another_file_now_gets_the_mirror_there(
    new_node: Callable[..., StandInNode], tmp_path: Path
) -> None:
    node = new_node('{"a": 1}')
    node.apply()
    former, node.config = node.config, tmp_path / "new.json"
    node.argv[-1] = str(node.config)
    node.docker.start()
    node.apply()
    assert former.read_text() == '{"a": 1}', "the file that docker no longer reads is as it was"
    assert node.doc()["registry-mirrors"] == [ENTRY], "the one that it reads has the mirror"
    node.remove()
    assert node.raw() is None, "and gives it back"


# --- owners ---


@pytest.mark.parametrize("content", [None, '{"registry-mirrors": ["https://m"]}'])
@pytest.mark.parametrize("again", [ENTRY, OTHER])
def test_the_old_name_of_a_renamed_node_does_not_take_the_mirror_out(
    new_node: Callable[..., StandInNode], content: str | None, again: str
) -> None:
    node = new_node(content)
    node.apply(ENTRY, "--owner", "A")
    node.apply(again, "--owner", "B")
    before = (node.stamp(), node.docker.reloads, Path(node.places.record).read_bytes())
    assert node.remove("--owner", "A") == "kept: the mirror here is kept by B, nothing touched\n", "it says so"
    assert (node.stamp(), node.docker.reloads, Path(node.places.record).read_bytes()) == before, "nothing is touched"
    assert node.docker.live["registry-mirrors"][0] == again, "the mirror is live"
    assert node.remove("--owner", "B") == "removed: daemon.json as it was\n", "its keeper takes it out"
    assert node.raw() == (None if content is None else content.encode()), "the file is exactly as before"
    assert not Path(node.places.state).exists(), "nothing of ours stays"


def test_a_new_owner_of_a_live_mirror_changes_the_record_alone(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    record = Path(node.places.record)
    node.apply(ENTRY, "--owner", "A")
    before, stamp, first = json.loads(record.read_bytes()), node.stamp(), record.stat()
    assert "nothing touched" in node.apply(ENTRY, "--owner", "A"), "the same owner again"
    assert "nothing touched" in node.apply(), "or none"
    assert (record.stat().st_ino, record.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns), "touches nothing"
    assert "nothing touched" in node.apply(ENTRY, "--owner", "B"), "another one takes over"
    assert json.loads(record.read_bytes()) == before | {"owner": "B"}, "in the record"
    assert (node.stamp(), node.docker.reloads) == (stamp, 1), "and nowhere else"


@pytest.mark.parametrize(("given", "taking"), [((), ("--owner", "A")), (("--owner", "A"), ()), ((), ())])
def test_without_an_owner_on_both_sides_the_mirror_is_taken_out(
    new_node: Callable[..., StandInNode], given: tuple[str, ...], taking: tuple[str, ...]
) -> None:
    node = new_node("{}")
    node.apply(ENTRY, *given)
    record = Path(node.places.record)
    facts = json.loads(record.read_bytes())
    if not given:
        del facts["owner"]
        record.write_text(json.dumps(facts))
    assert node.remove(*taking) == "removed: daemon.json as it was\n", "as before there were owners"


def test_an_owner_whose_change_was_taken_back_keeps_nothing(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply(ENTRY, "--owner", "A")
    node.docker.obedient = False
    node.refused("mirror", OTHER, "--owner", "B")
    node.docker.obedient = True
    assert node.remove("--owner", "A") == "removed: daemon.json as it was\n", "the mirror stayed A's"


def test_a_killed_change_of_owner_leaves_the_mirror_to_the_former(tmp_path: Path) -> None:
    for step in range(1, 100):
        node = StandInNode(tmp_path / str(step), "{}")
        node.apply(ENTRY, "--owner", "A")
        node.steps, node.kill_at = 0, step
        try:
            node.run("mirror", OTHER, "--owner", "B")
        except Killed:
            node.kill_at = 0
        else:
            assert step > 10, "the run has to have been killed at many steps"
            return
        record = json.loads(Path(node.places.record).read_bytes())
        assert record["owner"] == ("A" if record["unfinished"] or OTHER not in str(record) else "B"), "until it is done"
        node.apply(OTHER, "--owner", "B")
        assert "kept by B" in node.remove("--owner", "A"), "the next run finishes"
        node.remove("--owner", "B")
        assert node.raw() == b"{}", "and the file comes back"


# --- the predecessor's entries ---


def openpai(**others: Any) -> str:
    """As OpenPAI's script leaves the file (json.dump, no indent)."""
    return json.dumps({**others, "registry-mirrors": [OTHER], "insecure-registries": [OTHER]})


def test_openpais_entries_are_replaced_in_one_reload_and_never_come_back(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(openpai(debug=True))
    said = node.apply()
    assert said == f"live: mirror {ENTRY}, docker 20.10.24, reloaded; replaced OpenPAI's {OTHER}\n", "it says so"
    wanted = {"debug": True, "registry-mirrors": [ENTRY], "insecure-registries": [HOSTPORT]}
    assert (node.doc(), node.docker.live, node.docker.reloads) == (wanted, wanted, 1), "a node has one or the other"
    assert "nothing touched" in node.apply(), "a second run finds nothing to do"
    kept = f"removed: other changes in daemon.json kept; what it was at first is in {node.places.state}\n"
    assert node.remove() == kept, "it says that the file is not what it was at first"
    assert Path(node.places.original).read_text() == openpai(debug=True), "which is kept"
    assert node.raw() == b'{"debug": true}', "a mirror that is gone would not be put back"
    assert node.docker.live["registry-mirrors"] == [], "docker has forgotten it too"


def test_mirrors_of_the_administrators_beside_openpais_stay(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(json.dumps({"registry-mirrors": ["https://m", OTHER], "insecure-registries": ["x:1", OTHER]}))
    node.apply()
    assert node.doc() == {"registry-mirrors": [ENTRY, "https://m"], "insecure-registries": ["x:1", HOSTPORT]}
    node.remove()
    assert node.doc() == {"registry-mirrors": ["https://m"], "insecure-registries": ["x:1"]}


def test_openpais_entry_with_our_own_address_becomes_ours(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(json.dumps({"registry-mirrors": [ENTRY], "insecure-registries": [ENTRY]}))
    node.apply()
    assert node.doc() == {"registry-mirrors": [ENTRY], "insecure-registries": [HOSTPORT]}, "in docker's own form"
    node.remove()
    assert node.doc() == {}, "it is taken out as ours"
    assert node.docker.live["registry-mirrors"] == [], "and no longer live"


def test_openpais_playbook_run_after_us_is_put_right(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply()
    doc = node.doc()
    node.write(json.dumps({key: [*value, OTHER] for key, value in doc.items()}))
    node.docker.reload()
    assert node.apply().endswith(f"; replaced OpenPAI's {OTHER}\n"), "it says so"
    assert (node.doc(), node.docker.live) == (doc, doc), "only ours is left"
    again = {"registry-mirrors": [ENTRY], "insecure-registries": [HOSTPORT, ENTRY]}
    node.write(json.dumps(again))
    node.docker.reload()
    node.apply()
    assert node.doc() == doc, "its URL in the wrong list goes as well"
    node.write(json.dumps(again))
    node.docker.reload()
    node.remove()
    assert node.doc() == {}, "also where the mirror is taken out at once"
    assert node.docker.live == {"registry-mirrors": [], "insecure-registries": []}, "from docker too"


def test_openpais_playbook_run_where_there_was_no_file_leaves_none_behind(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.apply()
    node.write(json.dumps({key: [*value, OTHER] for key, value in node.doc().items()}))
    node.docker.reload()
    node.apply()
    assert node.remove() == "removed: daemon.json as it was\n", "there was none"
    assert node.raw() is None, "and there is none"


def test_openpais_entry_of_any_port_is_known_by_standing_in_both_lists(new_node: Callable[..., StandInNode]) -> None:
    registry = "http://m:5000"
    node = new_node(json.dumps({"registry-mirrors": [registry], "insecure-registries": ["x:1", registry, registry]}))
    assert node.apply().endswith(f"reloaded; replaced OpenPAI's {registry}\n"), "it is said once"
    assert node.doc() == {"registry-mirrors": [ENTRY], "insecure-registries": ["x:1", HOSTPORT]}, (
        "OpenPAI wrote a custom registry in the same way"
    )


def test_openpais_entries_are_no_edit_that_waits(new_node: Callable[..., StandInNode]) -> None:
    node = new_node('{"debug": true}')
    node.write(openpai(debug=True))
    assert "replaced OpenPAI's" in node.apply(), "docker had not even read them"
    node.write(json.dumps({**json.loads(openpai()), "labels": ["a"], "debug": True}))
    assert ": labels; reload" in node.refused("mirror", ENTRY), "others beside them still wait"


@pytest.mark.parametrize("entry", [ENTRY, OTHER])
@pytest.mark.parametrize("ending", ["again", "remove"])
def test_a_kill_around_openpais_entries_is_finished_by_the_next_run(entry: str, ending: str, tmp_path: Path) -> None:
    for step in range(1, 100):
        node = StandInNode(tmp_path / str(step), openpai(debug=True))
        node.kill_at = step
        try:
            node.run("mirror", entry)
        except Killed:
            node.kill_at = 0
        else:
            assert step > 10, "the run has to have been killed at many steps"
            return
        began = node.raw() != openpai(debug=True).encode()
        assert len(node.doc()["registry-mirrors"]) == 1, f"a mirror is there at any moment (step {step})"
        if ending == "again":
            node.apply(entry)
            hostport = entry.removeprefix("http://")
            wanted = {"debug": True, "registry-mirrors": [entry], "insecure-registries": [hostport]}
            assert node.doc() == wanted, f"the next run finishes (step {step})"
            live = daemon_json.live_settings(node.docker.info())
            assert (live["registry-mirrors"], live["insecure-registries"]) == ([entry + "/"], [hostport]), step
            began = True
        recorded = Path(node.places.record).exists()
        node.remove()
        theirs = json.loads(openpai(debug=True))
        untouched = not began and (entry != OTHER or not recorded)
        assert node.doc() == (theirs if untouched else {"debug": True}), f"never half of a pair (step {step})"
        live = daemon_json.live_settings(node.docker.info())
        assert live["registry-mirrors"] == ([OTHER + "/"] if untouched else []), f"docker goes with it (step {step})"
        assert node.leftovers() == [], f"a killed run's temporary files go (step {step})"


@pytest.mark.parametrize(
    "content",
    [
        {"registry-mirrors": [OTHER], "insecure-registries": [OTHER_HOSTPORT]},
        {"registry-mirrors": ["https://m"], "insecure-registries": [OTHER]},
        {"registry-mirrors": ["http://m"], "insecure-registries": ["http://m"]},
        {"registry-mirrors": ["https://m:1"], "insecure-registries": ["https://m:1"]},
    ],
)
def test_what_only_looks_like_openpais_is_left_alone(
    new_node: Callable[..., StandInNode], content: dict[str, list[str]]
) -> None:
    node = new_node(json.dumps(content))
    node.apply()
    for key, entries in content.items():
        assert [item for item in node.doc()[key] if item not in (ENTRY, HOSTPORT)] == entries, (
            "it is the administrator's"
        )
    assert "replaced" not in node.apply(), "and stays so"
    node.remove()
    assert node.doc() == content, "all the time"


def test_an_insecure_url_of_the_administrators_beside_our_https_mirror_is_his(
    new_node: Callable[..., StandInNode],
) -> None:
    node = new_node(json.dumps({"insecure-registries": [SECURE]}))
    node.apply(SECURE)
    node.write(json.dumps({**node.doc(), "log-driver": "json-file"}))
    node.remove()
    assert node.doc() == {"insecure-registries": [SECURE], "log-driver": "json-file"}, "OpenPAI wrote no https"


def test_half_a_reload_gives_openpais_entries_back_to_docker(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_node(openpai())
    asked: list[object] = []
    real = docker.reload_and_prove

    def half() -> None:
        node.docker.live.update({k: v for k, v in node.docker.file().items() if k == "registry-mirrors"})

    def prove(*words: Any) -> object:
        asked.append(words[2])
        return real(*words)

    monkeypatch.setattr(node.docker, "reload", half)
    monkeypatch.setattr(docker, "reload_and_prove", prove)
    assert "daemon.json and docker are as they were" in node.refused("mirror", ENTRY), "docker took the mirror alone"
    assert asked[-1] == {"registry-mirrors": [OTHER + "/"], "insecure-registries": [OTHER_HOSTPORT]}, (
        "what was live is seen to be live again"
    )


def test_a_failed_change_leaves_openpais_entries_live(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(openpai())
    node.docker.obedient = False
    node.refused("mirror", ENTRY)
    node.docker.obedient = True
    node.cache = ("connection refused", True)
    node.refused("mirror", ENTRY)


# --- the entry's certificate ---

PEM, OTHER_PEM = "-----BEGIN CERTIFICATE-----\nours\n", "-----BEGIN CERTIFICATE-----\nanother\n"
SECURE = "https://cache:5000"


def sha(pem: str) -> str:
    return hashlib.sha256(pem.encode()).hexdigest()


class Certified:
    """A node with a script that has a certificate in front."""

    def __init__(self, node: StandInNode) -> None:
        self.node = node
        self.folder = Path(node.places.certificates) / "cache:5000"
        self.file = self.folder / "docker-cache.crt"

    def run(self, pem: str | None, *argv: str) -> tuple[int, str, str]:
        payload.certificate = pem
        try:
            return self.node.run(*argv)
        finally:
            payload.certificate = None

    def apply(self, pem: str | None, entry: str = SECURE) -> str:
        words = ["--ca", sha(pem)] if pem else []
        status, out, err = self.run(pem, "mirror", entry, *words)
        assert (status, err) == (0, ""), "it must succeed here"
        return out


@pytest.fixture
def certified(new_node: Callable[..., StandInNode]) -> Certified:
    return Certified(new_node("{}"))


def test_a_certificate_is_placed_where_docker_looks_and_removed_with_its_folders(certified: Certified) -> None:
    certified.apply(PEM)
    assert certified.file.read_text() == PEM, "docker takes it from there"
    assert stat.S_IMODE(certified.file.stat().st_mode) == 0o644, "clients that are not root read it too"
    before = certified.file.stat()
    assert "nothing touched" in certified.apply(PEM), "a second run finds nothing to do"
    assert certified.file.stat().st_ino == before.st_ino, "the file is not written again"
    assert certified.node.remove() == "removed: daemon.json as it was\n", "it goes without a word"
    assert not Path(certified.node.places.certificates).exists(), "the folders were ours"
    assert not Path(certified.node.places.state).exists(), "nothing of ours is left"


def test_the_administrators_files_beside_it_stay(certified: Certified) -> None:
    certified.folder.mkdir(parents=True)
    (certified.folder / "ca.crt").write_text("his")
    certified.apply(PEM)
    certified.node.remove()
    assert [path.name for path in certified.folder.iterdir()] == ["ca.crt"], "his is not ours to remove"
    (certified.folder / "ca.crt").unlink()
    certified.apply(PEM)
    certified.node.remove()
    assert list(certified.folder.iterdir()) == [], "nor is his folder, empty or not"


def test_the_folders_can_be_entered_whatever_roots_umask_is(certified: Certified) -> None:
    before = os.umask(0o077)
    try:
        certified.apply(PEM)
    finally:
        os.umask(before)
    for folder in (certified.folder, certified.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755, "clients that are not root read it too"


def test_a_certificate_beside_an_entry_of_the_administrators_is_ours_alone(
    new_node: Callable[..., StandInNode],
) -> None:
    content = json.dumps({"registry-mirrors": [SECURE]})
    certified = Certified(new_node(content))
    assert "certificate placed" in certified.apply(PEM), "his entry serves, without a reload"
    assert (certified.node.raw(), certified.node.docker.reloads) == (content.encode(), 0), "his file is not touched"
    assert certified.node.remove() == "removed: daemon.json as it was\n", "the certificate was ours"
    assert not Path(certified.node.places.certificates).exists(), "and is gone"
    assert certified.node.raw() == content.encode(), "the entry is his"


def test_a_docker_that_reads_another_file_now_keeps_the_certificate_as_ours(
    certified: Certified, tmp_path: Path
) -> None:
    certified.apply(PEM)
    certified.node.config = tmp_path / "new.json"
    certified.node.argv[-1] = str(certified.node.config)
    certified.node.docker.start()
    certified.apply(PEM)
    assert certified.file.read_text() == PEM, "docker looks for it in the same place"
    certified.node.remove()
    assert not Path(certified.node.places.certificates).exists(), "the folders were ours"


def test_another_certificate_is_placed_without_a_reload(certified: Certified) -> None:
    certified.apply(PEM)
    reloads = certified.node.docker.reloads
    assert "certificate placed" in certified.apply(OTHER_PEM), "it says so"
    assert certified.file.read_text() == OTHER_PEM, "the new one counts"
    assert certified.node.docker.reloads == reloads, "docker reads it at each pull by itself"


def test_with_the_containerd_store_it_lies_under_docker_hubs_name_too(certified: Certified) -> None:
    certified.node.docker.store = "io.containerd.snapshotter.v1"
    certified.apply(PEM)
    for_the_hub = Path(certified.node.places.certificates) / "docker.io/docker-cache.crt"
    assert for_the_hub.read_text() == certified.file.read_text() == PEM, "that store looks there for a mirror's CA"
    assert "nothing touched" in certified.apply(PEM), "a second run finds nothing to do"
    certified.node.docker.store = "overlay2"
    certified.apply(PEM)
    assert not for_the_hub.exists(), "the classic store needs none there"
    assert certified.file.exists()
    certified.node.docker.stop()
    certified.apply(PEM)
    assert for_the_hub.exists(), "which store a stopped docker will have is not known"
    certified.node.remove()
    assert not Path(certified.node.places.certificates).exists(), "nothing stays"


def test_one_that_somebody_removed_is_placed_again(certified: Certified) -> None:
    certified.apply(PEM)
    certified.file.unlink()
    certified.apply(PEM)
    assert certified.file.read_text() == PEM


def test_one_that_is_no_longer_asked_for_goes(certified: Certified) -> None:
    certified.apply(PEM)
    assert certified.apply(None) == f"live: mirror {SECURE}, docker 20.10.24, certificate given up\n", "it says so"
    assert not certified.folder.exists(), "no certificate is asked for"
    certified.apply(PEM)
    certified.apply(None, ENTRY)
    assert not certified.folder.exists(), "another entry has none"


def test_one_that_somebody_changed_stays_and_that_is_said(certified: Certified) -> None:
    certified.apply(PEM)
    certified.file.write_text("his")
    said = certified.node.remove()
    assert said == f"removed: {certified.file} was changed by somebody and stays\n", "it says so"
    assert certified.file.read_text() == "his"
    certified.apply(PEM)
    assert certified.file.read_text() == PEM, "where one is wanted, it is put right"


def test_a_failed_change_takes_the_certificate_back(certified: Certified) -> None:
    certified.node.docker.obedient = False
    status, _, said = certified.run(PEM, "mirror", SECURE, "--ca", sha(PEM))
    assert (status, "is not live" in said) == (1, True), "docker did not take the mirror"
    assert not certified.folder.exists(), "nothing of it stays"
    assert not Path(certified.node.places.certificates).exists(), "nor its folders"
    assert not Path(certified.node.places.state).exists(), "nor a record"


def test_a_failed_change_brings_the_former_certificate_back(certified: Certified) -> None:
    certified.apply(PEM)
    record = Path(certified.node.places.record).read_bytes()
    certified.node.docker.obedient = False
    status, _, said = certified.run(OTHER_PEM, "mirror", SECURE, "--insecure", "--ca", sha(OTHER_PEM))
    assert (status, "is not live" in said) == (1, True), "docker did not take the change"
    assert certified.file.read_text() == PEM, "the former one is there again"
    assert Path(certified.node.places.record).read_bytes() == record, "and counts as ours"


def test_a_folder_that_takes_no_certificate_leaves_everything_as_it_was(
    certified: Certified, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified.apply(PEM)
    inode = certified.file.stat().st_ino

    def refuse(source: str, target: str) -> None:
        if target == str(certified.file):
            raise OSError(28, "No space left on device", source, None, target)
        Path(source).rename(target)

    monkeypatch.setattr(os, "replace", refuse)
    status, _, said = certified.run(OTHER_PEM, "mirror", SECURE, "--ca", sha(OTHER_PEM))
    assert (status, "taken back" in said, "No space left" in said) == (1, True, True), "file and reason"
    assert (certified.file.read_text(), certified.file.stat().st_ino) == (PEM, inode), "the former one was not touched"


def test_a_certificate_other_than_the_one_named_is_refused(certified: Certified) -> None:
    for pem, words in ((PEM, ["--ca", sha(OTHER_PEM)]), (PEM, []), (None, ["--ca", sha(PEM)])):
        status, _, said = certified.run(pem, "mirror", SECURE, *words)
        assert (status, "--ca names another certificate" in said) == (1, True), "neither may be lost on the way"
    assert not certified.folder.exists()


PLACE, PLACE_OTHER = ((pem, ("mirror", SECURE, "--ca", sha(pem))) for pem in (PEM, OTHER_PEM))
WITHOUT: tuple[str | None, tuple[str, ...]] = (None, ("mirror", SECURE))


@pytest.mark.parametrize("ending", ["again", "remove"])
@pytest.mark.parametrize(
    ("before", "killed", "wanted"),
    [
        (None, PLACE, PEM),
        (WITHOUT, PLACE, PEM),
        (PLACE, PLACE_OTHER, OTHER_PEM),
        (PLACE, WITHOUT, None),
        (PLACE, (None, ("mirror", ENTRY)), None),
        (PLACE, (None, ("remove",)), None),
    ],
)
def test_a_kill_around_the_certificate_is_finished_by_the_next_run(
    before: tuple[str | None, tuple[str, ...]] | None,
    killed: tuple[str | None, tuple[str, ...]],
    wanted: str | None,
    ending: str,
    tmp_path: Path,
) -> None:
    for step in range(1, 100):
        certified = Certified(StandInNode(tmp_path / str(step), "{}"))
        if before:
            certified.run(before[0], *before[1])
        certified.node.steps, certified.node.kill_at = 0, step
        try:
            certified.run(killed[0], *killed[1])
        except Killed:
            certified.node.kill_at = 0
        else:
            assert step > 10, "the run has to have been killed at many steps"
            return
        if certified.file.exists():
            assert certified.file.read_text() in (PEM, OTHER_PEM), "never half a file"
        if ending == "again":
            assert certified.run(killed[0], *killed[1])[0] == 0, f"the next run finishes (step {step})"
            assert (certified.file.read_text() if certified.file.exists() else None) == wanted, f"step {step}"
            assert not wanted or [path.name for path in certified.folder.iterdir()] == [certified.file.name], (
                f"a killed run's temporary files go (step {step})"
            )
        certified.node.remove()
        assert not Path(certified.node.places.certificates).exists(), f"nothing stays (step {step})"
        assert not Path(certified.node.places.state).exists(), f"no record stays (step {step})"
        assert certified.node.raw() == b"{}", f"the file is as it was (step {step})"


def test_an_entry_that_is_not_to_be_verified_is_insecure_to_docker(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply(SECURE, "--insecure")
    assert node.doc() == {"registry-mirrors": [SECURE], "insecure-registries": ["cache:5000"]}
    node.apply(SECURE)
    assert node.doc() == {"registry-mirrors": [SECURE]}, "verified again"
    assert node.docker.live["insecure-registries"] == [], "for docker too"


Signer = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def signed(
    name: str, by: Signer | None = None, host: str | None = None
) -> tuple[ec.EllipticCurvePrivateKey, str, x509.Certificate]:
    """A key with its certificate, as text and parsed: an authority's, or a server's where a host is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(by[1].subject if by else subject, subject, key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
    builder = builder.add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
    if host:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        builder = builder.add_extension(names, critical=False)
    made = builder.sign(by[0] if by else key, hashes.SHA256())
    return key, made.public_bytes(serialization.Encoding.PEM).decode(), made


def test_with_the_containerd_store_an_http_mirror_is_not_made_insecure(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply()
    assert node.doc()["insecure-registries"] == [HOSTPORT]
    node.docker.store = "io.containerd.snapshotter.v1"
    node.apply()
    assert node.doc() == {"registry-mirrors": [ENTRY]}, "docker 29 would no longer verify Docker Hub itself"
    assert node.docker.live["insecure-registries"] == [], "for docker too"
    assert "nothing touched" in node.apply(), "a second run finds nothing to do"
    node.apply(SECURE, "--insecure")
    assert node.doc()["insecure-registries"] == ["cache:5000"], "what is asked for by name is done"


@contextmanager
def https_server(tmp_path: Path, pair_file: Path | None = None) -> Iterator[tuple[str, str]]:
    """A registry over https: its URL and its CA."""
    authority = Authority()
    if pair_file is None:
        pair = authority.issue("registry", None, ("127.0.0.1",))
        pair_file = tmp_path / "pair.pem"
        pair_file.write_bytes(pair.certificate + pair.key)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair_file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}", authority.certificate.decode()
    server.shutdown()


def test_the_cache_is_asked_with_the_certificate_that_is_still_to_be_placed(tmp_path: Path) -> None:
    with https_server(tmp_path) as (url, ca):
        for entry, wanted in (
            (address.parse_entry(url, ca), None),
            (address.parse_entry(url, insecure=True), None),
            (address.parse_entry(url), "its certificate can't be verified"),
            (address.parse_entry(url, Authority().certificate.decode()), "its certificate can't be verified"),
        ):
            reason, _ = address.probe(url + "/v2/", "/none", entry)
            assert (reason or "").startswith(wanted or "") if wanted else reason is None, reason


def test_a_certificate_that_is_to_be_replaced_does_not_speak_for_the_new_one(tmp_path: Path) -> None:
    other = signed("another CA")[1]
    with https_server(tmp_path) as (url, ca):
        (tmp_path / "docker-cache.crt").write_text(ca)
        for entry in (address.parse_entry(url, other), address.parse_entry(url)):
            reason, _ = address.probe(url + "/v2/", str(tmp_path), entry)
            assert reason is not None, "docker will not have the old one"
            assert "can't be verified" in reason, "the reason is the certificate"
        (tmp_path / "broken.crt").write_text("no certificate")
        (tmp_path / "ca.crt").write_text(ca)
        assert address.probe(url + "/v2/", str(tmp_path), address.parse_entry(url))[0] is None, (
            "the administrator's counts"
        )


def test_an_authority_that_another_one_signed_is_enough_as_it_is_for_docker(tmp_path: Path) -> None:
    root_key, _, root = signed("root")
    key, text, intermediate = signed("intermediate", (root_key, root))
    leaf_key, leaf, _ = signed("registry", (key, intermediate), "127.0.0.1")
    pem = leaf_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "pair.pem").write_bytes(leaf.encode() + pem)
    with https_server(tmp_path, tmp_path / "pair.pem") as (url, _):
        assert address.probe(url + "/v2/", "/none", address.parse_entry(url, text))[0] is None, "no root is asked for"


# --- properties ---

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
HOSTS = st.sampled_from(["10.0.0.1:30500", "10.0.0.2:30500", "m:1", "M:1", "10.0.0.0/8"])
DOCUMENTS = st.builds(
    lambda rest, ours: rest | ours,
    st.dictionaries(st.text().filter(lambda key: key not in daemon_json.UNSEEN), VALUES, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "registry-mirrors": st.lists(HOSTS.filter(lambda h: "/" not in h).map("http://{}".format), max_size=3),
            "insecure-registries": st.lists(HOSTS | HOSTS.map("http://{}".format), max_size=3),
            "debug": st.booleans(),
        },
    ),
)
FILES = st.builds(
    lambda doc, indent, ascii_, end: (json.dumps(doc, indent=indent, ensure_ascii=ascii_) + end).encode("utf-8"),
    DOCUMENTS,
    st.sampled_from([None, 0, 2, 4, "\t"]),
    st.booleans(),
    st.sampled_from(["", "\n"]),
)


@settings(max_examples=40, deadline=None)
@given(content=FILES)
def test_apply_then_remove_gives_the_same_file_and_apply_twice_equals_once(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as root:
        node = StandInNode(Path(root), content)
        node.apply()
        once = (node.raw(), node.stamp(), dict(node.docker.live))
        node.apply()
        assert (node.raw(), node.stamp(), node.docker.live) == once, "apply twice equals once"
        node.remove()
        doc = daemon_json.parse_document(content, "f")
        if not daemon_json.predecessors(doc, ENTRY):
            assert node.raw() == content, "apply then remove gives the same file"
        else:
            left = daemon_json.without(doc, daemon_json.predecessors(doc, ENTRY))
            assert daemon_json.parse_document(node.raw(), "f") == left, "what OpenPAI's cache left does not come back"


@settings(max_examples=100, deadline=None)
@given(content=FILES, model=st.none() | FILES)
def test_rendering_keeps_the_document_in_any_style(content: bytes, model: bytes | None) -> None:
    doc = daemon_json.parse_document(content, "f")
    assert daemon_json.parse_document(daemon_json.render(doc, model), "f") == doc, "only the layout may differ"
    assert list(daemon_json.parse_document(daemon_json.render(doc, model), "f")) == list(doc), "the order stays"


@settings(max_examples=100, deadline=None)
@given(content=FILES, url=st.sampled_from([ENTRY, OTHER, "https://m:1"]))
def test_withdrawing_what_was_planned_gives_the_document_back(content: bytes, url: str) -> None:
    doc = daemon_json.parse_document(content, "f")
    plan = daemon_json.plan_apply(content, doc, None, [address.parse_entry(url)], "f")
    record = {"owned": plan.owned, "brought": plan.brought}
    wanted = daemon_json.without(doc, daemon_json.predecessors(doc, url))
    assert daemon_json.withdraw(plan.doc, record) == wanted, "an edited file loses our entries and nothing else"


# --- kills ---

STORIES: dict[str, tuple[str | None, list[tuple[str, ...]], tuple[str, ...]]] = {
    "first apply": ('{"features": {"x": true}}', [], ("mirror", ENTRY)),
    "first apply, no file": (None, [], ("mirror", ENTRY)),
    "changed entry": ('{"registry-mirrors": ["https://m"]}', [("mirror", ENTRY)], ("mirror", OTHER)),
    "http to https": ("{}", [("mirror", ENTRY)], ("mirror", "https://cache:5000")),
    "remove": ('{"features": {"x": true}}', [("mirror", ENTRY)], ("remove",)),
    "remove, no file": (None, [("mirror", ENTRY)], ("remove",)),
}


def killed_at(story: str, step: int, root: Path) -> StandInNode | None:
    """The node after a kill at that step; None where the run has fewer steps."""
    content, before, words = STORIES[story]
    node = StandInNode(root, content)
    for each in before:
        assert node.run(*each)[0] == 0, "the story's beginning must succeed"
    node.steps, node.kill_at = 0, step
    try:
        node.run(*words)
    except Killed:
        node.kill_at = 0
    else:
        return None
    first, now = json.loads(content or "{}"), node.doc()
    for key in ("registry-mirrors", "insecure-registries"):
        his = [entry for entry in now.pop(key, []) if entry not in OURS]
        assert his == first.pop(key, []), f"at step {step} the file is valid and holds his entries"
    assert now == first, f"at step {step} the rest of the file is untouched"
    return node


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("ending", ["again", "apply, remove"])
def test_a_kill_at_any_step_leaves_a_valid_file_that_the_next_run_finishes(
    story: str, ending: str, tmp_path: Path
) -> None:
    content, _, words = STORIES[story]
    first = None if content is None else content.encode()
    step = 0
    while node := killed_at(story, step + 1, tmp_path / str(step)):
        step += 1
        for each in [words] if ending == "again" else [("mirror", OTHER), ("remove",)]:
            status, _, said = node.run(*each)
            assert (status, said) == (0, ""), f"after a kill at step {step} the next run finishes"
        assert node.leftovers() == [], f"a killed run's temporary files go (step {step})"
        if ending != "again" or words[0] == "remove":
            assert node.raw() == first, f"the file is as it was, to the byte (step {step})"
            assert not any("10.0.0" in str(value) for value in node.docker.live.values()), f"not live (step {step})"
            continue
        wanted = node.doc()
        assert wanted["registry-mirrors"][0] == words[1], f"the mirror is first (step {step})"
        assert {key: node.docker.live[key] for key in wanted} == wanted, f"and live (step {step})"
        record = json.loads(Path(node.places.record).read_bytes())
        assert record["owned"]["registry-mirrors"] == [words[1]], f"no other mirror counts as ours (step {step})"
        assert record["unfinished"] is False, f"the record is complete (step {step})"
        node.remove()
        assert node.raw() == first, f"the file comes back to the byte (step {step})"
    assert step > 10, "the run has to have been killed at many steps"


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ('{"a":1}', '{"a": 1, "registry-mirrors": ["https://m"]}'),
        ('{\n\t"a": 1\n}', '{\n\t"a": 1,\n\t"registry-mirrors": [\n\t\t"https://m"\n\t]\n}'),
        (
            '\ufeff{\r\n "a": 1\r\n}\r\n',
            '\ufeff{\r\n "a": 1,\r\n "registry-mirrors": [\r\n  "https://m"\r\n ]\r\n}\r\n',
        ),
        ('{"a": "ü"}', '{"a": "ü", "registry-mirrors": ["https://m"]}'),
        (None, '{\n  "registry-mirrors": [\n    "https://m"\n  ]\n}\n'),
    ],
)
def test_a_changed_file_keeps_its_style(new_node: Callable[..., StandInNode], content: str | None, wanted: str) -> None:
    node = new_node(content)
    node.apply("https://m")
    assert node.raw() == wanted.encode(), "indent, line ends and byte order mark stay"


# --- the parts that touch the system ---


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (["dockerd", "--config-file=/a", "-D"], {"config-file": ["/a"], "debug": [""]}),
        (["dockerd", "--config-file", "/a", "-Hfd://"], {"config-file": ["/a"], "host": ["fd://"]}),
        (
            ["dockerd", "-H", "unix:///x", "-H=tcp://y", "--label", "a=b"],
            {"host": ["unix:///x", "tcp://y"], "label": ["a=b"]},
        ),
        (["dockerd", "--registry-mirror=https://m?x=1"], {"registry-mirror": ["https://m?x=1"]}),
    ],
)
def test_a_command_line_is_read_as_docker_reads_it(argv: list[str], wanted: dict[str, list[str]]) -> None:
    assert daemon_json.parse_flags(argv) == wanted, "long names to their values"


def test_the_variables_of_the_service_are_put_into_its_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = (
        "ExecStart={ path=/usr/bin/dockerd ; argv[]=/usr/bin/dockerd -H fd:// $DOCKER_OPTS ${MORE} ; x=y ; }\n"
        'Environment="DOCKER_OPTS=--registry-mirror=https://m --config-file=/c" MORE=-D\n'
    )
    monkeypatch.setattr(tools, "run_tool", lambda *_: (0, shown, ""))
    flags = daemon_json.parse_flags(docker.service_command())
    assert set(flags) == {"host", "registry-mirror", "config-file", "debug"}, "kubespray gives its flags in a variable"


class Answer(BaseHTTPRequestHandler):
    """A server that answers as the test wants."""

    status: ClassVar[int] = 200
    version: ClassVar[str] = "registry/2.0"

    def do_GET(self) -> None:
        self.send_response(self.status)
        if self.version:
            self.send_header("Docker-Distribution-Api-Version", self.version)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "version", "wanted"),
    [
        (200, "registry/2.0", (None, True)),
        (401, "registry/2.0", (None, True)),
        (200, "", ("HTTP status 200, but what answers is no registry", True)),
        (404, "registry/2.0", ("HTTP status 404", True)),
        (503, "registry/2.0", ("HTTP status 503", False)),
    ],
)
def test_only_a_registry_is_taken_for_the_cache_and_no_proxy_is_asked(
    monkeypatch: pytest.MonkeyPatch, status: int, version: str, wanted: tuple[str | None, bool]
) -> None:
    monkeypatch.setattr(Answer, "status", status)
    monkeypatch.setattr(Answer, "version", version)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.handle_request, daemon=True).start()
        assert (
            address.probe(f"http://127.0.0.1:{server.server_port}/v2/", "/none", address.parse_entry(ENTRY)) == wanted
        ), "status and header decide"


def test_a_certificate_that_cannot_be_verified_names_the_key_that_its_ca_is_given_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError(ssl.SSLError(1, "[SSL: CERTIFICATE_VERIFY_FAILED]"))

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", fail)
    reason, final = address.probe(
        "https://cache:5000/v2/", "/etc/docker/certs.d/cache:5000", address.parse_entry(ENTRY)
    )
    assert "give its CA as docker_cache_entry_ca" in (reason or ""), "the remedy is a key of the stack"
    assert final, "no use in trying again"


def test_a_cache_that_starts_slowly_is_waited_for(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    tries = iter([("refused", False), ("HTTP status 503", False), (None, True)])
    with node.in_effect():
        address.probe = lambda *_: next(tries)
        assert address.check_entry(node.places, address.parse_entry(ENTRY)) == [], "the third try counts"


@pytest.mark.parametrize(
    ("flags", "doc", "wanted"),
    [
        ({"host": ["fd://"]}, {}, "unix:///var/run/docker.sock"),
        ({"host": ["tcp://h:1", "unix:///a"]}, {"hosts": ["unix:///b"]}, "unix:///a"),
        ({}, {"hosts": ["unix:///b"]}, "unix:///b"),
        ({}, {"hosts": "unix:///b"}, "unix:///var/run/docker.sock"),
    ],
)
def test_docker_is_asked_at_its_own_socket(
    monkeypatch: pytest.MonkeyPatch, flags: dict[str, list[str]], doc: dict[str, Any], wanted: str
) -> None:
    monkeypatch.setattr(tools, "run_tool", lambda argv, _: (0, argv[2], ""))
    assert docker.ask_docker(docker.Docker(1, 0, flags, "/x"), doc, ["info"], 1) == wanted, "where it listens"


@pytest.mark.parametrize(
    ("item", "live", "wanted"),
    [
        ("10.0.0.1:5000", ["10.0.0.0/8"], []),
        ("[fd00::1]:5000", ["fd00::/8"], []),
        ("127.0.0.1:5000", [], []),
        ("10.0.0.1:5000", ["11.0.0.0/8"], ["10.0.0.1:5000 is not live"]),
        ("cache:1", ["10.0.0.0/8"], ["cache:1 is not live"]),
    ],
)
def test_an_address_in_an_insecure_network_is_insecure(item: str, live: list[str], wanted: list[str]) -> None:
    info = {"RegistryConfig": {"InsecureRegistryCIDRs": live}}
    assert daemon_json.off_target(info, {"insecure-registries": [item]}, {}) == wanted, "docker matches networks too"


def test_a_stale_pid_file_and_a_second_dockerd_are_noticed(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    pid_file = Path(node.places.pid_file)
    pid_file.parent.mkdir(parents=True)
    pid_file.write_text("77")
    assert "live: mirror" in node.apply(), "a pid file that names no dockerd says nothing"
    node.docker.pid = 4343
    node.docker.start()
    assert "4242, 4343" in node.refused("mirror", OTHER), "which one is meant is not guessed"
    pid_file.write_text("4343")
    assert "live: mirror" in node.apply(OTHER), "the pid file decides"


def test_a_file_that_root_may_not_change_is_a_clear_error(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: str, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", folder)

    node = new_node("{}")
    monkeypatch.setattr(os, "makedirs", refuse)
    assert "Permission denied; run as root" in node.refused("mirror", ENTRY), "with a remedy"
    node.config.unlink()
    node.config.mkdir()
    monkeypatch.undo()
    assert "not an ordinary file" in node.run("mirror", ENTRY)[2], "a folder in the file's place is named"


def test_a_hanging_tool_is_a_clear_error() -> None:
    with pytest.raises(errors.Trouble, match="no answer in 0 s"):
        tools.run_tool(["sleep", "5"], 0.05)


@pytest.mark.parametrize("words", [("mirror", ENTRY), ("remove",)])
def test_only_root_is_let_in(new_node: Callable[..., StandInNode], words: tuple[str, ...]) -> None:
    node = new_node("{}")
    node.uid = 1000
    said = node.refused(*words)
    assert "log in as root, or set docker_cache_ssh_sudo: true" in said, "with the remedy"
    assert not Path(node.places.state).exists(), "nothing was tried"


def test_a_clock_that_is_set_during_the_reload_is_no_new_dockerd(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node, real = new_node("{}"), StandInDocker.reload

    def reload() -> None:
        real(node.docker)
        (Path(node.places.proc) / "stat").write_text(f"cpu 1\nbtime {STARTED + 7:.0f}\n")

    monkeypatch.setattr(node.docker, "reload", reload)
    assert "live: mirror" in node.apply(), "the boot moved, the process is the same"


def test_another_dockerd_of_the_same_number_is_noticed(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_node("{}")

    def reload() -> None:
        node.docker.ticks += 1
        node.docker.start()

    monkeypatch.setattr(node.docker, "reload", reload)
    status, _, said = node.run("mirror", ENTRY)
    assert (status, "ended during the reload" in said) == (1, True), "its start tells them apart"


def test_a_damaged_record_is_a_clear_error(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    node.apply()
    Path(node.places.record).write_text("{")
    assert "record.json is damaged" in node.refused("remove"), "with a remedy"


def test_a_second_run_waits_for_the_first(new_node: Callable[..., StandInNode]) -> None:
    node = new_node("{}")
    with node.in_effect(), files.locked(node.places), pytest.raises(errors.Trouble, match="another run"):
        files.take_lock(node.places.state, node.places.state + "/lock", 120)


def test_the_script_runs_by_the_loader() -> None:
    argv = [sys.executable, "-I", "-c", node_command.LOADER, "mirror"]
    done = subprocess.run(argv, input=node_command.payload("mirror"), capture_output=True, check=False, text=True)
    assert (done.returncode, "required: ENTRY" in done.stderr) == (2, True), "its command line is read"
