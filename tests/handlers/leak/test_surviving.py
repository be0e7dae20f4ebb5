"""What outlives the supervisor, and what the API tells of it."""

import msgspec
import pytest

from handlers.leak import subjects
from handlers.leak.handler import LeakWatch
from handlers.leak.routes import MOST_LEAKS, Leaks, LeaksQuery
from handlers.leak.settings import Settings
from schemas.event import EvidenceGathered
from schemas.sample import Counted
from supervisor.handler import Asked, Refusal
from tests.handlers.leak.scripted import BY_CALL, PID, Fed, Scripted, commands, process, reports, told, verdict


def _ask(fed: Fed, **query: object) -> Leaks:
    (route,) = fed.handler.routes()
    answer: Leaks = route.call(Asked(query=msgspec.convert(query, LeaksQuery)))
    return msgspec.json.decode(msgspec.json.encode(answer), type=Leaks)


def test_a_leak_that_stands_is_told_once_over_a_restart() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected", **BY_CALL))
    first = fed.see(1000.0)
    fed.reborn()
    assert not fed.see(1001.0).events
    (command,) = commands(first, "evidence")
    evidence = EvidenceGathered(command=command.id, pid=PID, start_time_s=50.0, cause="c", threads={"worker": 90})
    fed.hear(1002.0, "flyball.evidence.gathered", evidence)
    fed.say(1060.0, verdict("confirmed", **BY_CALL))
    confirmed = fed.see(1060.0)
    (one,) = reports(confirmed)
    assert (one.stage, one.detection_time) == ("confirmed", reports(first)[0].detection_time)
    assert one.evidence is not None and one.evidence.threads == {"worker": 90}


def test_what_a_program_counted_is_known_over_a_restart_and_called_the_same() -> None:
    fed = Fed()
    polled = Counted(workload="search-docs", source="json http://a", counts={"calls": 9})
    fed.see(999.0, counted=[polled])
    fed.count(999.5, calls=3)
    fed.see(1000.0, counted=[polled])
    fed.reborn()
    fed.see(1001.0, counted=[polled])
    assert Scripted.fed[-1][2] == Scripted.fed[-2][2] == {"calls": 9, "sdk.calls": 3}


def test_what_is_shown_again_asks_for_the_same_evidence() -> None:
    fed = Fed()
    fed.see(999.0)
    before = fed.handler.snapshot()
    fed.say(1000.0, verdict("suspected"))
    (command,) = commands(fed.see(1000.0), "evidence")
    fed.handler = LeakWatch(Settings(), (), Scripted)
    fed.handler.restore(before)
    (again,) = commands(fed.see(1000.0, replaying=True), "evidence")
    assert again.id == command.id
    evidence = EvidenceGathered(command=again.id, pid=PID, start_time_s=50.0, cause="c")
    fed.hear(1001.0, "flyball.evidence.gathered", evidence)
    assert _ask(fed).leaks[0].evidence is not None


def test_what_is_shown_again_and_was_known_is_not_fed_twice() -> None:
    fed = Fed()
    fed.see(1000.0)
    fed.reborn()
    fed.see(1000.0, replaying=True)
    assert [t_s for t_s, *_ in Scripted.fed] == [1000.0]


@pytest.mark.parametrize("damage", [b"", b"\x00", b"\xff\xff"])
def test_a_damaged_snapshot_is_refused_and_changes_nothing(damage: bytes) -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected"))
    fed.see(1000.0)
    state = fed.handler.snapshot()
    with pytest.raises(ValueError, match="not a State"):
        fed.handler.restore(damage)
    with pytest.raises(ValueError, match="State"):
        fed.handler.restore(state[:-3])
    old = msgspec.msgpack.encode(msgspec.msgpack.decode(state) | {"version": 0})
    with pytest.raises(ValueError, match="version 0"):
        fed.handler.restore(old)
    decoded = msgspec.msgpack.decode(state)
    decoded["subjects"][0]["subject"] = b"\xc1"
    with pytest.raises(ValueError):
        fed.handler.restore(msgspec.msgpack.encode(decoded))
    assert len(_ask(fed).leaks) == 1


def test_a_snapshot_is_bounded_and_keeps_what_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = Fed()
    fed.see(999.0, *(process(pid=PID + number) for number in range(1, 50)))
    fed.say(1000.0, verdict("suspected"))
    fed.see(1000.0)
    fed.see(1001.0, *(process(pid=PID + number) for number in range(1, 50)))
    monkeypatch.setattr(subjects, "LARGEST_SNAPSHOT", 300)
    fed.reborn()
    fed.see(1002.0)
    answer = _ask(fed)
    assert 1 <= answer.watched < 30
    assert [leak.pid for leak in answer.leaks] == [PID]
    assert Scripted.fed[-1][0] == 1002.0


