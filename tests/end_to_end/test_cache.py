"""From `up` to `destroy` on real parts. The tests of this file follow one deployment, in order."""

import json
from collections.abc import Iterator

import pytest

from tests.end_to_end.conftest import WORKERS, Sandbox, dev_nodes, wait_until

ENTRY = "http://10.30.0.10:30500"
HAND_WRITTEN = '{\n    "debug": false,\n    "labels": ["rack=7"],\n    "max-concurrent-downloads": 4\n}\n'
DAEMON_JSON = "/etc/docker/daemon.json"


@pytest.fixture(scope="module", autouse=True)
def deployed(sandbox: Sandbox) -> Iterator[dict[str, str]]:
    """worker1 has a daemon.json of its own and a container that runs; the cache is brought up, and taken back at the end."""
    sandbox.on(
        "pai-worker1", "sh", "-c", f"printf '%s' '{HAND_WRITTEN}' > {DAEMON_JSON} && systemctl reload docker && sleep 1"
    )
    container = sandbox.on("pai-worker1", "docker", "run", "--detach", "busybox", "sleep", "100000")
    before = {
        "container": container,
        "container_pid": container_pid(sandbox, container),
        **{worker: sandbox.docker_pid(worker) for worker in WORKERS},
    }
    sandbox.empty_store()
    sandbox.reset_upstream()
    sandbox.up()
    yield before
    sandbox.on(
        "pai-worker1", "sh", "-c", f"docker rm --force {container} && rm -f {DAEMON_JSON} && systemctl restart docker"
    )


def container_pid(sandbox: Sandbox, container: str) -> str:
    return sandbox.on("pai-worker1", "docker", "inspect", "--format", "{{.State.Pid}}", container)


def test_both_engines_have_the_mirror_live(sandbox: Sandbox) -> None:
    for worker in WORKERS:
        assert sandbox.mirrors(worker) == [f"{ENTRY}/"]


def test_a_second_nodes_pull_costs_the_upstream_nothing(sandbox: Sandbox) -> None:
    sandbox.reset_upstream()
    sandbox.pull_anew("pai-worker1", "app:1")
    first = sandbox.upstream()
    assert first["manifest_gets"] == 1
    assert first["blob_gets"] == 3 - 1, "the layer and the configuration; the shared layer is on the node already"
    sandbox.pull_anew("pai-worker2", "app:1")
    second = sandbox.upstream()
    assert second["manifest_gets"] == first["manifest_gets"], "the second pull went to the upstream"
    assert second["blob_bytes"] - first["blob_bytes"] < 3_000_000, "the 16 MiB layer was downloaded twice"


def test_a_second_up_touches_no_node(sandbox: Sandbox, deployed: dict[str, str]) -> None:
    stat = ("stat", "--format", "%Y %Z %i", DAEMON_JSON, "/var/lib/docker-cache/record.json")
    before = {worker: sandbox.on(worker, *stat) for worker in WORKERS}
    output = sandbox.up()
    assert "unchanged" in output
    assert "updated" not in output
    assert {worker: sandbox.on(worker, *stat) for worker in WORKERS} == before, "a file was written again"
    for worker in WORKERS:
        assert sandbox.docker_pid(worker) == deployed[worker], "dockerd was restarted"
    assert container_pid(sandbox, deployed["container"]) == deployed["container_pid"], "a running container was harmed"


def test_the_cached_images_outlive_the_pod(sandbox: Sandbox) -> None:
    old = sandbox.pod()
    sandbox.kubectl("delete", "pod", old)
    sandbox.kubectl("rollout", "status", "deployment/docker-cache-registry", "--timeout=300s")
    assert sandbox.pod() != old
    sandbox.forget_what_is_hot()
    sandbox.reset_upstream()
    sandbox.pull_anew("pai-worker1", "app:1")
    assert sandbox.upstream()["manifest_gets"] == 0
    assert sandbox.upstream()["blob_gets"] == 0


@pytest.mark.long
def test_another_upstream_rolls_the_pod(sandbox: Sandbox) -> None:
    old = sandbox.pod()
    sandbox.up(docker_cache_remote_url="https://mirror.example")
    new = sandbox.pod()
    assert new != old, "the pod still has the old configuration"
    mounted = sandbox.kubectl("exec", new, "--", "cat", "/etc/docker-cache/proxy.yml")
    assert "https://mirror.example" in mounted
    sandbox.pull_anew("pai-worker2", "app:2")
    sandbox.up()


