"""More than twenty nodes in one run, and two of them broken."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from sandbox import fleet
from sandbox.layout import FLEET
from tests.end_to_end.conftest import ROOT, Sandbox, dev_nodes, run

DAEMON_JSON = "/etc/docker/daemon.json"
MIRROR = "http://10.30.0.10:30500/"
WITHOUT_SSHD, WITH_A_TYPO = FLEET[6].name, FLEET[12].name
TYPO = '{"debug": tru'
OF_ITS_OWN = FLEET[0].name
HAND_WRITTEN = '{\n    "log-level": "warn",\n    "registry-mirrors": ["https://mirror.example/"]\n}\n'
UP_SECONDS = 300
"""Many times what it takes: a run that goes from node to node would be noticed."""


@pytest.fixture(name="many", scope="module")
def sandbox_with_a_fleet(sandbox: Sandbox) -> Iterator[Sandbox]:
    fleet.start()
    many = sandbox.with_stack("fleet", docker_cache_nodes=[*dev_nodes("pai-master"), *fleet.nodes()])
    try:
        yield many
        mend(many)
        many.destroy()
    finally:
        fleet.stop()


def mend(sandbox: Sandbox) -> None:
    sandbox.on(WITHOUT_SSHD, "systemctl", "start", "ssh")
    if TYPO in sandbox.on(WITH_A_TYPO, "sh", "-c", f"cat {DAEMON_JSON} || true"):
        sandbox.on(WITH_A_TYPO, "rm", DAEMON_JSON)


def on_each(sandbox: Sandbox, *command: str) -> dict[str, str]:
    """The output of a command on every node of the fleet."""
    with ThreadPoolExecutor(8) as pool:
        outputs = pool.map(lambda machine: sandbox.on(machine.name, *command), FLEET)
        return dict(zip((machine.name for machine in FLEET), outputs, strict=True))


def mirrors(sandbox: Sandbox) -> dict[str, list[str]]:
    found = on_each(sandbox, "docker", "info", "--format", "{{json .RegistryConfig.Mirrors}}")
    return {machine: json.loads(text) or [] for machine, text in found.items()}


def files(sandbox: Sandbox) -> dict[str, str]:
    """What daemon.json holds, and whether a record of ours lies there."""
    return on_each(sandbox, "sh", "-c", f"cat {DAEMON_JSON} || true; ls /var/lib/docker-cache || true")


def write(sandbox: Sandbox, machine: str, text: str) -> None:
    sandbox.on(machine, "sh", "-c", f"mkdir -p /etc/docker && printf '%s' '{text}' > {DAEMON_JSON}")


def test_two_broken_nodes_hold_up_no_other_and_are_done_when_mended(many: Sandbox) -> None:
    write(many, OF_ITS_OWN, HAND_WRITTEN)
    many.on(OF_ITS_OWN, "systemctl", "reload", "docker")
    before = files(many)
    dockers = on_each(many, "cat", "/var/run/docker.pid")
    write(many, WITH_A_TYPO, TYPO)
    many.on(WITHOUT_SSHD, "systemctl", "stop", "ssh")

    begun = time.monotonic()
    broken = many.pulumi("up", "--yes", "--skip-preview", "--continue-on-error")
    seconds = time.monotonic() - begun
    text = broken.stdout + broken.stderr
    assert broken.returncode != 0
    live = mirrors(many)
    assert {machine for machine, found in live.items() if MIRROR not in found} == {WITHOUT_SSHD, WITH_A_TYPO}
    assert live[OF_ITS_OWN] == [MIRROR, "https://mirror.example/"]
    for machine in FLEET:
        is_named = f"{machine.name}@{machine.address}" in text.partition("Diagnostics:")[2]
        assert is_named is (machine.name in {WITHOUT_SSHD, WITH_A_TYPO}), f"{machine.name}: {text}"
    assert many.on(WITH_A_TYPO, "cat", DAEMON_JSON) == TYPO
    assert seconds < UP_SECONDS

    mend(many)
    changes = many.preview()
    nodes = {name: steps for name, steps in changes.items() if name.startswith("pai-")}
    assert {name.partition("@")[0]: steps for name, steps in nodes.items()} == {
        WITHOUT_SSHD: ["create"],
        WITH_A_TYPO: ["create"],
    }, "the others are done"
    many.up()
    assert all(MIRROR in found for found in mirrors(many).values())

    many.destroy()
    assert files(many) == before
    assert {machine: found for machine, found in mirrors(many).items() if found} == {
        OF_ITS_OWN: ["https://mirror.example/"]
    }
    assert on_each(many, "cat", "/var/run/docker.pid") == dockers, "docker was restarted"


@pytest.fixture(name="stack_file")
def file_of_the_stack() -> Iterator[Path]:
    """`make` reads a stack's file in the checkout."""
    file = ROOT / "Pulumi.fleet.yaml"
    yield file
    file.unlink(missing_ok=True)


def make_up(file: Path, **keys: object) -> subprocess.CompletedProcess[str]:
    document = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())
    wanted = {"docker_cache_nodes": [*dev_nodes("pai-master"), *fleet.nodes()], "docker_cache_wave_size": "8", **keys}
    document["config"] |= {f"docker-cache:{key}": value for key, value in wanted.items()}
    file.write_text(yaml.safe_dump(document))
    return run([sys.executable, "-m", "operations", "up", "--stack", "fleet"])


def waves(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.startswith(("canary: ", "wave "))]


def named(result: subprocess.CompletedProcess[str]) -> set[str]:
    """The nodes that are named as failed at the end."""
    return {line.split()[0].rstrip(":") for line in result.stderr.splitlines() if line.startswith("  pai-")}


def test_make_up_changes_many_nodes_in_waves(many: Sandbox, stack_file: Path) -> None:
    write(many, WITH_A_TYPO, TYPO)
    many.on(WITHOUT_SSHD, "systemctl", "stop", "ssh")

    strict = make_up(stack_file, docker_cache_max_failures="0")
    assert strict.returncode == 1
    assert waves(strict) == [f"canary: {FLEET[0].name}", "wave 1 of 3: 8 nodes"], strict.stdout + strict.stderr
    assert named(strict) == {WITHOUT_SSHD}
    first_wave = {machine.name for machine in FLEET[:8]} - {WITHOUT_SSHD}
    assert {machine for machine, found in mirrors(many).items() if MIRROR in found} == first_wave

    lenient = make_up(stack_file)
    assert lenient.returncode == 1
    assert named(lenient) == {WITHOUT_SSHD, WITH_A_TYPO}
    missing = {machine for machine, found in mirrors(many).items() if MIRROR not in found}
    assert missing == {WITHOUT_SSHD, WITH_A_TYPO}

    mend(many)
    mended = make_up(stack_file)
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert waves(mended) == ["wave 1 of 1: 2 nodes"]
    assert all(MIRROR in found for found in mirrors(many).values())
    many.destroy()
