"""Which types of objects there are, and which of them grew: what the garbage collector knows.

The program's objects are looked at in one step and let go in it, so that none of them ever dies by our hand.
"""

import gc
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from flyball.stops import Stops
from flyball.wire import Growing

#: Types that are told.
TOLD: Final = 10
#: Above these, a look could stop the program for more than 50 ms; measured on a slow machine, an object takes 25 ns to
#: be counted and 50 ns to be looked at. Blocks are cheap to know, and there are more of them than objects.
MOST_BLOCKS: Final = 1_200_000
MOST_OBJECTS: Final = 600_000
_LONGEST_NAME: Final = 200
_AT_ONCE: Final = 10_000


class Unseen(Exception):
    """What is in the program cannot be known; the text says why, as a sentence."""


class Census:
    """How many objects of each type there are now; the types live as long as this does."""

    def __init__(self, stops: Stops) -> None:
        """Look.

        :raises Unseen: this Python cannot tell, or there are too many.
        """
        try:
            blocks = stops.during(sys.getallocatedblocks)
            count = stops.during(lambda: len(gc.get_objects())) if 0 < blocks <= MOST_BLOCKS else 0
        except AttributeError as error:
            raise Unseen(f"types of objects: {sys.implementation.name} does not tell them ({error})") from None
        if not blocks:  # PYTHONMALLOC=malloc
            raise Unseen("types of objects: this Python's allocator does not tell how much there is to be looked at")
        if blocks > MOST_BLOCKS or count > MOST_OBJECTS:
            many = f"{count:,} objects" if count else f"{blocks:,} blocks of memory"
            raise Unseen(f"types of objects: {many} are too many to look at them without stopping the program")
        # by id, since a class of classes may have a hash of its own, which is the program's code
        self.types: dict[int, type] = {}
        # before the look and from a list, since the first such Counter of a program fills caches of abstract classes
        self.counts: Counter[int] = Counter([])
        kinds = stops.during(lambda: list(map(type, gc.get_objects())))
        for start in range(0, len(kinds), _AT_ONCE):
            some = kinds[start : start + _AT_ONCE]
            ids = list(map(id, some))
            self.counts.update(ids)
            self.types.update(zip(ids, some, strict=True))

    def grown_since(self, before: "Census") -> Sequence[Growing]:
        """The types of which there are more, those that grew most first."""
        # the look before this one is still there, and no growth of the program's
        own = dict.fromkeys(map(id, (Census, Counter, dict)), 1)
        more = {which: count - before.counts[which] - own.get(which, 0) for which, count in self.counts.items()}
        most = sorted((which for which in more if more[which] > 0), key=lambda which: -more[which])[:TOLD]
        return tuple(
            Growing(type=_name(self.types[which]), count=self.counts[which], more=more[which]) for which in most
        )


def _name(kind: type) -> str:
    """`module.Name`; without the module where Python itself has it. Asks the class, and never a class of classes."""
    qualname = type.__getattribute__(kind, "__qualname__")
    module = type.__getattribute__(kind, "__module__")
    name = qualname if module == "builtins" or not isinstance(module, str) else f"{module}.{qualname}"
    return str(name).encode(errors="backslashreplace").decode()[:_LONGEST_NAME]