def test_a_full_disk_stops_the_storing_and_not_the_serving(sandbox: Sandbox) -> None:
    for worker in WORKERS:
        sandbox.pull_anew(worker, "app:1")
    sandbox.on("pai-master", "fallocate", "--length", "900M", "/var/lib/registry/filler")
    try:
        wait_for_log(sandbox, "serving what is stored, storing nothing")
        sandbox.forget_what_is_hot()
        sandbox.reset_upstream()
        sandbox.pull_anew("pai-worker2", "app:1")
        assert sandbox.upstream()["blob_gets"] == 0, "what is stored must be served"
        sandbox.pull_anew("pai-worker1", "app:4")
        assert sandbox.upstream()["blob_gets"] > 0, "docker must have gone to the upstream itself"
        stored = sandbox.on("pai-master", "ls", "/var/lib/registry/docker/registry/v2/repositories/library")
        assert "app" in stored
        tags = sandbox.on(
            "pai-master", "ls", "/var/lib/registry/docker/registry/v2/repositories/library/app/_manifests/tags"
        )
        assert "4" not in tags.split(), "the cache stored although the disk is full"
        assert (
            sandbox.try_on("pai-worker1", "curl", "-sf", "-X", "POST", f"{ENTRY}/v2/x/blobs/uploads/").returncode != 0
        )
    finally:
        sandbox.on("pai-master", "rm", "/var/lib/registry/filler")
    wait_for_log(sandbox, "pulling through again")


def wait_for_log(sandbox: Sandbox, text: str) -> None:
    wait_until(lambda: text in sandbox.kubectl("logs", sandbox.pod(), "--tail=1000"), f"the registry says: {text}", 240)


@pytest.mark.long
def test_a_pod_that_starts_without_the_upstream_serves_what_is_stored_until_it_is_back(sandbox: Sandbox) -> None:
    for worker in WORKERS:
        sandbox.pull_anew(worker, "app:1")
    sandbox.on("hub", "systemctl", "stop", "hub")
    try:
        sandbox.kubectl("delete", "pod", sandbox.pod())
        sandbox.kubectl("rollout", "status", "deployment/docker-cache-registry", "--timeout=300s")
        wait_for_log(sandbox, "serving what is stored until it can")
        sandbox.forget_what_is_hot()
        sandbox.pull_anew("pai-worker2", "app:1")
    finally:
        sandbox.on("hub", "systemctl", "start", "hub")
    wait_for_log(sandbox, "pulling through again")
    sandbox.reset_upstream()
    sandbox.pull_anew("pai-worker2", "app:1")
    assert sandbox.upstream()["blob_gets"] == 0


def test_a_node_past_the_hubs_limit_pulls_all_the_same(sandbox: Sandbox) -> None:
    sandbox.reset_upstream()
    for worker in WORKERS:
        sandbox.use_up_hub_limit(worker)
        refused = sandbox.upstream()["rejected"]
        sandbox.pull_anew(worker, "app:3")
        assert sandbox.upstream()["rejected"] == refused, "a pull through the cache was refused"


def test_an_unreachable_node_is_named_and_the_others_are_done(sandbox: Sandbox) -> None:
    nodes = dev_nodes()
    gone = {"name": "pai-worker9", "host": "10.30.0.99", "host_key_path": nodes[0]["host_key_path"]}
    keys = {"docker_cache_nodes": [*nodes, gone], "docker_cache_entry": "10.30.0.10:30500"}
    failed = sandbox.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", **keys)
    text = failed.stdout + failed.stderr
    assert failed.returncode != 0
    assert "pai-worker9@10.30.0.99" in text
    assert "Traceback" not in text
    assert "PRIVATE KEY" not in text
    for worker in WORKERS:
        assert sandbox.mirrors(worker) == [f"{ENTRY}/"]
    sandbox.up()


@pytest.mark.long
def test_a_renamed_node_keeps_its_mirror(sandbox: Sandbox) -> None:
    nodes = dev_nodes()
    nodes[1] |= {"name": "renamed"}
    output = sandbox.up(docker_cache_nodes=nodes)
    assert "renamed@10.30.0.11:22" in output
    assert sandbox.mirrors("pai-worker1") == [f"{ENTRY}/"], "the old name's deletion took the new name's mirror out"
    sandbox.up()
    assert sandbox.mirrors("pai-worker1") == [f"{ENTRY}/"]


def test_a_stopped_docker_gets_its_mirror_at_the_next_start(sandbox: Sandbox) -> None:
    nodes = [node for node in dev_nodes() if node["name"] != "pai-worker2"]
    sandbox.up(docker_cache_nodes=nodes)
    assert sandbox.mirrors("pai-worker2") == [], "a node that left the list is taken back"
    sandbox.on("pai-worker2", "systemctl", "stop", "docker.socket", "docker.service")
    try:
        assert "live at its next start" in sandbox.up()
    finally:
        sandbox.on("pai-worker2", "systemctl", "start", "docker.service")
    assert sandbox.mirrors("pai-worker2") == [f"{ENTRY}/"]


