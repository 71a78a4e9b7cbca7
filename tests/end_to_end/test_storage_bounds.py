"""What the cache keeps on its disk, and what goes: bounds, requests that the front answered alone, blobs that a crash left empty, and a
start without the upstream. The tests of this file follow one deployment, in order.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from rendering import keeper
from sandbox.enter import in_machine, in_network
from tests.end_to_end.conftest import Sandbox, dev_configuration, dev_nodes, run, wait_until

ENTRY = "http://10.30.0.10:30500"
STORE = "/var/lib/registry/docker/registry/v2"
OTHER_STORE = "/var/lib/registry/ghcr.io/docker/registry/v2"
REGISTRY = "deployment/docker-cache-registry"
BOUNDS: dict[str, object] = {"docker_cache_ttl": "30d", "docker_cache_fs_max_size": "60M"}
"""Three of the hub's apps have room, and a fourth has not."""
PULL = """
import hashlib, json, sys, urllib.error, urllib.request
entry, name, reference = sys.argv[1:]
def get(path):
    request = urllib.request.Request(f"{entry}/v2/{name}/{path}", headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        sys.exit(f"{path}: {error.code}")
manifest = get(f"manifests/{reference}")
document = json.loads(manifest)
digests = [item["digest"] for item in (document["config"], *document["layers"])]
for digest in digests:
    found = "sha256:" + hashlib.sha256(get(f"blobs/{digest}")).hexdigest()
    if found != digest:
        sys.exit(f"{digest}: the bytes are those of {found}")
print(json.dumps(["sha256:" + hashlib.sha256(manifest).hexdigest(), *digests]))
"""


@pytest.fixture(scope="module", autouse=True)
def _deployed(sandbox: Sandbox) -> Iterator[None]:
    empty(sandbox)
    sandbox.up(**keys())
    yield
    sandbox.destroy()
    empty(sandbox)


def keys() -> dict[str, object]:
    nodes = dev_nodes("pai-master", "pai-worker1")
    return {"docker_cache_nodes": nodes, "docker_cache_upstreams": ["ghcr.io"], "docker_cache_proof": False, **BOUNDS}


def empty(sandbox: Sandbox) -> None:
    sandbox.on("pai-master", "rm", "-rf", "/var/lib/registry/docker", "/var/lib/registry/ghcr.io")


def pull(name: str, reference: str) -> list[str]:
    """An image's digests, the manifest's first; every byte of it came by the entry."""
    result = try_to_pull(name, reference)
    assert not result[1], f"{name}:{reference}: {result[1]}"
    digests: list[str] = json.loads(result[0])
    return digests


def try_to_pull(name: str, reference: str) -> tuple[str, str]:
    result = run(in_network([sys.executable, "-c", PULL, ENTRY, name, reference]))
    return result.stdout, result.stderr.strip()


def blob(digest: str, store: str = STORE) -> str:
    return f"{store}/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"


def is_there(sandbox: Sandbox, path: str) -> bool:
    return sandbox.try_on("pai-master", "test", "-e", path).returncode == 0


def tags(sandbox: Sandbox, name: str = "library/app") -> list[str]:
    return sandbox.on("pai-master", "ls", f"{STORE}/repositories/{name}/_manifests/tags").split()


def age(sandbox: Sandbox, days: int, *paths: str) -> None:
    """As if nobody had asked for what lies there since."""
    sandbox.on("pai-master", "find", *paths, "-exec", "touch", "--date", f"{days} days ago", "{}", "+")


def image_links(tag: str) -> tuple[str, ...]:
    folder = f"{STORE}/repositories/library/app/_manifests"
    return (f"{folder}/tags/{tag}",)


def collect() -> str:
    """`make gc`, as it runs where the cluster can be reached."""
    settings = dev_configuration() | keys()
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
    result = run(in_network([sys.executable, "-m", "operations", "gc-from-stdin"]), text=json.dumps(values))
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def collect_and_read_log(sandbox: Sandbox) -> str:
    """What either says that does it: the keeper's own run may come first, past the size as the store is."""
    said = collect()
    return said + sandbox.kubectl("logs", REGISTRY, "--container", keeper.CONTAINER)


def was_asked_for(sandbox: Sandbox, tag: str) -> bool:
    link = f"{STORE}/repositories/library/app/_manifests/tags/{tag}/current/link"
    age_of_link = sandbox.on("pai-master", "sh", "-c", f"echo $(($(date +%s) - $(stat --format %Y {link})))")
    return int(age_of_link) < 3600


def test_past_its_size_the_image_goes_that_nobody_asked_the_front_for_the_longest(sandbox: Sandbox) -> None:
    images = {tag: pull("library/app", tag) for tag in "123"}
    # What was just asked for is told to the keeper first: later it would make the image young again.
    wait_until(lambda: all(was_asked_for(sandbox, tag) for tag in "123"), "the keeper is told of what is asked for")
    time.sleep(15)
    age(sandbox, 1, "/var/lib/registry/docker")
    for tag, days in (("1", 3), ("2", 2)):
        revision = f"{STORE}/repositories/library/app/_manifests/revisions/sha256/{images[tag][0][7:]}"
        age(sandbox, days, *image_links(tag), revision)
    # The front tells again what it has told a minute ago.
    time.sleep(60)
    sandbox.reset_upstream()
    wait_until(
        lambda: bool(pull("library/app", "1")) and was_asked_for(sandbox, "1"), "a hit at the front counts as a request"
    )
    assert sandbox.upstream()["blob_gets"] == 0, "a hit at the front"
    pull("library/app", "4")
    wait_until(lambda: "2" not in tags(sandbox), "the keeper keeps no more than it may", seconds=300)
    assert tags(sandbox) == ["1", "3", "4"], "no more go than have to"
    shell, layer = images["2"][2:]
    wait_until(lambda: not is_there(sandbox, blob(layer)), "the blob that only it needed goes", seconds=90)
    assert is_there(sandbox, blob(shell)), "the others need it"
    sandbox.forget_what_is_hot()
    sandbox.reset_upstream()
    for tag in "134":
        pull("library/app", tag)
    assert sandbox.upstream()["blob_gets"] == 0, "what stays, stays whole"


