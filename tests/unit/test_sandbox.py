"""What of the sandbox can be judged without one."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from sandbox import cluster_images, fleet, lifecycle, pulumi_run, toolchain
from sandbox.boot import link_name
from sandbox.image_index import DOCKER, OCI, Form, Index, zstd_frame
from sandbox.images import Entry, Image, digest, layer
from sandbox.layout import FLEET, MACHINES, SOURCES, VENV_BIN
from sandbox.toolchain import Build
from settings.model import Node, Settings


def test_an_official_plugin_is_used_each_one_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi_run, "USER_HOME", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert not pulumi_run.has_official("kubernetes")
    (tmp_path / "plugins" / f"resource-kubernetes-v{version('pulumi-kubernetes')}").mkdir(parents=True)
    assert pulumi_run.has_official("kubernetes")
    assert not pulumi_run.has_official("command")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pulumi-resource-command").touch()
    assert pulumi_run.has_official("command")


def test_a_plugin_of_another_version_is_not_taken_for_the_pinned_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulumi_run, "USER_HOME", tmp_path)
    monkeypatch.setenv("PATH", "")
    (tmp_path / "plugins" / "resource-kubernetes-v1.0.0").mkdir(parents=True)
    assert not pulumi_run.has_official("kubernetes")


def test_an_official_pulumi_brings_its_language_host_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "official_pulumi", lambda: Path("/opt/pulumi/bin/pulumi"))
    assert toolchain.pulumi_folders() == [VENV_BIN, Path("/opt/pulumi/bin")]
    monkeypatch.setattr(toolchain, "official_pulumi", lambda: None)
    assert toolchain.pulumi_folders()[0] == VENV_BIN, "the built language host takes the first python3 on PATH"


def test_a_build_is_done_again_only_when_its_inputs_change() -> None:
    build = Build(module="pause", commands={"pause": "."})
    assert build.stamp() == Build(module="pause", commands={"pause": "."}).stamp()
    assert build.stamp() != Build(module="pause", commands={"pause": "."}, link="-X a=b").stamp()
    assert build.stamp() != Build(module="registry", commands={"pause": "."}).stamp()


def test_the_cluster_has_every_image_that_the_cache_starts_by_default() -> None:
    defaults = [str(field.default) for key, field in Settings.model_fields.items() if key.endswith("_image")]
    started = [image for image in defaults if not image.startswith("hello-world")]
    assert started, "the settings' keys of images have other names now"
    missing = [
        image
        for image in started
        if not any(there.endswith(f"/{image}") or there == image for there in cluster_images.REFERENCES)
    ]
    assert missing == [], "a pod of it would wait for an image that can be pulled from nowhere"


def test_what_a_machine_lacks_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert lifecycle.missing_requirements() == ["Linux (this is darwin): the sandbox is made of Linux namespaces"]
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert any(line.startswith("root (this is user 1000)") for line in lifecycle.missing_requirements())


def test_machines_do_not_get_into_each_others_way() -> None:
    machines = (*MACHINES, *FLEET)
    assert len({machine.name for machine in machines}) == len(machines)
    assert len({machine.address for machine in machines}) == len(machines)
    assert len({link_name(machine) for machine in machines}) == len(machines), "the kernel takes 15 characters"


def test_the_fleets_entries_are_nodes_as_the_program_wants_them() -> None:
    entries = [Node.model_validate(entry) for entry in fleet.nodes(2)]
    assert [(entry.name, entry.host) for entry in entries] == [
        ("pai-fleet01", "10.30.0.101"),
        ("pai-fleet02", "10.30.0.102"),
    ]


def test_every_tree_of_files_belongs_to_a_machine() -> None:
    trees = {folder.name for folder in (SOURCES / "machines").iterdir()}
    assert trees - {"every"} <= {machine.tree for machine in (*MACHINES, *FLEET)}


def test_an_images_manifest_names_what_it_holds() -> None:
    content = layer([Entry(path="a", data=b"x"), Entry(path="b", link="a")])
    image = Image(layers=(content,))
    assert digest(content).encode() in image.manifest()
    assert digest(image.config()).encode() in image.manifest()
    assert content == layer([Entry(path="a", data=b"x"), Entry(path="b", link="a")]), (
        "digests must not change by themselves"
    )


@pytest.mark.parametrize("form", [OCI, DOCKER])
def test_an_index_names_the_manifest_of_each_architecture(form: Form) -> None:
    index = Index(form=form, images={name: Image(layers=(name.encode(),)) for name in ("amd64", "arm64")})
    document = json.loads(index.document().text)
    assert document["mediaType"] == index.document().media_type
    held = {digest(blob) for blob in index.blobs()}
    for listed, manifest in zip(document["manifests"], index.manifests().values(), strict=True):
        assert listed["digest"] == digest(manifest.text)
        named = json.loads(manifest.text)
        assert {item["digest"] for item in (named["config"], *named["layers"])} <= held


def test_a_zstd_frame_is_raw_blocks_of_which_the_last_says_so() -> None:
    block = 1 << 17
    frame = zstd_frame(b"x" * (block + 1))
    first, last = frame[6:9], frame[9 + block : 12 + block]
    assert int.from_bytes(first, "little") == block << 3
    assert int.from_bytes(last, "little") == 1 << 3 | 1
