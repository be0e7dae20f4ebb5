"""From samples to what is said of each target, pure; the state is plain data that can be stored.

BLIND is no rung of the ladder: the rung stays, and so does what was demanded, unless only a forecast allowed it. All
times are the sampler's CLOCK_MONOTONIC, which starts anew at a reboot.
"""

from math import inf
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from handlers.throttle import predictive, wording
from handlers.throttle.ladder import CRITICAL, PROVEN_READINGS, UNREAD, Ladder, seconds_up, step, way_up
from handlers.throttle.predictive import Prediction
from handlers.throttle.settings import Settings
from schemas.demand import Demand
from schemas.event import PauseFutile, State, StateChanged
from schemas.sample import Gpu, Sample
from schemas.workload import Action, Cleanup

RUNGS: Final[tuple[State, ...]] = ("OPTIMAL", "NORMAL", "THROTTLED", "CRITICAL")
#: A card that so many full samples in a row do not list, although the driver answers, is not there any more.
ABSENT_SAMPLES: Final = 3
ISSUER: Final = "throttle"


class Governor(Struct, kw_only=True):
    """The state of the policy: one ladder a card, by index, and one for the host's memory once that was read."""

    version: int = 1
    boot_id: str = ""
    monotonic_s: float = 0.0
    interval_s: float = 0.0
    #: id of the event with the last sample: the cause of what silence leads to
    cause: str = ""
    #: when the last sample was taken, as people write it
    time: str = ""
    simulated: bool = False
    gpus: dict[int, Ladder] = {}
    host: Ladder | None = None

    def ladders(self) -> list[Ladder]:
        """All of them, cards first."""
        return [*self.gpus.values(), *([self.host] if self.host else [])]


class Move(Struct, frozen=True):
    """One target moved: the event, its sentence, and the new demand (None withdraws it)."""

    event: StateChanged | PauseFutile
    text: str
    demand: Demand | None


def observe(governor: Governor, sample: Sample, cause: str, settings: Settings) -> list[Move]:
    """Take in one sample of our host; `cause` is the id of its event. Returns at most one move a target."""
    now = sample.monotonic_s
    if sample.boot_id != governor.boot_id or now < governor.monotonic_s:
        _restart_clocks(governor, now)
        governor.boot_id = sample.boot_id
    elif sample.gap or now - governor.monotonic_s > settings.blind_intervals * governor.interval_s:
        void_rates(governor)
    left = _change_worlds(governor) if governor.cause and sample.simulated != governor.simulated else {}
    governor.monotonic_s, governor.time, governor.cause = now, sample.time, cause
    governor.simulated = sample.simulated
    full = sample.scope == "full"
    if full:
        governor.interval_s = sample.interval_s
    moves = _take_in(governor, sample, settings)
    for move in moves:
        left.pop(move.event.target, None)
    return [*(_left_behind(ladder, governor) for ladder in left.values()), *moves]


def _take_in(governor: Governor, sample: Sample, settings: Settings) -> list[Move]:
    """The figures of a sample, each on its ladder."""
    now, full = sample.monotonic_s, sample.scope == "full"
    moves: list[Move] = []
    for gpu in sample.gpus:
        ladder = governor.gpus.get(gpu.index)
        if ladder is None:
            ladder = governor.gpus[gpu.index] = Ladder(target=f"gpu{gpu.index}")
        if gpu.uuid != ladder.uuid:
            ladder.another_card(gpu.uuid, now)
        ladder.absent = 0
        if gpu.reading == "fresh":
            temperature, by_margin = _effective_temperature(gpu, settings)
            move = _read(ladder, temperature, by_margin, gpu.memory_used_ratio, full, governor, settings)
        else:
            move = _lose(ladder, gpu.reading, _trouble(gpu), governor, settings)
        if move is not None:
            moves.append(move)
    if full and len(sample.gpus) != len(governor.gpus):
        moves += _unlisted(governor, sample, settings)

    figures = sample.host_figures
    ratio = figures.memory_used_ratio if figures is not None else None
    if governor.host is None and ratio is not None:
        governor.host = Ladder(target="host")
    if governor.host is not None and (full or ratio is not None):
        move = _read(governor.host, None, False, ratio, full, governor, settings)
        if move is not None:
            moves.append(move)
    return moves


