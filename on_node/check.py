"""What a run would meet on this node, and what is there of ours: looked at, with nothing changed.

A program of its own, since every node's state holds what `mirror.py` is made of. It prints one JSON document: the engines, each
with its version and the state of its mirror, and the findings, each with a level, a text and a remedy.
"""

import argparse
import json
import sys
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Optional, Sequence

from on_node import containerd, docker, podman
from on_node.address import Mirror, check_entry
from on_node.describe import ABSENT, Description, describe_containerd, describe_docker, describe_podman
from on_node.engine import Options
from on_node.errors import Trouble, explain
from on_node.files import undisturbed
from on_node.mirror import add_entry, add_options, given_mirror, options_of, refuse_all_but_root
from on_node.places import Places

Report = Dict[str, Any]
Describe = Callable[[Places, Optional[Mirror]], Optional[Description]]
ENGINES = (
    (podman, describe_podman),
    (containerd, describe_containerd),
    (docker, describe_docker),
)  # type: Sequence[Any]
WARNING, ERROR = "warning", "error"


def check(places: Places, mirror: Optional[Mirror], options: Options) -> Report:
    """Every engine with its mirror, and all findings; without a mirror, what is left of ours.

    ``cache`` has which entries do not answer from here: before the first update there may be no cache yet.

    ``settled`` says whether `mirror` would have nothing to do with the engine; it is None where it would be refused.
    """
    with undisturbed(places):
        looks = [look(places, engine, describe, mirror, options) for engine, describe in ENGINES]
        entries = mirror.entries if mirror and any(each["engines"] for each in looks) else []
        problems = [problem for entry in entries for problem in check_entry(places, entry)]
    return {
        "engines": [found for each in looks for found in each["engines"]],
        "findings": [found for each in looks for found in each["findings"]],
        "cache": as_findings(ERROR if len(problems) == len(entries) else WARNING, problems),
    }


def look(places: Places, engine: Any, describe: Describe, mirror: Optional[Mirror], options: Options) -> Report:
    """One engine, which may not be here. One that is left out of those that get the mirror is to have nothing of ours."""
    is_left_out = mirror is not None and engine.NAME not in options.engines
    wanted = None if is_left_out else mirror
    problems, settled, described = [], None, None  # type: List[str], Optional[bool], Optional[Description]
    try:
        described = describe(places, wanted)
    except Trouble as trouble:
        problems += trouble.problems
    try:
        change = engine.prepare(places, wanted, options) if wanted else None
        settled = change.settled if change else None
    except Trouble as trouble:
        problems += trouble.problems
    is_no_engine = mirror and settled is None and not problems and described and described.mirror == ABSENT
    if described is None or is_no_engine:
        return {"engines": [], "findings": as_findings(ERROR, problems)}
    shown = {
        "engine": described.engine,
        "version": described.version,
        "mirror": described.mirror,
        "settled": False if is_left_out else settled,
        "containers": described.containers,
    }
    return {"engines": [shown], "findings": as_findings(ERROR, problems) + as_findings(WARNING, described.cautions)}


def as_findings(level: str, lines: Sequence[str]) -> List[Dict[str, str]]:
    """Messages as they go into the report, none twice. Each of ours ends in its remedy."""
    found = []
    for line in OrderedDict.fromkeys(lines):
        text, _, remedy = line.rpartition("; ")
        found.append({"level": level, "text": text or remedy, "remedy": remedy if text else ""})
    return found


def report(argv: Sequence[str], places: Places) -> Report:
    """What the node says of itself; what keeps it from looking is a finding, too."""
    parser = argparse.ArgumentParser(prog="check", description="Look at the engines, and change nothing.")
    add_entry(parser, optional=True)
    add_options(parser)
    words = parser.parse_args(argv)
    try:
        refuse_all_but_root()
        mirror = given_mirror(words) if words.entry else None
        return check(places, mirror, options_of(words))
    except Trouble as trouble:
        problems = trouble.problems
    except OSError as error:
        problems = [explain(error)]
    return {"engines": [], "findings": as_findings(ERROR, problems), "cache": []}


def main() -> None:
    """Print the report."""
    print(json.dumps(report(sys.argv[1:], Places()), sort_keys=True))


if __name__ == "__main__":
    main()
