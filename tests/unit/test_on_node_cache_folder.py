"""What cache_folder.py does to the folder that the cache keeps its data in."""

import errno
import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from rendering import node_command
from tests.unit.messages import remember

SCRIPT = Path(__file__).parents[2] / "on_node" / "cache_folder.py"
spec = importlib.util.spec_from_file_location("cache_folder_of_a_node", SCRIPT)
assert spec is not None, "the script under test must be there"
assert spec.loader is not None, "the script under test must be loadable"
folder: Any = importlib.util.module_from_spec(spec)
spec.loader.exec_module(folder)

UID, GID = 4321, 4322
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change owners")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder that every user can enter: pytest's own are for their owner alone."""
    for part in (tmp_path, *tmp_path.parents):
        if part.stat().st_uid == os.geteuid() and str(part) not in ("/", "/tmp"):
            part.chmod(part.stat().st_mode | 0o011)
    return tmp_path


@pytest.fixture(name="made", autouse=True)
def list_of_made_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the script writes down what it made, away from this machine's own."""
    path = tmp_path / "made.json"
    monkeypatch.setattr(folder, "MADE", str(path))
    return path


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = folder.run([str(word) for word in argv])
    said = capsys.readouterr()
    remember(line.partition(": ")[2] for line in said.err.splitlines())
    return status, said.out, said.err


def owner(path: Path) -> tuple[int, int]:
    return path.lstat().st_uid, path.lstat().st_gid


def refuse(number: int) -> Any:
    """A call that the system refuses."""

    def call(path: object, *_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number), str(path))

    return call


