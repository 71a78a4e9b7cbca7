"""Control groups of the sandbox, in every hierarchy that the host has (version 1 and version 2 alike).

Each machine gets one of its own, so that its systemd sees itself at the root and never touches another machine's processes.
"""

import os
import time
from pathlib import Path

CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


def hierarchies() -> list[Path]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(fields[1]) for fields in mounts if fields[2] in {"cgroup", "cgroup2"}]


def enter_group(name: str) -> None:
    """Move the calling process there, in every hierarchy. Called between fork and exec."""
    for hierarchy in hierarchies():
        folder = hierarchy
        for part in name.split("/"):
            child = folder / part
            child.mkdir(exist_ok=True)
            for file in CPUSET_FILES:
                # Version 1 does not let a process into a group without CPUs and memory nodes.
                if (child / file).is_file() and not (child / file).read_text().strip():
                    (child / file).write_text((folder / file).read_text())
            folder = child
        (folder / "cgroup.procs").write_text(str(os.getpid()))


def remove_groups(name: str) -> None:
    """Remove the tree of groups; its processes have ended."""
    for hierarchy in hierarchies():
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            remove_group(Path(folder))


def remove_group(folder: Path) -> None:
    for _ in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            # Still busy: the kernel has not buried the last process yet.
            time.sleep(0.1)
        else:
            return
