"""Make the folder that the registry cache keeps its data in, on the first master, or let go of it.

Runs as root, on Python 3.5 or later, with nothing but the standard library: ``python3 -c LOADER prepare PATH UID GID``,
where the loader reads this script, compressed, from standard input and refuses an incomplete one before any of it runs.
"""

import argparse
import contextlib
import errno
import json
import os
import re
import shutil
import socket
import sys
from typing import Iterator, List, Sequence, Set, Tuple

MODE = 0o750
MADE = "/var/lib/docker-cache-folders.json"
"""The folders that were made here: one that somebody else made is not ours to remove, empty or not."""
# What a file system that someone else set up may hold without being in use.
EMPTY_ALL_THE_SAME = {"lost+found"}
# Everything that Distribution's file-system driver keeps, folder by folder, and its scheduler's state. One name is not
# enough: docker's own data may lie in a folder named `docker` too.
OF_THE_CACHE = (
    ("", {"docker", "scheduler-state.json"} | EMPTY_ALL_THE_SAME),
    ("docker", {"registry"}),
    ("docker/registry", {"v2"}),
)
OF_A_HOST = re.compile(r"(?=.*\.|.*-[0-9]+$)[a-z0-9][-a-z0-9.]*[a-z0-9]$")
"""Names of the folders in which other registries than Docker Hub are kept: their hosts', with `-` before a port."""
SQUASHED = (
    "root may not do that here: on NFS this is root_squash; export the folder with no_root_squash, or create "
    "it on the server with owner {}:{}"
)


class Trouble(Exception):
    """What keeps us from going on, as `what, value, remedy`."""


# --- The core: no I/O ------------------------------------------------------------------------------------------------


def checked_path(path: str) -> str:
    """The folder's path, if it is one that can be given to a cache."""
    if not os.path.isabs(path):
        raise Trouble("the cache's folder must be an absolute path, got {!r}; write it from / on".format(path))
    clean = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    if clean == "/" or ".." in clean.split("/"):
        raise Trouble("the cache's folder can't be {!r}; give it a folder of its own, without `..`".format(path))
    return clean


def checked_id(text: str) -> int:
    """A user's or group's number."""
    number = int(text) if re.match(r"[0-9]{1,10}$", text) else -1
    # The highest one means "leave it as it is" to chown.
    if not 0 <= number < 2**32 - 1:
        raise argparse.ArgumentTypeError("{!r} is no number of a user or group".format(text))
    return number


def reason_of(error: OSError, uid: int, gid: int) -> str:
    """An error of the system, with what to do."""
    remedies = {
        errno.EROFS: "the file system is read-only; make it writable (look at `dmesg`) or choose another folder",
        errno.EPERM: SQUASHED.format(uid, gid),
        errno.EACCES: SQUASHED.format(uid, gid),
        errno.ENOSPC: "free some space there",
        errno.EDQUOT: "raise the quota of that user",
        errno.ESTALE: "the NFS server forgot the folder; mount it again",
        errno.ENOTDIR: "a file is in the way; move it, or choose another folder",
        errno.EEXIST: "a file is in the way; move it, or choose another folder",
    }
    return "{}: {}; {}".format(
        error.filename or "the folder",
        error.strerror or type(error).__name__,
        remedies.get(error.errno or 0, "mend that, then run again"),
    )


# --- The node --------------------------------------------------------------------------------------------------------


def refuse_surprises(path: str) -> None:
    """Stop where the path leads elsewhere, or where something that is no folder stands in it."""
    real = os.path.realpath(path)
    if os.path.islink(path):
        raise Trouble("{} is a symbolic link to {}; configure that path itself".format(path, real))
    if os.path.dirname(path) != os.path.dirname(real):
        raise Trouble("{} leads to {} over a symbolic link; configure that path itself".format(path, real))
    part = path
    while part != "/":
        if os.path.lexists(part) and not os.path.isdir(part):
            raise Trouble("{} is no folder but a file; move it, or choose another folder".format(part))
        part = os.path.dirname(part)


def make_folder(path: str) -> bool:
    """Create the folder and those above it; whether it was new."""
    if os.path.isdir(path):
        return False
    # Before it is made: a run that is killed in between leaves a line too many, not a folder that nobody removes.
    remember_made(path, made=True)
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        os.mkdir(path, MODE)
    except OSError:
        remember_made(path, made=False)
        if os.path.isdir(path):
            return False
        raise
    os.chmod(path, MODE)
    return True


