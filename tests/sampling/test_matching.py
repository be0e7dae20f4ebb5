"""Which workload a process belongs to, decided without any process."""

import os
from pathlib import Path

from supervisor.config import Match, WorkloadSection
from supervisor.sampling.matching import Kin, Pidfile, Traits, belong, declarations, read_pidfile, register

TRAINER = Traits(user="ml", cgroup="/ml.slice/train.service", cmdline="python train.py --big")


def holds(match: Match, traits: Traits = TRAINER, *, in_pidfile: bool = False) -> bool:
    return any(
        declaration.holds(traits, in_pidfile=in_pidfile)
        for declaration in declarations([WorkloadSection(name="trainer", match=match)])
    )


def test_each_condition_by_itself() -> None:
    assert holds(Match(user="ml"))
    assert not holds(Match(user="root"))
    assert holds(Match(cmdline=r"train\.py.*--big"))
    assert not holds(Match(cmdline=r"^train"))
    assert holds(Match(pidfile="/run/x.pid"), in_pidfile=True)
    assert not holds(Match(pidfile="/run/x.pid"), in_pidfile=False)


def test_a_cgroup_matches_itself_and_what_is_below_it() -> None:
    assert holds(Match(cgroup="/ml.slice/train.service"))
    assert holds(Match(cgroup="ml.slice"))
    assert holds(Match(cgroup="/ml.slice/"))
    assert not holds(Match(cgroup="/ml.slice/train"))  # a name that merely begins so
    assert not holds(Match(cgroup="/ml.slice/train.service/child"))


def test_all_given_conditions_must_hold() -> None:
    assert holds(Match(user="ml", cmdline="train", cgroup="/ml.slice"))
    assert not holds(Match(user="ml", cmdline="serve"))
    assert not holds(Match(user="ml", pidfile="/run/x.pid"))


def test_a_declaration_without_conditions_matches_nothing() -> None:
    assert not holds(Match(), in_pidfile=True)


NAMES = {"trainer", "launcher"}


def family(*kin: Kin) -> dict[int, Kin]:
    return {each.pid: each for each in kin}


def test_children_belong_to_the_workload_of_their_parent() -> None:
    known = family(Kin(30, 300, 20), Kin(10, 100, 1), Kin(20, 200, 10), Kin(40, 100, 1))
    belong(known.values(), {10: "trainer"}, known, NAMES)
    assert {pid: kin.workload for pid, kin in known.items()} == {10: "trainer", 20: "trainer", 30: "trainer", 40: ""}


def test_a_child_that_is_matched_by_itself_keeps_its_own_name() -> None:
    known = family(Kin(10, 100, 1), Kin(20, 200, 10), Kin(30, 300, 20))
    belong(known.values(), {10: "launcher", 20: "trainer"}, known, NAMES)
    assert [known[pid].workload for pid in (10, 20, 30)] == ["launcher", "trainer", "trainer"]


def test_an_orphan_still_belongs() -> None:
    known = family(Kin(10, 100, 1), Kin(20, 200, 10))
    belong(known.values(), {10: "trainer"}, known, NAMES)
    del known[10]
    belong(known.values(), {}, known, NAMES)
    assert known[20].workload == "trainer"


def test_a_parents_pid_that_another_process_has_now_gives_nothing() -> None:
    known = family(Kin(10, 900, 1), Kin(20, 200, 10))
    belong(known.values(), {10: "trainer"}, known, NAMES)
    assert known[20].workload == ""


def test_what_belonged_to_a_workload_that_is_no_more_is_free() -> None:
    known = family(Kin(10, 100, 1), Kin(20, 200, 10))
    belong(known.values(), {10: "trainer"}, known, NAMES)
    belong(known.values(), {}, known, {"launcher"})
    assert [kin.workload for kin in known.values()] == ["", ""]


def test_a_mark_gives_way_to_every_workload() -> None:
    """A process with a reservation is looked at with its children, and stays a part of what it is a part of."""
    known = family(Kin(10, 100, 1), Kin(20, 200, 10), Kin(30, 300, 1), Kin(40, 400, 30), Kin(50, 500, 40))
    names = NAMES | {"@a", "@b", "@c"}
    roots = {10: "trainer", 20: "@a", 30: "@b", 40: "@c"}
    belong(known.values(), roots, known, names)
    assert [kin.workload for kin in known.values()] == ["trainer", "trainer", "@b", "@c", "@c"]
    belong(known.values(), roots | {30: "launcher"}, known, names)
    assert [kin.workload for kin in known.values()] == ["trainer", "trainer", "launcher", "launcher", "launcher"]


def test_a_mark_stays_with_a_child_whose_parent_is_gone() -> None:
    known = family(Kin(10, 100, 1), Kin(20, 200, 10))
    belong(known.values(), {10: "@a"}, known, {"@a"})
    del known[10]
    belong(known.values(), {}, known, {"@a"})
    assert known[20].workload == "@a"
    belong(known.values(), {}, known, NAMES)
    assert known[20].workload == ""


def test_a_process_registers_over_its_declaration_and_a_mark_below_it() -> None:
    roots = {10: "trainer"}
    for pid, name in ((10, "@a"), (20, "@a"), (30, "@b"), (30, "launcher")):
        register(roots, pid, name, {"trainer"})
    assert roots == {10: "trainer", 20: "@a", 30: "launcher"}
    register(roots, 10, "launcher", {"trainer"})
    assert roots[10] == "launcher"
    register(roots, 40, "trainer", {"trainer"})
    assert 40 not in roots


def test_pidfiles(tmp_path: Path) -> None:
    path = tmp_path / "x.pid"
    assert read_pidfile(path) is None
    path.write_text("nonsense\n")
    assert read_pidfile(path) is None
    path.write_text(" 812 \nsecond line\n")
    os.utime(path, (5, 5))
    assert read_pidfile(path) == Pidfile(812, 5.0)
