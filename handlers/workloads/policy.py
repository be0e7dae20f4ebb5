"""The roster of workloads, pure: what they say and which processes samples show in; facts out.

A workload is one name with one or more processes; (pid, start time) is a process. One that vanished from
`GONE_SAMPLES` full samples in a row has ended, whatever it failed to say. One that no sample ever showed (another pid
namespace, as in a container) cannot vanish; it has left when it has been silent for `SILENT_SAMPLES`.
"""

from typing import Final

from msgspec import Struct
from msgspec.structs import asdict

from schemas.event import Acknowledged, CleanedUp, Joined, Left
from schemas.sample import SAME_START_S, Process, Sample
from schemas.workload import (
    Acknowledgement,
    Amount,
    CleanupResult,
    Count,
    Counters,
    Join,
    Leave,
    OnSilence,
    Pid,
    Seconds,
    Whole,
)

GONE_SAMPLES: Final = 3
#: An hour at one a second: a workload in a container that is told nothing new says nothing either.
SILENT_SAMPLES: Final = 3600
#: Messages that are remembered: the SDK sends again after a lost reply, within seconds.
REMEMBERED: Final = 1024
#: Processes in the roster; a program on the bus must not fill our memory.
LARGEST: Final = 1024
#: Names of workloads that left and are still shown.
LEFT_SHOWN: Final = 32

Fact = Joined | Left | Acknowledged | CleanedUp


class Member(Struct, kw_only=True):
    """A process that joined; its numbers are bounded as those of the messages, so that no snapshot holds others."""

    workload: str
    pid: Pid
    start_time_s: Seconds
    boot_id: str
    targets: tuple[str, ...]
    priority: Whole
    on_silence: OnSilence
    #: seq of the last directive that it applied, by target
    applied: dict[str, Count] = {}
    counts: dict[str, Amount] = {}
    #: whether a sample has ever shown it, and full samples since it last was shown or spoke
    shown: bool = False
    missing: int = 0


class Roster(Struct, kw_only=True):
    """The state of the policy."""

    version: int = 1
    members: list[Member] = []
    recent: list[str] = []
    #: declared workload → its processes in the last full sample
    matched: dict[str, tuple[int, ...]] = {}
    left: list[str] = []
    simulated: bool = False

    def of(self, workload: str) -> list[Member]:
        """The processes of a workload."""
        return [member for member in self.members if member.workload == workload]

    def find(self, workload: str, pid: int) -> Member | None:
        """One process of a workload."""
        for member in self.members:
            if member.pid == pid and member.workload == workload:
                return member
        return None


class Crowded(ValueError):
    """More processes want to join than the roster holds."""


def heard_before(roster: Roster, id: str) -> bool:
    """Whether a message came already; remembers it."""
    if id in roster.recent:
        return True
    roster.recent.append(id)
    del roster.recent[:-REMEMBERED]
    return False


def join(roster: Roster, message: Join, boot_id: str, cause: str) -> list[Fact]:
    """A process joins; one that says the same again is nothing new.

    :raises Crowded: when the roster is full.
    """
    facts: list[Fact] = []
    member = roster.find(message.workload, message.pid)
    if member is not None and not same_process(member, message.start_time_s, boot_id):
        facts.append(_leave(roster, member, "another process has its pid", cause))
        member = None
    if member is None:
        if len(roster.members) >= LARGEST:
            raise Crowded(f"{LARGEST} processes have joined already")
        member = Member(
            workload=message.workload,
            pid=message.pid,
            start_time_s=message.start_time_s,
            boot_id=boot_id,
            targets=message.targets,
            priority=message.priority,
            on_silence=message.on_silence,
        )
        roster.members.append(member)
        if message.workload in roster.left:
            roster.left.remove(message.workload)
    elif (member.targets, member.priority, member.on_silence) == (
        message.targets,
        message.priority,
        message.on_silence,
    ):
        member.missing = 0
        return facts
    member.targets, member.priority, member.on_silence = message.targets, message.priority, message.on_silence
    facts.append(
        Joined(
            workload=message.workload,
            pid=message.pid,
            start_time_s=message.start_time_s,
            targets=message.targets,
            priority=message.priority,
            on_silence=message.on_silence,
            cause=cause,
        )
    )
    return facts


