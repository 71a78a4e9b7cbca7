"""A small pull by the engine itself, timed, once it has the mirror.

An engine goes to Docker Hub in silence where a mirror fails, so a pull that works shows little. Hence the image's manifest is had
from the mirror first, by the means of this program: where the mirror does not serve it, there is no pull at all, which would be
charged to this node's address at the hub. Then the engine pulls that very manifest, by its digest: no tag of anybody's moves, and
the mirror serves it without asking the hub.
"""

import hashlib
import re
import time
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from on_node import tools
from on_node.address import Entry, fetch
from on_node.errors import Trouble
from on_node.places import Places

SECONDS = 120
TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""As docker asks: then the digest is that of the index, where there is one."""
PASSED_OVER = re.compile("Attempting next endpoint|trying next host")
"""Said of a mirror that fails, at the usual level (moby distribution/pull.go; containerd core/remotes/docker/resolver.go)."""
SERVER_ERROR = "received unexpected HTTP status: 5"
"""With the classic store, all that is said of a mirror that answers so: its name is not."""
NOT_THERE = re.compile("StatusNotFound|404 Not Found")
"""Said of somebody else's pull, of an image that the mirror does not have."""

Proof = NamedTuple("Proof", [("failure", Optional[str]), ("said", str)])
Prove = Callable[[], Proof]
Ask = Callable[[Sequence[str], float], Tuple[int, str]]
"""Runs a command of docker's client: its exit status and its errors."""


def prove(places: Places, entries: Sequence[Entry], image: str, pid: int, ask: Ask) -> Proof:
    """Pull the image by the dockerd with that process number. Of several entries the first that has it counts."""
    found = repository(image)
    if found is None:
        return Proof(None, "not proved, since docker mirrors Docker Hub alone and {} is not from there".format(image))
    for entry in entries:
        status, body = fetch(places, entry, "/v2/{}/manifests/{}".format(*found), TYPES)
        if status == 200:
            break
    if status != 200:
        answer = "HTTP status {}".format(status) if status else "nothing"
        return Proof(None, "not proved, since the mirror answers {} for {}".format(answer, image))
    pinned, begun = "{}@sha256:{}".format(found[0], hashlib.sha256(body).hexdigest()), time.time()
    try:
        pulled, lines = pull(pinned, ask), journal(pid, begun)
        # What names no mirror may be said of an entry before this one.
        lines = lines if entry is entries[0] else [line for line in lines if entry.hostport in line]
        return judge(image, entry, *pulled, lines=lines)
    except Trouble as trouble:
        return Proof("{} can't be pulled: {}".format(image, trouble.problems[0]), "")


def pull(pinned: str, ask: Ask) -> Tuple[int, str, float]:
    """The client's exit status and errors, and how long it took. The image goes again if it was not there. Raises Trouble."""
    had_it, begun = ask(["image", "inspect", pinned], 30)[0] == 0, time.monotonic()
    status, errors = ask(["pull", pinned], SECONDS)
    seconds = time.monotonic() - begun
    if status == 0 and not had_it:
        # Without force: what a container has come to use meanwhile stays.
        ask(["image", "rm", pinned], 60)
    return status, errors, seconds


def judge(image: str, entry: Entry, status: int, errors: str, seconds: float, *, lines: Sequence[str]) -> Proof:
    """Whether the mirror served the pull; ``lines`` are what docker said meanwhile."""
    if status:
        return Proof("{} can't be pulled, though the mirror has it: {}".format(image, shown(errors)), "")
    failed = [line for line in lines if is_failure(line, entry)]
    if failed:
        return Proof("docker passes the mirror over, though it answers: {}".format(shown(failed[0])), "")
    return Proof(None, "{} pulled in {:.1f} s".format(image, seconds))


def is_failure(line: str, entry: Entry) -> bool:
    """Whether docker says that this mirror failed."""
    named = entry.hostport in line or SERVER_ERROR in line
    return bool(PASSED_OVER.search(line)) and named and not NOT_THERE.search(line)


def journal(pid: int, since: float) -> List[str]:
    """What a process has said since then, where that goes to systemd's journal. Raises Trouble."""
    tools.run_tool(["journalctl", "--sync"], 30)
    words = ["_PID={}".format(pid), "--since=@{:.6f}".format(since), "--output=cat", "--no-pager", "--quiet"]
    return tools.run_tool(["journalctl"] + words, 30)[1].splitlines()


def repository(image: str) -> Optional[Tuple[str, str]]:
    """A repository of Docker Hub, and the tag or digest in it; None for an image of another registry."""
    name, _, digest = image.partition("@")
    head, slash, tail = name.partition("/")
    if slash and (re.search("[.:]", head) or head == "localhost"):
        if head not in ("docker.io", "index.docker.io"):
            return None
        name = tail
    name, _, tag = name.partition(":")
    return name if "/" in name else "library/" + name, digest or tag or "latest"


def shown(text: str) -> str:
    """A tool's last line, without what may be a secret in its addresses: user, password, signature."""
    last = (text.strip().splitlines() or ["nothing said"])[-1]
    return re.sub(r"//[^/@\s]+@", "//…@", re.sub(r"\?[^\s\"]+", "?…", last))[:300]
