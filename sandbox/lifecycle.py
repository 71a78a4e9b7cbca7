"""Starting, awaiting and stopping the sandbox."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from sandbox import azurite, cluster_images, front_images, identities, rootfs, toolchain
from sandbox.control_groups import hierarchies, remove_groups
from sandbox.enter import ask, in_network
from sandbox.layout import CACHE, KUBECONFIG, LOGS, MACHINES, NAME, REGISTRIES, STATE
from sandbox.packages import install_packages
from sandbox.processes import init_pid, leader_pid, supervisor_command, supervisor_pids
from sandbox.progress import SandboxError, say, step

PROGRAMS = {
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "systemd-nspawn": "systemd-container",
    "unshare": "util-linux",
}
"""Program: the Debian package that has it."""
READY_SECONDS = 300
SEEDED = "/run/seeded"
"""A file on the hub, which ends with it: it has its images."""
INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
MANY_INSTANCES = 4096
"""A booted machine takes ten or more; the kernel's default of 128 is for all processes of a user together."""


def missing_requirements() -> list[str]:
    """What this machine lacks for the sandbox, each with its remedy; empty where it can run."""
    if sys.platform != "linux":
        return [f"Linux (this is {sys.platform}): the sandbox is made of Linux namespaces"]
    missing = []
    if os.geteuid() != 0:
        missing.append(f"root (this is user {os.geteuid()}): run it as root, the sandbox mounts and makes namespaces")
    elif subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True, check=False
    ).returncode:
        missing.append("namespaces: `unshare --mount --net --pid` is refused here (an unprivileged container?)")
    if not hierarchies():
        missing.append("control groups: none is mounted at /sys/fs/cgroup")
    lacking = lacking_packages()
    if lacking and not shutil.which("apt-get"):
        missing.append(f"programs: install {', '.join(lacking)} (no apt-get here to do it)")
    return missing


def require() -> None:
    missing = missing_requirements()
    if missing:
        raise SandboxError(
            "this machine can't run the sandbox. Missing:\n" + "\n".join(f"  - {item}" for item in missing)
        )


def up() -> None:
    """Bring the sandbox up, whatever an earlier run left; a running one is kept as it is."""
    require()
    prepare_tools()
    if init_pid() and all(leader_pid(machine.name) for machine in MACHINES):
        await_ready()
        return
    stop()
    try:
        start()
        await_ready()
    except BaseException:
        stop()
        raise


def prepare_tools() -> None:
    install_programs()
    with one_at_a_time(CACHE / "lock"):
        rootfs.ensure()
        front_images.ensure()
        toolchain.ensure()
        azurite.ensure()


def prepare_all_tools() -> None:
    """The tests' own too."""
    prepare_tools()
    with one_at_a_time(CACHE / "lock"):
        toolchain.build_missing(toolchain.TEST_TOOLS)


