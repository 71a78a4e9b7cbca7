"""Give this node's container engines a registry mirror, or take it out again.

Runs as root, on Python 3.5 or later, with nothing but the standard library: ``python3 -c LOADER mirror URL``, where the
loader reads this program, compressed, from standard input and refuses an incomplete one before any of it runs. What is given
with it and belongs on no command line (a CA's PEM text) is in the module ``payload``.
"""

import argparse
import os
import socket
import sys
from collections import OrderedDict
from typing import Callable, List, Optional, Sequence, Tuple

from on_node import containerd, docker, payload, podman
from on_node.address import Mirror, check_cache, parse_entry, parse_mirror
from on_node.engine import Change, Engine, Options
from on_node.errors import Trouble, explain
from on_node.files import digest, locked
from on_node.places import Places

ENGINES = tuple(
    Engine(module.NAME, module.prepare, module.prepare_removal, module.owner_of)
    for module in (podman, containerd, docker)
)
"""Those that change by files alone come first, since they are easily put back; docker, which is reloaded, comes last."""
NOTHING_OF_OURS = "none: nothing of ours on this node, nothing touched"


def apply(places: Places, mirror: Mirror, options: Options) -> str:
    """Make the node's engines pull through the mirror; the line that says how it went."""
    with locked(places):
        changes, problems = gather(
            lambda engine: (
                engine.prepare(places, mirror, options)
                if engine.name in options.engines
                # One that is left out loses the mirror that it may have had.
                else engine.prepare_removal(places, options)
            )
        )
        if problems or not all(change.settled for change in changes):
            problems += check_cache(places, mirror)
        if problems:
            raise Trouble(*problems)
        if not changes:
            return "none: no container engine on this node, nothing to do"
        return carry_out(changes, "mirror " + " or ".join(entry.url for entry in mirror.entries))


def remove(places: Places, options: Options) -> str:
    """Take our mirror out, unless another owner keeps it; the line that says how it went.

    A node that gets another name is another Command to Pulumi, made before the old name's is deleted: without the owner,
    that deletion would take out the mirror that the new name has just been given.
    """
    if not os.path.exists(places.state):
        return NOTHING_OF_OURS
    with locked(places):
        keeper = next((keeper for keeper in (engine.owner_of(places) for engine in ENGINES) if keeper), None)
        if options.owner and keeper and options.owner != keeper:
            return "kept: the mirror here is kept by {}, nothing touched".format(keeper)
        changes, problems = gather(lambda engine: engine.prepare_removal(places, options))
        if problems:
            raise Trouble(*problems)
        return carry_out(changes) if changes else NOTHING_OF_OURS


def gather(prepare: Callable[[Engine], Optional[Change]]) -> Tuple[List[Change], List[str]]:
    """What has to be done with each engine of this node, and everything that is in the way."""
    changes, problems = [], []
    for engine in ENGINES:
        try:
            change = prepare(engine)
        except Trouble as trouble:
            problems += trouble.problems
        else:
            changes += [change] if change else []
    return changes, list(OrderedDict.fromkeys(problems))


def carry_out(changes: Sequence[Change], *about: str) -> str:
    """Carry all changes out, or none; the line that stays in Pulumi's state."""
    said = []
    for change in changes:
        try:
            said.append(change.carry_out())
        except (Trouble, OSError):
            for former in reversed(said):
                if former.undo:
                    former.undo()
            raise
    states = [each.state for each in said if each.state != "removed"] or ["removed"]
    facts = list(about) + [fact for each in said for fact in each.facts]
    more = [line for each in said for line in each.more]
    state = "written" if "written" in states else states[0]
    return state + ": " + "; ".join(([", ".join(facts)] if facts else []) + more)


def refuse_all_but_root() -> None:
    """Stop where the rights are missing: halfway through, the reason would be harder to see."""
    if os.geteuid() != 0:
        raise Trouble(
            "only root can change container engines; log in as root, or set docker_cache_ssh_sudo: true with a sudo rule that "
            "needs no password"
        )


def given_mirror(words: argparse.Namespace) -> Mirror:
    """The mirror of the command line, with what came with the program. Raises Trouble."""
    certificate = given_certificate(words.ca)
    entry = parse_entry(words.entry, certificate, payload.authorization, insecure=words.insecure)
    return parse_mirror(entry, words.also, words.upstreams)


def given_certificate(wanted: Optional[str]) -> Optional[str]:
    """The certificate that came with the program, if it is the one that the command line names."""
    text = payload.certificate
    if (None if text is None else digest(text.encode("utf-8"))) != wanted:
        raise Trouble("--ca names another certificate than the one that came with the script; run `pulumi up` again")
    return text


def add_entry(command: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """The words that name the mirror and how it is verified."""
    nargs, text = "?" if optional else None, "http://HOST:PORT or https://HOST:PORT"
    command.add_argument("entry", metavar="ENTRY", nargs=nargs, help=text)
    command.add_argument("--also", metavar="HOSTS", help="further hosts of ENTRY's, with commas between them")
    command.add_argument("--upstreams", metavar="HOSTS", help="registries besides Docker Hub that ENTRY serves")
    command.add_argument("--ca", metavar="SHA256", help="the certificate that came with the script")
    command.add_argument("--insecure", action="store_true", help="do not verify an https entry")
    command.add_argument("--proof", metavar="IMAGE", help="have the engine pull it once it has the mirror")
    command.add_argument("--generation", metavar="N", help="tells one `make heal` of the node from the next")
    command.add_argument(
        "--engines", metavar="NAMES", help="the engines that get it, with commas between them; all without"
    )
    command.add_argument(
        "--allow-restart", action="store_true", help="let containerd be restarted once where config_path is missing"
    )


def add_options(command: argparse.ArgumentParser) -> None:
    """The words of every direction."""
    command.add_argument(
        "--owner", metavar="ID", help="who keeps the mirror here: no other owner's remove takes it out"
    )
    command.add_argument(
        "--allow-pending-changes",
        action="store_true",
        help="let the reload apply other edits that wait in daemon.json too",
    )


def options_of(words: argparse.Namespace) -> Options:
    """The words, as engines are given them."""
    chosen = getattr(words, "engines", None)
    return Options(
        words.owner,
        frozenset(chosen.split(",") if chosen else (engine.name for engine in ENGINES)),
        words.allow_pending_changes,
        getattr(words, "allow_restart", False),
        getattr(words, "proof", None),
    )


def run(argv: Sequence[str], places: Places) -> int:
    """One command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="mirror", description="This node's container engines and their registry mirror."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.required = True
    for name, text in (("mirror", "make the engines pull through ENTRY"), ("remove", "take our mirror out again")):
        command = commands.add_parser(name, help=text, description=text)
        if name == "mirror":
            add_entry(command)
        add_options(command)
    words = parser.parse_args(argv)
    options = options_of(words)
    # A hardened root's 077 would close the folders of certificates to clients that are not root.
    os.umask(0o022)
    try:
        refuse_all_but_root()
        if words.command == "mirror":
            print(apply(places, given_mirror(words), options))
        else:
            print(remove(places, options))
    except Trouble as trouble:
        problems = trouble.problems
    except OSError as error:
        problems = [explain(error)]
    else:
        return 0
    for problem in problems:
        sys.stderr.write("docker-cache on {}: {}\n".format(socket.gethostname(), problem))
    return 1


def main() -> None:
    """Run the command line."""
    sys.exit(run(sys.argv[1:], Places()))


if __name__ == "__main__":
    main()
