"""Ties the look at a process to the runtime: commands with the action `evidence` in, what was found out.

A command names a process (`policy.Arguments`), and is answered with `flyball.evidence.gathered`. Where the process
belongs to a workload, it is asked to look into itself too; what it says comes through the inbox, and becomes a second
event of the same command.
"""

from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

from handlers.evidence import policy, wording
from handlers.evidence.effects import Found, Onlooker
from handlers.evidence.grouping import without_paths
from handlers.evidence.policy import Request, State
from handlers.evidence.settings import Settings
from handlers.evidence.stacks import find_tool
from schemas.command import Command
from schemas.envelope import Event, MalformedEntry
from schemas.event import EvidenceGathered
from schemas.workload import InnerEvidence
from supervisor.handler import Context, Decisions, Declared, Draft, Handler, Stream, read_snapshot

_VERSION: Final = 1
_COMMAND: Final = "flyball.command.requested"
_ANSWER: Final = "flyball.workload.evidence"
_GATHERED: Final = "flyball.evidence.gathered"
_LARGEST_MESSAGE: Final = 65_536


class EvidenceDesk(Handler):
    """Has processes looked at, one at a time."""

    name: ClassVar[str] = "evidence"
    streams: ClassVar[tuple[Stream, ...]] = ("commands", "inbox")
    types: ClassVar[frozenset[str]] = frozenset({_COMMAND, _ANSWER})
    settings = Settings

    def __init__(self, settings: Settings, declared: Sequence[Declared]) -> None:
        self._settings = settings
        self._state = State()
        self._onlooker = Onlooker()

    async def handle(self, event: Event, context: Context) -> Decisions | None:
        """Look at the process that a command names, or pass on what one found in itself.

        :raises MalformedEntry: its data is not what its type says, names no process, or is too large.
        """
        if len(event.data) > _LARGEST_MESSAGE:
            raise MalformedEntry(f"{len(event.data)} bytes are too many for a message; allowed are {_LARGEST_MESSAGE}")
        if event.type == _ANSWER:
            if event.source.partition("/")[0] != context.host:
                return None
            found = policy.answered(self._state, event.decode(InnerEvidence), context.wall_s)
            if found is None:
                return None  # nobody asked, or it is answered already
            return Decisions([Draft(_GATHERED, _subject(found), wording.inside(found), found)])
        command = event.decode(Command)
        if command.host != context.host or command.action != policy.ACTION:
            return None
        try:
            request = policy.request(self._state, command, context.wall_s, self._settings, late=context.replaying)
        except ValueError as error:
            raise MalformedEntry(str(error)) from error
        if request is None:
            return None
        return await self._answer(request, context)

    async def _answer(self, request: Request, context: Context) -> Decisions:
        settings = self._settings
        if request.refusal:
            seen = Found(missing=[request.refusal])
        elif context.replaying:
            seen = Found(there=True)  # it was looked at then; the program may still answer
        else:
            seen = await self._onlooker.look(
                request.pid, request.start_time_s, settings.seconds, tool=find_tool(),
                wanted=settings.stacks and context.trusted,
            )  # fmt: skip
            _withhold(seen, settings, trusted=context.trusted)
        asks = settings.inside and seen.there and request.workload
        found = _evidence(request, seen)
        return Decisions(
            events=[Draft(_GATHERED, _subject(found), wording.outside(found, seen.name), found)],
            asks=[policy.ask(self._state, request, context.host, context.wall_s)] if asks else [],
        )

    def snapshot(self) -> bytes:
        """Which commands came, and who was asked."""
        return msgspec.msgpack.encode(self._state)

    def restore(self, snapshot: bytes) -> None:
        """Take it up.

        :raises ValueError: when it is of another version or damaged.
        """
        self._state = read_snapshot(snapshot, State, _VERSION)

    def reconfigure(self, settings: Settings) -> bool:
        """Other settings hold from the next look on."""
        self._settings = settings
        return True


def _withhold(seen: Found, settings: Settings, *, trusted: bool) -> None:
    """Leave out what is not to be told: on a bus without a password anybody may ask, and anybody may read."""
    if not trusted:
        seen.handles = without_paths(seen.handles)
    if not seen.there:
        return
    if not trusted:
        seen.missing.append(
            "stacks and paths of files: left out, since the bus asks for no password, so that anybody could ask for "
            "them; give it one (bus.password_file)"
        )
    elif not settings.stacks:
        seen.missing.append("stacks: switched off, [evidence] stacks is false")


def _subject(found: EvidenceGathered) -> str:
    return f"workload.{found.workload}" if found.workload else f"pid {found.pid}"


def _evidence(request: Request, seen: Found) -> EvidenceGathered:
    return EvidenceGathered(
        command=request.command, cause=request.command, pid=request.pid, start_time_s=request.start_time_s,
        workload=request.workload, threads=seen.threads, handles=seen.handles,
        anonymous_bytes=seen.memory.get("anonymous"), file_bytes=seen.memory.get("file"),
        shared_bytes=seen.memory.get("shared"), swapped_bytes=seen.memory.get("swapped"), stacks=seen.stacks,
        missing=tuple(seen.missing), took_s=seen.took_s,
    )  # fmt: skip
