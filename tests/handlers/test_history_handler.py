"""The past behind the door of every handler, and as the API asks for it."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.history.handler import History
from handlers.history.queries import SINCE_PATTERN, HistoryQuery, TrendQuery, unix_time
from handlers.history.settings import Settings
from handlers.throttle.settings import Settings as Throttle
from schemas.envelope import MalformedEntry
from schemas.event import StateChanged
from schemas.history import GpuTrend, MetricsHistory
from schemas.sample import Gpu, Sample
from schemas.workload import Directive
from supervisor.handler import Asked, Refusal
from tests.handlers.samples import HOST, WALL_S, context, event, gpu, sample, sampled

Card = Callable[[float], Gpu]


def at(second: float, *gpus: Gpu, **fields: Any) -> Sample:
    """A sample so long after boot, by both clocks."""
    time = datetime.fromtimestamp(WALL_S + second, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.structs.replace(sample(second, gpus, **fields), time=time)


async def remembering(card: Card, seconds: Iterable[float], settings: Settings | None = None) -> History:
    """A handler that has seen one card."""
    handler = History(settings or Settings(), ())
    for second in seconds:
        await handler.handle(sampled(at(second, card(second))), context(second))
    return handler


def asked(query: Any, *, latest: Sample | None = None, **settings: msgspec.Struct) -> Asked:
    return Asked(query=query, latest=latest or at(0, gpu(50)), settings=settings)


def past(handler: History, latest: Sample | None = None, **query: Any) -> MetricsHistory:
    """What GET /api/gpu/metrics/history answers."""
    route = next(one for one in handler.routes() if one.path == "/api/gpu/metrics/history")
    answer: MetricsHistory = route.call(asked(HistoryQuery(**query), latest=latest))
    return answer


def heading(handler: History, minutes: float = 5, latest: Sample | None = None, **settings: msgspec.Struct) -> GpuTrend:
    """What GET /api/gpu/temperature/trend answers."""
    route = next(one for one in handler.routes() if one.path == "/api/gpu/temperature/trend")
    answer: GpuTrend = route.call(asked(TrendQuery(duration_minutes=minutes), latest=latest, **settings))
    return answer


def temperatures(answer: MetricsHistory) -> list[float | None]:
    return [point.temperature_celsius for point in answer.points]


# -- the door ------------------------------------------------------------------------------------------------------


async def test_nothing_is_decided_and_other_hosts_are_not_ours() -> None:
    handler = History(Settings(), ())
    assert await handler.handle(sampled(at(0, gpu(50))), context()) is None
    await handler.handle(sampled(at(3, gpu(99), host="other")), context(3))
    assert temperatures(past(handler)) == [50]


@pytest.mark.parametrize("broken", [{"host": 1}, msgspec.structs.replace(at(0, gpu(50)), time="yesterday")])
async def test_what_is_no_sample_is_malformed(broken: object) -> None:
    with pytest.raises(MalformedEntry):
        await History(Settings(), ()).handle(event("flyball.host.sampled", broken), context())


async def test_the_state_and_the_speed_stand_at_each_point() -> None:
    handler = await remembering(lambda _: gpu(80), [0])
    change = StateChanged(
        target="gpu0", state="THROTTLED", previous="OPTIMAL", action="throttle", speed=0.5, reason="", cause=""
    )
    directive = Directive(id="d", seq=1, time="", host=HOST, target="gpu0", action="throttle", speed=0.4)
    elsewhere = msgspec.structs.replace(directive, host="other", speed=0.1)
    for kind, fact, source in (
        ("flyball.gpu.state_changed", change, HOST),
        ("flyball.directive.issued", directive, HOST),
        ("flyball.directive.issued", elsewhere, "other"),
        ("flyball.gpu.state_changed", msgspec.structs.replace(change, state="CRITICAL"), "other"),
    ):
        await handler.handle(event(kind, fact, source=f"{source}/throttle"), context(1, "events"))
    await handler.handle(sampled(at(3, gpu(80))), context(3))
    assert [(point.state, point.speed) for point in past(handler).points] == [(None, None), ("THROTTLED", 0.4)]


async def test_two_hundred_points_are_there_after_a_restart() -> None:
    before = await remembering(lambda second: gpu(40 + second % 7), range(700))
    after = History(Settings(), ())
    after.restore(before.snapshot())
    for second in range(690, 720):  # what came since the snapshot is read again
        await after.handle(sampled(at(second, gpu(40 + second % 7))), context(second, replaying=True))
    after.tick(context(720))
    known = past(after)
    assert known.count == len(known.points) == 200
    assert known.points[:-6] == past(before).points[6:]
    assert not any(point.after_gap for point in known.points)


async def test_a_snapshot_of_another_version_is_refused() -> None:
    handler = await remembering(lambda _: gpu(50), [0])
    raw = msgspec.msgpack.decode(handler.snapshot())
    with pytest.raises(ValueError, match="version"):
        History(Settings(), ()).restore(msgspec.msgpack.encode({**raw, "version": 99}))


async def test_other_settings_hold_at_once() -> None:
    handler = await remembering(lambda _: gpu(50), range(60))
    assert handler.reconfigure(Settings(monitor_interval=1, history_size=5))
    for second in range(60, 70):
        await handler.handle(sampled(at(second, gpu(60))), context(second))
    answer = past(handler)
    assert (answer.count, answer.resolution_s, temperatures(answer)) == (5, 1, [60] * 5)


async def test_missed_samples_are_a_gap_and_missed_events_are_none() -> None:
    handler = await remembering(lambda _: gpu(50), [0])
    handler.missed("events", context(1, "events"))
    await handler.handle(sampled(at(3, gpu(50))), context(3))
    handler.missed("samples", context(4))
    await handler.handle(sampled(at(6, gpu(50))), context(6))
    assert [point.after_gap for point in past(handler).points] == [False, False, True]


# -- GET /api/gpu/metrics/history ----------------------------------------------------------------------------------


async def test_the_newest_points_since_a_time() -> None:
    handler = await remembering(lambda second: gpu(float(second)), range(0, 61, 3))
    since = datetime.fromtimestamp(WALL_S + 45, timezone(timedelta(hours=2))).isoformat()
    assert temperatures(past(handler, limit=2)) == [57, 60]
    assert temperatures(past(handler, since=since)) == [45, 48, 51, 54, 57, 60]
    assert temperatures(past(handler, since=since.replace("+", " "))) == temperatures(past(handler, since=since))
    assert temperatures(past(handler, since=str(WALL_S + 55))) == [57, 60]
    assert temperatures(past(handler, duration_minutes=0.1)) == [54, 57, 60]
    assert temperatures(past(handler, since=str(WALL_S + 45), duration_minutes=0.1, limit=1)) == [60]
    assert temperatures(past(handler, since="2200-01-01T00:00:00Z")) == []


async def test_longer_times_are_answered_by_the_minute() -> None:
    handler = await remembering(lambda second: gpu(50 + second // 60), range(0, 1200, 2))
    points, minutes = past(handler, duration_minutes=10.0), past(handler, duration_minutes=10.1)
    assert (points.resolution_s, minutes.resolution_s) == (3, 60)
    assert len(points.points) == 200 and 10 <= len(minutes.points) <= 12
    assert all(point.samples is None for point in points.points)
    assert all(point.samples and point.temperature_max_celsius is not None for point in minutes.points)
    assert past(handler, duration_minutes=1440, limit=3).points == past(handler, duration_minutes=1440).points[-3:]
    # the first minute began before, and tells of what came after
    assert datetime.fromisoformat(minutes.points[0].time).timestamp() < WALL_S + 1200 - 606
    assert Settings().points_reach(600.0000002) and not Settings().points_reach(601)


@given(st.floats(0, 9_999_999_999).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
def test_every_time_of_rfc_3339_is_understood(moment: datetime) -> None:
    for text in (moment.isoformat(), moment.isoformat().replace("+00:00", "Z"), f"{moment.timestamp():.6f}"):
        asked_for = msgspec.convert({"since": text}, HistoryQuery)
        assert asked_for.since_s(0.0) == pytest.approx(moment.timestamp(), abs=1e-5)


@settings(max_examples=20)
@given(st.from_regex(SINCE_PATTERN))
def test_what_the_document_allows_is_a_time(text: str) -> None:
    assert isinstance(unix_time(text), float)


@pytest.mark.parametrize(
    "since",
    ["", "yesterday", "2026-02-30T12:00:00Z", "2026-02-29T12:00:00Z", "2026-11-21", "2026-11-21T12:00:00", "-5", "1e9",
     "nan", "2026-13-01T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T12:00:00Z\n", "99999999999"],
)  # fmt: skip
def test_what_is_no_time_is_refused(since: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"since": since}, HistoryQuery)


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        (HistoryQuery, {"limit": 0}), (HistoryQuery, {"limit": -1}), (HistoryQuery, {"duration_minutes": 0}),
        (HistoryQuery, {"duration_minutes": 10_081}), (TrendQuery, {"duration_minutes": 0}),
        (TrendQuery, {"duration_minutes": -5}), (TrendQuery, {"duration_minutes": 1441}), (TrendQuery, {"limit": 5}),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(kind: type[msgspec.Struct], query: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(query, kind)


async def test_a_card_is_found_by_uuid_too_and_one_that_is_gone_still_had_a_past() -> None:
    handler = await remembering(lambda _: gpu(50), range(0, 30, 3))
    now = at(30, gpu(40, index=1))
    assert past(handler, gpu_id="GPU-0", latest=now).count == 10
    assert past(handler, gpu_id="0", latest=now).count == 10
    assert past(handler, gpu_id="1", latest=now).count == 0  # it is there, and nothing is known of it yet
    with pytest.raises(Refusal) as refused:
        past(handler, gpu_id="7", latest=now)
    assert refused.value.status == 404


async def test_before_the_first_sample_of_a_start_there_is_the_past_already() -> None:
    before = await remembering(lambda _: gpu(50), range(0, 30, 3))
    after = History(Settings(), ())
    route = after.routes()[0]
    for _ in ("nothing is there", "the past is not there yet"):
        with pytest.raises(Refusal) as refused:
            route.call(Asked(query=HistoryQuery()))
        assert refused.value.status == 503
        after.restore(before.snapshot())
        await after.handle(sampled(at(27, gpu(50))), context(27, replaying=True))
    after.tick(context(30))
    assert route.call(Asked(query=HistoryQuery())).count == 10


async def test_what_is_answered_is_what_the_document_says() -> None:
    handler = await remembering(lambda second: gpu(50 + second / 60), range(0, 900, 3))
    for route, query in ((0, HistoryQuery()), (0, HistoryQuery(duration_minutes=60.0)), (1, TrendQuery())):
        answer = handler.routes()[route].call(asked(query))
        kind = handler.routes()[route].answer
        assert msgspec.json.decode(msgspec.json.encode(answer), type=kind) == answer
        assert b"NaN" not in msgspec.json.encode(answer)


# -- GET /api/gpu/temperature/trend --------------------------------------------------------------------------------


def ramp(slope_per_minute: float, start: float = 50.0) -> Card:
    return lambda second: gpu(float(round(start + slope_per_minute / 60 * second)), 10)


async def test_a_ramp_of_two_degrees_a_minute() -> None:
    trend = heading(await remembering(ramp(2), range(301)))
    told = trend.temperature
    assert told.slope_celsius_per_minute == pytest.approx(2.0, rel=0.1)
    assert told.slope_low_celsius_per_minute is not None and told.slope_high_celsius_per_minute is not None
    assert told.slope_low_celsius_per_minute < 2.0 < told.slope_high_celsius_per_minute
    assert (told.verdict, told.readings, told.resolution_s, told.temperature_celsius) == ("rising", 101, 3, 60)
    assert (told.min_celsius, told.max_celsius) == (50, 60) and told.mean_celsius == pytest.approx(55, abs=0.2)
    coming = told.forecasts[0]
    assert (coming.threshold, coming.threshold_celsius) == ("temp_optimal", 65)
    assert coming.p50_s == pytest.approx(150, rel=0.15)
    assert [one.threshold_celsius for one in told.forecasts] == [65, 75, 85, 90]
    assert "60 °C, rising by" in told.text and "65 °C (temp_optimal) in about" in trend.text
    assert (trend.memory.verdict, trend.memory.slope_bytes_per_minute) == ("stable", 0)
    assert [one.threshold for one in trend.memory.forecasts] == [
        "memory_optimal", "memory_normal", "memory_critical", "memory_total",
    ]  # fmt: skip
    assert trend.memory.forecasts[0].p90_s is None and "is not in sight" in trend.memory.text


async def test_memory_that_grows_is_forecast_to_its_limits() -> None:
    handler = await remembering(lambda second: gpu(50, 20 + second / 60), range(601))
    told = heading(handler, 10).memory
    gib = 1 << 30
    assert told.verdict == "rising" and told.slope_bytes_per_minute == pytest.approx(gib, rel=0.02)
    assert (told.memory_used_bytes, told.memory_total_bytes) == (30 * gib, 100 * gib)
    full = {one.threshold: one for one in told.forecasts}
    assert full["memory_optimal"].threshold_bytes == 70 * gib
    assert full["memory_optimal"].p50_s == pytest.approx(2400, rel=0.05)
    assert full["memory_total"].p50_s == pytest.approx(4200, rel=0.05)
    assert "30 GiB, rising by 1024 MiB a minute" in told.text


async def test_a_model_that_was_loaded_is_no_growth() -> None:
    """A straight line would say that the card is full in three minutes."""
    handler = await remembering(lambda second: gpu(50, 10 if second < 200 else 60), range(301))
    told = heading(handler).memory
    assert told.verdict == "stable" and "60 GiB, now stable" in told.text
    assert told.slope_now_bytes_per_minute == pytest.approx(0, abs=1 << 20)
    assert told.forecasts[0].threshold == "memory_optimal" and told.forecasts[0].p90_s is None


async def test_a_load_that_began_a_moment_ago_is_told_by_its_own_slope() -> None:
    handler = await remembering(lambda second: gpu(float(round(50 + max(0, second - 200) / 15))), range(301))
    told = heading(handler).temperature
    assert told.verdict == "rising"
    assert told.slope_now_celsius_per_minute == pytest.approx(4, rel=0.15)
    assert told.slope_celsius_per_minute is not None and told.slope_celsius_per_minute < 3
    assert told.slope_now_low_celsius_per_minute is not None and told.slope_now_high_celsius_per_minute is not None
    assert told.slope_now_low_celsius_per_minute < 4 < told.slope_now_high_celsius_per_minute


async def test_the_thresholds_are_those_in_force() -> None:
    handler = await remembering(ramp(2), range(301))
    told = heading(handler, throttle=Throttle(temp_optimal=62, temp_normal=66)).temperature
    assert [one.threshold_celsius for one in told.forecasts] == [62, 66, 85, 90]
    assert told.forecasts[0].p50_s == pytest.approx(60, rel=0.3)


async def test_where_the_cards_margin_is_smaller_that_counts() -> None:
    """It is at 60 °C, and slows itself down 5 °C further up: for the ladder that is 80 °C."""
    latest = at(300, gpu(60, temperature_margin_celsius=5))
    told = heading(await remembering(ramp(2), range(301)), latest=latest).temperature
    assert told.forecasts[0].threshold_celsius == 85 and told.forecasts[0].p50_s == pytest.approx(150, rel=0.2)
    assert "by its margin to slowdown" in told.text


async def test_what_falls_is_forecast_downwards() -> None:
    told = heading(await remembering(ramp(-2, start=88), range(301))).temperature
    assert told.verdict == "falling" and [one.threshold_celsius for one in told.forecasts] == [75, 65]
    assert "78 °C, falling by 2" in told.text


async def test_too_few_readings_are_unknown_and_never_stable() -> None:
    told = heading(await remembering(lambda _: gpu(50), range(0, 24, 3))).temperature
    assert (told.verdict, told.slope_celsius_per_minute, told.forecasts) == ("unknown", None, ())
    assert told.text == "unknown: 8 readings in this window, and 10 are needed"


async def test_no_rate_is_taken_across_lost_time() -> None:
    handler = await remembering(ramp(2), range(300))
    await handler.handle(sampled(at(305, gpu(30), gap=True)), context(305))
    for second in range(306, 360):
        await handler.handle(sampled(at(second, gpu(30))), context(second))
    told = heading(handler).temperature
    assert (told.verdict, told.max_celsius) == ("stable", 30)
    handler.missed("samples", context(360))
    await handler.handle(sampled(at(361, gpu(30))), context(361))
    assert heading(handler).temperature.text == "unknown: 1 reading since time was lost, and 10 are needed"


async def test_what_is_not_read_any_more_is_unknown() -> None:
    """BLIND, and silence: an old trend is not told as one of now."""
    silent = await remembering(lambda _: gpu(50), range(300))
    assert heading(silent).temperature.verdict == "stable"
    silent.tick(context(340))
    told = heading(silent).temperature
    assert (told.verdict, told.text) == ("unknown", "unknown: it was not read for 41 s")
    blind = await remembering(lambda second: gpu(50) if second < 300 else gpu(None, None, reading="blind"), range(330))
    assert heading(blind).memory.text == "unknown: it was not read for 30 s"
    never = await remembering(lambda _: gpu(None, None, reading="lost"), range(30))
    assert heading(never).text == (
        "gpu0 over 5 min: unknown: it was never read. Memory: unknown: it was never read."
    )  # fmt: skip


async def test_a_card_that_tells_no_memory_has_no_trend_of_it() -> None:
    told = heading(await remembering(lambda _: gpu(50, None), range(300)), latest=at(300, gpu(50, None)))
    assert told.temperature.verdict == "stable"
    assert (told.memory.verdict, told.memory.memory_total_bytes, told.memory.readings) == ("unknown", None, 0)


async def test_an_hour_is_told_by_the_minute() -> None:
    handler = await remembering(ramp(0.5), range(0, 3600, 2))
    told = heading(handler, 60).temperature
    assert told.resolution_s == 60 and told.readings == 60
    assert told.slope_celsius_per_minute == pytest.approx(0.5, rel=0.05)
    # 80 °C now, 85 °C in ten minutes; the middle of the minute under way is half a minute ago
    assert told.forecasts[0].p50_s == pytest.approx(600, abs=15)


async def test_minutes_that_are_missing_are_lost_time_but_a_short_sleep_does_not_void_an_hour() -> None:
    asleep = [*range(0, 1200, 2), *range(1210, 1800, 2)]
    handler = await remembering(lambda second: gpu(30 if second < 1200 else 60), asleep)
    told = heading(handler, 60).temperature
    assert (told.readings, told.min_celsius, told.verdict) == (31, 30, "stable") and "now stable" in told.text
    away = [*range(0, 1200, 2), *range(1500, 2400, 2)]
    handler = await remembering(lambda second: gpu(30 if second < 1200 else 60), away)
    told = heading(handler, 60).temperature
    assert told.readings < 20 and (told.verdict, told.min_celsius) == ("stable", 60)


async def test_what_is_simulated_says_so() -> None:
    handler = History(Settings(), ())
    for second in range(60):
        await handler.handle(sampled(at(second, gpu(50), simulated=True)), context(second))
    latest = at(60, gpu(50), simulated=True)
    assert past(handler, latest=latest).simulated and heading(handler, latest=latest).text.startswith("SIMULATED: ")
