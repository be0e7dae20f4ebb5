"""Who joined, who is gone, and what they said."""

import json
import os
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.workloads import policy
from handlers.workloads.handler import Workloads
from handlers.workloads.policy import Roster
from schemas.envelope import MalformedEntry
from schemas.event import EVENT_TYPES
from schemas.sample import Process
from schemas.status import WorkloadStatus
from schemas.workload import Acknowledgement, CleanupResult, Counters, Join, Leave
from supervisor.handler import Decisions, Declared, NoSettings
from tests.handlers.samples import HOST, context, event, sample, sampled

JOIN = Join(workload="trainer", pid=100, start_time_s=5.0, targets=("gpu0", "host"), priority=5)
ACK = Acknowledgement(workload="trainer", pid=100, directive="d", seq=7, target="gpu0", stage="applied", speed=0.5)
TYPES: dict[type[Any], str] = {
    Join: "flyball.workload.join",
    Leave: "flyball.workload.leave",
    Acknowledgement: "flyball.workload.acknowledge",
    Counters: "flyball.workload.count",
    CleanupResult: "flyball.workload.cleaned",
}


class Inbox:
    """A handler and what it is told."""

    def __init__(self, *declared: Declared) -> None:
        self.handler = Workloads(NoSettings(), declared)
        self.told = 0
        self.second = 10.0

    async def tell(self, message: Any, *, id: str = "", source: str = f"{HOST}/trainer") -> Decisions | None:
        self.told += 1
        entry = event(TYPES[type(message)], message, id=id or f"m{self.told}", source=source)
        return await self.handler.handle(entry, context(self.second, "inbox"))

    async def look(self, *processes: Process, **fields: Any) -> Decisions | None:
        self.second += 1
        one = sample(self.second, processes=processes, **fields)
        return await self.handler.handle(sampled(one), context(self.second))

    def status(self, name: str = "trainer") -> WorkloadStatus:
        shown = msgspec.convert(self.handler.view()["workloads"], tuple[WorkloadStatus, ...])
        return next(one for one in shown if one.name == name)


def texts(decisions: Decisions | None) -> list[str]:
    assert decisions is not None
    for draft in decisions.events:
        assert type(draft.data) is EVENT_TYPES[draft.type]
    return [draft.text for draft in decisions.events]


async def test_joining_is_an_event_a_record_and_an_entry_of_the_status() -> None:
    inbox = Inbox()
    decisions = await inbox.tell(JOIN, id="j")
    assert texts(decisions) == ["trainer (pid 100) joined, obeying gpu0, host"]
    assert decisions is not None and decisions.events[0].data.cause == "j"  # type: ignore[attr-defined]
    (record,) = decisions.records
    assert (record.kind, record.name) == ("workload", f"{HOST}:trainer")
    assert record.fields is not None and record.fields["pids"] == "[100]" and record.fields["state"] == "joined"
    assert inbox.status() == WorkloadStatus(
        name="trainer", state="joined", pids=(100,), targets=("gpu0", "host"), priority=5
    )
    assert inbox.handler.view()["registered"] == {100: (5.0, "trainer")}


async def test_a_message_that_comes_twice_counts_once() -> None:
    inbox = Inbox()
    await inbox.tell(JOIN)
    assert texts(await inbox.tell(ACK, id="a")) == ["trainer (pid 100) applied directive 7 for gpu0: speed 0.5"]
    assert await inbox.tell(ACK, id="a") is None


async def test_joining_again_with_nothing_new_is_no_event() -> None:
    inbox = Inbox()
    await inbox.tell(JOIN)
    assert await inbox.tell(JOIN) is None
    assert texts(await inbox.tell(msgspec.structs.replace(JOIN, targets=("gpu1",)))) != []


async def test_a_pid_that_is_another_process_by_now() -> None:
    inbox = Inbox()
    await inbox.tell(JOIN)
    assert texts(await inbox.tell(msgspec.structs.replace(JOIN, start_time_s=9.0))) == [
        "trainer (pid 100) left: another process has its pid",
        "trainer (pid 100) joined, obeying gpu0, host",
    ]


