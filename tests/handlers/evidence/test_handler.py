"""Who may have a process looked at, and which answers from inside count; mostly the process looked at is our own."""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.evidence.handler import EvidenceDesk
from handlers.evidence.policy import ASKED_MOST
from handlers.evidence.settings import Settings
from schemas.command import Command
from schemas.envelope import MalformedEntry
from schemas.event import EvidenceGathered
from schemas.workload import Allocated, Ask, Growing, InnerEvidence
from supervisor.clock import rfc3339
from supervisor.handler import Decisions, Draft
from tests.handlers.evidence.hoarder import Hoarder, start_time_s
from tests.handlers.samples import HOST, WALL_S, context, event

ME = os.getpid()
LINE = Allocated(where="~/train.py:12", size_bytes=3 << 20, count=100)
TYPE = Growing(type="dict", count=500, more=100)


def desk(**settings: Any) -> EvidenceDesk:
    """Without stacks, which take their time."""
    return EvidenceDesk(Settings(**{"stacks": False, "seconds": 10.0, **settings}), ())


async def ask(
    handler: EvidenceDesk, id: str = "c1", *, at: float = 0.0, late_s: float = 0.0, replaying: bool = False,
    target: str = "workload.trainer", arguments: dict[str, Any] | None = None, trusted: bool = True, **fields: Any,
) -> Decisions | None:  # fmt: skip
    given = {
        "id": id, "time": rfc3339(WALL_S + at), "ttl_s": 30.0, "host": HOST, "issuer": "leak", "action": "evidence",
        "target": target,
        "arguments": {"pid": ME, "start_time_s": start_time_s(ME), "resource": "rss", **(arguments or {})},
        **fields,
    }  # fmt: skip
    command = Command(**given)
    entry = event("flyball.command.requested", command, id=command.id)
    return await handler.handle(entry, context(at + late_s, "commands", replaying=replaying, trusted=trusted))


async def answer(
    handler: EvidenceDesk, id: str = "c1", *, at: float = 5.0, source: str = f"{HOST}/trainer", **fields: Any
) -> Decisions | None:
    given = {
        "ask": id, "workload": "trainer", "pid": ME, "start_time_s": start_time_s(ME), "took_s": 5.0, "stopped_s": 0.01,
        "allocations": (LINE,), "objects": (TYPE,),
        **fields,
    }  # fmt: skip
    entry = event("flyball.workload.evidence", InnerEvidence(**given), id=f"a-{id}", source=source)
    return await handler.handle(entry, context(at, "inbox"))


def gathered(decisions: Decisions | None) -> tuple[EvidenceGathered, Draft]:
    assert decisions is not None
    (draft,) = decisions.events
    assert draft.type == "flyball.evidence.gathered"
    assert isinstance(draft.data, EvidenceGathered)
    return draft.data, draft


async def test_a_look_answers_the_command_and_asks_the_program() -> None:
    decisions = await ask(desk())
    found, draft = gathered(decisions)
    assert (found.command, found.cause, found.pid, found.workload) == ("c1", "c1", ME, "trainer")
    assert found.threads and found.handles
    assert found.anonymous_bytes
    assert draft.subject == "workload.trainer"
    assert draft.text.startswith(f"trainer (pid {ME}) has ")
    assert decisions is not None
    assert list(decisions.asks) == [
        Ask(id="c1", host=HOST, workload="trainer", pid=ME, start_time_s=start_time_s(ME), within_s=10.0)
    ]


async def test_a_process_of_no_workload_is_asked_nothing() -> None:
    decisions = await ask(desk(), target="host")
    found, draft = gathered(decisions)
    assert (found.workload, draft.subject) == ("", f"pid {ME}")
    assert decisions is not None
    assert not decisions.asks
    named = await ask(desk(), target="host", arguments={"workload": "trainer"})
    assert named is not None
    assert [one.workload for one in named.asks] == ["trainer"]
    unusable = await ask(desk(), target="host", arguments={"workload": "../x"})
    assert unusable is not None
    assert not unusable.asks


async def test_nobody_is_asked_where_that_is_switched_off() -> None:
    decisions = await ask(desk(inside=False))
    assert decisions is not None
    assert not decisions.asks


async def test_where_anybody_may_ask_neither_paths_nor_stacks_are_told(tmp_path: Path) -> None:
    handler = desk(stacks=True)
    with Hoarder(tmp_path, 2, 2, 1) as hoarder:  # threads of our own process come and go
        looked_at = {"pid": hoarder.pid, "start_time_s": hoarder.start_time_s}
        (found, draft), (guarded, _) = [
            gathered(await ask(handler, id, trusted=trusted, arguments=looked_at))
            for id, trusted in (("c1", False), ("c2", True))
        ]
    assert f"file {tmp_path}/part-0" in guarded.handles
    assert guarded.stacks or guarded.missing  # py-spy may not be allowed to look
    assert not [kind for kind in found.handles if "/" in kind]
    assert found.handles["file"] >= 1
    assert (found.threads, found.stacks) == (guarded.threads, "")
    assert found.missing == (
        "stacks and paths of files: left out, since the bus asks for no password, so that anybody could ask for them; "
        "give it one (bus.password_file)",
    )
    assert "/" not in draft.text


