"""Every engine asks the cache for each registry that it serves, and has its files back at the end.

The tests of this file follow one deployment, in order. That a pull came through the cache is seen at the registry: its images are
downloaded there once, by the cache, whichever node pulls them.
"""

import json
import sys
from collections.abc import Iterator

import pytest
import yaml

from sandbox.hub_content import content
from sandbox.layout import ROBOT_FILE
from tests.end_to_end.conftest import ROOT, Sandbox, dev_nodes, run

STACK = "dev-upstreams"
FILE = ROOT / f"Pulumi.{STACK}.yaml"
ENTRY = "10.30.0.10:30500"
PRIVATE = "private.example:5000"
IMAGES = {
    "docker.io": "docker.io/library/app:1",
    "quay.io": "quay.io/team/app:1",
    "ghcr.io": "ghcr.io/org/app:1",
    PRIVATE: f"{PRIVATE}/team/app:1",
}
MASTER, DOCKER, CONTAINERD, PODMAN = "pai-master", "pai-worker1", "pai-worker3", "pai-worker4"
ENGINES = [(MASTER, "crictl"), (CONTAINERD, "crictl"), (PODMAN, "podman"), (PODMAN, "crictl")]
OWN = {
    MASTER: ("/etc/containerd/certs.d/_default/hosts.toml", 'server = "https://default.example"\n'),
    CONTAINERD: (
        "/etc/containerd/certs.d/ghcr.io/hosts.toml",
        '[host."http://127.0.0.1:1"]\n  capabilities = ["pull"]\n',
    ),
    PODMAN: (
        "/etc/containers/registries.conf.d/50-own.conf",
        '# mine\n[[registry]]\nlocation = "quay.io"\n\n[[registry.mirror]] # is down\nlocation = "127.0.0.1:1"\ninsecure = true\n',
    ),
}
"""What the administrator has there before we come."""
EVERYTHING = "cd /etc && find containerd containers docker -type f | sort | xargs stat --format '%n %a %Y' && find containerd containers docker -type f | sort | xargs sha256sum; find containerd containers docker -type d | sort; ls /var/lib/docker-cache; true"


def nodes() -> list[dict[str, object]]:
    podman = dev_nodes(DOCKER)[0] | {"name": PODMAN, "host": "10.30.0.14"}
    return [*dev_nodes(MASTER, DOCKER, CONTAINERD), podman]


def upstreams() -> list[object]:
    user, password = ROBOT_FILE.read_text().split(":")
    return ["quay.io", "ghcr.io", {"host": PRIVATE, "username": user, "password": password}]


def everything(sandbox: Sandbox) -> dict[str, str]:
    return {name: sandbox.on(name, "sh", "-c", EVERYTHING) for name in (MASTER, DOCKER, CONTAINERD, PODMAN)}


@pytest.fixture(name="stack", scope="module")
def deployed(sandbox: Sandbox) -> Iterator[Sandbox]:
    sandbox.on(MASTER, "sh", "-c", "rm -rf /var/lib/registry/*")
    # containerd would be restarted with the first update alone, and config.toml is not what this is about.
    config = '\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "/etc/containerd/certs.d"\n'
    sandbox.on(
        CONTAINERD,
        "sh",
        "-c",
        f"cp -p /etc/containerd/config.toml /run/kept && printf '%s' '{config}' >> /etc/containerd/config.toml",
    )
    sandbox.on(CONTAINERD, "systemctl", "restart", "containerd")
    for machine, (path, text) in OWN.items():
        sandbox.on(machine, "sh", "-c", f"mkdir -p $(dirname {path}); printf '%s' '{text}' > {path}")
    document = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())
    keys = {"docker_cache_nodes": nodes(), "docker_cache_upstreams": upstreams()}
    document["config"] |= {f"docker-cache:{key}": value for key, value in keys.items()}
    made = sandbox.with_stack(STACK, **keys)
    FILE.write_text(yaml.safe_dump(document))
    try:
        yield made
        made.destroy()
    finally:
        FILE.unlink()
        for machine, (path, _) in OWN.items():
            sandbox.on(machine, "rm", "-f", path)
        sandbox.on(
            CONTAINERD, "sh", "-c", "cp -p /run/kept /etc/containerd/config.toml && systemctl restart containerd"
        )
        sandbox.on(MASTER, "sh", "-c", "rm -rf /etc/containerd/certs.d /var/lib/registry/*")


@pytest.fixture(name="before", scope="module")
def looked_at(stack: Sandbox) -> dict[str, str]:
    """Every file of the engines before the first update."""
    return everything(stack)


def pull_anew(stack: Sandbox, machine: str, program: str, image: str) -> None:
    for each in ("crictl rmi", "podman image rm --force"):
        stack.try_on(machine, *each.split(), image)
    stack.on(machine, program, "pull", image)


def blobs_of(host: str) -> int:
    key = IMAGES[host].removeprefix("docker.io/").replace(PRIVATE, "private.example")
    manifest = json.loads(content()[key].manifest())
    return len({manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])})


def check(*words: str) -> tuple[int, dict[str, dict[str, object]]]:
    done = run([sys.executable, "-m", "operations", "check", "--json", *words, "--stack", STACK])
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, {node["node"]: node for node in json.loads(done.stdout)["nodes"]}


