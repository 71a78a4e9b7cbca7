"""This node's containerd, as Kubernetes uses it: hosts.toml in the folder that config_path names, which needs no restart.

Setting config_path itself takes one restart of containerd, which is done where that is allowed. Only the registries that are
served are mirrored, never ``_default``: a cache of Docker Hub alone may answer for another registry's image of the same name.
"""

import glob
import os
import re
import stat
import tempfile
import time
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from on_node import docker, owned, tools
from on_node.address import CERTIFICATE_FILE, Entry, Mirror
from on_node.containerd_config import Dump, parse_dump, with_config_path
from on_node.daemon_json import parse_flags
from on_node.engine import Change, Options, Said
from on_node.errors import Trouble
from on_node.files import read_file
from on_node.hosts_toml import mirror_block, missing, with_absolute_paths, with_mirror
from on_node.owned import Wanted
from on_node.places import Places
from on_node.proxy import proxies_of, proxy_problems
from on_node.room import unwritable
from on_node.tools import arguments, clock_time, environment, processes, start_of

NAME = "containerd"
DEFAULT_PATH = "/etc/containerd/certs.d"
# Since 2.2 that is where containerd looks of itself (plugins/cri/images/plugin.go of 2.4), which its dump does not show.
BUILT_IN_FOLDERS = [DEFAULT_PATH, "/etc/docker/certs.d"]
LEAVE_OUT = "or leave containerd out of docker_cache_engines"

Containerd = NamedTuple(
    "Containerd",
    [
        ("pid", int),
        ("ticks", int),
        ("program", str),
        ("config", str),
        ("address", str),
        ("version", Tuple[int, ...]),
        ("version_text", str),
    ],
)


def find(places: Places) -> Optional[Containerd]:
    """The running containerd of this system that is not docker's own; None where there is none. Raises Trouble."""
    found = []
    for pid in processes(places, "containerd"):
        words = arguments(places, pid)
        config = flag_of(words, "config", "c") or "/etc/containerd/config.toml"
        if "/docker/containerd/" not in config:
            found.append((pid, config, flag_of(words, "address", "a")))
    if not found:
        return None
    if len(found) > 1:
        numbers = ", ".join(str(pid) for pid, _, _ in found)
        raise Trouble("several containerd run here, processes {}; stop all but one, {}".format(numbers, LEAVE_OUT))
    pid, config, address = found[0]
    program = os.readlink(os.path.join(places.proc, str(pid), "exe")).replace(" (deleted)", "")
    text = re.search(r"containerd\S* v?(\d[^ \n]*)", tools.run_tool([program, "--version"], 30)[1])
    version = text.group(1) if text else "?"
    release = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    return Containerd(pid, start_of(places, pid, NAME) or 0, program, config, address, release, version)


def flag_of(words: List[str], *names: str) -> str:
    """The value of a flag of containerd, which takes one dash or two; empty where it is not given."""
    for at, word in enumerate(words):
        name, _, value = word.partition("=")
        if name.startswith("-") and name.lstrip("-") in names:
            return value or "".join(words[at + 1 : at + 2])
    return ""


def is_used(places: Places) -> bool:
    """Whether images are pulled by containerd: docker brings one along that nobody asks for images."""
    return docker.find_docker(places) is None or any("containerd" in endpoint for endpoint in kubelet_endpoints(places))


def kubelet_endpoints(places: Places) -> List[str]:
    """Where the kubelets of this system find their container engine."""
    found = []
    for pid in processes(places):
        words = arguments(places, pid)
        if "kubelet" not in [os.path.basename(word) for word in words[:2]]:
            continue
        flags = parse_flags(words)
        settings = (read_file(flags["config"][-1])[0] or b"").decode("utf-8", "replace") if flags.get("config") else ""
        named = re.search(r"^\s*containerRuntimeEndpoint:\s*[\"']?([^\s\"']+)", settings, re.MULTILINE)
        is_dockershim = flags.get("container-runtime") == ["docker"]
        default = "docker" if is_dockershim else named.group(1) if named else "unix:///run/containerd/containerd.sock"
        found.append((flags.get("container-runtime-endpoint") or [default])[-1])
    return found


def config_dump(found: Containerd, config: str) -> Dump:
    """What containerd makes of a configuration file. Raises Trouble."""
    status, text, _ = tools.run_tool([found.program, "--config", config, "config", "dump"], 30)
    if status:
        raise Trouble(
            "`containerd --config {} config dump` fails with status {}; mend that file".format(config, status)
        )
    return parse_dump(text)


