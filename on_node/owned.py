"""Files that are ours, or hold a block of ours: written together or not at all, and put back to what they were without us.

An engine's record names each file with what it held before, and outlives a run that is killed: it is written first.
"""

import base64
import contextlib
import json
import os
import re
import stat
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from on_node.errors import Trouble, explain
from on_node.files import digest, read_file, sweep, unpack, write_file
from on_node.places import Places

BEGIN = "# >>> docker-cache: these lines are written and taken out by `pulumi up`"
END = "# <<< docker-cache"
BLOCK = re.compile(re.escape(BEGIN.encode()) + b".*?" + re.escape(END.encode()) + b"\r?\n?", re.DOTALL)

Record = Dict[str, Any]
Wanted = NamedTuple("Wanted", [("path", str), ("raw", bytes), ("mode", Optional[int])])
"""A file as it has to be; no mode leaves the one that the file has, 0644 for a new one."""
Former = NamedTuple("Former", [("raw", Optional[bytes]), ("mode", int), ("mtime", int)])


def block(lines: List[str]) -> str:
    """Lines of ours between marks, by which they are found in a file that somebody edited since."""
    return "\n".join([BEGIN] + lines + [END]) + "\n"


def without_block(raw: Optional[bytes]) -> Optional[bytes]:
    """A file's content without what stands between our marks."""
    return None if raw is None else BLOCK.sub(b"", raw)


def load(places: Places, engine: str) -> Record:
    """What is ours of an engine's files: ``owner``, and by path what each was. Raises Trouble for a damaged record."""
    path = record_path(places, engine)
    raw = read_file(path)[0]
    if raw is None:
        return {"owner": None, "files": {}, "unfinished": False}
    try:
        record = json.loads(raw.decode("utf-8"))  # type: Record
        for kept in record["files"].values():
            unpack(kept["before"])
        if {"owner", "unfinished"} <= set(record):
            return record
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise Trouble("{} is damaged; take our lines out of the engine's files by hand, then delete it".format(path))


def owner_of(places: Places, engine: str) -> Optional[str]:
    """Who keeps the engine's mirror here."""
    owner = load(places, engine)["owner"]
    return None if owner is None else str(owner)


def record_path(places: Places, engine: str) -> str:
    """Where an engine's record lies."""
    return os.path.join(places.state, engine + ".json")


def save(places: Places, engine: str, record: Record) -> None:
    """Write down what is ours, or that nothing is."""
    text = json.dumps(record, indent=1, sort_keys=True).encode("utf-8") if record["files"] else None
    write_file(record_path(places, engine), text, 0o600)


def original(record: Record, path: str) -> Optional[bytes]:
    """What the file would hold had we never come: to the byte, unless somebody edited it since."""
    raw, kept = read_file(path)[0], record["files"].get(path)
    if kept and digest(raw) in kept["written"]:
        return unpack(kept["before"])
    base = without_block(raw)
    # What held nothing but our block was made by us, even where the record of it is lost.
    if (kept is None or kept["before"] is None) and base is not None and base != raw and not base.strip():
        return None
    return base


def is_settled(record: Record, wanted: List[Wanted]) -> bool:
    """Whether these files, and no others of ours, are as they have to be."""
    if record["unfinished"] or set(record["files"]) != {file.path for file in wanted}:
        return False
    formers = [(file, look(file.path)) for file in wanted]
    return all(former.raw == file.raw and file.mode in (None, former.mode) for file, former in formers)