def watch(governor: Governor, now_s: float, since_s: float, settings: Settings) -> list[Move]:
    """Look for targets of which no fresh reading has come; `since_s` is since when we could have received one."""
    limit = settings.blind_intervals * governor.interval_s
    moves: list[Move] = []
    for ladder in governor.ladders():
        silent_s = now_s - max(ladder.seen_s, since_s)
        if silent_s > limit and not ladder.blind and ladder.rung != UNREAD:
            move = _lose(ladder, "silent", f"no sample for {wording.number(silent_s)} s", governor, settings)
            if move is not None:
                moves.append(move)
    return moves


def void_rates(governor: Governor) -> None:
    """Time was lost, or samples were: cooldowns start again, and so does the watch over growing memory."""
    for ladder in governor.ladders():
        ladder.void_rates()


def restored(governor: Governor) -> None:
    """While we were away, another driver may have come, and an emergency may have passed: believe no figure."""
    for ladder in governor.ladders():
        ladder.forget_figures()
        ladder.urgent = False
        if ladder.demand is not None and ladder.demand.cleanup == "emergency":
            ladder.demand = replace(ladder.demand, cleanup="none")


def _restart_clocks(governor: Governor, now: float) -> None:
    """Another boot, or a clock that went back: times measured on the old one mean nothing now."""
    void_rates(governor)
    for ladder in governor.ladders():
        ladder.since_s = ladder.seen_s = now


def _effective_temperature(gpu: Gpu, settings: Settings) -> tuple[float | None, bool]:
    """What counts as the card's temperature, and whether its margin to slowdown made it."""
    temperature, margin = gpu.temperature_celsius, gpu.temperature_margin_celsius
    if margin is None:
        return temperature, False
    by_margin = settings.temp_throttle - margin
    if temperature is None or by_margin > temperature:
        return by_margin, True
    return temperature, False


def _trouble(gpu: Gpu) -> str:
    """Why a card gave no reading."""
    what = "the card fell off the bus" if gpu.reading == "lost" else "the card does not answer"
    return f"{what} ({gpu.reason})" if gpu.reason else what


def _unlisted(governor: Governor, sample: Sample, settings: Settings) -> list[Move]:
    """Cards that a full sample does not list: with a driver that answers they are gone, otherwise BLIND."""
    listed = {gpu.index for gpu in sample.gpus}
    backend = sample.gpu_backend
    moves: list[Move] = []
    for index, ladder in governor.gpus.items():
        if index in listed or ladder.state == "UNAVAILABLE":
            continue
        move: Move | None = None
        if backend.state == "ok":
            ladder.absent += 1
            if ladder.absent >= ABSENT_SAMPLES:
                governor.gpus[index] = Ladder(target=ladder.target)
                move = _vanished(ladder, governor)
        else:
            ladder.absent = 0
            why = f"the driver cannot be asked ({backend.reason or backend.state})"
            move = _lose(ladder, "driver", why, governor, settings)
        if move is not None:
            moves.append(move)
    return moves


def _read(
    ladder: Ladder,
    temperature: float | None,
    by_margin: bool,
    memory_ratio: float | None,
    full: bool,
    governor: Governor,
    settings: Settings,
) -> Move | None:
    """A fresh reading; one of a fast sample updates only what it holds."""
    memory = None if memory_ratio is None else memory_ratio * 100
    missing = (temperature is None and ladder.temperature_celsius is not None) or (
        memory is None and ladder.memory_percent is not None
    )
    if full and (missing or (temperature is None and memory is None)):
        what = "temperature" if temperature is None and ladder.temperature_celsius is not None else "memory"
        why = f"its {what} cannot be read any more" if missing else "it tells neither temperature nor memory"
        return _lose(ladder, "unreadable", why, governor, settings)
    measured = temperature is not None
    if not full:
        if (missing and ladder.blind) or (temperature is None and memory is None):
            return None
        if temperature is None:
            temperature, by_margin = ladder.temperature_celsius, ladder.by_margin
        if memory is None:
            memory = ladder.memory_percent

    now = governor.monotonic_s
    ladder.temperature_celsius, ladder.memory_percent, ladder.by_margin = temperature, memory, by_margin
    ladder.seen_s = now
    if ladder.blind:
        ladder.blind = ""
        ladder.void_rates()
        ladder.why = f"readable again, {wording.figures(temperature, memory, by_margin)}; up only after the cooldown"
    if measured:
        ladder.readings = min(ladder.readings + 1, PROVEN_READINGS)
    was_emergency, why, rung = ladder.emergency, ladder.why, ladder.rung
    step(ladder, now, settings)
    said = _look_ahead(ladder, governor, settings, first=rung == UNREAD) if full else ""
    if said:
        ladder.why = said if ladder.why == why else f"{ladder.why}; {said}"
    return _say(ladder, governor, settings, news=ladder.emergency != was_emergency or bool(said))


