"""Who may have a process looked at, how often, and which answer from inside belongs to which request; pure.

All times are Unix time.
"""

from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from handlers.evidence.settings import Settings
from schemas.command import Command
from schemas.event import EvidenceGathered
from schemas.sample import SAME_START_S
from schemas.terminal import printable
from schemas.workload import Ask, InnerEvidence, Name, Pid, Seconds

ACTION: Final = "evidence"
#: Commands that are remembered, so that one that arrives twice is answered once.
REMEMBERED: Final = 256
#: Programs that may still answer, and for how long beyond the time that they were given.
ASKED_MOST: Final = 64
ANSWER_WITHIN_S: Final = 60.0
WITHIN_S: Final = 10.0
#: What is kept of an answer from inside, which is another program's word.
_MOST_ROWS: Final = 20
_LONGEST_TEXT: Final = 300


class Arguments(Struct, frozen=True, kw_only=True):
    """The `arguments` of a command: the process, the workload that it belongs to, and what is suspected to leak."""

    pid: Pid
    start_time_s: Seconds
    workload: str = ""
    resource: str = ""


class Request(Struct, frozen=True, kw_only=True):
    """A look that was asked for; with a `refusal` there is none."""

    command: str
    pid: int
    start_time_s: float
    workload: str = ""
    refusal: str = ""


class Asked(Struct, frozen=True):
    """A process that was asked to look into itself, and until when its answer counts."""

    workload: Name
    pid: Pid
    start_time_s: Seconds
    until_s: float


class State(Struct, kw_only=True):
    """What survives a restart."""

    version: int = 1
    #: commands that came
    recent: list[str] = []
    #: when looks were granted in the last minute
    looks_s: list[float] = []
    #: command → who was asked for it
    asked: dict[str, Asked] = {}


def request(state: State, command: Command, now_s: float, settings: Settings, *, late: bool = False) -> Request | None:
    """What a command for our host asks for; None where it came before. `late`: it is read again, after a start.

    :raises ValueError: it names no process.
    """
    if command.id in state.recent:
        return None
    state.recent.append(command.id)
    del state.recent[:-REMEMBERED]
    try:
        arguments = msgspec.convert(command.arguments, Arguments)
    except msgspec.ValidationError as error:
        raise ValueError(f"the arguments of {command.id} name no process: {error}") from error
    named = arguments.workload or (command.target[9:] if command.target.startswith("workload.") else "")
    wanted = Request(
        command=command.id, pid=arguments.pid, start_time_s=arguments.start_time_s, workload=_checked(named)
    )
    if late:
        return wanted
    state.looks_s = [at for at in state.looks_s if 0 <= now_s - at < 60]
    if refusal := _refusal(state, command, now_s, settings):
        return msgspec.structs.replace(wanted, refusal=refusal)
    state.looks_s.append(now_s)
    return wanted


def ask(state: State, request: Request, host: str, now_s: float) -> Ask:
    """What the process itself is asked; its answer is waited for."""
    state.asked[request.command] = Asked(
        request.workload, request.pid, request.start_time_s, now_s + WITHIN_S + ANSWER_WITHIN_S
    )
    while len(state.asked) > ASKED_MOST:
        del state.asked[next(iter(state.asked))]
    return Ask(
        id=request.command, host=host, workload=request.workload, pid=request.pid, start_time_s=request.start_time_s,
        within_s=WITHIN_S,
    )  # fmt: skip


def answered(state: State, found: InnerEvidence, now_s: float) -> EvidenceGathered | None:
    """An answer as the event that it becomes; None where nobody asked this process, or it has answered already."""
    asked = state.asked.get(found.ask)
    if asked is None or (asked.workload, asked.pid) != (found.workload, found.pid):
        return None
    if abs(asked.start_time_s - found.start_time_s) > SAME_START_S:
        return None
    del state.asked[found.ask]
    if now_s > asked.until_s:
        return None
    allocations = [msgspec.structs.replace(one, where=_line(one.where)) for one in found.allocations[:_MOST_ROWS]]
    objects = [msgspec.structs.replace(one, type=_line(one.type)) for one in found.objects[:_MOST_ROWS]]
    return EvidenceGathered(
        command=found.ask, cause=found.ask, pid=found.pid, start_time_s=found.start_time_s, workload=found.workload,
        allocations=tuple(allocations), objects=tuple(objects),
        missing=tuple(_line(one) for one in found.missing[:_MOST_ROWS]), took_s=found.took_s,
        stopped_s=found.stopped_s,
    )  # fmt: skip


def _refusal(state: State, command: Command, now_s: float, settings: Settings) -> str:
    """Why nothing is looked at; empty where it may be."""
    sent_s = _unix_time(command.time)
    if sent_s is None:
        return f"nothing was looked at: the command's time {_line(command.time)!r} is not RFC 3339 with an offset"
    if now_s > sent_s + command.ttl_s:
        return f"nothing was looked at: the command expired {now_s - sent_s - command.ttl_s:.0f} s ago"
    if sent_s > now_s + command.ttl_s:
        return (
            f"nothing was looked at: the command's time lies {sent_s - now_s:.0f} s ahead; check the clock of the "
            "machine that sent it"
        )
    if (looks := len(state.looks_s)) >= settings.per_minute:
        return (
            f"nothing was looked at: {looks} looks in the last minute are all that [evidence] per_minute allows; "
            f"ask again in {60 - (now_s - state.looks_s[0]):.0f} s"
        )
    return ""


def _unix_time(rfc3339: str) -> float | None:
    try:
        parsed = datetime.fromisoformat(rfc3339)
    except ValueError:
        return None
    return parsed.timestamp() if parsed.tzinfo is not None else None


def _checked(name: str) -> str:
    """The name of a workload; empty where it can be none."""
    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError:
        return ""


def _line(text: str) -> str:
    """Another program's word, as part of a sentence."""
    return printable(" ".join(text.split())[:_LONGEST_TEXT])