def leave(roster: Roster, message: Leave, cause: str) -> list[Fact]:
    """A process leaves by its own word; one that is not in the roster has left before."""
    member = roster.find(message.workload, message.pid)
    if member is None or abs(member.start_time_s - message.start_time_s) > SAME_START_S:
        return []
    return [_leave(roster, member, one_line(message.reason) or "it said so", cause)]


def acknowledge(roster: Roster, message: Acknowledgement, cause: str) -> list[Fact]:
    """A directive was heard or applied; a fact even from a process whose joining we never heard."""
    member = roster.find(message.workload, message.pid)
    if member is not None:
        member.missing = 0
        if message.stage == "applied":
            member.applied[message.target] = max(message.seq, member.applied.get(message.target, 0))
    return [Acknowledged(**asdict(message), cause=cause)]


def count(roster: Roster, message: Counters) -> bool:
    """Take up a process's counters; whether it is in the roster."""
    member = roster.find(message.workload, message.pid)
    if member is None:
        return False
    member.missing, member.counts = 0, message.counts
    return True


def cleaned(roster: Roster, message: CleanupResult, cause: str) -> list[Fact]:
    """A cleanup was answered."""
    member = roster.find(message.workload, message.pid)
    if member is not None:
        member.missing = 0
    return [CleanedUp(**asdict(message), cause=cause)]


def observe(roster: Roster, sample: Sample, declared: frozenset[str], cause: str) -> list[Fact]:
    """Look for the processes of the roster in a full sample of our host that tells them; others are of no use here."""
    if sample.scope != "full" or "processes" in sample.unread:
        return []
    roster.simulated = sample.simulated
    if declared:
        roster.matched = _matched(sample.processes, declared)
    if not roster.members:
        return []
    shown = {process.pid: process.start_time_s for process in sample.processes}
    facts: list[Fact] = []
    for member in list(roster.members):
        started_s = shown.get(member.pid)
        if member.boot_id != sample.boot_id:
            facts.append(_leave(roster, member, "the machine was restarted", cause))
        elif started_s is not None and same_process(member, started_s, sample.boot_id):
            member.shown, member.missing = True, 0
        else:
            member.missing += 1
            if member.shown and member.missing >= GONE_SAMPLES:
                facts.append(_leave(roster, member, "its process ended", cause))
            elif member.missing >= SILENT_SAMPLES:
                facts.append(_leave(roster, member, "its process is not on this host, and it has been silent", cause))
    return facts


def same_process(member: Member, start_time_s: float, boot_id: str) -> bool:
    """Whether it is the process that joined: a pid alone may be another's by now."""
    return member.boot_id == boot_id and abs(member.start_time_s - start_time_s) <= SAME_START_S


def one_line(text: str) -> str:
    """What a program on the bus says, as part of a sentence."""
    return " ".join(text.split())[:200]


def _matched(processes: tuple[Process, ...], declared: frozenset[str]) -> dict[str, tuple[int, ...]]:
    matched: dict[str, list[int]] = {}
    for process in processes:
        if process.workload in declared:
            matched.setdefault(process.workload, []).append(process.pid)
    return {name: tuple(pids) for name, pids in matched.items()}


def _leave(roster: Roster, member: Member, reason: str, cause: str) -> Left:
    roster.members.remove(member)
    if not roster.of(member.workload) and member.workload not in roster.left:
        roster.left.append(member.workload)
        del roster.left[:-LEFT_SHOWN]
    return Left(workload=member.workload, pid=member.pid, reason=reason, cause=cause)
