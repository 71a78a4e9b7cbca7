"""The cache on a PersistentVolumeClaim, bound to a volume that the test provides."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Sandbox

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
    sandbox.kubectl("delete", "-f", str(file))
    sandbox.on("pai-master", "rm", "-rf", "/var/lib/test-volume")


@pytest.mark.usefixtures("volume")
def test_a_storage_class_keeps_the_cache_on_a_claim(sandbox: Sandbox) -> None:
    sandbox.up(docker_cache_fs_storage_class="by-hand", docker_cache_fs_size="1Gi")
    assert sandbox.kubectl("get", "pvc", "-o", "jsonpath={.items[0].status.phase}") == "Bound"
    sandbox.pull_anew("pai-worker1", "app:2")
    stored = sandbox.on("pai-master", "find", "/var/lib/test-volume", "-name", "link", "-path", "*library/app*")
    assert stored, "the volume holds nothing of what was pulled"
