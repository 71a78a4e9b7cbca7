"""`in_pod/prove_store.sh` with a shell on this machine. The registry is an in-test program that answers as it is told (in the words
of the real one, recorded from it); nc and wget reach it by a socket in a folder.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from rendering.registry import PROOF_PORT
from tests.unit.messages import remember
from tests.unit.programs import write_programs

PROVE = Path(__file__).resolve().parents[2] / "in_pod" / "prove_store.sh"
STORE = "the container images at https://account.blob.core.windows.net"
REGISTRY = """
import json, os, sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

stage = Path(os.environ["STAGE"])
told = json.loads((stage / "told").read_text())
if "dies" in told:
    sys.exit(told["dies"])
UPLOAD = "/v2/docker-cache-proof/blobs/uploads/1?_state=s"


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        with (stage / "requests").open("a") as file:
            file.write(json.dumps([self.command, self.path, body]) + "\\n")
        status, text = {"POST": (202, ""), "PUT": (201, ""), "GET": (200, "docker-cache"), "DELETE": (202, "")}[self.command]
        failing = told.get(self.command)
        if failing and not (stage / "mended").exists():
            status, text = failing
        data = text.encode()
        self.send_response(status)
        if self.command == "POST" and status == 202:
            self.send_header("Location", "http://127.0.0.1" + UPLOAD)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def address_string(self):
        return "pod"

    def log_message(self, *_):
        pass


Handler.protocol_version = "HTTP/1.1"
ThreadingUnixStreamServer(str(stage / "socket"), Handler).serve_forever()
"""
NC = """
import os, socket, sys, threading
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["STAGE"] + "/socket")
def send():
    while data := os.read(0, 65536):
        connection.sendall(data)
    connection.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := connection.recv(65536):
    os.write(1, data)
