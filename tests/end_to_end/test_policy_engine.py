"""The sandbox's policy engine: what a NetworkPolicy says counts while it runs, and only then."""

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from sandbox import policy_engine
from tests.end_to_end.conftest import ROOT, Sandbox

PORT = 8000
PODS = ("server", "friend", "stranger")
ANSWER = "root:"


def pod(name: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "tolerations": [{"operator": "Exists"}],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "listens",
                    "image": "registry:3.1.2",
                    "command": ["sh", "-c", f"while true; do nc -l -p {PORT} < /etc/passwd > /dev/null; done"],
                }
            ],
        },
    }


ONLY_FRIENDS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "only-friends"},
    "spec": {
        "podSelector": {"matchLabels": {"app": "server"}},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
    },
}


def apply(*objects: object) -> None:
    subprocess.run(
        [str(ROOT / "sandbox/kubectl"), "apply", "-f", "-"],
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
        text=True,
        check=True,
        capture_output=True,
    )


@pytest.fixture
def server(sandbox: Sandbox) -> Iterator[str]:
    """The address of a pod that answers whoever may reach it."""
    apply(*map(pod, PODS), ONLY_FRIENDS)
    try:
        sandbox.kubectl("wait", "--for=condition=Ready", "pod", *PODS, "--timeout=180s")
        yield sandbox.kubectl("get", "pod", "server", "-o", "jsonpath={.status.podIP}")
    finally:
        sandbox.kubectl("delete", "pod", *PODS)
        sandbox.kubectl("delete", "networkpolicy", "only-friends")


def who_reaches(sandbox: Sandbox, server: str) -> set[str]:
    knock = f"nc -w 5 {server} {PORT} < /dev/null || true"
    return {name for name in PODS[1:] if ANSWER in sandbox.kubectl("exec", name, "--", "sh", "-c", knock)}


def test_a_policy_counts_while_the_engine_runs_and_only_then(sandbox: Sandbox, server: str) -> None:
    assert who_reaches(sandbox, server) == {"friend", "stranger"}, "a bridge enforces nothing"
    with policy_engine.running():
        deadline = time.monotonic() + 120
        while "stranger" in who_reaches(sandbox, server):
            assert time.monotonic() < deadline, "the engine enforces nothing"
        assert who_reaches(sandbox, server) == {"friend"}
    assert "KUBE-ROUTER" not in policy_engine.rules()
    assert who_reaches(sandbox, server) == {"friend", "stranger"}, "its rules went with it"
