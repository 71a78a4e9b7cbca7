"""The sandbox for the end-to-end tests: real cluster, real docker nodes, real registry."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import pytest
import yaml

from operations.proof import Result
from sandbox import lifecycle
from sandbox.enter import ask, in_network
from sandbox.layout import REGISTRIES, STATE
from sandbox.processes import init_pid

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ("pai-worker1", "pai-worker2")
CONNECT_FAILED, TIMED_OUT = 7, 28
"""Exit statuses of curl; what ends TLS answers plain http in some other way."""
LEFT_OUT = pytest.StashKey[list[str]]()


class Sandbox:
    """The commands that a user has, with their results, for one stack (whose keys begin as those of Pulumi.dev.yaml)."""

    def __init__(self, folder: Path, stack: str = "dev", keys: dict[str, object] | None = None) -> None:
        self._folder = folder
        self._stack = stack
        self._keys = keys or {}

    def with_stack(self, stack: str, **keys: object) -> "Sandbox":
        """The same sandbox with another stack, which is made."""
        run([str(ROOT / "sandbox/pulumi"), "stack", "select", "--create", stack])
        # pulumi has begun a file for it; the tests' own lies elsewhere.
        (ROOT / f"Pulumi.{stack}.yaml").unlink(missing_ok=True)
        return Sandbox(self._folder, stack, keys)

    def on(self, machine: str, *command: str, seconds: float = 300) -> str:
        """Output of a command that has to succeed on a machine."""
        result = self.try_on(machine, *command, seconds=seconds)
        assert result.returncode == 0, f"{machine}: {' '.join(command)}\n{result.stdout}{result.stderr}"
        return result.stdout.strip()

    def try_on(self, machine: str, *command: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return ask(machine, *command, seconds=seconds)

    def pulumi(self, *arguments: str, **changes: object) -> subprocess.CompletedProcess[str]:
        """`sandbox/pulumi` on the stack; `changes` are keys that differ from its own."""
        command = [str(ROOT / "sandbox/pulumi"), *arguments, "--stack", self._stack]
        if (self._keys | changes) and arguments[0] != "stack":
            command += ["--config-file", str(self._configuration(self._keys | changes))]
        return run(command)

    def _configuration(self, changes: dict[str, object]) -> Path:
        document = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())
        document["config"] |= {f"docker-cache:{key}": value for key, value in changes.items()}
        file = self._folder / f"Pulumi.{self._stack}.yaml"
        file.write_text(yaml.safe_dump(document))
        return file

    def encrypted(self, values: dict[str, str]) -> dict[str, object]:
        """The values as `pulumi config set-all --secret` writes them into a stack's file; `key.part` sets a part of a map."""
        file = self._configuration(self._keys)
        given = [part for key, value in values.items() for part in ("--secret", f"docker-cache:{key}={value}")]
        command = [str(ROOT / "sandbox/pulumi"), "config", "set-all", "--path", *given]
        result = run([*command, "--stack", self._stack, "--config-file", str(file)])
        assert result.returncode == 0, result.stderr
        written = yaml.safe_load(file.read_text())["config"]
        return {key: written[f"docker-cache:{key}"] for key in (path.partition(".")[0] for path in values)}

    def up(self, **changes: object) -> str:
        result = self.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", **changes)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def preview(self, **changes: object) -> dict[str, list[str]]:
        """What `pulumi preview` says it would do: operations by the resource's name, without what stays the same."""
        result = self.pulumi("preview", "--json", **changes)
        assert result.returncode == 0, result.stdout + result.stderr
        steps: dict[str, list[str]] = {}
        for step in json.loads(result.stdout)["steps"]:
            if step["op"] != "same":
                steps.setdefault(step["urn"].rpartition("::")[2], []).append(step["op"])
        return steps

    def outputs(self) -> dict[str, object]:
        result = self.pulumi("stack", "output", "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        values: dict[str, object] = json.loads(result.stdout)
        return values

    def destroy(self) -> str:
        if self._is_empty():
            return ""
        result = self.pulumi("destroy", "--yes", "--skip-preview", "--continue-on-error")
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def _is_empty(self) -> bool:
        """Most stacks that tests begin with are: pulumi would take seconds to find nothing to destroy."""
        checkpoint = STATE / "pulumi/.pulumi/stacks/docker-cache" / f"{self._stack}.json"
        if not checkpoint.is_file():
            return False
        latest = json.loads(checkpoint.read_text())["checkpoint"].get("latest") or {}
        return not (latest.get("resources") or latest.get("pending_operations"))

    def kubectl(self, *arguments: str) -> str:
        result = run([str(ROOT / "sandbox/kubectl"), *arguments])
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout.strip()

    def upstream(self, host: str = "docker.io") -> dict[str, int]:
        counters: dict[str, int] = json.loads(run([str(ROOT / "sandbox/upstream-stats"), "--of", host]).stdout)
        return counters

    def reset_upstream(self, host: str = "docker.io") -> None:
        assert run([str(ROOT / "sandbox/upstream-stats"), "--of", host, "--reset"]).returncode == 0

    def empty_store(self) -> None:
        """Forget every image that the registry has on the default path, as before its first pull, and that the front has."""
        self.on("pai-master", "rm", "-rf", "/var/lib/registry/docker")
        self.forget_what_is_hot()

    def forget_what_is_hot(self) -> None:
        """Another front: it has nothing in its own store yet."""
        if self.kubectl("get", "deployments", "-l", "app.kubernetes.io/name=docker-cache-front", "-o", "name"):
            self.kubectl("delete", "pods", "-l", "app.kubernetes.io/name=docker-cache-front", "--grace-period=1")
            self.kubectl("rollout", "status", "deployment/docker-cache-front", "--timeout=300s")
            self.await_entries()

    def await_entries(self) -> None:
        """A front that is ready is reached once kube-proxy has learned of it: until then docker would go to the hub."""
        path = "jsonpath={.items[*].spec.ports[*].nodePort}"
        ports = self.kubectl("get", "services", "-l", "app.kubernetes.io/part-of=docker-cache", "-o", path).split()
        for port in ports:
            wait_until(partial(self._answers_at, port), f"port {port} answers")

    def _answers_at(self, port: str) -> bool:
        ask = ("curl", "-s", "-m", "3", "-o", "/dev/null", f"http://10.30.0.10:{port}/v2/")
        return self.try_on("pai-master", *ask).returncode not in {CONNECT_FAILED, TIMED_OUT}

    def pull_anew(self, machine: str, image: str) -> None:
        """Pull with nothing of the image on the node."""
        self.try_on(machine, "docker", "image", "rm", "--force", image)
        self.on(machine, "docker", "pull", "--quiet", image)

    def mirrors(self, machine: str) -> list[str]:
        live: list[str] = (
            json.loads(self.on(machine, "docker", "info", "--format", "{{json .RegistryConfig.Mirrors}}")) or []
        )
        return live

    def use_up_hub_limit(self, machine: str) -> None:
        """From then on the hub refuses the machine's manifests."""
        url = "https://registry-1.docker.io/v2/library/app/manifests/3"
        self.on(machine, "sh", "-c", f"curl -s $(yes {url} | head -n 101) > /dev/null")
        status = self.on(machine, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url)
        assert status == "429", "the hub must have refused this node"

    def docker_pid(self, machine: str) -> str:
        return self.on(machine, "cat", "/var/run/docker.pid")

    def pod(self, name: str = "docker-cache-registry") -> str:
        """Docker Hub's registry's pod, or that of another Deployment; one that is on its way out does not count."""
        found = self.kubectl("get", "pods", "-l", f"app.kubernetes.io/name={name}", "-o", "json")
        pods = [pod["metadata"] for pod in json.loads(found)["items"]]
        upstreams = ("docker.io", None)
        (made,) = [
            pod["name"]
            for pod in pods
            if "deletionTimestamp" not in pod and pod["labels"].get("docker-cache/upstream") in upstreams
        ]
        return str(made)

    def node_ports(self) -> list[str]:
        """The Services that nodes come by."""
        found = self.kubectl("get", "services", "-l", "app.kubernetes.io/part-of=docker-cache", "-o", "json")
        services = json.loads(found)["items"]
        return [service["metadata"]["name"] for service in services if service["spec"]["type"] == "NodePort"]

    def front(self) -> str:
        return self.pod("docker-cache-front")


def dev_nodes(*names: str) -> list[dict[str, object]]:
    """The nodes of Pulumi.dev.yaml; all of them, or those named."""
    nodes = cast("list[dict[str, object]]", dev_configuration()["docker_cache_nodes"])
    return [node for node in nodes if not names or node["name"] in names]


def dev_configuration() -> dict[str, object]:
    """What Pulumi.dev.yaml says, by our keys."""
    document = yaml.safe_load((ROOT / "Pulumi.dev.yaml").read_text())
    return {key.removeprefix("docker-cache:"): value for key, value in document["config"].items()}


def prove(settings: Mapping[str, object], nodes: Sequence[str]) -> list[Result]:
    """What `make proof` sees of these nodes with these settings, in their order."""
    values = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
    command = [sys.executable, "-m", "operations", "proof-from-stdin", "--nodes", ",".join(nodes)]
    proof = run(in_network(command), text=json.dumps({"enable_docker_cache": "true", **values}))
    assert proof.returncode == 0, proof.stdout + proof.stderr
    results = [Result(**item) for item in json.loads(proof.stdout)]
    assert list(dict.fromkeys(result.node for result in results)) == list(nodes)
    return results


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"gave up waiting: {what}"
        time.sleep(1)


def run(command: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=False, timeout=1200)


@pytest.fixture(scope="session")
def sandbox(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running sandbox with an empty dev stack; it ends with the tests unless it ran before them."""
    missing = lifecycle.missing_requirements()
    if missing:
        leave_out(request.config, missing)
    ran_before = init_pid() is not None
    lifecycle.up()
    made = Sandbox(tmp_path_factory.mktemp("stack"))
    run([str(ROOT / "sandbox/pulumi"), "stack", "select", "--create", "dev"])
    made.destroy()
    forget_earlier_files(made)
    yield made
    if ran_before:
        made.destroy()
    else:
        lifecycle.down()


def forget_earlier_files(sandbox: Sandbox) -> None:
    """What tests of other files have left in a sandbox that goes on."""
    for host in REGISTRIES:
        sandbox.reset_upstream(host)
    left = "[ ! -e /etc/docker/daemon.json ] || { rm -f /etc/docker/daemon.json && systemctl restart docker; }"
    for worker in WORKERS:
        sandbox.on(worker, "sh", "-c", left)


def leave_out(config: pytest.Config, missing: list[str]) -> None:
    """Skip what needs the sandbox, and say so in the last lines; in continuous integration that is a failure."""
    reason = "this machine lacks what the sandbox needs: " + "; ".join(missing)
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    config.stash.setdefault(LEFT_OUT, []).append(reason)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reasons: list[str] = config.stash.get(LEFT_OUT, [])
    for reason in dict.fromkeys(reasons):
        terminalreporter.section("left out")
        terminalreporter.line(f"end-to-end tests: {reason}")