os._exit(0)
"""
CLOCK = 'now=$(cat "$STAGE/now" 2>/dev/null || echo 0)'
PROGRAMS = {
    "registry": f'exec {sys.executable} "$STAGE/registry.py"',
    "nc": f'exec {sys.executable} "$STAGE/nc.py"',
    "wget": '[ -S "$STAGE/socket" ]',
    # Waiting costs no time; what is to be mended meanwhile is.
    "sleep": f'{CLOCK}; echo $((now + $1)) > "$STAGE/now"; [ "$1" = 10 ] && [ -e "$STAGE/mends" ] && touch "$STAGE/mended"; exec /bin/sleep 0.05',
    "date": f'{CLOCK}; echo "$now"',
}


def registry_error(detail: str) -> tuple[int, str]:
    """What Distribution answers with when its storage driver fails."""
    return 500, json.dumps(
        {"errors": [{"code": "UNKNOWN", "message": "unknown error", "detail": detail}]}, separators=(",", ":")
    )


def refused(code: str) -> tuple[int, str]:
    rule = "-" * 80
    return registry_error(
        "azure: failed to get blob properties: HEAD https://account.blob.core.windows.net/images/startedat\n"
        f"{rule}\nRESPONSE 403: 403 Something about it.\nERROR CODE: {code}\n{rule}\nResponse contained no body\n{rule}\n"
    )


CREDENTIALS = (
    "azure: failed to get blob properties: DefaultAzureCredential: failed to acquire a token.\nAttempted credentials:\n"
    "\tEnvironmentCredential: missing environment variable AZURE_TENANT_ID\n"
    "\tWorkloadIdentityCredential: no token file specified. Check pod configuration or set TokenFilePath in the options\n"
)
NOT_ASSIGNED = registry_error(
    CREDENTIALS
    + "\tManagedIdentityCredential authentication failed. the requested identity isn't assigned to this resource\n"
    '\t\tRESPONSE 400: 400 Bad Request\n\t\t{\n\t\t  "error": "invalid_request",\n\t\t  "error_description": "Identity not found"\n\t\t}\n'
)
SEVERAL = registry_error(
    CREDENTIALS
    + '\tManagedIdentityCredential authentication failed.\n\t\t{\n\t\t  "error_description": "Multiple user assigned '
    'identities exist, please specify the clientId / resourceId of the identity in the token request"\n\t\t}\n'
)
NO_TOKEN = registry_error(
    CREDENTIALS + '\tManagedIdentityCredential: Get "http://169.254.169.254/metadata/identity/oauth2/token": dial tcp '
    "169.254.169.254:80: connect: connection refused\n\tAzureCLICredential: Azure CLI not found on path"
)
NO_ADDRESS = registry_error(
    'azure: failed to get blob properties: Head "https://account.blob.core.windows.net/images/startedat": dial tcp: lookup '
    "account.blob.core.windows.net on 10.0.0.10:53: no such host"
)


class Proof:
    """One run of the script, and what it left."""

    def __init__(self, folder: Path, told: dict[str, object], patience: int) -> None:
        programs = folder / "bin"
        write_programs(programs, PROGRAMS)
        (folder / "registry.py").write_text(REGISTRY)
        (folder / "nc.py").write_text(NC)
        (folder / "told").write_text(json.dumps(told))
        environment = os.environ | {
            "STAGE": str(folder),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "WORK": str(folder),
            "TERMINATION_LOG": str(folder / "last"),
        }
        command = ["sh", str(PROVE), STORE, str(patience)]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.said = process.communicate(timeout=60)[0].splitlines(keepends=True)
        self.code = process.returncode
        # What the end of a pod does to the registry.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        last = folder / "last"
        self.message = last.read_text() if last.exists() else ""
        remember([self.message])
        requests = folder / "requests"
        lines = requests.read_text().splitlines() if requests.exists() else []
        self.requests: list[list[str]] = [json.loads(line) for line in lines]


def prove(folder: Path, patience: int = 0, **told: object) -> Proof:
    return Proof(folder, told, patience)


def test_a_blob_is_written_given_back_and_deleted(tmp_path: Path) -> None:
    proof = prove(tmp_path)
    assert proof.code == 0, proof.said
    assert proof.said == [f"ready: {STORE}; a blob was written, read and deleted\n"]
    digest = "sha256:" + hashlib.sha256(b"docker-cache").hexdigest()
    blob = f"/v2/docker-cache-proof/blobs/{digest}"
    assert proof.requests == [
        ["POST", "/v2/docker-cache-proof/blobs/uploads/", ""],
        ["PUT", f"/v2/docker-cache-proof/blobs/uploads/1?_state=s&digest={digest}", "docker-cache"],
        ["GET", blob, ""],
        ["DELETE", blob, ""],
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (refused("AuthorizationPermissionMismatch"), "refuses: AuthorizationPermissionMismatch; give the identity the role Storage Blob Data Contributor"),
        (refused("AuthorizationFailure"), "refuses: AuthorizationFailure; the account's firewall keeps the cluster out"),
        (refused("InvalidAuthenticationInfo"), "refuses: InvalidAuthenticationInfo; the account does not take this identity's tokens"),
        (refused("ContainerNotFound"), "refuses: ContainerNotFound; make the container"),
        (refused("SomethingNew"), "refuses: SomethingNew; look the code up in Azure"),
        (NO_ADDRESS, "can't be reached: dial tcp: lookup account.blob.core.windows.net on 10.0.0.10:53: no such host; check docker_cache_azure_account_name"),
        (registry_error("azure: authenticated requests are not permitted\nmore"), "can't be used: azure: authenticated requests are not permitted\n"),
    ],
)  # fmt: skip
def test_what_azure_says_is_told_with_the_remedy(tmp_path: Path, answer: tuple[int, str], message: str) -> None:
    proof = prove(tmp_path, POST=answer)
    assert proof.code == 1
    assert proof.message.startswith(f"{STORE} {message}")
    assert proof.said == [proof.message], "the pod's log has it too"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (NOT_ASSIGNED, "the node's virtual machine does not have this identity; assign it to every node, or correct docker_cache_azure_identity_client_id"),
        (SEVERAL, "the node's virtual machine has several identities; name one by docker_cache_azure_identity_client_id"),
        (NO_TOKEN, "there is no token for the identity (dial tcp 169.254.169.254:80: connect: connection refused); the nodes have to be"),
    ],
)  # fmt: skip
def test_an_identity_that_gets_no_token_is_told_with_the_remedy(
    tmp_path: Path, answer: tuple[int, str], message: str
) -> None:
    proof = prove(tmp_path, POST=answer)
    assert proof.code == 1
    assert proof.message.startswith(f"{STORE}: {message}")


@pytest.mark.parametrize("step", ["PUT", "GET", "DELETE"])
def test_each_step_counts(tmp_path: Path, step: str) -> None:
    proof = Proof(tmp_path, {step: refused("AuthorizationPermissionMismatch")}, 0)
    assert proof.code == 1
    assert "AuthorizationPermissionMismatch" in proof.message
    assert proof.requests[-1][0] == step


def test_what_gives_back_something_else_is_no_store(tmp_path: Path) -> None:
    proof = prove(tmp_path, GET=(200, "something else"))
    assert proof.code == 1
    assert proof.message == f"{STORE} gave back something else than was written: is it a blob service?\n"


def test_an_address_that_the_nodes_are_sent_to_is_good_enough(tmp_path: Path) -> None:
    assert prove(tmp_path, GET=(307, "")).code == 0


def test_a_role_that_needs_minutes_is_waited_for_and_no_longer(tmp_path: Path) -> None:
    refusal = refused("AuthorizationPermissionMismatch")
    (tmp_path / "mends").touch()
    proof = prove(tmp_path, patience=600, POST=refusal)
    assert proof.code == 0, proof.said
    assert proof.said[0].startswith(f"not yet: {STORE} refuses: AuthorizationPermissionMismatch;")
    assert proof.said[-1].startswith("ready: ")
    (tmp_path / "again").mkdir()
    proof = prove(tmp_path / "again", patience=30, POST=refusal)
    assert proof.code == 1
    assert len(proof.requests) == 4, "at once, and after 10, 20 and 30 seconds"


def test_a_registry_that_does_not_start_tells_its_last_words(tmp_path: Path) -> None:
    proof = prove(tmp_path, dies="configuration error: no driver azure")
    assert proof.code == 1
    assert proof.message == (
        f"{STORE} can't be proved, the registry does not start: configuration error: no driver azure\n"
    )


def test_the_pods_port_is_the_one_that_the_script_asks() -> None:
    found = re.search(r"^port=(\d+)$", PROVE.read_text(), re.MULTILINE)
    assert found

    assert int(found[1]) == PROOF_PORT
