"""A mount that can hang: the files of a directory through the kernel's FUSE, served by a program that can be stopped.

While the program is stopped (SIGSTOP), whoever looks at a file there waits in the kernel, as on a network mount whose
server is away.
"""

import ctypes
import errno
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from typing import Final

import pytest

_libc = ctypes.CDLL(None, use_errno=True)
_DETACH: Final = 2
#: Nothing is read from the page cache; and, as on NFS, to close a file that was read is no question to the server.
_DIRECT: Final = 1
_NO_FLUSH: Final = 32


class Ask(IntEnum):
    """What the kernel asks (linux/fuse.h)."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    RELEASE = 18
    INIT = 26
    INTERRUPT = 36
    BATCH_FORGET = 42


class Mount:
    """A mounted directory, and the program behind it."""

    def __init__(self, path: Path, program: "subprocess.Popen[bytes]") -> None:
        self.path = path
        self._program = program

    def hang(self) -> None:
        """From now on, nobody gets an answer."""
        self._program.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._program.pid, os.WSTOPPED | os.WNOWAIT)

    def answer(self) -> None:
        """Who waits gets an answer."""
        self._program.send_signal(signal.SIGCONT)


@contextmanager
def mounted(behind: Path, path: Path) -> Iterator[Mount]:
    """The files of `behind`, at `path`; skips the test where nothing may be mounted."""
    path.mkdir()
    words = [sys.executable, __file__, str(behind), str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            assert program.stderr is not None
            if not program.stdout.readline():
                pytest.skip(program.stderr.read().decode().strip())
            yield Mount(path, program)
        finally:
            program.kill()  # whoever still waits there gets an error
            program.wait()
            _libc.umount2(os.fsencode(path), _DETACH)


def main(behind: Path, path: str) -> None:
    """Mount, say so, and serve until killed."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError as error:
        sys.exit(f"a mount needs /dev/fuse: {error.strerror}")
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
    if _libc.mount(b"hanging", os.fsencode(path), b"fuse.hanging", 0, options) != 0:
        sys.exit(f"this user may not mount: {os.strerror(ctypes.get_errno())}")
    print("mounted", flush=True)
    files = [behind, behind]  # by the kernel's number; 1 is the root
    while True:
        request = os.read(device, 1 << 17)
        _, asked, unique, node = struct.unpack_from("=IIQQ", request)
        if asked in {Ask.FORGET, Ask.BATCH_FORGET, Ask.INTERRUPT}:
            continue
        try:
            body, failure = _answer(asked, node, request[40:], files), 0
        except OSError as error:
            body, failure = b"", -(error.errno or errno.EIO)
        with suppress(FileNotFoundError):  # whoever asked has gone meanwhile
            os.write(device, struct.pack("=IiQ", 16 + len(body), failure, unique) + body)


def _answer(asked: int, node: int, request: bytes, files: list[Path]) -> bytes:
    """What there is; the kernel may keep nothing of it, so that each look at a file is a question to us."""
    match asked:
        case Ask.INIT:
            return struct.pack("=IIIIHHI40x", 7, 36, 1 << 16, 0, 8, 8, 1 << 16)
        case Ask.LOOKUP:
            file = files[1] / request.rstrip(b"\0").decode()
            there = file.stat()
            if file not in files:
                files.append(file)
            return struct.pack("=QQQQII", files.index(file), 0, 0, 0, 0, 0) + _attributes(there)
        case Ask.GETATTR:
            return struct.pack("=QII", 0, 0, 0) + _attributes(files[node].stat())
        case Ask.OPEN:
            return struct.pack("=QIi", 0, _DIRECT | _NO_FLUSH, 0)
        case Ask.READ:
            _, offset, size = struct.unpack_from("=QQI", request)
            return files[node].read_bytes()[offset : offset + size]
        case Ask.RELEASE:
            return b""
        case _:
            raise OSError(errno.ENOSYS, "no more is needed")


def _attributes(status: os.stat_result) -> bytes:
    times = [time_ns // 10**9 for time_ns in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)]
    parts = [time_ns % 10**9 for time_ns in (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)]
    return struct.pack(
        "=6Q10I", status.st_ino, status.st_size, status.st_blocks, *times, *parts, status.st_mode, status.st_nlink,
        status.st_uid, status.st_gid, 0, 4096, 0,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
