"""What stands: sequence, life, silence, and the slowest of several targets. Time is a number here."""

from typing import Final

import pytest

from flyball.orders import HOLD_AT_MOST_S, Orders, speed_of
from flyball.wire import Action, Directive, OnSilence

T: Final = 1000.0


def said(seq: int, action: Action, speed: float, target: str = "gpu0", ttl_s: float = 30.0) -> Directive:
    return Directive(id=f"d{seq}", seq=seq, time="", host="box", target=target, action=action, speed=speed, ttl_s=ttl_s)


def orders(on_silence: OnSilence = "hold") -> Orders:
    return Orders(("gpu0", "gpu1", "host"), on_silence)


def test_nothing_heard_is_full_speed() -> None:
    assert orders().standing(T) is None
    assert speed_of(None) == 1.0
    assert orders().deadline_s(T) is None


def test_lower_is_dropped_equal_renews_higher_stands() -> None:
    heard = orders()
    five, six = said(5, "throttle", 0.5), said(6, "throttle", 0.8)
    assert heard.hear(five, T)
    assert not heard.hear(said(4, "run", 1.0), T + 1)
    assert not heard.hear(five, T + 20)
    assert heard.deadline_s(T + 20) == T + 50
    assert heard.standing(T + 20) == five
    assert heard.hear(six, T + 21)
    assert heard.standing(T + 21) == six


def test_the_retained_one_does_not_renew() -> None:
    """A hash that nobody refreshes is no sign of life."""
    heard = orders("pause")
    heard.hear(said(5, "run", 1.0), T, retained=True)
    assert not heard.hear(said(5, "run", 1.0), T + 29, retained=True)
    assert speed_of(heard.standing(T + 31)) == 0.0


def test_after_its_life_whoever_speaks_is_heard() -> None:
    """A bus that lost its data counts from the start again."""
    heard = orders()
    heard.hear(said(5_000_000_000, "pause", 0.0), T)
    assert not heard.hear(said(1, "run", 1.0), T + 29)
    assert heard.hear(said(1, "run", 1.0), T + 31)
    assert speed_of(heard.standing(T + 31)) == 1.0


def test_the_slowest_target_wins() -> None:
    heard = orders()
    heard.hear(said(1, "throttle", 0.8, "gpu0"), T)
    heard.hear(said(2, "throttle", 0.5, "gpu1"), T)
    heard.hear(said(3, "run", 1.0, "host"), T)
    assert heard.standing(T) == said(2, "throttle", 0.5, "gpu1")
    pause = said(4, "pause", 1.0, "host")
    heard.hear(pause, T)
    assert heard.standing(T) == pause
    assert speed_of(pause) == 0.0, "a pause is a pause, whatever speed it names"


def test_of_equals_the_first_named_target_wins() -> None:
    heard = orders()
    heard.hear(said(2, "throttle", 0.5, "host"), T)
    heard.hear(said(1, "throttle", 0.5, "gpu1"), T)
    standing = heard.standing(T)
    assert standing is not None
    assert standing.target == "gpu1"


@pytest.mark.parametrize(("action", "speed"), [("pause", 0.0), ("throttle", 0.8), ("run", 1.0)])
def test_hold_lasts_ten_minutes_and_then_half_speed(action: Action, speed: float) -> None:
    heard = orders("hold")
    last = said(1, action, speed)
    heard.hear(last, T)
    silent_from = T + 30
    assert heard.deadline_s(T) == silent_from
    assert heard.standing(silent_from + HOLD_AT_MOST_S - 1) == last
    assert heard.deadline_s(silent_from) == silent_from + HOLD_AT_MOST_S
    after = heard.standing(silent_from + HOLD_AT_MOST_S)
    assert after is not None
    assert (after.id, after.cause, after.action, after.speed) == ("", "d1", "throttle", 0.5)
    assert "no word from the supervisor about gpu0 for 630 s" in after.reason
    assert heard.deadline_s(silent_from + HOLD_AT_MOST_S) is None


@pytest.mark.parametrize(("on_silence", "speed"), [("run", 1.0), ("pause", 0.0)])
def test_run_and_pause_rule_at_once(on_silence: OnSilence, speed: float) -> None:
    heard = orders(on_silence)
    heard.hear(said(1, "throttle", 0.5), T)
    assert speed_of(heard.standing(T + 29.9)) == 0.5
    assert speed_of(heard.standing(T + 30)) == speed


def test_only_the_silent_target_is_concerned() -> None:
    heard = orders("run")
    heard.hear(said(1, "throttle", 0.5, "gpu0"), T)
    heard.hear(said(2, "throttle", 0.8, "gpu1"), T + 20)
    assert speed_of(heard.standing(T + 40)) == 0.8


def test_a_word_ends_the_silence() -> None:
    heard = orders("pause")
    again = said(1, "throttle", 0.5)
    heard.hear(again, T)
    assert speed_of(heard.standing(T + 100)) == 0.0
    assert not heard.hear(again, T + 101), "it is the same directive"
    assert heard.standing(T + 101) == again


def test_without_a_life_it_stands() -> None:
    """`ttl_s` 0: the supervisor has left in good order, and nobody will say it again."""
    heard = orders("pause")
    heard.hear(said(1, "run", 1.0, ttl_s=0), T)
    assert heard.deadline_s(T) is None
    assert speed_of(heard.standing(T + 10_000)) == 1.0