async def test_stacks_that_are_switched_off_are_said_to_be() -> None:
    found, _ = gathered(await ask(desk(stacks=False)))
    assert (found.stacks, found.missing) == ("", ("stacks: switched off, [evidence] stacks is false",))


async def test_the_same_command_twice_is_answered_once() -> None:
    handler = desk()
    assert await ask(handler) is not None
    assert await ask(handler) is None


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"late_s": 31.0}, "the command expired 1 s ago"),
        ({"late_s": -31.0}, "the command's time lies 31 s ahead; check the clock of the machine that sent it"),
        ({"time": "yesterday"}, "the command's time 'yesterday' is not RFC 3339 with an offset"),
    ],
)
async def test_a_command_out_of_its_time_is_refused(fields: dict[str, Any], why: str) -> None:
    decisions = await ask(desk(), **fields)
    found, draft = gathered(decisions)
    assert found.missing == (f"nothing was looked at: {why}",)
    assert (found.threads, found.command) == ({}, "c1")
    assert draft.text == f"trainer (pid {ME}): nothing was looked at: {why}"
    assert decisions is not None
    assert not decisions.asks


async def test_a_process_with_another_start_is_not_looked_at() -> None:
    decisions = await ask(desk(), arguments={"start_time_s": start_time_s(ME) + 5})
    found, _ = gathered(decisions)
    assert "another process has the pid" in found.missing[0]
    assert decisions is not None
    assert not decisions.asks


async def test_so_many_a_minute() -> None:
    handler = desk(per_minute=2)
    for number in range(2):
        assert gathered(await ask(handler, f"c{number}", at=number * 10.0))[0].threads
    spent, _ = gathered(await ask(handler, "c2", at=20.0))
    assert spent.missing == (
        "nothing was looked at: 2 looks in the last minute are all that [evidence] per_minute allows; "
        "ask again in 40 s",
    )
    assert gathered(await ask(handler, "c3", at=60.5))[0].threads


@pytest.mark.parametrize(
    "fields",
    [{"action": "throttle"}, {"host": "other"}],
)
async def test_what_is_not_for_us_is_passed_over(fields: dict[str, Any]) -> None:
    assert await ask(desk(), **fields) is None


@pytest.mark.parametrize(
    "arguments", [{"pid": "x"}, {"pid": -1}, {"pid": 2**40}, {"start_time_s": None}, {"workload": 5}]
)
async def test_a_command_that_names_no_process_is_malformed(arguments: dict[str, Any]) -> None:
    with pytest.raises(MalformedEntry, match="name no process"):
        await ask(desk(), arguments=arguments)


async def test_an_answer_from_inside_is_a_second_event_of_the_command() -> None:
    handler = desk()
    await ask(handler)
    found, draft = gathered(await answer(handler))
    assert (found.command, found.cause, found.workload, found.pid) == ("c1", "c1", "trainer", ME)
    assert found.allocations == (LINE,)
    assert found.objects == (TYPE,)
    assert (found.took_s, found.stopped_s) == (5.0, 0.01)
    assert draft.text == f"trainer (pid {ME}) kept in 5.0 s: 3 MB allocated at ~/train.py:12, 100 more dict"
    assert await answer(handler) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "other"}, {"pid": ME + 1}, {"workload": "stranger"}, {"start_time_s": 1.0}, {"at": 80.0},
        {"source": "otherhost/trainer"},
    ],
)  # fmt: skip
async def test_an_answer_that_nobody_asked_for_is_not_believed(fields: dict[str, Any]) -> None:
    handler = desk()
    await ask(handler)
    assert await answer(handler, **{"id": "c1", **fields}) is None


async def test_what_a_program_says_is_cut_to_size() -> None:
    handler = desk()
    await ask(handler)
    rows = tuple(Allocated(where="x\n" * 200, size_bytes=1, count=1) for _ in range(50))
    found, _ = gathered(await answer(handler, allocations=rows, missing=("a\tb\x1b[2J",)))
    assert len(found.allocations) == 20
    assert all(len(one.where) <= 300 and "\n" not in one.where for one in found.allocations)
    assert found.missing == ("a b\N{REPLACEMENT CHARACTER}[2J",)
    monstrous = tuple(Allocated(where="x" * 1000, size_bytes=1, count=1) for _ in range(70))
    with pytest.raises(MalformedEntry, match="too many for a message"):
        await answer(handler, allocations=monstrous)


async def test_a_restart_forgets_neither_commands_nor_who_was_asked() -> None:
    before, after = desk(), desk()
    await ask(before)
    after.restore(before.snapshot())
    assert await ask(after) is None
    assert gathered(await answer(after))[0].allocations


async def test_the_past_is_not_looked_at_again_but_may_still_be_answered() -> None:
    handler = desk()
    decisions = await ask(handler, replaying=True, arguments={"pid": 2**30})
    assert gathered(decisions)[0].threads == {}
    assert gathered(await answer(handler, pid=2**30))[0].allocations


async def test_memory_is_bounded() -> None:
    handler = desk(per_minute=600)
    for number in range(1000):
        await ask(handler, f"c{number}", at=number * 0.2, replaying=True)
    assert len(handler.snapshot()) < 40_000
    assert len(msgspec.msgpack.decode(handler.snapshot())["asked"]) == ASKED_MOST


def test_other_settings_hold_at_once() -> None:
    assert desk().reconfigure(Settings())
