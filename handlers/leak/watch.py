"""The detector at work: takes in samples, follows the leaks that stand, and reacts to those that are confirmed."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from handlers.leak import effects, reactions, standing
from handlers.leak.activity import activity_of
from handlers.leak.counting import Counting, Ledger
from handlers.leak.outlook import outlook
from handlers.leak.policy import Subject
from handlers.leak.reactions import Reactions
from handlers.leak.settings import Settings
from handlers.leak.standing import Leak, Standing
from handlers.leak.subjects import Packed, Subjects, Watched
from handlers.leak.telling import Telling
from schemas.event import WorkloadRestarted
from schemas.leak import Verdict
from schemas.sample import Sample
from supervisor.handler import Declared

VERSION: Final = 1
#: While a restart waits, the forecast is made anew so often.
_FORECAST_EVERY_S: Final = 10.0


class State(Struct, kw_only=True):
    """What survives a restart."""

    version: int = VERSION
    boot_id: str
    wall_offset_s: float
    subjects: tuple[Packed, ...]
    counted: Ledger
    standing: Standing
    reactions: Reactions


class Watch:
    """All that is watched on one host."""

    def __init__(self, settings: Settings, declared: Sequence[Declared], subject: type[Subject]) -> None:
        """`subject` decides about one process or card."""
        self.settings = settings
        self.counting = Counting()
        self.standing = Standing()
        self.reactions = Reactions()
        #: the latest full sample
        self.latest: Sample | None = None
        self._declared = {one.name: one for one in declared}
        self._kind = subject
        self._boot_id = ""
        #: the sampler's clock + this is Unix time
        self._wall_offset_s = 0.0
        self._forecast_s = 0.0
        self.subjects = Subjects(settings, subject, effects.is_own_child)

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to end: no sample was seen, and no leak stands."""
        return self.latest is None and not self.standing.leaks

    def wall(self, at_s: float) -> float:
        """Unix time of a time of the sampler's."""
        return self._wall_offset_s + at_s

    def interrupt(self) -> None:
        """Time was lost."""
        self.subjects.interrupt()

    def reconfigure(self, settings: Settings) -> None:
        """Other settings, from the next sample on."""
        self.settings = settings
        self.subjects.reconfigure(settings)

    def look(self, sample: Sample, telling: Telling) -> None:
        """A full sample of our host."""
        if sample.boot_id != self._boot_id:
            self._start_anew(sample.boot_id, "the machine was restarted", telling)
        self._wall_offset_s = telling.context.wall_s - telling.context.monotonic_s
        self.latest = sample
        if sample.gap:
            self.interrupt()
        self.counting.look(sample.processes, sample.counted)
        changes, replaced = self.subjects.observe(sample, self.counting)
        for watched in replaced:
            self._end(watched, "its process ended", telling)
        for watched, verdict in changes:
            self._take(watched, verdict, sample, telling)
        self._take_held(sample, telling)
        self._forget(sample, telling)
        telling.demands += reactions.expire(self.reactions, sample.monotonic_s, self.settings)
        self._watch_for_quiet(sample, telling)

    def switch_off(self, telling: Telling) -> None:
        """Nobody watches any more: what stands is over, and nothing is kept."""
        self._start_anew("", "leaks are not watched for any more ([leak] enabled = false)", telling)
        self.latest = None

    def note_restart(self, outcome: WorkloadRestarted) -> None:
        """What came of a restart that was asked for here."""
        reaction = self.reactions.standing.get(outcome.workload)
        if reaction is None or not reaction.asked:
            return
        verb = "was restarted" if outcome.outcome == "restarted" else f"was not restarted: {outcome.reason}"
        for id in reaction.leaks:
            if (leak := self.standing.leaks.get(id)) is not None:
                leak.reaction = f"{outcome.workload} {verb}"

    def refresh(self, leak: Leak) -> None:
        """The level and growth of now."""
        watched = self.subjects.find(leak.who.key)
        if watched is None:
            return
        leak.level = watched.levels.get(leak.resource, leak.level)
        latest = watched.subject.verdicts.get(leak.resource)
        if latest is not None and latest.stage in standing.GROWS:
            leak.verdict = latest

    def pack(self) -> State:
        """All that is known, what leaks first."""
        packed = self.subjects.pack({leak.who.key for leak in self.standing.leaks.values()})
        return State(
            boot_id=self._boot_id, wall_offset_s=self._wall_offset_s, subjects=packed, counted=self.counting.pack(),
            standing=self.standing, reactions=self.reactions,
        )  # fmt: skip

    def unpack(self, state: State) -> None:
        """Take it up.

        :raises ValueError: a subject is damaged, or of another version.
        """
        subjects = Subjects(self.settings, self._kind, effects.is_own_child)
        subjects.unpack(state.subjects)
        for one in state.standing.leaks.values():
            subjects.add(one.who, one.said_s)  # for which there was no room: else its end would not be noticed
        self.subjects, self.standing, self.reactions = subjects, state.standing, state.reactions
        self.counting = Counting(state.counted)
        for id in reactions.drop_unwanted(self.reactions, self._declared):
            if (leak := self.standing.leaks.get(id)) is not None:
                leak.reaction = "what was done about it is over: the configuration does not ask for it any more"
        self._boot_id, self._wall_offset_s = state.boot_id, state.wall_offset_s

    # -- inside ----------------------------------------------------------------------------------------------------

    def _take(self, watched: Watched, verdict: Verdict, sample: Sample, telling: Telling) -> None:
        now_s = sample.monotonic_s
        found = standing.take(
            self.standing, watched.who, verdict, watched.levels.get(verdict.resource), now_s,
            overshadowed=self._is_overshadowed(watched, verdict, sample), simulated=sample.simulated,
        )  # fmt: skip
        if found is None:
            return
        said, leak = found
        if said == "cleared":
            standing.debounce(self.standing, leak, now_s + self.settings.again_s, now_s)
            self._clear(leak, telling)
            return
        if said == "confirmed":
            leak.reaction, demand = reactions.begin(self.reactions, self._declared, leak, now_s, self.settings)
            telling.demands += [demand] if demand else []
        telling.say(said, leak, outlook(leak, sample, look=not telling.context.replaying), self.wall)
        telling.ask_evidence(leak, self.standing, now_s)

    def _take_held(self, sample: Sample, telling: Telling) -> None:
        """What was not said when it began may be by now."""
        for id, (key, resource) in list(self.standing.held.items()):
            watched = self.subjects.find(key)
            verdict = None if watched is None else watched.subject.verdicts.get(resource)
            if watched is None or verdict is None:
                del self.standing.held[id]
            else:
                self._take(watched, verdict, sample, telling)

    def _is_overshadowed(self, watched: Watched, verdict: Verdict, sample: Sample) -> bool:
        """Whether another leak says more: memory than address space, a process on a card than the card."""
        if verdict.resource == "vms":
            return any(leak.resource != "vms" for leak in self.standing.of(watched.who.key))
        if watched.who.pid:
            return False
        on_card = {one.pid for gpu in sample.gpus if gpu.uuid == watched.who.uuid for one in gpu.processes}
        return any(leak.resource == "vram" and leak.who.pid in on_card for leak in self.standing.leaks.values())

    def _forget(self, sample: Sample, telling: Telling) -> None:
        """Who has ended, as far as anybody can tell who does not look into the past, and who is not seen any more."""
        for watched in [] if telling.context.replaying else self.subjects.to_look_for():
            if not effects.lives(watched.who.pid, watched.who.start_time_s):
                self.subjects.forget(watched)
                self._end(watched, "its process ended", telling)
        for watched in self.subjects.old(sample.monotonic_s):
            self.subjects.forget(watched)
            self._end(watched, "it was not seen for too long", telling)

    def _end(self, watched: Watched, why: str, telling: Telling) -> None:
        for leak in standing.ended(self.standing, watched.who.key):
            leak.level = watched.levels.get(leak.resource, leak.level)
            self._clear(leak, telling, why)

    def _clear(self, leak: Leak, telling: Telling, why: str = "") -> None:
        withdrawn, said = reactions.over(self.reactions, leak)
        telling.demands += withdrawn
        leak.reaction = said or leak.reaction
        telling.say("cleared", leak, None, self.wall, why)

    def _start_anew(self, boot_id: str, why: str, telling: Telling) -> None:
        for leak in list(self.standing.leaks.values()):
            self._clear(leak, telling, why)
        self._boot_id, self.subjects, self.standing = (
            boot_id,
            Subjects(self.settings, self._kind, effects.is_own_child),
            Standing(),
        )

    def _watch_for_quiet(self, sample: Sample, telling: Telling) -> None:
        waiting = self.reactions.waiting()
        if not waiting or "processes" in sample.unread or not telling.context.entry:
            return  # while the bus is away no request reaches anybody
        if forecasts := abs(sample.monotonic_s - self._forecast_s) >= _FORECAST_EVERY_S:
            self._forecast_s = sample.monotonic_s
        for name in waiting:
            activity = activity_of(name, sample, self.counting)
            quiet = activity is not None and reactions.look(self.reactions, name, activity, self.settings)
            if quiet or (forecasts and self._is_urgent(name, sample, telling)):
                moment = "in a quiet moment" if quiet else "because it may soon be full"
                leaks = self.reactions.standing[name].leaks
                telling.ask_restart(name, leaks, moment)
                reactions.asked(self.reactions, name)
                for leak in (self.standing.leaks[id] for id in leaks if id in self.standing.leaks):
                    leak.reaction = f"a restart of {name} was asked for {moment}"

    def _is_urgent(self, name: str, sample: Sample, telling: Telling) -> bool:
        for id in self.reactions.standing[name].leaks:
            leak = self.standing.leaks.get(id)
            if leak is None:
                continue
            self.refresh(leak)
            known = outlook(leak, sample, look=not telling.context.replaying)
            if known is not None and known.p10_s is not None and known.p10_s < self.settings.restart_before_s:
                return True
        return False
