"""`make prefetch`: fetch images into the cache now, such as in the moment before many nodes ask for them at once.

By a Job made from the CronJob that the stack has for it (`components/prefetch.py`), as `kubectl create job --from` does; it goes
with that CronJob, which keeps a few.
"""

import json
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import kubernetes
import pydantic
import urllib3
from kubernetes.client import ApiClient, ApiException, BatchV1Api, CoreV1Api

from components.prefetch import TEMPLATE
from operations import stacks
from operations.stacks import OperationError, StackName
from rendering.prefetch import words
from settings.cluster import ClusterError, api_client, as_json, refusal
from settings.images import unserved
from settings.loading import Disabled, load
from settings.model import PrefetchedImage, Settings
from settings.stack import Stack

ASK_SECONDS = 15
POLL_SECONDS = 2
SILENT_SECONDS = 300
"""How long the cluster may give no answer while a Job runs, which may take hours."""
COMPLETE = "Complete"
ENDS = {COMPLETE, "Failed"}

Say = Callable[[str], None]
Json = dict[str, Any]


def prefetch(stack: StackName, images: Sequence[str], platforms: Sequence[str]) -> int:
    """These images, or those of the configuration, anew. The exit status says whether the cache has all of them now."""
    values = stacks.configuration(stack)
    settings = load(values.get)
    if isinstance(settings, Disabled):
        raise OperationError("enable_docker_cache is off, so there is no cache to fetch images into: set it to true")
    chosen = json.dumps(words((item.image, item.platforms) for item in choose(settings, images, platforms)))
    has_all: bool = json.loads(stacks.work_in_network(stack, "prefetch-from-stdin", values, "--words", chosen))
    return 0 if has_all else 1


def choose(settings: Settings, images: Sequence[str], platforms: Sequence[str]) -> list[PrefetchedImage]:
    """Raises OperationError where that is nothing, or nothing that comes through the cache."""
    if settings.docker_cache_custom_registry:
        raise OperationError("docker_cache_custom_registry is set, so there is no cache of ours to fetch images into")
    if platforms and not images:
        raise OperationError("PLATFORMS is given without IMAGE: name the image too, such as IMAGE=nginx:1.29")
    chosen = [checked(image, platforms) for image in images] or list(settings.docker_cache_prefetch)
    if not chosen:
        raise OperationError(
            "there is nothing to fetch: name an image, such as IMAGE=nginx:1.29, or list images as docker_cache_prefetch"
        )
    for image, host in unserved([item.image for item in chosen], settings).items():
        raise OperationError(
            f'IMAGE is "{image}": the cache does not pull through {host}; add it to docker_cache_upstreams'
        )
    return chosen


def checked(image: str, platforms: Sequence[str]) -> PrefetchedImage:
    """Raises OperationError."""
    try:
        return PrefetchedImage(image=image, platforms=tuple(platforms))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        variable = "IMAGE" if first["loc"][0] == "image" else "PLATFORMS"
        raise OperationError(
            f'{variable} is "{first["input"]}": {first["msg"].removeprefix("Value error, ")}'
        ) from None


def fetch(stack: Stack, chosen: Sequence[str], say: Say) -> bool:
    """Run where the cluster can be reached; whether all went well. Raises ClusterError."""
    if stack.cluster is None:
        raise ClusterError("the stack installs no cache")
    namespace = stack.settings.docker_cache_namespace
    try:
        with api_client(stack.cluster) as client:
            name = begin(client, namespace, chosen)
            try:
                return follow(client, namespace, name, say)
            except KeyboardInterrupt:
                BatchV1Api(client).delete_namespaced_job(name, namespace, propagation_policy="Background")
                raise
    except (ApiException, urllib3.exceptions.HTTPError, kubernetes.config.ConfigException) as error:
        raise ClusterError(refusal(error, stack.cluster)) from error


