"""`python -m sandbox.providers kubernetes command azure-native`: run stand-ins until standard input closes.

Standard output carries one line, the value for PULUMI_DEBUG_PROVIDERS. Ending with its input, the process can't
outlive the wrapper that launched it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable

from sandbox.providers.azure_native import AzureNativeStandIn
from sandbox.providers.command import CommandStandIn
from sandbox.providers.kubernetes import KubernetesStandIn
from sandbox.providers.protocol import StandIn, serve

_STAND_INS: dict[str, Callable[[], StandIn]] = {
    "kubernetes": KubernetesStandIn,
    "command": CommandStandIn,
    "azure-native": AzureNativeStandIn,
}


def main() -> None:
    """Serve the named stand-ins."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.providers", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(_STAND_INS), metavar="name", help=", ".join(_STAND_INS))
    names = list(dict.fromkeys(parser.parse_args().names))
    finished = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: finished.set())
    servers = [(name, *serve(_STAND_INS[name]())) for name in names]
    sys.stdout.write(",".join(f"{name}:{port}" for name, _, port in servers) + "\n")
    sys.stdout.flush()
    threading.Thread(target=_until_input_ends, args=(finished,), daemon=True).start()
    finished.wait()
    for _, server, _ in servers:
        server.stop(grace=None)
    # Handlers may still be waiting for a rollout; whoever launched us no longer waits for them.
    os._exit(0)


def _until_input_ends(finished: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    finished.set()


main()