async def test_leaving_by_its_own_word() -> None:
    inbox = Inbox()
    await inbox.tell(JOIN)
    decisions = await inbox.tell(Leave(workload="trainer", pid=100, start_time_s=5.0, reason="done\nwith it"))
    assert texts(decisions) == ["trainer (pid 100) left: done with it"]
    assert decisions is not None and decisions.records[0].fields is None
    assert inbox.status().state == "left" and inbox.handler.view()["registered"] == {}
    assert await inbox.tell(Leave(workload="trainer", pid=100, start_time_s=5.0)) is None


async def test_a_process_that_vanished_has_left_after_three_full_samples() -> None:
    inbox = Inbox()
    await inbox.tell(JOIN)
    await inbox.look(Process(pid=100, start_time_s=5.0))
    assert await inbox.look() is None
    assert await inbox.look(scope="fast") is None
    assert await inbox.look(Process(pid=100, start_time_s=77.0)) is None
    decisions = await inbox.look()
    assert texts(decisions) == ["trainer (pid 100) left: its process ended"]


async def test_a_process_that_no_sample_ever_showed_leaves_only_by_long_silence() -> None:
    inbox = Inbox()
    await inbox.tell(JOIN)
    for _ in range(policy.SILENT_SAMPLES - 1):
        assert await inbox.look() is None
    await inbox.tell(ACK)
    for _ in range(policy.SILENT_SAMPLES - 1):
        assert await inbox.look() is None
    assert texts(await inbox.look()) == [
        "trainer (pid 100) left: its process is not on this host, and it has been silent"
    ]


async def test_a_reboot_ends_every_process() -> None:
    inbox = Inbox()
    await inbox.tell(JOIN)
    again = sample(3, processes=[Process(pid=100, start_time_s=5.0)], boot_id="another")
    decisions = await inbox.handler.handle(sampled(again), context(3, boot_id="another"))
    assert texts(decisions) == ["trainer (pid 100) left: the machine was restarted"]


async def test_what_two_processes_applied_is_what_both_reached() -> None:
    inbox = Inbox()
    await inbox.tell(JOIN)
    await inbox.tell(msgspec.structs.replace(JOIN, pid=101))
    await inbox.tell(ACK)
    await inbox.tell(msgspec.structs.replace(ACK, pid=101, seq=6))
    await inbox.tell(msgspec.structs.replace(ACK, pid=101, seq=8, stage="accepted"))
    assert (inbox.status().pids, inbox.status().applied) == ((100, 101), {"gpu0": 6})


async def test_counters_are_kept_and_are_no_events() -> None:
    inbox = Inbox()
    assert await inbox.tell(Counters(workload="trainer", pid=100, start_time_s=5.0, counts={"a": 1})) is None
    await inbox.tell(JOIN)
    decisions = await inbox.tell(Counters(workload="trainer", pid=100, start_time_s=5.0, counts={"batches": 12}))
    assert decisions is not None and not decisions.events
    assert decisions.records[0].fields is not None and decisions.records[0].fields["counts"] == '{"batches":12.0}'
    assert inbox.status().counts == {"batches": 12}


async def test_a_cleanup_that_failed_says_so() -> None:
    inbox = Inbox()
    result = CleanupResult(
        workload="trainer", pid=100, directive="d", cleanup="soft", freed_bytes=2**30, ok=True, text=""
    )
    assert texts(await inbox.tell(result)) == ["trainer (pid 100) freed 1024 MiB in a soft cleanup"]
    failed = msgspec.structs.replace(result, ok=False, text="no\ncache")
    assert texts(await inbox.tell(failed)) == ["trainer (pid 100) failed at a soft cleanup: no cache"]


