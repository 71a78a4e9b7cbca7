"""podman and CRI-O pull through the cache, beside the administrator's own mirrors, and have their files back at the end.

The tests of this file follow one deployment, in order.
"""

import json
import re
import sys
import time
from collections.abc import Iterator

import pytest
import yaml

from components.cache_front import ACCESS_LOG
from operations.cache_metrics import Counts, count, parse_lines
from tests.end_to_end.conftest import ROOT, Sandbox, dev_nodes, run, wait_until

STACK = "dev-podman"
FILE = ROOT / f"Pulumi.{STACK}.yaml"
NODE = "pai-worker4"
HOSTPORT = "10.30.0.10:30500"
APP = "docker.io/library/app:1"
OURS = "/etc/containers/registries.conf.d/000-docker-cache.conf"
OWN = "/etc/containers/registries.conf.d/50-own.conf"
HIS = '# mine\n[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n\n[[registry.mirror]] # is down\nlocation = "127.0.0.1:1"\ninsecure = true\n'
EVERYTHING = "cd /etc/containers && find . -type f | sort | xargs stat --format '%n %a %Y' && find . -type f | sort | xargs sha256sum && find . -type d | sort"


@pytest.fixture(name="on_node", scope="module")
def deployed(sandbox: Sandbox) -> Iterator[Sandbox]:
    """A stack with podman's node, which is taken back at the end."""
    node = dev_nodes("pai-worker1")[0] | {"name": NODE, "host": "10.30.0.14"}
    document = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())
    document["config"]["docker-cache:docker_cache_nodes"] = [*dev_nodes("pai-master"), node]
    made = sandbox.with_stack(STACK, docker_cache_nodes=document["config"]["docker-cache:docker_cache_nodes"])
    FILE.write_text(yaml.safe_dump(document))
    sandbox.on(NODE, "rm", "-f", OWN)
    sandbox.reset_upstream()
    try:
        yield made
        made.destroy()
    finally:
        sandbox.try_on(NODE, "rm", "-f", OWN)
        FILE.unlink()


def counted(sandbox: Sandbox, since: str) -> Counts:
    """What the front has answered from that line of its log on."""
    log = sandbox.kubectl("logs", sandbox.front(), "--container", ACCESS_LOG, "--timestamps")
    return count(request for _, request in parse_lines(log.partition(since)[2] if since else log))


def mirrors(sandbox: Sandbox) -> list[str]:
    info = json.loads(sandbox.on(NODE, "podman", "info", "--format", "json"))
    return [mirror["Location"] for mirror in info["registries"].get("docker.io", {}).get("Mirrors") or []]


def applied(sandbox: Sandbox) -> list[str]:
    """docker.io's mirrors as CRI-O has told its log last."""
    log = sandbox.on(NODE, "journalctl", "--unit=crio", "--output=cat", "--no-pager")
    lines = [line for line in log.splitlines() if "Applied new registry configuration" in line]
    return re.findall(r"\{Location:(\S+) Insecure", lines[-1].partition("Mirrors:")[2])


def crio_pid(sandbox: Sandbox) -> str:
    return sandbox.on(NODE, "systemctl", "show", "crio", "--property=MainPID", "--value")


def pull_anew(sandbox: Sandbox, *pull: str) -> Counts:
    """What the cache has counted of a pull with nothing of the image on the node."""
    sandbox.try_on(NODE, "podman", "image", "rm", "--force", APP)
    log = sandbox.kubectl("logs", sandbox.front(), "--container", ACCESS_LOG, "--timestamps", "--tail=1")
    sandbox.on(NODE, *pull, APP)
    time.sleep(5)
    return counted(sandbox, since=log)


def test_podman_and_crio_get_the_mirror_and_crio_goes_on_running(on_node: Sandbox) -> None:
    before = crio_pid(on_node)
    on_node.up()
    assert mirrors(on_node) == [HOSTPORT]
    wait_until(lambda: applied(on_node) == [HOSTPORT], "CRI-O says that it has the mirror")
    assert crio_pid(on_node) == before, "CRI-O is reloaded, never restarted"


