"""What is said of a card: figures only while they are fresh, and never a green state of what nobody knows."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest

from schemas.demand import Demand
from schemas.sample import Gpu, GpuBackend, Sample
from schemas.status import TargetStatus
from schemas.workload import Directive
from supervisor.api import gpu
from supervisor.route import Asked, GpuQuery, Refusal, Route

NOW_S: Final = 100.0
CARD: Final = Gpu(
    index=0, uuid="GPU-0", name="H100", pci_bus_id="00000000:01:00.0", temperature_celsius=61.0,
    memory_total_bytes=1000, memory_used_bytes=333, power_watts=300.0, throttle_reasons=("sw_thermal",),
)  # fmt: skip
FIGURES: Final = {
    "temperature_celsius": 61.0, "memory_total_bytes": 1000, "memory_used_bytes": 333, "memory_free_bytes": 667,
    "memory_used_ratio": 0.333, "power_watts": 300.0, "throttle_reasons": ["sw_thermal"],
}  # fmt: skip
DIRECTIVE: Final = Directive(
    id="d", seq=7, time="2026-11-21T12:00:00Z", host="box", target="gpu0", action="throttle", speed=0.5, cleanup="soft",
    reason="THROTTLED: hot",
)  # fmt: skip
ORDER: Final = TargetStatus(
    target="gpu0", state="THROTTLED", action="throttle", speed=0.5, reason="THROTTLED since noon", seq=7
)


def sample(*gpus: Gpu, age_s: float = 0.5, **fields: Any) -> Sample:
    return Sample(
        host="box", boot_id="0123456789", tick=5, time="2026-11-21T12:00:00Z", monotonic_s=NOW_S - age_s,
        interval_s=1.0, gpus=gpus, **fields,
    )  # fmt: skip


class Targets:
    """What stands, as the test has it."""

    def __init__(self, order: TargetStatus | None = ORDER, directive: Directive | None = DIRECTIVE) -> None:
        self.order, self.standing = order, directive

    def of(self, target: str) -> TargetStatus | None:
        return self.order if target == "gpu0" else None

    def directive(self, target: str) -> Directive | None:
        return self.standing if target == "gpu0" else None

    def demands(self, target: str) -> Sequence[Demand]:
        return [Demand(issuer="throttle", target="gpu0", action="throttle", speed=0.5, reason="hot")]


def ask(path: str, latest: Sample | None, targets: Targets | None = None, gpu_id: str = "0") -> dict[str, Any]:
    """The answer as JSON has it."""
    routes: dict[str, Route] = {route.path: route for route in gpu.routes(targets or Targets(), lambda: NOW_S)}
    route = routes[path]
    query = GpuQuery(gpu_id=gpu_id) if route.query is GpuQuery else route.query()
    answer = route.call(Asked(query=query, latest=latest))
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
    assert msgspec.convert(document, route.answer) == answer
    return document


def test_a_fresh_card_has_its_figures_and_its_order() -> None:
    assert ask("/api/gpu/status", sample(CARD)) == {
        "target": "gpu0", "index": 0, "uuid": "GPU-0", "name": "H100", "pci_bus_id": "00000000:01:00.0",
        "simulated": False, "sample_id": "box/01234567/5", "time": "2026-11-21T12:00:00Z", "sample_age_s": 0.5,
        "reading": "fresh", "state": "THROTTLED", "why": "THROTTLED since noon", "is_throttled": True,
        "action": "throttle", "speed": 0.5, "seq": 7, "reason": "THROTTLED: hot", **FIGURES,
    }  # fmt: skip


def test_a_figure_that_is_unknown_is_not_there() -> None:
    bare = Gpu(index=0, uuid="GPU-0", memory_used_bytes=5)
    assert FIGURES.keys() & ask("/api/gpu/status", sample(bare)).keys() == {"memory_used_bytes"}


@pytest.mark.parametrize(
    ("latest", "why"),
    [
        (sample(msgspec.structs.replace(CARD, reading="blind", reason="no answer within 0.25 s")), "no answer within"),
        (sample(msgspec.structs.replace(CARD, reading="lost", reason="GPU is lost")), "GPU is lost"),
        (sample(CARD, age_s=3.1), "the last sample is 3.1 s old"),
    ],
    ids=["hung", "lost", "old"],
)
@pytest.mark.parametrize(
    "order", [ORDER, None, msgspec.structs.replace(ORDER, state="OPTIMAL", action="run", speed=1.0)]
)
def test_what_was_not_read_is_blind_and_has_no_figures(latest: Sample, why: str, order: TargetStatus | None) -> None:
    """Even where the judgement of before still says OPTIMAL, or nobody has judged at all."""
    status = ask("/api/gpu/status", latest, Targets(order))
    assert (status["state"], status["reading"] != "fresh") == ("BLIND", True)
    assert why in status["why"]
    assert not FIGURES.keys() & status.keys()
    assert ask("/api/gpu/throttle/status", latest, Targets(order))["state"] == "BLIND"
    card = ask("/api/gpu/metrics", latest)["gpu"]
    if latest.gpus[0].reading == "fresh":
        assert card == {
            "index": 0, "uuid": "GPU-0", "name": "H100", "pci_bus_id": "00000000:01:00.0", "reading": "blind",
            "reason": why,
        }  # fmt: skip


def test_who_says_blind_says_why() -> None:
    order = msgspec.structs.replace(ORDER, state="BLIND", reason="BLIND since noon: the driver hangs")
    assert ask("/api/gpu/status", sample(CARD, age_s=9), Targets(order))["why"] == "BLIND since noon: the driver hangs"


def test_what_nobody_has_judged_has_no_state() -> None:
    status = ask("/api/gpu/status", sample(CARD), Targets(None, None))
    assert (status["state"], status["why"]) == (None, "nobody has judged it yet")
    assert (status["action"], status["speed"], status["is_throttled"], status["seq"]) == ("run", 1.0, False, 0)


def test_all_cards_and_none() -> None:
    both = ask("/api/gpu/status/all", sample(CARD, msgspec.structs.replace(CARD, index=1, uuid="GPU-1")))
    assert [(one["target"], one["state"]) for one in both["gpus"]] == [("gpu0", "THROTTLED"), ("gpu1", None)]
    backend = GpuBackend("unavailable", "nvml_library_not_found", "install the driver")
    none = ask("/api/gpu/status/all", sample(gpu_backend=backend))
    assert (none["gpus"], none["gpu_backend"]["reason"]) == ([], "nvml_library_not_found")


def test_without_a_card_it_is_said_why_there_is_none() -> None:
    backend = GpuBackend("unavailable", "nvml_library_not_found", "install the driver")
    with pytest.raises(Refusal) as raised:
        ask("/api/gpu/status", sample(gpu_backend=backend))
    assert raised.value.status == 404
    assert "GPUs cannot be read (nvml_library_not_found): install the driver" in raised.value.detail


@pytest.mark.parametrize("path", [route.path for route in gpu.routes(Targets(), lambda: NOW_S)])
def test_before_the_first_sample_nothing_is_known(path: str) -> None:
    with pytest.raises(Refusal) as raised:
        ask(path, None)
    assert raised.value.status == 503


def test_throttling_says_who_wants_what_and_since_when() -> None:
    assert ask("/api/gpu/throttle/status", sample(CARD)) == {
        "target": "gpu0", "should_throttle": True, "speed": 0.5, "action": "throttle", "cleanup": "soft",
        "state": "THROTTLED", "why": "THROTTLED since noon", "reason": "THROTTLED: hot",
        "since": "2026-11-21T12:00:00Z", "seq": 7, "override": None,
        "demands": [{"issuer": "throttle", "action": "throttle", "speed": 0.5, "cleanup": "none", "reason": "hot"}],
    }  # fmt: skip


def test_metrics_are_all_that_was_read() -> None:
    answer = ask("/api/gpu/metrics", sample(CARD, age_s=2))
    assert answer["gpu"] == msgspec.to_builtins(CARD) | {"throttle_reasons": ["sw_thermal"]}
    assert (answer["sample_age_s"], answer["interval_s"], answer["simulated"]) == (2.0, 1.0, False)
