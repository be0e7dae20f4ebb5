"""What each column is: guessed from its name, corrected with `--map`, and else decided by its numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, get_args

from msgspec import Struct

from handlers.leak.commands.correlation.dialect import EXAMPLE, Dialect, shortened
from handlers.leak.commands.correlation.lines import Unreadable
from schemas.leak import MEMORY, RESOURCES

Role = Literal["time", "threads", "rss", "vms", "handles", "vram", "calls", "gauge", "ignore"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
#: Bytes of a unit of memory; MB is 2**20 bytes.
BYTES: Final = {
    **dict.fromkeys(("b", "byte", "bytes"), 1.0),
    **dict.fromkeys(("k", "kb", "kib"), 2.0**10),
    **dict.fromkeys(("m", "mb", "mib"), 2.0**20),
    **dict.fromkeys(("g", "gb", "gib"), 2.0**30),
}
#: Seconds of a unit of time.
SECONDS: Final = {
    "ns": 1e-9,
    **dict.fromkeys(("us", "µs", "μs"), 1e-6),
    "ms": 1e-3,
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_SPELLINGS: Final[dict[Role, str]] = {
    "time": "time t ts timestamp elapsed elapsedtime datetime date clock seconds secs when",
    "threads": "threads thread nthreads numthreads threadcount threadscount nlwp processthreads",
    "rss": "rss rssize residentsetsize resident res memoryrss mem memory memoryusage processresidentmemory",
    "vms": "vms vsz vsize virt virtual virtualmemory virtualsize vmsize memoryvms processvirtualmemory",
    "handles": "handles handle handlecount numhandles fds fd openfds numfds fdcount openfiles processopenfds",
    "vram": "vram vramused gpumem gpumemory gpumemoryused gpumemused usedgpumemory",
    "ignore": "pid ppid index row unnamed0 gpuid",
}
_NAMES: Final = {spelling: role for role, spellings in _SPELLINGS.items() for spelling in spellings.split()}
#: `MethodCalls(add_sections)`, `calls.add_sections`, `Requests(completed)`: a family, and which of it.
_FAMILY: Final = re.compile(
    r"(?P<family>method_?calls|calls?|gauges?|requests?)\s*(?:[.:/]\s*(?P<b>.+)|[(\[](?P<a>.+)[)\]])", re.IGNORECASE
)
_UNIT: Final = re.compile(
    r"(?P<base>.*?)[\s_.\-]*(?:[(\[]\s*(?P<a>[^()\[\]]*?)\s*[)\]]|(?<=[\s_.\-])(?P<b>[a-zA-Zµμ]+))"
)
#: What names a level rather than a count.
_LEVEL: Final = re.compile(
    r"processing|pending|active|queue|waiting|in_?flight|running|current|percent|%|cpu|load|util|children|processes"
    r"|connections|sessions|clients|open|size|length|depth|backlog|usage|used|free|available",
    re.IGNORECASE,
)


class Column(Struct, frozen=True):
    """One column of the file and what it is read as."""

    #: as it stands in the header
    header: str
    #: 1-based
    number: int
    role: Role
    #: of a count or gauge, as drivers name it
    name: str = ""
    #: of what stands in the file
    unit: str = ""
    #: what makes our unit (bytes, seconds) of it; 0: decided by the size of the numbers
    factor: float = 1.0
    #: why it is read so
    because: Literal["name", "--map", "numbers", "twice"] = "name"

    @property
    def key(self) -> str:
        """As drivers and resources are written: `calls.NAME`, `gauge.NAME`, `rss`."""
        return f"{self.role}.{self.name}" if self.role in ("calls", "gauge") else self.role


def columns(dialect: Dialect, mapping: Mapping[str, str]) -> list[Column | None]:
    """What each column is, as far as names tell; None: the numbers must.

    `mapping` is from columns, by name or number, to roles, such as `rss:KiB`.

    :raises Unreadable: a mapping that fits no column or role, or no column is the time.
    """
    mapped = _mapped(dialect, mapping)
    taken = {column.role for column in mapped.values()}
    found: list[Column | None] = []
    for index, header in enumerate(dialect.names):
        column = mapped.get(index) or (None if not dialect.headless else _ignored(header, index))
        column = column or guessed(header, index + 1)
        if column is not None and column.because == "name" and column.role in ("time", *RESOURCES):
            if column.role in taken:
                column = Column(header, index + 1, "ignore", because="twice")
            taken.add(column.role)
        found.append(column)
    if "time" not in taken:
        raise Unreadable(
            f"no column is the time among {shortened(', '.join(dialect.names), 200)}",
            hint=f"Name it: --map '{_perhaps_time(dialect, found)}=time'",
        )
    return found


def guessed(header: str, number: int) -> Column | None:
    """What a column is by its name; None: it says nothing that we know."""
    family = _FAMILY.fullmatch(header.strip())
    if family:
        return _of_family(header, number, family["family"].lower(), (family["a"] or family["b"]).strip())
    plain = _bare(header)
    if not plain or plain in ("unnamed0", "index"):
        return _ignored(header, number - 1)
    match = _UNIT.fullmatch(header.strip())
    unit = (match["a"] or match["b"] or "").lower() if match else ""
    for name, known in ((_bare(match["base"]) if match else "", unit), (plain, "")):
        role = _NAMES.get(name)
        if role == "time" and known in ("", *SECONDS):
            return Column(header, number, role, unit=known or "s", factor=SECONDS[known] if known else 0.0)
        if role in MEMORY and known in ("", *BYTES):
            return Column(header, number, role, unit=known and _shown(known), factor=BYTES.get(known, 0.0))
        if role and role not in ("time", *MEMORY):
            return Column(header, number, role)
    if unit in BYTES or (unit in SECONDS and "cpu" in plain):
        # a part of memory explains no memory, and time that was spent is what calls cost, not what was called
        return _ignored(header, number - 1)
    if _LEVEL.search(header):
        return Column(header, number, "gauge", name=header.strip())
    return None


def by_numbers(header: str, number: int, *, never_fell: bool, rose: bool) -> Column:
    """What a column is of which only the numbers tell."""
    role: Role = "calls" if never_fell and rose else "gauge"
    return Column(header, number, role, name=header.strip(), because="numbers")


def unit_by_size(column: Column, median: float) -> Column:
    """A column of memory without a unit: bytes from 20 million on, KiB from 20,000 on, else MB."""
    unit = "bytes" if median >= 2e7 else "KiB" if median >= 2e4 else "MB"
    return Column(column.header, column.number, column.role, unit=unit, factor=BYTES[unit.lower()], because="numbers")


def _of_family(header: str, number: int, family: str, member: str) -> Column:
    if family.startswith("request"):
        role: Role = "gauge" if _LEVEL.search(member) else "calls"
        return Column(header, number, role, name=f"requests.{member}")
    return Column(header, number, "gauge" if family.startswith("gauge") else "calls", name=member)


def _mapped(dialect: Dialect, mapping: Mapping[str, str]) -> dict[int, Column]:
    found: dict[int, Column] = {}
    once: dict[str, str] = {}
    for wanted, spoken in mapping.items():
        index = _index(wanted, dialect.names)
        word, _, unit = spoken.partition(":")
        role = next((role for role in ROLES if role == word.strip().lower()), None)
        if role is None:
            raise Unreadable(f"--map {wanted}={spoken}: {word!r} is no role", hint=f"Roles are {', '.join(ROLES)}")
        if index in found:
            raise Unreadable(f"--map names the column {dialect.names[index]} twice")
        if role in ("time", *RESOURCES) and role in once:
            raise Unreadable(f"--map makes both {once[role]} and {wanted} the {role}", hint="Ignore one: COLUMN=ignore")
        once[role] = wanted
        found[index] = _spoken(dialect.names[index], index, role, unit.strip())
    return found


def _spoken(header: str, index: int, role: Role, unit: str) -> Column:
    """The unit is what was said, else what the name says, else decided by size."""
    by_name = guessed(header, index + 1)
    if role in MEMORY or role == "time":
        units = SECONDS if role == "time" else BYTES
        match = _UNIT.fullmatch(header)
        in_name = (match["a"] or match["b"] or "") if match else ""
        if unit and unit.lower() not in units:
            raise Unreadable(f"--map {header}={role}:{unit}: {unit!r} is no unit", hint=f"Units are {', '.join(units)}")
        known = (unit or (in_name if in_name.lower() in units else "")).lower()
        return Column(
            header, index + 1, role, unit=known and _shown(known), factor=units.get(known, 0.0), because="--map"
        )
    if unit:
        raise Unreadable(f"--map {header}={role}:{unit}: {role} has no unit", hint=f"Write {header}={role}")
    named = role in ("calls", "gauge")
    name = (by_name.name if by_name and by_name.name else header) if named else ""
    return Column(header, index + 1, role, name=name, because="--map")


def _index(wanted: str, names: Sequence[str]) -> int:
    for same in (str.__eq__, lambda a, b: a.casefold() == b.casefold()):
        found = [index for index, name in enumerate(names) if same(name, wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            raise Unreadable(
                f"the column {wanted} stands {len(found)} times", hint=f"Map one by its number: --map {found[0] + 1}=…"
            )
    if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    raise Unreadable(
        f"--map {wanted}: there is no such column among {shortened(', '.join(names), 200)}",
        hint=f"An example: {EXAMPLE}",
    )


def _ignored(header: str, index: int) -> Column:
    return Column(header, index + 1, "ignore")


def _bare(header: str) -> str:
    return re.sub(r"[\W_]", "", header).lower()


def _shown(unit: str) -> str:
    """A unit as people write it."""
    shown = {"b": "bytes", "byte": "bytes", "k": "KiB", "kb": "KB", "kib": "KiB", "m": "MB", "mb": "MB", "mib": "MiB"}
    return shown.get(unit, {"g": "GB", "gb": "GB", "gib": "GiB"}.get(unit, unit))


def _perhaps_time(dialect: Dialect, found: Sequence[Column | None]) -> str:
    """The first column of which the name says nothing."""
    unknown = (name for name, column in zip(dialect.names, found, strict=True) if column is None)
    return next(unknown, "COLUMN")
