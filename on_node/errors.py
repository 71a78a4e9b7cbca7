"""What keeps a run on this node from going on."""

import errno

REMEDIES = {
    errno.EACCES: "run as root (log in as root, or give the user sudo without a password)",
    errno.EPERM: "run as root; if that is so, look at `lsattr` and at the security module's log",
    errno.EROFS: "make the file system writable (look at `dmesg`: a broken disk is remounted read-only)",
    errno.ENOSPC: "free some space on that file system",
    errno.EBUSY: "it is a mount of its own: put it into its folder as an ordinary file",
}


class Trouble(Exception):
    """What keeps us from going on: one problem or several, each as `what, value, remedy`."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = list(problems)


def explain(error: OSError) -> str:
    """An error of the system, with what to do."""
    remedy = REMEDIES.get(error.errno or 0, "mend that, then run again")
    place = error.filename2 or error.filename or "the system"
    return "{}: {}; {}".format(place, error.strerror or type(error).__name__, remedy)
