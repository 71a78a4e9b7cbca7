"""Files that are ours or hold a block of ours: all or none, killed at any point, and put back to what they were."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from on_node import owned
from on_node.errors import Trouble
from on_node.owned import Wanted
from on_node.places import Places
from tests.unit.messages import remember

ENGINE = "engine"
THEIRS = b"# theirs\nkey = 1\n"


class Killed(BaseException):
    """A kill that strikes between two steps."""


class Node:
    """A folder with the administrator's file, one that is to be ours alone, and a certificate in folders that are to be made."""

    def __init__(self, root: Path) -> None:
        self.root, self.places = root, Places(str(root))
        self.theirs, self.ours = root / "etc/theirs.conf", root / "etc/conf.d/ours.conf"
        self.certificate = root / "etc/certs.d/cache:5000/ca.crt"
        self.theirs.parent.mkdir(parents=True)
        self.theirs.write_bytes(THEIRS)
        self.theirs.chmod(0o640)
        os.utime(self.theirs, (1_000, 1_000))
        Path(self.places.state).mkdir(parents=True)
        self.steps, self.kill_at = 0, 0

    def wanted(self, mirror: str = "m1") -> list[Wanted]:
        base = owned.original(self.record(), str(self.theirs)) or b""
        block = owned.block([f"mirror = {mirror}"]).encode()
        return [
            Wanted(str(self.theirs), base + block, None),
            Wanted(str(self.ours), block, None),
            Wanted(str(self.certificate), b"PEM " + mirror.encode(), 0o600),
        ]

    def record(self) -> owned.Record:
        return owned.load(self.places, ENGINE)

    def write(self, wanted: list[Wanted], take_effect: Callable[[], str | None] = lambda: None) -> Callable[[], None]:
        return owned.write(self.places, ENGINE, "A", wanted, take_effect)

    def files(self) -> dict[str, tuple[bytes, int, int]]:
        """Every file by its path, with its mode and date; of the record, that it is there."""
        state = Path(self.places.state)
        left = {str(path.relative_to(self.root)): (b"", 0, 0) for path in state.iterdir()}
        found = [path for path in self.root.rglob("*") if path.is_file() and path.parent != state]
        return left | {
            str(path.relative_to(self.root)): (path.read_bytes(), stat.S_IMODE(at.st_mode), int(at.st_mtime))
            for path in found
            for at in [path.stat()]
        }

    def folders(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_dir()}

    def strike(self) -> None:
        self.steps += 1
        if self.steps == self.kill_at:
            raise Killed

    @contextmanager
    def killed_at(self, step: int) -> Iterator[list[bool]]:
        """Calls of the system are struck before and after; the list gets an item where the kill came."""

        def struck(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*words: Any, **more: Any) -> Any:
                self.strike()
                result = real(*words, **more)
                self.strike()
                return result

            return call

        self.steps, self.kill_at = 0, step
        came: list[bool] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", struck(lambda _: None))
            for name in ("replace", "unlink", "mkdir", "rmdir"):
                patch.setattr(os, name, struck(getattr(os, name)))
            try:
                yield came
            except Killed:
                came.append(True)
        self.kill_at = 0


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "node")


def test_what_is_written_is_what_is_wanted_and_goes_without_a_trace(node: Node) -> None:
    files, folders = node.files(), node.folders()
    wanted = node.wanted()
    node.write(wanted)
    for file in wanted:
        assert Path(file.path).read_bytes() == file.raw
    assert stat.S_IMODE(node.theirs.stat().st_mode) == 0o640, "the administrator's mode stays"
    assert stat.S_IMODE(node.ours.stat().st_mode) == 0o644, "every engine can read it"
    assert stat.S_IMODE(node.certificate.stat().st_mode) == 0o600, "a mode that is asked for is given"
    assert owned.is_settled(node.record(), node.wanted()), "and there is nothing more to do"
    node.write([])
    assert (node.files(), node.folders()) == (files, folders), "bytes, modes, dates and folders are as they were"


