"""What the node program does to podman, buildah and CRI-O and their files, against stand-ins that read them as containers/image does."""

import io
import json
import os
import signal
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from on_node import address, check, mirror, payload, tools
from on_node.files import digest
from on_node.places import Places
from tests.unit.messages import remember

ENTRY, HOSTPORT = "http://10.0.0.1:30500", "10.0.0.1:30500"
OTHER, OTHER_HOSTPORT = "http://10.0.0.2:30500", "10.0.0.2:30500"
SECURE, PEM = "https://cache:5000", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
STARTED = time.time() - 1000
OWN = '# mine\n[[registry]]\nlocation = "docker.io"\n\n# a mirror of mine\n[[registry.mirror]]\nlocation = "own:5000"\n'


class Killed(BaseException):
    """A kill that strikes the program between two steps."""


class StandInNode:
    """A node in a folder of its own, with podman, and a CRI-O where one is started."""

    def __init__(self, root: Path, **texts: str) -> None:
        self.root, self.places = root, Places(str(root))
        self.etc = root / "etc/containers"
        self.drop_in = self.etc / "registries.conf.d/000-docker-cache.conf"
        self.main = self.etc / "registries.conf"
        self.tools = {"podman": "podman version 4.3.1\n"}
        self.cache: tuple[str | None, bool] = (None, True)
        self.podman_fails = ""
        self.hidden: set[str] = set()
        self.steps, self.kill_at = 0, 0
        self.crio: list[str] | None = None
        self.ticks, self.reloads, self.dies, self.obedient, self.logs, self.refuses = 0, 0, False, True, True, False
        self.log: list[tuple[float, str]] = []
        (root / "proc/self/ns").mkdir(parents=True)
        for kind in ("pid", "mnt"):
            (root / "proc/self/ns" / kind).symlink_to(kind + ":[1]")
        (root / "proc/stat").write_text(f"cpu 1\nbtime {STARTED:.0f}\n")
        for name, text in texts.items():
            self.write({"main": self.main}.get(name, self.etc / f"registries.conf.d/{name}.conf"), text)

    def write(self, path: Path, text: str, at: float = STARTED - 100) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (at, at))

    def start_crio(self, *flags: str, environment: str = "") -> None:
        process = Path(self.places.proc) / "77"
        (process / "ns").mkdir(parents=True, exist_ok=True)
        (process / "comm").write_text("crio\n")
        (process / "cmdline").write_bytes(b"\0".join(word.encode() for word in ("/usr/bin/crio", *flags)) + b"\0")
        (process / "environ").write_text(environment)
        (process / "stat").write_text("77 (crio) S " + " ".join(["0"] * 18) + f" {self.ticks} 0")
        for kind in ("pid", "mnt"):
            if not (process / "ns" / kind).is_symlink():
                (process / "ns" / kind).symlink_to(kind + ":[1]")
        self.tools["crio"] = "crio version 1.34.0\nGitCommit: x\n"
        self.crio = self.mirrors()

    def mirrors(self, upstream: str = "docker.io") -> list[str]:
        """A registry's mirrors as containers/image reads the files: of the files the last, in it the first."""
        found: list[str] = []
        drop_ins = self.etc / "registries.conf.d"
        names = sorted(drop_ins.glob("*.conf")) if drop_ins.is_dir() else []
        for path in [self.main, *names]:
            for registry in tomllib.loads(path.read_text()).get("registry", []) if path.exists() else []:
                if (registry.get("prefix") or registry["location"]).rstrip("/") == upstream:
                    found = [each["location"] for each in registry.get("mirror", [])]
                    break
        return found

    def tool(self, argv: list[str], _seconds: float) -> tuple[int, str, str]:
        if "--version" in argv and argv[0] in self.tools:
            return 0, self.tools[argv[0]], ""
        if argv[:2] == ["podman", "info"]:
            if self.podman_fails:
                return 125, "", f"time=x\nError: {self.podman_fails}\n"
            listed = {
                upstream: {"Mirrors": [{"Location": location} for location in self.mirrors(upstream)]}
                for upstream in self.shown()
            }
            return 0, json.dumps({"registries": listed}), ""
        if argv[0] == "journalctl":
            since = float(argv[-1].lstrip("@"))
            form = argv[argv.index("--output") + 1]
            lines = [(at, line) for at, line in self.log if at >= since]
            return (
                0,
                "\n".join(f"{at:.6f} node crio[77]: {line}" if form == "short-unix" else line for at, line in lines),
                "",
            )
        return 127, "", ""

    def shown(self) -> list[str]:
        known = ("docker.io", "ghcr.io", "quay.io")
        return [upstream for upstream in known if upstream not in self.hidden and self.mirrors(upstream)]

    def kill(self, pid: int, number: int) -> None:
        assert (pid, number) == (77, signal.SIGHUP), "CRI-O may be reloaded, and nothing else"
        self.reloads += 1
        if self.dies:
            (Path(self.places.proc) / "77/comm").unlink()
        if self.refuses:
            self.tell('level=error msg="Unable to reload configuration: no such runtime"')
        elif self.obedient and not self.dies:
            self.crio = self.mirrors()
            listed = " ".join(
                f"{{Prefix:{upstream} Mirrors:[{' '.join(f'{{Location:{each}}}' for each in self.mirrors(upstream))}]}}"
                for upstream in self.shown()
            )
            self.tell(f"Applied new registry configuration: &{{Registries:[{listed}]}}")

    def tell(self, line: str) -> None:
        self.log += [(time.time(), line)] if self.logs else []

    def strike(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            raise Killed

    def step(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """The real call, with a kill before it and one after it."""

        def call(*words: Any, **more: Any) -> Any:
            self.strike()
            result = real(*words, **more)
            self.strike()
            return result

        return call

    @contextmanager
    def in_effect(self) -> Iterator[None]:
        now = [0.0]

        def sleep(seconds: float) -> None:
            now[0] += seconds

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tools, "run_tool", self.tool)
            patch.setattr(address, "probe", lambda *_: self.cache)
            patch.setattr(time, "sleep", sleep)
            patch.setattr(time, "monotonic", lambda: now[0])
            patch.setattr(os, "geteuid", lambda: 0)
            patch.setattr(os, "kill", self.step(self.kill))
            patch.setattr(os, "fsync", self.step(lambda _: None))
            for name in ("replace", "unlink", "mkdir", "rmdir"):
                patch.setattr(os, name, self.step(getattr(os, name)))
            yield

    def run(self, *argv: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with self.in_effect(), redirect_stdout(out), redirect_stderr(err):
            status = mirror.run(argv, self.places)
        remember(line.partition(": ")[2].replace(str(self.root), "") for line in err.getvalue().splitlines())
        return status, out.getvalue(), err.getvalue().replace(str(self.root), "")

    def apply(self, entry: str = ENTRY, *words: str) -> str:
        status, out, err = self.run("mirror", entry, *words)
        assert (status, err) == (0, ""), "apply must succeed here"
        return out.replace(str(self.root), "")

    def remove(self, *words: str) -> str:
        status, out, err = self.run("remove", *words)
        assert (status, err) == (0, ""), "remove must succeed here"
        return out.replace(str(self.root), "")

    def refused(self, *argv: str) -> str:
        """The errors of a run that must leave everything as it is."""
        files, crio = self.files(), self.crio
        status, out, err = self.run(*argv)
        assert (status, out) == (1, ""), "a refusal exits 1 and prints nothing on stdout"
        assert self.files() == files, "a refusal leaves every file as it was"
        assert self.crio == crio or self.dies, "and CRI-O"
        return err

    def checked(self, *argv: str) -> dict[str, Any]:
        files = self.files()
        with self.in_effect():
            found = check.report(argv, self.places)
        assert self.files() == files, "a look changes nothing"
        (engine,) = found["engines"]
        return dict(engine)

    def files(self) -> dict[str, tuple[bytes, int, int]]:
        """Everything below /etc: a file's content, mode and date; and that there is something in our folder."""
        found = {
            str(path.relative_to(self.root)): (
                path.read_bytes() if path.is_file() else b"",
                path.stat().st_mode,
                int(path.stat().st_mtime) if path.is_file() else 0,
            )
            for path in (self.root / "etc").rglob("*")
        }
        state = Path(self.places.state)
        return found | {path.name: (b"", 0, 0) for path in (state.iterdir() if state.exists() else ())}


@pytest.fixture
def new_node(tmp_path: Path) -> Callable[..., StandInNode]:
    return lambda **texts: StandInNode(tmp_path / "node", **texts)


# --- podman ---


def test_a_file_of_ours_gives_podman_the_mirror_and_goes_again(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(main='unqualified-search-registries = ["docker.io"]\n')
    before = node.files()
    assert node.apply() == f"live: mirror {ENTRY}, podman 4.3.1, registries.conf.d written\n", "one stable line"
    assert node.mirrors() == [HOSTPORT]
    written = node.files()
    assert node.apply() == f"live: mirror {ENTRY}, podman 4.3.1, nothing touched\n"
    assert node.files() == written
    assert node.remove() == "removed: registries.conf.d as it was\n"
    assert node.files() == before, "bytes, modes, dates and folders are as they were"


def test_an_administrators_own_mirrors_stay_behind_ours(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(main='[[registry]]\nlocation = "docker.io"\n', own=OWN)
    before = node.files()
    said = node.apply()
    assert said == f"live: mirror {ENTRY}, podman 4.3.1, registries.conf.d written\n"
    assert node.mirrors() == [HOSTPORT, "own:5000"], "a file of ours would have hidden his"
    assert not node.drop_in.exists()
    node.remove()
    assert node.files() == before


def test_a_main_file_with_docker_io_is_named_in_the_line(new_node: Callable[..., StandInNode]) -> None:
    said = new_node(main=OWN).apply()
    assert said == f"live: mirror {ENTRY}, podman 4.3.1, /etc/containers/registries.conf written\n"


def test_mirrors_that_are_written_after_us_count_and_get_ours_before_them(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.apply()
    node.write(node.etc / "registries.conf.d/own.conf", OWN)
    before = OWN.encode()
    assert node.mirrors() == ["own:5000"], "his file is read after ours"
    node.apply()
    assert node.mirrors() == [HOSTPORT, "own:5000"]
    assert not node.drop_in.exists(), "ours moved into his"
    node.remove()
    assert (node.etc / "registries.conf.d/own.conf").read_bytes() == before
    assert node.mirrors() == ["own:5000"]


def test_other_registries_and_entries_come_and_go_without_a_trace(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(own=OWN, later='[[registry]]\nlocation = "ghcr.io"\n')
    before, words = node.files(), ("--also", "10.0.0.2", "--upstreams", "ghcr.io,quay.io")
    said = node.apply(ENTRY, *words)
    assert "registries.conf.d written" in said
    assert node.mirrors() == [HOSTPORT, OTHER_HOSTPORT, "own:5000"]
    assert node.mirrors("ghcr.io") == [f"{HOSTPORT}/ghcr.io", f"{OTHER_HOSTPORT}/ghcr.io"], "his file has it"
    assert node.mirrors("quay.io") == [f"{HOSTPORT}/quay.io", f"{OTHER_HOSTPORT}/quay.io"]
    assert "nothing touched" in node.apply(ENTRY, *words)
    node.apply(ENTRY, "--upstreams", "quay.io")
    assert (node.mirrors("ghcr.io"), node.mirrors("quay.io")) == ([], [f"{HOSTPORT}/quay.io"])
    node.remove()
    assert node.files() == before


def test_podman_has_to_show_each_registry(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.hidden = {"ghcr.io"}
    assert "`podman info` does not show the mirror" in node.refused("mirror", ENTRY, "--upstreams", "ghcr.io")
    assert node.apply().startswith("live")


def test_crio_has_to_name_each_registry(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.start_crio()
    node.hidden = {"ghcr.io"}
    del node.tools["podman"]
    assert f"{HOSTPORT}/ghcr.io is not among them" in node.refused("mirror", ENTRY, "--upstreams", "ghcr.io")
    node.hidden = set()
    node.apply(ENTRY, "--upstreams", "ghcr.io")


def test_edits_in_a_file_that_holds_our_block_stay(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(own=OWN)
    node.apply()
    path = node.etc / "registries.conf.d/own.conf"
    node.write(path, path.read_text() + '[[registry.mirror]]\nlocation = "third:1"\n')
    node.apply(OTHER)
    assert node.mirrors() == [OTHER_HOSTPORT, "own:5000", "third:1"]
    node.remove()
    assert path.read_text() == OWN + '[[registry.mirror]]\nlocation = "third:1"\n'


def test_a_mirror_of_the_administrators_own_serves(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(
        own=f'[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "{HOSTPORT}"\ninsecure = true\n'
    )
    before = node.files()
    assert "nothing touched" in node.apply()
    assert node.files() == before


def test_a_link_is_followed_and_stays_a_link(new_node: Callable[..., StandInNode], tmp_path: Path) -> None:
    node, target = new_node(), tmp_path / "elsewhere.conf"
    target.write_text(OWN)
    node.main.parent.mkdir(parents=True)
    node.main.symlink_to(target)
    node.apply()
    assert node.main.is_symlink()
    assert node.mirrors() == [HOSTPORT, "own:5000"]
    node.remove()
    assert target.read_text() == OWN


def test_roots_own_drop_ins_come_last(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(own=OWN)
    later = Path(node.places.root_containers) / "registries.conf.d/x.conf"
    node.write(later, OWN)
    node.tools = {"buildah": "buildah version 1.28.2 (image-spec 1.0.2)\n"}
    said = node.apply()
    assert said == f"live: mirror {ENTRY}, buildah 1.28.2, /root/.config/containers/registries.conf.d/x.conf written\n"
    assert HOSTPORT in later.read_text()
    node.remove()
    assert later.read_text() == OWN


def test_a_ca_is_placed_where_the_engines_look_and_goes_again(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_node(main="")
    before = node.files()
    monkeypatch.setattr(payload, "certificate", PEM)
    node.apply(SECURE, "--ca", digest(PEM.encode()))
    assert (node.etc / "certs.d/cache:5000/docker-cache.crt").read_text() == PEM
    assert "insecure" not in node.drop_in.read_text()
    node.remove()
    assert node.files() == before


def test_an_own_mirror_with_our_ca_says_what_was_done(
    new_node: Callable[..., StandInNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_node(main='[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "cache:5000"\n')
    monkeypatch.setattr(payload, "certificate", PEM)
    said = node.apply(SECURE, "--ca", digest(PEM.encode()))
    assert said == f"live: mirror {SECURE}, podman 4.3.1, certificate placed\n"


def test_another_owners_removal_leaves_the_mirror(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.apply(ENTRY, "--owner", "A")
    assert "nothing touched" in node.apply(ENTRY, "--owner", "B")
    assert node.remove("--owner", "A") == "kept: the mirror here is kept by B, nothing touched\n"
    node.remove("--owner", "B")
    assert node.mirrors() == []


def test_an_engine_that_is_left_out_loses_the_mirror_that_it_had(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.apply()
    node.apply(ENTRY, "--engines", "docker")
    assert node.mirrors() == []


def test_a_node_without_these_programs_is_left_alone(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(main=OWN)
    node.tools = {}
    before = node.files()
    assert node.apply() == "none: no container engine on this node, nothing to do\n"
    assert node.files() == before


def test_a_podman_that_is_gone_does_not_keep_its_files(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(main=OWN)
    before = node.files()
    node.apply()
    node.tools = {}
    node.remove()
    assert node.files() == before


def test_a_podman_that_does_not_show_the_mirror_has_its_files_put_back(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(main=OWN)
    node.podman_fails = "loading registries configuration: toml: line 3"
    error = node.refused("mirror", ENTRY)
    assert "taken back: `podman info` fails: Error: loading registries configuration: toml: line 3; mend" in error
    node.podman_fails = ""
    node.mirrors = lambda *_: []  # type: ignore[method-assign]
    assert "taken back: `podman info` does not show the mirror" in node.refused("mirror", ENTRY)


def test_everything_that_is_in_the_way_is_named_at_once(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(main="x\n", own="y\n")
    node.tools["podman"] = "podman version 1.6.4\n"
    node.cache = ("no answer in 10 s", True)
    error = node.refused("mirror", ENTRY)
    assert "podman 1.6.4 is too old to read registries.conf.d; update it to 1.9 or newer" in error
    assert "/etc/containers/registries.conf is no valid TOML, line 1" in error
    assert "/etc/containers/registries.conf.d/own.conf is no valid TOML, line 1" in error
    assert "no answer in 10 s" in error


def test_a_file_of_roots_own_that_hides_the_systems_is_named(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.write(Path(node.places.root_containers) / "registries.conf", "")
    assert (
        "/root/.config/containers/registries.conf hides all of /etc/containers from root's engines; move its lines there"
        in node.refused("mirror", ENTRY)
    )


def test_what_the_administrator_sends_elsewhere_is_told(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(main='[[registry]]\nprefix = "docker.io/team"\nlocation = "registry.example/team"\n')
    assert node.apply().endswith("; docker.io/team goes its own way in /etc/containers/registries.conf\n")


def test_a_file_of_ours_that_somebody_replaced_stays_and_is_named(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.apply()
    node.write(node.drop_in, "# mine now\n")
    assert (
        node.remove()
        == "removed: /etc/containers/registries.conf.d/000-docker-cache.conf was changed by somebody and stays\n"
    )
    assert node.drop_in.read_text() == "# mine now\n"


# --- CRI-O ---


def test_a_running_crio_is_reloaded_once_and_again_at_the_end(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(own=OWN)
    node.start_crio()
    assert node.apply() == (
        f"live: mirror {ENTRY}, podman 4.3.1, CRI-O 1.34.0, registries.conf.d written, CRI-O reloaded\n"
    )
    assert (node.crio, node.reloads) == ([HOSTPORT, "own:5000"], 1)
    assert "nothing touched" in node.apply()
    assert node.reloads == 1
    node.remove()
    assert (node.crio, node.reloads) == (["own:5000"], 2)


def test_a_crio_that_ends_has_the_files_put_back(new_node: Callable[..., StandInNode]) -> None:
    node = new_node(own=OWN)
    node.start_crio()
    node.dies = True
    assert "taken back: crio (process 77) ended during the reload" in node.refused("mirror", ENTRY)


def test_a_crio_that_does_not_take_its_configuration_is_told_of_the_old_one(
    new_node: Callable[..., StandInNode],
) -> None:
    node = new_node(own=OWN)
    node.start_crio()
    node.refuses = True
    error = node.refused("mirror", ENTRY)
    assert "taken back: CRI-O does not take its configuration: no such runtime; mend that, run again" in error
    assert node.reloads == 2


def test_a_crio_that_reads_other_files_than_it_shows_is_found_out(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.tools.pop("podman")
    node.start_crio()
    node.mirrors = lambda *_: []  # type: ignore[method-assign]
    error = node.refused("mirror", ENTRY)
    assert f"CRI-O has read its registries anew, and {HOSTPORT} is not among them" in error


def test_a_silent_crio_is_believed(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.start_crio()
    node.logs = False
    assert "CRI-O reloaded" in node.apply()
    assert node.crio == [HOSTPORT]


def test_edits_that_wait_for_a_reload_are_refused_unless_they_are_allowed(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.start_crio()
    node.write(Path(node.places.crio) / "crio.conf.d/10-old.conf", "", at=STARTED - 5)
    edited = Path(node.places.crio) / "crio.conf.d/20-new.conf"
    node.write(edited, "", at=STARTED + 5)
    error = node.refused("mirror", ENTRY)
    assert (
        "because these were changed since it read them: /etc/crio/crio.conf.d/20-new.conf; run `systemctl reload crio` when"
        in error
    )
    node.log.append((STARTED + 9, "Applied new registry configuration: x"))
    node.apply()
    node.write(edited, "", at=STARTED + 11)
    node.log.clear()
    assert "CRI-O's reload would change more" in node.refused("remove")
    node.remove("--allow-pending-changes")
    assert node.crio == []


@pytest.mark.parametrize(
    ("flags", "environment", "told"),
    [
        (("--registries-conf=/x.conf",), "", "--registries-conf /x.conf"),
        ((), "A=b\0CONTAINER_REGISTRIES_CONF_DIR=/x.d\0", "--registries-conf-dir /x.d"),
    ],
)
def test_a_crio_that_looks_elsewhere_is_refused(
    new_node: Callable[..., StandInNode], flags: tuple[str, ...], environment: str, told: str
) -> None:
    node = new_node()
    node.start_crio(*flags, environment=environment)
    assert f"CRI-O has its registries from {told}, not from /etc/containers" in node.refused("mirror", ENTRY)


def test_a_proxy_of_crios_that_is_in_the_way_is_refused(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.start_crio(environment="HTTP_PROXY=http://proxy:3128\0")
    assert "crio would ask the mirror through its proxy" in node.refused("mirror", ENTRY)


def test_several_crios_are_refused(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    node.start_crio()
    second = Path(node.places.proc) / "78"
    (second / "ns").mkdir(parents=True)
    for name in ("comm", "stat", "cmdline"):
        (second / name).write_bytes((Path(node.places.proc) / "77" / name).read_bytes())
    for kind in ("pid", "mnt"):
        (second / "ns" / kind).symlink_to(kind + ":[1]")
    assert "several crio run here, processes 77, 78; stop all but one" in node.refused("mirror", ENTRY)


# --- looked at, with nothing changed ---


def test_a_look_tells_what_is_there(new_node: Callable[..., StandInNode]) -> None:
    node = new_node()
    shown = {"engine": "podman", "version": "podman 4.3.1", "containers": None}
    assert node.checked(ENTRY) == shown | {"mirror": "absent", "settled": False}
    node.apply()
    assert node.checked(ENTRY) == shown | {"mirror": "live", "settled": True}
    assert node.checked() == shown | {"mirror": "live", "settled": None}
    assert node.checked(OTHER) == shown | {"mirror": "another", "settled": False}
    node.drop_in.unlink()
    assert node.checked(ENTRY) == shown | {"mirror": "changed", "settled": False}
    assert node.checked() == shown | {"mirror": "changed", "settled": None}
    node.tools = {}
    assert node.checked() == shown | {"mirror": "changed", "version": "gone", "settled": None}


def test_a_look_tells_an_entry_of_the_administrators_own_and_what_can_not_be_read(
    new_node: Callable[..., StandInNode],
) -> None:
    node = new_node(
        own=f'[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "{HOSTPORT}"\ninsecure = true\n'
    )
    assert node.checked(ENTRY)["mirror"] == "foreign"
    node.write(node.main, "x\n")
    assert node.checked(ENTRY)["mirror"] == "unknown"


# --- killed at any point ---


STORIES: dict[str, tuple[dict[str, str], list[tuple[str, ...]], tuple[str, ...]]] = {
    "first": ({}, [], ("mirror", ENTRY)),
    "into his file": ({"main": OWN}, [], ("mirror", ENTRY)),
    "another entry": ({"own": OWN}, [("mirror", OTHER)], ("mirror", ENTRY)),
    "removed": ({}, [("mirror", ENTRY)], ("remove",)),
    "removed from his file": ({"own": OWN}, [("mirror", ENTRY)], ("remove",)),
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("ending", ["again", "remove"])
def test_a_kill_at_any_step_leaves_valid_files_that_the_next_run_finishes(
    story: str, ending: str, tmp_path: Path
) -> None:
    texts, before, words = STORIES[story]
    for step in range(1, 200):
        node = StandInNode(tmp_path / str(step), **texts)
        node.start_crio()
        first, theirs = node.files(), list(node.crio or [])
        for each in before:
            assert node.run(*each)[0] == 0
        node.steps, node.kill_at = 0, step
        try:
            node.run(*words)
        except Killed:
            node.kill_at = 0
        else:
            assert step > 10, "the run has to have been killed at many steps"
            return
        assert [each for each in node.mirrors() if each not in (HOSTPORT, OTHER_HOSTPORT)] == theirs, (
            f"the files are valid and his mirrors are in them (step {step})"
        )
        if ending == "again":
            status, _, error = node.run(*words)
            assert (status, error) == (0, ""), f"the next run finishes (step {step})"
            wanted = [HOSTPORT, *theirs] if words[0] == "mirror" else theirs
            assert (node.mirrors(), node.crio) == (wanted, wanted), f"in the files and in CRI-O (step {step})"
        node.remove()
        assert node.files() == first, f"bytes, modes and dates come back, and nothing stays (step {step})"
        assert node.crio == theirs, f"in CRI-O too (step {step})"
    pytest.fail("the run never came to its end")


@given(
    texts=st.dictionaries(
        st.sampled_from(["main", "own", "0", "zz"]),
        st.sampled_from(
            [OWN, "", "# x", '[[registry]]\nlocation = "docker.io"', '[[registry]]\nlocation = "quay.io"\n' + OWN]
        ),
    ),
    runs=st.lists(st.sampled_from([ENTRY, OTHER, "https://cache:5000", "remove"]), max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_any_run_of_changes_gives_the_same_files_back(
    texts: dict[str, str], runs: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    node = StandInNode(tmp_path_factory.mktemp("any") / "node", **texts)
    before = node.files()
    for each in runs:
        if each == "remove":
            node.remove()
            continue
        node.apply(each)
        written = node.files()
        assert "nothing touched" in node.apply(each), "twice is once"
        assert node.files() == written
    node.remove()
    assert node.files() == before
