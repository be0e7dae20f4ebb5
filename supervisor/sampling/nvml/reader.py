"""The parent's end of one reader process: starts it, asks it within deadlines, and gets rid of it."""

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from supervisor.sampling.nvml.protocol import Answer, Failed, Frames, Heard, Hearing, Message, Opened, Read, frame

#: `nvmlInit` may take seconds where no persistence daemon keeps the driver awake.
OPEN_DEADLINE_S: Final = 10.0
#: How long a killed process may take to go before it is abandoned.
KILL_WAIT_S: Final = 0.4
_STDIN: Final = 0

#: Kills the process behind a transport; a test may bring one that does nothing, as the kernel does in state D.
Kill = Callable[[asyncio.SubprocessTransport], None]


class ReaderGone(Exception):
    """The process cannot be asked any more.

    `code` is the nvmlReturn_t by which NVML as a whole failed, 0 where the process just ended; `index` is the card that
    it was reading then; `timed_out` that it did not come up in time.
    """

    def __init__(self, what: str, *, code: int = 0, index: int | None = None, timed_out: bool = False) -> None:
        self.code, self.index, self.timed_out = code, index, timed_out
        super().__init__(what)


class Reader(asyncio.SubprocessProtocol):
    """One reader process.

    `count` cards are listed by its driver. `stuck` holds the indices of the cards in which one of its threads still
    waits. `deaf` is the nvmlReturn_t for which it hears no XIDs, 0 where it does, None where it does not listen;
    `mute` holds that of each card whose driver tells none. `gone` says why it cannot be asked any more. `abandoned` is
    true once it could not be killed.
    """

    def __init__(self, on_change: Callable[[], None], kill: Kill, on_xid: Callable[[int, Heard], None] | None) -> None:
        """`on_change` is called when the process is gone, a stuck call came back, or an abandoned process ended.

        With `on_xid`, called with our pid, it listens for XIDs.
        """
        self.pid = 0
        self.count = 0
        self.driver = ""
        self.stuck: set[int] = set()
        self.deaf: int | None = None
        self.mute: dict[int, int] = {}
        self.gone: ReaderGone | None = None
        self.abandoned = False
        self._on_change = on_change
        self._on_xid = on_xid
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.SubprocessTransport | None = None
        self._opened = asyncio.Event()
        self._exited = asyncio.Event()
        self._frames = Frames()
        self._decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(cast(Any, Message))
        self._sequence = 0
        self._expected: deque[int] = deque()
        self._on_answer: Callable[[Answer], None] = _ignore
        self._round: asyncio.Future[int | None] | None = None
        self._deadline_s = 0.0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def alive(self) -> bool:
        """Whether the process was started and has not been seen to end."""
        return self._transport is not None and not self._exited.is_set()

    @property
    def _reading(self) -> int | None:
        return self._expected[0] if self._round and self._expected else None

    async def open(self, *, slow_interval_s: float, environment: Mapping[str, str] | None) -> None:
        """Start the process and wait until NVML is initialised in it; a failure is in `gone`.

        `environment` replaces our own where it is given. The caller calls `close`, however this ends.

        :raises OSError: no process can be started.
        """
        listens = "listen" if self._on_xid else "-"
        arguments = (str(os.getpid()), str(slow_interval_s), listens)
        await self._loop.subprocess_exec(
            lambda: self,
            # -P: what lies in the working directory is not ours to import.
            *(sys.executable, "-P", "-m", "supervisor.sampling.nvml.child", *arguments),
            stderr=None,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the supervisor, which then ends this one
        )
        try:
            async with asyncio.timeout(OPEN_DEADLINE_S):
                await self._opened.wait()
        except TimeoutError:
            self._fail(ReaderGone(f"NVML did not initialise within {OPEN_DEADLINE_S:g} s", timed_out=True))

    async def read(
        self,
        indices: Sequence[int],
        deadline_s: float,
        on_answer: Callable[[Answer], None],
        *,
        anew: Collection[int] = (),
    ) -> int | None:
        """Read these cards in this order, each within `deadline_s`; answers go to `on_answer` as they come.

        Of those in `anew` the slowly changing figures are read, too. Returns the index of the card that missed its
        deadline, None where all answered. Those after it were not read: ask for them again, and another thread will go
        on.

        :raises ReaderGone: the process ended, or had ended before.
        """
        if self.gone or self._transport is None:
            raise self.gone or ReaderGone("the reader was not started")
        self._sequence += 1
        self._expected = deque(indices)
        self._on_answer = on_answer
        self._round = self._loop.create_future()
        self._deadline_s = deadline_s
        self._due_s = self._loop.time() + deadline_s
        self._timer = self._loop.call_at(self._due_s, self._check)
        stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(_STDIN))
        stdin.write(frame(Read(self._sequence, tuple(indices), tuple(anew))))
        try:
            return await self._round
        finally:
            self._timer.cancel()
            self._round = None
            self._on_answer = _ignore

    async def close(self) -> bool:
        """Kill the process and wait for its end, 0.4 s at most; False: it cannot be killed and is abandoned."""
        self._end(ReaderGone("the reader was closed"))
        if self._transport is None:
            return True
        if not self._exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._kill(self._transport)
        try:
            async with asyncio.timeout(KILL_WAIT_S):
                await self._exited.wait()
        except TimeoutError:
            self.abandoned = True
            return False
        self.release()
        return True

    def release(self) -> None:
        """Close our ends of the pipes, whether or not the process is gone."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop: the process has started."""
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self.pid = self._transport.get_pid() or 0

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Called by the event loop: answers."""
        try:
            for body in self._frames.feed(data):
                self._receive(self._decoder.decode(body))
        except msgspec.DecodeError as error:
            self._fail(ReaderGone(f"the reader's answer cannot be read: {error}", index=self._reading))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Called by the event loop: the process closed a pipe, so it has ended or is about to."""
        self._fail(ReaderGone("the reader process ended", index=self._reading))

    def process_exited(self) -> None:
        """Called by the event loop: the process was reaped."""
        self._exited.set()
        if self.abandoned:
            self.release()
            self._on_change()

    def _receive(self, message: Message) -> None:
        match message:
            case Opened():
                self.count, self.driver = message.count, message.driver
                self._opened.set()
            case Failed():
                self._fail(ReaderGone(f"NVML failed with code {message.code}", code=message.code))
            case Answer() if self._round and not self._round.done() and message.sequence == self._sequence:
                self._expected.popleft()
                self._due_s = self._loop.time() + self._deadline_s
                self._on_answer(message)
                if not self._expected:
                    self._round.set_result(None)
            case Answer():  # too late to be a reading, but the call came back
                self.stuck.discard(message.index)
                self._on_change()
            case Heard() if self._on_xid:
                self._on_xid(self.pid, message)
            case Hearing(code, None):
                self.deaf = code
                if code:  # each card is tried again then
                    self.mute.clear()
            case Hearing(code, int(index)):
                self.mute[index] = code

    def _check(self) -> None:
        if self._round is None or self._round.done():
            return
        if self._loop.time() < self._due_s - 0.001:  # there was an answer meanwhile
            self._timer = self._loop.call_at(self._due_s, self._check)
            return
        self.stuck.add(self._expected[0])
        self._round.set_result(self._expected[0])

    def _fail(self, gone: ReaderGone) -> None:
        if self.gone is None:
            self._end(gone)
            self._on_change()

    def _end(self, gone: ReaderGone) -> None:
        self.gone = self.gone or gone
        self._opened.set()
        if self._round and not self._round.done():
            self._round.set_exception(self.gone)


def kill_process(transport: asyncio.SubprocessTransport) -> None:
    """SIGKILL."""
    transport.kill()


def _ignore(_: Answer) -> None:
    """Nobody asked."""
