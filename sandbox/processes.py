"""Finding the sandbox's processes from the host: no file of process ids that could go stale, /proc has the truth."""

import os
from pathlib import Path

from sandbox.layout import STATE

SUPERVISOR_MODULE = "sandbox.supervisor"


def supervisor_command(python: str) -> list[str]:
    """The state folder is named in the command so that two checkouts' supervisors can be told apart."""
    return [python, "-m", SUPERVISOR_MODULE, str(STATE)]


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def supervisor_pids() -> list[int]:
    """The supervisor and the `unshare` above it."""
    return [pid for pid in all_pids() if SUPERVISOR_MODULE in (line := command_line(pid)) and line[-1] == str(STATE)]


def init_pid() -> int | None:
    """The supervisor as the host sees it: it is process 1 of its own PID namespace."""
    return next((pid for pid in supervisor_pids() if namespace_pids(pid)[-1:] == ["1"]), None)


def namespace_pids(pid: int) -> list[str]:
    return status_field(pid, "NSpid")


def parent_pid(pid: int) -> int:
    return int((status_field(pid, "PPid") or ["0"])[0])


def status_field(pid: int, name: str) -> list[str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
    return next((line.split()[1:] for line in lines if line.startswith(f"{name}:")), [])


def leader_pid(machine: str) -> int | None:
    """The machine's systemd as the host sees it."""
    init = init_pid()
    if init is None:
        return None
    nspawn = nspawn_pid(machine, of=init)
    return leader_of(nspawn) if nspawn else None


def nspawn_pid(machine: str, *, of: int) -> int | None:
    """The systemd-nspawn of a machine, a child of the supervisor `of`."""
    return next(
        (pid for pid in all_pids() if f"--machine={machine}" in command_line(pid) and parent_pid(pid) == of), None
    )


def leader_of(nspawn: int) -> int | None:
    return next((pid for pid in all_pids() if parent_pid(pid) == nspawn and is_systemd(pid)), None)


def is_systemd(pid: int) -> bool:
    """False for the child of systemd-nspawn that still prepares the machine."""
    return "".join(command_line(pid)[:1]).endswith("/systemd")