def write(
    places: Places,
    engine: str,
    owner: Optional[str],
    wanted: List[Wanted],
    take_effect: Callable[[], Optional[str]] = lambda: None,
) -> Callable[[], None]:
    """Bring the engine's files to what is wanted, all or none; what undoes it. Raises Trouble, with all put back.

    ``take_effect`` makes the engine take the files, and says why it did not; a run that is killed before that has not finished.
    """
    record = load(places, engine)
    paths = sorted({file.path for file in wanted} | set(record["files"]))
    for path in [record_path(places, engine)] + paths:
        sweep(path)
    if is_settled(record, wanted):
        if owner not in (None, record["owner"]):
            save(places, engine, dict(record, owner=owner))
        return lambda: save(places, engine, record)
    formers = {path: look(path) for path in paths}
    kept = {file.path: keep(record, file, formers[file.path]) for file in wanted}

    def undo() -> None:
        for path in paths:
            put(path, formers[path], kept.get(path, {}).get("folders", []))
        with contextlib.suppress(Trouble):
            take_effect()
        save(places, engine, record)

    save(places, engine, {"owner": owner or record["owner"], "files": merged(record, kept), "unfinished": True})
    reason = carry_out(record, wanted, formers, take_effect)
    if reason is not None:
        undo()
        raise Trouble("the change was taken back: {}; mend that, run again".format(reason))
    save(places, engine, {"owner": owner or record["owner"], "files": kept, "unfinished": False})
    return undo


def carry_out(
    record: Record, wanted: List[Wanted], formers: Dict[str, Former], take_effect: Callable[[], Optional[str]]
) -> Optional[str]:
    """Write and give back files, and have them take effect; the reason where that failed."""
    try:
        for file in wanted:
            if formers[file.path].raw != file.raw or file.mode not in (None, formers[file.path].mode):
                write_file(file.path, file.raw, file.mode or 0o644, exact=file.mode is not None)
        for path in sorted(set(record["files"]) - {file.path for file in wanted}):
            give_back(record, path)
        return take_effect()
    except Trouble as trouble:
        return "; ".join(trouble.problems)
    except OSError as error:
        return explain(error)


def changed_by_others(record: Record) -> List[str]:
    """Files of ours that somebody has put something else into, with nothing of ours in it."""
    found = []
    for path, kept in sorted(record["files"].items()):
        raw = read_file(path)[0]
        if raw is not None and digest(raw) not in kept["written"] and without_block(raw) == raw:
            found.append(path)
    return found


def keep(record: Record, file: Wanted, former: Former) -> Record:
    """What the record says of a file that gets this content."""
    old = record["files"].get(file.path, {})
    base = original(record, file.path)
    is_untouched = not old or digest(former.raw) not in old["written"]
    missing = [] if former.raw is not None else missing_folders(file.path)
    return {
        "written": [digest(file.raw)],
        "before": None if base is None else base64.b64encode(base).decode("ascii"),
        "mode": former.mode if is_untouched else old["mode"],
        "mtime": former.mtime if is_untouched else old["mtime"],
        "folders": sorted(set(old.get("folders", [])) | set(missing)),
    }


def merged(record: Record, kept: Dict[str, Record]) -> Dict[str, Record]:
    """Both, for the time in which a file may hold either content."""
    files = dict(record["files"], **kept)
    for path, old in record["files"].items():
        files[path] = dict(files[path], written=sorted(set(files[path]["written"]) | set(old["written"])))
    return files


def missing_folders(path: str) -> List[str]:
    """The folders that have to be made for the file."""
    folder, missing = os.path.dirname(path), []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing


def look(path: str) -> Former:
    """What a file is now; mode and time are 0 where there is none."""
    raw, mtime = read_file(path)
    return Former(raw, 0 if raw is None else stat.S_IMODE(os.stat(path).st_mode), mtime)


def put(path: str, former: Former, folders: List[str]) -> None:
    """Make the file what it was; folders that were made for it go with it."""
    if look(path) != former:
        write_file(path, former.raw, former.mode, former.mtime or None, exact=True)
    if former.raw is None:
        drop_folders(folders)


def drop_folders(folders: List[str]) -> None:
    """Remove the folders that were made for a file, as far as others have put nothing there."""
    for folder in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def give_back(record: Record, path: str) -> None:
    """Take what is ours out of a file; one that somebody put something else into stays."""
    kept, now = record["files"][path], look(path)
    base = original(record, path)
    if digest(now.raw) in kept["written"]:
        put(path, Former(base, kept["mode"], kept["mtime"]), kept["folders"])
    elif base != now.raw:
        put(path, Former(base, now.mode, 0), kept["folders"])
    elif base is None:
        # A run before this one was killed once it had removed the file.
        drop_folders(kept["folders"])
