"""The front's resources and its configuration. What Varnish makes of it, the end-to-end tests see."""

import re
from typing import Any

import pytest
import yaml

from rendering import varnish
from rendering.varnish import IN_POD, Front
from settings.values import size_in_bytes
from tests.unit.recording import (
    CLUSTER_IP,
    CONFIG_MAP,
    DEPLOYMENT,
    FRONT,
    SECRET,
    SERVICE,
    Recorder,
    deploy,
    stack,
)
from tests.unit.stacks import BCRYPT, HTPASSWD

BUDGET = "kubernetes:policy/v1:PodDisruptionBudget"


def front_pod(recorder: Recorder) -> dict[str, Any]:
    spec: dict[str, Any] = recorder.named(DEPLOYMENT, FRONT)["spec"]["template"]["spec"]
    return spec


def rendered(**changes: Any) -> str:
    given: dict[str, Any] = {
        "backends": {"docker.io": CLUSTER_IP},
        "hot_size": "10Gi",
        "tag_seconds": 60,
        "has_htpasswd": False,
    }
    return varnish.vcl(Front(**(given | changes)))


def test_nodes_come_to_the_front_and_what_runs_in_the_cluster_does_too(recorder: Recorder) -> None:
    deploy(stack())
    selector = recorder.named(DEPLOYMENT, FRONT)["spec"]["selector"]["matchLabels"]
    nodes, inside = recorder.named(SERVICE, "docker-cache-30500")["spec"], recorder.named(SERVICE, FRONT)["spec"]
    assert nodes["type"] == "NodePort"
    assert nodes["ports"] == [{"name": "registry", "port": 5000, "targetPort": "entry", "nodePort": 30500}]
    assert inside["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    assert nodes["selector"] == inside["selector"] == selector
    registries = recorder.one(DEPLOYMENT)["spec"]["template"]["metadata"]["labels"]
    assert not selector.items() <= registries.items(), "a pull would go around the front"


def test_the_front_knows_its_registry_by_address_and_needs_no_name_to_resolve(recorder: Recorder) -> None:
    deploy(stack())
    assert f'.host = "{CLUSTER_IP}";' in recorder.named(CONFIG_MAP, FRONT)["data"]["front.vcl"]


def test_a_registry_with_a_port_is_found_by_a_path_that_podman_can_read() -> None:
    text = rendered(backends={"docker.io": CLUSTER_IP, "lab.example:5000": CLUSTER_IP})
    assert 'if (req.http.X-DC-Upstream == "lab.example-5000") {' in text
    assert "docker.io-" not in text


def test_a_registry_without_a_dot_is_found_by_its_path_and_is_never_taken_for_docker_hubs() -> None:
    text = rendered(backends={"docker.io": CLUSTER_IP, "lab:5000": CLUSTER_IP, "lab.example:5000": CLUSTER_IP})
    found = re.search(r'X-DC-Path ~ "(\^/v2/\(.+\)/)"', text)
    assert found
    names = ["lab-5000", "lab.example-5000", "localhost-5000", "quay.io", "library", "lab-5000-more"]
    assert [name for name in names if re.match(found[1], f"/v2/{name}/app/")] == names[:4]


def test_the_fronts_configuration_is_named_by_the_provider_so_that_a_change_rolls_the_pods(recorder: Recorder) -> None:
    deploy(stack())
    assert "name" not in recorder.named(CONFIG_MAP, FRONT)["metadata"]
    (volume,) = [volume for volume in front_pod(recorder)["volumes"] if volume["name"] == "configuration"]
    assert volume["configMap"]["name"] == f"{FRONT}-made"


def test_every_container_of_the_front_has_few_rights_and_bounded_memory(recorder: Recorder) -> None:
    deploy(stack(docker_cache_htpasswd=HTPASSWD, docker_cache_htpasswd_over_plain_http="true"))
    pod = front_pod(recorder)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsUser"] == 65532
    assert {container["name"] for container in pod["containers"]} >= {"front", "access-log", "credentials"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]


def test_the_front_is_ready_and_alive_by_itself(recorder: Recorder) -> None:
    deploy(stack())
    front = front_pod(recorder)["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert front[probe]["httpGet"] == {"path": "/healthz", "port": "http"}
    answered = rendered().partition('if (req.url == "/healthz") {')[2].strip()
    assert answered.startswith("return (synth(200"), "a registry that is away is no reason to take the hits away"


def test_pulls_in_flight_get_their_time_when_a_front_leaves(recorder: Recorder) -> None:
    deploy(stack())
    pod = front_pod(recorder)
    hook = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert hook == ["/bin/sh", "/etc/docker-cache/drain.sh", "5", "300"]
    assert pod["terminationGracePeriodSeconds"] > 5 + 300
    hanging = pod["containers"][0]["livenessProbe"]["terminationGracePeriodSeconds"]
    assert hanging < 30, "the pulls of a front that hangs do not end, and no node gets anything meanwhile"
    strategy = recorder.named(DEPLOYMENT, FRONT)["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_what_the_fronts_answers_need_stays_until_the_last_one(recorder: Recorder) -> None:
    deploy(stack(docker_cache_htpasswd=HTPASSWD, docker_cache_htpasswd_over_plain_http="true"))
    needed = [item for item in front_pod(recorder)["containers"] if item["name"] in {"access-log", "credentials"}]
    for container in needed:
        (_, _, wait) = container["lifecycle"]["preStop"]["exec"]["command"]
        assert "until [ -e /var/lib/varnish/drained ]" in wait, "a pod's containers are told to end all at once"
        assert "/var/lib/varnish" in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert "touch" in (IN_POD / "drain.sh").read_text().splitlines()[-1]


def test_several_fronts_go_to_different_nodes_and_leave_one_at_a_time(recorder: Recorder) -> None:
    deploy(stack(docker_cache_replicas="3", docker_cache_priority_class="system-cluster-critical"))
    assert recorder.named(DEPLOYMENT, FRONT)["spec"]["replicas"] == 3
    pod = front_pod(recorder)
    (spread,) = pod["topologySpreadConstraints"]
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway", "a cluster of one node is no reason to have one front"
    for deployment in recorder.of(DEPLOYMENT):
        assert deployment.inputs["spec"]["template"]["spec"]["priorityClassName"] == "system-cluster-critical"
    assert recorder.named(BUDGET, FRONT)["spec"]["maxUnavailable"] == 1


def test_one_front_has_no_budget_that_would_hold_up_a_drain(recorder: Recorder) -> None:
    deploy(stack())
    assert recorder.of(BUDGET) == []
    assert "priorityClassName" not in front_pod(recorder)


def test_fronts_that_can_run_on_one_node_only_have_no_budget_either(recorder: Recorder) -> None:
    deploy(stack(docker_cache_replicas="2", docker_cache_allowed_cidrs='["10.0.0.0/8"]'))
    assert "affinity" in front_pod(recorder)
    assert recorder.of(BUDGET) == []


def test_credentials_are_known_in_the_fronts_own_pod(recorder: Recorder) -> None:
    deploy(
        stack(docker_cache_htpasswd=HTPASSWD, docker_cache_htpasswd_over_plain_http="true", docker_cache_image="r:3")
    )
    assert recorder.named(SECRET, f"{FRONT}-htpasswd")["stringData"] == {"htpasswd": f"alice:{BCRYPT}\n"}
    files = recorder.named(CONFIG_MAP, FRONT)["data"]
    assert BCRYPT not in str(files)
    configuration = yaml.safe_load(files["credentials.yml"])
    assert configuration["http"]["addr"].startswith("127.0.0.1:"), "nobody else asks it"
    assert configuration["auth"]["htpasswd"]["path"] == "/etc/docker-cache-htpasswd/htpasswd"
    (knows,) = [container for container in front_pod(recorder)["containers"] if container["name"] == "credentials"]
    assert knows["image"] == "r:3"
    assert "return (synth(401" in files["front.vcl"]


def test_without_an_htpasswd_nobody_is_asked_about(recorder: Recorder) -> None:
    deploy(stack())
    assert "credentials" not in [container["name"] for container in front_pod(recorder)["containers"]]
    files = recorder.named(CONFIG_MAP, FRONT)["data"]
    assert "credentials.yml" not in files
    assert "backend credentials" not in files["front.vcl"]
    assert recorder.of(SECRET) == []


def test_each_upstream_has_a_backend_of_its_own_and_another_one_is_refused() -> None:
    text = rendered(backends={"docker.io": "10.0.0.1", "registry.example:5443": "10.0.0.2"})
    assert re.search(r'backend upstream_registry_example_5443 \{\s+\.host = "10\.0\.0\.2"', text)
    chosen = text.partition("sub choose_registry {")[2].partition("\nsub ")[0]
    assert re.findall(r'X-DC-Upstream == "([^"]+)"', chosen) == ["docker.io", "registry.example:5443"]
    assert "} else {\n        return (synth(404" in chosen, "never another's image"


def test_a_tag_gets_as_long_in_the_background_as_in_front_of_its_client_and_the_older_one_stands_in_meanwhile() -> None:
    text = rendered()
    assert re.findall(r"bereq\.first_byte_timeout = (\w+);", text) == ["10s"], (
        "a slow upstream's busy tag would stay old"
    )
    assert re.findall(r"req\.grace = (\w+);", text) == ["10s"]


def test_a_head_of_a_blob_reaches_a_registry_as_a_get() -> None:
    text = rendered()
    assert "sub vcl_miss" not in text, "Varnish joins a HEAD to the GET that many wait for"
    fetch = text.partition("sub vcl_backend_fetch {")[2].partition("\nsub ")[0]
    asked = 'if (bereq.method == "HEAD" && bereq.http.X-DC-Kind == "blob") {'
    assert fetch.partition(asked)[2].lstrip().startswith('set bereq.method = "GET";')


def test_the_next_page_of_a_list_leads_to_the_upstream_that_it_is_of() -> None:
    delivered = rendered().partition("sub vcl_deliver {")[2].partition("\nsub ")[0]
    prefixed = 'regsub(resp.http.Link, "^</v2/", "</v2/" + regsub(req.http.X-DC-Upstream, ":", "-") + "/")'
    assert f"set resp.http.Link = {prefixed};" in delivered


@pytest.mark.parametrize(
    ("size", "largest"), [("1Gi", 2**27), ("800M", 100_000_000), ("2Ti", 2**38), ("80Mi", 10 * 2**20)]
)
def test_a_layer_of_more_than_an_eighth_of_the_hot_store_is_not_kept_there(size: str, largest: int) -> None:
    assert f", {largest + 1}) > {largest})" in rendered(hot_size=size)


def test_the_hot_store_has_its_size_from_the_configuration(recorder: Recorder) -> None:
    deploy(stack(docker_cache_hot_size="2Gi", docker_cache_tag_ttl="90s", docker_cache_front_image="v:7"))
    front = front_pod(recorder)["containers"][0]
    assert front["args"][:2] == ["/var/lib/docker-cache-hot", str(2 * 2**30)]
    assert front["image"] == "v:7"
    assert "set beresp.ttl = 90s;" in recorder.named(CONFIG_MAP, FRONT)["data"]["front.vcl"]


def test_what_is_no_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="ten is no size"):
        size_in_bytes("ten")
