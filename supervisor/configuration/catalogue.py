"""Every setting by its dotted key: what it takes, and when a change of it takes hold."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from schemas.config import Changes
from supervisor.config import CORE_SECTIONS, Config
from supervisor.configuration.reference import Setting, settings_of

#: The keys of the GPU manager that Flyball grew out of; each is a key of one table here.
SEED_NAMES: Final = (
    "temp_optimal", "temp_normal", "temp_throttle", "temp_critical",
    "memory_optimal", "memory_normal", "memory_critical", "memory_limit_mb", "memory_reserve_mb",
    "monitor_interval", "history_size", "throttle_cooldown_seconds", "critical_pause_seconds",
)  # fmt: skip
_FILE_ONLY: Final = ("dry_run", "workload")


class Entry(Struct, frozen=True):
    """One setting; `key` is dotted."""

    key: str
    setting: Setting
    changes: Changes


class Catalogue:
    """The settings of the core and of the handlers; `[[workload]]` counts as one."""

    def __init__(self, sections: Mapping[str, type[Struct]], live: Collection[str] = ()) -> None:
        """`sections` are the handlers' own, name → settings; `live` names those that can take up others at once."""
        self._entries = {entry.key: entry for entry in _entries(sections, live)}
        self._by_name: dict[str, list[str]] = {}
        for key in self._entries:
            self._by_name.setdefault(key.rpartition(".")[2], []).append(key)

    def __iter__(self) -> Iterator[Entry]:
        """Every setting, the core's first."""
        return iter(self._entries.values())

    def __getitem__(self, key: str) -> Entry:
        """The setting with this dotted key.

        :raises KeyError: there is none.
        """
        return self._entries[key]

    def get(self, key: str) -> Entry | None:
        """The same; None where there is none."""
        return self._entries.get(key)

    def under(self, table: str) -> list[str]:
        """The dotted keys in a table; none where it is no table."""
        return [key for key in self._entries if key.startswith(f"{table}.")]

    def tables(self) -> list[str]:
        """Every section by name."""
        return list(dict.fromkeys(key.partition(".")[0] for key in self._entries if "." in key))

    def named(self, name: str) -> list[str]:
        """The dotted keys that a bare name may mean."""
        return self._by_name.get(name, [])

    def names(self) -> list[str]:
        """Every bare name."""
        return list(self._by_name)


def value_of(config: Config, key: str) -> Any:
    """The value of a setting in `config`.

    :raises KeyError: `config` has no such section.
    """
    section, _, rest = key.partition(".")
    value: Any = getattr(config, section) if section in config.__struct_fields__ else config.handlers[section]
    for part in rest.split(".") if rest else ():
        value = getattr(value, part)
    return value


def _entries(sections: Mapping[str, type[Struct]], live: Collection[str]) -> Iterator[Entry]:
    top = {setting.key: setting for setting in settings_of(Config)}
    for key in _FILE_ONLY:
        yield Entry(key, top[key], "in the file only")
    for name, kind in CORE_SECTIONS.items():
        at_once: Collection[str] = getattr(kind, "live", ())
        for setting in settings_of(kind):
            changes: Changes = "at once" if setting.key in at_once else "in the file only"
            yield Entry(f"{name}.{setting.key}", setting, changes)
    for name, kind in sorted(sections.items()):
        changes = "at once" if name in live else "at the next start"
        yield from (Entry(f"{name}.{setting.key}", setting, changes) for setting in settings_of(kind))
