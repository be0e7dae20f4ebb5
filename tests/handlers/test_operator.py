"""What an operator may ask for, and how it ends."""

from typing import Any

import msgspec
import pytest

from handlers.operator.handler import Operator
from handlers.operator.policy import Overrides
from schemas.command import Command
from schemas.demand import Demand, standing
from schemas.envelope import MalformedEntry
from schemas.event import Joined, Left, OverrideChanged, StateChanged
from supervisor.clock import rfc3339
from supervisor.handler import Decisions, NoSettings, Withdrawal
from tests.handlers.samples import HOST, WALL_S, context, event

SLOW = Demand(issuer="throttle", target="gpu0", action="throttle", speed=0.5)


def operator(*cards: str) -> Operator:
    """One that has heard of `cards`, gpu0 if none is named, and of nothing else."""
    handler = Operator(NoSettings(), ())
    handler.restore(msgspec.msgpack.encode(Overrides(cards=list(cards or ("gpu0",)))))
    return handler


async def ask(
    handler: Operator,
    action: str,
    arguments: dict[str, Any] | None = None,
    *,
    at: float = 0.0,
    late_s: float = 0.0,
    target: str = "gpu0",
    id: str = "",
    replaying: bool = False,
    **fields: Any,
) -> Decisions | None:
    command = Command(
        id=id or f"{action}-{at}",
        time=rfc3339(WALL_S + at),
        ttl_s=30.0,
        host=fields.pop("host", HOST),
        issuer="cli",
        action=action,
        target=target,
        arguments={"operator": "anna", "for_s": 600.0, **(arguments or {})} if arguments != {} else {},
    )
    entry = event("flyball.command.requested", command, id=command.id)
    return await handler.handle(entry, context(at + late_s, "commands", replaying=replaying))


async def state(
    handler: Operator, state: str, *, emergency: bool = False, target: str = "gpu0", simulated: bool = False,
    **fields: Any,
) -> Decisions | None:  # fmt: skip
    change = StateChanged(
        target=target, state=state, previous="NORMAL", action="throttle", speed=0.5, reason="", cause="s",  # type: ignore[arg-type]
        emergency=emergency, simulated=simulated,
    )  # fmt: skip
    return await handler.handle(event("flyball.gpu.state_changed", change, id="change", **fields), context(5, "events"))


def outcome(decisions: Decisions | None) -> tuple[str, str]:
    assert decisions is not None
    (draft,) = decisions.events
    assert isinstance(draft.data, OverrideChanged)
    return draft.data.outcome, draft.text


def demanded(decisions: Decisions | None) -> Demand | Withdrawal:
    assert decisions is not None
    (demand,) = decisions.demands
    return demand


async def test_a_pause_says_who_and_until_when() -> None:
    decisions = await ask(operator(), "pause")
    assert outcome(decisions) == ("started", "anna paused gpu0 until 11:16:40 UTC (for 600 s)")
    demand = demanded(decisions)
    assert isinstance(demand, Demand)
    assert (demand.issuer, demand.action, demand.speed, demand.overrides) == ("operator", "pause", 0.0, False)
    assert demand.reason == "anna paused until 11:16:40 UTC" and demand.cause == "pause-0.0"
    assert decisions is not None
    (record,) = decisions.records
    assert (record.kind, record.name, record.ttl_s) == ("override", f"{HOST}:gpu0", 600.0)
    assert record.fields is not None and record.fields["operator"] == "anna"


async def test_a_reason_is_told_to_everybody() -> None:
    """In one line, in the event as in what stands; and it survives a restart."""
    handler = operator()
    decisions = await ask(handler, "pause", {"reason": "the fan is\n changed"})
    assert outcome(decisions) == ("started", "anna paused gpu0 until 11:16:40 UTC (for 600 s): the fan is changed")
    demand = demanded(decisions)
    assert isinstance(demand, Demand)
    assert demand.reason == "anna paused until 11:16:40 UTC: the fan is changed"
    again = operator()
    again.restore(handler.snapshot())
    assert again.demands() == [demand]
    assert outcome(await ask(handler, "pause", {"reason": "x" * 201}, at=1))[0] == "refused"
    ended = await ask(handler, "resume", {"reason": "it turns", "for_s": None}, at=2)
    assert outcome(ended) == ("ended", "anna's override of gpu0 ended: anna resumed gpu0: it turns")


