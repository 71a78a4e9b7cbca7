import base64
import subprocess
import sys
import zlib

import pytest
import yaml

from rendering import node_command, registry
from rendering.registry import Registry


def rendered(name: str) -> dict[str, dict[str, object]]:
    document: dict[str, dict[str, object]] = yaml.safe_load(
        registry.files(Registry(upstream="https://up.example"))[name]
    )
    return document


def test_the_proxy_never_expires_what_it_has() -> None:
    assert rendered("proxy.yml")["proxy"] == {"remoteurl": "https://up.example", "ttl": 0}


def test_no_blob_descriptor_cache_is_configured() -> None:
    for name in ("proxy.yml", "stored.yml"):
        assert set(rendered(name)["storage"]) <= {"filesystem", "maintenance"}, (
            "a descriptor cache answers for blobs that are gone"
        )


def test_the_stored_mode_has_the_same_store_and_takes_no_pushes() -> None:
    stored = rendered("stored.yml")
    assert "proxy" not in stored
    assert stored["storage"]["filesystem"] == rendered("proxy.yml")["storage"]["filesystem"]
    assert stored["storage"]["maintenance"] == {"readonly": {"enabled": True}}


def test_the_two_modes_share_the_port_but_not_the_metrics_port() -> None:
    proxy, stored = rendered("proxy.yml")["http"], rendered("stored.yml")["http"]
    assert proxy["addr"] == stored["addr"] == ":5000"
    assert proxy["debug"] != stored["debug"], "a draining process keeps its metrics port"


def test_the_command_is_one_line_and_quotes_what_it_is_given() -> None:
    line = node_command.command("apply", "http://10.0.0.1:30500; rm -rf /", sudo=True)
    assert "\n" not in line
    assert line.startswith("sudo -n python3 -c ")
    assert line.endswith("apply 'http://10.0.0.1:30500; rm -rf /'")


@pytest.mark.parametrize("script", ["docker_mirror.py", "cache_folder.py"])
def test_the_payload_is_the_script_itself_and_the_same_at_every_call(script: str) -> None:
    payload = node_command.payload(script)
    assert payload == node_command.payload(script)
    assert zlib.decompress(base64.b64decode(payload)) == (node_command.ON_NODE / script).read_bytes()


def test_the_payload_stays_small_since_the_state_holds_it_twice_for_each_node() -> None:
    assert len(node_command.payload("docker_mirror.py")) < 20_000


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_an_incomplete_script_fails_and_runs_nothing(keep: float) -> None:
    payload = node_command.payload("docker_mirror.py")
    part = payload[: int(len(payload) * keep) if keep < 1 else int(keep)]
    result = subprocess.run(
        [sys.executable, "-c", node_command.LOADER, "apply", "http://x:1"],
        input=part,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert result.stdout == ""
