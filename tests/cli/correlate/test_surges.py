"""What changed all at once is found, and noise is not."""

import numpy as np

from handlers.leak.commands.correlation.surges import MOST_SURGES, first_calls, surges
from tests.cli.correlate.conftest import Read

RANDOM = np.random.default_rng(4)


def test_a_step_in_noise_is_found_and_noise_is_none(reading: Read) -> None:
    levels = RANDOM.normal(300, 5, size=500)
    levels[250:] += 80
    found = surges(reading(["time,rss_mb", *(f"{i},{level:.3f}" for i, level in enumerate(levels))]))
    assert [(one.from_s, one.to_s, one.surged) for one in found] == [(249, 250, ("rss",))]


def test_a_spike_is_no_surge(reading: Read) -> None:
    levels = [20 + (60 if i == 50 else 0) for i in range(100)]
    assert surges(reading(["time,threads", *(f"{i},{level}" for i, level in enumerate(levels))])) == ()


def test_a_thread_a_second_is_no_surge(reading: Read) -> None:
    assert surges(reading(["time,threads,fds", *(f"{i},{i},{i % 3}" for i in range(100))])) == ()


def test_what_came_with_a_hole_is_no_surge(reading: Read) -> None:
    lines = [*(f"{i},20" for i in range(50)), *(f"{i},90" for i in range(500, 550))]
    assert surges(reading(["time,threads", *lines])) == ()


def test_the_largest_are_kept_in_order_of_time(reading: Read) -> None:
    levels = np.repeat(np.cumsum([10 * (1 + i % 5) for i in range(40)]), 20)
    found = surges(reading(["time,threads", *(f"{i},{level}" for i, level in enumerate(levels.tolist()))]))
    assert len(found) == MOST_SURGES
    assert [one.from_s for one in found] == sorted(one.from_s for one in found)
    changes = [after - before for before, after in (one.changes["threads"] for one in found)]
    assert min(changes) >= 40


def test_an_event_is_a_first_call_a_restart_or_what_was_called_most(reading: Read) -> None:
    def line(i: int) -> str:
        threads = 10 + 30 * (i >= 20) + 20 * (i >= 40) - 45 * (i >= 60)
        calls = 0 if i < 20 else i - 19 if i < 60 else i - 60
        return f"{i},{threads},{calls}"

    found = surges(reading(["time,threads,calls.work", *(line(i) for i in range(80))]))
    assert [one.event for one in found] == ["first call of work", "work +1", "restart"]


def test_a_first_call_s_jump_stands_apart_from_what_each_later_call_adds(reading: Read) -> None:
    def line(i: int) -> str:
        calls = max(0, i - 29) * 2
        return f"{i},{10 + (30 if calls else 0) + calls * 3 // 2},{calls},{i + 5}"

    work, steady = sorted(
        first_calls(reading(["time,threads,calls.work,calls.before", *(line(i) for i in range(80))])),
        key=lambda one: one.at_s is None,
    )
    assert (work.counter, work.at_s, work.calls) == ("calls.work", 30, 100)
    assert work.jumps == {"threads": 33}
    assert work.per_call["threads"] == 1.5
    assert (steady.counter, steady.at_s, steady.jumps) == ("calls.before", None, {})
