"""Reads XIDs from the kernel's log, which tells them where NVML does not, and which program had them.

`/dev/kmsg` gives one record a read, `PRIORITY,SEQUENCE,TIME,FLAGS;TEXT` and lines of further fields. Only what the
kernel itself wrote is believed: others may write there, too, but not in its name.
"""

import asyncio
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

_LOG: Final = logging.getLogger(__name__)
#: The kernel refuses (EINVAL) to give a record to a smaller buffer than it needs.
_RECORD_BYTES: Final = 8192
#: Records that are read before others get their turn.
_RECORDS_A_TURN: Final = 256
_DETAIL_CHARACTERS: Final = 200
_LARGEST_PID: Final = 2**31
#: Domain, bus and device; the function is not told everywhere.
PciAddress = tuple[int, int, int]

_PCI: Final = re.compile(r"([0-9a-f]{4,8}):([0-9a-f]{2}):([0-9a-f]{2})(?:\.[0-9a-f])?", re.IGNORECASE)
#: `NVRM: Xid (PCI:0000:3b:00): 79, pid=…, name=…, text`; before driver 460 without a program, long ago without `PCI:`,
#: and with ` GPU-I:05` after the address where it is about a MIG instance.
_XID: Final = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<pci>[0-9a-fA-F:.]+)[^)]*\): (?P<code>\d{1,9})(?:,\s*(?P<rest>.*))?")
_PID: Final = re.compile(r"pid='?(?P<pid>\d{1,10}|<unknown>)'?(?:,\s*|$)")
_NAME: Final = re.compile(r"name='?(?P<name>[^,]*?)'?(?:,\s*|$)")


class XidLine(Struct, frozen=True, kw_only=True):
    """What the kernel's log says of one XID; `detail` is the driver's own text."""

    pci: PciAddress
    code: int
    pid: int | None = None
    process: str = ""
    detail: str = ""


class KernelLog:
    """Follows the kernel's log from its present end, on the event loop; that it cannot is said once."""

    def __init__(
        self, path: Path, on_xid: Callable[[XidLine], None], *, read: Callable[[int, int], bytes] = os.read
    ) -> None:
        """`read` is for tests."""
        #: Whether XIDs would be heard.
        self.readable = False
        self._path = path
        self._on_xid = on_xid
        self._read = read
        self._descriptor = -1
        self._overrun = False

    def open(self) -> None:
        """Begin to follow it, where that is allowed."""
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if self._path.is_char_device():
                os.lseek(self._descriptor, 0, os.SEEK_END)
            asyncio.get_running_loop().add_reader(self._descriptor, self._readable)
        except (OSError, NotImplementedError) as error:  # NotImplementedError: a loop that follows no files
            self._give_up(error)
        else:
            self.readable = True

    def close(self) -> None:
        """Follow it no more."""
        self.readable = False
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _readable(self) -> None:
        for _ in range(_RECORDS_A_TURN):
            try:
                record = self._read(self._descriptor, _RECORD_BYTES)
            except BlockingIOError:
                return
            except BrokenPipeError:  # the next read goes on with the oldest record that is left
                if not self._overrun:
                    self._overrun = True
                    _LOG.warning("%s is written faster than it is read; XIDs may be missing", self._path)
                continue
            except OSError as error:
                self._give_up(error)
                return
            if not record:
                self._give_up(EOFError("it ended"))
                return
            line = xid_of(record)
            if line is not None:
                self._on_xid(line)

    def _give_up(self, error: Exception) -> None:
        why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        forbidden = (
            isinstance(error, PermissionError) and error.filename is not None
        )  # and not: it cannot be waited for
        hint = "; CAP_SYSLOG allows it" if forbidden else ""
        _LOG.info("%s is not read (%s%s): XIDs that NVML does not tell are not heard", self._path, why, hint)
        self.close()


def xid_of(record: bytes) -> XidLine | None:
    """The XID that a record of /dev/kmsg is about; None where it is about something else, or not the kernel's."""
    prefix, _, body = record.partition(b";")
    priority = prefix.partition(b",")[0]
    if not priority.isdigit() or int(priority) >> 3:  # facility 0 is the kernel
        return None
    found = _XID.match(body.partition(b"\n")[0].decode("utf-8", "backslashreplace"))
    pci = pci_address(found["pci"]) if found else None
    if found is None or pci is None:
        return None
    rest = found["rest"] or ""
    pid = process = None
    if told := _PID.match(rest):
        pid, rest = told["pid"], rest[told.end() :]
        if named := _NAME.match(rest):
            process, rest = named["name"], rest[named.end() :]
    return XidLine(
        pci=pci,
        code=int(found["code"]),
        pid=int(pid) if pid and pid.isdigit() and int(pid) <= _LARGEST_PID else None,
        process=process if process and process != "<unknown>" else "",
        detail=rest.strip()[:_DETAIL_CHARACTERS],
    )


def pci_address(text: str) -> PciAddress | None:
    """The address in `0000:3b:00`, `00000000:3B:00.0` or the like; None where there is none."""
    found = _PCI.fullmatch(text)
    return None if found is None else (int(found[1], 16), int(found[2], 16), int(found[3], 16))
