"""The proof's judgement on what the cache has logged."""

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from operations import cache_metrics, engines, proof, stacks
from operations.cache_metrics import CacheMetrics, Counts, MetricsError, count, parse_lines
from operations.engines import Engine, ask_engines
from operations.proof import Result, full_name, judge
from operations.ssh import NodeError, Shell, connect
from operations.stacks import StackName
from rendering import node_command
from settings.access import Access
from settings.cluster import Cluster
from settings.model import ENGINES
from tests.unit.messages import remember
from tests.unit.stacks import KUBECONFIG


def line(at: str, kind: str, cache: str, status: int = 200, size: int = 100) -> str:
    said = {"kind": kind, "cache": cache, "status": status, "bytes": size}
    return f"2026-11-29T17:35:{at}Z {json.dumps(said)}\n"


LOG = (
    "2026-11-29T17:35:40.1Z Log opened\n"
    + line("41.1", "tag", "miss")
    + line("41.2", "manifest", "miss")
    + line("41.3", "manifest", "none", 404)
    + line("42", "blob", "hit", size=16_000_000)
    + line("42.5", "blob", "pass")
    + line("42.51", "tag", "stale")
)


def test_only_answered_requests_count_and_a_tag_that_was_asked_for_anew_is_no_miss() -> None:
    seen = count(request for _, request in parse_lines(LOG))
    assert seen == Counts(manifest_requests=3, misses=2, bytes_served=16_000_100), (
        "a 404 of the cache is what sends docker to the hub"
    )


def test_lines_of_the_log_are_in_the_order_of_their_times() -> None:
    times = [at for at, _ in parse_lines(LOG)]
    assert times == sorted(times), "the kubelet leaves out zeros at the end of a time, so as texts they are in no order"


def test_what_was_there_before_the_pull_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = CacheMetrics(Cluster(kubeconfig=KUBECONFIG, context="prod"), "default")
    logs = {"one": line("41.5", "tag", "hit"), "two": ""}
    monkeypatch.setattr(cache_metrics, "LOOK_SECONDS", 0)
    monkeypatch.setattr(metrics, "_running_pods", lambda: list(logs))
    monkeypatch.setattr(metrics, "_log", lambda pod, **_: logs[pod])
    before = metrics.now()
    assert metrics.since(before) == Counts()
    logs["one"] += line("41.55", "manifest", "hit")
    logs["two"] += line("41.4", "tag", "hit")
    assert metrics.since(before) == Counts(manifest_requests=2), "what two fronts have answered is one sum"