async def test_an_override_ends_by_itself() -> None:
    handler = operator()
    await ask(handler, "throttle", {"speed": 0.3})
    assert handler.view()["overrides"]["gpu0"]["speed"] == 0.3
    assert handler.tick(context(599)) is None
    decisions = handler.tick(context(600))
    assert outcome(decisions) == ("ended", "anna's override of gpu0 ended: its time is over")
    assert demanded(decisions) == Withdrawal("operator", "gpu0")
    assert decisions is not None and decisions.records[0].fields is None
    assert handler.view() == {"overrides": {}}
    assert handler.tick(context(601)) is None


async def test_resume_withdraws_the_operators_own_demand() -> None:
    handler = operator()
    await ask(handler, "pause")
    decisions = await ask(handler, "resume", at=10)
    assert outcome(decisions) == ("ended", "anna's override of gpu0 ended: anna resumed gpu0")
    assert demanded(decisions) == Withdrawal("operator", "gpu0")
    assert outcome(await ask(handler, "resume", at=20))[0] == "refused"


async def test_an_operator_slows_down_whatever_the_state_is() -> None:
    handler = operator()
    await state(handler, "BLIND")
    demand = demanded(await ask(handler, "throttle", {"speed": 0.8}))
    assert isinstance(demand, Demand) and standing([demand, SLOW]) == SLOW


async def test_a_lift_stands_before_slower_demands() -> None:
    handler = operator()
    await state(handler, "THROTTLED")
    decisions = await ask(handler, "resume", {"speed": 1.0})
    assert outcome(decisions) == ("started", "anna resumed gpu0 until 11:16:40 UTC (for 600 s)")
    demand = demanded(decisions)
    assert isinstance(demand, Demand)
    stands = standing([SLOW, demand])
    assert stands is not None and (stands.speed, stands.issuer, stands.overrides) == (1.0, "operator", True)


@pytest.mark.parametrize(
    ("seen", "emergency"), [("BLIND", False), ("CRITICAL", True), ("UNAVAILABLE", False), (None, False)]
)
async def test_a_lift_is_refused_where_it_is_dangerous_unless_forced(seen: str | None, emergency: bool) -> None:
    handler = operator()
    if seen is not None:
        await state(handler, seen, emergency=emergency)
    decisions = await ask(handler, "resume", {"speed": 1.0})
    assert outcome(decisions)[0] == "refused"
    assert decisions is not None and not decisions.demands and not decisions.records
    forced = await ask(handler, "resume", {"force": True}, at=1)
    assert outcome(forced)[0] == "started" and "forced" in outcome(forced)[1]
    assert handler.view()["overrides"]["gpu0"]["forced"]


@pytest.mark.parametrize(("danger", "emergency"), [("BLIND", False), ("CRITICAL", True)])
async def test_a_lift_ends_when_it_becomes_dangerous_unless_forced(danger: str, emergency: bool) -> None:
    handler = operator()
    await state(handler, "THROTTLED")
    await ask(handler, "resume", {"speed": 1.0})
    assert await state(handler, "CRITICAL") is None
    decisions = await state(handler, danger, emergency=emergency)
    assert outcome(decisions)[0] == "ended" and demanded(decisions) == Withdrawal("operator", "gpu0")
    await ask(handler, "resume", {"force": True}, at=1)
    assert await state(handler, danger, emergency=emergency) is None