def test_the_api_tells_what_stands_and_what_is_undecided() -> None:
    fed = Fed()
    with pytest.raises(Refusal) as refused:
        _ask(fed)
    assert refused.value.status == 503
    fed.say(1000.0, verdict("confirmed", **BY_CALL))
    fed.say(1000.0, verdict("steady", "handles"))
    fed.say(1000.0, verdict("warming", "rss", undecided_until_s=1300.0, reason="it may still warm up"))
    fed.see(1000.0, process(), process(pid=PID + 1, workload="other"))
    fed.see(1002.0, process(threads=99), process(pid=PID + 1, workload="other"))
    everything = _ask(fed)
    assert (everything.enabled, everything.watched) == (True, 2)
    (mine,) = [subject for subject in everything.subjects if subject.pid == PID]
    assert [(growth.verdict.resource, growth.verdict.stage) for growth in mine.growths] == [
        ("threads", "confirmed"), ("rss", "warming"),
    ]  # fmt: skip
    assert mine.growths[1].undecided_until == "2026-11-18T11:28:20.000Z"
    assert mine.growths[0].level == 99
    assert [leak.level for leak in everything.leaks] == [99, 97]
    for asked in ({"workload": "search-docs"}, {"pid": PID}):
        answer = _ask(fed, **asked)
        assert [leak.pid for leak in answer.leaks] == [subject.pid for subject in answer.subjects] == [PID]
    nobody = _ask(fed, pid=1)
    assert not nobody.leaks
    assert not nobody.subjects


def test_an_answer_holds_so_many_leaks_the_confirmed_ones_first() -> None:
    fed = Fed()
    everybody = [process(pid=PID + number) for number in range(MOST_LEAKS + 19)]
    fed.say(1000.0, verdict("suspected"))
    fed.see(1000.0, *everybody)
    fed.say(1001.0, verdict("confirmed"))
    fed.see(1001.0, *everybody[-5:])
    answer = _ask(fed)
    assert (len(answer.leaks), answer.leaks_left_out) == (MOST_LEAKS, 19)
    assert [leak.stage for leak in answer.leaks[:6]] == ["confirmed"] * 5 + ["suspected"]
    assert {leak.pid for leak in answer.leaks[:5]} == {one.pid for one in everybody[-5:]}
    assert _ask(fed, pid=PID + 7).leaks_left_out == 0


def test_the_status_has_a_line_for_what_is_confirmed() -> None:
    fed = Fed()
    fed.say(1000.0, verdict("suspected", "handles"))
    fed.say(1000.0, verdict("confirmed", **BY_CALL))
    fed.see(1000.0)
    assert fed.handler.view() == {
        "problems": [
            "search-docs (pid 4999812) leaks threads: 1.03 (0.98 to 1.09) a call of add_sections since 11:21:40 UTC; "
            "GET /api/leaks has more"
        ]
    }


def test_the_api_says_when_nobody_watches() -> None:
    fed = Fed(settings=Settings(enabled=False))
    fed.see(1000.0)
    assert not _ask(fed).enabled


def test_the_end_of_a_leak_whose_subject_had_no_room_in_the_snapshot_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fed = Fed()
    fed.say(1000.0, verdict("confirmed"))
    fed.see(1000.0)
    monkeypatch.setattr(subjects, "LARGEST_SNAPSHOT", 10)
    fed.reborn()
    other = process(pid=PID + 1, workload="")
    said = [one for second in range(1001, 1010) for one in told(fed.see(float(second), other))]
    assert len(said) == 1
    assert "its process ended" in said[0][1]


def test_a_subject_that_has_no_room_in_the_snapshot_takes_none_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    fed = Fed()
    fed.say(1000.0, verdict("confirmed", **BY_CALL))
    others = [process(pid=PID + 1 + number, threads=None) for number in range(3)]
    fed.see(1000.0, process(), *others)
    fat = len(next(iter(fed.handler._watch.subjects)).subject.pack())
    monkeypatch.setattr(subjects, "LARGEST_SNAPSHOT", fat - 1)
    state = msgspec.msgpack.decode(fed.handler.snapshot())
    assert [packed["who"]["pid"] for packed in state["subjects"]] == [PID + 1, PID + 2, PID + 3]