def folders_of(found: Containerd, dump: Dump) -> List[str]:
    """The folders in which containerd would look for hosts.toml with these settings.

    From 2.1 on the transfer service pulls, which takes several folders, with colons between them, for one that is not there
    (internal/cri/server/images/image_pull.go of 2.4; seen): so does the default of 2.2.
    """
    folders = dump.config_path.split(":") if dump.config_path else []
    is_one = len(folders) < 2 or found.version < (2, 1) or dump.pulls_itself
    if not folders and found.version >= (2, 2) and dump.pulls_itself and not dump.has_mirrors:
        return BUILT_IN_FOLDERS
    return folders if is_one else []


def is_in_force(places: Places, found: Containerd, dump: Dump) -> bool:
    """Whether containerd has read its files since they were last written."""
    files = [found.config] + [path for pattern in dump.imports for path in glob.glob(pattern)]
    # The time of the boot is known in whole seconds only.
    started = clock_time(places, found.ticks) + 2
    return all(read_file(path)[1] < started * 1e9 for path in files)


def prepare(places: Places, mirror: Mirror, options: Options) -> Optional[Change]:
    """What has to be done for containerd to pull through the mirror; None where it pulls nothing. Raises Trouble."""
    found, record = find(places), owned.load(places, NAME)
    if found is None or not (is_used(places) or record["files"]):
        return None
    dump = config_dump(found, found.config)
    if not dump.has_cri:
        return None
    if "/rancher/" in found.config:
        raise Trouble(
            "{} is written by k3s or rke2 at each start: write the mirror into /etc/rancher/*/registries.yaml, {}".format(
                found.config, LEAVE_OUT
            )
        )
    folders = folders_of(found, dump)
    wanted = mirror_files(found, mirror, folders or [config_path(dump)], record)
    restart = not folders or not is_in_force(places, found, dump)
    config = config_file(found, dump, record)
    if restart:
        refuse_restart(found, dump, config, allowed=options.allow_restart)
    wanted += [config] if config else []
    settled = owned.is_settled(record, wanted) and not restart
    problems = proxy_problems(mirror.entries, proxies_of(environment(places, found.pid)), NAME)
    if not settled:
        problems += unwritable([places.state] + [os.path.dirname(file.path) for file in wanted])
    if problems:
        raise Trouble(*problems)

    def carry_it_out() -> Said:
        undo = owned.write(places, NAME, options.owner, wanted)
        if restart:
            restart_or_undo(places, found, undo)
        done = "nothing touched" if settled else "restarted for config_path" if restart else "hosts.toml written"
        return Said("live", ["containerd " + found.version_text, done], [], undo)

    return Change(settled=settled, carry_out=carry_it_out)


def restart_or_undo(places: Places, found: Containerd, undo: Callable[[], None]) -> None:
    """Restart containerd; where it does not come back, put the files back and start it as it was. Raises Trouble then."""
    reason = restart_containerd(places, found)
    if reason:
        undo()
        ending = restart_containerd(places, found) or "containerd runs as before"
        raise Trouble(
            "the change was taken back: {}; {}; mend that (`journalctl -u containerd`), run again".format(
                reason, ending
            )
        )


def config_path(dump: Dump) -> str:
    """What config_path is set to where nothing is in force: the first folder that is named, or else the usual one."""
    return dump.config_path.split(":")[0] or DEFAULT_PATH


def folder_of(folders: Sequence[str], upstream: str) -> str:
    """The folder of that registry that containerd takes: the first one with a hosts.toml, or else in the first path.

    Of a registry with a port it looks for `host_port_` before `host:port` (core/remotes/docker/config/hosts.go of 2.4).
    """
    names = [re.sub(r":(\d+)$", r"_\1_", upstream), upstream]
    found = [os.path.join(folder, name) for folder in folders for name in names]
    usual = os.path.join(folders[0], upstream)
    return next((folder for folder in found if os.path.exists(os.path.join(folder, "hosts.toml"))), usual)


def mirror_files(found: Containerd, mirror: Mirror, folders: Sequence[str], record: owned.Record) -> List[Wanted]:
    """What each registry's folder gets."""
    return [
        file
        for upstream in mirror.upstreams
        for file in files_in(folder_of(folders, upstream), found, mirror.entries, record)
    ]


def files_in(folder: str, found: Containerd, entries: Sequence[Entry], record: owned.Record) -> List[Wanted]:
    """hosts.toml, with the certificate that it names; nothing where the administrator's own file has this mirror."""
    path, certificate = os.path.join(folder, "hosts.toml"), os.path.join(folder, CERTIFICATE_FILE)
    base, text = owned.original(record, path), entries[0].certificate
    is_secret = bool(entries[0].authorization)
    if base is None:
        # A folder for the registry hides what the administrator has for all of them.
        base, is_hidden = for_all(folder)
        is_secret = is_secret or is_hidden
    new = missing(base, entries, path)
    if not new:
        return []
    block = mirror_block(new, certificate if text else None, dial_timeout=found.version >= (2, 1))
    files = [Wanted(path, with_mirror(base, block, path), 0o600 if is_secret else None)]
    return files + ([Wanted(certificate, text.encode("utf-8"), None)] if text else [])


