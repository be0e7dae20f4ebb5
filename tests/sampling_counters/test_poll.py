"""The loop of one source, and the board of all: when they ask, what they say once, and how they end."""

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

from supervisor.clock import SystemClock
from supervisor.config import WorkloadSection
from supervisor.configuration.counters import CounterSection
from supervisor.sampling.counters.assemble import counter_board, counter_source
from supervisor.sampling.counters.board import Board, Entry
from supervisor.sampling.counters.poll import Poll
from supervisor.sampling.counters.source import CounterSource, Tally, Told
from tests.sampling_counters.serving import PATIENCE_S, Server, json_section, serving, talking, until

CLOCK = SystemClock()


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith("supervisor.sampling.counters")
    ]


async def test_a_source_is_lost_and_found_and_each_is_said_once(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.says('{"done": 3}')
    source = counter_source(json_section(server.url, every_s=0.2), CLOCK)
    assert (source.name, source.latest, source.trouble) == (f"json {server.url}", None, "")
    with caplog.at_level("INFO"):
        polling = asyncio.create_task(source.run())
        await until(lambda: source.latest)
        server.says("", status=500)
        before = len(server.asked)
        await until(lambda: len(server.asked) > before + 3)
        trouble = f"json {server.url}: it answered 500 Internal Server Error; see the program's own log"
        assert source.trouble == trouble
        assert source.latest is not None
        assert source.latest[1] == Tally(counts={"done": 3.0}, gauges={})
        old_s = source.latest[0]
        server.says('{"done": 1}')
        await until(lambda: not source.trouble)
        assert source.latest[1].counts == {"done": 1.0}
        assert source.latest[0] > old_s
        polling.cancel()
        await asyncio.wait([polling])
    assert polling.cancelled()
    assert said(caplog) == [
        ("WARNING", f"counters: {trouble}"), ("INFO", f"counters: json {server.url} can be read again"),
    ]  # fmt: skip


async def test_polls_keep_their_time_and_never_overlap(server: Server) -> None:
    """An answer that takes longer than `every_s` delays the next question, and what was missed is not made up for."""
    under_way, most, begun = 0, 0, []

    async def slowly(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal under_way, most
        begun.append(asyncio.get_running_loop().time())
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.5)
        under_way -= 1
        return web.Response(body=b'{"done": 3}')

    runner = web.ServerRunner(web.Server(slowly))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    source = counter_source(json_section(url, every_s=0.2, timeout_s=5), CLOCK)
    polling = asyncio.create_task(source.run())
    await until(lambda: len(begun) >= 4)
    polling.cancel()
    await asyncio.wait([polling])
    await runner.cleanup()
    assert most == 1
    assert all(after - before >= 0.49 for before, after in pairwise(begun))


async def test_many_sources_do_not_ask_at_one_instant(server: Server) -> None:
    """50 sources: over the first second, no tenth of it sees half of them."""
    server.says('{"done": 3}')
    begun: list[float] = []
    answer = server.answer

    def note() -> web.StreamResponse:
        begun.append(asyncio.get_running_loop().time())
        return answer()

    server.answer = note
    sections = tuple(json_section(f"{server.url}/{index}", every_s=60) for index in range(50))
    board = counter_board([WorkloadSection(name="many", counters=sections)], CLOCK)
    start_s = asyncio.get_running_loop().time()
    board.start()
    await until(lambda: len(begun) == 50)
    await board.stop()
    assert max(begun) - start_s < 5
    tenths = [int((moment - start_s) * 10) for moment in begun]
    assert max(tenths.count(tenth) for tenth in tenths) < 25
    assert {request.transport is None or request.transport.is_closing() for request in server.asked} == {True}


class Broken:
    """A reader with a bug."""

    name = "lines /x"

    def __init__(self) -> None:
        self.works = False
        self.asked = 0

    async def open(self) -> None:
        pass

    async def read(self) -> Told:
        self.asked += 1
        if not self.works:
            raise KeyError("a bug")
        return Told(tally=Tally(counts={"done": 1.0}, gauges={}))

    async def close(self) -> None:
        pass


async def test_a_bug_of_ours_costs_one_source_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    reader = Broken()
    source = Poll(reader, every_s=0.02, clock=CLOCK)
    polling = asyncio.create_task(source.run())
    await until(lambda: reader.asked > 3)
    assert source.trouble == "lines /x cannot be read because of an error in Flyball; see the supervisor's log"
    assert [level for level, _ in said(caplog)] == ["ERROR"]
    reader.works = True
    await until(lambda: source.latest)
    assert source.trouble == ""
    polling.cancel()
    await asyncio.wait([polling])


class Fixed:
    """A source that says what it was made with."""

    def __init__(self, latest: tuple[float, Tally] | None, trouble: str = "") -> None:
        self.name = "json http://box/"
        self.latest = latest
        self.trouble = trouble
        self.missing = ""
        self.ended = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True

    async def once(self) -> None:
        pass


class Now:
    """A clock that stands."""

    def wall(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 1000.0


TALLY = Tally(counts={"done": 3.0}, gauges={"pending": 1.0})


@pytest.mark.parametrize(
    ("latest", "trouble", "every_s", "age_s", "passed", "reason"),
    [
        (None, "", 1.0, None, False, "json http://box/: not read yet"),
        (None, "it is down", 1.0, None, False, "it is down"),
        ((999.5, TALLY), "", 1.0, 0.5, True, ""),
        ((990.0, TALLY), "it is down", 1.0, 10.0, True, "it is down"),
        ((989.9, TALLY), "it is down", 1.0, 10.1, False, "it is down"),
        ((989.9, TALLY), "", 1.0, 10.1, False,
         "json http://box/: nothing new for more than 10 s; raise every_s if that is the program's pace"),
        ((970.1, TALLY), "", 10.0, 29.9, True, ""),
        ((969.9, TALLY), "x" * 5000, 10.0, 30.1, False, "x" * 299 + "…"),
    ],
)  # fmt: skip
def test_old_figures_are_not_passed_on(
    latest: tuple[float, Tally] | None, trouble: str, every_s: float, age_s: float | None, passed: bool, reason: str
) -> None:
    source: CounterSource = Fixed(latest, trouble)
    (counted,) = Board([Entry(workload="search", source=source, every_s=every_s)], Now()).counted()
    assert (counted.workload, counted.source, counted.age_s) == ("search", "json http://box/", age_s)
    assert (counted.counts, counted.gauges) == ((TALLY.counts, TALLY.gauges) if passed else ({}, {}))
    assert counted.reason == reason


def test_what_is_missing_does_not_cost_the_rest() -> None:
    source = Fixed((999.5, TALLY), "one is missing")
    source.missing = "one is missing"
    (counted,) = Board([Entry(workload="search", source=source, every_s=1.0)], Now()).counted()
    assert (counted.counts, counted.reason, counted.missing) == (TALLY.counts, "", "one is missing")


async def test_some_of_the_figures_are_missing_until_they_are_there(server: Server) -> None:
    server.says('{"done": 3}')
    source = counter_source(json_section(server.url, every_s=0.2, gauges={"busy": "busy"}), CLOCK)
    polling = asyncio.create_task(source.run())
    await until(lambda: source.latest)
    sentence = f"json {server.url}: busy leads nowhere: the document has no busy, but done"
    assert (source.trouble, source.missing) == (sentence, sentence)
    server.says("")
    await until(lambda: "is not JSON" in source.trouble)
    assert source.missing == ""
    server.says('{"done": 3, "busy": 1}')
    await until(lambda: not source.trouble)
    assert source.missing == ""
    polling.cancel()
    await asyncio.wait([polling])


class Telling:
    """A reader that tells one after the other."""

    name = "lines /x"

    def __init__(self, *answers: Told | None) -> None:
        self._answers = iter(answers)

    async def open(self) -> None:
        pass

    async def read(self) -> Told | None:
        return next(self._answers)

    async def close(self) -> None:
        pass


async def test_what_is_missing_stays_said_while_nothing_new_comes(caplog: pytest.LogCaptureFixture) -> None:
    reader = Telling(Told(tally=TALLY, missing="two are left out"), None, None, Told(tally=TALLY), None)
    source = Poll(reader, every_s=1.0, clock=CLOCK)
    found = []
    for _ in range(5):
        await source.once()
        found.append(source.missing)
    assert found == ["two are left out"] * 3 + [""] * 2
    assert [level for level, _ in said(caplog)] == ["WARNING"]  # once


async def test_a_board_ends_what_it_began() -> None:
    sources = [Fixed(None) for _ in range(3)]
    before = asyncio.all_tasks()
    board = Board([Entry(workload="x", source=source, every_s=1.0) for source in sources], Now())
    board.start()
    await asyncio.sleep(0)
    await board.stop()
    assert [source.ended for source in sources] == [True] * 3
    assert asyncio.all_tasks() == before


async def test_a_source_that_cannot_be_stopped_is_left(caplog: pytest.LogCaptureFixture) -> None:
    release = asyncio.Event()

    class Stubborn(Fixed):
        async def run(self) -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

    board = Board([Entry(workload="x", source=Stubborn(None), every_s=1.0)], Now())
    board.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await board.stop()
    release.set()
    assert said(caplog) == [("ERROR", "counters json http://box/ did not end")]


async def test_once_asks_every_source(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b'{"type": "performance", "method_calls": {"add": 3}}\n')
    gone = [json_section(f"http://127.0.0.1:1/{index}") for index in range(20)]
    async with serving() as server:
        server.says('{"done": 3}')
        sections = (json_section(server.url), CounterSection(kind="lines", file=str(log)), *gone)
        board = counter_board([WorkloadSection(name="x", counters=sections)], CLOCK)
        async with asyncio.timeout(5):
            await board.once()
    first, second, *others = board.counted()
    assert (first.counts, second.counts) == ({"done": 3.0}, {"add": 3.0})
    assert {one.reason.partition(": ")[2] for one in others} == {
        "connection refused; is the program running, and does it listen there?"
    }


async def test_once_is_bounded_by_the_slowest() -> None:
    """Sources that say nothing are waited for side by side."""

    async def stare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with talking(stare) as url:
        sections = tuple(json_section(f"{url}/{index}", timeout_s=0.5) for index in range(20))
        board = counter_board([WorkloadSection(name="x", counters=sections)], CLOCK)
        async with asyncio.timeout(5):
            await board.once()
    assert all("no whole answer came within 0.5 s" in counted.reason for counted in board.counted())
