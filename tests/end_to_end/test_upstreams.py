"""Registries besides Docker Hub behind the one entry. The tests of this file follow one deployment, in order."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sandbox.hub_content import content
from sandbox.images import digest
from sandbox.layout import REGISTRIES, ROBOT_FILE
from tests.end_to_end.conftest import Sandbox, dev_nodes, wait_until

ENTRY = "http://10.30.0.10:30500"
CLIENT = "pai-worker1"
PRIVATE = "private.example:5000"
SERVICES = {"docker.io": "hub", "quay.io": "quay", "ghcr.io": "ghcr", PRIVATE: "private"}
"""What stands for each upstream on the hub machine."""
DEPLOYMENTS = {
    "docker.io": "docker-cache-registry",
    "quay.io": "docker-cache-registry-quay-io",
    "ghcr.io": "docker-cache-registry-ghcr-io",
    PRIVATE: "docker-cache-registry-private-example-5000",
}
IMAGES = {
    "docker.io": ("library/app", "1"),
    "quay.io": ("team/app", "1"),
    "ghcr.io": ("org/app", "1"),
    PRIVATE: ("team/app", "1"),
}
FOLDERS = {"docker.io": "docker", "quay.io": "quay.io", "ghcr.io": "ghcr.io", PRIVATE: "private.example-5000"}


def keys() -> dict[str, object]:
    user, password = ROBOT_FILE.read_text().split(":")
    private = {"host": PRIVATE, "username": user, "password": password}
    return {"docker_cache_nodes": dev_nodes("pai-master"), "docker_cache_upstreams": ["quay.io", "ghcr.io", private]}


@pytest.fixture(scope="module", name="cache")
def deployed(sandbox: Sandbox) -> Iterator[Sandbox]:
    empty(sandbox)
    sandbox.up(**keys())
    yield sandbox
    sandbox.destroy()
    empty(sandbox)


def empty(sandbox: Sandbox) -> None:
    sandbox.on("pai-master", "sh", "-c", "rm -rf /var/lib/registry/*")


def expected(host: str, repository: str, tag: str) -> str:
    """The digest of what stands at the upstream."""
    prefix = "" if host == "docker.io" else f"{host.partition(':')[0]}/"
    return digest(content()[f"{prefix}{repository}:{tag}"].manifest())


def ask(cache: Sandbox, path: str, *options: str) -> tuple[str, str]:
    """Status and digest of what the entry answers; it is given a moment in which kube-proxy learns of a new front."""
    form = "%{http_code} %header{docker-content-digest}"
    accept = "Accept: application/vnd.docker.distribution.manifest.v2+json"
    command = ("curl", "-s", "-m", "30", "-o", "/dev/null", "-H", accept, "-w", form, *options, ENTRY + path)
    for _ in range(20):
        status, _, found = cache.try_on(CLIENT, *command).stdout.partition(" ")
        if status != "000":
            break
        time.sleep(1)
    return status, found


def by_namespace(host: str, repository: str, reference: str) -> str:
    return f"/v2/{repository}/manifests/{reference}?ns={host}"


def by_path(host: str, repository: str, reference: str) -> str:
    return f"/v2/{host}/{repository}/manifests/{reference}"


@contextmanager
def away(cache: Sandbox, *hosts: str) -> Iterator[None]:
    services = [SERVICES[host] for host in hosts]
    cache.on("hub", "systemctl", "stop", *services)
    try:
        yield
    finally:
        cache.on("hub", "systemctl", "start", *services)


@pytest.mark.parametrize("host", IMAGES)
@pytest.mark.parametrize("named", [by_namespace, by_path])
def test_an_image_comes_from_the_registry_that_it_is_named_by(
    cache: Sandbox, host: str, named: Callable[[str, str, str], str]
) -> None:
    repository, tag = IMAGES[host]
    assert ask(cache, named(host, repository, tag)) == ("200", expected(host, repository, tag))


def test_the_cache_has_downloaded_each_image_once_and_has_it_in_a_folder_of_its_upstream(cache: Sandbox) -> None:
    for host, (repository, _) in IMAGES.items():
        assert cache.upstream(host)["manifest_gets"] == 1, f"{host} was asked for each way of naming it"
        root = "/var/lib/registry" + ("" if host == "docker.io" else f"/{FOLDERS[host]}")
        cache.on("pai-master", "ls", f"{root}/docker/registry/v2/repositories/{repository}")


def test_an_image_of_the_same_name_on_another_registry_is_another_image(cache: Sandbox) -> None:
    of_the_hub, of_quay = expected("docker.io", "library/app", "1"), expected("quay.io", "library/app", "1")
    assert of_the_hub != of_quay
    for named in (by_namespace, by_path):
        assert ask(cache, named("quay.io", "library/app", "1")) == ("200", of_quay)
        assert ask(cache, named("docker.io", "library/app", "1")) == ("200", of_the_hub)
    assert ask(cache, "/v2/library/app/manifests/1") == ("200", of_the_hub), "docker names no registry"
    assert ask(cache, by_namespace("ghcr.io", "library/app", "1"))[0] == "404", "it has none, and none is given for it"
    assert ask(cache, by_namespace("docker.io", "library/app", of_quay))[0] == "404", "nor is one by digest"


@pytest.mark.parametrize("first", ["/v2/org/app/tags/list?n=1&ns=ghcr.io", "/v2/ghcr.io/org/app/tags/list?n=1"])
def test_the_next_page_of_a_list_is_the_same_registrys(cache: Sandbox, first: str) -> None:
    form = ("curl", "-s", "-m", "30", "-w", "\\n%header{link}")
    page, *_, link = cache.on(CLIENT, *form, ENTRY + first).splitlines()
    assert json.loads(page)["tags"] == ["1"]
    following = link.removeprefix("<").partition(">")[0]
    assert following.startswith("/v2/ghcr.io/org/app/tags/list?"), "Docker Hub would be asked for it"
    assert json.loads(cache.on(CLIENT, "curl", "-s", "-m", "30", ENTRY + following))["tags"] == ["2"]


def fetched(cache: Sandbox) -> dict[str, int]:
    """HEADs are free, and the cache asks by one what is left of the hub's limit."""
    return {host: cache.upstream(host)["manifest_gets"] for host in REGISTRIES}