def for_all(folder: str) -> Tuple[Optional[bytes], bool]:
    """The hosts that containerd takes where a registry has no folder of its own, and whether they are for some to read alone."""
    path = os.path.join(os.path.dirname(folder), "_default", "hosts.toml")
    found = owned.look(path)
    if found.raw is None:
        return None, False
    return with_absolute_paths(found.raw, path), not found.mode & stat.S_IROTH


def config_file(found: Containerd, dump: Dump, record: owned.Record) -> Optional[Wanted]:
    """config.toml with config_path in it, where that is missing or was put in by us. Raises Trouble."""
    if folders_of(found, dump) and found.config not in record["files"]:
        return None
    base = owned.original(record, found.config)
    return Wanted(found.config, with_config_path(base, config_path(dump), found.config), None)


def refuse_restart(found: Containerd, dump: Dump, config: Optional[Wanted], *, allowed: bool) -> None:
    """Stop before anything is written where containerd would have to be restarted and may not, or can't be safely."""
    reason = (
        "config_path is not set to one folder in {}".format(found.config)
        if not folders_of(found, dump)
        else "{} was changed after containerd's start".format(found.config)
    )
    if not allowed:
        raise Trouble(
            "containerd {} has to be restarted once ({}); containers go on running: set docker_cache_allow_restart: true, "
            "{}".format(found.version_text, reason, LEAVE_OUT)
        )
    problems = []
    if dump.has_mirrors:
        problems.append(
            "{} has mirrors or configs of registries, which containerd refuses beside config_path; move them into "
            "hosts.toml files (containerd docs/hosts.md), {}".format(found.config, LEAVE_OUT)
        )
    status, shown, _ = tools.run_tool(
        ["systemctl", "show", "containerd.service", "-p", "MainPID", "-p", "KillMode"], 30
    )
    facts = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    if status or facts.get("MainPID") != str(found.pid):
        problems.append(
            "containerd (process {}) is no containerd.service of systemd's, and has to be restarted ({}); restart it "
            "yourself with config_path set, {}".format(found.pid, reason, LEAVE_OUT)
        )
    elif facts.get("KillMode") != "process":
        problems.append(
            "containerd.service has KillMode={}: a restart would end its containers; set KillMode=process, {}".format(
                facts.get("KillMode"), LEAVE_OUT
            )
        )
    problems += trial(found, dump, config) if config and not problems else []
    if problems:
        raise Trouble(*problems)


def trial(found: Containerd, dump: Dump, config: Wanted) -> List[str]:
    """Whether containerd takes the file as it would be, and sees no other change in it: nothing, or one problem."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(config.raw)
        file.flush()
        try:
            fresh = config_dump(found, file.name)
        except Trouble:
            fresh = None
    if fresh and fresh.config_path == config_path(dump) and fresh.rest == dump.rest:
        return []
    return [
        "config_path can't be set safely in {}: containerd reads more into the change; set it there yourself to {} and "
        "restart containerd, {}".format(found.config, config_path(dump), LEAVE_OUT)
    ]


def restart_containerd(places: Places, found: Containerd) -> Optional[str]:
    """Restart containerd and wait until it answers; else the reason."""
    status, _, _ = tools.run_tool(["systemctl", "restart", "containerd.service"], 120)
    if status:
        return "`systemctl restart containerd` failed with status {}".format(status)
    deadline = time.monotonic() + 30
    while True:
        fresh = find(places)
        if fresh and fresh.ticks != found.ticks and answers(fresh):
            return None
        if time.monotonic() > deadline:
            return "containerd did not answer within 30 s of its restart"
        time.sleep(0.5)


def answers(found: Containerd) -> bool:
    """Whether containerd answers on its socket."""
    address = ["--address", found.address] if found.address else []
    return tools.run_tool(["ctr"] + address + ["version"], 15)[0] == 0


def owner_of(places: Places) -> Optional[str]:
    """Who keeps containerd's mirror here."""
    return owned.owner_of(places, NAME)


def prepare_removal(places: Places, options: Options) -> Optional[Change]:
    """What has to be done to take our mirror out of containerd; None where nothing is ours. Raises Trouble."""
    record = owned.load(places, NAME)
    if not record["files"]:
        # What a run that was killed before its record, or after it, left.
        owned.write(places, NAME, None, [])
        return None

    def carry_it_out() -> Said:
        stay = owned.changed_by_others(record)
        undo = owned.write(places, NAME, options.owner, [])
        said = ["{} was changed by somebody and stays".format(path) for path in stay] or ["hosts.toml as it was"]
        configs = [path for path in record["files"] if path.endswith("config.toml")]
        said += ["config.toml as it was, which containerd takes at its next restart"] if configs else []
        return Said("removed", [], said, undo)

    return Change(settled=False, carry_out=carry_it_out)
