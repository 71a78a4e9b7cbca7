"""What is made to observe the cache, and that its parts speak of the same metrics."""

import json
import re
from typing import Any

import pytest
import yaml

from components.exporters import PORT
from rendering import observing, varnish
from rendering.registry import IN_POD
from tests.unit.recording import CONFIG_MAP, DEPLOYMENT, FRONT, Recorder, deploy, stack

MONITOR = "kubernetes:monitoring.coreos.com/v1:PodMonitor"
RULE = "kubernetes:monitoring.coreos.com/v1:PrometheusRule"
CREDENTIALS = {"docker_cache_remote_username": "puller", "docker_cache_remote_password": "the-password"}
FROM_ELSEWHERE = {"registry_proxy_pulled_bytes_total", "node_textfile_mtime_seconds"}
"""Metrics of the registry and of node_exporter."""


def containers(recorder: Recorder, deployment: str = "docker-cache") -> dict[str, dict[str, Any]]:
    pod = recorder.named(DEPLOYMENT, deployment)["spec"]["template"]["spec"]
    return {container["name"]: container for container in pod["containers"]}


@pytest.mark.parametrize("deployment", ["docker-cache", FRONT, "docker-cache-ghcr-io"])
def test_every_pod_hands_out_metrics_with_no_more_rights_than_it_needs(recorder: Recorder, deployment: str) -> None:
    deploy(stack(docker_cache_upstreams='["ghcr.io"]', docker_cache_exporter_image="mirror.example/exporter:1"))
    found = containers(recorder, deployment)
    assert found["exporter"]["image"] == "mirror.example/exporter:1"
    assert found["exporter"]["ports"] == [{"name": observing.PORT_NAME, "containerPort": PORT}]
    assert "--collector.disable-defaults" in found["exporter"]["args"], (
        "what it could tell of a node is not ours to tell"
    )
    for name in ("metrics", "exporter"):
        assert found[name]["securityContext"]["readOnlyRootFilesystem"] is True
        assert found[name]["resources"]["limits"]["memory"]
        assert "readinessProbe" not in found[name], "metrics are no reason to take the hits away"


def test_the_fronts_metrics_come_by_varnishs_own_tools_from_where_it_has_its_memory(recorder: Recorder) -> None:
    deploy(stack(docker_cache_front_image="v:7", docker_cache_upstreams='["ghcr.io"]'))
    writer = containers(recorder, FRONT)["metrics"]
    assert writer["image"] == "v:7"
    assert writer["args"] == ["/metrics", varnish.INSTANCE, "docker.io", "ghcr.io"]
    (work,) = [mount for mount in writer["volumeMounts"] if mount["mountPath"] == varnish.WORK]
    assert work["readOnly"] is True


def test_a_registrys_metrics_know_upstream_store_and_what_to_ask_for(recorder: Recorder) -> None:
    deploy(stack(docker_cache_upstreams='[{"host": "ghcr.io", "url": "http://ghcr.example:5000"}]'))
    hub = containers(recorder)["metrics"]
    assert hub["args"] == ["/metrics", "docker.io", "registry-1.docker.io/ratelimitpreview/test:latest", "enabled", "/var/lib/registry", "15"]  # fmt: skip
    (store,) = [mount for mount in hub["volumeMounts"] if mount["mountPath"] == "/var/lib/registry"]
    assert store["readOnly"] is True
    other = containers(recorder, "docker-cache-ghcr-io")["metrics"]
    assert other["args"][1:4] == ["ghcr.io", "ghcr.example:5000/docker-cache/probe:none", "disabled"]


def test_of_the_secrets_the_observer_gets_those_of_the_upstream_alone(recorder: Recorder) -> None:
    deploy(stack(**CREDENTIALS, docker_cache_https_proxy="http://p:3128"))
    environment = {item["name"]: item for item in containers(recorder)["metrics"]["env"]}
    assert set(environment) == {
        "REGCTL_CONFIG",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "REGISTRY_PROXY_USERNAME",
        "REGISTRY_PROXY_PASSWORD",
    }
    reference = environment["REGISTRY_PROXY_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "docker-cache-environment-made", "key": "REGISTRY_PROXY_PASSWORD", "optional": True}
    assert "the-password" not in str(containers(recorder))


def test_operator_and_grafana_are_told_only_where_that_is_asked_for(recorder: Recorder) -> None:
    deploy(stack())
    assert not {MONITOR, RULE} & {resource.typ for resource in recorder.resources}, (
        "the kinds are not there in every cluster"
    )
    assert not [resource for resource in recorder.of(CONFIG_MAP) if "dashboard" in resource.name]


def test_the_operator_and_grafana_are_told_of_the_cache(recorder: Recorder) -> None:
    deploy(stack(docker_cache_service_monitor="true", docker_cache_alert_rules="true", docker_cache_dashboard="true"))
    (monitor,), (rule,) = recorder.of(MONITOR), recorder.of(RULE)
    labels = recorder.named(DEPLOYMENT, FRONT)["spec"]["template"]["metadata"]["labels"]
    selected = monitor.inputs["spec"]["selector"]["matchLabels"]
    assert selected.items() <= labels.items()
    assert monitor.inputs["spec"]["podMetricsEndpoints"][0]["port"] == observing.PORT_NAME
    assert rule.inputs["spec"]["groups"] == observing.alert_groups()
    assert monitor.inputs["metadata"]["name"] == rule.inputs["metadata"]["name"] == "docker-cache"
    dashboard = recorder.named(CONFIG_MAP, "docker-cache-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["docker-cache.json"])["title"] == "docker-cache"


def queries() -> list[str]:
    alerts = [rule["expr"] for group in observing.alert_groups() for rule in group["rules"]]  # type: ignore[attr-defined]
    return [*alerts, *(query for panel in observing.PANELS for query in panel.queries.values())]


def test_alerts_and_dashboard_ask_for_metrics_that_the_scripts_write() -> None:
    scripts = "".join(observing.scripts().values())
    for query in queries():
        names = set(re.findall(r"\b(?:docker_cache|registry|node)_\w+", query)) - FROM_ELSEWHERE
        for name in names:
            own = re.sub("_(bucket|count)$", "", name.removeprefix("docker_cache_"))
            assert re.search(rf'("|metric |_){own}\b', scripts), f"{name} of {query}"


def test_every_alert_says_what_it_is_and_has_a_line_on_the_page() -> None:
    page = (IN_POD.parent / "docs" / "observing.md").read_text()
    for group in yaml.safe_load(observing.ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"].keys() == {"summary", "description"}
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert f"`{rule['alert']}`" in page


def test_every_metric_of_ours_has_a_line_on_the_page() -> None:
    page = (IN_POD.parent / "docs" / "observing.md").read_text()
    front = re.findall(
        r'^ +(?:counter|histogram|gauge|total)\("(\w+)"', observing.scripts()["front_metrics.awk"], re.MULTILINE
    )
    registry = re.findall(r"\bmetric (\w+) (?:gauge|counter)", observing.scripts()[observing.REGISTRY_SCRIPT])
    assert len(front) > 10
    assert len(registry) > 5
    for name in (*front, *registry):
        assert f"`docker_cache_{name}`" in page, name


def test_panels_stand_side_by_side_and_name_the_chosen_prometheus() -> None:
    panels = json.loads(observing.dashboard())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${source}"}
