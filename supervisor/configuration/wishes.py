"""What a request for other settings means: nested tables, dotted keys or bare names, resolved to dotted keys.

Whether the values are right is not decided here: they are checked with all the others, in `layers`.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from supervisor.configuration.catalogue import Catalogue
from supervisor.configuration.conversion import Report, nearest
from supervisor.configuration.wording import shown

#: Who asks for so many keys that nobody knows is told of these; what comes after them is not looked at.
_UNKNOWN_MOST: Final = 20
_NAME_SHOWN: Final = 60


class Wishes:
    """The settings that a request asks for, by dotted key; None takes back what was set through the API."""

    def __init__(self, body: Mapping[str, Any], catalogue: Catalogue, kept: Collection[str]) -> None:
        """`kept` are the keys that are set through the API now: they may be taken back even where nobody knows them."""
        self.values: dict[str, Any] = {}
        self._catalogue = catalogue
        self._kept = kept
        self._report = Report({})
        self._unknown_keys = 0
        for name, value in body.items():
            if self._has_enough:
                break
            self._take_name(name, value)

    @property
    def problems(self) -> list[str]:
        """Each `path: what is wrong, what would be right`."""
        return self._report.problems

    @property
    def _has_enough(self) -> bool:
        """Whether nothing more is looked at: the request is refused anyway, and each key takes its time."""
        return self._unknown_keys >= _UNKNOWN_MOST

    def _take_name(self, name: str, value: object) -> None:
        """A word at the top of the request."""
        catalogue = self._catalogue
        if "." in name or catalogue.get(name) or catalogue.under(name) or self._is_kept(name):
            self._take(name, value)
        elif len(meant := catalogue.named(name)) == 1:
            self._take(meant[0], value)
        elif meant:
            self._report.add((name,), f"is a key of several tables; write it with its table: {', '.join(meant)}")
        else:
            self._unknown(name, [*catalogue.tables(), *catalogue.names()], catalogue.tables())

    def _take(self, key: str, value: object) -> None:
        """The value of a dotted key, or of a whole table."""
        path = tuple(key.split("."))
        entry, inside = self._catalogue.get(key), self._catalogue.under(key)
        if value is None and self._is_kept(key):
            self.values.update((one, None) for one in self._kept if one == key or one.startswith(f"{key}."))
        elif inside and isinstance(value, Mapping):
            for name, inner in value.items():
                if self._has_enough:
                    break
                self._take(f"{key}.{name}", inner)
        elif inside and value is not None:
            self._report.add(path, f"{shown(value)} is not a table")
        elif not inside and entry is None:
            table = ".".join(path[:-1])
            beside = [one.removeprefix(f"{table}.") for one in self._catalogue.under(table)]
            known = beside or self._catalogue.tables()
            self._unknown(key, known, known)
        elif entry is not None and value is not None:
            if key in self.values:
                self._report.add(path, "is given twice; give it once")
            elif entry.changes == "in the file only":
                self._report.add(path, "cannot be changed while Flyball runs; set it in the file and start again")
            else:
                self.values[key] = value

    def _is_kept(self, key: str) -> bool:
        return any(one == key or one.startswith(f"{key}.") for one in self._kept)

    def _unknown(self, key: str, known: Collection[str], listed: Collection[str]) -> None:
        self._unknown_keys += 1
        key = key[:_NAME_SHOWN]
        near = nearest(key.rpartition(".")[2], known)
        meant = f"did you mean {near}?" if near else f"known here: {', '.join(sorted(listed))}"
        self._report.add(tuple(key.split(".")), f"no such key; {meant}")
