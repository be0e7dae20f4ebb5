"""Whose use counts for which reservation, and what that leaves."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.memory import capacity as rules
from handlers.memory.capacity import Capacity, Held, capacities, room
from handlers.memory.settings import MIB, Settings
from schemas.sample import Gpu, GpuProcess, Host, Process
from schemas.workload import Reservation, checked_name
from supervisor.sampling import matching
from tests.handlers.samples import GIB, sample

SETTINGS = Settings(memory_reserve_mb=0, ram_reserve_mb=0)


def one(name: str, size: int = GIB, since_s: float = 0.0, **fields: Any) -> Reservation:
    fields.setdefault("parts", {"gpu0": size})
    return Reservation(allocation_id=name, owner=fields.pop("owner", "o"), request=name, since_s=since_s, **fields)


def process(pid: int, workload: str = "", rss: int = 0, **fields: Any) -> Process:
    return Process(
        pid=pid, start_time_s=float(pid), workload=workload, rss_bytes=rss, rss_anon_bytes=fields.get("anon")
    )


def held(reservations: Sequence[Reservation], processes: Sequence[Process], use: dict[int, int | None]) -> Held:
    """Whose is what of the VRAM that these pids use."""
    gpu = Gpu(
        index=0, uuid="u", memory_total_bytes=GIB, memory_used_bytes=0,
        processes=tuple(GpuProcess(pid, size) for pid, size in use.items()),
    )  # fmt: skip
    (found,) = capacities(sample(1.0, [gpu], processes=processes), reservations, SETTINGS)
    return found.held


def measured(gpu: Gpu | None = None, figures: Host | None = None, **settings: Any) -> Capacity | None:
    """The one target of a sample."""
    given = Settings(**({"memory_reserve_mb": 0, "ram_reserve_mb": 0} | settings))
    found = capacities(sample(1.0, [gpu] if gpu else [], figures=figures), [], given)
    return found[0] if found else None


def test_the_use_of_a_process_counts_for_its_reservation() -> None:
    mine = one("a", pid=7, start_time_s=7.0)
    assert held([mine], [process(7)], {7: 10, 8: 20}) == {"a": 10}
    assert held([mine], [Process(pid=7, start_time_s=8.0)], {7: 10}) == {}, "another one has its pid by now"
    assert held([mine], [process(7)], {7: None}) == {}


def test_so_does_that_of_its_children_and_of_the_workload_that_owns_it() -> None:
    family = [process(7, "@a"), process(8, "@a"), process(9)]
    assert held([one("a", pid=7, start_time_s=7.0)], family, {7: 1, 8: 2, 9: 4}) == {"a": 3}
    joined = [process(7, "trainer"), process(8, "trainer"), process(9, "other")]
    assert held([one("a", pid=7, start_time_s=7.0)], joined, {7: 1, 8: 2, 9: 4}) == {"a": 3}
    assert held([one("a", owner="trainer")], joined, {7: 1, 8: 2, 9: 4}) == {"a": 3}
    assert held([one("a", owner="")], [process(9)], {9: 4}) == {}


def test_what_two_share_fills_the_older_one_first() -> None:
    older, newer = one("z", 10, since_s=1.0, owner="w"), one("a", 10, since_s=2.0, owner="w")
    assert held([newer, older], [process(7, "w")], {7: 15}) == {"z": 10, "a": 5}
    assert held([newer, older], [process(7, "w"), process(8, "w")], {7: 15, 8: 15}) == {"z": 10, "a": 20}


def test_a_reservation_of_something_else_holds_nothing_here() -> None:
    assert held([one("a", owner="w", parts={"gpu1": 1, "host": 1})], [process(7, "w")], {7: 15}) == {}


def test_ram_is_what_nobody_else_could_have() -> None:
    figures = Host(memory_total_bytes=GIB, memory_available_bytes=GIB)
    processes = [process(7, "w", rss=100, anon=60), process(8, "w", rss=30)]
    mine = one("a", owner="w", parts={"host": 1000})
    (found,) = capacities(sample(1.0, figures=figures, processes=processes), [mine], SETTINGS)
    assert found.held == {"a": 90}


def test_what_the_driver_keeps_is_no_part_of_the_limit() -> None:
    gpu = Gpu(index=3, uuid="u", memory_total_bytes=8 * GIB, memory_used_bytes=GIB, memory_reserved_bytes=GIB // 2)
    assert measured(gpu) == Capacity("gpu3", 8 * GIB - GIB // 2, 0, GIB, {})
    found = measured(gpu, memory_limit_mb=6144, memory_reserve_mb=512)
    assert found == Capacity("gpu3", 6 * GIB, 512 * MIB, GIB, {})
    found = measured(gpu, memory_limit_mb=100_000)
    assert found is not None and found.limit_bytes == 8 * GIB - GIB // 2


def test_a_card_that_does_not_tell_has_nothing_to_give() -> None:
    assert measured(Gpu(index=0, uuid="u", reading="blind", memory_total_bytes=1, memory_used_bytes=0)) is None
    assert measured(Gpu(index=0, uuid="u", memory_total_bytes=1)) is None
    assert measured(Gpu(index=0, uuid="u", memory_used_bytes=1)) is None


def test_ram_is_the_machines_or_our_cgroups_whichever_leaves_less() -> None:
    machine: dict[str, Any] = {"memory_total_bytes": 64 * GIB, "memory_available_bytes": 10 * GIB}
    assert measured(figures=Host(**machine)) == Capacity("host", 64 * GIB, 0, 54 * GIB, {})
    tight = Host(**machine, cgroup_memory_limit_bytes=8 * GIB, cgroup_memory_used_bytes=GIB)
    assert measured(figures=tight, ram_limit_mb=4096) == Capacity("host", 4 * GIB, 0, GIB, {})
    loose = Host(**machine, cgroup_memory_limit_bytes=32 * GIB, cgroup_memory_used_bytes=GIB)
    assert measured(figures=loose) == Capacity("host", 64 * GIB, 0, 54 * GIB, {})
    assert measured(figures=Host(memory_total_bytes=1)) is None


def test_what_is_left_counts_use_that_was_reserved_once() -> None:
    capacity = Capacity("gpu0", 100, 10, 50, {"a": 30, "b": 15})
    left = room(capacity, [one("a", 20), one("b", 20), one("c", 5, parts={"gpu1": 5})])
    assert (left.reserved_bytes, left.others_bytes, left.available_bytes) == (40, 15, 35)


sizes = st.integers(0, 50)


@given(
    use=st.dictionaries(st.integers(1, 5), sizes, max_size=5),
    parts=st.lists(sizes.filter(bool), max_size=4),
    names=st.lists(st.sampled_from(["", "w", "v"]), min_size=6, max_size=6),
    owners=st.lists(st.sampled_from(["w", "v"]), min_size=4, max_size=4),
)
def test_no_byte_is_counted_for_two(use: dict[int, int], parts: list[int], names: list[str], owners: list[str]) -> None:
    """All that claimed processes use is someone's, and no more; none overflows while another has less than its part."""
    reservations = [one(str(at), size, since_s=at, owner=owners[at]) for at, size in enumerate(parts)]
    processes = [process(pid, names[pid]) for pid in use]
    claimed = sum(size for pid, size in use.items() if any(each.owner == names[pid] for each in reservations))
    found = held(reservations, processes, {**use})
    assert sum(found.values()) == claimed
    for owner in ("w", "v"):
        mine = [each for each in reservations if each.owner == owner]
        if any(found.get(each.request, 0) > each.parts["gpu0"] for each in mine):
            assert all(found.get(each.request, 0) >= each.parts["gpu0"] for each in mine)


def test_the_mark_is_the_samplers_and_no_workloads_name() -> None:
    assert rules.MARK == matching.MARK
    with pytest.raises(ValueError):
        checked_name(f"{rules.MARK}a")
