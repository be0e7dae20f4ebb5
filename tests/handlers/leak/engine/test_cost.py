"""What a sample costs, printed (`-s`), and that a long look does not come with each of them."""

import time

import pytest

from tests.handlers.leak.engine.programs import MIB, Life, Observed, Program, calling, since

SAMPLES = 6000


def flat(i: int) -> Observed:
    return Observed(
        {"rss": (200 + i % 7) * MIB, "vms": 900 * MIB, "threads": 12, "handles": 40 + i % 3}, {"X": i // 3, "Y": i // 7}
    )


def leaking(i: int) -> Observed:
    kept = since(i, 500) // 3
    return Observed(
        {"rss": (200 + kept * 0.3 + i % 7) * MIB, "vms": (900 + 8 * kept) * MIB, "threads": 12 + kept,
         "handles": 40 + kept + i % 3},
        {"X": kept, "Y": i // 7},
    )  # fmt: skip


@pytest.mark.parametrize("program", [flat, leaking, calling(begin=10**9, chance_of_call=0, seed=0)])
def test_what_a_sample_costs(program: Program, request: pytest.FixtureRequest) -> None:
    observed = [program(i) for i in range(SAMPLES)]
    begin = time.process_time()
    life = Life().feed(lambda i: observed[i], SAMPLES)
    took = (time.process_time() - begin) / SAMPLES * 1e6
    series = len(observed[0].levels)
    print(f"\n{request.node.name}: {took:.1f} µs a sample, {took / series:.1f} a series, {series} resources")
    assert set(life.subject.verdicts) == set(observed[0].levels)