@needs_root
def test_a_new_folder_belongs_to_the_cache_and_to_nobody_else(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = base / "a" / "cache"
    wanted = (0, f"ready: {path} for the cache, owner {UID}:{GID}\n", "")
    assert run(capsys, "prepare", path, UID, GID) == wanted, "one stable line"
    assert owner(path) == (UID, GID), "the cache owns it"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750, "others do not read it"
    assert owner(path.parent) == (0, 0), "the folders above stay root's"
    assert list(path.iterdir()) == [], "the trial file is gone"
    assert run(capsys, "prepare", f"{path}/", UID, GID) == wanted, "a second run says and does the same"


@needs_root
def test_a_cache_that_another_user_ran_changes_hands(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, outside = base / "cache", base / "outside"
    v2 = path / "docker" / "registry" / "v2"
    v2.mkdir(parents=True)
    (v2 / "blob").touch()
    (path / "scheduler-state.json").touch()
    (path / "lost+found").mkdir()
    outside.touch()
    (v2 / "link").symlink_to(outside)
    assert run(capsys, "prepare", path, UID, GID)[0] == 0, "a cache's data may change hands"
    assert {owner(each) for each in [path, *(path / "docker").rglob("*")]} == {(UID, GID)}, "all of it"
    assert owner(outside) == (0, 0), "no link is followed"
    assert owner(path / "lost+found") == (0, 0), "the file system's own folder stays root's"


@needs_root
def test_a_change_of_hands_that_was_killed_is_finished(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = base / "cache", os.chown
    for name in ("a", "b", "c"):
        (path / "docker" / "registry" / "v2" / name).mkdir(parents=True)
    for allowed in range(6):
        done: list[object] = []

        def chown(each: object, *words: Any, done: list[object] = done, allowed: int = allowed, **more: Any) -> None:
            if len(done) >= allowed:
                raise KeyboardInterrupt
            done.append(each)
            real(each, *words, **more)  # type: ignore[arg-type]

        uid = UID + allowed
        real(path, uid, GID)
        monkeypatch.setattr(os, "chown", chown)
        with pytest.raises(KeyboardInterrupt):
            folder.run(["prepare", str(path), str(uid), str(GID)])
        monkeypatch.setattr(os, "chown", real)
        assert run(capsys, "prepare", path, uid, GID)[0] == 0, "the next run succeeds"
        assert {owner(each) for each in [path, *path.rglob("*")]} == {(uid, GID)}, f"a kill after {allowed} hid nothing"


@needs_root
def test_what_the_cache_owns_already_is_not_walked(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = base / "cache"
    run(capsys, "prepare", path, UID, GID)
    monkeypatch.setattr(folder, "all_below", refuse(errno.EIO))
    assert run(capsys, "prepare", path, UID, GID)[0] == 0, "millions of blobs are not looked at for nothing"


@needs_root
def test_a_folder_in_other_use_is_left_alone(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = base / "home"
    path.mkdir()
    (path / "thesis.tex").touch()
    status, out, err = run(capsys, "prepare", path, UID, GID)
    assert (status, out) == (1, ""), "it is refused"
    assert "'thesis.tex' and 0 more" in err, "with an example"
    assert owner(path / "thesis.tex") == (0, 0), "nothing changed hands"


@needs_root
@pytest.mark.parametrize(
    ("inside", "named"),
    [
        ("docker/containers/c1", "docker/containers"),
        ("docker/registry/v1", "docker/registry/v1"),
    ],
)
def test_a_folder_that_holds_dockers_own_data_is_left_alone(
    base: Path, capsys: pytest.CaptureFixture[str], inside: str, named: str
) -> None:
    path = base / "data"
    (path / "docker" / "registry" / "v2").mkdir(parents=True)
    (path / inside).mkdir(parents=True)
    status, out, err = run(capsys, "prepare", path, UID, GID)
    assert (status, out) == (1, ""), "a data-root of docker may be named `docker` as well"
    assert f"{named!r} and 0 more" in err, "with an example"
    assert {owner(each) for each in [path, *path.rglob("*")]} == {(0, 0)}, "nothing changed hands"


@needs_root
def test_a_data_root_of_docker_is_not_taken_for_the_cache(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = base / "data"
    for name in ("containers", "image", "overlay2"):
        (path / "docker" / name).mkdir(parents=True)
    status, _, err = run(capsys, "prepare", path, UID, GID)
    assert (status, "'docker/containers' and 2 more" in err) == (1, True), "docker keeps no registry there"
    assert {owner(each) for each in [path, *path.rglob("*")]} == {(0, 0)}, "docker's data stays docker's"


@needs_root
@pytest.mark.parametrize(
    ("call", "number", "words"),
    [
        ("chown", errno.EPERM, "no_root_squash"),
        ("chown", errno.EACCES, "no_root_squash"),
        ("mkdir", errno.EACCES, "no_root_squash"),
        ("mkdir", errno.EROFS, "read-only"),
    ],
)
def test_a_file_system_that_refuses_is_explained(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, call: str, number: int, words: str
) -> None:
    path = base / "cache"
    monkeypatch.setattr(os, call, refuse(number))
    status, out, err = run(capsys, "prepare", path, UID, GID)
    monkeypatch.undo()
    assert (status, out) == (1, ""), "it fails"
    assert words in err, "the message names the cause"
    assert not path.exists(), "a folder that was made in vain does not stay"


@needs_root
def test_a_squashed_folder_that_the_server_gave_to_the_cache_is_fine(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = base / "cache"
    path.mkdir()
    os.chown(path, UID, GID)
    monkeypatch.setattr(os, "chown", refuse(errno.EPERM))
    assert run(capsys, "prepare", path, UID, GID)[0] == 0, "there is nothing to change"


@needs_root
def test_writing_is_tried_as_that_user(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    above = base / "closed"
    above.mkdir(mode=0o700)
    status, _, err = run(capsys, "prepare", above / "cache", UID, GID)
    assert status == 1, "root could write there, the user can't"
    assert "chmod o+x" in err, "with the remedy"
    assert not (above / "cache").exists(), "a folder that was made in vain does not stay"


@needs_root
def test_links_and_files_in_the_way_are_refused(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (base / "real").mkdir()
    (base / "link").symlink_to(base / "real")
    (base / "dangling").symlink_to(base / "nowhere")
    (base / "file").touch()
    for name, words in [
        ("link", "symbolic link to"),
        ("link/cache", "leads to"),
        ("dangling", "symbolic link to"),
        ("dangling/x", "leads to"),
        ("file", "is no folder"),
        ("file/cache", "is no folder"),
    ]:
        status, _, err = run(capsys, "prepare", base / name, UID, GID)
        assert (status, words in err) == (1, True), f"{name} is refused: {err}"
    assert list((base / "real").iterdir()) == [], "nothing was made elsewhere"


@pytest.mark.parametrize("path", ["cache", "/", "//", "/.", "/a/../b", ""])
@pytest.mark.parametrize("words", [("prepare", "1", "1"), ("release",)])
def test_a_path_that_is_no_folder_of_its_own_is_refused(
    path: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, words[0], path, *words[1:])
    assert (status, "folder" in err) == (1, True), "before anything happens"


@pytest.mark.parametrize("number", ["root", "-1", "4294967295", "²", "1.5", ""])
def test_what_is_no_users_number_is_refused(number: str) -> None:
    with pytest.raises(SystemExit):
        folder.run(["prepare", "/nowhere/cache", number, "1"])


@needs_root
def test_release_removes_an_empty_folder_that_it_made_and_leaves_data(
    base: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = base / "cache"
    run(capsys, "prepare", path, UID, GID)
    (path / "docker").mkdir()
    assert run(capsys, "release", path) == (0, f"released: {path} stays with what is in it\n", ""), (
        "data is never deleted unasked"
    )
    run(capsys, "prepare", path, UID, GID)
    (path / "docker").rmdir()
    assert run(capsys, "release", path) == (0, f"released: {path} was empty, and is removed\n", ""), (
        "an empty folder goes, it was made here"
    )
    assert not path.exists(), "it went"
    assert not made.exists(), "with the note of it"
    assert run(capsys, "release", path) == (0, f"released: {path} is not there\n", ""), "and may be gone already"
    path.touch()
    assert run(capsys, "release", path) == (0, f"released: {path} stays, Not a directory\n", ""), "a file is not ours"
    assert path.exists(), "and stays"


@needs_root
@pytest.mark.parametrize("flags", [(), ("--delete-data",)])
def test_an_empty_folder_that_was_there_before_stays(
    base: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    path = base / "cache"
    path.mkdir()
    for each in (base / "another", path, base / "third"):
        run(capsys, "prepare", each, UID, GID)
    wanted = (0, f"released: {path} is empty and stays, it was not made for the cache\n", "")
    assert run(capsys, "release", path, *flags) == wanted, "it is somebody's"
    assert path.is_dir(), "and stays"
    for each in (base / "another", base / "third"):
        assert run(capsys, "release", each, *flags)[1].endswith("is removed\n"), "each is known by its path"


@needs_root
def test_folders_made_in_vain_or_noted_in_a_damaged_list_do_not_count_as_made(
    base: Path, made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = base / "cache"
    for call in ("mkdir", "chown"):
        monkeypatch.setattr(os, call, refuse(errno.EROFS))
        assert run(capsys, "prepare", path, UID, GID)[0] == 1, "it could not be made"
        monkeypatch.undo()
        monkeypatch.setattr(folder, "MADE", str(made))
        assert not made.exists(), f"after {call}, nothing was made"
    run(capsys, "prepare", path, UID, GID)
    for damage in ("{", "null", "[1]"):
        made.write_text(damage)
        assert "stays" in run(capsys, "release", path)[1], "what is not known to be ours stays"


@needs_root
def test_a_kill_between_the_list_and_the_folder_leaves_nothing_that_stays(
    base: Path, made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, make = base / "cache", os.mkdir

    def kill(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    def kill_after(name: str, mode: int) -> NoReturn:
        make(name, mode)
        raise KeyboardInterrupt

    for call, stand_in in (("mkdir", kill), ("mkdir", kill_after), ("chmod", kill), ("chown", kill)):
        monkeypatch.setattr(os, call, stand_in)
        with pytest.raises(KeyboardInterrupt):
            folder.run(["prepare", str(path), str(UID), str(GID)])
        monkeypatch.undo()
        monkeypatch.setattr(folder, "MADE", str(made))
        assert run(capsys, "prepare", path, UID, GID)[0] == 0, f"a kill at {call} hinders no later run"
        assert run(capsys, "release", path)[1].endswith("is removed\n"), f"made here, also after a kill at {call}"


@needs_root
def test_the_folders_above_can_be_entered_whatever_roots_umask_is(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = os.umask(0o077)
    try:
        assert run(capsys, "prepare", base / "a" / "cache", UID, GID)[0] == 0, "the cache's user gets there"
    finally:
        os.umask(before)


def test_the_data_is_deleted_where_that_is_asked_for(
    base: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = base / "cache"
    folder.remember_made(str(path), made=True)
    (path / "docker/registry/v2/blobs").mkdir(parents=True)
    (path / "docker/registry/v2/blobs/data").write_text("layer")
    (path / "scheduler-state.json").touch()
    kept = base / "elsewhere"
    kept.mkdir()
    (kept / "file").touch()
    (path / "docker/registry/v2/link").symlink_to(kept)
    wanted = (0, f"released: {path} was empty, and is removed\n", "")
    assert run(capsys, "release", path, "--delete-data") == wanted, "all of it was the cache's"
    assert (kept / "file").exists(), "a link is not followed"
    assert not made.exists(), "nothing is noted any more"
    assert run(capsys, "release", path, "--delete-data")[0] == 0, "and may be gone already"


def test_other_registries_data_goes_with_it_those_that_are_served_no_more_too(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = base / "cache"
    folder.remember_made(str(path), made=True)
    for host in ("", "ghcr.io", "lab-5000", "registry.k8s.io"):
        (path / host / "docker/registry/v2/blobs").mkdir(parents=True)
        (path / host / "scheduler-state.json").touch()
    assert run(capsys, "release", path, "--delete-data") == (0, f"released: {path} was empty, and is removed\n", "")


@pytest.mark.parametrize(
    "name", ["thesis.tex", "ghcr.io/mine", "ghcr.io/docker/containers", "photos", "photos.old/me", "x-y"]
)
def test_what_only_looks_like_a_registrys_folder_keeps_the_data(
    base: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path = base / "cache"
    (path / "ghcr.io/docker/registry/v2/blobs").mkdir(parents=True)
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).touch()
    status, _, err = run(capsys, "release", path, "--delete-data")
    assert (status, f"{name!r} and 0 more" in err) == (1, True), "it is named"
    assert (path / "ghcr.io/docker/registry/v2/blobs").exists(), "nothing is deleted by half"


@needs_root
def test_other_registries_data_changes_hands_with_it(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = base / "cache"
    blobs = path / "ghcr.io/docker/registry/v2/blobs"
    blobs.mkdir(parents=True)
    assert run(capsys, "prepare", path, UID, GID)[0] == 0
    assert {owner(each) for each in [path, *path.rglob("*")]} == {(UID, GID)}


@pytest.mark.parametrize("part", ["docker", "docker/registry", "ghcr.io", "ghcr.io/docker"])
def test_data_that_lies_behind_a_link_is_not_deleted(base: Path, capsys: pytest.CaptureFixture[str], part: str) -> None:
    path, elsewhere = base / "cache", base / "elsewhere"
    blob = elsewhere / part.partition("docker")[0] / "docker/registry/v2/blob"
    blob.mkdir(parents=True)
    (path / part).parent.mkdir(parents=True)
    (path / part).symlink_to(elsewhere / part)
    status, out, err = run(capsys, "release", path, "--delete-data")
    assert (status, out, f"'{part} (a symbolic link)' and " in err) == (1, "", True), (
        "where it leads is not ours to say"
    )
    assert blob.exists(), "nothing is deleted"
    assert (path / part).is_symlink(), "not even the link"


@needs_root
def test_data_that_another_file_system_is_mounted_in_is_not_deleted(base: Path) -> None:
    """In a mount namespace of its own, with a bind mount: its device is the same, so only the kernel's list tells."""
    path, elsewhere = base / "cache", base / "else where"
    mounted = path / "docker/registry/v2/blobs mounted"
    for each in (mounted, elsewhere):
        each.mkdir(parents=True)
    (elsewhere / "his").touch()
    trial = (
        f'mount --bind "{elsewhere}" "{mounted}" && exec "{sys.executable}" "{SCRIPT}" release "{path}" --delete-data'
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", trial], capture_output=True, check=False, text=True)
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine lets nobody mount")
    remember(line.partition(": ")[2] for line in done.stderr.splitlines())
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "'docker/registry/v2/blobs mounted (a mount)' and 0 more" in done.stderr, "it is named"
    assert (elsewhere / "his").exists(), "nothing is deleted there"
    assert mounted.exists(), "nor around it"


def test_what_is_not_the_caches_keeps_the_data_from_being_deleted(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = base / "cache"
    (path / "docker/registry/v2").mkdir(parents=True)
    (path / "thesis").touch()
    status, _, err = run(capsys, "release", path, "--delete-data")
    assert (status, "'thesis' and 0 more" in err) == (1, True), "it is named"
    assert (path / "docker/registry/v2").exists(), "nothing is deleted by half"
    link = base / "link"
    link.symlink_to(path)
    status, _, err = run(capsys, "release", link, "--delete-data")
    assert (status, "symbolic link" in err) == (1, True), "where it leads is not ours to say"


def test_the_script_runs_by_the_loader() -> None:
    argv = [sys.executable, "-I", "-c", node_command.LOADER, "release", "x"]
    done = subprocess.run(argv, input=node_command.payload(SCRIPT.stem), capture_output=True, check=False, text=True)
    assert (done.returncode, "absolute path" in done.stderr) == (1, True), "it does its work"
