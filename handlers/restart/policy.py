"""Which restarts are carried out, and what came of them, pure: within a budget, once a command, one at a time."""

from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from typing import Final, Literal

from msgspec import Struct, field

from handlers.restart.settings import Settings
from schemas.command import Command
from schemas.workload import Pid, Seconds

ACTION: Final = "restart"
HOUR_S: Final = 3600.0
#: Commands that are remembered, so that none is carried out twice.
REMEMBERED: Final = 1000
_PREFIX: Final = "workload."
#: What is said where its argument list was given up.
NO_ANSWER: Final = "its argument list was given up"

#: accepted: not begun · running: its argument list runs · looking: it has ended well, the samples must show what came
Phase = Literal["accepted", "running", "looking"]


class Restart(Struct, kw_only=True):
    """A restart under way; times are Unix times."""

    command: str
    workload: str
    phase: Phase
    since_s: Seconds
    #: None until a sample has shown them
    pids_before: tuple[Pid, ...] | None = None
    began_s: Seconds = 0.0
    ended_s: Seconds = 0.0
    reason: str = ""
    #: the supervisor ended meanwhile, so that nobody knows how far it came
    unsure: bool = False


class Restarts(Struct, kw_only=True):
    """The state of the policy."""

    version: int = 1
    #: by workload
    under_way: dict[str, Restart] = field(default_factory=dict)
    #: workload → when each of its latest restarts began
    done_s: dict[str, list[float]] = field(default_factory=dict)
    #: ids of the commands that were decided on
    seen: list[str] = field(default_factory=list)


class Known(Struct, frozen=True, kw_only=True):
    """What the configuration says of a workload."""

    may: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of a command."""

    restart: Restart
    outcome: Literal["restarted", "failed", "refused"]
    reason: str
    pids_after: tuple[Pid, ...] = ()


class Moment(Struct, frozen=True, kw_only=True):
    """When and where a command comes; `now_s` is Unix time, `pids` are the workload's processes."""

    now_s: float
    #: None where no sample has been seen yet
    pids: tuple[int, ...] | None = None
    dry_run: bool = False
    #: false where anybody may write to the bus
    trusted: bool = True


def command(
    state: Restarts, asked: Command, known: Mapping[str, Known], settings: Settings, moment: Moment
) -> Outcome | None:
    """Accept a command (None), or say why not; one that was decided on before is passed over in silence."""
    if asked.id in state.seen:
        return None
    state.seen.append(asked.id)
    del state.seen[:-REMEMBERED]
    name = asked.target.removeprefix(_PREFIX)
    restart = Restart(
        command=asked.id, workload=name, phase="accepted", since_s=moment.now_s, pids_before=moment.pids,
        reason=_reason(asked),
    )  # fmt: skip
    if why := _refusal(state, asked, name, known, settings, moment):
        return Outcome(restart=restart, outcome="refused", reason=why)
    state.under_way[name] = restart
    return None


def begin(state: Restarts, restart: Restart, pids: Iterable[int], now_s: float) -> None:
    """Its argument list is started; this counts, whatever comes of it."""
    restart.phase, restart.began_s, restart.pids_before = "running", now_s, tuple(sorted(pids))
    _count(state, restart.workload, now_s)


def ended(state: Restarts, restart: Restart, trouble: str, now_s: float) -> Outcome | None:
    """Its argument list has ended, well where there is no `trouble`: the samples must show what came of it."""
    restart.ended_s = now_s
    if trouble:
        del state.under_way[restart.workload]
        return Outcome(restart=restart, outcome="failed", reason=trouble, pids_after=restart.pids_before or ())
    restart.phase = "looking"
    return None


