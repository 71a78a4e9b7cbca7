"""kube-router on the cluster's node, which enforces NetworkPolicies while a test wants it: `with policy_engine.running():`.

Of kube-router only the firewall runs. It lives beside kube-proxy, which keeps the Services.
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox.enter import ask, in_machine
from sandbox.layout import BIN, KUBECONFIG
from sandbox.lifecycle import prepare_all_tools
from sandbox.progress import SandboxError

NODE = "pai-master"
PROGRAM = "/usr/local/sbin/kube-router"
ACCESS = "/etc/kubernetes/kube-router.kubeconfig"
OPTIONS = (
    f"--kubeconfig={ACCESS}",
    f"--hostname-override={NODE}",
    "--run-firewall=true",
    "--run-router=false",
    "--run-service-proxy=false",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--service-node-port-range=30000-32767",
)
CLEANUP = """
iptables-save -t filter | grep -vE 'KUBE-(ROUTER|POD-FW|NWPLCY)' | iptables-restore -T filter
for set in $(ipset list -name | grep ^KUBE-); do ipset destroy $set; done
"""
"""kube-router's own (`--cleanup-config`) leaves its rules where there is no IPVS."""
READY_SECONDS = 180


@contextlib.contextmanager
def running() -> Iterator[None]:
    start()
    try:
        yield
    finally:
        stop()


def start() -> None:
    prepare_all_tools()
    send(BIN / "kube-router" / "kube-router", PROGRAM, mode="0755")
    send(KUBECONFIG, ACCESS, mode="0600")
    require("systemd-run", "--unit=kube-router", "--collect", PROGRAM, *OPTIONS)
    deadline = time.monotonic() + READY_SECONDS
    while "KUBE-ROUTER-FORWARD" not in rules():
        if time.monotonic() > deadline:
            raise SandboxError(f"kube-router made no rules: `sandbox/exec {NODE} journalctl -u kube-router` tells more")
        time.sleep(0.5)


def stop() -> None:
    """Without its rules, which would outlive it."""
    ask(NODE, "systemctl", "stop", "kube-router")
    require("sh", "-ec", CLEANUP)
    require("rm", "-f", PROGRAM, ACCESS)


def rules() -> str:
    return require("iptables", "-S").stdout


def send(source: Path, target: str, *, mode: str) -> None:
    with source.open("rb") as content:
        command = in_machine(NODE, ["install", "-m", mode, "/dev/stdin", target])
        subprocess.run(command, stdin=content, check=True, timeout=60)


def require(*command: str) -> "subprocess.CompletedProcess[str]":
    done = ask(NODE, *command)
    if done.returncode:
        raise SandboxError(f"{NODE}: {' '.join(command)}: {done.stderr}")
    return done
