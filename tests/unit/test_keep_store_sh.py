"""`in_pod/keep_store.sh` and `receive_requests.sh` on a store as Distribution lays it out, with this machine's shell and, where it
has one, with busybox, which is what runs them in the registry's image.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sandbox.rootfs import ROOTFS
from tests.unit.programs import write_programs

IN_POD = Path(__file__).resolve().parents[2] / "in_pod"
BUSYBOX = shutil.which("busybox") or str(ROOTFS / "bin/busybox")
TOOLS = (
    "sh", "awk", "cat", "date", "find", "grep", "ln", "nc", "readlink", "rm", "rmdir", "sed", "sleep", "stat", "timeout", "touch",
    "xargs",
)  # fmt: skip
DAY = 86400
EMPTY = hashlib.sha256(b"").hexdigest()


class Store:
    """A store that is being filled, and the scripts that keep it."""

    def __init__(self, folder: Path, path: str) -> None:
        self.folder = folder / "store"
        self.work = folder / "work"
        self.work.mkdir()
        self.path = path

    def root(self, host: str = "") -> Path:
        return self.folder / host / "docker/registry/v2"

    def blob(self, data: bytes, *, age: float = DAY, host: str = "", broken: bool = False) -> str:
        digest = hashlib.sha256(data).hexdigest()
        file = self.blob_file(digest, host)
        write(file, b"" if broken else data, age)
        return digest

    def blob_file(self, digest: str, host: str = "") -> Path:
        return self.root(host) / "blobs/sha256" / digest[:2] / digest / "data"

    def revision(self, name: str, digest: str, host: str = "") -> Path:
        return self.root(host) / "repositories" / name / "_manifests/revisions/sha256" / digest / "link"

    def tag(self, name: str, tag: str, host: str = "") -> Path:
        return self.root(host) / "repositories" / name / "_manifests/tags" / tag / "current/link"

    def layer(self, name: str, digest: str, host: str = "") -> Path:
        return self.root(host) / "repositories" / name / "_layers/sha256" / digest / "link"

    def image(
        self,
        name: str,
        layers: Iterable[bytes],
        *,
        tag: str = "",
        age: float = DAY,
        host: str = "",
        config: bytes = b"",
    ) -> str:
        """An image that was asked for `age` seconds ago; the manifest's digest."""
        blobs = [self.blob(data, host=host) for data in (config or name.encode() + tag.encode(), *layers)]
        for digest in blobs:
            write(self.layer(name, digest, host), f"sha256:{digest}".encode(), DAY)
        listed = [{"size": 1, "digest": f"sha256:{digest}"} for digest in blobs]
        manifest = {"schemaVersion": 2, "config": listed[0], "layers": listed[1:]}
        return self.manifest(name, json.dumps(manifest, indent=3), tag=tag, age=age, host=host)

    def index(self, name: str, manifests: Iterable[str], *, tag: str = "", age: float = DAY) -> str:
        listed = [{"digest": f"sha256:{digest}", "platform": {"os": "linux"}} for digest in manifests]
        return self.manifest(name, json.dumps({"manifests": listed}), tag=tag, age=age)

    def manifest(self, name: str, text: str, *, tag: str, age: float, host: str = "") -> str:
        digest = self.blob(text.encode(), host=host)
        write(self.revision(name, digest, host), f"sha256:{digest}".encode(), age)
        if tag:
            link = self.tag(name, tag, host)
            write(link, f"sha256:{digest}".encode(), age)
            write(link.parent.parent / f"index/sha256/{digest}/link", f"sha256:{digest}".encode(), age)
        return digest

    def run(self, script: str, *arguments: str, text: str = "", **environment: str) -> str:
        given = {"PATH": self.path, "SCRIPTS": str(IN_POD), "WORK": str(self.work), **environment}
        shell = shutil.which("sh", path=self.path)
        assert shell
        done = subprocess.run(
            [shell, str(IN_POD / script), *arguments], env=given, input=text, capture_output=True, text=True, check=False, timeout=60
        )  # fmt: skip
        assert done.returncode or not done.stderr, done.stderr
        self.status = done.returncode
        return done.stdout

    def keep(self, *, most: int = 0, ttl: int = 0, **environment: str) -> str:
        """One run that also takes what no manifest needs."""
        return self.run("keep_store.sh", str(self.folder), str(most), str(ttl), "now", **environment)

    def give(self, tool: str, script: str) -> None:
        """Another program in a tool's place."""
        if "busybox" in os.path.realpath(shutil.which("sh", path=self.path) or ""):
            pytest.skip("busybox's shell takes no tools but its own")
        programs = self.work.parent / "programs"
        write_programs(programs, {tool: script})
        self.path = f"{programs}:{self.path}"

    def keep_as_planned(self, plan: str) -> str:
        """One run with an awk program of the test's in keep_store.awk's place."""
        scripts = self.work.parent / "scripts"
        scripts.mkdir(exist_ok=True)
        (scripts / "keep_store.awk").write_text(plan)
        return self.keep(SCRIPTS=str(scripts))

    def report(self, *lines: str) -> str:
        return self.receive("".join(f"{line}\n" for line in (*lines, "end")))

    def receive(self, text: str, **environment: str) -> str:
        return self.run("receive_requests.sh", str(self.folder), text=text, **environment)

    def files(self) -> set[str]:
        return {str(file.relative_to(self.folder)) for file in self.folder.rglob("*") if file.is_file()}


