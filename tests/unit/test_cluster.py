"""What a cluster is asked before anything is deployed, of an API server that answers as the test says."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from settings.cluster import Answer, Cluster, ask_cluster
from settings.loading import load
from settings.model import Settings
from tests.unit.messages import remember
from tests.unit.stacks import configuration

TOKEN = "a-token"
VERSION: object = {"gitVersion": "v1.34.2-eks-1"}
NOBODYS_PORTS: object = {"items": [{"metadata": {"namespace": "a", "name": "b"}, "spec": {"ports": [{"port": 80}]}}]}
HELD: object = {
    "items": [{"metadata": {"namespace": "a", "name": "web"}, "spec": {"ports": [{"port": 80, "nodePort": 30500}]}}]
}
WELL: Mapping[str, object] = {
    "/version/": VERSION,
    "/api/v1/services": NOBODYS_PORTS,
    "/api/v1/namespaces/default": {"metadata": {"name": "default"}},
}


@dataclass(kw_only=True)
class Server:
    """What it answers by path: an object of the API, a page's text, or a status."""

    url: str
    answers: dict[str, object] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            running.asked.append((self.path, self.headers["Authorization"]))
            answer = running.answers.get(self.path, 404)
            is_page = isinstance(answer, str)
            body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Type", "text/html" if is_page else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        running = Server(url=f"http://127.0.0.1:{listening.server_port}", answers=dict(WELL))
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield running
        listening.shutdown()


@pytest.fixture
def ask(server: Server) -> Callable[..., Answer]:
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": {"server": server.url}}],
        "users": [{"name": "a", "user": {"token": TOKEN}}],
        "contexts": [{"name": "pai", "context": {"cluster": "a", "user": "a"}}],
    }

    def asked(**keys: str) -> Answer:
        settings = load(configuration(**keys).get)
        assert isinstance(settings, Settings)
        answer = ask_cluster(Cluster(kubeconfig=json.dumps(kubeconfig), context="pai"), settings, None)
        remember([*answer.problems, *answer.cautions])
        return answer

    return asked


def test_a_cluster_that_can_take_the_cache_is_asked_with_the_users_own_credentials(
    ask: Callable[..., Answer], server: Server
) -> None:
    assert ask() == Answer()
    assert {path for path, _ in server.asked} == set(WELL)
    assert {credentials for _, credentials in server.asked} == {f"Bearer {TOKEN}"}


def test_all_that_is_in_the_way_is_said_at_once(ask: Callable[..., Answer], server: Server) -> None:
    server.answers |= {"/version/": {"gitVersion": "v1.21.14"}, "/api/v1/services": HELD}
    version, namespace, port = ask(docker_cache_namespace="images").problems
    assert version.startswith("the cluster runs Kubernetes v1.21.14: 1.22 is the oldest")
    assert namespace.startswith('docker_cache_namespace is "images": make it first')
    assert port == "the NodePort 30500 is taken by the Service a/web: set docker_cache_node_port to a free one"


def test_who_may_not_look_may_still_deploy(ask: Callable[..., Answer], server: Server) -> None:
    server.answers |= {"/api/v1/services": 403, "/api/v1/namespaces/default": 403}
    assert ask() == Answer()


@pytest.mark.parametrize("answer", [401, 500, "<html>a proxy's own page</html>", ["no object"], {}])
def test_an_answer_that_is_none_of_the_apis_is_a_problem_and_no_traceback(
    answer: object, ask: Callable[..., Answer], server: Server
) -> None:
    server.answers["/version/"] = answer
    (problem,) = ask().problems
    assert 'context "pai"' in problem
    assert "look at it with `kubectl --context pai version`" in problem
    assert TOKEN not in problem
