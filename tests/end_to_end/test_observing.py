"""What a real Prometheus sees of the cache: it finds the pods as the operator would, by what the PodMonitor says."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.exporters import PORT
from rendering import observing
from sandbox import lifecycle, toolchain
from sandbox.enter import in_network
from sandbox.layout import KUBECONFIG
from tests.end_to_end.conftest import ROOT, Sandbox, run

PROMTOOL = str(toolchain.PROMETHEUS.folder / "promtool")
ADDRESS = "127.0.0.1:9190"
POD_NETWORK, MASTER = "10.244.0.0/24", "10.30.0.10"
KINDS = {"podmonitors": "PodMonitor", "prometheusrules": "PrometheusRule"}
PULLED = "library/observed:1"
"""No other file's: a node that has it in its store would ask for less."""


def definitions() -> str:
    """Of the operator's kinds as much as the API server needs to take them."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": anything}}
    group = "monitoring.coreos.com"
    return yaml.safe_dump_all(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
                "versions": [version],
            },
        }
        for plural, kind in KINDS.items()
    )


def scrape(monitor: dict[str, Any]) -> dict[str, object]:
    """What the operator makes of a PodMonitor."""
    endpoint = monitor["podMetricsEndpoints"][0]
    labels = [
        {
            "source_labels": ["__meta_kubernetes_pod_label_" + re.sub("[^a-zA-Z0-9]", "_", name)],
            "regex": value,
            "action": "keep",
        }
        for name, value in monitor["selector"]["matchLabels"].items()
    ]
    port = {
        "source_labels": ["__meta_kubernetes_pod_container_port_name"],
        "regex": endpoint["port"],
        "action": "keep",
    }
    pod = {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"}
    return {
        "job_name": "default/docker-cache",
        "kubernetes_sd_configs": [
            {"role": "pod", "kubeconfig_file": str(KUBECONFIG), "namespaces": {"names": ["default"]}}
        ],
        "relabel_configs": [*labels, port, pod],
    }


class Prometheus:
    """One that scrapes every two seconds."""

    def wait_for(self, query: str, enough: Callable[[float], bool], seconds: float = 300) -> float:
        """The query's only value, once it is enough."""
        deadline = time.monotonic() + seconds
        while True:
            values = self.ask(query)
            if values and enough(values[0]):
                return values[0]
            assert time.monotonic() < deadline, f"{query} is {values}"
            time.sleep(1)

    def wait_until_ready(self, seconds: float = 180) -> None:
        ready = in_network(["curl", "--silent", "--fail", f"http://{ADDRESS}/-/ready"])
        deadline = time.monotonic() + seconds
        while run(ready).returncode != 0:
            assert time.monotonic() < deadline, "Prometheus does not start"
            time.sleep(0.5)

    def ask(self, query: str) -> list[float]:
        asked = run(in_network([PROMTOOL, "query", "instant", "--format=json", f"http://{ADDRESS}", query]))
        assert asked.returncode == 0, asked.stdout + asked.stderr
        return [float(sample["value"][1]) for sample in json.loads(asked.stdout)]


