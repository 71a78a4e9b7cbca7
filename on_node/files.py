"""Files of a node: written in one step, safe on the disk, and by one run at a time."""

import base64
import contextlib
import fcntl
import glob
import hashlib
import os
import stat
import tempfile
import time
from typing import Iterator, Optional, Tuple

from on_node.errors import Trouble
from on_node.places import Places


def digest(raw: Optional[bytes]) -> str:
    """What tells one content of the file from another."""
    return "absent" if raw is None else hashlib.sha256(raw).hexdigest()


def unpack(text: Optional[str]) -> Optional[bytes]:
    """A file's content as the record keeps it."""
    return None if text is None else base64.b64decode(text)


def read_file(path: str) -> Tuple[Optional[bytes], int]:
    """A file's bytes and its time of change, or None where there is no file."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Trouble("{} is not an ordinary file; put one there, or nothing".format(path))
        with open(path, "rb") as source:
            return source.read(), os.fstat(source.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None, 0


def sync_folder(folder: str) -> None:
    """Bring a rename to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def take_identity(path: str, handle: int, mode: int, *, exact: bool) -> None:
    """Give a new file the mode (unless that is given exactly), owner and security label of the one in whose place it comes."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        os.fchmod(handle, mode)
        return
    os.fchown(handle, old.st_uid, old.st_gid)
    os.fchmod(handle, mode if exact else stat.S_IMODE(old.st_mode))
    with contextlib.suppress(OSError):
        os.setxattr(handle, "security.selinux", os.getxattr(path, "security.selinux"))


def temp_prefix(path: str) -> str:
    """How the names of our unfinished files begin, beside the file that they are for."""
    return ".{}.docker-cache.".format(os.path.basename(path))


def write_file(
    path: str, raw: Optional[bytes], mode: int = 0o644, mtime: Optional[int] = None, *, exact: bool = False
) -> None:
    """Make the file hold these bytes (None: be gone) in one step, safe on the disk when this returns.

    The mode is that of a new file, or with ``exact`` of any.
    """
    folder = os.path.dirname(path)
    if raw is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            sync_folder(folder)
        return
    os.makedirs(folder, exist_ok=True)
    handle, temp = tempfile.mkstemp(prefix=temp_prefix(path), dir=folder)
    try:
        with os.fdopen(handle, "wb") as target:
            target.write(raw)
            target.flush()
            take_identity(path, handle, mode, exact=exact)
            if mtime is not None:
                os.utime(temp, ns=(mtime, mtime))
            os.fsync(handle)
        os.replace(temp, path)
    except OSError:
        os.unlink(temp)
        raise
    sync_folder(folder)


def sweep(path: str) -> None:
    """Remove what a killed run left unfinished beside this file."""
    for left in glob.glob(os.path.join(glob.escape(os.path.dirname(path)), temp_prefix(path) + "*")):
        os.unlink(left)


@contextlib.contextmanager
def locked(places: Places) -> Iterator[None]:
    """Keep other runs on this node out."""
    path = os.path.join(places.state, "lock")
    lock = take_lock(places.state, path, time.monotonic() + 120)
    try:
        yield
    finally:
        try:
            leave(places.state, path)
        finally:
            os.close(lock)


@contextlib.contextmanager
def undisturbed(places: Places) -> Iterator[None]:
    """Keep runs that change something out while somebody looks, without a trace: where nothing is ours, there is no lock."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(FileNotFoundError):
            lock = held.enter_context(open(os.path.join(places.state, "lock")))
            wait_for(lock.fileno(), fcntl.LOCK_SH, time.monotonic() + 120)
        yield


def leave(folder: str, lock: str) -> None:
    """Remove our folder where it holds nothing but the lock."""
    if os.listdir(folder) == [os.path.basename(lock)]:
        os.unlink(lock)
        # Another run may have made its lock meanwhile.
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def take_lock(folder: str, path: str, deadline: float) -> int:
    """The lock, held; a run before us gets two minutes to end."""
    while True:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            wait_for(lock, fcntl.LOCK_EX, deadline)
        except Trouble:
            os.close(lock)
            raise
        # `remove` unlinks the lock: only the file that still has the name counts.
        if os.path.exists(path) and os.fstat(lock).st_ino == os.stat(path).st_ino:
            return lock
        os.close(lock)


def wait_for(lock: int, kind: int, deadline: float) -> None:
    """Hold the lock of an open file. Raises Trouble at the deadline."""
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Trouble(
                    "another run has held this node for two minutes; wait for its end, then run again"
                ) from None
            time.sleep(0.5)
        else:
            return
