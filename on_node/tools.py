"""Other programs of this node: running them, and what /proc tells of them."""

import os
import shutil
import subprocess
from typing import Dict, List, Optional, Sequence, Tuple

from on_node.errors import Trouble
from on_node.places import Places


def run_tool(argv: Sequence[str], seconds: float, given: bytes = b"") -> Tuple[int, str, str]:
    """A tool's exit status, output and errors; 127 where there is no such tool. ``given`` is its standard input."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
    env = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
    tool = shutil.which(argv[0], path=path)
    if tool is None:
        return 127, "", ""
    try:
        done = subprocess.run(
            [tool] + list(argv[1:]),
            env=dict(env, PATH=path, LC_ALL="C"),
            timeout=seconds,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Trouble(
            "`{}` gave no answer in {:.0f} s; look at its service's journal, mend it, run again".format(
                argv[0], seconds
            )
        ) from None
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def start_of(places: Places, pid: int, name: str = "dockerd") -> Optional[int]:
    """When a process started, in ticks since the boot; None where it has another name or is not of this very system."""
    try:
        process = os.path.join(places.proc, str(pid))
        with open(os.path.join(process, "comm")) as comm:
            if name and comm.read().strip() != name:
                return None
        # A docker inside a container is a dockerd too, in namespaces of its own.
        for kind in ("pid", "mnt"):
            if os.readlink(os.path.join(process, "ns", kind)) != os.readlink(
                os.path.join(places.proc, "self/ns", kind)
            ):
                return None
        with open(os.path.join(process, "stat")) as stats:
            return int(stats.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def processes(places: Places, name: str = "") -> List[int]:
    """The process numbers of this system's programs of that name; of all of them without one."""
    numbers = [int(entry) for entry in os.listdir(places.proc) if entry.isdigit()]
    return sorted(number for number in numbers if start_of(places, number, name) is not None)


def environment(places: Places, pid: int) -> Dict[str, str]:
    """The variables that a process was started with; nothing where it has just ended."""
    try:
        with open(os.path.join(places.proc, str(pid), "environ"), "rb") as source:
            words = source.read().decode("utf-8", "replace").split("\0")
    except OSError:
        return {}
    return dict(word.split("=", 1) for word in words if "=" in word)


def arguments(places: Places, pid: int) -> List[str]:
    """A process's command line, by words; nothing where it has just ended."""
    try:
        with open(os.path.join(places.proc, str(pid), "cmdline"), "rb") as source:
            return source.read().decode("utf-8", "replace").rstrip("\0").split("\0")
    except OSError:
        return []


def clock_time(places: Places, ticks: int) -> float:
    """Ticks since the boot as seconds since 1970, of the clock as it goes now: a clock that is set moves the boot too."""
    with open(os.path.join(places.proc, "stat")) as stats:
        boot = next((int(line.split()[1]) for line in stats if line.startswith("btime")), 0)
    return boot + ticks / float(os.sysconf("SC_CLK_TCK"))
