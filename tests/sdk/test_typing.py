"""What a type checker sees; mypy reads the assertions, and they hold at run time as well."""

from collections.abc import AsyncIterator
from typing import Final, assert_type

import flyball
from flyball.pace import Pace

DIRECTIVE: Final = flyball.Directive(id="d1", seq=1, time="", host="box", target="gpu0", action="throttle", speed=0.5)


async def numbers() -> AsyncIterator[int]:
    """An asynchronous iterable."""
    for number in range(3):
        yield number


async def test_pace_keeps_the_type_of_its_items() -> None:
    workload = flyball.Workload("trainer", gpus=(0,), on_silence="run")
    assert_type(workload.pace(["a", "b"]), Pace[str])
    for batch in workload.pace(["a", "b"]):
        assert_type(batch, str)
    async for batch in workload.pace(["a", "b"]):
        assert_type(batch, str)
    assert_type(workload.pace(numbers()), AsyncIterator[int])
    assert [number async for number in workload.pace(numbers())] == [0, 1, 2]


def test_callbacks_keep_theirs() -> None:
    workload = flyball.Workload("trainer")

    @workload.on_change
    def changed(directive: flyball.Directive) -> str:
        return directive.reason

    @workload.on_cleanup
    def clean(level: flyball.Cleanup) -> int:
        return len(level)

    @workload.on_state("throttled")
    def slower(directive: flyball.Directive) -> float:
        return directive.speed

    assert_type(clean("soft"), int)
    assert_type(workload.on_state("paused", slower)(DIRECTIVE), float)
    assert_type(slower(DIRECTIVE), float)
    assert callable(changed)
    assert_type(workload.speed, float)
    assert_type(workload.paused, bool)
    assert_type(workload.directive, flyball.Directive | None)
    assert_type(workload.batch_size(64), int)
    with workload as entered:
        assert_type(entered, flyball.Workload)


async def test_a_reservation() -> None:
    with flyball.reserve("llm_model", vram_mb=2048, ram_mb=0.5, wait_s=0) as held:
        assert_type(held, flyball.Reservation)
        assert_type(held.granted, bool)
    async with flyball.reserve("llm_model", 2048) as held:
        assert_type(held.name, str)
    assert_type(flyball.available(), int | None)


def test_what_is_public() -> None:
    assert set(flyball.__all__) == {
        "Action", "Cleanup", "Directive", "LedgerAnswer", "MemoryUnavailable", "OnSilence", "Reservation", "State",
        "Workload", "__version__", "available", "reserve",
    }  # fmt: skip
    assert all(hasattr(flyball, name) for name in flyball.__all__)


def test_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert flyball.__version__ == version("flyball")
