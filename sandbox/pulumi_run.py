"""Runs pulumi in the sandbox's network, with a file backend of the sandbox's own and, where no official plugin is to be had,
the stand-ins of `sandbox/providers/`.
"""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from sandbox import toolchain
from sandbox.enter import in_network
from sandbox.layout import CA, NETWORKS, ROOT, STATE
from sandbox.progress import SandboxError

PLUGINS = {"kubernetes": "pulumi-kubernetes", "command": "pulumi-command", "azure-native": "pulumi-azure-native"}
"""Plugin: the Python package that pins its version."""
PASSPHRASE = "sandbox"  # noqa: S105 - protects nothing: the state it encrypts ends with the sandbox
USER_HOME = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")


def run(arguments: list[str]) -> int:
    stand_ins = [plugin for plugin in PLUGINS if not has_official(plugin)] if needs_plugins(arguments) else []
    environment = pulumi_environment()
    if not stand_ins:
        return pass_through(in_network(["pulumi", *arguments]), environment)
    with subprocess.Popen(
        # In the caller's folder, as pulumi starts plugins: local commands run there. -P: which has no modules of ours.
        in_network([sys.executable, "-P", "-m", "sandbox.providers", *stand_ins]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment | {"PYTHONPATH": str(ROOT), "SANDBOX_NETWORKS": NETWORKS},
        start_new_session=True,
    ) as providers:
        if providers.stdin is None or providers.stdout is None:
            raise SandboxError("the stand-ins for the provider plugins have no pipes")
        ports = providers.stdout.readline().strip()
        if not ports:
            raise SandboxError("the stand-ins for the provider plugins did not start")
        try:
            return pass_through(in_network(["pulumi", *arguments]), environment | {"PULUMI_DEBUG_PROVIDERS": ports})
        finally:
            # They end with their standard input.
            providers.stdin.close()


def needs_plugins(arguments: list[str]) -> bool:
    """Those that are only asked for configuration or state do without, and begin seconds earlier."""
    return not {"config", "stack", "whoami", "version"} & set(arguments[:1])


def has_official(plugin: str) -> bool:
    """An official plugin of the pinned version in pulumi's folder, or one on PATH."""
    folder = USER_HOME / "plugins" / f"resource-{plugin}-v{version(PLUGINS[plugin])}"
    on_path = any(Path(part, f"pulumi-resource-{plugin}").is_file() for part in os.environ.get("PATH", "").split(":"))
    return folder.is_dir() or on_path


def pulumi_environment() -> dict[str, str]:
    """Pulumi's home is the sandbox's own, with the user's plugins in it."""
    home, backend = STATE / "pulumi-home", STATE / "pulumi"
    for folder in (home, backend):
        folder.mkdir(parents=True, exist_ok=True)
    plugins = home / "plugins"
    if (USER_HOME / "plugins").is_dir() and not plugins.exists():
        plugins.symlink_to(USER_HOME / "plugins")
    path = ":".join([*(str(folder) for folder in toolchain.pulumi_folders()), os.environ.get("PATH", "")])
    return os.environ | {
        "PATH": path,
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": backend.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
        # What the program runs on this machine trusts Azurite.
        "REQUESTS_CA_BUNDLE": str(CA),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def pass_through(command: list[str], environment: dict[str, str]) -> int:
    """Run it in the foreground. Ctrl-C reaches pulumi through the terminal: it cancels in an orderly way, so wait for it."""
    with subprocess.Popen(command, env=environment) as process:
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGINT, previous)
