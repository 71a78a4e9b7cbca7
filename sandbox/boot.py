"""One machine: its root, its network, its start and its end. All of it happens in the supervisor's namespaces.

`python -m sandbox.boot start | halt NAME…`, run in those namespaces, does it for machines that a test wants for a while; what
the command has started becomes the supervisor's child when the command ends.
"""

import argparse
import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

from sandbox import azure_account
from sandbox.control_groups import enter_group, remove_groups
from sandbox.layout import AZURE_IDENTITY_ADDRESS, BRIDGE, FLEET, MACHINES, MACHINES_RUN, NAME, SOURCES, STATE, Machine
from sandbox.processes import all_pids, leader_of, nspawn_pid
from sandbox.rootfs import ROOTFS

EVERY_UNIT = ("control-groups",)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sandbox.boot", description="Start or end machines of the fleet.")
    parser.add_argument("action", choices=("start", "halt"))
    parser.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    do = {"start": start, "halt": halt}[arguments.action]
    for machine in (machine for machine in FLEET if machine.name in arguments.names):
        do(machine)


def start(machine: Machine) -> None:
    prepare_root(machine)
    connect(machine)
    boot(machine)


def halt(machine: Machine) -> None:
    """End it at once, as a power cut does, and remove what it had."""
    nspawn = nspawn_pid(machine.name, of=1)
    leader = leader_of(nspawn) if nspawn else None
    for pid in (leader, nspawn):
        if pid:
            os.kill(pid, signal.SIGKILL)
    while nspawn in all_pids():
        time.sleep(0.05)
    home = Path(MACHINES_RUN) / machine.name
    run("umount", str(home / "root"))
    run("ip", "netns", "delete", machine.name)
    shutil.rmtree(home)
    remove_groups(f"{NAME}/{machine.name}")


def prepare_root(machine: Machine) -> None:
    """Lay the machine's own files over the Debian root, in memory."""
    home = Path(MACHINES_RUN) / machine.name
    upper, work, root = home / "upper", home / "work", home / "root"
    for folder in (upper, work, root):
        folder.mkdir(parents=True)
    for tree in ("every", machine.tree):
        source = SOURCES / "machines" / tree
        if source.is_dir():
            shutil.copytree(source, upper, symlinks=True, dirs_exist_ok=True)
    write_identity(machine, upper)
    enable(machine, upper)
    for volume in machine.volumes:
        (home / "volumes" / volume.lstrip("/")).mkdir(parents=True)
    for place in machine.roomy:
        on_disk(machine, place).mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={ROOTFS},upperdir={upper},workdir={work}", str(root))
    for path in machine.without:
        run("rm", "-r", str(root / path))


def write_identity(machine: Machine, upper: Path) -> None:
    """Name, name server, names of the others, trust in the sandbox's CA, keys."""
    keys = STATE / "keys"
    etc = upper / "etc"
    write(etc / "hostname", machine.name)
    # With an empty machine-id systemd takes the boot for the first one and enables every unit that Debian would.
    write(etc / "machine-id", f"{uuid.uuid4().hex}\n")
    write(etc / "resolv.conf", "nameserver 10.30.0.2\noptions timeout:1 attempts:1\n")
    write(
        etc / "hosts",
        "127.0.0.1 localhost\n" + "".join(f"{other.address} {other.name}\n" for other in (*MACHINES, *FLEET)),
    )
    roots = (ROOTFS / "etc/ssl/certs/ca-certificates.crt").read_text() + (keys / "ca.crt").read_text()
    write(etc / "ssl/certs/ca-certificates.crt", roots)
    write(upper / "root/.ssh/authorized_keys", (keys / "ssh/id_ed25519.pub").read_text(), mode=0o600)
    for name, mode in (("ssh_host_ed25519_key", 0o600), ("ssh_host_ed25519_key.pub", 0o644)):
        write(etc / "ssh" / name, (keys / "ssh" / name).read_text(), mode=mode)
    if machine.name == "hub":
        shutil.copytree(keys / "hub", etc / "hub")
    if machine.name == "azurite":
        shutil.copytree(keys / "azurite", etc / "azurite")
        write(upper / azure_account.SETTINGS.lstrip("/"), azure_account.settings(), mode=0o600)
    if machine.name == "pai-master":
        shutil.copytree(keys / "kubernetes", etc / "kubernetes", dirs_exist_ok=True)


def enable(machine: Machine, upper: Path) -> None:
    wants = upper / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    for unit in (*EVERY_UNIT, *machine.units):
        folder = (
            "/etc/systemd/system" if (upper / f"etc/systemd/system/{unit}.service").exists() else "/lib/systemd/system"
        )
        (wants / f"{unit}.service").symlink_to(f"{folder}/{unit}.service")


def connect(machine: Machine) -> None:
    """A network namespace whose only way out is the sandbox's bridge; without a default route the rest is unreachable at once."""
    link, inside = link_name(machine), ("ip", "-n", machine.name)
    run("ip", "netns", "add", machine.name)
    run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
    run("ip", "link", "set", link, "master", BRIDGE, "up")
    run(*inside, "address", "add", f"{machine.address}/24", "dev", "eth0")
    for address in machine.more_addresses:
        run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "link", "set", "lo", "up")
    if machine.name == "azurite":
        run(*inside, "address", "add", f"{AZURE_IDENTITY_ADDRESS}/32", "dev", "eth0")
    else:
        run(*inside, "route", "add", AZURE_IDENTITY_ADDRESS, "dev", "eth0")


def link_name(machine: Machine) -> str:
    """The bridge's end; the kernel takes 15 characters."""
    return f"v-{machine.name}"[:15]


def on_disk(machine: Machine, folder: str) -> Path:
    return STATE / "disk" / machine.name / folder.lstrip("/")


def boot(machine: Machine) -> None:
    home = Path(MACHINES_RUN) / machine.name
    volumes = [f"--bind={home / 'volumes' / volume.lstrip('/')}:{volume}" for volume in machine.volumes]
    volumes += [f"--bind={on_disk(machine, place)}:{place}" for place in machine.roomy]
    binds = [f"--bind-ro={host}:{inside}" for host, inside in machine.binds.items()]
    log = (STATE / "log" / f"{machine.name}.log").open("wb")
    subprocess.Popen(
        [
            "systemd-nspawn",
            "--quiet",
            f"--machine={machine.name}",
            f"--directory={home / 'root'}",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--capability=all",
            "--console=passive",
            # Container runtimes join a session keyring and load device filters.
            "--system-call-filter=add_key keyctl bpf perf_event_open",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            f"--network-namespace-path=/run/netns/{machine.name}",
            *(f"--tmpfs={folder}:mode=0755,size={size}" for folder, size in machine.disks.items()),
            *volumes,
            *binds,
        ],
        # Only /proc/sys/net is writable inside: the rest of /proc/sys is the host's.
        env=os.environ | {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: enter_group(f"{NAME}/{machine.name}"),
    )


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