def test_one_update_gives_the_nodes_all_registries_and_restarts_nothing(stack: Sandbox, before: dict[str, str]) -> None:
    assert before
    engines = {MASTER: "containerd", CONTAINERD: "containerd", PODMAN: "crio", DOCKER: "docker"}
    running = {
        name: stack.on(name, "systemctl", "show", unit, "-p", "MainPID", "--value") for name, unit in engines.items()
    }
    stack.up()
    assert {name: stack.on(name, "systemctl", "show", unit, "-p", "MainPID", "--value") for name, unit in engines.items()} == running  # fmt: skip


@pytest.mark.parametrize("host", IMAGES)
def test_all_engines_together_cost_the_registry_one_download(stack: Sandbox, host: str) -> None:
    stack.reset_upstream(host)
    for engine in ENGINES:
        pull_anew(stack, *engine, IMAGES[host])
    # Less than the whole where every engine has a layer from another registry's image.
    assert 0 < stack.upstream(host)["blob_gets"] <= blobs_of(host), "an engine went past the cache"


def test_an_image_is_that_of_its_own_registry_and_never_anothers_of_the_same_name(stack: Sandbox) -> None:
    def digest(image: str) -> str:
        pull_anew(stack, CONTAINERD, "crictl", image)
        (found,) = json.loads(stack.on(CONTAINERD, "crictl", "inspecti", image))["status"]["repoDigests"]
        return str(found).partition("@")[2]

    assert digest("docker.io/library/app:1") != digest("quay.io/library/app:1")


def test_docker_has_mirrors_for_docker_hub_alone_and_gets_the_others_by_the_caches_name(stack: Sandbox) -> None:
    assert stack.mirrors(DOCKER) == [f"http://{ENTRY}/"]
    stack.reset_upstream("quay.io")
    stack.on(DOCKER, "docker", "pull", "--quiet", f"{ENTRY}/{IMAGES['quay.io']}")
    assert stack.upstream("quay.io")["blob_gets"] == 0, "the cache has it"
    stack.on(DOCKER, "docker", "image", "rm", f"{ENTRY}/{IMAGES['quay.io']}")


def test_the_administrators_files_stay_beside_ours(stack: Sandbox) -> None:
    path, text = OWN[MASTER]
    assert stack.on(MASTER, "cat", path) == text.strip(), "_default is his"
    assert stack.on(MASTER, "ls", "/etc/containerd/certs.d").split() == [
        "_default",
        "docker.io",
        "ghcr.io",
        PRIVATE,
        "quay.io",
    ]
    assert text.strip() in stack.on(MASTER, "cat", "/etc/containerd/certs.d/quay.io/hosts.toml"), (
        "or ours would hide it"
    )
    ghcr = stack.on(CONTAINERD, "cat", OWN[CONTAINERD][0])
    assert ghcr.index(f'[host."http://{ENTRY}"]') < ghcr.index(OWN[CONTAINERD][1].strip())
    info = json.loads(stack.on(PODMAN, "podman", "info", "--format", "json"))["registries"]
    assert [each["Location"] for each in info["quay.io"]["Mirrors"]] == [f"{ENTRY}/quay.io", "127.0.0.1:1"]
    assert [each["Location"] for each in info[PRIVATE]["Mirrors"]] == [f"{ENTRY}/private.example-5000"]


def test_a_second_update_touches_nothing(stack: Sandbox) -> None:
    now = everything(stack)
    assert stack.preview() == {}
    stack.up()
    assert everything(stack) == now


@pytest.mark.long
def test_one_registrys_file_that_somebody_took_away_is_drift_and_is_healed(stack: Sandbox) -> None:
    status, found = check()
    assert (status, {node["verdict"] for node in found.values()}) == (0, {"in order"}), found
    assert "docker has mirrors for Docker Hub alone: images of quay.io, ghcr.io" in json.dumps(found[DOCKER])
    path = "/etc/containerd/certs.d/quay.io/hosts.toml"
    stack.on(MASTER, "rm", path)
    status, found = check()
    assert (status, {name for name, node in found.items() if node["verdict"] == "drifted"}) == (1, {MASTER})
    assert "containerd's is changed by hand" in json.dumps(found[MASTER])
    healed = run([sys.executable, "-m", "operations", "heal", "--yes", "--stack", STACK])
    assert healed.returncode == 0, healed.stdout + healed.stderr
    assert f'[host."http://{ENTRY}"]' in stack.on(MASTER, "cat", path)
    assert check()[0] == 0


@pytest.mark.long
def test_a_registry_that_is_served_no_more_is_asked_itself_again(stack: Sandbox) -> None:
    stack.up(docker_cache_upstreams=upstreams()[1:])
    assert stack.on(MASTER, "ls", "/etc/containerd/certs.d").split() == ["_default", "docker.io", "ghcr.io", PRIVATE]
    info = json.loads(stack.on(PODMAN, "podman", "info", "--format", "json"))["registries"]
    assert [each["Location"] for each in info["quay.io"]["Mirrors"]] == ["127.0.0.1:1"], "as he had it"
    assert [each["Location"] for each in info["ghcr.io"]["Mirrors"]] == [f"{ENTRY}/ghcr.io"]
    stack.reset_upstream("quay.io")
    pull_anew(stack, PODMAN, "podman", IMAGES["quay.io"])
    assert stack.upstream("quay.io")["blob_gets"] > 0


def test_taken_back_every_file_is_what_it_was(stack: Sandbox, before: dict[str, str]) -> None:
    stack.destroy()
    assert everything(stack) == before, "bytes, modes, dates and folders"