def metrics_of(logs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> CacheMetrics:
    """Of fronts that can't be read where their log is "away", and where it is "once" can be the next time."""
    metrics = CacheMetrics(Cluster(kubeconfig=KUBECONFIG, context="prod"), "default")

    def log(pod: str, **_: object) -> str:
        text = logs[pod]
        if text == "once":
            logs[pod] = ""
        if text in {"once", "away"}:
            raise MetricsError(f"the log of {pod} can't be read: Bad Gateway")
        return text

    monkeypatch.setattr(cache_metrics, "LOOK_SECONDS", 0)
    monkeypatch.setattr(cache_metrics, "TRY_SECONDS", 0)
    monkeypatch.setattr(metrics, "_running_pods", lambda: list(logs))
    monkeypatch.setattr(metrics, "_log", log)
    return metrics


def test_a_front_whose_log_can_not_be_read_keeps_no_node_from_being_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = {"one": line("41.5", "tag", "hit"), "two": "away"}
    metrics = metrics_of(logs, monkeypatch)
    before = metrics.now()
    logs |= {"one": logs["one"] + line("41.6", "tag", "hit"), "two": line("41.6", "tag", "hit")}
    assert metrics.since(before) == Counts(manifest_requests=1), "what was there before can't be told from what came"


def test_the_log_of_a_single_front_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    logs = {"one": "once"}
    metrics = metrics_of(logs, monkeypatch)
    assert metrics.now().ends == {"one": ("", 0.0)}
    logs["one"] = "away"
    with pytest.raises(MetricsError, match="the log of one can't be read: Bad Gateway"):
        metrics.now()
    logs.clear()
    with pytest.raises(MetricsError, match="no front of the cache is running"):
        metrics.now()


@pytest.mark.parametrize(
    ("counted", "is_mirror_live", "verdict", "is_good"),
    [
        (Counts(manifest_requests=1, misses=2), True, "miss", True),
        (Counts(manifest_requests=1), True, "hit", True),
        (None, True, "not counted (a custom registry)", True),
        (Counts(), True, "failed: the cache saw nothing, docker went elsewhere", False),
        (
            Counts(manifest_requests=1),
            False,
            "failed: docker does not have the mirror: `make check` tells more",
            False,
        ),
    ],
)
def test_a_pull_that_the_cache_did_not_see_proves_nothing(
    counted: Counts | None, is_mirror_live: bool, verdict: str, is_good: bool
) -> None:
    assert judge(counted, "docker", is_mirror_live=is_mirror_live) == (verdict, is_good)
    remember([verdict.removeprefix("failed: ")] if not is_good else [])


def test_only_a_stack_with_the_sandboxs_kubeconfig_is_the_sandboxs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert StackName(name="dev").in_sandbox
    monkeypatch.setattr(stacks, "ROOT", tmp_path)
    (tmp_path / "Pulumi.dev-eu.yaml").write_text("config: {'docker-cache:docker_cache_kubeconfig': ~/.kube/config}")
    assert not StackName(name="dev-eu").in_sandbox, "a cluster of the user's would be answered for with --yes"
    assert not StackName(name="absent").in_sandbox


CLOSED = Access(
    name="w1", host="127.0.0.1", port=1, user="root", sudo=False, host_key=None, private_key=None, password="p"
)


def answer(status: int, stdout: str = "", stderr: str = "") -> Shell:
    """A shell whose connection stands for a node that answers thus."""

    async def run(*_: object, **__: object) -> SimpleNamespace:
        if status < 0:
            raise OSError("reset")
        return SimpleNamespace(exit_status=status, stdout=stdout, stderr=stderr)

    return Shell(access=CLOSED, connection=cast("Any", SimpleNamespace(run=run)))


def test_a_node_that_can_not_be_reached_is_named() -> None:
    async def sign_in() -> None:
        async with connect(CLOSED):
            pass

    with pytest.raises(NodeError, match=r"^root@127\.0\.0\.1:1 can't be reached: "):
        asyncio.run(sign_in())


def test_a_command_that_fails_is_told_by_its_last_line_or_its_status() -> None:
    with pytest.raises(NodeError, match=r"^`docker pull` failed: no space$"):
        asyncio.run(answer(1, stderr="first\nno space\n").run("docker", "pull", seconds=1))
    with pytest.raises(NodeError, match=r"^`docker pull` ended with status 7$"):
        asyncio.run(answer(7).run("docker", "pull", "x", seconds=1))
    with pytest.raises(NodeError, match=r"^`docker` did not end in 1 s or lost its connection: reset$"):
        asyncio.run(answer(-1).run("docker", "pull", seconds=1))


@pytest.mark.parametrize(
    ("changes", "line", "text"),
    [
        ({}, "docker info", ""),
        ({"sudo": True}, "sudo -n docker info", ""),
        ({"sudo": True, "sudo_password": "pass word"}, "sudo -S -p '' docker info", "pass word\n"),
    ],
)
def test_a_command_is_roots_and_sudos_password_goes_by_standard_input(
    changes: dict[str, Any], line: str, text: str
) -> None:
    seen: list[object] = []

    async def run(words: str, **options: object) -> SimpleNamespace:
        seen.extend([words, options["input"]])
        return SimpleNamespace(exit_status=0, stdout="", stderr="")

    shell = Shell(access=replace(CLOSED, **changes), connection=cast("Any", SimpleNamespace(run=run)))
    asyncio.run(shell.run("docker", "info", seconds=1))
    assert seen == [line, text]
    asyncio.run(shell.run_script("check", "http://h:1", certificate="PEM", seconds=1))
    asks = "sudo_password" in changes
    assert seen[2:] == [
        node_command.command("http://h:1", sudo=shell.access.sudo, sudo_password=asks),
        text + node_command.payload("check", "PEM"),
    ]


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_what_is_no_engine_is_named(program: str) -> None:
    with pytest.raises(NodeError, match=f"`{program} info` gives no JSON: is it {program}"):
        ask({program: "What is a container?"})


def node_with(info: dict[str, str]) -> Shell:
    """A shell on a node with these programs, each with what it says of itself."""

    async def run(words: str, **_: object) -> SimpleNamespace:
        said = [text for program, text in info.items() if f"command -v {program}" in words or words.startswith(program)]
        return SimpleNamespace(exit_status=0, stdout="".join(said), stderr="")

    return Shell(access=CLOSED, connection=cast("Any", SimpleNamespace(run=run)))


def ask(info: dict[str, str], wanted: Collection[str] = ENGINES) -> list[Engine]:
    return asyncio.run(ask_engines(node_with(info), wanted))


DOCKER = '{"ServerVersion": "29.0.0", "RegistryConfig": {"Mirrors": ["http://cache:30500/"]}}'
PODMAN = '{"version": {"Version": "4.3.1"}, "registries": {"docker.io": {"Mirrors": [{"Location": "cache:30500"}]}}}'


@pytest.mark.parametrize(
    ("info", "versions"),
    [
        ({"docker": DOCKER}, ["docker 29.0.0"]),
        ({"podman": PODMAN}, ["podman 4.3.1"]),
        ({"docker": DOCKER, "podman": PODMAN}, ["docker 29.0.0", "podman 4.3.1"]),
        ({"docker": PODMAN, "podman": PODMAN}, ["podman 4.3.1"]),
    ],
)
def test_each_engine_names_its_mirrors(info: dict[str, str], versions: list[str]) -> None:
    engines = ask(info)
    assert [engine.version for engine in engines] == versions
    for engine in engines:
        assert engine.has_mirrors(["http://cache:30500"])
        assert not engine.has_mirrors(["http://cache:30500", "http://cache:30501"])


def test_a_podman_without_the_mirror_and_a_node_without_engines_are_told_apart() -> None:
    (engine,) = ask({"podman": '{"registries": {"search": ["docker.io"]}}'})
    assert not engine.mirrors
    assert ask({}) == []


HOSTS = 'server = "https://registry-1.docker.io"\n[host."http://cache:30500"]\n  capabilities = ["pull"]\n'
CONTAINERD = {
    "ctr version": "Client:\n  Version:  2.4.2\nServer:\n  Version:  v2.4.2\n",
    "containerd config dump": "[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '/certs'\n",
    "sh -c 'cat": HOSTS,
    "sh -c 'if { command -v ctr": "yes",
}


def test_a_containerd_names_its_mirrors_and_pulls_where_no_image_of_kubernetes_is() -> None:
    docker, engine = ask(CONTAINERD | {"docker": DOCKER})
    assert docker.program == "docker", "a node with both is asked by both"
    assert (engine.version, engine.has_mirrors(["http://cache:30500"])) == ("containerd 2.4.2", True)
    assert engine.pull == ("ctr", "--namespace", "docker-cache-proof", "images", "pull", "--hosts-dir", "/certs")
    assert ask(CONTAINERD | {"containerd config dump": 'disabled_plugins = ["cri"]\n'}) == [], "nobody pulls by it"


def test_a_containerd_beside_docker_that_got_no_mirror_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "containerd.json"
    monkeypatch.setattr(engines, "CONTAINERDS_RECORD", str(record))
    for program in ("docker", "ctr"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    told = CONTAINERD | {"docker": DOCKER}

    async def run(words: str, **options: Any) -> object:
        if not words.startswith("sh -c 'if"):
            return await node_with(told).connection.run(words, **options)
        question = shlex.split(words)[2]
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", question, env={"PATH": str(tmp_path)}, stdout=asyncio.subprocess.PIPE
        )
        stdout, _ = await process.communicate()
        return SimpleNamespace(exit_status=process.returncode, stdout=stdout.decode(), stderr="")

    def asked() -> list[str]:
        shell = Shell(access=CLOSED, connection=cast("Any", SimpleNamespace(run=run)))
        return [engine.program for engine in asyncio.run(ask_engines(shell, ENGINES))]

    assert asked() == ["docker"], "docker brings it along, and nobody pulls by it"
    record.touch()
    assert asked() == ["docker", "containerd"]


def test_what_one_engine_has_proved_counts_where_the_next_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def sign_in(_: Access) -> AsyncIterator[Shell]:
        yield node_with(CONTAINERD | {"docker": DOCKER})

    async def pull(_: Shell, engine: Engine, *__: object) -> Result:
        if engine.program == "containerd":
            raise NodeError("`ctr` ended with status 1")
        return Result(node="w1", engine=engine.version, verdict="hit", is_good=True)

    monkeypatch.setattr(proof, "connect", sign_in)
    monkeypatch.setattr(proof, "pull", pull)
    stack = cast("Any", SimpleNamespace(settings=SimpleNamespace(docker_cache_engines=ENGINES)))
    results = asyncio.run(proof.prove_node(stack, CLOSED, None))
    assert [(result.verdict, result.is_good) for result in results] == [
        ("hit", True),
        ("failed: `ctr` ended with status 1", False),
    ]


def test_an_engine_that_gets_no_mirror_is_not_asked() -> None:
    both = {"docker": DOCKER, "podman": PODMAN}
    assert [engine.program for engine in ask(both, ["podman"])] == ["podman"]
    assert ask({"docker": DOCKER}, ["podman", "containerd"]) == []


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("hello-world:latest", "docker.io/library/hello-world:latest"),
        ("team/app", "docker.io/team/app"),
        ("quay.io/app:1", "quay.io/app:1"),
        ("localhost/app", "localhost/app"),
        ("host:5000/app", "host:5000/app"),
    ],
)
def test_an_image_is_asked_for_by_its_full_name(image: str, name: str) -> None:
    assert full_name(image) == name


def test_a_cluster_or_a_front_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_metrics, "TRY_SECONDS", 0)
    metrics = CacheMetrics(Cluster(kubeconfig=KUBECONFIG, context="prod"), "default")
    with pytest.raises(MetricsError, match=r"^the cluster does not answer: "):
        metrics.now()
    monkeypatch.setattr(metrics, "_running_pods", lambda: ["front-1"])
    with pytest.raises(MetricsError, match=r"^the log of front-1 can't be read: "):
        metrics.now()
    monkeypatch.setattr(metrics, "_running_pods", list)
    with pytest.raises(MetricsError, match=r"^no front of the cache is running$"):
        metrics.now()