def test_an_engine_that_does_not_take_the_files_has_them_put_back(node: Node) -> None:
    files, folders = node.files(), node.folders()
    seen: list[bytes] = []

    def take_effect() -> str:
        seen.append(node.theirs.read_bytes())
        return "it will not have it"

    with pytest.raises(Trouble, match=r"^the change was taken back: it will not have it; mend that, run again$"):
        node.write(node.wanted(), take_effect)
    assert (node.files(), node.folders()) == (files, folders), "bytes, modes, dates and folders are as they were"
    assert seen == [seen[0], THEIRS], "the engine is told once the new files are there, and again when the old ones are"


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device", "/x"), Trouble("it hangs", "it smokes")])
def test_a_failure_on_the_way_has_the_files_put_back(node: Node, trouble: Exception) -> None:
    node.write(node.wanted("m1"))
    files = node.files()

    def take_effect() -> str | None:
        raise trouble

    with pytest.raises(Exception, match=r"No space left on device|it hangs; it smokes") as caught:
        node.write(node.wanted("m2"), take_effect) if isinstance(trouble, Trouble) else node.write(
            node.wanted("m2"), failing_once(trouble)
        )
    assert isinstance(caught.value, Trouble), "the user gets a message"
    assert node.files() == files, "the files of the run before are there"


def failing_once(error: Exception) -> Callable[[], str | None]:
    errors = [error]

    def take_effect() -> str | None:
        if errors:
            raise errors.pop()
        return None

    return take_effect


def test_a_later_failure_elsewhere_undoes_what_was_written(node: Node) -> None:
    files, folders = node.files(), node.folders()
    node.write(node.wanted())()
    assert (node.files(), node.folders()) == (files, folders)


def test_a_file_that_is_no_longer_wanted_is_given_back(node: Node) -> None:
    node.write(node.wanted())
    node.write(node.wanted()[1:])
    assert node.theirs.read_bytes() == THEIRS
    assert int(node.theirs.stat().st_mtime) == 1_000, "with its date"
    assert node.ours.exists(), "the others stay"


def test_what_somebody_wrote_before_and_behind_our_block_stays(node: Node) -> None:
    node.write(node.wanted())
    node.theirs.write_bytes(b"# before\n" + node.theirs.read_bytes() + b"behind = 2\n")
    node.write(node.wanted("m2"))
    assert b"m2" in node.theirs.read_bytes()
    assert b"m1" not in node.theirs.read_bytes()
    node.write([])
    assert node.theirs.read_bytes() == b"# before\n" + THEIRS + b"behind = 2\n"


def test_lines_that_somebody_put_into_a_file_of_ours_stay(node: Node) -> None:
    node.write(node.wanted())
    node.ours.write_bytes(node.ours.read_bytes() + b"own = 1\n")
    node.write([])
    assert node.ours.read_bytes() == b"own = 1\n"


def test_a_file_that_somebody_replaced_stays_and_is_named(node: Node) -> None:
    node.write(node.wanted())
    node.certificate.write_bytes(b"another")
    assert owned.changed_by_others(node.record()) == [str(node.certificate)]
    node.write([])
    assert node.certificate.read_bytes() == b"another"
    assert node.theirs.read_bytes() == THEIRS, "the others are given back"


def test_a_folder_of_ours_that_others_use_stays(node: Node) -> None:
    node.write(node.wanted())
    (node.certificate.parent / "client.cert").write_bytes(b"theirs")
    node.write([])
    assert [path.name for path in node.certificate.parent.iterdir()] == ["client.cert"]


def test_a_file_that_somebody_deleted_is_not_brought_back(node: Node) -> None:
    node.write(node.wanted())
    node.theirs.unlink()
    node.write([])
    assert not node.theirs.exists()


def test_a_file_of_ours_alone_goes_whole_though_its_record_was_lost(node: Node) -> None:
    node.write(node.wanted())
    Path(owned.record_path(node.places, ENGINE)).unlink()
    node.write(node.wanted())
    node.certificate.unlink()
    node.write([])
    assert node.theirs.read_bytes() == THEIRS
    assert not node.ours.exists(), "an empty file would be ours too"


