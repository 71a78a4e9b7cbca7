"""From OpenPAI's own docker-cache to this one, with pulls running and the hub's rate limit used up."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import ROOT, WORKERS, Sandbox, run

STACK = "dev-takeover"
FILE = ROOT / f"Pulumi.{STACK}.yaml"
OLD = "http://10.30.0.10:30500"
NEW = "http://10.30.0.10:30501"
DAEMON_JSON = "/etc/docker/daemon.json"
# The form in which OpenPAI's add_docker_cache_config.py leaves the file, beside settings of the administrator's.
OPENPAI_JSON = json.dumps({"log-opts": {"max-size": "10m"}, "registry-mirrors": [OLD], "insecure-registries": [OLD]})

# In the form of src/docker-cache/deploy of OpenPAI, with the sandbox's image and a configuration that version 3 starts with.
PREDECESSOR = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: registry-config, namespace: default}
data:
  config.yml: |
    version: 0.1
    storage: {filesystem: {rootdirectory: /var/lib/registry}}
    http: {addr: ":5000"}
    proxy: {remoteurl: "https://registry-1.docker.io"}
---
apiVersion: v1
kind: Secret
metadata: {name: registry-htpasswd, namespace: default}
stringData: {htpasswd: ""}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: docker-registry-cache, namespace: default}
spec:
  replicas: 1
  selector: {matchLabels: {app: docker-registry-cache}}
  template:
    metadata: {labels: {app: docker-registry-cache}}
    spec:
      tolerations: [{operator: Exists}]
      containers:
      - name: docker-registry-cache
        image: registry:3.1.2
        command: [registry, serve, /etc/docker/registry/config.yml]
        env: [{name: OTEL_TRACES_EXPORTER, value: none}]
        volumeMounts:
        - {name: registry-htpasswd, mountPath: /auth/, readOnly: true}
        - {name: registry-config, mountPath: /etc/docker/registry/, readOnly: true}
        ports: [{name: http, containerPort: 5000}]
      volumes:
      - {name: registry-htpasswd, secret: {secretName: registry-htpasswd, defaultMode: 256}}
      - {name: registry-config, configMap: {name: registry-config}}
---
apiVersion: v1
kind: Service
metadata: {name: docker-registry-cache-service, namespace: default, labels: {app: docker-registry-cache}}
spec:
  type: NodePort
  selector: {app: docker-registry-cache}
  ports: [{port: 5000, name: http, targetPort: 5000, nodePort: 30500}]
"""
PULLER = f"takeover-puller-{int(time.time())}"
"""The journal keeps what an earlier run's puller has said."""
PULL_FOR_EVER = (
    "while :; do docker image rm -f app:1; docker pull -q app:1 && echo PULLED || echo FAILED; sleep 3; done"
)


@pytest.fixture(autouse=True)
def _openpai(sandbox: Sandbox, tmp_path: Path) -> Iterator[None]:
    """A cluster as OpenPAI leaves it, each node pulling without end, and nothing left at the hub for any of them."""
    manifest = tmp_path / "predecessor.yaml"
    manifest.write_text(PREDECESSOR)
    text = (ROOT / "Pulumi.dev.yaml").read_text()
    # All nodes in one wave: there are tests of waves, and each is a run of pulumi's.
    FILE.write_text(text.replace("config:\n", 'config:\n  docker-cache:docker_cache_wave_size: "100%"\n', 1))
    sandbox.kubectl("apply", "-f", str(manifest))
    sandbox.kubectl("rollout", "status", "deployment/docker-registry-cache", "--timeout=300s")
    sandbox.reset_upstream()
    for worker in WORKERS:
        sandbox.on(
            worker, "sh", "-c", f"printf '%s' '{OPENPAI_JSON}' > {DAEMON_JSON} && systemctl reload docker && sleep 1"
        )
        sandbox.pull_anew(worker, "app:1")
        sandbox.use_up_hub_limit(worker)
        sandbox.on(worker, "systemd-run", f"--unit={PULLER}", "sh", "-c", PULL_FOR_EVER)
    yield
    for worker in WORKERS:
        sandbox.try_on(worker, "systemctl", "stop", PULLER)
    run([str(ROOT / "sandbox/pulumi"), "destroy", "--yes", "--skip-preview", "--stack", STACK])
    sandbox.kubectl("delete", "--ignore-not-found", "-f", str(manifest))
    for worker in WORKERS:
        # What the file was at first is kept on purpose, since it is not put back.
        sandbox.on(worker, "sh", "-c", f"rm -rf {DAEMON_JSON} /var/lib/docker-cache && systemctl restart docker")
    FILE.unlink()


