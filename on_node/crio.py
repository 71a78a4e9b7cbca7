"""This node's CRI-O: found, and told by SIGHUP that registries.conf(.d) has changed, which it reads into memory.

The signal makes it read crio.conf(.d) anew as well (pkg/config/reload.go), and what it did it tells its log alone.
"""

import glob
import os
import re
import signal
import time
from typing import Dict, List, NamedTuple, Optional

from on_node import tools
from on_node.daemon_json import parse_flags
from on_node.errors import Trouble
from on_node.places import Places
from on_node.tools import arguments, clock_time, environment, processes, start_of

NAME = "crio"
SETTLE = (
    "run `systemctl reload crio` when it suits, or set docker_cache_allow_pending_changes (--allow-pending-changes)"
)
WAIT_SECONDS = 5
TAKEN = "Applied new registry configuration"
REFUSED = re.compile(r"unable to reload configuration:? ?(.*)", re.IGNORECASE)
Crio = NamedTuple(
    "Crio",
    [("pid", int), ("ticks", int), ("files", List[str]), ("elsewhere", List[str]), ("environment", Dict[str, str])],
)
"""A running CRI-O: the files that a reload reads, and where it is told to find registries in place of /etc/containers."""


def find(places: Places) -> Optional[Crio]:
    """The CRI-O that runs here; None where none does: what is started later reads the files. Raises Trouble."""
    pids = processes(places, NAME)
    if len(pids) > 1:
        raise Trouble("several crio run here, processes {}; stop all but one".format(", ".join(map(str, pids))))
    start = start_of(places, pids[0], NAME) if pids else None
    if start is None:
        return None
    flags = parse_flags(arguments(places, pids[0]))
    settings = environment(places, pids[0])
    config = flags.get("config", [places.crio + "/crio.conf"])[-1]
    folder = flags.get("config-dir", [places.crio + "/crio.conf.d"])[-1]
    elsewhere = [
        "--{} {}".format(name, path)
        for name, usual in (("registries-conf", "registries.conf"), ("registries-conf-dir", "registries.conf.d"))
        for path in flags.get(name) or [settings.get("CONTAINER_" + name.upper().replace("-", "_"), "")]
        if path and path.rstrip("/") != os.path.join(places.containers, usual)
    ]
    files = [config] + sorted(glob.glob(os.path.join(glob.escape(folder), "*")))
    return Crio(pids[0], start, files, elsewhere, settings)


def waiting(places: Places, crio: Crio) -> List[str]:
    """The files of CRI-O's own that were changed since it last read them, and that a reload would put into effect."""
    changed = [path for path in crio.files if os.path.isfile(path)]
    times = {path: os.stat(path).st_mtime for path in changed}
    started = clock_time(places, crio.ticks)
    late = [path for path in changed if times[path] > started]
    if not late:
        return []
    reloads = [float(line.split()[0]) for line in log_since(crio, started, "short-unix") if TAKEN in line]
    return [path for path in late if not any(at > times[path] for at in reloads)]


def log_since(crio: Crio, since: float, form: str) -> List[str]:
    """What CRI-O has told the journal since then."""
    words = ["journalctl", "--quiet", "--no-pager", "--output", form, "_PID={}".format(crio.pid)]
    return tools.run_tool(words + ["--since", "@{:.6f}".format(since)], 30)[1].splitlines()


def reload_and_ask(places: Places, crio: Optional[Crio], mirrors: List[str]) -> Optional[str]:
    """Tell CRI-O to read its files, and wait for its word on them; the reason where it did not take them.

    A log that says nothing (its level is above `info`, or the journal is not kept) is no reason.
    """
    if crio is None or start_of(places, crio.pid, NAME) != crio.ticks:
        return None
    begun, deadline = time.time(), time.monotonic() + WAIT_SECONDS
    os.kill(crio.pid, signal.SIGHUP)
    while True:
        said = log_since(crio, begun, "cat")
        taken = [line for line in said if TAKEN in line]
        refused = [match.group(1) for match in map(REFUSED.search, said) if match]
        if start_of(places, crio.pid, NAME) != crio.ticks:
            return "crio (process {}) ended during the reload".format(crio.pid)
        if taken:
            unnamed = [mirror for mirror in mirrors if mirror not in taken[-1]]
            return (
                "CRI-O has read its registries anew, and {} is not among them".format(unnamed[0]) if unnamed else None
            )
        if refused:
            return "CRI-O does not take its configuration: " + refused[-1].strip('" ')
        if time.monotonic() > deadline:
            return None
        time.sleep(0.2)