async def test_missed_changes_of_state_end_what_is_not_forced() -> None:
    handler = operator()
    await state(handler, "THROTTLED")
    await ask(handler, "resume", {"speed": 1.0})
    await ask(handler, "pause", target="host", id="p")
    assert handler.missed("commands", context(5)) is None
    decisions = handler.missed("events", context(5))
    assert outcome(decisions) == ("ended", "anna's override of gpu0 ended: the state of gpu0 is not known")
    assert list(handler.view()["overrides"]) == ["host"]


async def test_states_of_other_hosts_are_not_ours() -> None:
    handler = operator()
    await state(handler, "THROTTLED", source="other/throttle")
    assert outcome(await ask(handler, "resume", {"speed": 1.0}))[0] == "refused"


async def test_the_sentence_names_the_target_before_the_speed() -> None:
    decisions = await ask(operator(), "throttle", {"speed": 0.3})
    assert outcome(decisions)[1] == "anna throttled gpu0 to speed 0.3 until 11:16:40 UTC (for 600 s)"
    demand = demanded(decisions)
    assert isinstance(demand, Demand) and demand.reason == "anna throttled to speed 0.3 until 11:16:40 UTC"
    lifted = await ask(operator(), "resume", {"speed": 0.8, "force": True})
    assert outcome(lifted)[1] == "anna resumed gpu0 at speed 0.8 until 11:16:40 UTC (for 600 s, forced)"


@pytest.mark.parametrize("action", ["pause", "throttle", "resume"])
async def test_a_card_that_nobody_has_heard_of_is_refused_unless_forced(action: str) -> None:
    handler = operator("gpu10", "gpu2")
    refused = await ask(handler, action, {"speed": 0.5}, target="gpu44")
    assert outcome(refused)[0] == "refused"
    assert "there is no gpu44 here that is known of; known: gpu2, gpu10, host, and workload.NAME" in outcome(refused)[1]
    assert refused is not None and not refused.demands
    forced = await ask(handler, action, {"speed": 0.5, "force": True}, target="gpu44", id="forced")
    assert outcome(forced)[0] == "started" and ", forced" in outcome(forced)[1]
    assert outcome(await ask(handler, "resume", target="gpu44", at=2, id="end"))[0] == "ended"


async def test_cards_are_known_from_what_is_said_of_them_also_after_a_restart() -> None:
    before, after = operator("gpu7"), operator()
    await state(before, "BLIND", target="gpu1")
    await state(before, "UNAVAILABLE", target="gpu7")
    await state(before, "OPTIMAL", target="gpu3", source="other/throttle")
    after.restore(before.snapshot())
    assert outcome(await ask(after, "pause", target="gpu1"))[0] == "started"
    for gone in ("gpu7", "gpu3"):
        assert "known: gpu1, host," in outcome(await ask(after, "pause", target=gone, id=gone))[1]
    assert outcome(await ask(after, "pause", target="host", id="h"))[0] == "started"


async def member(handler: Operator, pid: int, *, leaves: bool = False) -> None:
    fact = (
        Left(workload="trainer", pid=pid, reason="", cause="i")
        if leaves
        else Joined(
            workload="trainer", pid=pid, start_time_s=1.0, targets=("gpu0",), priority=5, on_silence="hold", cause="i"
        )
    )
    kind = "left" if leaves else "joined"
    assert await handler.handle(event(f"flyball.workload.{kind}", fact), context(5, "events")) is None


async def test_a_workload_that_is_not_there_may_be_paused_and_that_is_said() -> None:
    handler, nobody = operator(), "; nobody has joined under that name"

    async def said(id: str) -> bool:
        kind, text = outcome(await ask(handler, "pause", target="workload.trainer", id=id))
        assert kind == "started"
        return text.endswith(nobody)

    assert await said("before")
    await member(handler, 7)
    await member(handler, 8)
    await member(handler, 7, leaves=True)
    again = operator()
    again.restore(handler.snapshot())
    handler = again
    assert not await said("there")
    await member(handler, 8, leaves=True)
    assert await said("after")
    handler.missed("events", context(5))
    assert not await said("unknown")


