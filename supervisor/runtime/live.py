"""Other settings for a running daemon: checked as a whole, kept, and taken up in one go between two ticks."""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Final, Literal

import msgspec
from msgspec import NODEFAULT, UNSET, Struct
from msgspec.structs import replace

from schemas.config import Configuration, Setting, SettingChange
from schemas.event import ConfigChanged, ConfigRefused
from supervisor.config import CORE_SECTIONS, Config
from supervisor.configuration.catalogue import SEED_NAMES, Catalogue, value_of
from supervisor.configuration.stack import Stack
from supervisor.configuration.wishes import Wishes
from supervisor.configuration.wording import displayed, shown
from supervisor.errors import ConfigurationError, FlyballError
from supervisor.handler import Edge, Handler
from supervisor.sampling.sampler import Sampler

_log = logging.getLogger(__name__)

#: So many changes or problems stand in a sentence; the event holds all.
_SAID: Final = 5


class Stale(Exception):
    """The settings are not those that the caller has seen; `version` is that of the present ones."""

    def __init__(self, version: str) -> None:
        """`version` as `version_of` tells it."""
        self.version = version
        super().__init__(version)


def version_of(document: Configuration) -> str:
    """A digest of all settings: another one wherever one of them is another, or from elsewhere."""
    return hashlib.sha256(msgspec.json.encode(document)).hexdigest()[:32]


