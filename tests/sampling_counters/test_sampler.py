"""Counters in samples: in full ones only, never waited for, and nothing at all where none are configured."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from schemas.sample import Counted, Sample
from supervisor.clock import SystemClock
from supervisor.config import SamplingSection, WorkloadSection
from supervisor.handler import Edge
from supervisor.sampling.counters.assemble import counter_board
from supervisor.sampling.sampler import Sampler
from tests.sampling.doubles import FakeGpus, FakeHost, FakeProcesses, gpu
from tests.sampling_counters.serving import Server, json_section, talking

ROOT = Path(__file__).parent.parent.parent


def sampler(*urls: str, interval_s: float = 0.1, hot: bool = False, timeout_s: float = 2.0) -> Sampler:
    """A sampler on fake sources with a real board; `hot` lets a card near its edge."""
    clock = SystemClock()
    sections = tuple(json_section(url, every_s=0.2, timeout_s=timeout_s) for url in urls)
    return Sampler(
        host="box", boot_id="0123456789", sampling=SamplingSection(interval_s=interval_s, fast_interval_s=0.02),
        clock=clock, gpus=FakeGpus(lambda: (gpu(celsius=84 if hot else 50),)), host_source=FakeHost(),
        processes=FakeProcesses(), edges=(Edge("temperature_celsius", 85),), registered=dict,
        counters=counter_board([WorkloadSection(name="search", counters=sections)], clock) if urls else None,
    )  # fmt: skip


async def test_a_full_sample_holds_what_was_told_last_and_a_fast_one_nothing(server: Server) -> None:
    server.says('{"done": 3}')
    one = sampler(server.url, hot=True)
    samples: list[Sample] = []

    def deliver(sample: Sample) -> None:
        samples.append(sample)
        scopes = {sample.scope for sample in samples}
        if scopes == {"full", "fast"} and any(counted.counts for counted in sample.counted):
            one.stop()

    async with asyncio.timeout(20):
        await one.run(deliver)
    (last,) = samples[-1].counted
    assert last.age_s is not None
    assert last == Counted(workload="search", source=f"json {server.url}", age_s=last.age_s, counts={"done": 3.0})
    assert {sample.scope for sample in samples if sample.counted} == {"full"}
    first = samples[0].counted[0]
    assert (first.counts, first.reason) == ({}, f"json {server.url}: not read yet")


async def test_a_source_that_hangs_delays_no_tick_and_no_stop() -> None:
    async def stare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(stare) as url:
        one = sampler(*(f"{url}/{index}" for index in range(10)), timeout_s=60)
        samples: list[Sample] = []

        def deliver(sample: Sample) -> None:
            samples.append(sample)
            if len(samples) == 10:
                one.stop()

        before = asyncio.all_tasks()
        async with asyncio.timeout(10):
            await one.run(deliver)
        assert samples[-1].monotonic_s - samples[0].monotonic_s < 3
        assert {counted.reason for counted in samples[-1].counted} == {
            f"json {url}/{index}: not read yet" for index in range(10)
        }
        assert {task.get_name() for task in asyncio.all_tasks() - before if task.get_name().startswith("co")} == set()


async def test_polls_end_with_the_sampler_whatever_ends_it(server: Server) -> None:
    server.says('{"done": 3}')
    one = sampler(server.url)

    def deliver(sample: Sample) -> None:
        if any(counted.counts for counted in sample.counted):
            raise RuntimeError("the end")

    try:
        async with asyncio.timeout(20):
            await one.run(deliver)
    except RuntimeError as error:
        assert str(error) == "the end"
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("counters ")]


async def test_no_source_is_no_figure() -> None:
    sample = await sampler().once()
    assert sample.counted == ()


def test_without_sources_nothing_is_imported() -> None:
    """Nor before the first poll of one that is configured: aiohttp takes a third of a second."""
    code = """
import sys
from supervisor.clock import SystemClock
from supervisor.config import Config, WorkloadSection
from supervisor.configuration.counters import CounterSection
from supervisor.sampling.assemble import real_sources
assert real_sources(Config(), SystemClock()).counters is None
assert not [name for name in sys.modules if name.startswith("supervisor.sampling.counters")]
section = CounterSection(kind="json", url="http://127.0.0.1:1/", counts={"x": "x"})
config = Config(workload=(WorkloadSection(name="x", counters=(section,)),))
assert real_sources(config, SystemClock()).counters is not None
assert "aiohttp" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=30)


def flyball_sample(config: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "supervisor.cli.main", "sample", "--once", "--config", str(config), *arguments]
    return subprocess.run(
        command, check=True, cwd=ROOT, timeout=40, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    ).stdout


async def test_flyball_sample_asks_each_source_once(server: Server, tmp_path: Path) -> None:
    config = tmp_path / "flyball.toml"
    config.write_text(f"""
[[workload]]
name = "search"
[[workload.counters]]
kind = "json"
url = "{server.url}"
counts.done = "done"
[[workload.counters]]
kind = "lines"
file = "{tmp_path}/none"
""")
    server.says('{"done": 1234567}')
    sample = json.loads(await asyncio.to_thread(flyball_sample, config, "--json"))
    first, second = sample["counted"]
    assert (first["workload"], first["counts"], "reason" in first) == ("search", {"done": 1234567.0}, False)
    assert "No such file or directory" in second["reason"]
    assert len(server.asked) == 1
    page = await asyncio.to_thread(flyball_sample, config)
    assert "done=1234567" in page
    assert "No such file or directory; is the program running that writes it?" in page
