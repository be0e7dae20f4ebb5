"""The schedule and the decision to look closer, without any clock."""

from collections.abc import Sequence

import pytest

from schemas.sample import Gpu, Host, Sample
from supervisor.handler import Edge
from supervisor.sampling.cadence import Focus, Schedule, Watch
from tests.sampling.doubles import EDGES, GIB, gpu


def sample(*gpus: Gpu, host_used_percent: float | None = None, gap: bool = False) -> Sample:
    host = None
    if host_used_percent is not None:
        host = Host(memory_total_bytes=100 * GIB, memory_available_bytes=int((100 - host_used_percent) * GIB))
    return Sample(
        host="box", boot_id="0", tick=0, time="", monotonic_s=0, interval_s=1, gap=gap, gpus=gpus, host_figures=host
    )


def dues(ticks: Sequence[tuple[float, float]]) -> list[float]:
    """When the tick after each (begun, ended) is due."""
    schedule = Schedule(0.0, 1.0)
    found = []
    for begun, ended in ticks:
        schedule.begin(begun)
        schedule.end(ended)
        found.append(schedule.due_s)
    return found


def test_late_ticks_do_not_shift_the_schedule() -> None:
    assert dues([(0.0, 0.01), (1.3, 1.31), (2.001, 2.9)]) == [1, 2, 3]


def test_missed_ticks_are_not_made_up_for() -> None:
    assert dues([(0.0, 0.01), (60.2, 60.25)]) == [1, 61]


def test_a_slow_tick_is_followed_by_one_at_once_then_by_the_schedule() -> None:
    assert dues([(0.0, 3.5), (3.5, 3.6)]) == [3, 4]


def test_a_tick_that_wakes_early_is_not_repeated() -> None:
    assert dues([(0.0, 0.01), (0.9995, 0.9999)]) == [1, 2]


@pytest.mark.parametrize(
    ("before", "after", "fast"),
    [
        (81, 82, True),
        (87, 88, True),  # beyond the edge and still rising
        (70, 79, False),  # rising, not near
        (89, 91, False),  # far beyond
        (82, 82, False),  # steady
        (84, 83, False),  # falling
    ],
)
def test_fast_only_near_the_edge_and_rising(before: float, after: float, fast: bool) -> None:
    watch = Watch(EDGES)
    watch.full(sample(gpu(3, celsius=before)))
    assert watch.full(sample(gpu(3, celsius=after))) == Focus(frozenset({3}) if fast else frozenset())


def test_near_and_unknown_before_is_watched() -> None:
    assert Watch(EDGES).full(sample(gpu(celsius=84))).gpus == {0}
    assert Watch(EDGES).full(sample(host_used_percent=92)).host


def test_the_jitter_of_a_steady_figure_is_no_approach() -> None:
    watch = Watch(EDGES)
    watch.full(sample(gpu(memory_used_percent=93)))
    assert not watch.full(sample(gpu(memory_used_percent=93.02)))
    assert watch.full(sample(gpu(memory_used_percent=93.2)))


def test_each_card_by_itself_and_the_host_apart() -> None:
    watch = Watch(EDGES)
    watch.full(sample(gpu(0, celsius=80), gpu(1, celsius=60), gpu(2, memory_used_percent=90), host_used_percent=91))
    focus = watch.full(
        sample(gpu(0, celsius=83), gpu(1, celsius=66), gpu(2, memory_used_percent=92), host_used_percent=91)
    )
    assert focus == Focus(frozenset({0, 2}), host=False)


def test_the_margin_that_the_card_tells_counts() -> None:
    watch = Watch([Edge("temperature_celsius", 85)])
    watch.full(sample(gpu(celsius=70, margin_celsius=6)))
    assert watch.full(sample(gpu(celsius=71, margin_celsius=4))).gpus == {0}


def test_fast_sampling_ends_below_the_last_full_sample_or_out_of_the_margin() -> None:
    watch = Watch(EDGES)
    watch.full(sample(gpu(celsius=80)))
    assert watch.full(sample(gpu(celsius=83)))
    assert watch.fast(sample(gpu(celsius=83)))  # whole degrees mostly stand still within 0.1 s
    assert not watch.fast(sample(gpu(celsius=82)))
    assert not watch.fast(sample(gpu(celsius=91)))


def test_a_card_that_does_not_answer_is_not_asked_ten_times_a_second() -> None:
    watch = Watch(EDGES)
    assert watch.full(sample(gpu(celsius=84)))
    assert not watch.fast(sample(Gpu(index=0, uuid="GPU-0", reading="blind")))


def test_a_gap_voids_the_trend() -> None:
    watch = Watch(EDGES)
    watch.full(sample(gpu(celsius=84)))
    assert watch.full(sample(gpu(celsius=84), gap=True)).gpus == {0}  # unknown before
    assert not watch.fast(sample(gpu(celsius=85), gap=True))