@pytest.fixture(scope="module")
def prometheus(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    toolchain.build_missing([toolchain.PROMETHEUS])
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "definitions.yml").write_text(definitions())
    sandbox.kubectl("apply", "--filename", str(folder / "definitions.yml"))
    for plural in KINDS:
        sandbox.kubectl("wait", "--for=condition=Established", f"crd/{plural}.monitoring.coreos.com")
    lifecycle.push_to_hub(PULLED, "16")
    sandbox.empty_store()
    sandbox.up(
        docker_cache_service_monitor="true",
        docker_cache_alert_rules="true",
        docker_cache_dashboard="true",
        docker_cache_upstreams=["ghcr.io"],
    )
    monitor = json.loads(sandbox.kubectl("get", "podmonitor", "docker-cache", "-o", "json"))["spec"]
    rule = json.loads(sandbox.kubectl("get", "prometheusrule", "docker-cache", "-o", "json"))["spec"]
    (folder / "alerts.yml").write_text(yaml.safe_dump(rule))
    every = {"scrape_interval": "2s", "evaluation_interval": "2s"}
    configuration = {"global": every, "rule_files": ["alerts.yml"], "scrape_configs": [scrape(monitor)]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    # Pods have addresses of their own, which the cluster's node knows the way to.
    assert run(in_network(["ip", "route", "replace", POD_NETWORK, "via", MASTER])).returncode == 0
    command = [
        str(toolchain.PROMETHEUS.folder / "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={ADDRESS}",
    ]
    with (folder / "log").open("wb") as log, subprocess.Popen(in_network(command), stdout=log, stderr=log) as process:
        try:
            made = Prometheus()
            made.wait_until_ready()
            yield made
        finally:
            process.terminate()
    # Prometheus' kinds are no other test's.
    sandbox.destroy()
    sandbox.kubectl("delete", "--filename", str(folder / "definitions.yml"))


def test_every_pod_is_scraped_and_what_it_says_is_well_formed(sandbox: Sandbox, prometheus: Prometheus) -> None:
    prometheus.wait_for("count(up == 1)", lambda pods: pods == 3)
    pods = json.loads(sandbox.kubectl("get", "pods", "-l", "app.kubernetes.io/part-of=docker-cache", "-o", "json"))
    for pod in pods["items"]:
        address = f"http://{pod['status']['podIP']}:{PORT}/metrics"
        text = run(in_network(["curl", "--silent", "--fail", address]))
        assert text.returncode == 0, pod["metadata"]["name"]
        checked = run([PROMTOOL, "check", "metrics"], text=text.stdout)
        complaints = [line for line in (checked.stdout + checked.stderr).splitlines() if "docker_cache" in line]
        assert complaints == []
        assert "docker_cache_" in text.stdout
        own = run(in_network(["curl", "--silent", "--max-time", "5", f"http://{pod['status']['podIP']}:5001/metrics"]))
        assert own.returncode != 0, "the registry's debug server is the pod's own"


def test_pulls_show_as_misses_and_hits_and_in_bytes(sandbox: Sandbox, prometheus: Prometheus) -> None:
    prometheus.wait_for("sum(docker_cache_requests_total)", lambda _: True)
    for worker in ("pai-worker1", "pai-worker2"):
        sandbox.pull_anew(worker, PULLED)
    sixteen = 16 << 20
    served = 'sum(docker_cache_served_bytes_total{upstream="docker.io",kind="blob"})'
    fetched = 'sum(docker_cache_fetched_bytes_total{upstream="docker.io",kind="blob"})'
    assert prometheus.wait_for(served, lambda size: size > 2 * sixteen) < 3 * sixteen
    assert prometheus.wait_for(fetched, lambda size: size > sixteen) < 2 * sixteen, "the second node's pull was a hit"
    pulled = 'sum(registry_proxy_pulled_bytes_total{upstream="docker.io",type="blob"})'
    assert prometheus.wait_for(pulled, lambda size: size > sixteen) < 2 * sixteen
    for result in ("hit", "miss"):
        query = f'sum(docker_cache_requests_total{{upstream="docker.io",kind="blob",result="{result}"}})'
        prometheus.wait_for(query, lambda count: count >= 2)
    prometheus.wait_for('sum(docker_cache_fetch_seconds_count{upstream="docker.io"})', lambda count: count >= 3)


def test_what_the_hub_has_left_for_the_cache_is_known_and_asking_costs_nothing(
    sandbox: Sandbox, prometheus: Prometheus
) -> None:
    limit = prometheus.wait_for('docker_cache_ratelimit_limit{upstream="docker.io"}', lambda _: True)
    spent = sandbox.upstream()["manifest_gets"]
    assert spent > 0
    left = f'docker_cache_ratelimit_remaining{{upstream="docker.io"}} == {limit - spent}'
    prometheus.wait_for(left, lambda _: True)
    assert sandbox.upstream()["manifest_gets"] == spent, "a HEAD is no pull"
    assert prometheus.ask("count(docker_cache_ratelimit_limit)") == [1], "ghcr.io has no such limit"


def test_each_upstream_is_asked_and_its_time_is_known(prometheus: Prometheus) -> None:
    prometheus.wait_for("count(docker_cache_upstream_answers == 1)", lambda upstreams: upstreams == 2)
    prometheus.wait_for("count(docker_cache_upstream_answer_seconds > 0)", lambda upstreams: upstreams == 2)


def test_the_stores_disk_is_the_one_of_the_master(sandbox: Sandbox, prometheus: Prometheus) -> None:
    blocks = int(sandbox.on("pai-master", "df", "--output=size", "--block-size=1", "/var/lib/registry").split()[1])
    query = 'docker_cache_store_size_bytes{upstream="docker.io"}'
    assert prometheus.wait_for(query, lambda _: True) == blocks


def test_every_query_of_the_dashboard_has_an_answer(sandbox: Sandbox, prometheus: Prometheus) -> None:
    name = sandbox.kubectl("get", "configmaps", "-l", "grafana_dashboard=1", "-o", "name")
    document = json.loads(sandbox.kubectl("get", name, "-o", "json"))["data"]["docker-cache.json"]
    queries = [target["expr"] for panel in json.loads(document)["panels"] for target in panel["targets"]]
    assert len(queries) == sum(len(panel.queries) for panel in observing.PANELS)
    for query in queries:
        prometheus.wait_for(query.replace("$__rate_interval", "1m"), lambda _: True, seconds=30)


def test_alerts_are_loaded_and_none_fires_while_all_is_well(prometheus: Prometheus) -> None:
    loaded = run(in_network(["curl", "--silent", "--fail", f"http://{ADDRESS}/api/v1/rules"]))
    rules = [rule for group in json.loads(loaded.stdout)["data"]["groups"] for rule in group["rules"]]
    expected = [rule for group in observing.alert_groups() for rule in group["rules"]]  # type: ignore[attr-defined]
    assert [rule["name"] for rule in rules] == [rule["alert"] for rule in expected]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert prometheus.ask('ALERTS{alertstate="firing"}') == []


def test_each_alert_fires_for_what_it_is_for_and_not_before() -> None:
    toolchain.build_missing([toolchain.PROMETHEUS])
    checked = run([PROMTOOL, "check", "rules", str(ROOT / "observing/alerts.yml")])
    assert checked.returncode == 0, checked.stdout + checked.stderr
    cases = Path(__file__).with_name("alerts_test.yml")
    tested = run([PROMTOOL, "test", "rules", str(cases)])
    assert tested.returncode == 0, tested.stdout + tested.stderr
    named = {
        rule["alertname"] for case in yaml.safe_load(cases.read_text())["tests"] for rule in case["alert_rule_test"]
    }
    assert named == {rule["alert"] for group in observing.alert_groups() for rule in group["rules"]}  # type: ignore[attr-defined]
