"""What the program creates for upstreams besides Docker Hub."""

import json
from typing import Any

import pytest
import yaml

from tests.unit.recording import CONFIG_MAP, DEPLOYMENT, SECRET, SERVICE, Recorder, cluster_ip, deploy, stack
from tests.unit.test_components import AZURE, IDENTITY, JOB

GHCR = {"host": "ghcr.io", "username": "robot", "password": "robots-password"}
PRIVATE = {"host": "private.example:5000", "url": "https://10.0.0.9:5000"}
BOTH = {"docker_cache_upstreams": json.dumps([GHCR, PRIVATE])}


def proxy_of(recorder: Recorder, name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(recorder.named(CONFIG_MAP, name)["data"]["proxy.yml"])
    return document


def pod_of(recorder: Recorder, name: str) -> dict[str, Any]:
    pod: dict[str, Any] = recorder.named(DEPLOYMENT, name)["spec"]["template"]["spec"]
    return pod


def test_each_upstream_has_a_registry_of_its_own_called_after_its_host(recorder: Recorder) -> None:
    deploy(stack(**BOTH))
    places = {
        "docker-cache": ("docker-cache-registry", "https://registry-1.docker.io"),
        "docker-cache-ghcr-io": ("docker-cache-registry-ghcr-io", "https://ghcr.io"),
        "docker-cache-private-example-5000": ("docker-cache-registry-private-example-5000", "https://10.0.0.9:5000"),
    }
    for name, (object_name, url) in places.items():
        assert recorder.named(DEPLOYMENT, name)["metadata"]["name"] == object_name
        assert recorder.named(SERVICE, f"{name}-registry")["metadata"]["name"] == object_name
        assert proxy_of(recorder, name)["proxy"]["remoteurl"] == url
        mounted = pod_of(recorder, name)["volumes"]
        assert {"name": "configuration", "configMap": {"name": f"{name}-made"}} in mounted


def test_no_service_leads_to_another_upstreams_pod(recorder: Recorder) -> None:
    deploy(stack(**BOTH))
    for name in ("docker-cache", "docker-cache-ghcr-io", "docker-cache-private-example-5000"):
        labels = recorder.named(DEPLOYMENT, name)["spec"]["template"]["metadata"]["labels"]
        assert recorder.named(DEPLOYMENT, name)["spec"]["selector"]["matchLabels"] == labels
        leading = [
            service.name
            for service in recorder.of(SERVICE)
            if service.name.endswith("-registry") and service.inputs["spec"]["selector"].items() <= labels.items()
        ]
        assert leading == [f"{name}-registry"], "an image of that name on another registry is another image"
    labels = recorder.named(DEPLOYMENT, "docker-cache-private-example-5000")["spec"]["selector"]["matchLabels"]
    assert labels["docker-cache/upstream"] == "private.example-5000", "Kubernetes takes no colon there"


def test_a_service_from_before_the_front_leads_to_docker_hubs_registry_alone(recorder: Recorder) -> None:
    """It goes by the labels that all of them have, and by the name of a port."""
    deploy(stack(**BOTH))
    named = {}
    for name in ("docker-cache", "docker-cache-ghcr-io", "docker-cache-private-example-5000"):
        port = pod_of(recorder, name)["containers"][0]["ports"][0]
        assert recorder.named(SERVICE, f"{name}-registry")["spec"]["ports"][0]["targetPort"] == port["name"]
        assert pod_of(recorder, name)["containers"][0]["readinessProbe"]["httpGet"]["port"] == port["name"]
        named[name] = port["name"]
    assert [name for name, port in named.items() if port == "registry"] == ["docker-cache"]


def test_docker_hub_keeps_the_root_of_the_store_and_the_others_have_folders_in_it(recorder: Recorder) -> None:
    deploy(stack(**BOTH))
    folders = {
        name: proxy_of(recorder, name)["storage"]["filesystem"]["rootdirectory"]
        for name in ("docker-cache", "docker-cache-ghcr-io", "docker-cache-private-example-5000")
    }
    assert folders == {
        "docker-cache": "/var/lib/registry",
        "docker-cache-ghcr-io": "/var/lib/registry/ghcr.io",
        "docker-cache-private-example-5000": "/var/lib/registry/private.example-5000",
    }, "what a cache has already stays valid"
    terms = [pod_of(recorder, name)["affinity"]["nodeAffinity"] for name in folders]
    assert terms[0] == terms[1] == terms[2], "the folder is on one node"


def test_on_azure_the_others_have_folders_of_the_container(recorder: Recorder) -> None:
    deploy(stack(**BOTH, **AZURE))
    assert "rootdirectory" not in proxy_of(recorder, "docker-cache")["storage"]["azure"]
    assert proxy_of(recorder, "docker-cache-ghcr-io")["storage"]["azure"]["rootdirectory"] == "ghcr.io"
    for name in ("docker-cache-environment", "docker-cache-ghcr-io-environment"):
        environment = recorder.named(SECRET, name)["stringData"]
        assert environment["REGISTRY_STORAGE_AZURE_ACCOUNTKEY"] == AZURE["docker_cache_azure_account_key"]
    assert "affinity" not in pod_of(recorder, "docker-cache-ghcr-io")


def test_an_upstreams_credentials_reach_its_own_pod_alone(recorder: Recorder) -> None:
    deploy(stack(docker_cache_remote_username="hub-user", docker_cache_remote_password="hub-password", docker_cache_https_proxy="http://p:3128", **BOTH))  # fmt: skip
    assert recorder.named(SECRET, "docker-cache-ghcr-io-environment")["stringData"] == {
        "HTTPS_PROXY": "http://p:3128",
        "REGISTRY_PROXY_USERNAME": "robot",
        "REGISTRY_PROXY_PASSWORD": "robots-password",
    }
    assert recorder.named(SECRET, "docker-cache-private-example-5000-environment")["stringData"] == {
        "HTTPS_PROXY": "http://p:3128"
    }
    assert recorder.named(SECRET, "docker-cache-environment")["stringData"]["REGISTRY_PROXY_USERNAME"] == "hub-user"
    container = pod_of(recorder, "docker-cache-ghcr-io")["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": "docker-cache-ghcr-io-environment-made"}}]
    others = [resource.inputs for resource in recorder.resources if resource.typ != SECRET]
    assert "robots-password" not in str(others)