def test_the_state_holds_no_secret_in_plain_text(sandbox: Sandbox) -> None:
    state = sandbox.pulumi("stack", "export").stdout
    assert "remote:Command" in state
    assert "PRIVATE KEY" not in state
    assert "certificate-authority-data" not in state, "the kubeconfig has a client key"


def test_a_waiting_edit_is_not_applied_behind_its_authors_back(sandbox: Sandbox) -> None:
    original = sandbox.on("pai-worker2", "cat", DAEMON_JSON)
    edited = json.dumps(json.loads(original) | {"debug": True})
    sandbox.on("pai-worker2", "sh", "-c", f"printf '%s' '{edited}' > {DAEMON_JSON}")
    try:
        result = sandbox.pulumi("up", "--yes", "--skip-preview", "--continue-on-error", docker_cache_entry="http://10.30.0.10:30500/", docker_cache_allow_pending_changes=False)  # fmt: skip
        assert result.returncode == 0, "nothing of ours changes: nothing is reloaded"
        changed = sandbox.pulumi(
            "up", "--yes", "--skip-preview", "--continue-on-error", docker_cache_entry="http://pai-master:30500"
        )
        text = changed.stdout + changed.stderr
        assert changed.returncode != 0
        assert "debug" in text
        assert "docker_cache_allow_pending_changes" in text
        assert sandbox.on("pai-worker2", "cat", DAEMON_JSON) == edited, "the file must be as its author left it"
        assert sandbox.on("pai-worker2", "docker", "info", "--format", "{{.Debug}}") == "false"
        assert sandbox.mirrors("pai-worker1") == ["http://pai-master:30500/"], "the other node is done all the same"
    finally:
        sandbox.on("pai-worker2", "sh", "-c", f"printf '%s\\n' '{original}' > {DAEMON_JSON}")
    sandbox.up()


@pytest.mark.long
def test_invalid_json_is_an_error_and_the_file_stays_untouched(sandbox: Sandbox) -> None:
    original = sandbox.on("pai-worker2", "cat", DAEMON_JSON)
    sandbox.on("pai-worker2", "sh", "-c", f"printf '%s' '{{\"debug\": tru' > {DAEMON_JSON}")
    try:
        changed = sandbox.pulumi(
            "up", "--yes", "--skip-preview", "--continue-on-error", docker_cache_entry="http://pai-master:30500"
        )
        assert changed.returncode != 0
        assert "line 1" in changed.stdout + changed.stderr
        assert sandbox.on("pai-worker2", "cat", DAEMON_JSON) == '{"debug": tru'
    finally:
        sandbox.on("pai-worker2", "sh", "-c", f"printf '%s\\n' '{original}' > {DAEMON_JSON}")
    sandbox.up()


def test_the_cache_stays_while_a_node_that_cannot_be_reached_still_has_its_mirror(sandbox: Sandbox) -> None:
    # The canary, which is taken back last: it does not hold up the others.
    sandbox.on("pai-worker1", "systemctl", "stop", "ssh")
    try:
        failed = sandbox.pulumi("destroy", "--yes", "--skip-preview", "--continue-on-error")
    finally:
        sandbox.on("pai-worker1", "systemctl", "start", "ssh")
    assert failed.returncode != 0
    assert "pai-worker1@10.30.0.11" in failed.stdout + failed.stderr
    assert sandbox.mirrors("pai-worker2") == [], "the other node is taken back all the same"
    assert sandbox.pod(), "a node still has this cache as its mirror"
    sandbox.up()


def test_destroy_leaves_every_node_as_it_was(sandbox: Sandbox, deployed: dict[str, str]) -> None:
    sandbox.destroy()
    assert sandbox.on("pai-worker1", "cat", DAEMON_JSON) + "\n" == HAND_WRITTEN
    assert sandbox.try_on("pai-worker2", "cat", DAEMON_JSON).returncode != 0, "a file that we brought must go"
    for worker in WORKERS:
        assert sandbox.mirrors(worker) == []
        assert "10.30.0.10" not in sandbox.on(worker, "docker", "info", "--format", "{{json .RegistryConfig}}")
        assert sandbox.try_on(worker, "ls", "/var/lib/docker-cache").returncode != 0, "our record must go"
    assert container_pid(sandbox, deployed["container"]) == deployed["container_pid"], "a running container was harmed"
    assert (
        sandbox.kubectl("get", "deployments,configmaps,services", "-l", "app.kubernetes.io/part-of=docker-cache") == ""
    )
