"""The tick loop on fake sources, with a clock that passes only while it waits."""

import asyncio
import signal
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from msgspec.structs import replace

from schemas.sample import Gpu, GpuBackend, GpuProcess, Sample
from supervisor.handler import Edge
from supervisor.sampling.sampler import since_boot_s, wait_for
from tests.sampling.doubles import EDGES, Bench, gpu

Then = Callable[[Sample], None]


async def collect(bench: Bench, count: int, then: Then = lambda sample: None) -> list[Sample]:
    """So many samples; `then` sees each of them and may change the world."""
    samples: list[Sample] = []

    def deliver(sample: Sample) -> None:
        samples.append(sample)
        then(sample)
        if len(samples) >= count:
            bench.sampler.stop()

    await bench.sampler.run(deliver)
    return samples


def spacing(samples: list[Sample]) -> list[float]:
    return [round(after.monotonic_s - before.monotonic_s, 6) for before, after in pairwise(samples)]


async def test_one_full_sample_an_interval() -> None:
    samples = await collect(Bench(first_tick=7), 4)
    assert [sample.tick for sample in samples] == [7, 8, 9, 10]
    assert spacing(samples) == [1, 1, 1]
    assert {(sample.scope, sample.gap, sample.interval_s) for sample in samples} == {("full", False, 1.0)}
    assert samples[0].id == "box/01234567/7"
    assert samples[0].time == "2023-11-14T22:30:00.000Z"


async def test_the_schedule_is_absolute() -> None:
    bench = Bench()

    def slow(sample: Sample) -> None:
        bench.time.monotonic_s += 0.3

    assert spacing(await collect(bench, 4, slow)) == [1, 1, 1]


async def test_missed_ticks_are_skipped() -> None:
    bench = Bench()

    def stopped_once(sample: Sample) -> None:
        if sample.tick == 1:
            bench.time.monotonic_s += 2.4

    assert spacing(await collect(bench, 5, stopped_once)) == [1, 2.4, 0.6, 1]


async def test_a_long_stop_is_a_gap() -> None:
    bench = Bench()

    def stopped_once(sample: Sample) -> None:
        if sample.tick == 1:
            bench.time.monotonic_s += 3.5

    assert [sample.gap for sample in await collect(bench, 4, stopped_once)] == [False, False, True, False]


async def test_suspend_is_a_gap_though_the_monotonic_clock_stood_still() -> None:
    bench = Bench()

    def suspend(sample: Sample) -> None:
        if sample.tick == 1:
            bench.time.asleep_s += 3600

    samples = await collect(bench, 4, suspend)
    assert spacing(samples) == [1, 1, 1]
    assert [sample.gap for sample in samples] == [False, False, True, False]


async def test_a_sample_holds_what_the_sources_say() -> None:
    bench = Bench()
    bench.gpus.respond = lambda: (gpu(0, celsius=51), Gpu(index=2, uuid="x", processes=(GpuProcess(812),)))
    bench.registered = {900: (1.0, "trainer")}
    (sample,) = await collect(bench, 1)
    assert [card.index for card in sample.gpus] == [0, 2]
    assert [process.pid for process in sample.processes] == [812, 900]
    assert sample.host_figures is not None
    assert sample.host_figures.cpu_count == 8
    assert bench.sampler.latest is sample