def begin(client: ApiClient, namespace: str, chosen: Sequence[str]) -> str:
    """The name of a new Job that runs the script with these words."""
    api = BatchV1Api(client)
    try:
        template = as_json(client, api.read_namespaced_cron_job(TEMPLATE, namespace, _request_timeout=ASK_SECONDS))
    except ApiException as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        raise ClusterError(
            f"there is no CronJob {namespace}/{TEMPLATE} to make a Job from: `make up` makes it"
        ) from error
    body = job_from(template, chosen)
    # The client takes the API's own form as well as its classes.
    job = api.create_namespaced_job(namespace, body, _request_timeout=ASK_SECONDS)  # type: ignore[arg-type]
    return str(as_json(client, job)["metadata"]["name"])


def job_from(template: Json, chosen: Sequence[str]) -> Json:
    """A Job of the CronJob's own, which deletes it in time."""
    spec: Json = template["spec"]["jobTemplate"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    container["args"] = list(chosen)
    owner = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "name": template["metadata"]["name"],
        "uid": template["metadata"]["uid"],
        "controller": True,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": f"{TEMPLATE}-",
            "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def follow(client: ApiClient, namespace: str, name: str, say: Say) -> bool:
    """Tell what the Job's pod tells, until it has ended."""
    told = 0
    waiting = ""
    answered = time.monotonic()
    while True:
        try:
            job, pod, lines = look(client, namespace, name)
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            if not may_pass(error) or time.monotonic() - answered > SILENT_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        answered = time.monotonic()
        for line in lines[told:]:
            say(f"  {line}")
        told = max(told, len(lines))
        end = end_of(job)
        if end:
            if not told:
                say(f"  {end.get('reason', '')}: {end.get('message', '')}")
            return bool(end["type"] == COMPLETE)
        reason = waits_for(pod)
        if reason not in ("", waiting):
            say(f"  {reason}")
            waiting = reason
        time.sleep(POLL_SECONDS)


def look(client: ApiClient, namespace: str, name: str) -> tuple[Json, Json, list[str]]:
    """The Job, its pod, and what that has told so far."""
    job = as_json(client, BatchV1Api(client).read_namespaced_job(name, namespace, _request_timeout=ASK_SECONDS))
    pod = pod_of(client, namespace, name)
    return job, pod, log_of(client, namespace, pod)


def may_pass(error: Exception) -> bool:
    """Whether it is worth asking again: not where the cluster refuses, or knows no such Job any more."""
    if not isinstance(error, ApiException):
        return True
    refuses = error.status in range(HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR)
    return error.status == HTTPStatus.TOO_MANY_REQUESTS or not refuses


def end_of(job: Json) -> Json | None:
    """The condition that says how it ended."""
    conditions = job["status"].get("conditions", ())
    return next((each for each in conditions if each["type"] in ENDS and each["status"] == "True"), None)


def pod_of(client: ApiClient, namespace: str, job: str) -> Json:
    """Empty where there is none yet."""
    found = CoreV1Api(client).list_namespaced_pod(
        namespace, label_selector=f"job-name={job}", _request_timeout=ASK_SECONDS
    )
    pods: list[Json] = as_json(client, found)["items"]
    return pods[0] if pods else {}


def log_of(client: ApiClient, namespace: str, pod: Json) -> list[str]:
    if not pod:
        return []
    try:
        name = pod["metadata"]["name"]
        text = CoreV1Api(client).read_namespaced_pod_log(name, namespace, _request_timeout=ASK_SECONDS)
    except ApiException as error:
        # The container has not begun, or the pod has just gone.
        if error.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
            return []
        raise
    return str(text).splitlines()


def waits_for(pod: Json) -> str:
    """Why the pod's container has not begun, where Kubernetes says it in words."""
    for status in pod.get("status", {}).get("containerStatuses", ()):
        state = status["state"].get("waiting", {})
        if state.get("message"):
            return f"{state['reason']}: {state['message']}"
    return ""