def look(state: Restarts, restart: Restart, pids: Iterable[int], now_s: float, settings: Settings) -> Outcome | None:
    """What a sample shows of the workload since; None while that may yet change."""
    after = tuple(sorted(pids))
    if restart.pids_before is None:
        restart.pids_before = after
    before = restart.pids_before
    old, new = [pid for pid in before if pid in after], [pid for pid in after if pid not in before]
    if new and not old:
        was = f"its processes were {_pids(before)}" if before else "it did not run"
        reason = f"{was}, and are {_pids(after)} now" if before else f"{was}; its processes are {_pids(after)} now"
    elif 0 <= now_s - restart.ended_s < settings.appear_s:
        return None
    else:
        how = "the supervisor ended meanwhile" if restart.unsure else "its argument list ended well"
        reason = f"{how}, but {_pids(old)} still runs" if old else f"{how}, but no process of it appeared"
    del state.under_way[restart.workload]
    outcome: Literal["restarted", "failed"] = "restarted" if new and not old else "failed"
    return Outcome(restart=restart, outcome=outcome, reason=reason, pids_after=after)


def told(state: Restarts, command: str) -> None:
    """What came of it was said."""
    for restart in list(state.under_way.values()):
        if restart.command == command:
            del state.under_way[restart.workload]


def resume(state: Restarts, own: Container[str], now_s: float) -> None:
    """After a start of the supervisor: what was under way is not begun a second time; the samples tell what came of it.

    `own` are the commands that were accepted since. What was accepted before may have begun just before the end, so it
    counts.
    """
    for restart in [one for one in state.under_way.values() if one.command not in own]:
        if restart.phase == "accepted":
            _count(state, restart.workload, restart.since_s)
            restart.began_s = restart.since_s
        if restart.phase != "looking":
            restart.phase, restart.ended_s, restart.unsure = "looking", now_s, True


def _refusal(
    state: Restarts, asked: Command, name: str, known: Mapping[str, Known], settings: Settings, moment: Moment
) -> str:
    """Why not; empty where it may be done."""
    workload, now_s = known.get(name), moment.now_s
    if not asked.target.startswith(_PREFIX):
        return f"{asked.target} is no workload; what can be restarted is workload.NAME"
    if workload is None:
        return f"{name} is not declared; what can be restarted stands in a [[workload]] of the configuration"
    if ACTION not in workload.may:
        return f'the configuration does not allow it; add "restart" to may of the [[workload]] {name}'
    if not workload.restart:
        return f"nobody knows how; set restart of the [[workload]] {name} to the argument list that starts it anew"
    if not moment.trusted:
        return "the configured bus asks for no password, so anybody may have asked; set bus.password_file"
    expires_s = _expires_s(asked)
    if expires_s is None:
        return f"its time {asked.time!r} is no RFC 3339 with an offset"
    if now_s >= expires_s:
        return f"it has expired {now_s - expires_s:.1f} s ago"
    if name in state.under_way:
        return "another restart of it is under way"
    if why := _spent(state, name, settings, now_s):
        return why
    return "this is a dry run" if moment.dry_run else ""


def _count(state: Restarts, name: str, now_s: float) -> None:
    recent = [at_s for at_s in state.done_s.get(name, ()) if now_s - at_s < HOUR_S]
    state.done_s[name] = [*recent, now_s]


def _spent(state: Restarts, name: str, settings: Settings, now_s: float) -> str:
    """Why the budget says no; a restart in the future is a clock that was set back, and counts."""
    recent = [at_s for at_s in state.done_s.get(name, ()) if now_s - at_s < HOUR_S]
    if len(recent) >= settings.an_hour:
        return f"it was restarted {len(recent)} times within the hour, and {settings.an_hour} are allowed"
    if not recent:
        return ""
    wait_s = settings.backoff_s * 2 ** (len(recent) - 1)
    left_s = wait_s - (now_s - recent[-1])
    return f"it was restarted already, and may be again in {left_s:.0f} s" if left_s > 0 else ""


def _expires_s(asked: Command) -> float | None:
    try:
        at = datetime.fromisoformat(asked.time)
    except ValueError:
        return None
    return None if at.tzinfo is None else at.timestamp() + asked.ttl_s


def _reason(asked: Command) -> str:
    reason = asked.arguments.get("reason", "")
    return " ".join(reason.split())[:200] if isinstance(reason, str) else ""


def _pids(pids: Iterable[int]) -> str:
    every = [str(pid) for pid in pids]
    shown = ", ".join(every[:5]) + (" …" if len(every) > 5 else "")
    return f"pid {shown}" if len(every) == 1 else f"pids {shown}"
