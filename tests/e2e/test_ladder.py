"""The closed loop: a card gets hot, or full, while a real program runs that obeys; and what people see of it."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec
import pytest

from schemas.workload import Directive
from tests.daemon import Daemon
from tests.mocknvml.control import MockNvml
from tests.program import Program
from tests.shows import ladder
from tests.tools import require_tool

WAITS: Final = ladder.Waits(interval_s=0.2, cooldown_s=0.8, pause_s=2.4, measure_s=0.8)


@pytest.fixture
def daemon(state: Path, mock: MockNvml) -> Iterator[Daemon]:
    with Daemon(state, WAITS.config, environ=mock.environment()) as daemon:
        yield daemon


@pytest.fixture
def stage(daemon: Daemon, mock: MockNvml) -> Iterator[ladder.Stage]:
    with Program(daemon.workload_environ) as program:
        program.next_step()
        yield ladder.Stage(daemon, mock, program, WAITS, print)


def test_a_card_gets_hot_and_cools_down(stage: ladder.Stage) -> None:
    """At each state the directive, the program's rate and its acknowledgements; redis-cli shows pause and resume."""
    require_tool("redis-cli")
    daemon, socket = stage.daemon, stage.daemon.state / "bus.sock"
    with ladder.subscribed(socket, f"flyball:pause:{daemon.host}:gpu0") as heard:
        ladder.heat(stage)
    actions = [msgspec.json.decode(line, type=Directive).action for line in heard if line.startswith("{")]
    assert actions == ["pause", "throttle"], heard
    assert ladder.assert_acknowledged(daemon) == 9
    newest = ladder.newest_events(socket).splitlines()
    said = [after for line, after in pairwise(newest) if line == "text"]
    assert len(said) == 10
    assert any(line.startswith("gpu0 is OPTIMAL (was NORMAL): 45 °C") for line in said), said


def test_a_card_gets_full_and_empties(stage: ladder.Stage) -> None:
    """At each state as with heat; a pause that does not help ends with a cleanup."""
    stage.expect("OPTIMAL", "run", 1.0)
    ladder.fill(stage)
    ladder.assert_acknowledged(stage.daemon)
