"""Commands that run inside the sandbox, from the host."""

import os
import subprocess
from collections.abc import Sequence

from sandbox.layout import FLEET, MACHINES, ROOT
from sandbox.processes import init_pid, leader_pid
from sandbox.progress import SandboxError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMES = tuple(machine.name for machine in (*MACHINES, *FLEET))


def in_machine(name: str, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` as root in a machine, with the machine's own environment."""
    if name not in NAMES:
        raise SandboxError(f'no machine is called "{name}": there are {", ".join(NAMES)}')
    leader = leader_pid(name)
    if leader is None:
        raise SandboxError(f"{name} is not running: `make up` starts the sandbox")
    environment = ["env", "-i", f"PATH={PATH}", "HOME=/root", "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}"]
    namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]
    return ["nsenter", "--target", str(leader), *namespaces, "--", *environment, *command]


def in_network(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` with the host's files and the sandbox's network."""
    init = init_pid()
    if init is None:
        raise SandboxError("the sandbox is not running: `make up` starts it")
    return ["nsenter", "--target", str(init), "--net", "--", *command]


def in_namespaces(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` beside the supervisor: its mounts, its network, its processes."""
    init = init_pid()
    if init is None:
        raise SandboxError("the sandbox is not running: `make up` starts it")
    return ["nsenter", "--target", str(init), "--mount", "--net", "--pid", "--wdns=" + str(ROOT), "--", *command]


def ask(name: str, *command: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command in a machine and wait; the result holds exit status and output."""
    return subprocess.run(in_machine(name, command), capture_output=True, text=True, timeout=seconds, check=False)
