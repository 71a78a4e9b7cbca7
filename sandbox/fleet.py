"""Twenty more docker nodes beside the running sandbox, for tests that want many: booted when asked for, and ended again."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from sandbox import lifecycle
from sandbox.enter import in_namespaces
from sandbox.layout import FLEET, ROOT, Machine
from sandbox.processes import leader_pid
from sandbox.progress import step

BATCH = 4
"""Machines that boot at the same time: more of them only wait for the processor, each until it gives up."""


def start(count: int = len(FLEET)) -> tuple[Machine, ...]:
    """Boot the first `count` machines and wait until docker and sshd answer on each; those that run are kept."""
    wanted = FLEET[:count]
    missing = [machine for machine in wanted if leader_pid(machine.name) is None]
    with step(f"Booting {len(missing)} docker nodes"), ThreadPoolExecutor(BATCH) as pool:
        for booted in [pool.submit(boot, machine) for machine in missing]:
            booted.result()
    return wanted


def boot(machine: Machine) -> None:
    command("start", machine)
    lifecycle.wait_for(f"docker on {machine.name}", lambda: lifecycle.docker_answers(machine.name))


def stop() -> None:
    """End all that run, with everything on them."""
    running = [machine for machine in FLEET if leader_pid(machine.name)]
    if running:
        command("halt", *running)


def command(action: str, *machines: Machine) -> None:
    names = [machine.name for machine in machines]
    subprocess.run(in_namespaces([sys.executable, "-m", "sandbox.boot", action, *names]), cwd=ROOT, check=True)


def nodes(count: int = len(FLEET)) -> list[dict[str, object]]:
    """The first `count` machines as entries of `docker_cache_nodes`."""
    return [
        {"name": machine.name, "host": machine.address, "host_key_path": ".sandbox/keys/ssh/ssh_host_ed25519_key.pub"}
        for machine in FLEET[:count]
    ]
