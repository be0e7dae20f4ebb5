"""A card whose memory leaks is told with the time that is left, long before that is over."""

import random

import pytest

from handlers.leak.policy import Subject
from schemas.sample import Gpu, GpuProcess
from tests.handlers.leak.scripted import MIB, Fed, process, reports
from tests.handlers.samples import GIB

CARD_BYTES = 80 * GIB
BEGIN_BYTES = 20 * GIB


def _card(used_bytes: int, pid: int | None) -> Gpu:
    processes = () if pid is None else (GpuProcess(pid, used_bytes - GIB),)
    return Gpu(
        index=0, uuid="GPU-0", memory_total_bytes=CARD_BYTES, memory_used_bytes=used_bytes, processes=processes
    )  # fmt: skip


@pytest.mark.parametrize("owned", [True, False])
@pytest.mark.parametrize(("per_s", "within_s"), [(50.0 * MIB, 300), (5.0 * MIB / 60, 3600)])
def test_a_leak_is_forecast_before_the_card_is_full(per_s: float, within_s: int, owned: bool) -> None:
    """A step of a training that allocates and frees runs above the leak; it begins after a calm of two minutes."""
    fed = Fed(subject=Subject)
    own = process()
    chance = random.Random(3)
    for second in range(120 + within_s):
        leaked = int(per_s * max(0, second - 120))
        used_bytes = BEGIN_BYTES + leaked + int(chance.random() * 2 * MIB)
        said = fed.see(1000.0 + second, own, gpus=[_card(used_bytes, own.pid if owned else None)])
        told = [report for report in reports(said) if report.resource == "vram" and report.stage == "confirmed"]
        if told:
            break
    else:
        pytest.fail("it was not found")
    (one,) = told
    assert one.forecast is not None
    assert one.forecast.limit == "gpu"
    p10_s, p50_s, p90_s = one.forecast.p10_s, one.forecast.p50_s, one.forecast.p90_s
    assert p10_s is not None and p50_s is not None and p90_s is not None
    assert p10_s <= p50_s <= p90_s
    left_s = (CARD_BYTES - used_bytes) / per_s
    assert p50_s == pytest.approx(left_s, rel=0.15)
    assert one.severity == ("critical" if left_s < 3600 else "warning")
    assert one.gpu == ("" if owned else "gpu0")
