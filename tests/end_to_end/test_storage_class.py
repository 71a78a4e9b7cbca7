"""The cache on a PersistentVolumeClaim, bound to a volume that the test provides."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Sandbox

ENTRY = "http://10.30.0.10:30500"
VOLUME_FOLDER = "/var/lib/test-volume"
VOLUME = """\
apiVersion: v1
kind: PersistentVolume
metadata: {name: test-volume}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: by-hand
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: /var/lib/test-volume}
  nodeAffinity:
    required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [pai-master]}]}]}
"""


@pytest.fixture
def volume(sandbox: Sandbox, tmp_path: Path) -> Iterator[None]:
    # A hostPath volume is the kubelet's business to own; a real storage class hands out volumes that fsGroup applies to.
    sandbox.on("pai-master", "install", "--directory", "--owner=65532", "/var/lib/test-volume")
    file = tmp_path / "volume.yaml"
    file.write_text(VOLUME)
    sandbox.kubectl("apply", "-f", str(file))
    yield
    sandbox.destroy()
    sandbox.kubectl("delete", "pvc", "--all", "--wait=false")
    sandbox.kubectl("delete", "-f", str(file))
    sandbox.on("pai-master", "rm", "-rf", "/var/lib/test-volume")


@pytest.mark.usefixtures("volume")
def test_a_storage_class_keeps_the_cache_on_a_claim(sandbox: Sandbox) -> None:
    sandbox.up(docker_cache_fs_storage_class="by-hand", docker_cache_fs_size="1Gi")
    assert sandbox.kubectl("get", "pvc", "-o", "jsonpath={.items[0].status.phase}") == "Bound"
    sandbox.pull_anew("pai-worker1", "app:2")
    stored = sandbox.on("pai-master", "find", "/var/lib/test-volume", "-name", "link", "-path", "*library/app*")
    assert stored, "the volume holds nothing of what was pulled"


@pytest.mark.long
@pytest.mark.usefixtures("volume")
def test_the_registries_of_all_upstreams_share_the_claim_and_find_each_other_again(sandbox: Sandbox) -> None:
    sandbox.up(docker_cache_fs_storage_class="by-hand", docker_cache_fs_size="1Gi", docker_cache_upstreams=["quay.io"])
    sandbox.on("pai-worker1", "curl", "-sf", "-o", "/dev/null", f"{ENTRY}/v2/quay.io/team/app/manifests/1")
    assert "team" in sandbox.on("pai-master", "ls", f"{VOLUME_FOLDER}/quay.io/docker/registry/v2/repositories")
    sandbox.kubectl("delete", "pods", "-l", "app.kubernetes.io/name=docker-cache-registry")
    for deployment in ("docker-cache-registry", "docker-cache-registry-quay-io"):
        sandbox.kubectl("rollout", "status", f"deployment/{deployment}", "--timeout=300s")


def claims(sandbox: Sandbox) -> list[str]:
    return sandbox.kubectl("get", "pvc", "-o", "name").split()


@pytest.mark.usefixtures("volume")
def test_the_claim_outlives_the_stack_and_is_used_again_by_its_name(sandbox: Sandbox) -> None:
    sandbox.up(docker_cache_fs_storage_class="by-hand", docker_cache_fs_size="1Gi")
    sandbox.pull_anew("pai-worker1", "app:2")
    location = str(sandbox.outputs()["storage"])
    sandbox.destroy()
    assert claims(sandbox) == [location.replace("claim ", "persistentvolumeclaim/")], "the data went, unasked"
    sandbox.up(docker_cache_fs_claim=location.removeprefix("claim "))
    sandbox.reset_upstream()
    sandbox.pull_anew("pai-worker2", "app:2")
    assert sandbox.upstream()["blob_gets"] == 0, "the cache began anew"


@pytest.mark.long
@pytest.mark.usefixtures("volume")
def test_the_claim_goes_where_that_was_asked_for(sandbox: Sandbox) -> None:
    sandbox.up(docker_cache_fs_storage_class="by-hand", docker_cache_fs_size="1Gi", docker_cache_delete_data="true")
    sandbox.destroy()
    assert claims(sandbox) == []
