"""Files in OpenPAI's and kubespray's forms, and what an import makes of them."""

from pathlib import Path
from typing import Any

from importing.findings import ImportProblems
from importing.result import Imported, plain
from importing.sources import find_sources, import_files
from tests.unit.messages import remember

AZURE_CONFIG = """\
user: forexample
password: forexample
docker_image_tag: v1.5.0

# Optional

#######################################################################
#                    OpenPAI Customized Settings                      #
#######################################################################
# enable_hived_scheduler: true
enable_docker_cache: true
docker_cache_storage_backend: "azure"
docker_cache_azure_account_name: "forexample"
docker_cache_azure_account_key: "forexample"
# docker_cache_azure_container_name: "dockerregistry"
# docker_cache_htpasswd: ""
# enable_marketplace: "true"
"""
FILESYSTEM_CONFIG = """\
user: forexample
password: forexample
docker_image_tag: v1.5.0
enable_docker_cache: true
docker_cache_storage_backend: "filesystem"
# docker_cache_azure_account_name: ""
docker_cache_fs_mount_path: "/var/lib/registry"
# docker_cache_remote_url: "https://registry-1.docker.io"
"""
CONFIG = """\
user: admin
password: "pass-of-admin"
docker_image_tag: v1.8.0
enable_docker_cache: "true"
docker_cache_fs_mount_path: /mnt/cache
"""
LAYOUT = """\
machine-sku:
  master-machine:
    mem: 60GB
    cpu:
      vcore: 24
  gpu-machine:
    computing-device: {type: nvidia.com/gpu, model: K80, count: 4}
    mem: 220GB
    cpu:
      vcore: 24

machine-list:
  - hostname: pai-master
    hostip: 10.0.0.1
    machine-type: master-machine
    pai-master: "true"
  - hostname: pai-worker1
    hostip: 10.0.0.2
    machine-type: gpu-machine
    pai-worker: "true"
  - hostname: pai-worker2
    hostip: 10.0.0.3
    machine-type: gpu-machine
    pai-worker: "true"
"""
HOSTS = """\
all:
  hosts:
    pai-master:
      ip: 10.0.0.1
      access_ip: 10.0.0.1
      ansible_host: 10.0.0.1
      ansible_ssh_user: admin
      ansible_ssh_pass: "pass-of-admin"
      ansible_become_pass: "pass-of-admin"
      ansible_ssh_extra_args: '-o StrictHostKeyChecking=no'
    pai-worker1:
      ip: 10.0.0.2
      access_ip: 10.0.0.2
      ansible_host: 10.0.0.2
      ansible_ssh_user: admin
      ansible_ssh_pass: "pass-of-admin"
      ansible_become_pass: "pass-of-admin"
      ansible_ssh_extra_args: '-o StrictHostKeyChecking=no'
  children:
    kube-master:
      hosts:
        pai-master:
    kube-node:
      hosts:
        pai-master:
        pai-worker1:
    etcd:
      hosts:
        pai-master:
    k8s-cluster:
      children:
        kube-node:
        kube-master:
    calico-rr:
      hosts: {}
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def imported(
    folder: Path, *, config: str | None = None, layout: str | None = None, hosts: str | None = None, **more: str
) -> Imported:
    """The import of a folder with these files; `more` has other files by their path, with `__` for its slashes."""
    named = {"config.yaml": config, "layout.yaml": layout, "hosts.yml": hosts}
    write(folder, {name: text for name, text in named.items() if text is not None})
    write(folder, {name.replace("__", "/").replace("_yml", ".yml"): text for name, text in more.items()})
    try:
        result = import_files(find_sources(folder=str(folder)))
    except ImportProblems as error:
        remember([str(error)])
        raise
    remember(result.unusable)
    return result


def values(result: Imported) -> dict[str, Any]:
    """With the secrets' texts."""
    return {key: plain(value) for key, value in result.values.items()}


def nodes(result: Imported) -> dict[str, dict[str, Any]]:
    """The nodes by name, without their name."""
    return {
        node["name"]: {key: node[key] for key in node if key != "name"} for node in values(result)["docker_cache_nodes"]
    }