@pytest.mark.parametrize("path", [by_namespace("gcr.io", "library/app", "1"), by_path("gcr.io", "library/app", "1"), by_path("localhost", "library/app", "1")])  # fmt: skip
def test_an_upstream_that_is_not_served_is_a_404_and_nobody_is_asked(cache: Sandbox, path: str) -> None:
    before = fetched(cache)
    assert ask(cache, path) == ("404", "")
    assert fetched(cache) == before
    body = json.loads(cache.on(CLIENT, "curl", "-s", "-m", "30", ENTRY + path))
    assert body["errors"][0]["code"], "engines read the registries' own form"


@pytest.mark.long
def test_whole_images_come_by_path_to_an_engine_that_sends_no_namespace(cache: Sandbox) -> None:
    for host, (repository, tag) in IMAGES.items():
        if ":" in host:
            continue  # No image's name has a colon there: podman reads none.
        image = f"10.30.0.10:30500/{host}/{repository}:{tag}"
        cache.on("pai-worker4", "podman", "pull", "--quiet", "--tls-verify=false", image)
        cache.on("pai-worker4", "podman", "image", "rm", "--force", image)


def test_the_credentials_are_the_caches_own(cache: Sandbox) -> None:
    assert cache.upstream(PRIVATE)["rejected"] == 0
    direct = cache.on(CLIENT, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"https://{PRIVATE}/v2/team/app/manifests/1")  # fmt: skip
    assert direct == "401", "the upstream has to ask for them"
    password = ROBOT_FILE.read_text().split(":")[1]
    for state in (cache.pulumi("stack", "export").stdout, cache.kubectl("get", "deployments,configmaps", "-o", "yaml")):
        assert password not in state


def test_a_second_up_changes_nothing(cache: Sandbox) -> None:
    assert cache.preview(**keys()) == {}


def test_one_upstream_that_is_away_leaves_the_others_and_what_is_cached_of_its_own(cache: Sandbox) -> None:
    cache.forget_what_is_hot()
    with away(cache, "quay.io"):
        assert ask(cache, by_namespace("quay.io", "team/app", "2"))[0] in {"404", "500", "502", "503", "504"}
        assert ask(cache, by_namespace("ghcr.io", "org/app", "2")) == ("200", expected("ghcr.io", "org/app", "2"))
        assert ask(cache, by_namespace("docker.io", "library/app", "2"))[0] == "200"
        assert ask(cache, by_namespace("quay.io", "team/app", "1")) == ("200", expected("quay.io", "team/app", "1"))
    wait_until(lambda: ask(cache, by_namespace("quay.io", "team/app", "2"))[0] == "200", "quay.io pulls through again")