def _look_ahead(ladder: Ladder, governor: Governor, settings: Settings, *, first: bool) -> str:
    """Let prediction learn from a full reading of a card and choose; returns what there is to say of it."""
    if settings.policy == "ladder" or ladder is governor.host:
        if ladder.prediction is None:
            return ""
        ladder.prediction = None
        return "the ladder decides from now on"
    now, most = governor.monotonic_s, _ladder_speed(ladder, settings)
    speed = most if first or ladder.demand is None else ladder.demand.speed
    if ladder.prediction is None:
        ladder.prediction = Prediction(seen_s=-inf, speed=speed, since_s=now)
    prediction = ladder.prediction
    said = predictive.learn(prediction, now, ladder.temperature_celsius, ladder.memory_percent, speed, settings)
    if most == 0:
        prediction.speed, prediction.since_s = 0.0, -inf
        return said
    chosen = predictive.choose(prediction, now, most, settings)
    return "; ".join(words for words in (said, chosen) if words)


def _lose(ladder: Ladder, kind: str, why: str, governor: Governor, settings: Settings) -> Move | None:
    """No fresh reading: BLIND. Of the kinds of trouble only a loss is news to a target that is BLIND already."""
    if ladder.blind and (kind != "lost" or ladder.blind == "lost"):
        return None
    ladder.blind, ladder.why = kind, why
    ladder.void_rates()
    if kind in ("lost", "driver"):
        ladder.forget_figures()
    return _say(ladder, governor, settings, news=True)


def _change_worlds(governor: Governor) -> dict[str, Ladder]:
    """What is known is of simulated cards and the sample of real ones, or the reverse: forget it; what was demanded."""
    left = {ladder.target: ladder for ladder in governor.ladders() if ladder.demand is not None}
    governor.gpus, governor.host = {}, None
    return left


def _left_behind(ladder: Ladder, governor: Governor) -> Move:
    """A target of the other world that this sample does not know."""
    return _gone(ladder, governor, f"what was known of it was {'measured' if governor.simulated else 'simulated'}")


def _vanished(ladder: Ladder, governor: Governor) -> Move:
    """There is no such card any more."""
    return _gone(ladder, governor, f"the driver has not listed it for {ABSENT_SAMPLES} samples")


def _gone(ladder: Ladder, governor: Governor, why: str) -> Move:
    """Nothing is demanded any more of what `ladder` was."""
    return Move(
        StateChanged(
            target=ladder.target,
            state="UNAVAILABLE",
            previous=ladder.state,
            action="run",
            speed=1.0,
            reason=why,
            cause=governor.cause,
            simulated=governor.simulated,
        ),
        f"{_mark(governor)}{ladder.target} is UNAVAILABLE (was {ladder.state}): {why}; nothing is demanded of it",
        None,
    )


def _ladder_speed(ladder: Ladder, settings: Settings) -> float:
    """The speed that the ladder alone gives to where a target stands."""
    if ladder.rung == CRITICAL:
        return settings.speed_throttled if ladder.futile else 0.0
    if ladder.rung == 0:
        return 1.0
    # what was never read is not green: half speed until we know better
    return settings.speed_normal if ladder.rung == 1 else settings.speed_throttled