async def test_declared_workloads_are_absent_matched_or_joined() -> None:
    inbox = Inbox(Declared(name="trainer", targets=("gpu1",), priority=3, may=("throttle", "kill")))
    assert inbox.status() == WorkloadStatus(
        name="trainer", state="absent", targets=("gpu1",), priority=3, declared=True, may=("throttle", "kill")
    )
    await inbox.look(Process(pid=7, start_time_s=1.0, workload="trainer"), Process(pid=8, start_time_s=1.0))
    assert (inbox.status().state, inbox.status().pids) == ("matched", (7,))
    await inbox.tell(JOIN)
    assert (inbox.status().state, inbox.status().pids, inbox.status().priority) == ("joined", (100, 7), 3)


async def test_what_other_hosts_workloads_say_is_not_ours() -> None:
    inbox = Inbox()
    assert await inbox.tell(JOIN, source="other/trainer") is None
    assert inbox.handler.view()["registered"] == {}


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("flyball.workload.explode", {}),
        ("flyball.workload.join", {"workload": "a b", "pid": 1, "start_time_s": 1, "targets": []}),
        ("flyball.workload.count", {"workload": "t", "pid": 1, "start_time_s": 1, "counts": {"x" * 70_000: 1}}),
    ],
)
async def test_what_no_schema_accepts_is_malformed(type: str, data: dict[str, Any]) -> None:
    with pytest.raises(MalformedEntry):
        await Inbox().handler.handle(event(type, data), context(0, "inbox"))


@pytest.mark.parametrize(
    ("type", "data"),
    [
        ("flyball.workload.join", {"workload": "t", "pid": 1, "start_time_s": 1.7e308, "targets": []}),
        ("flyball.workload.join", {"workload": "t", "pid": 2**31 + 1, "start_time_s": 1, "targets": []}),
        ("flyball.workload.join", {"workload": "t", "pid": 1, "start_time_s": 1, "targets": [], "priority": 10**30}),
        ("flyball.workload.join", {"workload": "t", "pid": 1, "start_time_s": 1, "targets": [], "priority": -(10**30)}),
        ("flyball.workload.count", {"workload": "t", "pid": 1, "start_time_s": 1, "counts": {"x": 1.7e308}}),
        (
            "flyball.workload.acknowledge",
            {
                "workload": "t", "pid": 1, "directive": "d", "seq": 2**64, "target": "host", "stage": "applied",
                "speed": 1,
            },
        ),
        (
            "flyball.workload.cleaned",
            {"workload": "t", "pid": 1, "directive": "d", "cleanup": "soft", "freed_bytes": 10**400, "ok": True},
        ),
    ],
)  # fmt: skip
async def test_a_number_that_nothing_can_hold_is_malformed(type: str, data: dict[str, Any]) -> None:
    body = json.dumps(data).encode()  # any integer, which msgspec would not write
    entry = msgspec.structs.replace(event(type, None), data=body)
    with pytest.raises(MalformedEntry):
        await Inbox().handler.handle(entry, context(0, "inbox"))


NUMBERS = st.sampled_from(
    [0, 1, -1, 2**31, 2**31 + 1, 2**53, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30, 10**400, 10**15,
     -(10**15), 1e12, 1e15, -1e15, 1.7e308, -1.7e308, 5e-324]
) | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)  # fmt: skip
PLAUSIBLE = {
    "flyball.workload.join": st.fixed_dictionaries(
        {"pid": NUMBERS | st.just(100), "start_time_s": NUMBERS | st.just(5.0), "targets": st.just(["gpu0"])},
        optional={"priority": NUMBERS},
    ),
    "flyball.workload.count": st.fixed_dictionaries(
        {
            "pid": NUMBERS | st.just(100),
            "start_time_s": NUMBERS,
            "counts": st.dictionaries(st.sampled_from("ab"), NUMBERS),
        }
    ),
    "flyball.workload.acknowledge": st.fixed_dictionaries(
        {
            "pid": NUMBERS | st.just(100), "seq": NUMBERS, "speed": NUMBERS, "directive": st.just("d"),
            "target": st.just("gpu0"), "stage": st.just("applied"),
        }
    ),
    "flyball.workload.cleaned": st.fixed_dictionaries(
        {
            "pid": NUMBERS | st.just(100), "freed_bytes": NUMBERS, "directive": st.just("d"),
            "cleanup": st.just("soft"), "ok": st.booleans(),
        }
    ),
    "flyball.workload.leave": st.fixed_dictionaries({"pid": NUMBERS | st.just(100), "start_time_s": NUMBERS}),
}  # fmt: skip
MESSAGES = st.one_of([st.tuples(st.just(type), data) for type, data in PLAUSIBLE.items()])