def test_a_link_in_the_place_of_a_file_that_is_there_keeps_its_target(node: Node, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.conf"
    target.write_bytes(THEIRS)
    node.theirs.unlink()
    node.theirs.symlink_to(target)
    wanted = [Wanted(os.path.realpath(node.theirs), b"new", None)]
    node.write(wanted)
    assert node.theirs.is_symlink()
    assert target.read_bytes() == b"new"
    node.write([])
    assert node.theirs.is_symlink()
    assert target.read_bytes() == THEIRS


@pytest.mark.parametrize("text", ["", "{", '{"files": {"/x": {"before": "?"}}}', "[]", '{"files": {}}'])
def test_a_damaged_record_is_named(node: Node, text: str) -> None:
    Path(owned.record_path(node.places, ENGINE)).write_text(text)
    with pytest.raises(
        Trouble, match="is damaged; take our lines out of the engine's files by hand, then delete it"
    ) as it:
        node.record()
    remember(it.value.problems)


STORIES: dict[str, tuple[list[str], str | None]] = {
    "first": ([], "m1"),
    "changed": (["m1"], "m2"),
    "removed": (["m1"], None),
    "removed after a change": (["m1", "m2"], None),
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("ending", ["again", "undone"])
def test_a_kill_at_any_step_is_finished_by_the_next_run(story: str, ending: str, tmp_path: Path) -> None:
    before, last = STORIES[story]
    for step in range(1, 200):
        node = Node(tmp_path / str(step))
        files, folders = node.files(), node.folders()
        for mirror in before:
            node.write(node.wanted(mirror))
        former = {path: item[0] for path, item in node.files().items()}
        wanted = node.wanted(last) if last else []
        with node.killed_at(step) as came:
            node.write(wanted)
        if not came:
            assert step > 10, "the run has to have been killed at many steps"
            return
        whole = {str(Path(file.path).relative_to(node.root)): file.raw for file in wanted}
        for path, (raw, _, _) in node.files().items():
            if path.startswith("etc/") and "docker-cache." not in path:
                allowed = {former.get(path), whole.get(path), files[path][0] if path in files else None}
                assert raw in allowed, f"{path} is old or new, and whole (step {step})"
        if ending == "again":
            again = node.wanted(last) if last else []
            node.write(again)
            for file in again:
                assert Path(file.path).read_bytes() == file.raw, f"the next run finishes (step {step})"
            assert owned.is_settled(node.record(), again), f"and knows it (step {step})"
            assert not node.record()["unfinished"]
        node.write([])
        assert node.files() == files, f"bytes, modes and dates come back (step {step})"
        assert node.folders() == folders, f"and the folders that were made go (step {step})"
    pytest.fail("the run never came to its end")


@pytest.mark.parametrize("step", range(1, 60))
def test_a_kill_while_a_change_is_taken_back_is_finished_by_the_next_run(step: int, tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    files, folders = node.files(), node.folders()
    undo = node.write(node.wanted())
    with node.killed_at(step):
        undo()
    node.write([])
    assert (node.files(), node.folders()) == (files, folders)


def test_a_kill_before_the_engine_took_the_files_makes_the_next_run_tell_it(node: Node) -> None:
    def take_effect() -> str | None:
        raise Killed

    with pytest.raises(Killed):
        node.write(node.wanted(), take_effect)
    assert not owned.is_settled(node.record(), node.wanted()), "the files are right, and the engine does not have them"
    told: list[bool] = []
    node.write(node.wanted(), lambda: told.append(True))
    assert told == [True]
    assert owned.is_settled(node.record(), node.wanted())


@given(
    base=st.binary(max_size=40).filter(lambda raw: owned.BEGIN.encode() not in raw),
    edits=st.lists(st.sampled_from(["m1", "m2", "remove"]), max_size=5),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_content_comes_back_after_any_run_of_changes(
    base: bytes, edits: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    node = Node(tmp_path_factory.mktemp("any") / "node")
    node.theirs.write_bytes(base)
    for edit in edits:
        node.write([] if edit == "remove" else node.wanted(edit))
    node.write([])
    assert node.theirs.read_bytes() == base
