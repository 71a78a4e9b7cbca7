import ast
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rendering import node_command, registry
from rendering.registry import Registry

AZURE = registry.Azure(
    account="account", container="images", has_key=True, realm="core.windows.net", service_url=None, redirect=False
)


def rendered(name: str, storage: registry.Storage | None = None) -> dict[str, dict[str, Any]]:
    subject = Registry(upstream="https://up.example", storage=storage or registry.filesystem(), has_htpasswd=False)
    document: dict[str, dict[str, Any]] = yaml.safe_load(registry.files(subject)[name])
    return document


def test_the_proxy_never_expires_what_it_has() -> None:
    proxy = rendered("proxy.yml")["proxy"]
    assert proxy == {"remoteurl": "https://up.example", "ttl": 0, "cachewritetimeout": "24h"}


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


def test_the_front_can_tell_what_the_store_alone_has_answered() -> None:
    assert "X-Docker-Cache-Stored" in rendered("stored.yml")["http"]["headers"], "a tag that is not stored is not gone"
    assert "X-Docker-Cache-Stored" not in rendered("proxy.yml")["http"]["headers"]


def test_the_two_modes_share_the_port_but_not_the_metrics_port() -> None:
    proxy, stored = rendered("proxy.yml")["http"], rendered("stored.yml")["http"]
    assert proxy["addr"] == stored["addr"] == ":5000"
    assert proxy["debug"] != stored["debug"], "a draining process keeps its metrics port"


def test_the_registrys_debug_server_is_the_pods_own() -> None:
    for name in ("proxy.yml", "stored.yml"):
        address = rendered(name)["http"]["debug"]["addr"]
        assert address.startswith("127.0.0.1:"), "it has pprof, and the exporter hands out what there is to know"


def test_on_azure_both_modes_keep_clients_away_from_azure_itself() -> None:
    for name in ("proxy.yml", "stored.yml"):
        storage = rendered(name, registry.azure(AZURE))["storage"]
        assert storage["redirect"] == {"disable": True}, "each node would need a way to Azure"
        assert storage["azure"] == {
            "accountname": "account",
            "container": "images",
            "credentials": {"type": "shared_key"},
            "realm": "core.windows.net",
        }


def test_azure_by_identity_in_another_cloud_or_behind_another_address() -> None:
    place = replace(AZURE, has_key=False, realm="core.chinacloudapi.cn", redirect=True)
    storage = rendered("proxy.yml", registry.azure(place))["storage"]
    assert storage["azure"]["credentials"] == {"type": "default_credentials"}
    assert storage["azure"]["realm"] == "core.chinacloudapi.cn"
    assert storage["redirect"] == {"disable": False}
    private = rendered("proxy.yml", registry.azure(replace(AZURE, service_url="https://private.example")))["storage"]
    assert private["azure"]["serviceurl"] == "https://private.example"
    assert "realm" not in private["azure"], "one address is enough"


def test_looks_at_azure_are_paid_for_and_few() -> None:
    assert rendered("proxy.yml", registry.azure(AZURE))["health"]["storagedriver"]["interval"] == "30s"
    assert rendered("proxy.yml")["health"]["storagedriver"]["interval"] == "10s"


def test_the_command_is_one_line_and_quotes_what_it_is_given() -> None:
    line = node_command.command("mirror", "http://10.0.0.1:30500; rm -rf /", sudo=True)
    assert "\n" not in line
    assert line.startswith("sudo -n python3 -c ")
    assert line.endswith("mirror 'http://10.0.0.1:30500; rm -rf /'")


@pytest.mark.parametrize("program", ["mirror", "cache_folder"])
def test_the_payload_is_the_program_with_all_that_it_imports_and_the_same_at_every_call(program: str) -> None:
    payload = node_command.payload(program)
    node_command.payload.cache_clear()
    assert payload == node_command.payload(program)
    text = eval(payload).decode()  # noqa: S307 - as the loader does
    for name in node_command.needed(program):
        held = name == "payload" or repr(node_command.bare(node_command.source(name))) in text
        assert held, f"{name} must be in it"


