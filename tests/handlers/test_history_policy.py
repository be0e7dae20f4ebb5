"""What is remembered of each card, whatever the cadence, the clocks and the gaps."""

import math
import random
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.history.answers import history
from handlers.history.policy import Past, Snapshot
from handlers.history.settings import Settings
from schemas.event import StateChanged
from schemas.history import HistoryPoint
from schemas.sample import Gpu, GpuBackend, Sample
from schemas.workload import Directive
from tests.handlers.samples import HOST, gpu, sample

MINUTE_S = 60
#: A minute begins then.
START_S = 1_795_000_020.0


def at(second: float, *gpus: Gpu, ahead_s: float = START_S, **fields: Any) -> Sample:
    """A sample so long after boot; the wall clock is ahead of that by `ahead_s`, which starts a minute."""
    time = datetime.fromtimestamp(ahead_s + second, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.structs.replace(sample(second, gpus or [gpu(50)], **fields), time=time)


def blind(index: int = 0, reading: str = "blind") -> Gpu:
    return gpu(None, None, index, reading=reading, reason="timeout")


def remembered(*samples: Sample, settings: Settings | None = None) -> Past:
    past = Past(settings or Settings())
    for one in samples:
        past.observe(one)
    return past


def points(past: Past, uuid: str = "GPU-0") -> tuple[HistoryPoint, ...]:
    return history(past.series[uuid], past.settings, None, None, 0.0).points


def minutes(past: Past, uuid: str = "GPU-0") -> tuple[HistoryPoint, ...]:
    """Every minute, for a question that points cannot answer."""
    series = past.series[uuid]
    return history(series, Settings(history_size=1, monitor_interval=0.05), START_S - 86_400, None, START_S).points


def seconds(told: tuple[HistoryPoint, ...]) -> list[float]:
    return [datetime.fromisoformat(point.time).timestamp() - START_S for point in told]


def test_points_are_three_seconds_apart_at_one_second() -> None:
    past = remembered(*(at(second) for second in range(60)))
    assert seconds(points(past)) == [float(second) for second in range(0, 60, 3)]


@given(
    interval_s=st.floats(0.05, 10), spacing_s=st.floats(0.1, 10), jitter=st.floats(0, 0.2), seed=st.integers(0, 1000)
)
def test_points_keep_their_distance_whatever_the_cadence(
    interval_s: float, spacing_s: float, jitter: float, seed: int
) -> None:
    chance = random.Random(seed)
    ticks = [(number + jitter * chance.random()) * interval_s for number in range(200)]
    past = remembered(
        *(at(tick, interval_s=interval_s) for tick in ticks), settings=Settings(monitor_interval=spacing_s)
    )
    times = seconds(points(past))
    distance = (times[-1] - times[0]) / max(1, len(times) - 1)
    expected = max(interval_s, spacing_s)
    assert distance == pytest.approx(expected, abs=2 * expected / max(1, len(times) - 1) + 0.002)
    assert all(later - earlier < spacing_s + 1.5 * interval_s for earlier, later in pairwise(times))
    assert not any(point.after_gap for point in points(past))


def test_the_newest_two_hundred_are_kept() -> None:
    past = remembered(*(at(second) for second in range(0, 3000, 3)))
    assert seconds(points(past)) == [float(second) for second in range(2400, 3000, 3)]


def test_fast_samples_make_no_points() -> None:
    past = remembered(at(0), at(3, scope="fast", interval_s=0.1), at(3.5, gpu(51)))
    assert [point.temperature_celsius for point in points(past)] == [50, 51]


def test_figures_are_told_as_they_were_read() -> None:
    one = gpu(61.0, 40, utilization_ratio=0.873, power_watts=301.26)
    (point,) = points(remembered(at(0, one)))
    told = (point.temperature_celsius, point.memory_used_bytes, point.utilization_ratio, point.power_watts)
    assert told == (61.0, one.memory_used_bytes, 0.873, 301.3)
    assert (point.reading, point.state, point.speed, point.samples) == ("fresh", None, None, None)


def test_what_a_card_does_not_tell_is_a_hole() -> None:
    (point,) = points(remembered(at(0, gpu(61.0, None))))
    assert point.memory_used_bytes is None and point.power_watts is None and point.temperature_celsius == 61


@pytest.mark.parametrize("reading", ["blind", "lost"])
def test_a_card_that_does_not_answer_leaves_a_hole_that_says_so(reading: str) -> None:
    past = remembered(at(0), at(3, blind(reading=reading)), at(6, gpu(70)))
    assert [(point.reading, point.temperature_celsius) for point in points(past)] == [
        ("fresh", 50), (reading, None), ("fresh", 70),
    ]  # fmt: skip
    assert past.series["GPU-0"].card.memory_total_bytes, "it is known from when it answered"


def test_cards_are_known_by_uuid_and_the_index_is_a_label() -> None:
    past = remembered(at(0, gpu(40), gpu(60, index=1)), at(3, gpu(61, uuid="GPU-1"), gpu(41, index=1, uuid="GPU-0")))
    assert [point.temperature_celsius for point in points(past, "GPU-1")] == [60, 61]
    assert past.series["GPU-1"].card.index == 0
    found = past.find("0")
    assert found is not None and found.card.uuid == "GPU-1"


def test_the_state_and_the_speed_are_those_last_said_before() -> None:
    past = remembered(at(0))
    past.state_changed(
        StateChanged(
            target="gpu0", state="THROTTLED", previous="OPTIMAL", action="throttle", speed=0.5, reason="", cause=""
        )
    )
    past.directed(Directive(id="d", seq=1, time="", host=HOST, target="gpu0", action="throttle", speed=0.3))
    past.observe(at(3))
    assert [(point.state, point.speed) for point in points(past)] == [(None, None), ("THROTTLED", 0.3)]


# -- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "later",
    [
        at(6, gap=True),
        at(15.5),  # stopped for more than three points
        at(1, boot_id="another", ahead_s=START_S + 100),
        at(6, ahead_s=START_S + 3600),
    ],
    ids=["suspend", "stopped", "another boot", "clock set forward"],
)
def test_lost_time_is_marked_at_the_first_point_behind_it(later: Sample) -> None:
    past = remembered(at(0), at(3), at(6) if later.monotonic_s > 7 else at(5, scope="fast"), later)
    told = points(past)
    assert [point.after_gap for point in told] == [*[False] * (len(told) - 1), True]