@pytest.mark.long
def test_every_registry_starts_with_its_upstream_away_and_pulls_through_when_that_is_back(cache: Sandbox) -> None:
    with away(cache, *SERVICES):
        cache.kubectl("delete", "pod", "-l", "app.kubernetes.io/name=docker-cache-registry", "--wait=true")
        for deployment in DEPLOYMENTS.values():
            cache.kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=300s")
        cache.forget_what_is_hot()
        for host, (repository, tag) in IMAGES.items():
            found = ask(cache, by_namespace(host, repository, tag))
            assert found == ("200", expected(host, repository, tag)), f"{host}: what is stored is served"
    for host in ("quay.io", "ghcr.io"):
        cache.on("pai-master", "rm", "-rf", f"/var/lib/registry/{host}/docker/registry/v2/repositories")
    cache.forget_what_is_hot()
    for host in ("quay.io", "ghcr.io"):
        repository, tag = IMAGES[host]
        path = by_namespace(host, repository, tag)
        wait_until(lambda path=path: ask(cache, path)[0] == "200", f"{host} pulls through again")  # type: ignore[misc]


@pytest.mark.long
def test_a_registry_that_does_not_run_takes_nothing_of_the_others_away(cache: Sandbox) -> None:
    cache.kubectl("scale", "deployment/docker-cache-registry-quay-io", "--replicas=0")
    cache.kubectl("wait", "--for=delete", "pod", "-l", "docker-cache/upstream=quay.io", "--timeout=300s")
    try:
        cache.forget_what_is_hot()
        assert ask(cache, by_namespace("quay.io", "team/app", "1"))[0] in {"502", "503", "504"}
        for host in ("docker.io", "ghcr.io", PRIVATE):
            repository, tag = IMAGES[host]
            assert ask(cache, by_namespace(host, repository, tag)) == ("200", expected(host, repository, tag))
    finally:
        cache.kubectl("scale", "deployment/docker-cache-registry-quay-io", "--replicas=1")
        cache.kubectl("rollout", "status", "deployment/docker-cache-registry-quay-io", "--timeout=300s")


@pytest.mark.long
def test_wrong_credentials_are_that_upstreams_alone(cache: Sandbox) -> None:
    wrong = {"host": PRIVATE, "username": "robot", "password": "wrong"}
    cache.up(**keys() | {"docker_cache_upstreams": ["quay.io", "ghcr.io", wrong]})
    cache.on("pai-master", "rm", "-rf", f"/var/lib/registry/{FOLDERS[PRIVATE]}/docker/registry/v2/repositories")
    cache.forget_what_is_hot()
    assert ask(cache, by_namespace(PRIVATE, "team/app", "1"))[0] != "200"
    assert ask(cache, by_namespace("quay.io", "team/app", "1"))[0] == "200"
    cache.up(**keys())
    wait_until(lambda: ask(cache, by_namespace(PRIVATE, "team/app", "1"))[0] == "200", "the right ones are taken")


@pytest.mark.long
def test_an_upstream_that_leaves_the_list_is_a_404_and_leaves_its_images_for_the_day_it_comes_back(
    cache: Sandbox,
) -> None:
    pods = cache.kubectl("get", "pods", "-l", "docker-cache/upstream=ghcr.io", "-o", "name")
    without_quay = [item for item in as_list(keys()["docker_cache_upstreams"]) if item != "quay.io"]
    cache.up(**keys() | {"docker_cache_upstreams": without_quay})
    assert ask(cache, by_namespace("quay.io", "team/app", "1"))[0] == "404"
    assert cache.kubectl("get", "deployments,services,configmaps", "-o", "name").count("quay") == 0
    assert cache.kubectl("get", "pods", "-l", "docker-cache/upstream=ghcr.io", "-o", "name") == pods, "it was touched"
    cache.up(**keys())
    cache.reset_upstream("quay.io")
    assert ask(cache, by_namespace("quay.io", "team/app", "1")) == ("200", expected("quay.io", "team/app", "1"))
    assert cache.upstream("quay.io")["manifest_gets"] == 0, "what it had is used again"


def as_list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value