@pytest.mark.parametrize("keys", [{"docker_cache_fs_claim": "kept"}, {"docker_cache_fs_storage_class": "disks"}])
def test_the_registries_of_one_claim_are_on_one_node(recorder: Recorder, keys: dict[str, str]) -> None:
    deploy(stack(**keys, **BOTH))
    for name in ("docker-cache", "docker-cache-ghcr-io"):
        (term,) = pod_of(recorder, name)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        asked = term["labelSelector"]["matchLabels"]
        own = recorder.named(DEPLOYMENT, name)["spec"]["template"]["metadata"]["labels"]
        assert asked.items() <= own.items(), "the first pod would wait for ever for another one"
        assert term["topologyKey"] == "kubernetes.io/hostname"


def test_a_store_is_proved_once_for_all_upstreams(recorder: Recorder) -> None:
    deploy(stack(**BOTH, **IDENTITY))
    (job,) = recorder.of(JOB)
    assert job.inputs["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] == "docker-cache-made"
    assert "proof.yml" in recorder.named(CONFIG_MAP, "docker-cache")["data"]
    assert "proof.yml" not in recorder.named(CONFIG_MAP, "docker-cache-ghcr-io")["data"]


def test_a_registrys_service_is_not_waited_for(recorder: Recorder) -> None:
    deploy(stack(**BOTH))
    service = recorder.named(SERVICE, "docker-cache-ghcr-io-registry")
    assert service["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}, "the front needs its address alone"
    assert "type" not in service["spec"], "nobody but the front comes there"


def test_the_front_knows_each_upstreams_registry_by_its_address(recorder: Recorder) -> None:
    deploy(stack(**BOTH))
    vcl = recorder.named(CONFIG_MAP, "docker-cache-front")["data"]["front.vcl"]
    for name in ("docker-cache", "docker-cache-ghcr-io", "docker-cache-private-example-5000"):
        assert f'.host = "{cluster_ip(f"{name}-registry")}"' in vcl
    for host in ("docker.io", "ghcr.io", "private.example:5000"):
        assert f'"{host}"' in vcl