def test_a_restart_of_the_supervisor_is_no_gap_if_it_is_short() -> None:
    assert not any(point.after_gap for point in points(remembered(at(0), at(3), at(11))))


def test_a_gap_is_not_forgotten_between_two_points_nor_by_a_card_that_is_away() -> None:
    past = remembered(at(0, gpu(50), gpu(50, index=1)), at(1, gap=True), at(3), at(6, gpu(50), gpu(50, index=1)))
    assert [point.after_gap for point in points(past)] == [False, True, False]
    assert [point.after_gap for point in points(past, "GPU-1")] == [False, True]


def test_lost_samples_are_a_gap() -> None:
    past = remembered(at(0))
    past.lose_time()
    past.observe(at(3))
    assert points(past)[1].after_gap


def test_a_clock_that_was_set_back_leaves_no_points_in_the_future() -> None:
    before = [at(second) for second in range(130)]
    after = [at(second, gpu(60), ahead_s=START_S - 100) for second in range(130, 200)]
    past = remembered(*before, *after)
    for told in (points(past), minutes(past)):
        times = seconds(told)
        assert times == sorted(times) and times[-1] <= 100
    assert max(seconds(points(past))) == pytest.approx(99, abs=3)


def test_the_same_sample_again_changes_nothing() -> None:
    samples = [at(second) for second in range(100)]
    past = remembered(*samples)
    known = past.pack()
    for one in samples[50:]:
        past.observe(one)
    assert past.pack() == known


def test_a_time_that_is_none_is_said() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        Past(Settings()).observe(msgspec.structs.replace(at(0), time="yesterday"))


# -- minutes -------------------------------------------------------------------------------------------------------


def test_a_minute_has_the_lowest_the_mean_and_the_highest_of_every_sample() -> None:
    past = remembered(*(at(second, gpu(50.0 + second % 4, 10 + second % 2)) for second in range(MINUTE_S + 1)))
    minute, under_way = minutes(past)
    assert (minute.samples, under_way.samples) == (60, 1)
    assert (minute.temperature_min_celsius, minute.temperature_celsius, minute.temperature_max_celsius) == (
        50,
        51.5,
        53,
    )
    gib = 1 << 30
    assert (minute.memory_used_min_bytes, minute.memory_used_bytes, minute.memory_used_max_bytes) == (
        10 * gib, 10.5 * gib, 11 * gib,
    )  # fmt: skip
    assert minute.power_watts is None and minute.power_min_watts is None