@pytest.mark.parametrize("name", [file.stem for file in node_command.ON_NODE.glob("*.py")])
def test_a_module_without_its_comments_is_the_same_program(name: str) -> None:
    text = node_command.source(name)
    bare, whole = ast.parse(node_command.bare(text)), ast.parse(text)
    for node in ast.walk(whole):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) and node.body[1:]:
            del node.body[0]
    assert ast.dump(bare) == ast.dump(whole)
    comments = [line for line in node_command.bare(text).splitlines() if line.startswith("# ")]
    assert comments == [], "comments would be carried to every node"


def test_a_certificate_travels_with_the_program() -> None:
    text = eval(node_command.payload("mirror", "PEM\ntext\n", "Basic eA==")).decode()  # noqa: S307 - as the loader does
    assert repr("certificate = 'PEM\\ntext\\n'\nauthorization = 'Basic eA=='\n") in text


def test_the_payload_stays_small_since_the_state_holds_it_twice_for_each_node() -> None:
    """Raised for each engine and the proof. At 1,000 nodes, 38 KB make a state of 76 MB, which a file backend writes each step."""
    assert len(node_command.payload("mirror")) < 40_000


def run(words: list[str], text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, input=text, capture_output=True, text=True, check=False)


def test_an_incomplete_script_fails_wherever_it_ends_and_runs_nothing() -> None:
    payload = node_command.payload("mirror").strip()
    loader = f"import io, sys\nwhole = sys.stdin.read()\nfor end in {{ends}}:\n  sys.stdin = io.StringIO(whole[:end])\n  try: {node_command.LOADER}\n  except Exception: continue\n  print(end)"
    start = payload.index("b85decode('") + 20
    ends = [*range(start), *range(start, len(payload), 997), len(payload) - 3, len(payload) - 2, len(payload) - 1]
    result = run([sys.executable, "-c", loader.format(ends=ends), "remove"], payload)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "", "an incomplete script ended as if it had done its work"


def test_the_whole_script_runs() -> None:
    words = shlex.split(node_command.command("--help", sudo=False))
    result = run([sys.executable, *words[1:]], node_command.payload("mirror"))
    assert result.returncode == 0, result.stderr
    assert "ENTRY" in result.stdout or "COMMAND" in result.stdout


@pytest.mark.parametrize("asks", [True, False])
@pytest.mark.parametrize("password", ["pass word", "p'a\"s$s\\w*;ö`rd"])
def test_a_password_reaches_sudo_or_nobody(asks: bool, password: str, tmp_path: Path) -> None:
    """What stands for sudo here reads one line if it asks, as the real one does (1.9.13, whether it uses a pty or not)."""
    sudo = tmp_path / "sudo"
    reading = f'read -r password; [ "$password" = {shlex.quote(password)} ] || exit 1\n' if asks else ""
    sudo.write_text(f'#!/bin/sh\n{reading}shift 3\nexec "$@"\n')
    sudo.chmod(0o755)
    line = node_command.command("--help", sudo=True, sudo_password=True)
    text = node_command.standard_input(node_command.payload("mirror"), password)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    whole = subprocess.run(["/bin/sh", "-c", line], input=text, env=environment, capture_output=True, text=True, check=False)  # fmt: skip
    assert whole.returncode == 0, whole.stderr
    assert "COMMAND" in whole.stdout
    cut = subprocess.run(["/bin/sh", "-c", line], input=f"{password}\n", env=environment, capture_output=True, text=True, check=False)  # fmt: skip
    assert cut.returncode != 0
    assert password not in cut.stderr, "the password was taken for a script"


def test_a_scripts_line_is_put_out_as_state_and_detail() -> None:
    assert node_command.as_result("live: mirror http://h:1, docker 20.10: reloaded\n") == {
        "state": "live",
        "detail": "mirror http://h:1, docker 20.10: reloaded",
    }
    assert node_command.as_result(None) == {"state": "waiting", "detail": "not done yet"}, (
        "an update that leaves a new node out would end in a traceback"
    )