@settings(max_examples=int(os.environ.get("FLYBALL_FUZZ_EXAMPLES", "1000")) // 5, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=12))
async def test_no_number_gets_further_than_the_schema(messages: list[tuple[str, dict[str, Any]]]) -> None:
    """Whatever is said: taken in or malformed, and then the status can be read and the snapshot taken up."""
    inbox = Inbox()
    await inbox.tell(JOIN)
    await inbox.tell(msgspec.structs.replace(JOIN, pid=101))
    for at, (type, data) in enumerate(messages):
        body = json.dumps({"workload": "trainer", **data}).encode()
        entry = msgspec.structs.replace(event(type, None, id=f"x{at}"), data=body)
        try:
            decisions = await inbox.handler.handle(entry, context(at, "inbox"))
        except MalformedEntry:
            continue
        for draft in () if decisions is None else decisions.events:
            msgspec.json.decode(msgspec.json.encode(draft.data), type=EVENT_TYPES[draft.type])
    view = inbox.handler.view()
    msgspec.json.decode(msgspec.json.encode(view["workloads"]), type=tuple[WorkloadStatus, ...])
    again = Inbox()
    again.handler.restore(inbox.handler.snapshot())
    assert again.handler.view() == view


async def test_counts_that_add_up_past_the_largest_are_still_a_status() -> None:
    inbox = Inbox()
    for pid in (100, 101):
        await inbox.tell(msgspec.structs.replace(JOIN, pid=pid))
        await inbox.tell(Counters(workload="trainer", pid=pid, start_time_s=5.0, counts={"a": 10**15, "b": -(10**15)}))
    assert inbox.status().counts == {"a": 1e15, "b": -1e15}


async def test_processes_that_could_not_be_read_have_not_ended() -> None:
    inbox = Inbox()
    await inbox.tell(JOIN)
    await inbox.look(Process(pid=100, start_time_s=5.0))
    for _ in range(policy.GONE_SAMPLES):
        assert await inbox.look(unread=("processes",)) is None
    assert inbox.status().state == "joined"


async def test_the_roster_is_bounded() -> None:
    inbox = Inbox()
    for pid in range(policy.LARGEST):
        await inbox.tell(msgspec.structs.replace(JOIN, pid=pid))
    with pytest.raises(MalformedEntry):
        await inbox.tell(msgspec.structs.replace(JOIN, pid=policy.LARGEST))


async def test_the_roster_survives_a_restart() -> None:
    before, after = Inbox(), Inbox()
    await before.tell(JOIN, id="j")
    after.handler.restore(before.handler.snapshot())
    assert after.handler.view() == before.handler.view()
    assert await after.tell(ACK, id="j") is None  # its id was heard


POISONED = Roster(
    members=[
        policy.Member(workload="t", pid=1, start_time_s=1.7e308, boot_id="b", targets=(), priority=5, on_silence="hold")
    ]
)


@pytest.mark.parametrize("stored", [b"", b"\xff", b"\x01", *map(msgspec.msgpack.encode, [Roster(version=2), POISONED])])
def test_an_unusable_snapshot_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError):
        Inbox().handler.restore(stored)


def test_a_reason_is_one_line_of_bounded_length() -> None:
    assert policy.one_line("a\n\x0b b " + "c" * 400) == "a b " + "c" * 196
