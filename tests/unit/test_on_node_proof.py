"""The pull by which a node shows that docker gets images with the mirror, against a mirror over http and a stand-in for docker."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from on_node import proof, tools
from on_node.address import parse_entry
from on_node.errors import Trouble
from tests.unit.test_on_node_docker import ENTRY, HOSTPORT, StandInNode

INDEX = b'{"schemaVersion": 2}'
PINNED = "library/hello-world@sha256:" + hashlib.sha256(INDEX).hexdigest()


class Mirror(BaseHTTPRequestHandler):
    """Answers with one manifest, or as it is told."""

    status: ClassVar[int] = 200
    asked: ClassVar[list[tuple[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Accept"]))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(INDEX)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    Mirror.status, Mirror.asked = 200, []
    server = HTTPServer(("127.0.0.1", 0), Mirror)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Client:
    """docker's client: what it is asked, and what it answers by the command's first word."""

    def __init__(self, **statuses: int) -> None:
        self.statuses, self.errors, self.asked = {"inspect": 1} | statuses, "", list[str]()

    def __call__(self, words: Sequence[str], seconds: float) -> tuple[int, str]:
        assert seconds > 0
        self.asked.append(" ".join(words))
        return self.statuses.get(words[1] if words[0] == "image" else words[0], 0), self.errors


@pytest.fixture
def node(tmp_path: Path) -> StandInNode:
    return StandInNode(tmp_path / "node", '{"debug": false}')


def prove(
    node: StandInNode,
    mirror: str,
    client: Client,
    image: str = "hello-world:latest",
    *,
    lines: Sequence[str] = (),
    monkeypatch: pytest.MonkeyPatch,
) -> proof.Proof:
    said = "\n".join(lines).replace("MIRROR", mirror.removeprefix("http://"))
    monkeypatch.setattr(tools, "run_tool", lambda argv, _: (0, said if "_PID=42" in argv else "", ""))
    return proof.prove(node.places, [parse_entry(mirror)], image, 42, client)


def test_the_very_manifest_that_the_mirror_has_is_pulled_and_removed_again(
    node: StandInNode, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    proven = prove(node, mirror, client, monkeypatch=monkeypatch)
    assert proven.failure is None
    assert proven.said == "hello-world:latest pulled in 0.0 s"
    assert client.asked == [f"image inspect {PINNED}", f"pull {PINNED}", f"image rm {PINNED}"], (
        "without force, by digest"
    )
    ((path, accepted),) = Mirror.asked
    assert path == "/v2/library/hello-world/manifests/latest"
    assert "manifest.list" in accepted, "or the digest would be another one than docker's"


def test_an_image_that_was_there_stays(node: StandInNode, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(inspect=0)
    assert prove(node, mirror, client, monkeypatch=monkeypatch).failure is None
    assert not any("image rm" in words for words in client.asked)


@pytest.mark.parametrize(
    ("status", "told"), [(404, "HTTP status 404"), (401, "HTTP status 401"), (503, "HTTP status 503")]
)
def test_a_mirror_without_the_image_is_no_failure_and_nothing_is_pulled(
    node: StandInNode, mirror: str, monkeypatch: pytest.MonkeyPatch, status: int, told: str
) -> None:
    client, Mirror.status = Client(), status
    proven = prove(node, mirror, client, monkeypatch=monkeypatch)
    assert proven == (None, f"not proved, since the mirror answers {told} for hello-world:latest")
    assert client.asked == [], "docker would go to the hub for it, at the cost of this node's address"


def test_a_mirror_that_answers_nothing_is_no_failure_of_the_proof(
    node: StandInNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = prove(node, "http://127.0.0.1:1", Client(), monkeypatch=monkeypatch)
    assert proven == (None, "not proved, since the mirror answers nothing for hello-world:latest")


def test_an_image_that_docker_can_not_pull_though_the_mirror_has_it_is_a_failure(
    node: StandInNode, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(pull=1)
    client.errors = "x\nGet https://u:s3cr3t@cdn/blob?Signature=s3cr3t: i/o timeout\n"
    proven = prove(node, mirror, client, monkeypatch=monkeypatch)
    assert proven.failure == (
        "hello-world:latest can't be pulled, though the mirror has it: Get https://…@cdn/blob?… i/o timeout"
    )


@pytest.mark.parametrize(
    ("line", "is_failure"),
    [
        (
            'level=info msg="Attempting next endpoint for pull after error: Get \\"https://MIRROR/v2/\\": x509: unknown"',
            True,
        ),
        ('level=info msg="trying next host" error="Head https://MIRROR/v2/: EOF" host="MIRROR"', True),
        ('level=info msg="Attempting next endpoint for pull after error: received unexpected HTTP status: 503"', True),
        ('level=info msg="Attempting next endpoint for pull after error: manifest unknown: manifest unknown"', False),
        ('level=info msg="trying next host - response was http.StatusNotFound" host="MIRROR"', False),
        ('level=info msg="trying next host" error="Head https://other/v2/: EOF" host="other:5000"', False),
        ('level=info msg="Container failed to exit" host="MIRROR"', False),
    ],
)
def test_a_mirror_that_docker_passes_over_in_silence_is_a_failure(
    node: StandInNode, mirror: str, monkeypatch: pytest.MonkeyPatch, line: str, is_failure: bool
) -> None:
    proven = prove(node, mirror, Client(), lines=["before", line], monkeypatch=monkeypatch)
    assert ("docker passes the mirror over" in str(proven.failure)) == is_failure


def test_of_several_entries_the_first_that_has_the_image_counts(
    node: StandInNode, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        'level=info msg="Attempting next endpoint for pull after error: Get \\"http://127.0.0.1:1/v2/\\": refused"',
        'level=info msg="Attempting next endpoint for pull after error: received unexpected HTTP status: 503"',
    ]
    entries = [parse_entry("http://127.0.0.1:1"), parse_entry(mirror)]

    def proven(*said: str) -> str:
        text = "\n".join(said).replace("MIRROR", mirror.removeprefix("http://"))
        monkeypatch.setattr(tools, "run_tool", lambda argv, _: (0, text if "_PID=42" in argv else "", ""))
        return str(proof.prove(node.places, entries, "hello-world:latest", 42, Client()).failure)

    assert proven(*lines) == "None", "both are said of the entry that does not answer"
    assert "docker passes the mirror over" in proven(*lines, 'msg="trying next host" error="MIRROR: EOF"')


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("hello-world", ("library/hello-world", "latest")),
        ("alpine:3.20", ("library/alpine", "3.20")),
        ("grafana/grafana:11", ("grafana/grafana", "11")),
        ("docker.io/library/alpine:3", ("library/alpine", "3")),
        ("index.docker.io/alpine", ("library/alpine", "latest")),
        ("alpine:3@sha256:ab", ("library/alpine", "sha256:ab")),
        ("quay.io/coreos/etcd:v3", None),
        ("localhost/x", None),
        ("10.0.0.9:5000/x", None),
    ],
)
def test_an_image_is_read_as_docker_reads_it(image: str, wanted: tuple[str, str] | None) -> None:
    assert proof.repository(image) == wanted


def test_an_image_of_another_registry_proves_nothing(node: StandInNode, monkeypatch: pytest.MonkeyPatch) -> None:
    proven = prove(node, "http://127.0.0.1:1", Client(), "quay.io/x:1", monkeypatch=monkeypatch)
    assert proven.failure is None
    assert "is not from there" in proven.said


def proving(monkeypatch: pytest.MonkeyPatch, outcome: proof.Proof) -> list[str]:
    """From now on the proof comes out like that; the images that it is asked for."""
    asked: list[str] = []

    def told(_places: object, _entry: object, image: str, pid: int, _ask: object) -> proof.Proof:
        assert pid == 4242
        asked.append(image)
        return outcome

    monkeypatch.setattr("on_node.docker.prove", told)
    return asked


def test_a_node_that_got_the_mirror_proves_it_once(node: StandInNode, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = proving(monkeypatch, proof.Proof(None, "x pulled in 0.1 s"))
    assert node.apply(ENTRY, "--proof", "x") == f"live: mirror {ENTRY}, docker 20.10.24, reloaded; x pulled in 0.1 s\n"
    node.apply(ENTRY, "--proof", "x")
    assert asked == ["x"], "where nothing was touched, nothing is pulled"
    node.remove()
    node.apply()
    assert asked == ["x"], "nor without being asked"


@pytest.mark.parametrize(
    ("content", "failure"),
    [
        (None, "x can't be pulled, though the mirror has it: no space"),
        (
            '{"registry-mirrors": ["https://m"], "debug": false}',
            "docker passes the mirror over, though it answers: EOF",
        ),
    ],
)
def test_what_fails_its_proof_is_taken_back_whole(
    tmp_path: Path, content: str | None, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = StandInNode(tmp_path / "other", content)
    proving(monkeypatch, proof.Proof(failure, ""))
    said = node.refused("mirror", ENTRY, "--proof", "x")
    assert f"the change was taken back: {failure}" in said
    assert "daemon.json and docker are as they were" in said
    assert not Path(node.places.state).exists(), "nothing of ours is left"


def test_a_stopped_docker_is_not_asked_to_pull(node: StandInNode, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = proving(monkeypatch, proof.Proof(None, ""))
    node.docker.stop()
    node.apply(ENTRY, "--proof", "x")
    assert asked == []


def test_what_was_in_the_file_before_us_is_not_taken_back(node: StandInNode, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = proving(monkeypatch, proof.Proof("broken", ""))
    content = {"registry-mirrors": [ENTRY], "insecure-registries": [HOSTPORT]}
    node.write(json.dumps(content))
    assert "reloaded" in node.apply(ENTRY, "--proof", "x")
    assert asked == []


def test_a_client_that_hangs_is_a_failure(node: StandInNode, mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(words: Sequence[str], _: float) -> tuple[int, str]:
        raise Trouble(f"`{words[0]}` gave no answer; look")

    monkeypatch.setattr(tools, "run_tool", lambda *_: (0, "", ""))
    proven = proof.prove(node.places, [parse_entry(mirror)], "x", 42, hang)
    assert str(proven.failure).startswith("x can't be pulled: `image` gave no answer")
