"""What `make check` is told by a node, and that looking leaves no trace there; the rules are those that `mirror` refuses by."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from on_node import check, errors, files, mirror
from rendering import node_command
from tests.unit.messages import remember
from tests.unit.test_on_node_containerd import PLAIN, REGISTRY
from tests.unit.test_on_node_containerd import StandInNode as ContainerdNode
from tests.unit.test_on_node_docker import ENTRY, OTHER, SECRET, StandInNode

GIB = 1 << 30


@pytest.fixture
def node(tmp_path: Path) -> StandInNode:
    return StandInNode(tmp_path / "node", "{}")


def report(node: StandInNode, *argv: str) -> dict[str, Any]:
    """The report, of a look that must leave the node as it is to the byte and the second."""
    before = everything(node)
    with node.in_effect():
        found = check.report(argv, node.places)
    assert everything(node) == before, "a look changes nothing"
    assert SECRET not in json.dumps(found), "contents of daemon.json must never be printed"
    remember(words(each) for each in found["findings"] + found["cache"])
    return found


def everything(node: StandInNode) -> dict[str, tuple[int, bytes]]:
    root = node.config.parents[2]
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [root, *root.rglob("*")]
    }


def words(finding: dict[str, str]) -> str:
    return "; ".join(word for word in (finding["text"], finding["remedy"]) if word)


def errors_of(found: dict[str, Any]) -> list[str]:
    return [words(each) for each in found["findings"] + found["cache"] if each["level"] == "error"]


def untouched(_: StandInNode) -> None:
    """A node as it was before we ever came."""


def applied(node: StandInNode) -> None:
    node.apply()


def taken_out(node: StandInNode) -> None:
    node.apply()
    node.write('{"registry-mirrors": []}')
    node.docker.reload()


def put_back_without_a_reload(node: StandInNode) -> None:
    """The file is right, and docker has not read it."""
    node.apply()
    node.docker.live["registry-mirrors"] = []


def stopped(node: StandInNode) -> None:
    node.docker.stop()
    node.apply()


def by_the_administrator(node: StandInNode) -> None:
    node.write(json.dumps({"registry-mirrors": [ENTRY], "insecure-registries": [ENTRY.removeprefix("http://")]}))
    node.docker.reload()


def installed_anew(node: StandInNode) -> None:
    node.apply()
    Path(node.places.record).unlink()
    node.config.unlink()
    node.docker.live.clear()


def of_an_earlier_configuration(node: StandInNode) -> None:
    node.apply(OTHER)


@pytest.mark.parametrize(
    ("story", "mirror", "settled"),
    [
        (untouched, "absent", False),
        (applied, "live", True),
        (taken_out, "changed", False),
        (put_back_without_a_reload, "written", False),
        (stopped, "written", True),
        (by_the_administrator, "foreign", True),
        (installed_anew, "absent", False),
        (of_an_earlier_configuration, "another", False),
    ],
)
def test_the_state_of_the_mirror_is_told(
    node: StandInNode, story: Callable[[StandInNode], None], mirror: str, settled: bool
) -> None:
    story(node)
    (engine,) = report(node, ENTRY)["engines"]
    assert (engine["mirror"], engine["settled"]) == (mirror, settled)


def test_docker_has_the_mirror_where_it_has_each_entry(node: StandInNode) -> None:
    node.apply()
    (engine,) = report(node, ENTRY, "--also", "10.0.0.2")["engines"]
    assert (engine["mirror"], engine["settled"]) == ("another", False)
    node.apply(ENTRY, "--also", "10.0.0.2")
    (engine,) = report(node, ENTRY, "--also", "10.0.0.2")["engines"]
    assert (engine["mirror"], engine["settled"]) == ("live", True)


def test_one_of_several_entries_that_is_silent_is_a_warning(node: StandInNode) -> None:
    node.silent = {OTHER}
    (finding,) = report(node, ENTRY, "--also", "10.0.0.2")["cache"]
    assert (finding["level"], OTHER in finding["text"]) == ("warning", True), "the other one serves"
    node.silent = {ENTRY, OTHER}
    assert [each["level"] for each in report(node, ENTRY, "--also", "10.0.0.2")["cache"]] == ["error", "error"]


def test_each_entry_that_a_proxy_is_asked_for_is_named(node: StandInNode) -> None:
    proxied(node)
    found = errors_of(report(node, ENTRY, "--also", "10.0.0.2,10.0.0.3"))
    named = [host for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3") if any(f"add {host} to" in line for line in found)]
    assert named == ["10.0.0.1", "10.0.0.3"], "the second is in NO_PROXY"


@pytest.mark.parametrize(
    ("story", "mirror"),
    [(untouched, "absent"), (applied, "live"), (taken_out, "changed"), (by_the_administrator, "absent")],
)
def test_without_an_entry_only_what_is_ours_counts(
    node: StandInNode, story: Callable[[StandInNode], None], mirror: str
) -> None:
    story(node)
    found = report(node)
    assert found["engines"][0]["mirror"] == mirror
    assert errors_of(found) == [], "nothing is wanted, so nothing is in the way"


def test_a_docker_that_is_gone_with_our_record_still_there_is_told(node: StandInNode) -> None:
    node.apply()
    node.docker.stop()
    node.installed = False
    (engine,) = report(node, ENTRY)["engines"]
    assert (engine["version"], engine["mirror"]) == ("gone", "changed")


def test_a_node_without_an_engine_has_nothing_to_tell(node: StandInNode) -> None:
    node.docker.stop()
    node.installed = False
    node.cache = ("no route", True)
    assert report(node, ENTRY) == {"engines": [], "findings": [], "cache": []}, (
        "the cache need not answer where nobody asks it"
    )


def broken_file(node: StandInNode) -> None:
    node.write('{"a": }')


def waiting_edit(node: StandInNode) -> None:
    node.write(json.dumps({"debug": True, "log-opts": {"token": SECRET}}))


def clashing_flag(node: StandInNode) -> None:
    node.argv += ["--registry-mirror=https://m", "--max-concurrent-downloads=9"]
    node.docker.start()


def dead_cache(node: StandInNode) -> None:
    node.cache = ("HTTP status 404", True)


def silent_docker(node: StandInNode) -> None:
    node.docker.answers = False


def proxied(node: StandInNode) -> None:
    node.docker.proxies = {"HttpProxy": f"http://u:{SECRET}@proxy:3128", "NoProxy": "10.0.0.2,.cluster.local"}


@pytest.mark.parametrize("story", [broken_file, waiting_edit, clashing_flag, dead_cache, silent_docker, proxied])
def test_what_would_be_refused_is_told_in_the_same_words(
    node: StandInNode, story: Callable[[StandInNode], None]
) -> None:
    story(node)
    refused = [line.partition(": ")[2] for line in node.refused("mirror", ENTRY).splitlines()]
    found = report(node, ENTRY)
    assert errors_of(found) == refused, "one rule, told in two places"
    assert all(each["remedy"] for each in found["findings"]), "each has its remedy"


def test_the_engine_is_told_even_where_its_file_can_not_be_read(node: StandInNode) -> None:
    broken_file(node)
    assert report(node, ENTRY)["engines"] == [
        {"engine": "docker", "version": "", "mirror": "unknown", "settled": None, "containers": None}
    ]


@pytest.mark.parametrize(
    ("proxies", "entry", "refused"),
    [
        ({"HttpProxy": "http://p"}, ENTRY, True),
        ({"HttpProxy": "http://p", "NoProxy": "10.0.0.0/8"}, ENTRY, False),
        ({"HttpsProxy": "http://p"}, ENTRY, False),
        ({"HttpsProxy": "http://p"}, "https://cache:5000", True),
    ],
)
def test_a_mirror_that_docker_would_ask_through_its_proxy_is_refused(
    node: StandInNode, proxies: dict[str, str], entry: str, refused: bool
) -> None:
    node.docker.proxies = proxies
    status, _, said = node.run("mirror", entry)
    assert (status, "is not in its NO_PROXY" in said) == ((1, True) if refused else (0, False))


@pytest.mark.parametrize(
    ("content", "flags", "service"),
    [
        ('{"proxies": {"http-proxy": "http://p"}}', [], ""),
        ("{}", ["--http-proxy=http://p"], ""),
        ("{}", [], "Environment=HTTP_PROXY=http://p NO_PROXY=x\n"),
    ],
)
def test_the_proxy_of_a_docker_that_is_stopped_is_where_it_will_take_it_from(
    node: StandInNode, content: str, flags: list[str], service: str
) -> None:
    node.docker.stop()
    node.write(content)
    node.argv += flags
    node.service = service
    assert "is not in its NO_PROXY" in node.refused("mirror", ENTRY)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    stats = SimpleNamespace(f_flag=0, f_frsize=4096, f_bfree=GIB, f_bavail=GIB, f_files=10**6, f_ffree=10**6, folder="")
    real = os.statvfs
    monkeypatch.setattr(os, "statvfs", lambda path: stats if str(path).endswith(stats.folder) else real(path))
    return stats


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"f_flag": os.ST_RDONLY}, "Read-only file system; make the file system writable"),
        ({"f_bfree": 255}, "No space left on device; free some space"),
        ({"f_ffree": 0}, "No space left on device; free some space"),
    ],
)
def test_a_disk_that_takes_nothing_is_refused_before_any_write(
    node: StandInNode, disk: SimpleNamespace, trouble: dict[str, int], reason: str
) -> None:
    disk.folder = "etc/docker"
    vars(disk).update(trouble)
    said = node.refused("mirror", ENTRY)
    assert f"etc/docker: {reason}" in said
    assert not Path(node.places.record).exists(), "not even a record was begun"
    assert any(reason in line for line in errors_of(report(node, ENTRY)))


def test_a_file_system_that_counts_no_inodes_is_not_full(node: StandInNode, disk: SimpleNamespace) -> None:
    disk.f_files = disk.f_ffree = 0
    node.apply()


def test_a_node_that_is_right_is_not_refused_for_its_disk(node: StandInNode, disk: SimpleNamespace) -> None:
    node.apply()
    disk.folder, disk.f_flag = "etc/docker", os.ST_RDONLY
    assert "nothing touched" in node.apply(), "there is nothing to write"


def test_what_may_disappoint_is_a_warning(node: StandInNode, disk: SimpleNamespace) -> None:
    disk.f_bavail = GIB // 4096
    found = report(node, ENTRY)
    assert errors_of(found) == []
    texts = [each["text"] for each in found["findings"]]
    assert [each["level"] for each in found["findings"]] == ["warning", "warning"]
    assert "has 1024 MB left" in texts[0]
    assert texts[1].startswith("live-restore is off")
    assert found["engines"][0]["containers"] == 2, "running containers are counted"
    node.docker.live["live-restore"], disk.f_bavail = True, GIB
    assert report(node, ENTRY)["findings"] == []


def test_docker_is_told_to_be_for_docker_hub_alone(node: StandInNode) -> None:
    (caution,) = [
        each for each in report(node, ENTRY, "--upstreams", "ghcr.io,quay.io")["findings"] if "alone" in each["text"]
    ]
    assert words(caution) == (
        "docker has mirrors for Docker Hub alone: images of ghcr.io, quay.io do not come through the cache; pull them by its own "
        "name, 10.0.0.1:30500/ghcr.io/…, where they should"
    )
    assert caution["level"] == "warning"


def test_who_is_not_root_is_told_so(node: StandInNode) -> None:
    node.uid = 1000
    found = report(node, ENTRY)
    assert found["engines"] == []
    assert errors_of(found)[0].startswith("only root can change container engines; log in as root")


def test_an_address_that_is_none_is_a_finding(node: StandInNode) -> None:
    assert "the mirror's address must look like" in errors_of(report(node, "cache"))[0]
    assert "names another certificate" in errors_of(report(node, "https://cache:5000", "--ca", "0" * 64))[0]


def test_a_look_waits_for_a_run_that_is_at_work(node: StandInNode) -> None:
    node.apply()
    with node.in_effect(), files.locked(node.places), pytest.raises(errors.Trouble, match="another run"):
        check.check(node.places, None, mirror.options_of(argparse.Namespace(owner=None, allow_pending_changes=False)))


def test_the_program_runs_by_the_loader() -> None:
    argv = [sys.executable, "-I", "-c", node_command.LOADER, ENTRY, "--surprise"]
    done = subprocess.run(argv, input=node_command.payload("check"), capture_output=True, check=False, text=True)
    assert (done.returncode, "usage: check" in done.stderr) == (2, True), "its command line is read"


@pytest.fixture
def containerd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ContainerdNode:
    root = tmp_path / "node"
    return ContainerdNode(root, monkeypatch, PLAIN + REGISTRY.replace("/etc", f"{root}/etc"))


def hosts_removed(node: ContainerdNode) -> None:
    node.apply()
    node.hosts.unlink()


def hosts_by_the_administrator(node: ContainerdNode) -> None:
    node.write(node.hosts, f'[host."{ENTRY}"]\n')


@pytest.mark.parametrize(
    ("story", "mirror", "settled", "left"),
    [
        (lambda _: None, "absent", False, "absent"),
        (lambda node: node.apply(), "live", True, "live"),
        (lambda node: node.apply(OTHER), "another", False, "live"),
        (hosts_removed, "changed", False, "changed"),
        (hosts_by_the_administrator, "foreign", True, "absent"),
    ],
)
def test_containerd_tells_the_same_states(
    containerd: ContainerdNode, story: Callable[[ContainerdNode], None], mirror: str, settled: bool, left: str
) -> None:
    story(containerd)
    before = containerd.files()
    with containerd.in_effect():
        (engine,) = check.report([ENTRY], containerd.places)["engines"]
        (unwanted,) = check.report([], containerd.places)["engines"]
        left_out = check.report([ENTRY, "--engines", "docker"], containerd.places)["engines"]
    assert containerd.files() == before, "a look changes nothing"
    assert (engine["engine"], engine["mirror"], engine["settled"]) == ("containerd", mirror, settled)
    assert (unwanted["mirror"], unwanted["settled"]) == (left, None)
    assert [(each["mirror"], each["settled"]) for each in left_out] == ([] if left == "absent" else [(left, False)]), (
        "an engine that is left out of those that get the mirror is to have nothing of ours"
    )


def one_of_them_removed(node: ContainerdNode) -> None:
    node.apply(ENTRY, "--upstreams", "ghcr.io")
    (node.folder.parent / "ghcr.io/hosts.toml").unlink()


def one_of_them_by_the_administrator(node: ContainerdNode) -> None:
    node.write(node.folder.parent / "ghcr.io/hosts.toml", f'[host."{ENTRY}"]\n')
    node.apply(ENTRY, "--upstreams", "ghcr.io")


@pytest.mark.parametrize(
    ("story", "words", "mirror", "settled"),
    [
        (lambda node: node.apply(ENTRY, "--upstreams", "ghcr.io"), ["--upstreams", "ghcr.io"], "live", True),
        (one_of_them_by_the_administrator, ["--upstreams", "ghcr.io"], "live", True),
        (one_of_them_removed, ["--upstreams", "ghcr.io"], "changed", False),
        (lambda node: node.apply(), ["--upstreams", "ghcr.io"], "another", False),
        (lambda node: node.apply(ENTRY, "--upstreams", "ghcr.io"), [], "live", False),
        (lambda node: node.apply(), ["--also", "10.0.0.2"], "another", False),
        (lambda node: node.apply(ENTRY, "--also", "10.0.0.2"), ["--also", "10.0.0.2"], "live", True),
        (lambda _: None, ["--upstreams", "ghcr.io"], "absent", False),
    ],
)
def test_containerd_has_the_mirror_where_each_registry_has_each_entry(
    containerd: ContainerdNode, story: Callable[[ContainerdNode], None], words: list[str], mirror: str, settled: bool
) -> None:
    story(containerd)
    with containerd.in_effect():
        (engine,) = check.report([ENTRY, *words], containerd.places)["engines"]
    assert (engine["mirror"], engine["settled"]) == (mirror, settled)


def test_a_containerd_that_would_ask_the_mirror_through_its_proxy_is_refused(containerd: ContainerdNode) -> None:
    environment = Path(containerd.places.proc) / "300/environ"
    environment.write_bytes(b"PATH=/bin\0HTTP_PROXY=http://u:s3cr3t@p\0no_proxy=10.0.0.9\0")
    assert "containerd would ask the mirror through its proxy" in containerd.refused("mirror", ENTRY)
    environment.write_bytes(b"HTTP_PROXY=http://p\0no_proxy=10.0.0.0/8\0")
    containerd.apply()


def test_a_disk_that_takes_no_hosts_toml_is_refused_before_any_write(
    containerd: ContainerdNode, disk: SimpleNamespace
) -> None:
    disk.folder, disk.f_flag = "etc/containerd", os.ST_RDONLY
    assert "docker.io: Read-only file system" in containerd.refused("mirror", ENTRY)
