"""What keeps the stores in order, as the program creates it. The `recorder` fixture is in conftest.py."""

from typing import Any

import pytest

from tests.unit.recording import CONFIG_MAP, DEPLOYMENT, FRONT, KEEPER, SERVICE, Recorder, cluster_ip, deploy, stack


def containers(deployment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["name"]: item for item in deployment["spec"]["template"]["spec"]["containers"]}


def test_the_bounds_reach_the_keeper_beside_the_registry(recorder: Recorder) -> None:
    deploy(stack(docker_cache_ttl="30d", docker_cache_fs_max_size="500Gi"))
    keeping = containers(recorder.one(DEPLOYMENT))["store-keeper"]
    kib, seconds = 500 << 20, 30 * 86400
    script = "/etc/docker-cache-keeper/keep_store.sh"
    assert keeping["command"] == ["/bin/sh", script, "/var/lib/registry", str(kib), str(seconds)]
    assert {"name": "store", "mountPath": "/var/lib/registry"} in keeping["volumeMounts"]
    assert "livenessProbe" not in keeping, "what is the matter with the storage is no reason to start anew"
    assert keeping["securityContext"]["readOnlyRootFilesystem"] is True
    volumes = recorder.one(DEPLOYMENT)["spec"]["template"]["spec"]["volumes"]
    assert {"name": "keeper-work", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}} in volumes, "disks run full"


def test_without_bounds_it_mends_alone(recorder: Recorder) -> None:
    deploy(stack())
    assert containers(recorder.one(DEPLOYMENT))["store-keeper"]["command"][-2:] == ["0", "0"]


def test_every_front_tells_the_keeper_what_is_asked_for_and_waits_for_nobody(recorder: Recorder) -> None:
    deploy(stack(docker_cache_front_image="mirror.example/varnish:7.7.3"))
    telling = containers(recorder.named(DEPLOYMENT, FRONT))["request-times"]
    assert telling["image"] == "mirror.example/varnish:7.7.3"
    assert telling["args"] == [cluster_ip(KEEPER), "5005"]
    service = recorder.named(SERVICE, KEEPER)
    assert service["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}, "the front would wait for a registry"
    assert service["spec"]["publishNotReadyAddresses"] is True
    labels = recorder.one(DEPLOYMENT)["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()


def test_both_have_their_scripts_from_one_configmap_that_rolls_them(recorder: Recorder) -> None:
    deploy(stack())
    scripts = recorder.named(CONFIG_MAP, KEEPER)
    assert "name" not in scripts["metadata"]
    assert set(scripts["data"]) == {"keep_store.sh", "keep_store.awk", "receive_requests.sh", "report_requests.sh"}
    for deployment in (recorder.one(DEPLOYMENT), recorder.named(DEPLOYMENT, FRONT)):
        volumes = deployment["spec"]["template"]["spec"]["volumes"]
        assert {"name": "keeper-scripts", "configMap": {"name": f"{KEEPER}-made"}} in volumes


@pytest.mark.parametrize("kind", [DEPLOYMENT, SERVICE])
def test_on_azure_there_is_no_keeper(recorder: Recorder, kind: str) -> None:
    deploy(
        stack(
            docker_cache_storage_backend="azure",
            docker_cache_azure_account_name="account",
            docker_cache_azure_account_key="c2VjcmV0LWtleQ==",
        )
    )
    assert "keeper" not in str([resource.inputs for resource in recorder.of(kind)])
    assert "request-times" not in str([resource.inputs for resource in recorder.of(kind)])