def take_over(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run([sys.executable, "-m", "operations", "takeover", "--stack", STACK, *arguments])


def test_the_cluster_moves_over_and_no_pull_fails(sandbox: Sandbox) -> None:
    run([str(ROOT / "sandbox/pulumi"), "stack", "select", "--create", STACK])
    preview = run([str(ROOT / "sandbox/pulumi"), "preview", "--stack", STACK])
    assert preview.returncode != 0
    assert (
        "the NodePort 30500 is taken by the Service default/docker-registry-cache-service, OpenPAI's own docker-cache: "
        "`make takeover STACK=…` moves the cluster over without an interval in which pulls fail"
    ) in preview.stdout, preview.stdout

    unasked = take_over()
    assert unasked.returncode == 1, "there is nobody to ask"
    assert "YES=1 answers yes" in unasked.stderr
    assert "docker_cache_node_port" not in FILE.read_text(), "something was changed without an answer"

    moved = take_over("--yes")
    assert moved.returncode == 0, moved.stdout + moved.stderr
    assert "deleted Deployment default/docker-registry-cache" in moved.stdout
    for worker in WORKERS:
        assert sandbox.mirrors(worker) == [f"{NEW}/"]
        written = json.loads(sandbox.on(worker, "cat", DAEMON_JSON))
        # With an insecure mirror, docker 29 no longer verifies Docker Hub itself.
        insecure = {"insecure-registries": ["10.30.0.10:30501"]} if worker == "pai-worker1" else {}
        assert written == {"log-opts": {"max-size": "10m"}, "registry-mirrors": [NEW], **insecure}
        log = sandbox.on(worker, "journalctl", f"--unit={PULLER}", "--output=cat", "--no-pager").splitlines()
        assert log.count("PULLED") > 5, "the test has seen too little"
        assert log.count("FAILED") == 0, "\n".join(log[-40:])
    left = sandbox.kubectl("get", "deployments,services,configmaps,secrets", "-o", "name")
    assert "docker-registry-cache" not in left
    assert "registry-config" not in left
    assert "registry-htpasswd" not in left

    again = take_over("--yes")
    assert again.returncode == 0
    assert "There is nothing of OpenPAI's own docker-cache in this cluster" in again.stdout

    back = FILE.read_text().replace('docker_cache_node_port: "30501"', 'docker_cache_node_port: "30500"')
    FILE.write_text(back)
    up = run([sys.executable, "-m", "operations", "up", "--stack", STACK])
    assert up.returncode == 0, up.stdout + up.stderr
    for worker in WORKERS:
        assert sandbox.mirrors(worker) == [f"{OLD}/"]
        log = sandbox.on(worker, "journalctl", f"--unit={PULLER}", "--output=cat", "--no-pager").splitlines()
        assert log.count("FAILED") == 0, "\n".join(log[-40:])

    destroyed = run([str(ROOT / "sandbox/pulumi"), "destroy", "--yes", "--skip-preview", "--stack", STACK])
    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    for worker in WORKERS:
        assert json.loads(sandbox.on(worker, "cat", DAEMON_JSON)) == {"log-opts": {"max-size": "10m"}}


def test_the_old_cache_stays_where_a_node_does_not_come_over(sandbox: Sandbox) -> None:
    run([str(ROOT / "sandbox/pulumi"), "stack", "select", "--create", STACK])
    sandbox.on("pai-worker2", "sh", "-c", "echo '{' > /etc/docker/daemon.json")
    moved = take_over("--yes")
    assert moved.returncode == 1, moved.stdout
    assert "the old cache stays as it is" in moved.stderr
    assert "is not valid JSON" in moved.stdout + moved.stderr
    assert sandbox.mirrors("pai-worker2") == [f"{OLD}/"], "it still pulls through the old cache"
    assert sandbox.kubectl("get", "service", "docker-registry-cache-service", "-o", "name")
    sandbox.on("pai-worker2", "sh", "-c", f"printf '%s' '{OPENPAI_JSON}' > {DAEMON_JSON}")
    assert take_over("--yes").returncode == 0
    assert sandbox.mirrors("pai-worker2") == [f"{NEW}/"]