def test_a_minute_without_a_reading_is_none() -> None:
    past = remembered(*(at(second, blind() if 60 <= second < 120 else gpu(50)) for second in range(180)))
    assert seconds(minutes(past)) == [0, 120]


def test_minutes_are_kept_for_a_day() -> None:
    settings = Settings(minutes_kept_hours=1)
    past = remembered(*(at(second) for second in range(0, 2 * 3600, 20)), settings=settings)
    assert len(past.series["GPU-0"].minutes) == 60
    assert seconds(minutes(past))[-1] == 119 * 60


def test_a_card_that_is_gone_for_longer_than_anything_is_kept_is_forgotten() -> None:
    settings = Settings(minutes_kept_hours=1)
    past = remembered(at(0, gpu(50), gpu(50, index=1)), settings=settings)
    past.observe(at(3500))
    assert set(past.series) == {"GPU-0", "GPU-1"}
    past.observe(at(3700))
    assert set(past.series) == {"GPU-0"}


def test_what_is_simulated_does_not_mix_with_what_is_measured() -> None:
    past = remembered(at(0, gpu(90), simulated=True), at(3, gpu(40)))
    assert [point.temperature_celsius for point in points(past)] == [40]
    assert not past.series["GPU-0"].card.simulated


def test_without_a_driver_nothing_is_remembered() -> None:
    one = sample(0, backend=GpuBackend("unavailable", "nvml_library_not_found"))
    assert remembered(one).series == {}


# -- settings and snapshots ----------------------------------------------------------------------------------------


def test_other_settings_take_effect_at_once_and_keep_what_fits() -> None:
    past = remembered(*(at(second) for second in range(0, 600, 3)))
    past.resize(Settings(monitor_interval=1, history_size=100))
    past.observe(at(598))
    past.observe(at(599))
    told = points(past)
    assert len(told) == 100 and seconds(told)[-2:] == [598, 599]
    past.resize(Settings(monitor_interval=1, history_size=300))
    past.observe(at(600))
    assert 100 <= len(points(past)) <= 300


@given(stop=st.integers(1, 250), seed=st.integers(0, 100))
def test_a_snapshot_anywhere_leads_to_the_same_end(stop: int, seed: int) -> None:
    chance = random.Random(seed)

    def card() -> Gpu:
        return blind() if chance.random() < 0.1 else gpu(chance.randrange(40, 90), chance.randrange(90))

    samples = [at(float(second), card(), gap=chance.random() < 0.02) for second in range(260)]
    whole, before = remembered(*samples), remembered(*samples[:stop])
    after = Past(Settings())
    after.unpack(msgspec.msgpack.decode(msgspec.msgpack.encode(before.pack()), type=Snapshot))
    for one in samples[max(0, stop - 20) :]:  # what came since is read again, and may overlap
        after.observe(one)
    assert points(after) == points(whole) and minutes(after) == minutes(whole)


def test_a_damaged_snapshot_is_refused() -> None:
    snapshot = remembered(*(at(second) for second in range(200))).pack()
    for field, broken in (("points", b"nonsense"), ("minutes", snapshot.cards[0].minutes[:-9])):
        cards = [msgspec.structs.replace(snapshot.cards[0], **{field: broken})]
        with pytest.raises(ValueError, match="rows"):
            Past(Settings()).unpack(msgspec.structs.replace(snapshot, cards=cards))


def test_a_day_of_eight_cards_stays_small() -> None:
    """What is written to the bus every 4 minutes; noise packs worst."""
    chance = random.Random(1)
    past = Past(Settings())
    for second in range(0, 86_400 + 600, 20):
        past.observe(
            at(
                second,
                *(
                    gpu(
                        float(round(chance.gauss(60, 3))), chance.randrange(1000) / 10, index,
                        utilization_ratio=chance.randrange(100) / 100, power_watts=chance.gauss(400, 40),
                    )
                    for index in range(8)
                ),
            )
        )  # fmt: skip
    packed = msgspec.msgpack.encode(past.pack())
    assert len(past.series["GPU-0"].minutes) == 1440
    assert len(packed) < 400_000
    assert not math.isnan(past.series["GPU-7"].read_s)
