"""Whether the file systems that are written to take anything."""

import errno
import os
from typing import List, Optional, Sequence

from on_node.errors import explain

NEEDED = 1 << 20
"""Bytes: our files are a few KB each, and are written beside those that they take the place of."""
SCARCE = 2 << 30
"""Bytes below which an image of usual size may not fit."""


def unwritable(folders: Sequence[str]) -> List[str]:
    """The problems of folders that would take no file of ours."""
    found = []
    for folder in folders:
        number = hindrance(os.statvfs(existing(folder)))
        if number is not None:
            found.append(explain(OSError(number, os.strerror(number), folder)))
    return found


def hindrance(stats: os.statvfs_result) -> Optional[int]:
    """The error that a write would meet."""
    if stats.f_flag & os.ST_RDONLY:
        return errno.EROFS
    # A file system that makes its inodes as it goes counts none.
    full = stats.f_bfree * stats.f_frsize < NEEDED or (stats.f_files and not stats.f_ffree)
    return errno.ENOSPC if full else None


def scarce(folder: str) -> List[str]:
    """The caution of a data folder that is nearly full."""
    stats = os.statvfs(existing(folder))
    free = stats.f_bavail * stats.f_frsize
    if free >= SCARCE:
        return []
    return ["{} has {} MB left, which images may not fit in; free some space there".format(folder, free >> 20)]


def existing(folder: str) -> str:
    """The folder, or the nearest above it that is there."""
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    return folder
