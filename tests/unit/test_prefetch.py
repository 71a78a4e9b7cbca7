"""Images that are fetched ahead: what is made for it, and what `make prefetch` says."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pulumi
import pulumi_kubernetes as k8s
import pytest
import urllib3
from kubernetes.client import ApiException

from components.arguments import prefetch_args
from components.prefetch import TEMPLATE, Prefetch
from operations import prefetch, stacks
from operations.prefetch import choose, job_from
from operations.stacks import OperationError, StackName
from settings.cluster import Cluster, ClusterError
from settings.images import registry_of
from settings.loading import SettingsError, load
from settings.model import Settings
from settings.stack import Stack
from tests.unit.recording import Recorder
from tests.unit.stacks import HTPASSWD, KUBECONFIG, configuration

CONFIG_MAP, SECRET = "kubernetes:core/v1:ConfigMap", "kubernetes:core/v1:Secret"
JOB, CRON_JOB = "kubernetes:batch/v1:Job", "kubernetes:batch/v1:CronJob"
UPSTREAMS = '["ghcr.io", "registry.example:5000"]'
IMAGES = '["nginx:1.29", {"image": "ghcr.io/org/app:1", "platforms": ["linux/amd64", "linux/arm64"]}]'
SIGNED_IN = {
    "docker_cache_htpasswd": HTPASSWD,
    "docker_cache_htpasswd_over_plain_http": "true",
    "docker_cache_entry_username": "alice",
    "docker_cache_entry_password": "wonderland",
}


def settings(**keys: str) -> Settings:
    loaded = load(configuration(**keys).get)
    assert isinstance(loaded, Settings)
    return loaded


def problems(**keys: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(configuration(**keys).get)
    return caught.value.problems


def deploy(**keys: str) -> None:
    def run() -> pulumi.Output[Any]:
        provider = k8s.Provider("cluster", kubeconfig=KUBECONFIG, context="prod")
        front = pulumi.Output.from_input("10.96.0.7:80")
        made = Prefetch("prefetch", prefetch_args(settings(**keys)), front, pulumi.ResourceOptions(), provider=provider)
        return pulumi.Output.all(made.urn)

    pulumi.runtime.test(run)()  # type: ignore[no-untyped-call]


def container(job: dict[str, Any]) -> dict[str, Any]:
    (only,) = job["spec"]["template"]["spec"]["containers"]
    return dict(only)


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("nginx", "docker.io"),
        ("org/app:1", "docker.io"),
        ("docker.io/org/app:1", "docker.io"),
        ("ghcr.io/org/app@sha256:" + "0" * 64, "ghcr.io"),
        ("registry.example:5000/app", "registry.example:5000"),
        ("localhost/app", "localhost"),
    ],
)
def test_an_image_says_which_registry_it_comes_from_as_docker_reads_it(image: str, host: str) -> None:
    assert registry_of(image) == host


def test_a_job_pulls_the_listed_images_through_the_front(recorder: Recorder) -> None:
    deploy(docker_cache_prefetch=IMAGES, docker_cache_upstreams=UPSTREAMS)
    runs = container(recorder.one(JOB))
    assert runs["command"] == ["/bin/sh", "/etc/docker-cache/prefetch.sh"]
    assert runs["args"] == ["nginx:1.29", "all", "ghcr.io/org/app:1", "linux/amd64,linux/arm64"]
    assert runs["image"] == "ghcr.io/regclient/regctl:v0.9.2-alpine"
    assert {"name": "REGCTL_CONFIG", "value": "/etc/docker-cache-regctl/config.json"} in runs["env"]
    hosts = json.loads(recorder.one(SECRET)["stringData"]["config.json"])["hosts"]
    assert hosts == {
        "docker.io": {"hostname": "10.96.0.7:80", "tls": "disabled"},
        "ghcr.io": {"hostname": "10.96.0.7:80", "tls": "disabled", "pathPrefix": "ghcr.io"},
        "registry.example:5000": {
            "hostname": "10.96.0.7:80",
            "tls": "disabled",
            "pathPrefix": "registry.example:5000",
        },
    }


def test_a_changed_list_is_another_job_and_one_that_failed_is_made_anew(recorder: Recorder) -> None:
    deploy(docker_cache_prefetch=IMAGES, docker_cache_upstreams=UPSTREAMS)
    job = recorder.one(JOB)
    assert "name" not in job["metadata"], "the old one would have to go first"
    assert job["metadata"]["annotations"] == {"pulumi.com/replaceUnready": "true"}, "pulumi would wait for it for ever"
    assert job["spec"]["backoffLimit"] == 0, "the script itself is the one that tries again"


def test_the_pod_signs_in_as_a_node_does_and_only_a_secret_has_the_password(recorder: Recorder) -> None:
    deploy(docker_cache_prefetch='["nginx:1.29"]', **SIGNED_IN)
    hosts = json.loads(recorder.one(SECRET)["stringData"]["config.json"])["hosts"]
    assert (hosts["docker.io"]["user"], hosts["docker.io"]["pass"]) == ("alice", "wonderland")
    rest = [resource.inputs for resource in recorder.resources if resource.typ != SECRET]
    assert "wonderland" not in json.dumps(rest)


def test_without_images_there_is_only_what_make_prefetch_starts_from(recorder: Recorder) -> None:
    deploy()
    assert recorder.of(JOB) == []
    template = recorder.one(CRON_JOB)
    assert template["metadata"]["name"] == TEMPLATE
    assert template["spec"]["suspend"], "it must never run by itself"
    assert container(template["spec"]["jobTemplate"])["args"] == []


def test_images_come_from_registries_that_the_cache_pulls_through() -> None:
    (message,) = problems(docker_cache_prefetch='["quay.io/org/app:1", "nginx:1.29"]')
    assert message == (
        'docker_cache_prefetch has "quay.io/org/app:1": the cache does not pull through quay.io; add it to '
        "docker_cache_upstreams, or take the image out"
    )
    assert settings(docker_cache_prefetch='["quay.io/org/app:1"]', docker_cache_upstreams='["quay.io"]')


def test_where_the_cache_asks_for_a_user_the_images_need_one() -> None:
    keys = {key: value for key, value in SIGNED_IN.items() if "entry" not in key}
    (message,) = problems(docker_cache_prefetch='["nginx:1.29"]', **keys)
    assert message.startswith("docker_cache_entry_username is missing: docker_cache_prefetch has images")
    assert settings(docker_cache_prefetch='["nginx:1.29"]', **SIGNED_IN)


def test_a_wrong_image_or_platform_is_named() -> None:
    assert problems(docker_cache_prefetch='[{"image": "nginx:1.29", "platforms": ["amd64"]}]') == [
        'docker_cache_prefetch[0].platforms[0] is "amd64": use a platform such as linux/amd64 or linux/arm/v7'
    ]
    assert problems(docker_cache_prefetch='[{"platforms": ["linux/amd64"]}]') == [
        "docker_cache_prefetch[0].image is missing: each image needs it, see docs/configuration.md"
    ]
    assert problems(docker_cache_prefetch="[7]") == [
        'docker_cache_prefetch[0] is "7": write an image\'s name, or a map with image, see docs/configuration.md'
    ]


def test_make_prefetch_takes_the_image_it_is_given_or_those_of_the_configuration() -> None:
    stack = settings(docker_cache_prefetch='["nginx:1.29"]')
    assert [item.image for item in choose(stack, ["app:1", "app:2"], ["linux/amd64"])] == ["app:1", "app:2"]
    assert [item.image for item in choose(stack, [], [])] == ["nginx:1.29"]


@pytest.mark.parametrize(
    ("images", "platforms", "message"),
    [
        ([], [], "there is nothing to fetch"),
        ([], ["linux/amd64"], "PLATFORMS is given without IMAGE"),
        (["No Image"], [], 'IMAGE is "No Image": use an image reference such as registry:3.1.2'),
        (["nginx:1.29"], ["arm"], 'PLATFORMS is "arm": use a platform such as linux/amd64 or linux/arm/v7'),
        (["quay.io/app:1"], [], 'IMAGE is "quay.io/app:1": the cache does not pull through quay.io'),
    ],
)
def test_make_prefetch_says_what_it_can_not_fetch(images: list[str], platforms: list[str], message: str) -> None:
    with pytest.raises(OperationError, match=message):
        choose(settings(), images, platforms)


def test_make_prefetch_needs_a_cache_of_ours() -> None:
    with pytest.raises(OperationError, match="docker_cache_custom_registry is set"):
        choose(settings(docker_cache_custom_registry="10.0.0.9:5000"), ["nginx:1.29"], [])


def template() -> dict[str, Any]:
    pod = {"containers": [{"name": "prefetch", "args": []}]}
    return {
        "metadata": {"name": TEMPLATE, "uid": "u-1"},
        "spec": {"jobTemplate": {"spec": {"backoffLimit": 0, "template": {"spec": pod}}}},
    }


def test_the_job_of_make_prefetch_is_the_templates_own_with_other_words() -> None:
    job = job_from(template(), ["nginx:1.29", "all"])
    assert container(job)["args"] == ["nginx:1.29", "all"]
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("CronJob", "u-1"), "else it stays when the stack is taken back"


class Api:
    """Stands for the cluster: a Job that goes through these states, one each time it is asked for."""

    def __init__(self, *states: tuple[str, list[str]], pod: dict[str, Any] | None = None) -> None:
        self._states: Iterator[tuple[str, list[str]]] = iter(states)
        self._pod = pod or {"metadata": {"name": "p"}}
        self._lines: list[str] = []
        self.deleted: list[str] = []

    def read_namespaced_job(self, *_: object, **__: object) -> dict[str, Any]:
        state, self._lines = next(self._states)
        if state == "interrupted":
            raise KeyboardInterrupt
        if state == "silent":
            raise urllib3.exceptions.ReadTimeoutError(Any, "", "Read timed out.")  # type: ignore[arg-type]
        if state.isdigit():
            raise ApiException(status=int(state), reason="no")
        condition = {"type": state, "status": "True", "reason": "DeadlineExceeded", "message": "it took too long"}
        return {"status": {"conditions": [condition]} if state else {}}

    def read_namespaced_cron_job(self, *_: object, **__: object) -> dict[str, Any]:
        return template()

    def create_namespaced_job(self, *_: object, **__: object) -> dict[str, Any]:
        return {"metadata": {"name": "made"}}

    def delete_namespaced_job(self, name: str, *_: object, **__: object) -> None:
        self.deleted.append(name)

    def list_namespaced_pod(self, *_: object, **__: object) -> dict[str, Any]:
        return {"items": [self._pod]}

    def read_namespaced_pod_log(self, *_: object, **__: object) -> str:
        if not self._lines:
            raise ApiException(status=400)
        if self._lines == ["gone"]:
            raise ApiException(status=404)
        return "\n".join(self._lines)


def fetch(api: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[bool, list[str]]:
    monkeypatch.setattr(prefetch, "api_client", lambda _: nullcontext())
    monkeypatch.setattr(prefetch, "BatchV1Api", lambda _: api)
    monkeypatch.setattr(prefetch, "CoreV1Api", lambda _: api)
    monkeypatch.setattr(prefetch, "as_json", lambda _, item: item)
    monkeypatch.setattr(prefetch, "POLL_SECONDS", 0)
    said: list[str] = []
    cluster = Cluster(kubeconfig=KUBECONFIG, context="prod")
    stack = Stack(settings=settings(), cluster=cluster, nodes=(), forgotten=())
    return prefetch.fetch(stack, ["nginx:1.29", "all"], said.append), said


def test_make_prefetch_tells_each_line_of_the_pod_once(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(("", []), ("", ["in the cache: nginx:1.29"]), ("Complete", ["in the cache: nginx:1.29", "all 1"]))
    assert fetch(api, monkeypatch) == (True, ["  in the cache: nginx:1.29", "  all 1"])


def test_make_prefetch_says_why_a_job_ended_or_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    pod = {"metadata": {"name": "p"}, "status": {"containerStatuses": [waiting]}}
    well, said = fetch(Api(("", []), ("", []), ("Failed", []), pod=pod), monkeypatch)
    assert not well
    assert said == ["  ErrImagePull: no such image", "  DeadlineExceeded: it took too long"]


def test_make_prefetch_that_is_stopped_takes_its_job_along(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(("", []), ("interrupted", []))
    with pytest.raises(KeyboardInterrupt):
        fetch(api, monkeypatch)
    assert api.deleted == ["made"]


def test_make_prefetch_outlives_a_cluster_that_gives_no_answer_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(
        ("", ["one"]),
        ("silent", []),
        ("500", []),
        ("429", []),
        ("0", []),
        ("", ["gone"]),
        ("Complete", ["one", "all 1"]),
    )
    assert fetch(api, monkeypatch) == (True, ["  one", "  all 1"])


@pytest.mark.parametrize("state", ["404", "403"])
def test_make_prefetch_does_not_wait_for_a_job_that_is_gone_or_that_it_may_not_see(
    state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ClusterError, match="refuses or does not answer: no"):
        fetch(Api(("", []), (state, [])), monkeypatch)


def test_make_prefetch_ends_where_the_cluster_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "SILENT_SECONDS", -1)
    with pytest.raises(ClusterError, match="refuses or does not answer: ReadTimeoutError"):
        fetch(Api(("", []), ("silent", []), ("Complete", [])), monkeypatch)


def test_make_prefetch_before_the_first_update_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty(Api):
        def read_namespaced_cron_job(self, *_: object, **__: object) -> dict[str, Any]:
            raise ApiException(status=404)

    with pytest.raises(ClusterError, match="there is no CronJob default/docker-cache-prefetch"):
        fetch(Empty(), monkeypatch)


def test_make_prefetch_names_the_cluster_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(Api):
        def read_namespaced_cron_job(self, *_: object, **__: object) -> dict[str, Any]:
            raise ApiException(status=403, reason="Forbidden")

    with pytest.raises(ClusterError, match='the cluster of context "prod" refuses or does not answer: Forbidden'):
        fetch(Closed(), monkeypatch)


def test_make_prefetch_of_a_cache_that_is_off_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "configuration", lambda _: {"enable_docker_cache": "false"})
    with pytest.raises(OperationError, match="enable_docker_cache is off, so there is no cache"):
        prefetch.prefetch(StackName(name="prod"), ["nginx:1.29"], [])