def all_below(path: str) -> Iterator[str]:
    """Everything in the folder, on its own file system, no symbolic link followed."""
    device = os.lstat(path).st_dev

    def fail(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(path, onerror=fail):
        folders[:] = [name for name in folders if os.lstat(os.path.join(folder, name)).st_dev == device]
        for name in folders + files:
            yield os.path.join(folder, name)


def owned_by(path: str, uid: int, gid: int) -> bool:
    """Whether it belongs to the cache already (`lost+found` stays root's)."""
    facts = os.lstat(path)
    return (facts.st_uid, facts.st_gid) == (uid, gid) or os.path.basename(path) in EMPTY_ALL_THE_SAME


def made_here() -> List[str]:
    """The folders that were made here. A damaged list names none: then they stay."""
    try:
        with open(MADE) as source:
            found = json.load(source)
    except (FileNotFoundError, ValueError):
        return []
    return found if isinstance(found, list) else []


def remember_made(path: str, *, made: bool) -> None:
    """Write down, in one step, whether this folder is one that was made here; no list where there is none."""
    before = made_here()
    paths = [each for each in before if each != path] + ([path] if made else [])
    if paths and paths != before:
        with open(MADE + ".new", "w") as target:
            json.dump(paths, target)
            target.flush()
            os.fsync(target.fileno())
        os.replace(MADE + ".new", MADE)
    elif not paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(MADE)


def mounts_below(path: str) -> List[str]:
    """What is mounted in the folder, relative to it (a bind mount has the device of its surroundings, only this list tells)."""
    with open("/proc/self/mountinfo", "rb") as source:
        places = [line.split()[4] for line in source]
    named = (os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m.group(1), 8)]), each)) for each in places)
    return sorted({os.path.relpath(each, path) for each in named if each.startswith(path + "/")})


def hosts_in(path: str) -> List[str]:
    """The folders in which other registries than Docker Hub are kept, those that are served no more among them."""
    names = sorted(os.listdir(path)) if os.path.isdir(path) else []
    return [name for name in names if OF_A_HOST.match(name) and os.path.isdir(os.path.join(path, name))]


def parts_of_the_cache(path: str) -> Iterator[Tuple[str, Set[str]]]:
    """Each folder that the cache makes, relative to the folder, and what it keeps there."""
    hosts = hosts_in(path)
    for store in ["", *hosts]:
        for part, expected in OF_THE_CACHE:
            yield os.path.join(store, part).rstrip("/"), expected | set(hosts if not store + part else [])


def links_of_the_cache(path: str) -> List[str]:
    """The folders that the cache makes and that are symbolic links here, relative to the folder."""
    return [part for part, _ in parts_of_the_cache(path) if part and os.path.islink(os.path.join(path, part))]


def not_the_caches(path: str) -> List[str]:
    """What lies where the cache keeps its data and is not the cache's, relative to the folder."""
    found = []  # type: List[str]
    for part, expected in parts_of_the_cache(path):
        folder = os.path.join(path, part)
        names = set(os.listdir(folder)) if os.path.lexists(folder) else set()
        found += sorted(os.path.join(part, name) for name in names - expected)
    return found


def give(path: str, uid: int, gid: int) -> None:
    """Let the folder and what is in it belong to the cache; what does already is not touched."""
    names, facts = os.listdir(path), os.lstat(path)
    # A full cache has millions of files: its uppermost ones tell whether the rest has to be looked at.
    if all(owned_by(os.path.join(path, name), uid, gid) for name in [".", *names]):
        return
    strange = not_the_caches(path)
    if strange:
        raise Trouble(
            "{} (owner {}:{}) holds what is not the cache's: {!r} and {} more; choose an empty folder, or "
            "give it to {}:{} yourself".format(path, facts.st_uid, facts.st_gid, strange[0], len(strange) - 1, uid, gid)
        )
    # The uppermost ones last: a run that is killed here leaves them for the next one to notice.
    for each in [*sorted(all_below(path), key=lambda name: -name.count("/")), path]:
        if not owned_by(each, uid, gid):
            os.chown(each, uid, gid, follow_symlinks=False)


