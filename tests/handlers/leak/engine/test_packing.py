"""A snapshot: taken at any moment it goes on as if it had never been taken, and a damaged one is refused."""

import random
import struct

import msgspec
import pytest

from handlers.leak.policy import VERSION, Subject
from handlers.leak.settings import Settings
from tests.handlers.leak.engine.programs import MIB, Life, Observed, Program, calling, live, memory, since


@pytest.fixture(scope="module")
def packed() -> bytes:
    return live(calling(begin=200, chance_of_call=0.4, seed=1, pool=8), 700).subject.pack()


def kept(life: Life) -> bytes:
    """All that is known, with whole numbers written as a snapshot's reader writes them."""
    return Subject.unpack(life.subject.pack(), Settings()).pack()


@pytest.mark.parametrize("seed", range(4))
def test_packed_at_any_moment(seed: int) -> None:
    """Everything that is told afterwards is the same, to the bit."""
    chance = random.Random(seed)
    one, other = calling(begin=250, chance_of_call=0.4, seed=seed), calling(begin=250, chance_of_call=0.4, seed=seed)
    never, often = Life(), Life()
    for _ in range(30):
        samples = chance.randrange(1, 90)
        never.feed(one, samples)
        often.feed(other, samples)
        assert kept(never) == kept(often)
        often.subject = Subject.unpack(often.subject.pack(), Settings())
        assert often.subject.verdicts == never.subject.verdicts
    assert often.changes == never.changes
    assert never.alarms(), "there was something to tell"


def test_packed_before_and_after_each_sample_of_a_longer_life() -> None:
    """Over the moments at which blocks are merged and the grids of hours and of the life begin."""
    program: Program = lambda i: Observed({"rss": (100 + 0.01 * since(i, 3000)) * MIB + i % 7})  # noqa: E731
    never = live(program, 1000)
    often = Life(Subject.unpack(never.subject.pack(), Settings()))
    often.samples = never.samples
    for _ in range(400):
        never.feed(program, 1)
        often.feed(program, 1)
        often.subject = Subject.unpack(often.subject.pack(), Settings())
    never.feed(program, 18_000)
    often.feed(program, 18_000)
    assert kept(often) == kept(never)


def test_a_restart_in_a_leak_delays_nothing() -> None:
    program = memory(lambda i: 100 + 0.3 * since(i, 400), noise=0)
    found = live(program, 1200).first("confirmed")
    life = live(program, 480)
    life.subject = Subject.unpack(life.subject.pack(), Settings())
    assert life.feed(program, 720).first("confirmed") == found is not None


def _damaged(packed: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(packed)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(damaged)) if chance.random() < 0.5 else chance.randrange(min(400, len(damaged)))
        match chance.randrange(4):
            case 0:
                damaged[at] = chance.randrange(256)
            case 1:
                damaged[at] ^= 1 << chance.randrange(8)
            case 2:
                del damaged[at : at + chance.randrange(1, 9)]
            case _:
                damaged[at:at] = chance.randbytes(chance.randrange(1, 5))
    return bytes(damaged)


def test_damaged_snapshots_are_refused_or_go_on(packed: bytes) -> None:
    """ValueError and nothing else."""
    chance = random.Random(1)
    refused = 0
    for _ in range(4000):
        try:
            subject = Subject.unpack(_damaged(packed, chance), Settings())
        except ValueError:
            refused += 1
        else:
            subject.observe(1e15, {"threads": 5}, {}, {})
            subject.pack()
    assert 2000 < refused < 4000


def test_cut_snapshots_are_refused(packed: bytes) -> None:
    for length in range(0, len(packed), 13):
        with pytest.raises(ValueError, match="not a subject"):
            Subject.unpack(packed[:length], Settings())


@pytest.mark.parametrize("nonsense", [b"", b"\xc1", b"\x80", b"{}", b"\x90", b"\xff" * 64, b"\xa3abc"])
def test_nonsense_is_refused(nonsense: bytes) -> None:
    with pytest.raises(ValueError, match="not a subject"):
        Subject.unpack(nonsense, Settings())


def test_what_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(ValueError, match="subject"):
        Subject.unpack(b"\x81\xa1x" + b"\x91" * 100_000, Settings())


def _with(packed: bytes, **fields: object) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.decode(packed) | fields)


def test_another_version_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="version"):
        Subject.unpack(_with(packed, version=VERSION + 1), Settings())


@pytest.mark.parametrize(
    "fields",
    [
        {"grids": []},
        {"last_s": float("nan")},
        {"counted": {"X": "many"}},
    ],
)
def test_parts_that_cannot_be_are_refused(packed: bytes, fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="subject"):
        Subject.unpack(_with(packed, **fields), Settings())


def test_blocks_whose_times_stand_still_are_refused(packed: bytes) -> None:
    state = msgspec.msgpack.decode(packed)
    grid = state["grids"][-1]
    grid[2] = grid[3] = grid[2][:8] * (len(grid[2]) // 8)
    with pytest.raises(ValueError, match="times"):
        Subject.unpack(msgspec.msgpack.encode(state), Settings())


def test_blocks_with_numbers_that_cannot_be_are_refused_or_go_on(packed: bytes) -> None:
    state = msgspec.msgpack.decode(packed)
    column = state["grids"][-1][6]["threads"]
    column[0] = struct.pack("=d", -1e300) + column[0][8:]
    column[1] = column[0]
    try:
        subject = Subject.unpack(msgspec.msgpack.encode(state), Settings())
    except ValueError:
        return
    for i in range(200):
        subject.observe(5000.0 + i, {"threads": 300 + i}, {"X": 900 + i, "Y": i}, {})
