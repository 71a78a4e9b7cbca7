"""What a container engine's module offers, so that several engines of one node change together or not at all.

Each has ``prepare(places, entry, options)`` and ``prepare_removal(places, options)``, which look at the node, touch nothing,
raise Trouble with everything that is in the way, and give a Change, or None where there is nothing to do with that engine;
and ``owner_of(places)``.
"""

from typing import Callable, List, NamedTuple, Optional

Options = NamedTuple("Options", [("owner", Optional[str]), ("allow_pending_changes", bool)])
Said = NamedTuple("Said", [("state", str), ("facts", List[str]), ("more", List[str])])
Change = NamedTuple(
    "Change", [("settled", bool), ("carry_out", Callable[[], Said]), ("undo", Optional[Callable[[], None]])]
)