def write(file: Path, data: bytes, age: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    made = time.time() - age
    os.utime(file, (made, made))


@pytest.fixture(params=["this machine's", "busybox"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    path = os.environ["PATH"]
    if request.param == "busybox":
        if not Path(BUSYBOX).exists():
            pytest.skip("no busybox on this machine")
        tools = tmp_path / "bin"
        tools.mkdir()
        for tool in TOOLS:
            (tools / tool).symlink_to(BUSYBOX)
        path = str(tools)
    return Store(tmp_path, path)


BIG = 1 << 20


def noise(seed: int, size: int = BIG) -> bytes:
    return bytes([seed]) * size


def test_without_bounds_nothing_that_is_whole_goes(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=1000 * DAY)
    before = store.files()
    said = store.keep()
    assert store.files() == before
    assert store.status == 0
    assert said == "keep_store.sh: the cache takes 2 MiB\n"


def test_an_image_that_nobody_asked_for_goes_whole_and_others_stay_whole(store: Store) -> None:
    shared, own = noise(1), noise(2)
    old = store.image("library/app", [shared, own], tag="1", age=40 * DAY)
    kept = store.image("other/deep/name", [shared], tag="2", age=20 * DAY)
    said = store.keep(ttl=30 * DAY)
    assert "keep_store.sh: library/app:1 goes: nobody asked for it for 40 days\n" in said
    assert not store.tag("library/app", "1").parent.parent.exists()
    assert not store.revision("library/app", old).exists()
    assert not store.blob_file(old).parent.exists()
    own_digest, shared_digest = (hashlib.sha256(data).hexdigest() for data in (own, shared))
    assert not store.blob_file(own_digest).parent.exists()
    assert not store.layer("library/app", own_digest).exists(), "a link without its blob is litter"
    assert store.blob_file(shared_digest).exists(), "another repository's image needs it"
    assert store.revision("other/deep/name", kept).exists()
    assert store.tag("other/deep/name", "2").exists()


def test_past_the_size_those_go_first_that_nobody_asked_for_the_longest(store: Store) -> None:
    for number, age in ((1, 2 * DAY), (2, 5 * DAY), (3, 1 * DAY), (4, 3 * DAY)):
        store.image("library/app", [noise(number, 4 * BIG)], tag=str(number), age=age)
    store.keep(most=10 * 1024)
    left = {tag for tag in "1234" if store.tag("library/app", tag).exists()}
    assert left == {"1", "3"}, "two of 4 MiB fit into 10, and no more go than have to"


def test_small_files_count_as_what_they_take(store: Store) -> None:
    for number in range(40):
        store.image("library/app", [bytes([number])], tag=str(number), age=(1 + number) * DAY)
    said = store.keep(most=500)
    left = [file for file in store.files() if file.endswith("current/link")]
    taken = sum((store.folder / file).stat().st_blocks for file in store.files()) / 2
    assert 450 < taken <= 500, f"{len(left)} images take {taken} KiB: {said}"


def test_each_upstreams_images_count_into_one_size(store: Store) -> None:
    store.image("library/app", [noise(1, 4 * BIG)], tag="1", age=2 * DAY)
    store.image("org/tool", [noise(1, 4 * BIG)], tag="1", age=3 * DAY, host="ghcr.io")
    said = store.keep(most=6 * 1024)
    assert "ghcr.io/org/tool:1 goes" in said
    assert store.tag("library/app", "1").exists()
    digest = hashlib.sha256(noise(1, 4 * BIG)).hexdigest()
    assert store.blob_file(digest).exists(), "the same blob in another upstream's store is another file"
    assert not store.blob_file(digest, "ghcr.io").exists()


def test_a_blob_of_an_image_that_goes_stays_while_it_is_asked_for(store: Store) -> None:
    layer = noise(1)
    store.image("library/app", [layer], tag="1", age=40 * DAY)
    asked_for = store.blob(layer, age=5)
    store.keep(ttl=30 * DAY)
    assert not store.tag("library/app", "1").exists()
    assert store.blob_file(asked_for).exists()


def test_what_was_asked_for_a_moment_ago_stays_whatever_it_takes(store: Store) -> None:
    store.image("library/app", [noise(1, 4 * BIG)], tag="1", age=60)
    said = store.keep(most=1024, ttl=30)
    assert store.tag("library/app", "1").exists()
    assert "docker_cache_fs_max_size allows 1 MiB: what is left was asked for in the last hour" in said


def test_an_index_and_its_manifests_are_one_image(store: Store) -> None:
    arm = store.image("library/app", [noise(1)], age=50 * DAY)
    amd = store.image("library/app", [noise(2)], age=50 * DAY)
    index = store.index("library/app", [arm, amd], tag="1", age=DAY)
    store.keep(ttl=30 * DAY)
    assert store.revision("library/app", arm).exists(), (
        "its index was asked for: without it the image would not be whole"
    )
    for link in (
        store.tag("library/app", "1"),
        store.revision("library/app", index),
        store.revision("library/app", amd),
    ):
        os.utime(link, (time.time() - 40 * DAY,) * 2)
    store.keep(ttl=30 * DAY)
    assert not [file for file in store.files() if "blobs" in file or "revisions" in file]


def test_an_index_stays_while_one_of_its_manifests_is_asked_for(store: Store) -> None:
    amd = store.image("library/app", [noise(2)], age=DAY)
    store.index("library/app", [amd], tag="1", age=40 * DAY)
    before = store.files()
    store.keep(ttl=30 * DAY)
    assert store.files() == before


def test_a_manifest_that_two_indexes_have_goes_with_the_last_of_them(store: Store) -> None:
    shared = store.image("library/app", [noise(1)], age=45 * DAY)
    own = store.image("library/app", [noise(2)], age=45 * DAY)
    store.index("library/app", [shared, own], tag="old", age=40 * DAY)
    store.index("library/app", [shared], tag="new", age=DAY)
    store.keep(ttl=30 * DAY)
    assert store.revision("library/app", shared).exists()
    assert not store.revision("library/app", own).exists()
    assert not store.tag("library/app", "old").exists()


def test_a_tag_that_moved_leaves_its_old_image_to_go_alone(store: Store) -> None:
    old = store.image("library/app", [noise(1)], tag="latest", age=40 * DAY, config=b"old")
    new = store.image("library/app", [noise(2)], tag="latest", age=DAY, config=b"new")
    store.keep(ttl=30 * DAY)
    assert not store.revision("library/app", old).exists()
    assert store.tag("library/app", "latest").read_text() == f"sha256:{new}"
    history = store.tag("library/app", "latest").parent.parent / "index/sha256"
    assert [entry.name for entry in history.iterdir()] == [new]


def test_a_blob_that_no_manifest_needs_goes_once_nobody_has_asked_for_it_for_a_day(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1")
    orphan, asked_for = store.blob(noise(2), age=DAY + 60), store.blob(noise(3), age=DAY - 60)
    said = store.keep()
    assert not store.blob_file(orphan).exists()
    assert store.blob_file(asked_for).exists(), "the front may have the manifest of an image that went"
    assert "0 images and 1 blobs go, 1 MiB" in said


def test_a_blob_that_no_manifest_needs_takes_its_turn_among_the_images(store: Store) -> None:
    store.image("library/app", [noise(1, 4 * BIG)], tag="1", age=3 * DAY)
    store.image("library/app", [noise(2, 4 * BIG)], tag="2", age=3 * 3600)
    younger, youngest = store.blob(noise(3, 4 * BIG), age=2 * 3600), store.blob(noise(4, 4 * BIG), age=1800)
    store.keep(most=13 * 1024)
    assert not store.tag("library/app", "1").exists(), "nobody has asked for it the longest"
    assert store.blob_file(younger).exists()
    store.keep(most=5 * 1024)
    assert not store.tag("library/app", "2").exists()
    assert not store.blob_file(younger).exists()
    assert store.blob_file(youngest).exists(), "its manifest may be about to be written"


def test_a_download_under_way_is_left_alone_and_an_abandoned_one_goes(store: Store) -> None:
    uploads = store.root() / "repositories/library/app/_uploads"
    write(uploads / "running/data", noise(1), 10)
    write(uploads / "abandoned/data", noise(2), 7200)
    write(uploads / "abandoned/startedat", b"2026", 7200)
    store.keep(most=1)
    assert [entry.name for entry in uploads.iterdir()] == ["running"]


def test_a_blob_without_content_goes_and_the_one_that_is_empty_by_right_stays(store: Store) -> None:
    layer = noise(1)
    store.image("library/app", [layer, b""], tag="1")
    digest = store.blob(layer, broken=True)
    said = store.keep()
    assert not store.blob_file(digest).parent.exists()
    assert store.blob_file(EMPTY).exists()
    assert f"sha256:{digest[:12]}… is stored without its content: it is fetched anew when it is asked for" in said


def test_an_image_without_its_manifest_keeps_what_its_repository_has(store: Store) -> None:
    layer = noise(1)
    manifest = store.image("library/app", [layer], tag="1", age=DAY)
    store.blob_file(manifest).write_bytes(b"")
    for file in (store.blob_file(manifest), store.blob_file(hashlib.sha256(layer).hexdigest())):
        os.utime(file, (time.time() - 3 * DAY,) * 2)
    store.keep(ttl=30 * DAY)
    store.keep(ttl=30 * DAY)
    assert store.blob_file(hashlib.sha256(layer).hexdigest()).exists(), (
        "gigabytes, when only the manifest is to be mended"
    )
    assert not store.blob_file(manifest).exists()


def test_links_without_content_and_half_written_ones_go(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1")
    broken = store.layer("library/app", "ab" * 32)
    write(broken, b"", 3600)
    half = store.tag("library/app", "1").parent / "link.0d5a.tmp"
    write(half, b"", 7200)
    young = store.layer("library/app", "cd" * 32)
    write(young, b"", 5)
    store.keep()
    assert not broken.exists()
    assert not half.exists()
    assert young.exists(), "somebody may be writing it"
    assert store.tag("library/app", "1").exists()


def test_a_manifest_that_can_not_be_read_keeps_everything(store: Store) -> None:
    manifest = store.blob_file(store.image("library/app", [noise(1)], tag="1", age=40 * DAY))
    listed = [store.folder / file for file in store.files()]
    lines = [f"{file.stat().st_blocks} {int(file.stat().st_mtime)} {file.stat().st_size} {file}" for file in listed]
    # Even root can read everything that is there.
    manifest.unlink()
    awk = shutil.which("awk", path=store.path)
    assert awk
    values = {"top": store.folder, "now": int(time.time()), "in_use": 600, "ttl": DAY, "most": 0, "sweep": 1}
    given = [word for key, value in values.items() for word in ("-v", f"{key}={value}")]
    plan = subprocess.run(
        [awk, *given, "-f", str(IN_POD / "keep_store.awk")], input="\n".join([*lines, "end"]), capture_output=True, text=True, check=False
    )  # fmt: skip
    assert plan.returncode == 1
    assert plan.stdout == f"say {manifest} can't be read: nothing is removed\n"
    store.keep(ttl=DAY)
    assert not store.tag("library/app", "1").exists(), "the next time it is not listed"


PLANS = {
    "cut": 'END { print "rm " path }',
    "cut within a path": 'END { printf "rm " root "/blobs/sha256" }',
    "cut where a name has an end": 'END { print "rm " path; printf "rm " root "/repositories/library/app/_manifests/tags/the-end" }',
    "too much": 'END { print "rm " root "/blobs/sha256"; print "end" }',
    "every image": 'END { print "rm " root "/repositories"; print "end" }',
    "one repository": 'END { print "rm " root "/repositories/library/app"; print "end" }',
    "another folder": 'END { print "rm " root "/../../../../outside/blobs/sha256/ab/cd"; print "end" }',
    "another blob": 'END { print "rm " root "/blobs/sha256/../sha256/ab"; print "end" }',
    "ended": 'END { print "rm " path; exit 1 }',
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_plan_that_is_not_whole_or_names_more_than_an_image_removes_nothing(store: Store, plan: str) -> None:
    store.image("library/app", [noise(1)], tag="1")
    digest = store.blob(noise(2))
    before = store.files()
    named = f'BEGIN {{ root = "{store.root()}"; path = "{store.blob_file(digest).parent}" }}\n'
    said = store.keep_as_planned(named + plan)
    assert store.files() == before
    assert store.status == 1
    assert "nothing is removed" in said or "is no part of an image: it stays" in said


def test_what_is_asked_for_while_the_others_go_stays(store: Store) -> None:
    asked_for, other = store.blob_file(store.blob(noise(1))), store.blob_file(store.blob(noise(2)))
    tag = store.tag("library/app", "1")
    write(tag, b"sha256:" + b"0" * 64, DAY)
    touched = f'system("touch {asked_for} {tag}")'
    planned = "".join(f'print "rm {path}"; ' for path in (tag.parent.parent, asked_for.parent, other.parent))
    store.keep_as_planned(f'END {{ {touched}; {planned} print "end" }}')
    assert asked_for.exists()
    assert tag.exists()
    assert not other.exists()
    assert store.status == 0


def test_a_list_that_was_cut_is_no_reason_to_remove_anything(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=40 * DAY)
    orphan = store.blob_file(store.blob(noise(2), age=40 * DAY))
    awk = shutil.which("awk", path=store.path)
    assert awk
    values = {"top": store.folder, "now": int(time.time()), "in_use": 600, "ttl": DAY, "most": 0, "sweep": 1}
    given = [word for key, value in values.items() for word in ("-v", f"{key}={value}")]
    text = f"8 {int(time.time() - 40 * DAY)} {BIG} {orphan}\n"
    plan = subprocess.run(
        [awk, *given, "-f", str(IN_POD / "keep_store.awk")], input=text, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert plan.returncode == 1
    assert plan.stdout == ""


@pytest.mark.parametrize("script", ["echo 'find: x: Input/output error' >&2; exit 1", "exit 2", "kill -KILL $$"])
def test_a_store_that_can_not_be_looked_at_as_a_whole_keeps_everything(store: Store, script: str) -> None:
    store.image("library/app", [noise(1)], tag="1", age=40 * DAY)
    before = store.files()
    real = shutil.which("find", path=store.path)
    store.give("find", f'{real} "$@"\n{script}')
    said = store.keep(ttl=DAY)
    assert store.files() == before
    assert store.status == 1
    assert said == f"keep_store.sh: {store.folder} can't be looked at: nothing is removed\n"


def test_what_goes_while_it_is_looked_at_is_no_failure(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=40 * DAY)
    real = shutil.which("find", path=store.path)
    store.give("find", f"{real} \"$@\"\necho 'stat: x: No such file or directory' >&2; exit 1")
    store.keep(ttl=DAY)
    assert store.status == 0
    assert not store.tag("library/app", "1").exists()


def test_without_room_for_its_own_files_it_makes_room(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=40 * DAY)
    store.keep(ttl=DAY, WORK="/dev/full")
    assert not store.tag("library/app", "1").exists()
    assert store.status == 0


def test_without_memory_for_the_plan_nothing_goes(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=40 * DAY)
    before = store.files()
    said = store.keep(ttl=DAY, MOST_MEMORY_KIB="100")
    assert store.files() == before
    assert store.status == 1
    assert "nothing is removed" in said


def test_without_bounds_a_store_of_any_size_takes_no_memory(store: Store) -> None:
    shell = shutil.which("sh", path=store.path)
    assert shell
    digest = hashlib.sha256(b"").hexdigest()[8:]
    lines = (f"8 1 10 {store.root()}/blobs/sha256/ab/{number:08x}{digest}/data\n" for number in range(60_000))
    script = f'ulimit -v 24576; exec awk -v now=9 -v sweep=0 -f "{IN_POD}/keep_store.awk"'
    done = subprocess.run(
        [shell, "-c", script], env={"PATH": store.path}, input="".join(lines) + "end\n", capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.stdout == "end\n", done.stderr


def test_what_is_old_is_told_by_the_clock_of_the_stores_own_files(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=2 * DAY)
    store.give("date", "echo 4000000000")
    store.keep(ttl=30 * DAY)
    assert store.tag("library/app", "1").exists()
    store.keep(ttl=DAY)
    assert not store.tag("library/app", "1").exists()


def test_without_a_clock_nothing_goes(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=40 * DAY)
    before = store.files()
    store.give("touch", "exit 1")
    said = store.keep(ttl=DAY)
    assert store.files() == before
    assert store.status == 1
    assert said == f"keep_store.sh: {store.folder} has no time: nothing is removed\n"


def test_what_was_left_behind_counts_no_more_once_it_goes(store: Store) -> None:
    store.image("library/app", [noise(1, 4 * BIG)], tag="1", age=DAY)
    write(store.root() / "repositories/library/app/_uploads/abandoned/data", noise(2, 8 * BIG), 7200)
    said = store.keep(most=6 * 1024)
    assert store.tag("library/app", "1").exists()
    assert said == "keep_store.sh: the cache takes 5 MiB\n"


def test_half_written_blobs_and_uploads_without_data_go_after_an_hour(store: Store) -> None:
    blob = store.blob_file(store.blob(noise(1), age=60))
    half, young = blob.parent / "data.0d5a.tmp", blob.parent / "data.0d5b.tmp"
    write(half, b"x", 7200)
    write(young, b"x", 60)
    started = store.root() / "repositories/library/app/_uploads/0d5a/startedat"
    write(started, b"2026", 7200)
    running = store.root() / "repositories/library/app/_uploads/0d5b"
    write(running / "startedat", b"2026", 7200)
    write(running / "data", b"x", 60)
    store.keep()
    assert not half.exists()
    assert young.exists()
    assert blob.exists()
    assert not started.parent.exists()
    assert (running / "startedat").exists()


def test_folders_that_images_leave_behind_go_after_an_hour(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=40 * DAY)
    store.image("library/kept", [noise(2)], tag="1", age=DAY)
    old, young = (store.root() / f"repositories/library/{name}/_layers/sha256" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 7200,) * 2)
    store.keep(ttl=30 * DAY)
    assert not old.exists()
    assert young.exists(), "somebody may be about to write there"
    assert store.tag("library/kept", "1").exists()


def test_a_file_that_nfs_keeps_for_who_is_reading_it_is_no_failure(store: Store) -> None:
    blob = store.blob_file(store.blob(noise(1), age=40 * DAY))
    # A folder with such a file in it can't be removed.
    store.give("rm", 'for last; do :; done; [ ! -e "$last/data" ] || mv "$last/data" "$last/.nfs0001"; exit 1')
    store.keep()
    assert not blob.exists()
    assert store.status == 0


def test_what_can_not_be_removed_is_said(store: Store) -> None:
    blob = store.blob_file(store.blob(noise(1), age=40 * DAY))
    store.give("rm", "echo 'rm: Permission denied' >&2; exit 1")
    said = store.keep()
    assert f"keep_store.sh: {blob.parent} can't be removed: rm: Permission denied\n" in said
    assert store.status == 1


def test_a_run_waits_for_another_and_not_for_one_that_was_ended(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=40 * DAY)
    lock = store.work / "lock"
    lock.symlink_to(str(os.getpid()))
    with ThreadPoolExecutor() as pool:
        running = pool.submit(store.keep, ttl=DAY)
        time.sleep(1.5)
        assert not running.done()
        assert store.tag("library/app", "1").exists()
        with subprocess.Popen(["true"]) as ended:
            pass
        lock.unlink()
        lock.symlink_to(str(ended.pid))
        running.result()
    assert not store.tag("library/app", "1").exists()
    assert not lock.is_symlink()


def test_a_report_makes_an_image_the_youngest(store: Store) -> None:
    by_tag = store.image("library/app", [noise(1, 4 * BIG)], tag="1", age=5 * DAY)
    by_digest = store.image("org/tool", [noise(2, 4 * BIG)], age=5 * DAY, host="registry.example-5000")
    store.image("library/other", [noise(3, 4 * BIG)], tag="1", age=DAY)
    answer = store.report(
        "docker.io /v2/library/app/manifests/1",
        f"registry.example:5000 /v2/org/tool/manifests/sha256:{by_digest}",
        "docker.io /v2/library/gone/manifests/1",
    )
    assert answer == "ok\n"
    store.keep(most=10 * 1024)
    assert store.revision("library/app", by_tag).exists()
    assert store.revision("org/tool", by_digest, "registry.example-5000").exists()
    assert not store.tag("library/other", "1").exists(), "asked for a day ago, the others just now"
    assert not store.tag("library/gone", "1").exists(), "a report makes nothing"


def test_a_blob_that_was_asked_for_is_in_use(store: Store) -> None:
    orphan = store.blob(noise(1), age=2 * DAY)
    store.report(f"docker.io /v2/library/app/blobs/sha256:{orphan}")
    store.keep()
    assert store.blob_file(orphan).exists()
    store.keep(most=1)
    assert store.blob_file(orphan).exists(), "whatever it takes"
    os.utime(store.blob_file(orphan), (time.time() - 60,) * 2)
    store.keep(most=1, IN_USE_SECONDS="30")
    assert not store.blob_file(orphan).exists()


def test_a_blob_without_content_goes_as_soon_as_it_is_asked_for(store: Store) -> None:
    store.image("library/app", [noise(1), b""], tag="1")
    digest = store.blob(noise(1), age=1, broken=True)
    store.report(f"docker.io /v2/library/app/blobs/sha256:{digest}", f"docker.io /v2/library/app/blobs/sha256:{EMPTY}")
    assert not store.blob_file(digest).exists()
    assert store.blob_file(EMPTY).exists()


@pytest.mark.parametrize(
    "line",
    [
        "docker.io /v2/../../outside/manifests/1",
        "docker.io /v2/library/../../../../../../outside/manifests/1",
        "../x /v2/library/app/manifests/1",
        "docker.io /v2/library/app/manifests/..",
        "docker.io /v2/library/app/blobs/sha256:../../../../x",
        "docker.io /v2/library/$(touch${IFS}x)/manifests/1",
        "docker.io",
    ],
)
def test_a_report_reaches_nothing_but_the_stores(store: Store, line: str) -> None:
    outside = store.folder.parent / "outside/_manifests/tags/1/current/link"
    write(outside, b"x", DAY)
    before = outside.stat().st_mtime
    store.image("library/app", [noise(1)], tag="1")
    files = store.files()
    assert store.report(line) == "ok\n"
    assert outside.stat().st_mtime == before
    assert store.files() == files


def test_a_report_that_was_cut_is_not_answered_and_so_told_again(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=DAY)
    line = "docker.io /v2/library/app/manifests/1\n"
    assert not store.receive(line)
    assert not store.receive(line + "en")
    assert store.receive(line + "end\n") == "ok\n"


def test_a_line_of_many_megabytes_is_not_read_whole(store: Store) -> None:
    answer = store.receive("x" * (80 << 20) + "\nend\n", PATIENCE_SECONDS="10")
    assert not answer, "it takes the memory of the registry's pod"
    assert store.report("docker.io /v2/library/app/manifests/1") == "ok\n"


def test_a_report_is_many_files_touched_at_once(store: Store) -> None:
    links = [store.tag("library/app", str(number)) for number in range(500)]
    for link in links:
        write(link, b"sha256:" + b"0" * 64, DAY)
    calls = store.work / "calls"
    store.give("touch", f'echo called >> {calls}\n{shutil.which("touch", path=store.path)} "$@"')
    store.report(*(f"docker.io /v2/library/app/manifests/{number}" for number in range(500)))
    assert len(calls.read_text().splitlines()) < 10, "a process for each would keep the front waiting"
    assert all(time.time() - link.stat().st_mtime < 60 for link in links)


def test_who_connects_and_says_nothing_holds_up_nobody_for_long(store: Store) -> None:
    shell = shutil.which("sh", path=store.path)
    assert shell
    script = [shell, str(IN_POD / "receive_requests.sh"), str(store.folder)]
    with subprocess.Popen(script, env={"PATH": store.path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as silent:
        assert silent.wait(timeout=8)


def test_the_process_of_the_pod_mends_at_once_takes_reports_and_ends_when_told_to(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=DAY)
    digest = store.blob(noise(1), broken=True)
    needed_by_none = store.blob_file(store.blob(noise(2), age=40 * DAY))
    with the_process(store, ttl=0) as (process, port):
        wait_until(lambda: not store.blob_file(digest).exists(), "a blob without content stays")
        wait_until(lambda: not (store.work / "lock").is_symlink(), "it does not end")
        assert needed_by_none.exists(), "without bounds everything is kept that is whole"
        for _ in range(2):
            assert ask(port, "docker.io /v2/library/app/manifests/1\nend\n") == "ok\n", "one report after another"
        assert time.time() - store.tag("library/app", "1").stat().st_mtime < 60
        process.terminate()
        assert process.wait(timeout=10) == 0


def test_in_its_first_hour_nothing_goes_for_its_age_since_the_fronts_were_not_heard_yet(store: Store) -> None:
    store.image("library/app", [noise(1)], tag="1", age=40 * DAY)
    digest = store.blob(noise(2), age=DAY - 60, broken=True)
    # One that was ended within a run has left that.
    (store.work / "lock").symlink_to(str(os.getpid()))
    with the_process(store, ttl=30 * DAY):
        wait_until(lambda: not store.blob_file(digest).exists(), "it does nothing")
        wait_until(lambda: not (store.work / "lock").is_symlink(), "it does not end")
        assert store.tag("library/app", "1").exists()
    with the_process(store, ttl=30 * DAY, SPARED_SECONDS="0"):
        wait_until(lambda: not store.tag("library/app", "1").exists(), "it stays whatever its age")


@contextmanager
def the_process(store: Store, *, ttl: int, **given: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Process 1 of the container, and the port of the reports."""
    if "busybox" not in os.path.realpath(shutil.which("nc", path=store.path) or ""):
        pytest.skip("nc is busybox's there")
    port = free_port()
    environment = {"PATH": store.path, "SCRIPTS": str(IN_POD), "WORK": str(store.work), "PORT": str(port), **given}
    command = [f"{store.path}/sh", str(IN_POD / "keep_store.sh"), str(store.folder), "0", str(ttl)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            yield process, port
        finally:
            # What the end of a pod does to those that it has started.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(port: int, text: str) -> str:
    """The answer to a report, which is sent again while nobody listens."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(text.encode())
                return connection.makefile().read()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens for reports"
            time.sleep(0.05)


def wait_until(holds: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)