@pytest.mark.parametrize("figure", ["host", "processes"])
async def test_a_source_that_raises_costs_its_figures_and_is_logged_once(
    figure: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    bench.registered = {900: (1.0, "trainer")}
    source = bench.host if figure == "host" else bench.processes

    def break_and_mend(sample: Sample) -> None:
        source.error = OverflowError("a bug") if sample.tick in (0, 1) else None

    with caplog.at_level("INFO"):
        samples = await collect(bench, 4, break_and_mend)
    assert [sample.unread for sample in samples] == [(), (figure,), (figure,), ()]
    assert [bool(sample.processes) for sample in samples] == [True, *[figure == "host"] * 2, True]
    assert [sample.host_figures is None for sample in samples] == [False, *[figure == "host"] * 2, False]
    said = [record.levelname for record in caplog.records if record.name == "supervisor.sampling.guarded"]
    assert said == ["ERROR", "INFO"]


async def test_a_card_that_nears_the_edge_is_sampled_fast_and_alone() -> None:
    bench = Bench()
    celsius = iter([79.0, 82.0])
    hot = [79.0]
    bench.gpus.respond = lambda: (gpu(0), gpu(1, celsius=hot[0]))

    def heat(sample: Sample) -> None:
        if sample.scope == "full":
            hot[0] = next(celsius, hot[0])

    samples = await collect(bench, 14, heat)
    scopes = [sample.scope for sample in samples]
    assert scopes == ["full", "full", "full", *["fast"] * 9, "full", "full"]
    assert spacing(samples) == pytest.approx([1, 1, *[0.1] * 10, 1])
    fast = samples[3]
    assert [card.index for card in fast.gpus] == [1]
    assert (fast.host_figures, fast.processes, fast.interval_s) == (None, (), 0.1)
    assert [sample.tick for sample in samples] == list(range(14))
    assert bench.gpus.asked[3] == frozenset({1})
    assert bench.sampler.latest is samples[-1]


async def test_host_memory_is_sampled_fast_without_asking_the_cards() -> None:
    bench = Bench()

    def fill(sample: Sample) -> None:
        bench.host.used_percent = 92.0

    samples = await collect(bench, 4, fill)
    assert [sample.scope for sample in samples] == ["full", "full", "fast", "fast"]
    assert samples[2].gpus == ()
    assert samples[2].host_figures is not None
    assert samples[2].host_figures.memory_used_ratio == pytest.approx(0.92)
    assert bench.gpus.asked == [None, None]


async def test_fast_sampling_ends_when_the_figure_falls() -> None:
    bench = Bench()
    hot = [84.0]
    bench.gpus.respond = lambda: (gpu(celsius=hot[0]),)

    def cool(sample: Sample) -> None:
        if sample.tick == 2:
            hot[0] = 83.0

    scopes = [sample.scope for sample in await collect(bench, 6, cool)]
    assert scopes == ["full", "fast", "fast", "fast", "full", "full"]


async def test_a_source_that_raises_is_an_unavailable_backend_with_the_reason() -> None:
    bench = Bench()

    def respond() -> tuple[Gpu, ...]:
        if len(bench.gpus.asked) == 2:
            raise OSError("the driver is upset")
        return (gpu(celsius=55),)

    bench.gpus.respond = respond
    before, failed, after = await collect(bench, 3)
    assert before.gpu_backend.state == "ok"
    assert failed.gpu_backend.state == "unavailable"
    assert "OSError: the driver is upset" in failed.gpu_backend.reason
    assert failed.host_figures is not None
    (blind,) = failed.gpus
    assert (blind.reading, blind.uuid, blind.temperature_celsius) == ("blind", "GPU-0", None)
    assert (after.gpu_backend.state, after.gpus[0].temperature_celsius) == ("ok", 55)


async def test_a_source_that_hangs_leaves_its_cards_blind_and_the_host_read() -> None:
    bench = Bench()

    def hang_from_the_second(sample: Sample) -> None:
        if sample.tick == 0:
            bench.gpus.blocked = asyncio.Event()
        elif sample.tick == 2:
            assert bench.gpus.blocked is not None
            bench.gpus.blocked.set()

    samples = await collect(bench, 5, hang_from_the_second)
    assert [sample.gpus[0].reading for sample in samples] == ["fresh", "blind", "blind", "fresh", "fresh"]
    assert all(sample.host_figures is not None for sample in samples)
    assert samples[1].gpu_backend.reason == "gpu_source_late"
    # no second read ran beside the one that was late, and its result, which is of another tick, was thrown away
    assert len(bench.gpus.asked) == 4


async def test_a_driver_that_is_slow_to_start_does_not_hold_up_the_host() -> None:
    bench = Bench()
    started = asyncio.Event()

    async def start() -> None:
        await started.wait()
        bench.gpus.running = True

    bench.gpus.start = start  # type: ignore[method-assign]

    def go_on(sample: Sample) -> None:
        if sample.tick == 1:
            started.set()

    samples = await collect(bench, 4, go_on)
    assert [sample.gpu_backend.state for sample in samples] == ["unavailable", "unavailable", "ok", "ok"]
    assert samples[0].gpu_backend.reason == "gpu_source_starting"
    assert samples[0].gpus == ()


async def test_stop_releases_every_source() -> None:
    bench = Bench()
    await collect(bench, 2)
    assert (bench.gpus.running, bench.host.closed, bench.processes.closed) == (False, True, True)


async def test_stop_does_not_wait_for_a_hung_driver() -> None:
    bench = Bench()
    bench.gpus.blocked = asyncio.Event()
    await collect(bench, 2)
    assert not bench.gpus.running
    assert bench.processes.closed


async def test_what_deliver_raises_ends_the_run_in_good_order() -> None:
    bench = Bench()

    def refuse(sample: Sample) -> None:
        raise LookupError(sample.id)

    with pytest.raises(LookupError):
        await bench.sampler.run(refuse)
    assert (bench.gpus.running, bench.host.closed, bench.processes.closed) == (False, True, True)


async def test_once_waits_for_a_slow_driver() -> None:
    bench = Bench()
    sample = await bench.sampler.once()
    assert (sample.tick, sample.scope, sample.gpus[0].reading) == (0, "full", "fresh")
    assert bench.processes.closed


def faster(bench: Bench, **changes: float) -> None:
    """Other settings, with the same edges."""
    bench.sampler.reconfigure(replace(bench.sampling, **changes), EDGES)


@pytest.mark.parametrize(
    ("interval_s", "wait_s", "expected"),
    [
        (1.0, 0.2, [1, 1, 1, 1, 1]),
        (4.0, 0.2, [1, 1, 4, 4, 4]),
        (0.25, 0.0, [1, 0.25, 0.25, 0.25, 0.25]),
        (0.25, 0.2, [1, 0.25, 0.25, 0.25, 0.25]),
        (0.25, 0.8, [1, 0.8, 0.2, 0.25, 0.25]),
    ],
)
async def test_another_interval_holds_from_the_next_tick_on(
    interval_s: float, wait_s: float, expected: list[float]
) -> None:
    """It is asked for `wait_s` after the second tick: no burst, no hole, and no tick later than was promised."""
    bench = Bench()

    def change(sample: Sample) -> None:
        if sample.tick == 1:
            bench.time.meanwhile = wait_s, lambda: faster(bench, interval_s=interval_s)

    samples = await collect(bench, 6, change)
    assert spacing(samples) == pytest.approx(expected)
    assert [sample.interval_s for sample in samples] == [1, 1, *[interval_s] * 4]
    assert not any(sample.gap for sample in samples)


async def test_a_time_that_is_long_for_the_new_interval_only_is_no_gap() -> None:
    bench = Bench(interval_s=60)

    def change(sample: Sample) -> None:
        if sample.tick == 1:
            bench.time.monotonic_s += 30
            faster(bench, interval_s=1.0)
        elif sample.tick == 3:
            bench.time.monotonic_s += 3.5

    samples = await collect(bench, 5, change)
    assert spacing(samples) == [60, 30, 1, 3.5]
    assert [sample.gap for sample in samples] == [False, False, False, False, True]


async def test_a_change_does_not_interrupt_fast_samples() -> None:
    bench = Bench()
    bench.gpus.respond = lambda: (gpu(celsius=84.0 if bench.sampler.latest else 79.0),)

    def change(sample: Sample) -> None:
        if sample.tick == 3:
            faster(bench, fast_interval_s=0.2)

    samples = await collect(bench, 8, change)
    assert [sample.scope for sample in samples] == ["full", "full", *["fast"] * 5, "full"]
    assert spacing(samples) == pytest.approx([1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2])


async def test_other_edges_are_watched_at_once() -> None:
    bench = Bench()
    bench.gpus.respond = lambda: (gpu(celsius=60),)

    def change(sample: Sample) -> None:
        if sample.tick == 1:
            bench.sampler.reconfigure(bench.sampling, (Edge("temperature_celsius", 62),))

    samples = await collect(bench, 4, change)
    assert [sample.scope for sample in samples] == ["full", "full", "fast", "fast"]


async def test_the_number_of_processes_is_passed_on() -> None:
    bench = Bench()
    await collect(bench, 2, lambda sample: bench.sampler.reconfigure(replace(bench.sampling, top_processes=3), ()))
    assert bench.processes.top == 3


async def test_while_the_cards_are_not_to_be_read_they_are_blind_and_nobody_asks_them() -> None:
    bench = Bench()
    bench.gpus.respond = lambda: (gpu(0), gpu(1))
    stopped = GpuBackend("stopped", "alice stopped it", "start it again")

    def switch(sample: Sample) -> None:
        if sample.tick == 1:
            bench.sampler.stop_gpus(stopped)
        elif sample.tick == 3:
            bench.sampler.start_gpus()

    samples = await collect(bench, 6, switch)
    assert [sample.gpu_backend.state for sample in samples] == ["ok", "ok", "stopped", "stopped", "ok", "ok"]
    unread = samples[2]
    assert unread.gpu_backend == stopped
    assert [(card.index, card.uuid, card.reading, card.reason) for card in unread.gpus] == [
        (0, "GPU-0", "blind", "alice stopped it"), (1, "GPU-1", "blind", "alice stopped it"),
    ]  # fmt: skip
    assert unread.gpus[0].temperature_celsius is None
    assert all(sample.host_figures is not None for sample in samples)
    assert spacing(samples) == [1] * 5
    assert len(bench.gpus.asked) == 4
    assert bench.gpus.running is False


async def test_a_stop_while_a_card_is_looked_at_closely_reads_it_no_more() -> None:
    bench = Bench()
    bench.gpus.respond = lambda: (gpu(celsius=84.0 if bench.sampler.latest else 79.0),)

    def stop(sample: Sample) -> None:
        if sample.tick == 2:
            bench.sampler.stop_gpus(GpuBackend("stopped", "alice stopped it"))

    samples = await collect(bench, 5, stop)
    assert [sample.scope for sample in samples] == ["full", "full", "fast", "fast", "full"]
    assert [sample.gpus[0].reading for sample in samples] == ["fresh"] * 3 + ["blind"] * 2
    assert len(bench.gpus.asked) == 3


async def test_waiting_ends_with_the_event() -> None:
    event = asyncio.Event()
    await wait_for(event, 0)
    waiting = asyncio.create_task(wait_for(event, 3600))
    event.set()
    await waiting


def test_time_since_boot_only_grows() -> None:
    assert 0 < since_boot_s() <= since_boot_s()


async def test_a_sampler_that_was_really_stopped_says_so() -> None:
    code = (
        "import asyncio; from tests.sampling.doubles import real_sampler\n"
        "asyncio.run(real_sampler(0.05).run(lambda sample: print(sample.tick, int(sample.gap), flush=True)))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"0 0\n"
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3)  # what is tested is that time passes
        process.send_signal(signal.SIGCONT)
        while not (line := await process.stdout.readline()).endswith(b" 1\n"):
            assert line, "it ended without a gap"
    finally:
        process.kill()
        await process.communicate()
