"""`python -m sandbox up | down | tools | check`: the sandbox's own command line, called by make."""

import argparse
import signal
import sys

from sandbox import lifecycle
from sandbox.progress import SandboxError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A real cluster on one machine.")
    actions = {
        "up": (lifecycle.up, "start it, or keep the one that runs"),
        "down": (lifecycle.down, "end it and remove all that it made"),
        "tools": (lifecycle.prepare_all_tools, "build or install the tools that it and its tests need"),
        "check": (lifecycle.require, "say what this machine lacks"),
    }
    commands = parser.add_subparsers(dest="action", required=True)
    for name, (_, text) in actions.items():
        commands.add_parser(name, help=text)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        actions[parser.parse_args().action][0]()
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sandbox: stopped; what had begun is taken back", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
