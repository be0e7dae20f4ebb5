"""Which restarts are allowed, and what a sample says of them."""

from datetime import UTC, datetime
from typing import Any

import pytest

from handlers.restart import policy
from handlers.restart.policy import Known, Moment, Outcome, Restarts
from handlers.restart.settings import Settings
from schemas.command import Command

NOW_S = 1_795_000_000.0
TIME = "2026-11-18T11:06:40Z"
ALLOWED = {"search": Known(may=("restart",), restart=("true",))}


def asked(id: str = "c1", target: str = "workload.search", **fields: Any) -> Command:
    time = fields.pop("time", TIME)
    return Command(
        id=id, time=time, ttl_s=30.0, host="h", issuer="leak", action="restart", target=target, **fields
    )  # fmt: skip


def _try(state: Restarts, command: Command, known: Any = ALLOWED, **moment: Any) -> Outcome | None:
    return policy.command(state, command, known, Settings(), Moment(**({"now_s": NOW_S} | moment)))


@pytest.mark.parametrize(
    ("command", "known", "moment", "why"),
    [
        (asked(target="gpu0"), ALLOWED, {}, "gpu0 is no workload"),
        (asked(), {}, {}, "search is not declared"),
        (asked(), {"search": Known(restart=("true",))}, {}, 'add "restart" to may'),
        (asked(), {"search": Known(may=("restart",))}, {}, "set restart of the [[workload]] search"),
        (asked(), ALLOWED, {"now_s": NOW_S + 31}, "it has expired 1.0 s ago"),
        (asked(time="yesterday"), ALLOWED, {}, "no RFC 3339"),
        (asked(time="2026-11-18T11:06:40"), ALLOWED, {}, "no RFC 3339"),
        (asked(), ALLOWED, {"dry_run": True}, "dry run"),
        (asked(), ALLOWED, {"trusted": False}, "asks for no password"),
    ],
)
def test_what_is_not_allowed_is_refused_with_why(
    command: Command, known: dict[str, Known], moment: dict[str, Any], why: str
) -> None:
    state = Restarts()
    outcome = _try(state, command, known, **moment)
    assert outcome is not None and outcome.outcome == "refused"
    assert why in outcome.reason
    assert not state.under_way


def _restart(state: Restarts, id: str, now_s: float) -> None:
    time = datetime.fromtimestamp(now_s, UTC).isoformat()
    assert _try(state, asked(id, time=time), now_s=now_s) is None
    restart = state.under_way["search"]
    policy.begin(state, restart, [1], now_s)
    assert policy.ended(state, restart, "", now_s) is None
    outcome = policy.look(state, restart, [2], now_s, Settings())
    assert outcome is not None and outcome.outcome == "restarted"


def test_a_command_is_obeyed_once_and_one_at_a_time() -> None:
    state = Restarts()
    assert _try(state, asked("a")) is None
    assert _try(state, asked("a")) is None
    another = _try(state, asked("b"))
    assert another is not None and another.reason == "another restart of it is under way"
    assert [restart.command for restart in state.under_way.values()] == ["a"]


def test_the_budget_doubles_its_waits_and_ends_with_three_an_hour() -> None:
    state = Restarts()
    _restart(state, "a", NOW_S)
    early = _try(state, asked("b", time="2026-11-18T11:07:30Z"), now_s=NOW_S + 50)
    assert early is not None and early.reason == "it was restarted already, and may be again in 10 s"
    _restart(state, "c", NOW_S + 61)
    early = _try(state, asked("d", time="2026-11-18T11:09:40Z"), now_s=NOW_S + 180)
    assert early is not None and early.reason == "it was restarted already, and may be again in 1 s"
    _restart(state, "e", NOW_S + 182)
    spent = _try(state, asked("f", time="2026-11-18T11:56:40Z"), now_s=NOW_S + 3000)
    assert spent is not None and spent.reason == "it was restarted 3 times within the hour, and 3 are allowed"
    _restart(state, "g", NOW_S + 3601)


def test_what_the_samples_show_decides() -> None:
    def look(before: list[int], after: list[int], later_s: float) -> Outcome | None:
        state = Restarts()
        _try(state, asked())
        restart = state.under_way["search"]
        policy.begin(state, restart, before, NOW_S)
        policy.ended(state, restart, "", NOW_S + 2)
        return policy.look(state, restart, after, NOW_S + 2 + later_s, Settings())

    assert look([1, 2], [1, 2], 29.0) is None
    assert look([1, 2], [2, 3], 29.0) is None
    assert look([1, 2], [], 29.0) is None
    for before, after, outcome, reason in (
        ([1, 2], [3], "restarted", "its processes were pids 1, 2, and are pid 3 now"),
        ([], [3], "restarted", "it did not run; its processes are pid 3 now"),
        ([1, 2], [2, 3], "failed", "its argument list ended well, but pid 2 still runs"),
        ([1], [], "failed", "its argument list ended well, but no process of it appeared"),
    ):
        found = look(before, after, 30.0)
        assert found is not None
        assert (found.outcome, found.reason) == (outcome, reason)


def test_an_argument_list_that_fails_is_told_at_once_and_counts() -> None:
    state = Restarts()
    _try(state, asked())
    restart = state.under_way["search"]
    policy.begin(state, restart, [1], NOW_S)
    outcome = policy.ended(state, restart, "'x' ended with code 3", NOW_S + 1)
    assert outcome is not None and (outcome.outcome, outcome.reason) == ("failed", "'x' ended with code 3")
    again = _try(state, asked("b"), now_s=NOW_S + 2)
    assert again is not None and again.outcome == "refused"
