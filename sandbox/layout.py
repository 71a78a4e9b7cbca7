"""Where the sandbox keeps things, and what its machines are: constants only."""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "sandbox"
STATE = ROOT / ".sandbox"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "docker-cache"
BIN = CACHE / "bin"
LOGS = STATE / "log"
KUBECONFIG = STATE / "kubeconfig"
VENV_BIN = ROOT / ".venv" / "bin"

NAME = "docker-cache-sandbox-" + hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
"""Names this checkout's control groups, so that two checkouts' sandboxes can run side by side."""

BRIDGE = "sandbox0"
BRIDGE_ADDRESS = "10.30.0.1/24"
NETWORKS = "10.30.0.0/24,127.0.0.0/8"
MACHINES_RUN = "/run/machines"
"""In the supervisor's own mount namespace."""

AZURE_ADDRESS = "10.30.0.3"
AZURE_ACCOUNT = "sandboxcache"
"""The one storage account that there is in the sandbox's Azure."""
AZURE_BLOB_SERVICE = f"https://{AZURE_ADDRESS}:10000/{AZURE_ACCOUNT}"
AZURE_KEYS = STATE / "keys" / "azure"
AZURE_IDENTITY_ADDRESS = "169.254.169.254"
"""Where a virtual machine in Azure asks for its identity's tokens."""
REGISTRIES = {"docker.io": 9000, "quay.io": 9001, "ghcr.io": 9002, "private.example:5000": 9003}
"""Public registries that the hub machine stands for, with the port there that tells what each has served."""
ROBOT = "robot"
ROBOT_FILE = STATE / "keys" / "hub" / "robot"
"""`user:password` of the one who may pull from private.example:5000."""
CA = STATE / "keys" / "ca.crt"
AZURE_STATE = STATE / "azure" / "state.json"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One systemd-nspawn container: its address, the units it starts and the host folders it sees (host: inside)."""

    name: str
    address: str
    units: tuple[str, ...]
    binds: dict[Path, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    """Files and folders of the Debian root that this machine does not have."""
    disks: dict[str, str] = field(default_factory=dict)
    """Folders that are a small file system of their own, with its size: for disks that fill up."""
    family: str = ""
    """Machines of one family have the same files laid over their root."""
    more_addresses: tuple[str, ...] = ()
    """Where it stands for others as well."""
    roomy: tuple[str, ...] = ()
    """Folders on the host's disk, for what is too large for memory."""
    volumes: tuple[str, ...] = ()
    """Folders that must not lie on an overlay, since an overlay file system is mounted in them."""

    @property
    def tree(self) -> str:
        """The folder of `sandbox/machines/` that is laid over its root, where there is one."""
        return self.family or self.name


DOCKER_OF_DEBIAN = ("usr/sbin/dockerd", "usr/bin/docker", "usr/lib/systemd/system/docker.service", "etc/init.d/docker")
CONTAINERD_OF_DEBIAN = (
    "usr/bin/containerd",
    "usr/bin/ctr",
    "usr/lib/systemd/system/containerd.service",
    "etc/containerd",
)
PODMAN_OF_DEBIAN = ("usr/bin/podman", "etc/containers", "etc/cni/net.d/87-podman-bridge.conflist")

MACHINES = (
    Machine(
        name="hub",
        address="10.30.0.2",
        more_addresses=("10.30.0.4", "10.30.0.5", "10.30.0.6"),
        units=("ssh", "dnsmasq", "upstream", "hub", "quay", "ghcr", "private"),
        binds={BIN / "registry": "/opt/tools"},
        volumes=("/var/lib/hub",),
    ),
    Machine(
        name="azurite",
        address=AZURE_ADDRESS,
        units=("azurite", "imds"),
        binds={BIN / "azurite": "/opt/tools"},
    ),
    Machine(
        name="pai-master",
        address="10.30.0.10",
        units=(
            "ssh",
            "etcd",
            "containerd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "import-images",
            "kernel-settings",
            "kubelet",
            "kube-proxy",
        ),
        binds={BIN / "kubernetes": "/opt/tools", BIN / "crictl": "/usr/local/bin", STATE / "images": "/opt/images"},
        without=(*DOCKER_OF_DEBIAN, *PODMAN_OF_DEBIAN),
        disks={"/var/lib/registry": "1g"},
        roomy=("/var/lib/roomy",),
        volumes=("/var/lib/containerd", "/var/lib/kubelet"),
    ),
    Machine(
        name="pai-worker1",
        address="10.30.0.11",
        units=("ssh", "containerd", "docker"),
        without=PODMAN_OF_DEBIAN,
        roomy=("/var/lib/roomy",),
        volumes=("/var/lib/docker", "/var/lib/containerd"),
    ),
    Machine(
        name="pai-worker2",
        address="10.30.0.12",
        units=("ssh", "containerd", "docker"),
        binds={
            BIN / "engine": "/usr/local/sbin",
            BIN / "docker-cli": "/usr/local/bin",
            BIN / "runc": "/opt/runc",
        },
        without=(
            "usr/sbin/dockerd",
            "usr/bin/docker",
            "usr/bin/containerd",
            "usr/bin/ctr",
            "usr/sbin/runc",
            *PODMAN_OF_DEBIAN,
        ),
        roomy=("/var/lib/roomy",),
        volumes=("/var/lib/docker", "/var/lib/containerd"),
    ),
    Machine(
        name="pai-worker3",
        address="10.30.0.13",
        units=("ssh", "containerd", "import-images"),
        binds={
            BIN / "engine" / "containerd": "/usr/local/sbin/containerd",
            BIN / "engine" / "containerd-shim-runc-v2": "/usr/local/sbin/containerd-shim-runc-v2",
            BIN / "engine" / "ctr": "/usr/local/sbin/ctr",
            BIN / "crictl": "/usr/local/bin",
            BIN / "runc": "/opt/runc",
            STATE / "images" / "node": "/opt/images/node",
        },
        without=(*DOCKER_OF_DEBIAN, "usr/bin/containerd", "usr/bin/ctr", "usr/sbin/runc", *PODMAN_OF_DEBIAN),
        roomy=("/var/lib/roomy",),
        volumes=("/var/lib/containerd",),
    ),
    Machine(
        name="pai-worker4",
        address="10.30.0.14",
        units=("ssh", "crio"),
        binds={
            BIN / "crio" / "crio": "/usr/local/bin/crio",
            BIN / "crictl" / "crictl": "/usr/local/bin/crictl",
        },
        without=(*DOCKER_OF_DEBIAN, *CONTAINERD_OF_DEBIAN),
        roomy=("/var/lib/roomy",),
        volumes=("/var/lib/containers",),
    ),
)

FLEET = tuple(
    Machine(
        name=f"pai-fleet{number:02}",
        address=f"10.30.0.{100 + number}",
        family="pai-fleet",
        units=("ssh", "containerd", "docker"),
        without=PODMAN_OF_DEBIAN,
        volumes=("/var/lib/docker", "/var/lib/containerd"),
    )
    for number in range(1, 21)
)
"""Docker nodes that are booted only when a test asks for them (`fleet.py`)."""