def test_an_image_that_went_is_fetched_anew(sandbox: Sandbox) -> None:
    sandbox.reset_upstream()
    pull("library/app", "2")
    assert sandbox.upstream()["blob_gets"] >= 1


def test_make_gc_takes_what_is_too_old_in_every_upstreams_store_and_blobs_that_nobody_needs(sandbox: Sandbox) -> None:
    (manifest, *_, layer) = pull("ghcr.io/org/app", "1")
    orphan = f"{STORE}/blobs/sha256/ab/{'ab' * 32}/data"
    sandbox.on(
        "pai-master",
        "sh",
        "-c",
        f"mkdir -p $(dirname {orphan}) && echo orphan > {orphan} && chown -R 65532:65532 {STORE}/blobs/sha256/ab",
    )
    time.sleep(15)
    age(sandbox, 40, "/var/lib/registry/ghcr.io", orphan)
    assert "ghcr.io/org/app:1 goes: nobody asked for it for 40 days" in collect_and_read_log(sandbox)
    assert not is_there(sandbox, blob(layer, OTHER_STORE))
    assert not is_there(sandbox, blob(manifest, OTHER_STORE))
    assert not is_there(sandbox, orphan)


def test_a_blob_that_a_crash_left_empty_is_never_served_and_mends_itself(sandbox: Sandbox) -> None:
    layer = pull("library/app", "1")[-1]
    # By the new front's start the old one has told the keeper all: told of it after this, the keeper would mend it at once.
    sandbox.forget_what_is_hot()
    sandbox.on("pai-master", "truncate", "--size", "0", blob(layer))
    refused = try_to_pull("library/app", "1")[1]
    assert refused == f"blobs/{layer}: 503", "an empty blob was passed on"
    wait_until(lambda: not try_to_pull("library/app", "1")[1], "it mends itself", seconds=150)
    assert sandbox.on("pai-master", "sha256sum", blob(layer)).split()[0] == layer[7:]


def test_a_blob_that_is_being_read_is_read_to_its_end(sandbox: Sandbox) -> None:
    sandbox.forget_what_is_hot()
    layer = pull("library/app", "3")[-1]
    assert is_there(sandbox, blob(layer))
    time.sleep(15)
    # The machine has a route to pods, and none to Services.
    address = sandbox.kubectl("get", "pod", sandbox.pod(), "--output", "jsonpath={.status.podIP}")
    url = f"http://{address}:5000/v2/library/app/blobs/{layer}"
    begun, go_on = "/run/reading", "/run/read-on"
    sandbox.on("pai-master", "rm", "-f", begun, go_on)
    slowly = f"{{ head -c 65536; touch {begun}; until [ -e {go_on} ]; do sleep 0.2; done; cat; }}"
    read = f"curl --silent --show-error --fail {url} | {slowly} | sha256sum"
    with subprocess.Popen(in_machine("pai-master", ["sh", "-c", read]), stdout=subprocess.PIPE, text=True) as reading:
        try:
            wait_until(lambda: is_there(sandbox, begun), "it is being read")
            age(sandbox, 40, "/var/lib/registry/docker")
            assert "library/app:3 goes" in collect_and_read_log(sandbox)
            assert not is_there(sandbox, blob(layer)), "this test shows nothing"
        finally:
            sandbox.on("pai-master", "touch", go_on)
        output, _ = reading.communicate(timeout=300)
    assert output.split()[0] == layer[7:]


@pytest.mark.long
def test_with_an_upstream_that_hangs_a_new_pod_serves_what_is_stored_and_goes_on_when_it_answers(
    sandbox: Sandbox,
) -> None:
    # The front has what has gone from the store meanwhile.
    sandbox.forget_what_is_hot()
    pull("library/app", "1")
    sandbox.on("pai-master", "touch", "/var/lib/registry/scheduler-state.json")
    sandbox.on("hub", "systemctl", "kill", "--signal=STOP", "hub")
    try:
        sandbox.kubectl("rollout", "restart", REGISTRY)
        sandbox.kubectl("rollout", "status", REGISTRY, "--timeout=180s")
        sandbox.forget_what_is_hot()
        pull("library/app", "1")
        assert not is_there(sandbox, "/var/lib/registry/scheduler-state.json")
        assert try_to_pull("library/app", "4")[1], "nobody can have it"
    finally:
        sandbox.on("hub", "systemctl", "kill", "--signal=CONT", "hub")
    wait_until(lambda: not try_to_pull("library/app", "4")[1], "it pulls through again by itself", seconds=300)
