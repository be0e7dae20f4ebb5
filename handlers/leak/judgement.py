"""From signs to a judgement: which growth is a leak's, which may still be a warm-up's, and why.

The numbers are shares and counts of samples, not megabytes and minutes, so that they hold at any scale. They
were chosen on labelled traces of some sixty kinds of programs (docs/decisions/093); bench/leak.py says what they come
to.
"""

from typing import Final, Literal

from msgspec import Struct

from handlers.leak.sawtooth import Troughs
from handlers.leak.settings import Settings
from handlers.leak.signs import Signs

Way = Literal["calm", "slower", "long", "troughs"]

#: A growth that is this clear needs fewer samples, and is believed at once.
CLEAR_SIGNIFICANCE: Final = 18.0
CLEAR_CROOKED: Final = 0.07
CLEAR_SAMPLES: Final = 16
#: A growth of fewer points is not looked at.
POINTS: Final = 8
#: Of which the second half rises less is one that levels off.
LASTING: Final = 0.3
#: Troughs that make it a saw-tooth, of which falls are no wonder; of anything else they say that it was given back.
TOOTHED: Final = 3
FEW_TROUGHS: Final = 4
BEYOND: Final = 0.35
FALLEN: Final = 0.4
INSIDE: Final = 1.2
#: A load that moves so much like the level explains it.
ALIKE: Final = 0.95
#: Memory that is so much like the threads is judged with them.
FOLLOWS: Final = 0.85
#: A pool of threads grows to its size and stops: fewer new ones are no leak, unless as regular as clockwork, or after
#: the pool's own start-up.
POOL_THREADS: Final = 25.0
CLOCKWORK: Final = 20.0
#: After a calm: of at least so many samples; the growth is believed once it has lasted for this share of the time
#: before it, or for so many samples.
CALM_SAMPLES: Final = 12
CALM_LASTING: Final = 0.2
AS_LONG: Final = 0.5
LONG_ENOUGH: Final = 250
#: After a faster rise, a warm-up, that is over: how much faster and larger it was.
FASTER: Final = 10.0
BEFORE: Final = 3.0
#: Since the beginning, and still going on.
AGE: Final = 512


class Judgement(Struct, frozen=True):
    """Whether it grows as a leak does; if so, which `way` it was found, if not, why, and samples until it may be."""

    leak: bool
    reason: str
    way: Way | None = None
    #: believed at the first look
    clear: bool = False
    missing: int = 0


def judge(resource: str, signs: Signs, settings: Settings, *, threads_leak: bool) -> Judgement:
    """Judge one look; `threads_leak` says whether the threads of the same process are suspected."""
    look = signs.look
    if resource in ("rss", "vram") and signs.teeth is not None and _toothed(signs.teeth, signs):
        return Judgement(True, "the troughs of a saw-tooth rise", "troughs")
    clear = look.significance >= CLEAR_SIGNIFICANCE and look.crooked <= CLEAR_CROOKED
    fewest = CLEAR_SAMPLES if clear else settings.least_samples
    if look.length < POINTS or signs.samples < fewest:
        return _not_yet("it has grown for a short time only", fewest - signs.samples)
    if look.crooked > settings.most_crooked or look.significance < settings.least_significance:
        return _not_yet("it does not grow steadily", signs.samples // 2)
    if look.lasting < LASTING:
        return _not_yet("it levels off", signs.samples)
    if look.troughs < TOOTHED and (look.beyond < BEYOND or look.fallen > FALLEN or signs.inside > INSIDE):
        return _not_yet("as much was given back before", signs.samples)
    if signs.alike > ALIKE:
        return _not_yet("it rises as the load does", signs.samples)
    if resource == "threads" and look.amount < POOL_THREADS and not signs.pooled and look.significance <= CLOCKWORK:
        return _not_yet("a pool of threads grows like this until it is full", signs.samples)
    if signs.follows > FOLLOWS and not threads_leak:
        return _not_yet("it follows the threads, which do not leak", signs.samples)
    return _by_past(signs, clear, settings)


def _by_past(signs: Signs, clear: bool, settings: Settings) -> Judgement:
    """What came before decides how long it must have grown."""
    before = signs.age - signs.samples
    calm = signs.quiet >= settings.least_calm and signs.quiet * signs.samples >= CALM_SAMPLES
    needed = int(AS_LONG * min(before, LONG_ENOUGH))
    if calm and signs.lasting >= CALM_LASTING and signs.samples >= needed:
        return Judgement(True, "it grows steadily after a calm", "calm", clear)
    if _is_slower(signs):
        return Judgement(True, "it grows steadily after a warm-up that is over", "slower", clear)
    if _is_long(signs):
        return Judgement(True, "it has grown steadily for long", "long", clear)
    if calm:
        return _not_yet("it has grown for a shorter time than it was calm", max(1, needed - signs.samples))
    return _not_yet("it has grown from the start, as a warm-up does", max(signs.samples // 2, AGE - signs.age))


def _is_slower(signs: Signs) -> bool:
    """A warm-up, and then a line, for longer and much slower; a cache that fills would have bent by then."""
    look = signs.look
    return (
        look.faster >= FASTER and signs.before >= BEFORE
        and signs.samples >= 40 and signs.samples >= 0.6 * signs.age
        and look.lasting >= 0.4 and signs.lasting >= 0.6 and look.crooked <= 0.08 and look.significance >= 8
    )  # fmt: skip


def _is_long(signs: Signs) -> bool:
    """No calm was ever seen, but a line for long: of a warm-up, a cache or a pool one would expect an end."""
    look = signs.look
    return (
        signs.age >= AGE and signs.samples >= 0.2 * signs.age
        and look.lasting >= 0.7 and signs.lasting >= 0.85 and look.crooked <= 0.08 and look.significance >= 15
    )  # fmt: skip


def _toothed(teeth: Troughs, signs: Signs) -> bool:
    """Enough troughs, over enough of the time, rise on a line; four that do so must leave no doubt."""
    return (
        signs.age >= 60 and _share(teeth, signs) >= 0.2
        and teeth.significance >= (10 if len(teeth.points) > FEW_TROUGHS else 20)
        and teeth.crooked <= 0.1 and teeth.rising >= 0.6 and signs.alike <= ALIKE
    )  # fmt: skip


def _share(teeth: Troughs, signs: Signs) -> float:
    """Share of all blocks that the troughs span up to now."""
    return (signs.blocks - teeth.points[0]) / signs.blocks


def _not_yet(reason: str, missing: int) -> Judgement:
    return Judgement(False, reason, missing=max(1, missing))