def _wanted(ladder: Ladder, settings: Settings) -> tuple[float, Cleanup]:
    """The speed and cleanup that follow from where a target stands and what is forecast of it.

    BLIND keeps what was said last, but a forecast that was faster than the ladder is none any more.
    """
    speed, prediction = _ladder_speed(ladder, settings), ladder.prediction
    if ladder.blind and ladder.demand is not None:
        return min(ladder.demand.speed, speed), ladder.demand.cleanup
    cleanup: Cleanup = "none"
    if ladder.rung == CRITICAL:
        cleanup = "soft" if ladder.futile else "emergency" if ladder.urgent else "none"
    elif prediction is not None and prediction.cleanup:
        cleanup = "soft"
    if prediction is not None:
        free = prediction.trusted and ladder.rung != CRITICAL
        speed = prediction.speed if free else min(prediction.speed, speed)
    return speed, cleanup


def _say(ladder: Ladder, governor: Governor, settings: Settings, *, news: bool = False) -> Move | None:
    """The move to say, if state, speed or cleanup are not what was said last, or there are `news` of it."""
    state: State = "BLIND" if ladder.blind else RUNGS[ladder.rung]
    speed, cleanup = _wanted(ladder, settings)
    said = ladder.demand
    if said is not None and state == ladder.state and speed == said.speed and cleanup == said.cleanup and not news:
        return None
    action: Action = "pause" if speed == 0 else "run" if speed == 1 else "throttle"
    previous, mark, now_futile = ladder.state, _mark(governor), ladder.futile and not ladder.blind
    if state != previous or not ladder.since:
        ladder.since = governor.time
    ladder.state = state
    ladder.demand = Demand(
        issuer=ISSUER,
        target=ladder.target,
        action=action,
        speed=speed,
        cleanup=cleanup,
        reason=f"{mark}{state}: {ladder.why}",
        cause=governor.cause,
    )
    memory = ladder.memory_percent
    if now_futile and memory is not None and previous == state and ladder.window_s is not None:
        paused_s = governor.monotonic_s - ladder.window_s
        return Move(
            PauseFutile(
                target=ladder.target,
                memory_used_ratio=memory / 100,
                paused_s=paused_s,
                reason=ladder.why,
                cause=governor.cause,
            ),
            f"{mark}{ladder.target} goes on although CRITICAL: {ladder.why}; {wording.speed_words(action, speed)}",
            ladder.demand,
        )
    came = f"is {state} (was {previous})" if state != previous else f"stays {state}"
    keeps = ladder.blind and said is not None and speed == said.speed
    ending = ("keeps " if keeps else "") + wording.speed_words(action, speed)
    return Move(
        StateChanged(
            target=ladder.target,
            state=state,
            previous=previous,
            action=action,
            speed=speed,
            reason=ladder.why,
            cause=governor.cause,
            temperature_celsius=None if ladder.blind else ladder.temperature_celsius,
            memory_used_ratio=None if ladder.blind or memory is None else memory / 100,
            emergency=ladder.emergency,
            simulated=governor.simulated,
        ),
        f"{mark}{ladder.target} {came}: {ladder.why}; {ending}",
        ladder.demand,
    )


def standing(ladder: Ladder, governor: Governor, settings: Settings) -> str:
    """Where a target stands, for people who look now: since when, why, and what it waits for."""
    if ladder.demand is None:
        return f"{_mark(governor)}no such GPU"
    since = wording.clock(ladder.since)
    waits = ""
    if ladder.blind:
        waits = "until it can be read it keeps " + wording.speed_words(ladder.demand.action, ladder.demand.speed)
    elif ladder.prediction is not None and ladder.prediction.trusted and ladder.rung != CRITICAL:
        waits = predictive.standing(ladder.prediction)
    elif ladder.rung > 0:
        hottest, fullest = way_up(ladder.rung, settings)
        waits = wording.way_up(
            seconds_up(ladder, governor.monotonic_s, settings),
            None if ladder.temperature_celsius is None else hottest,
            None if ladder.memory_percent is None else fullest,
            calm=ladder.calm_since_s is not None,
        )
    said = f"{ladder.state} since {since}: {ladder.why}" if since else f"{ladder.state}: {ladder.why}"
    return f"{_mark(governor)}{said}; {waits}" if waits else f"{_mark(governor)}{said}"


def _mark(governor: Governor) -> str:
    """Simulated figures never pass for real ones."""
    return "SIMULATED: " if governor.simulated else ""
