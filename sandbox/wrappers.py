"""The commands `sandbox/exec`, `sandbox/kubectl`, `sandbox/pulumi` and `sandbox/upstream-stats`."""

import os
import subprocess
import sys

from sandbox import pulumi_run, toolchain
from sandbox.enter import in_machine, in_network
from sandbox.layout import KUBECONFIG, REGISTRIES
from sandbox.progress import SandboxError


def run_exec(arguments: list[str]) -> int:
    if len(arguments) < 2:  # noqa: PLR2004 - a machine and a command
        raise SandboxError("usage: sandbox/exec MACHINE COMMAND…")
    return replace_process(in_machine(arguments[0], arguments[1:]))


def run_kubectl(arguments: list[str]) -> int:
    return replace_process(in_network([*toolchain.kubectl_command(), "--kubeconfig", str(KUBECONFIG), *arguments]))


def upstream_stats(arguments: list[str]) -> int:
    rest = [argument for argument in arguments if argument != "--reset"]
    host = rest[1] if rest[:1] == ["--of"] and len(rest) > 1 else "docker.io"
    if rest not in ([], ["--of", host]) or host not in REGISTRIES:
        raise SandboxError(f"usage: sandbox/upstream-stats [--of {'|'.join(REGISTRIES)}] [--reset]")
    method, path = ("GET", "stats") if rest == arguments else ("POST", "reset")
    url = f"http://127.0.0.1:{REGISTRIES[host]}/{path}"
    return replace_process(in_machine("hub", ["curl", "-sSf", "-X", method, url]))


def replace_process(command: list[str]) -> int:
    """The command takes this process' place: signals, terminal and exit status are its own."""
    sys.stdout.flush()
    os.execvp(command[0], command)


COMMANDS = {
    "exec": run_exec,
    "kubectl": run_kubectl,
    "pulumi": pulumi_run.run,
    "upstream-stats": upstream_stats,
}


def main() -> int:
    try:
        return COMMANDS[sys.argv[1]](sys.argv[2:])
    except (SandboxError, subprocess.CalledProcessError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
