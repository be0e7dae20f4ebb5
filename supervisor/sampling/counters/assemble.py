"""Makes the source that a `[[workload.counters]]` describes, and the board of all of them."""

from collections.abc import Sequence

from supervisor.clock import Clock
from supervisor.config import WorkloadSection
from supervisor.configuration.counters import CounterSection
from supervisor.sampling.counters.board import Board, Entry
from supervisor.sampling.counters.client import Client
from supervisor.sampling.counters.follow import LinesReader
from supervisor.sampling.counters.page import PageReader
from supervisor.sampling.counters.poll import Poll, Reader
from supervisor.sampling.counters.source import CounterSource


def counter_source(section: CounterSection, clock: Clock, client: Client | None = None) -> CounterSource:
    """The source, not yet started; `client` is shared with others, and without one it has its own."""
    reader: Reader = (
        LinesReader(section.file, timeout_s=section.timeout_s, wall=clock.wall)
        if section.kind == "lines"
        else PageReader(section, client or Client())
    )
    return Poll(reader, every_s=section.every_s, clock=clock)


def counter_board(workloads: Sequence[WorkloadSection], clock: Clock) -> Board:
    """All sources of the declared workloads, on one client."""
    client = Client()
    entries = [
        Entry(workload=workload.name, source=counter_source(section, clock, client), every_s=section.every_s)
        for workload in workloads
        for section in workload.counters
    ]
    return Board(entries, clock)
