"""The proof of a blob container, against a stand-in for Azure's blob service that answers as it is told."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.unit.messages import remember

ROOT = Path(__file__).resolve().parents[2]
KEY = "c2VjcmV0LWtleQ=="


class Blobs:
    """What the stand-in holds and says."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.refuses: tuple[int, str] | None = None
        self.exists = True
        self.forgets = False
        self.hangs_up = False
        self.requests: list[str] = []


def respond(blobs: Blobs, command: str, target: str, data: bytes) -> tuple[int, str, bytes]:
    """Status, Azure's code and body."""
    path = target.partition("?")[0]
    if blobs.refuses:
        return (*blobs.refuses, b"")
    if "restype=container" in target:
        return (409, "ContainerAlreadyExists", b"") if blobs.exists else (201, "", b"")
    if command == "PUT":
        blobs.content[path] = b"else" if blobs.forgets else data
        return 201, "", b""
    if command == "DELETE":
        del blobs.content[path]
        return 202, "", b""
    return 206, "", blobs.content[path]


@contextmanager
def service(blobs: Blobs) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, code: str, body: bytes) -> None:
            self.send_response(status)
            if code:
                self.send_header("x-ms-error-code", code)
            if body:
                self.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
                self.send_header("x-ms-blob-type", "BlockBlob")
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle_any(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            blobs.requests.append(f"{self.command} {self.path}")
            if blobs.hangs_up:
                self.close_connection = True
            else:
                self.answer(*respond(blobs, self.command, self.path, data))

        do_GET = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/account"
    server.shutdown()


def prove(url: str) -> subprocess.CompletedProcess[str]:
    """As Pulumi runs it."""
    given = json.dumps({"url": url, "account": "account", "container": "images", "key": KEY})
    command = [sys.executable, "on_host/azure_store.py"]
    result = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    remember(line.removeprefix("docker-cache: ") for line in result.stderr.splitlines())
    assert KEY not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result


@pytest.mark.parametrize("exists", [True, False])
def test_a_blob_is_written_read_and_deleted_and_the_container_made_if_it_is_missing(exists: bool) -> None:
    blobs = Blobs()
    blobs.exists = exists
    with service(blobs) as url:
        result = prove(url)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"ready: the container images at {url}")
    assert ("which was made" in result.stdout) == (not exists)
    assert blobs.content == {}, "something of the proof stays"
    assert [line.split()[0] for line in blobs.requests] == ["PUT", "PUT", "GET", "DELETE"]


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (403, "AuthenticationFailed", "set docker_cache_azure_account_key anew"),
        (403, "AuthorizationFailure", "firewall"),
        (403, "KeyBasedAuthenticationNotPermitted", "managed_identity"),
        (409, "ContainerBeingDeleted", "wait a minute"),
        (418, "SomethingNew", "look the code up in Azure"),
    ],
)
def test_a_refusal_is_told_by_azures_code_with_the_remedy(status: int, code: str, remedy: str) -> None:
    blobs = Blobs()
    blobs.refuses = status, code
    with service(blobs) as url:
        result = prove(url)
    assert result.returncode == 1
    assert f"refuses: {code}; " in result.stderr
    assert remedy in result.stderr


def test_an_account_that_is_not_there_is_named() -> None:
    result = prove("http://127.0.0.1:1/account")
    assert result.returncode == 1
    assert "can't be reached" in result.stderr
    assert "docker_cache_azure_account_name" in result.stderr


def test_what_hangs_up_is_no_blob_service() -> None:
    blobs = Blobs()
    blobs.hangs_up = True
    with service(blobs) as url:
        result = prove(url)
    assert result.returncode == 1
    assert "does not answer as a blob service" in result.stderr


def test_what_gives_back_something_else_is_no_store() -> None:
    blobs = Blobs()
    blobs.forgets = True
    with service(blobs) as url:
        result = prove(url)
    assert "gave back something else than was written" in result.stderr
    assert blobs.content == {}, "something of the proof stays"