def write_as(path: str, uid: int, gid: int) -> None:
    """Prove that the user can write there, by doing so in a process that is that user."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, attempt_as(path, uid, gid).encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as source:
        said = source.read().decode("utf-8", "replace")
    _, ended = os.waitpid(child, 0)
    if ended or said != "written":
        raise Trouble("user {}:{} can't write in {}: {}".format(uid, gid, path, said or "the attempt was killed"))


def attempt_as(path: str, uid: int, gid: int) -> str:
    """Become that user, create, write and delete a file: `written`, or why not."""
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        trial = os.path.join(path, ".docker-cache-trial.{}".format(os.getpid()))
        handle = os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(handle, b"trial")
            os.fsync(handle)
        finally:
            os.close(handle)
            os.unlink(trial)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            remedy = "that user needs the right to enter every folder above (`chmod o+x`) and to write in this one"
            return "{}; {}".format(error.strerror, remedy)
        return reason_of(error, uid, gid)
    except BaseException as error:  # noqa: BLE001  # the child must end here, whatever happens
        return type(error).__name__
    return "written"


def prepare(path: str, uid: int, gid: int) -> str:
    """Make the folder ready for the cache; the line that says so."""
    if os.geteuid() != 0:
        raise Trouble(
            "only root can give {} to {}:{}; log in as root, or give the user sudo without a password".format(
                path, uid, gid
            )
        )
    refuse_surprises(path)
    new = make_folder(path)
    try:
        give(path, uid, gid)
        write_as(path, uid, gid)
    except (OSError, Trouble):
        if new and not os.listdir(path):
            os.rmdir(path)
            remember_made(path, made=False)
        raise
    return "ready: {} for the cache, owner {}:{}".format(path, uid, gid)


def delete_data(path: str) -> None:
    """Delete what the cache keeps in the folder, and nothing else that may lie there."""
    refuse_surprises(path)
    if not os.path.isdir(path):
        return
    strange = ["{} (a symbolic link)".format(part) for part in links_of_the_cache(path)]
    strange += ["{} (a mount)".format(part) for part in mounts_below(path)] + not_the_caches(path)
    if strange:
        raise Trouble(
            "{} holds what is not the cache's: {!r} and {} more, so nothing is deleted; move that, or take "
            "docker_cache_delete_data back and delete the data yourself".format(path, strange[0], len(strange) - 1)
        )
    for store in [os.path.join(path, host) for host in hosts_in(path)] + [path]:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(os.path.join(store, "docker"))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(store, "scheduler-state.json"))
        if store != path:
            os.rmdir(store)


def release(path: str) -> str:
    """Remove the folder where it is empty and was made here; the line that says what stays."""
    try:
        if os.path.isdir(path) and path not in made_here() and not os.listdir(path):
            return "released: {} is empty and stays, it was not made for the cache".format(path)
        os.rmdir(path)
    except FileNotFoundError:
        remember_made(path, made=False)
        return "released: {} is not there".format(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) or (error.errno != errno.ENOTDIR and os.listdir(path)):
            return "released: {} stays with what is in it".format(path)
        return "released: {} stays, {}".format(path, error.strerror)
    remember_made(path, made=False)
    return "released: {} was empty, and is removed".format(path)


def run(argv: Sequence[str]) -> int:
    """One command; its exit status."""
    parser = argparse.ArgumentParser(prog="cache_folder", description="The registry cache's folder on this machine.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    words = commands.add_parser("prepare", help="make the folder, owned by UID:GID, and prove that UID can write there")
    words.add_argument("path", metavar="PATH")
    words.add_argument("uid", metavar="UID", type=checked_id)
    words.add_argument("gid", metavar="GID", type=checked_id)
    words = commands.add_parser("release", help="remove the folder if it is empty, else leave the data")
    words.add_argument("path", metavar="PATH")
    words.add_argument("--delete-data", action="store_true", help="delete what the cache keeps there first")
    given = parser.parse_args(argv)
    # A hardened root's 077 would close the folders above to the cache's user.
    os.umask(0o022)
    try:
        path = checked_path(given.path)
        if given.command == "prepare":
            print(prepare(path, given.uid, given.gid))
        else:
            if given.delete_data:
                delete_data(path)
            print(release(path))
    except Trouble as trouble:
        problem = str(trouble)
    except OSError as error:
        problem = reason_of(error, getattr(given, "uid", 0), getattr(given, "gid", 0))
    else:
        return 0
    sys.stderr.write("docker-cache on {}: {}\n".format(socket.gethostname(), problem))
    return 1


def main() -> None:
    """Run the command line."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
