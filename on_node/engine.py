"""What a container engine's module offers, so that several engines of one node change together or not at all.

Each has a ``NAME``, ``prepare(places, mirror, options)`` and ``prepare_removal(places, options)``, which look at the node, touch
nothing, raise Trouble with everything that is in the way, and give a Change, or None where there is nothing to do with that
engine; and ``owner_of(places)``.
"""

from typing import Callable, FrozenSet, List, NamedTuple, Optional

from on_node.address import Mirror
from on_node.places import Places

Options = NamedTuple(
    "Options",
    [
        ("owner", Optional[str]),
        ("engines", FrozenSet[str]),
        ("allow_pending_changes", bool),
        ("allow_restart", bool),
        ("proof_image", Optional[str]),
    ],
)
Said = NamedTuple(
    "Said", [("state", str), ("facts", List[str]), ("more", List[str]), ("undo", Optional[Callable[[], None]])]
)
"""What was done, and what undoes it: needed of all but the last engine."""
Change = NamedTuple("Change", [("settled", bool), ("carry_out", Callable[[], Said])])
Engine = NamedTuple(
    "Engine",
    [
        ("name", str),
        ("prepare", Callable[[Places, Mirror, Options], Optional[Change]]),
        ("prepare_removal", Callable[[Places, Options], Optional[Change]]),
        ("owner_of", Callable[[Places], Optional[str]]),
    ],
)
