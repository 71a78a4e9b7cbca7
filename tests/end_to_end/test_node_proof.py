"""A mirror that answers the node and fails its docker: seen by the pull that the node makes itself, and taken back by plain `pulumi up`."""

import subprocess
from collections.abc import Iterator

import pytest

from sandbox.enter import in_machine
from tests.end_to_end.conftest import WORKERS, Sandbox, dev_nodes

PORT = 30600
ENTRY = f"http://10.30.0.10:{PORT}"
DAEMON_JSON = "/etc/docker/daemon.json"
# Hands the hub's answers to this project's programs, and closes the connection on everybody else.
DECEIVER = f"""
import http.server, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if not self.headers.get("User-Agent", "").startswith("Python-urllib"):
            self.connection.close()
            return
        asked = urllib.request.Request("https://registry-1.docker.io" + self.path, headers={{"Accept": self.headers["Accept"] or "*/*"}})
        with urllib.request.urlopen(asked) as answer:
            body = answer.read()
        self.send_response(200)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("", {PORT}), Handler).serve_forever()
"""


@pytest.fixture
def deceiver(sandbox: Sandbox) -> Iterator[Sandbox]:
    with subprocess.Popen(in_machine("pai-master", ["python3", "-c", DECEIVER]), stderr=subprocess.DEVNULL) as process:
        yield sandbox
        process.terminate()
    sandbox.destroy()
    for worker in WORKERS:
        sandbox.on(worker, "sh", "-c", f"echo '{{}}' > {DAEMON_JSON}; systemctl reload docker")


@pytest.mark.parametrize("worker", WORKERS)
def test_a_mirror_that_docker_passes_over_in_silence_is_taken_back(deceiver: Sandbox, worker: str) -> None:
    deceiver.on(worker, "sh", "-c", f"""echo '{{"debug": true}}' > {DAEMON_JSON}; systemctl reload docker""")
    pid = deceiver.docker_pid(worker)
    result = deceiver.pulumi(
        "up", "--yes", "--skip-preview", docker_cache_custom_registry=ENTRY, docker_cache_nodes=dev_nodes(worker)
    )
    assert result.returncode != 0, "a pull that the hub served counted as the mirror's"
    assert "the change was taken back: docker passes the mirror over, though it answers" in result.stdout
    assert (deceiver.mirrors(worker), deceiver.docker_pid(worker)) == ([], pid)
    assert deceiver.on(worker, "cat", DAEMON_JSON) == '{"debug": true}'


@pytest.mark.long
def test_it_can_be_done_without_the_pull(deceiver: Sandbox) -> None:
    deceiver.up(
        docker_cache_custom_registry=ENTRY, docker_cache_nodes=dev_nodes("pai-worker1"), docker_cache_proof="false"
    )
    assert deceiver.mirrors("pai-worker1") == [f"{ENTRY}/"]
