"""The faults of the cards behind the door of every handler."""

from typing import Any

import msgspec
import pytest

from handlers.faults.handler import FaultWatch
from handlers.faults.settings import Settings
from schemas.envelope import Event, MalformedEntry
from schemas.event import EVENT_TYPES, GpuError, OverrideChanged
from schemas.sample import Gpu, Sample, Xid
from supervisor.handler import Decisions, Withdrawal
from tests.handlers.samples import context, event, gpu, sample, sampled


def watch(**settings: Any) -> FaultWatch:
    return FaultWatch(Settings(**settings), ())


def card(*xids: int, **fields: Any) -> Gpu:
    return gpu(xids=tuple(Xid(code=code, count=1, source="nvml") for code in xids), **fields)


async def feed(handler: FaultWatch, one: Sample, *, replaying: bool = False) -> Decisions | None:
    return await handler.handle(sampled(one), context(one.monotonic_s, replaying=replaying))


def let_run(**fields: Any) -> Event:
    given: dict[str, Any] = {"target": "gpu0", "outcome": "started", "action": "run", "speed": 1.0} | fields
    change = OverrideChanged(operator="alice", reason="", cause="c", **given)
    return event("flyball.override.changed", change, source=fields.pop("source", "gpu-box/operator"))


async def test_a_fault_comes_with_its_demand_and_goes_with_a_withdrawal() -> None:
    handler = watch(recovery_seconds=2.0)
    decisions = await feed(handler, sample(1, [card(79)]))
    assert decisions is not None
    (draft,) = decisions.events
    assert (draft.type, draft.subject) == ("flyball.gpu.error", "gpu0")
    assert isinstance(draft.data, EVENT_TYPES[draft.type])
    assert list(decisions.demands) == list(handler.demands())
    await feed(handler, sample(2, [Gpu(index=0, uuid="GPU-0", reading="lost", reason="GPU is lost")]))
    later = [await feed(handler, sample(second, [card()])) for second in (3, 4, 5)]
    assert later[:2] == [None, None] and later[2] is not None
    assert later[2].demands == [Withdrawal("faults", "gpu0")]
    (draft,) = later[2].events
    assert draft.type == "flyball.gpu.recovered" and isinstance(draft.data, EVENT_TYPES[draft.type])
    assert handler.demands() == []


async def test_nothing_new_is_nothing() -> None:
    handler = watch()
    assert await feed(handler, sample(1, [card()])) is None
    assert await feed(handler, sample(2, [card()])) is None


async def test_what_other_hosts_say_is_not_ours() -> None:
    handler = watch()
    assert await feed(handler, sample(1, [card(79)], host="other")) is None
    await feed(handler, sample(1, [card(79)]))
    change = OverrideChanged(
        target="gpu0", outcome="started", action="run", speed=1.0, operator="eve", reason="", cause="c"
    )
    elsewhere = event("flyball.override.changed", change, source="other/operator")
    assert await handler.handle(elsewhere, context(2, "events")) is None
    assert [demand.target for demand in handler.demands()] == ["gpu0"]


async def test_what_is_neither_is_malformed_and_changes_nothing() -> None:
    handler = watch()
    for type in ("flyball.host.sampled", "flyball.override.changed"):
        with pytest.raises(MalformedEntry):
            await handler.handle(event(type, {"host": 1}, source="gpu-box/somebody"), context())
    assert handler.view() == {"faults": {}, "xids": {}}


async def test_an_operator_lets_a_target_run() -> None:
    handler = watch()
    await feed(handler, sample(1, [card(95)]))
    assert await handler.handle(let_run(), context(2, "events")) is None
    assert [demand.target for demand in handler.demands()] == ["gpu0"]
    decisions = await handler.handle(let_run(forced=True), context(3, "events"))
    assert decisions is not None and decisions.demands == [Withdrawal("faults", "gpu0")]
    assert [draft.type for draft in decisions.events] == ["flyball.gpu.recovered"]


async def test_a_pause_survives_a_restart_and_the_past_read_again_ends_the_same() -> None:
    one, other = watch(), watch()
    ticks = [sample(second, [card(*([13, 79] if second % 7 == 3 else []))]) for second in range(1, 90)]
    told = [await feed(one, tick) for tick in ticks]
    for tick in ticks[:40]:
        await feed(other, tick)
    stored, other = other.snapshot(), watch()
    other.restore(stored)
    assert [await feed(other, tick, replaying=True) for tick in ticks[40:]] == told[40:]
    assert other.snapshot() == one.snapshot()
    assert [demand.target for demand in other.demands()] == ["gpu0"]


@pytest.mark.parametrize("damaged", [b"\xc1", msgspec.msgpack.encode({"version": 99}), b"", msgspec.msgpack.encode(3)])
def test_a_snapshot_that_is_none_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"snapshot|Faults"):
        watch().restore(damaged)


async def test_lost_samples_void_rates() -> None:
    handler = watch(slowdown_seconds=0.5)
    await feed(handler, sample(1, [card(violation_hw_thermal_ns=0)]))
    assert handler.missed("events", context()) is None
    assert handler.missed("samples", context()) is None
    assert await feed(handler, sample(2, [card(violation_hw_thermal_ns=10**9)])) is None
    assert await feed(handler, sample(3, [card(violation_hw_thermal_ns=2 * 10**9)])) is not None


async def test_other_settings_hold_from_now_on() -> None:
    handler = watch()
    assert handler.reconfigure(Settings(actions={"79": "log_only"}))
    decisions = await feed(handler, sample(1, [card(79)]))
    assert decisions is not None and not decisions.demands
    error = decisions.events[0].data
    assert isinstance(error, GpuError) and error.action == "log_only"


async def test_the_view_is_plain_json() -> None:
    handler = watch()
    await feed(handler, sample(1, [card(79, 13), gpu(index=1)]))
    shown = msgspec.json.decode(msgspec.json.encode(handler.view()))
    assert shown == handler.view()
    assert shown["xids"] == {"gpu0": {"79": 1, "13": 1}}
    assert [(one["xid"], one["standing"]) for one in shown["faults"]["gpu0"]] == [(79, True), (13, False)]