@pytest.mark.parametrize("pull", [("podman", "pull"), ("crictl", "pull")])
def test_pulls_are_counted_at_the_cache(on_node: Sandbox, pull: tuple[str, ...]) -> None:
    pull_anew(on_node, *pull)
    on_node.reset_upstream()
    seen = pull_anew(on_node, *pull)
    assert seen.manifest_requests >= 1, "it pulled from elsewhere"
    assert seen.bytes_served > 16_000_000, "the layers came from elsewhere"
    assert on_node.upstream()["blob_gets"] == 0, "what the cache has was fetched again"


@pytest.mark.long
def test_a_second_up_touches_nothing(on_node: Sandbox) -> None:
    stat = ("stat", "--format", "%Y %Z %i", OURS, "/var/lib/docker-cache/podman.json")
    before = on_node.on(NODE, *stat)
    on_node.up()
    assert on_node.on(NODE, *stat) == before


def test_the_proof_pulls_by_podman_and_leaves_no_image(on_node: Sandbox) -> None:
    images = on_node.on(NODE, "podman", "images", "--quiet")
    proof = run([sys.executable, "-m", "operations", "proof", "--stack", STACK])
    assert proof.returncode == 0, proof.stdout + proof.stderr
    assert "podman" in proof.stdout
    assert re.search(r"\b(hit|miss)\b.*", proof.stdout.partition(NODE)[2]), proof.stdout
    assert on_node.on(NODE, "podman", "images", "--quiet") == images


def test_a_mirror_that_the_administrator_adds_later_counts_and_then_comes_behind_ours(on_node: Sandbox) -> None:
    on_node.on(NODE, "sh", "-c", f"printf '%s' '{HIS}' > {OWN} && systemctl reload crio && sleep 1")
    assert mirrors(on_node) == ["127.0.0.1:1"], "his file is read after ours"
    proof = run([sys.executable, "-m", "operations", "proof", "--stack", STACK])
    assert proof.returncode == 1, "podman does not have the mirror, and that is no success"
    # pulumi sees nothing of what changes on a node; another option makes the command run again.
    on_node.up(docker_cache_allow_pending_changes=True)
    assert mirrors(on_node) == [HOSTPORT, "127.0.0.1:1"]
    wait_until(lambda: applied(on_node) == [HOSTPORT, "127.0.0.1:1"], "CRI-O says that it has both")
    assert pull_anew(on_node, "podman", "pull").manifest_requests >= 1


@pytest.mark.long
def test_an_edit_of_crios_that_waits_is_not_applied_behind_its_authors_back(on_node: Sandbox) -> None:
    edited = "/etc/crio/crio.conf.d/10-edit.conf"
    # Without the option of the test before: a removal runs the command that was stored last.
    on_node.up()
    on_node.on(
        NODE,
        "sh",
        "-c",
        f"mkdir -p /etc/crio/crio.conf.d && printf '[crio.runtime]\\nlog_level = \"debug\"\\n' > {edited}",
    )
    result = on_node.pulumi("destroy", "--yes", "--skip-preview")
    assert result.returncode != 0
    assert (
        f"CRI-O's reload would change more than the mirror, because these were changed since it read them: {edited}"
        in (result.stdout)
    )
    assert mirrors(on_node) == [HOSTPORT, "127.0.0.1:1"], "nothing was touched"
    on_node.on(NODE, "sh", "-c", f"rm {edited} && rmdir /etc/crio/crio.conf.d && systemctl reload crio && sleep 1")


def test_taken_back_every_file_is_what_it_was(on_node: Sandbox) -> None:
    before = crio_pid(on_node)
    on_node.destroy()
    assert on_node.on(NODE, "cat", OWN) == HIS.strip()
    assert mirrors(on_node) == ["127.0.0.1:1"]
    wait_until(lambda: applied(on_node) == ["127.0.0.1:1"], "CRI-O says that ours is gone")
    assert crio_pid(on_node) == before
    assert on_node.try_on(NODE, "test", "-e", "/var/lib/docker-cache").returncode == 1, "nothing of ours stays"
    on_node.on(NODE, "rm", OWN)
    first = on_node.on(NODE, "sh", "-c", EVERYTHING)
    on_node.up()
    assert on_node.on(NODE, "sh", "-c", EVERYTHING) != first
    on_node.destroy()
    assert on_node.on(NODE, "sh", "-c", EVERYTHING) == first, "bytes, modes, dates and folders"