@contextlib.contextmanager
def one_at_a_time(file: Path) -> Iterator[None]:
    """The tools are every checkout's: one builds them and the others wait."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def install_programs() -> None:
    packages = lacking_packages()
    if packages:
        install_packages(*packages)


def lacking_packages() -> list[str]:
    """The packages whose programs this machine does not have."""
    return sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})


def start() -> None:
    say("Starting the machines …")
    if int(INOTIFY_INSTANCES.read_text()) < MANY_INSTANCES:
        with suppress(OSError):
            INOTIFY_INSTANCES.write_text(str(MANY_INSTANCES))
    LOGS.mkdir(parents=True, exist_ok=True)
    identities.write(STATE / "keys", KUBECONFIG)
    cluster_images.write(STATE / "images")
    with (LOGS / "supervisor.log").open("wb") as log:
        subprocess.Popen(
            # --kill-child: should unshare itself be killed, its child goes too.
            [
                "unshare",
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                *supervisor_command(sys.executable),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def await_ready() -> None:
    with step("Waiting for the cluster, the hub, Azurite and the nodes"), ThreadPoolExecutor() as pool:
        waits = [
            pool.submit(seed_hub),
            pool.submit(wait_for, "Azurite", azurite_answers),
            pool.submit(wait_for, "pai-master to be Ready", node_is_ready),
            pool.submit(wait_for, "docker on pai-worker1", lambda: docker_answers("pai-worker1")),
            pool.submit(wait_for, "docker on pai-worker2", lambda: docker_answers("pai-worker2")),
            pool.submit(wait_for, "containerd on pai-worker3", lambda: containerd_answers("pai-worker3")),
            pool.submit(wait_for, "CRI-O on pai-worker4", lambda: crio_answers("pai-worker4")),
        ]
        for wait in waits:
            wait.result()


def wait_for(what: str, is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not is_there():
        if not supervisor_pids():
            raise SandboxError(f"the supervisor ended while waiting for {what}: see {LOGS / 'supervisor.log'}")
        if time.monotonic() > deadline:
            raise SandboxError(
                f"gave up after {READY_SECONDS} s waiting for {what}: `sandbox/exec MACHINE journalctl -b` tells more"
            )
        time.sleep(0.3)


def seed_hub() -> None:
    wait_for(
        "the hub",
        lambda: (
            answers("hub", "curl", "-sf", "http://127.0.0.1:5001/v2/")
            and all(answers("hub", "curl", "-sf", f"http://127.0.0.1:{port}/stats") for port in REGISTRIES.values())
        ),
    )
    if not answers("hub", "test", "-e", SEEDED):
        push_to_hub()
        ask("hub", "touch", SEEDED)


def push_to_hub(*arguments: str) -> None:
    """What hub_content.py pushes; its arguments are told there."""
    leader = leader_pid("hub")
    command = ["nsenter", "--target", str(leader), "--net", "--", sys.executable, "-m", "sandbox.hub_content"]
    subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)


def node_is_ready() -> bool:
    query = ["get", "node", "pai-master", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}']
    return kubectl(*query).stdout == "True" and answers(
        "pai-master", "systemctl", "is-active", "kube-proxy", "import-images"
    )


def kubectl(*arguments: str) -> subprocess.CompletedProcess[str]:
    if init_pid() is None:
        return subprocess.CompletedProcess(arguments, 1, "", "")
    command = [*toolchain.kubectl_command(), "--kubeconfig", str(KUBECONFIG), "--request-timeout=5s", *arguments]
    return subprocess.run(in_network(command), capture_output=True, text=True, check=False)


def azurite_answers() -> bool:
    return answers("azurite", "curl", "-s", "-o", "/dev/null", "https://127.0.0.1:10000/")


def docker_answers(machine: str) -> bool:
    return answers(machine, "docker", "info") and sshd_runs(machine)


def containerd_answers(machine: str) -> bool:
    return answers(machine, "crictl", "info") and answers(machine, "systemctl", "is-active", "ssh", "import-images")


def crio_answers(machine: str) -> bool:
    return answers(machine, "crictl", "version") and sshd_runs(machine)


def sshd_runs(machine: str) -> bool:
    return answers(machine, "systemctl", "is-active", "ssh")


def answers(machine: str, *command: str) -> bool:
    return leader_pid(machine) is not None and ask(machine, *command).returncode == 0


def down() -> None:
    stop()
    shutil.rmtree(STATE, ignore_errors=True)


def stop() -> None:
    """End the supervisor and with it everything in its namespaces; then remove what the kernel leaves.

    The Pulumi state of the dev stack goes too, and that of the Azure stand-in: what they describe has just ended.
    """
    for pid in supervisor_pids():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    while supervisor_pids():
        time.sleep(0.1)
    remove_groups(NAME)
    for leftover in ("pulumi", "keys", "images", "azure", "disk", "pulumi-home"):
        shutil.rmtree(STATE / leftover, ignore_errors=True)
