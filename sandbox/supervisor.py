"""Process 1 of the sandbox: owns its mount, network and PID namespace, boots the machines and reaps what they leave.

Started by `lifecycle.py` under `unshare`. When this process ends, the kernel ends every process in its PID namespace, and with
the last of them go the mounts, interfaces and network namespaces. Only control groups remain; `lifecycle.py` removes those.
"""

import os
import sys
from pathlib import Path

from sandbox.boot import run, start
from sandbox.layout import BRIDGE, BRIDGE_ADDRESS, MACHINES, MACHINES_RUN


def main() -> None:
    prepare_namespaces()
    for machine in MACHINES:
        start(machine)
    say("all machines started")
    reap_forever()


def prepare_namespaces() -> None:
    """Nothing mounted here is seen outside: `unshare` made the mounts private."""
    run("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run")
    for folder in ("/run/netns", MACHINES_RUN):
        Path(folder).mkdir()
    run("mount", "-t", "tmpfs", "-o", "mode=0755,size=12g", "tmpfs", MACHINES_RUN)
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "address", "add", BRIDGE_ADDRESS, "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def reap_forever() -> None:
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            sys.exit("no machine is left")
        say(f"process {pid} ended with status {os.waitstatus_to_exitcode(status)}")


def say(text: str) -> None:
    print(f"supervisor: {text}", flush=True)


if __name__ == "__main__":
    main()
