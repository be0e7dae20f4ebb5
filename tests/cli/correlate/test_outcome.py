"""What verdicts come to, in the words of the thread study."""

from handlers.leak.commands.correlation.lags import Pair
from handlers.leak.commands.correlation.outcome import Outcome, outcome
from schemas.leak import Cause, Interval, Jump, Resource, Stage, Verdict

MB = 2.0**20


def verdict(resource: Resource, stage: Stage = "confirmed", cause: Cause | None = None, **more: object) -> Verdict:
    each = Interval(1 / 60, 0.9 / 60, 1.1 / 60)
    scale = MB if resource in ("rss", "vram") else 1
    rate = Interval(each.value * scale, each.low * scale, each.high * scale)
    return Verdict(resource=resource, stage=stage, at_s=69.0, since_s=41.0, rate_per_s=rate, cause=cause, **more)  # type: ignore[arg-type]


def told(*verdicts: Verdict, related: tuple[Pair, ...] = ()) -> Outcome:
    return outcome(verdicts, (), related)


A_CALL = Cause(driver="calls.add_sections", per_call=Interval(1.03, 0.98, 1.09), explained=0.9)
A_THREAD = Cause(
    driver="threads", per_call=Interval(57 * MB, 50 * MB, 64 * MB), explained=0.9, through="calls.add_sections"
)  # fmt: skip


def test_the_study_s_own_case() -> None:
    jump = Jump(at_s=40.0, amount=34.0, first_call="calls.add_sections")
    related = (Pair("rss", "calls.CreateRequest", 0.96, 0.1, None, None, 75),)
    found = told(verdict("rss", cause=A_THREAD), verdict("threads", cause=A_CALL, jumps=(jump,)), related=related)
    assert (found.pattern, found.headline) == ("threads explain memory", "threads explain memory")
    assert found.sentences == (
        "RSS leaks (confirmed at 69 s) since 41 s: 57 MB a thread (50 to 64); the threads come with calls of "
        "add_sections.",
        "Threads leak (confirmed at 69 s) since 41 s: 1.03 threads a call of add_sections (0.98 to 1.09). "
        "Apart from that, at once: +34 threads at the first call of add_sections (40 s).",
        "Not CreateRequest (levels correlate 0.96): the growth does not follow it.",
    )


def test_threads_that_the_same_calls_make_explain_memory_too() -> None:
    memory = Cause(driver="calls.add_sections", per_call=Interval(59 * MB, 50 * MB, 70 * MB))
    assert told(verdict("rss", cause=memory), verdict("threads", cause=A_CALL)).pattern == "threads explain memory"


def test_requests_explain_memory() -> None:
    found = told(verdict("rss", cause=A_CALL), verdict("threads", "steady"))
    assert found.pattern == "requests explain memory"


def test_time_only() -> None:
    found = told(verdict("rss", cause=Cause(driver="time")), verdict("threads", "steady"))
    assert found.pattern == "time only"
    assert found.sentences == (
        "RSS leaks (confirmed at 69 s) since 41 s: 60 MB an hour (54 to 66), with nothing but time.",
    )  # fmt: skip


def test_a_leak_of_an_unknown_cause_is_no_pattern() -> None:
    found = told(verdict("rss"), verdict("threads", "steady"))
    assert (found.pattern, found.headline) == (None, "RSS leaks; what drives it is not known")
    assert found.sentences[0].endswith("60 MB an hour (54 to 66), and what drives it is not known.")


def test_what_cannot_be_told_apart_is_said_with_what_would_tell() -> None:
    cause = Cause(
        driver="calls.parse", per_call=Interval(MB, MB, MB), alike=("calls.ping",), tell_apart="call parse alone"
    )  # fmt: skip
    found = told(verdict("rss", "suspected", cause))
    assert found.headline == "requests explain memory, or what moves alike"
    assert "cannot be told from ping; call parse alone" in found.sentences[0]


def test_no_leak_is_said_only_of_what_is_steady() -> None:
    assert told(verdict("rss", "steady"), verdict("threads", "steady")).pattern == "no leak"
    unknown = told(verdict("rss", "steady"), verdict("threads", "unknown"))
    assert (unknown.pattern, unknown.headline) == (None, "unknown: too little was measured to judge")
    assert told().pattern is None
    warming = told(verdict("rss", "warming", undecided_until_s=300.0), verdict("threads", "steady"))
    assert (warming.pattern, warming.headline) == (None, "undecided: RSS may be warming up")
    assert warming.sentences == ("RSS: undecided; a recording of 300 s or more would tell.",)


def test_threads_that_leak_alone_are_no_pattern_of_memory_and_no_peace() -> None:
    found = told(verdict("rss", "steady"), verdict("threads", cause=A_CALL))
    assert found.pattern is None
    assert found.headline == "threads leak; memory does not grow with them as far as can be seen"


def test_address_space_alone_is_no_leak() -> None:
    assert told(verdict("rss", "steady"), verdict("vms")).pattern == "no leak"