class Live:
    """The settings in force, and the way to others."""

    def __init__(
        self,
        stack: Stack,
        *,
        handlers: Sequence[Handler],
        sampler: Sampler,
        say: Callable[[str, str, Struct], None],
        apart: Callable[[Config], Config] = lambda config: config,
    ) -> None:
        """`handlers` and `sampler` have been made with the settings of `stack`; `say` publishes an event (type,
        sentence, data).

        `apart` is what becomes of every configuration before it is used (see `supervisor.demo`).
        """
        self._stack = stack
        self._apart = apart
        self._wanted = apart(stack.config)
        self._holds = self._wanted
        self._handlers = handlers
        self._sampler = sampler
        self._edges: dict[str, Sequence[Edge]] = {handler.name: tuple(handler.edges()) for handler in handlers}
        self._say = say
        self._turn = asyncio.Lock()

    @property
    def config(self) -> Config:
        """What holds now."""
        return self._holds

    @property
    def settings(self) -> Mapping[str, Struct]:
        """Every section as it holds now, by name."""
        return {**{name: getattr(self._holds, name) for name in CORE_SECTIONS}, **self._holds.handlers}

    @cached_property
    def catalogue(self) -> Catalogue:
        """All settings there are; read from the source at first use, which takes a hundredth of a second."""
        at_once = [one.name for one in self._handlers if type(one).reconfigure is not Handler.reconfigure]
        return Catalogue({handler.name: type(handler).settings for handler in self._handlers}, at_once)

    def document(self) -> Configuration:
        """Every setting, what it is and where it came from."""
        settings = {entry.key: self._setting(entry.key) for entry in self.catalogue}
        meant = {name: keys[0] for name in SEED_NAMES if len(keys := self.catalogue.named(name)) == 1}
        return Configuration(values={name: settings[key].value for name, key in meant.items()}, settings=settings)

    async def change(
        self, body: Mapping[str, Any], who: str, expected: Callable[[str], bool] = lambda version: True
    ) -> tuple[SettingChange, ...]:
        """Take up what `body` asks for; `who` asks, and has seen settings of a version that is `expected`.

        :raises Stale: they have changed since. :raises ConfigurationError: with every problem; nothing has changed.
        :raises OSError: they cannot be kept; nothing has changed.
        """
        async with self._turn:
            if not expected(version := version_of(self.document())):
                raise Stale(version)
            stack = self._asked(body)
            await asyncio.to_thread(stack.kept.write, stack.values)
            changes = self._take_up(stack)
            self._tell(changes, "api", who)
            return changes

    async def reload(self, who: str) -> None:
        """Read the file again; where it cannot be used, say why and keep what stands."""
        async with self._turn:
            try:
                stack = await asyncio.to_thread(self._stack.reread)
            except FlyballError as error:  # one that is not told apart here would end the daemon
                _log.error("%s: %s\nWhat stood still stands", who, error)
                self._say_refused(error.problems if isinstance(error, ConfigurationError) else [str(error)], who)
                return
            changes = self._take_up(stack)
            if not changes:
                _log.info("%s: the settings are as they were", who)
            if stack.values:
                _log.info("%s: what was set through the API stays: %s", who, ", ".join(sorted(stack.values)))
            self._tell(changes, "file", who)

    def _asked(self, body: Mapping[str, Any]) -> Stack:
        wishes = Wishes(body, self.catalogue, self._stack.values)
        try:
            stack = self._stack.asked(wishes.values)
        except ConfigurationError as error:
            raise ConfigurationError([*wishes.problems, *error.problems], source="the request") from error
        if wishes.problems:
            raise ConfigurationError(wishes.problems, source="the request")
        return stack

    def _take_up(self, stack: Stack) -> tuple[SettingChange, ...]:
        """Make `stack` the one that is wanted; returns what changed thereby, and whether it holds."""
        old, new = self._wanted, self._apart(stack.config)
        self._stack, self._wanted = stack, new
        keys = [entry.key for entry in self.catalogue if value_of(old, entry.key) != value_of(new, entry.key)]
        sections = {key.partition(".")[0] for key in keys}
        refusals = {name: why for handler in self._handlers if (name := handler.name) in sections
                    if (why := self._reconfigure(handler, new.handlers[name]))}  # fmt: skip
        self._reconfigure_sampler(new)
        return tuple(
            SettingChange(
                key=key,
                old=displayed(value_of(old, key), key),
                new=displayed(value_of(new, key), key),
                holds="now" if self._is_held(key) else "at the next start",
                why="" if self._is_held(key) else refusals.get(key.partition(".")[0], ""),
            )
            for key in keys
        )

    def _reconfigure(self, handler: Handler, settings: Struct) -> str:
        """Let a handler take up other settings; returns why it does not, or nothing."""
        if settings == self._holds.handlers[handler.name]:
            return ""
        try:
            if not handler.reconfigure(settings):
                return "the handler takes it up when it starts"
            edges = tuple(handler.edges())
        except Exception as error:  # noqa: BLE001 - a handler may fail in any way, which must not keep the others back
            _log.exception("handler %s failed to take up other settings", handler.name)
            return f"the handler failed: {type(error).__name__}: {error}"
        self._edges[handler.name] = edges
        self._holds = replace(self._holds, handlers={**self._holds.handlers, handler.name: settings})
        return ""

    def _reconfigure_sampler(self, new: Config) -> None:
        live = {name: getattr(new.sampling, name) for name in new.sampling.live}
        self._holds = replace(self._holds, sampling=replace(self._holds.sampling, **live))
        self._sampler.reconfigure(self._holds.sampling, list(chain.from_iterable(self._edges.values())))

    def _is_held(self, key: str) -> bool:
        return bool(value_of(self._holds, key) == value_of(self._wanted, key))

    def _setting(self, key: str) -> Setting:
        entry = self.catalogue[key]
        described = entry.setting
        return Setting(
            value=displayed(value_of(self._holds, key), key),
            at_next_start=UNSET if self._is_held(key) else displayed(value_of(self._wanted, key), key),
            default=UNSET if described.default is NODEFAULT else displayed(described.default, key),
            origin=self._stack.origin(key),
            changes=entry.changes,
            accepts=described.accepts,
            meaning=described.meaning,
        )

    def _tell(self, changes: Sequence[SettingChange], origin: Literal["api", "file"], who: str) -> None:
        if not changes:
            return
        said = [_sentence(change) for change in changes[:_SAID]]
        more = [f"{len(changes) - _SAID} more"] if len(changes) > _SAID else []
        text = f"{who} changed {'; '.join([*said, *more])}"
        _log.info("%s", text)
        for change in changes:
            if change.holds != "now":
                _log.warning("%s takes effect at the next start%s", change.key, f": {change.why}" if change.why else "")
        self._say(
            "flyball.config.changed", text, ConfigChanged(changes=tuple(changes), origin=origin, who=who, cause="")
        )

    def _say_refused(self, problems: Sequence[str], who: str) -> None:
        more = f"; and {len(problems) - _SAID} more" if len(problems) > _SAID else ""
        text = f"{who}: the configuration cannot be used, and what stood still stands: {'; '.join(problems[:_SAID])}"
        self._say("flyball.config.refused", text + more, ConfigRefused(problems=tuple(problems), who=who, cause=""))


def _sentence(change: SettingChange) -> str:
    name = change.key.rpartition(".")[2]
    later = "" if change.holds == "now" else " (takes effect at the next start)"
    return f"{change.key} from {shown(change.old, name)} to {shown(change.new, name)}{later}"