async def test_what_is_asked_of_simulated_cards_is_marked_once() -> None:
    handler = operator()
    await state(handler, "THROTTLED", simulated=True)
    decisions = await ask(handler, "pause")
    assert outcome(decisions)[1].startswith("SIMULATED: anna paused gpu0")
    demand = demanded(decisions)
    assert isinstance(demand, Demand) and demand.reason == "SIMULATED: anna paused until 11:16:40 UTC"
    assert [one.reason for one in handler.demands()] == [demand.reason]
    assert outcome(await ask(handler, "resume", at=1))[1] == (
        "SIMULATED: anna's override of gpu0 ended: anna resumed gpu0"
    )


async def test_what_was_asked_of_simulated_cards_ends_where_real_ones_appear() -> None:
    demo, real = operator(), operator()
    await state(demo, "THROTTLED", simulated=True)
    await state(demo, "THROTTLED", target="gpu1", simulated=True)
    await ask(demo, "pause", target="gpu1")
    real.restore(demo.snapshot())
    decisions = await state(real, "OPTIMAL")
    assert outcome(decisions) == (
        "ended", "anna's override of gpu1 ended: it was made while this host's cards were simulated ones",
    )  # fmt: skip
    assert demanded(decisions) == Withdrawal("operator", "gpu1")
    assert real.demands() == []
    assert outcome(await ask(real, "pause", target="gpu1", id="again"))[0] == "refused"


async def test_an_expired_command_is_refused() -> None:
    decisions = await ask(operator(), "pause", late_s=40)
    assert outcome(decisions) == ("refused", "anna's pause of gpu0 was refused: it expired 10 s ago; ask again")


async def test_a_command_of_the_future_is_refused() -> None:
    decisions = await ask(operator(), "pause", late_s=-4000)
    assert outcome(decisions)[1].endswith("its time lies 4000 s ahead; check the clock of the machine that sent it")


@pytest.mark.parametrize(
    "arguments",
    [{}, {"for_s": 0}, {"for_s": 86401}, {"speed": 1.5}, {"force": "yes"}, {"for_s": None}, {"operator": ""}],
)
async def test_arguments_that_are_no_use_are_refused_with_a_reason(arguments: dict[str, Any]) -> None:
    handler = operator()
    assert outcome(await ask(handler, "throttle", arguments))[0] == "refused"
    assert handler.view() == {"overrides": {}}


async def test_a_command_acts_once() -> None:
    handler = operator()
    await ask(handler, "pause", id="one")
    await ask(handler, "resume", id="two", at=1)
    assert await ask(handler, "pause", id="one") is None


async def test_commands_for_others_are_not_ours() -> None:
    handler = operator()
    assert await ask(handler, "pause", host="other") is None
    assert await ask(handler, "server.restart") is None


async def test_what_is_no_command_is_malformed() -> None:
    with pytest.raises(MalformedEntry):
        await operator().handle(event("flyball.command.requested", {"id": ""}), context(0, "commands"))


async def test_an_override_survives_a_restart_and_what_ended_is_withdrawn_for_certain() -> None:
    before, after = operator(), operator()
    await ask(before, "pause")
    await ask(before, "pause", target="host", id="h")
    await ask(before, "resume", target="host", id="r")
    after.restore(before.snapshot())
    assert [one.target for one in after.demands()] == ["gpu0"]
    decisions = after.tick(context(100))
    assert decisions is not None and not decisions.events
    assert demanded(decisions) == Withdrawal("operator", "host")
    assert after.tick(context(101)) is None
    assert outcome(after.tick(context(600)))[0] == "ended"


async def test_what_was_accepted_before_a_crash_is_not_refused_when_it_is_read_again() -> None:
    handler = operator()
    await ask(handler, "pause", late_s=900, replaying=True)
    assert outcome(handler.tick(context(901)))[0] == "ended"


@pytest.mark.parametrize("stored", [b"", b"\xff", b"\x01", msgspec.msgpack.encode(Overrides(version=2))])
def test_an_unusable_snapshot_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError):
        operator().restore(stored)
