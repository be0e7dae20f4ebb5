"""The workload: what a program opens, asks and paces its loop with."""

import atexit
import logging
import operator
import os
import threading
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Final, Self, TypeVar, get_args, overload

from flyball import witness
from flyball.card import card
from flyball.cleaner import OnCleanup
from flyball.identity import Identity, host_name, shard, start_time_s
from flyball.link import Link, OnChange
from flyball.orders import Orders, State
from flyball.outbox import Outbox
from flyball.pace import Pace, paced
from flyball.valve import Valve
from flyball.wire import DEFAULT_PRIORITY, Directive, OnSilence, checked_name

log = logging.getLogger("flyball")

T = TypeVar("T")
F = TypeVar("F", bound=OnChange)
C = TypeVar("C", bound=OnCleanup)

#: How long `with` waits to learn what stands, and at its end until the goodbye is sent.
START_S: Final = 2.0
STOP_S: Final = 2.0
VERSION: Final = "0.1.0"

_open: "weakref.WeakSet[Workload]" = weakref.WeakSet()
_watching_forks = False


class Workload:
    """A program that obeys Flyball; a context manager, for `with` and for `async with`, to be entered once.

    ```python
    with flyball.Workload("trainer", gpus=[0], priority=5) as workload:
        for batch in workload.pace(batches):
            train(batch)
    ```

    It listens for directives about its GPUs, the host's memory and itself (`workload.<name>`); the slowest wins.
    Trouble with the bus never becomes an exception: it is logged (logger `flyball`), and the program runs on, at full
    speed where no supervisor was ever heard. A forked child leaves the workload to its parent: there it is a shell
    that runs at full speed; open one of its own to obey in the child.
    """

    def __init__(
        self,
        name: str,
        gpus: Iterable[int] = (0,),
        priority: int = DEFAULT_PRIORITY,
        *,
        host: str | None = None,
        on_silence: OnSilence = "hold",
        host_memory: bool = True,
        evidence: bool = True,
    ) -> None:
        """Describe a workload; nothing starts before it is entered.

        `gpus` are the indices on this host that it uses, `host_memory` whether it obeys directives about the host's
        RAM. The lowest `priority` gives way first. `host` is the supervisor's name of this machine, by default
        FLYBALL_HOST or the host name; in a fleet, FLYBALL_SHARD is the supervisor's `[bus] shard`. `on_silence` says
        what holds when the supervisor falls silent: `hold` the last directive (10 minutes at most, then speed 0.5),
        `run`, or `pause`. `evidence` is whether the supervisor may ask, when it suspects a leak, which lines of this
        program allocate and keep memory: for 5 s allocating is several times slower then, and nothing stands still.

        :raises ValueError: a name with characters other than A-Z a-z 0-9 . _ - (at most 64), a negative GPU, a
            priority beyond 64 bits, or an unknown `on_silence`.
        """
        if on_silence not in get_args(OnSilence):
            raise ValueError(f"on_silence is {on_silence!r}; it may be {', '.join(get_args(OnSilence))}")
        cards = tuple(dict.fromkeys(card(gpu) for gpu in gpus))
        if not -(2**63) <= operator.index(priority) < 2**63:
            raise ValueError(f"priority is {priority}; it must be a whole number of 64 bits")
        self._name = checked_name(name)
        self._host = checked_name(host) if host is not None else host_name()
        self._priority = operator.index(priority)
        self._on_silence = on_silence
        self._evidence = evidence
        self._targets = (*cards, *(["host"] if host_memory else []), f"workload.{name}")
        self._valve = Valve(self._applied)
        self._outbox = Outbox(VERSION)
        self._link: Link | None = None
        self._entered = False
        self._callbacks: list[tuple[OnChange, State | None]] = []
        self._cleanup: OnCleanup | None = None
        self._paces = False
        self._warned = False

    @property
    def name(self) -> str:
        """The name on the bus."""
        return self._name

    @property
    def directive(self) -> Directive | None:
        """The directive that stands, the slowest of all targets'; None where none was heard.

        One with an empty `id` is what `on_silence` made of the last one.
        """
        return self._valve.directive

    @property
    def speed(self) -> float:
        """The share of full speed that is allowed now, 0..1; 0 while paused."""
        return self._valve.speed

    @property
    def paused(self) -> bool:
        """Whether the workload should stand still now."""
        return self._valve.speed <= 0

    def on_change(self, callback: F) -> F:
        """Call `callback` with every directive that comes to stand, at once, and with the one that stands already.

        It runs in Flyball's thread, so it should be quick; what it raises is logged. In a program that has no loop to
        pace, a directive counts as applied when the callback has returned. May be used as a decorator.

        ```python
        workload.on_change(lambda directive: print(directive.action, directive.speed, directive.reason))
        ```
        """
        self._listen_with(callback, None)
        return callback

    @overload
    def on_state(self, state: State, callback: F) -> F: ...
    @overload
    def on_state(self, state: State) -> Callable[[F], F]: ...
    def on_state(self, state: State, callback: F | None = None) -> F | Callable[[F], F]:
        """Call `callback` with the directive by which the standing order moves into `state`, or that stands already.

        The states are `running` (full speed), `throttled`, `paused`, and `silent`: the supervisor said nothing for so
        long that `on_silence` rules. A change of speed inside `throttled` is no move; `on_change` hears of it. For the
        rest it is as `on_change`. May be used as a decorator, `@workload.on_state("throttled")`.

        ```python
        workload.on_state("throttled", lambda directive: print("slower:", directive.reason))
        ```

        :raises ValueError: `state` is none of them.
        """
        if state not in get_args(State):
            raise ValueError(f"state is {state!r}; it may be {', '.join(get_args(State))}")

        def register(callback: F) -> F:
            self._listen_with(callback, state)
            return callback

        return register if callback is None else register(callback)

    def on_cleanup(self, callback: C) -> C:
        """Call `callback(level)` (`soft`, `hard`, `emergency`) when memory should be freed; it returns the bytes freed.

        It runs in a thread of its own, one call at a time and once for a directive; of those that come while it runs,
        the newest of each target is kept. May be used as a decorator.

        ```python
        @workload.on_cleanup
        def clean(level):
            before = torch.cuda.memory_reserved()
            torch.cuda.empty_cache()
            return before - torch.cuda.memory_reserved()
        ```
        """
        self._cleanup = callback
        if self._link is not None:
            self._link.on_cleanup(callback)
        return callback

    @overload
    def pace(self, steps: Iterable[T]) -> Pace[T]: ...
    @overload
    def pace(self, steps: AsyncIterable[T]) -> AsyncIterator[T]: ...
    def pace(self, steps: Iterable[T] | AsyncIterable[T]) -> Pace[T] | AsyncIterator[T]:
        """Go through `steps` at the speed that stands: wait while paused, and rest between them.

        At speed s a step that took d seconds, its item included, is followed by a rest of d · (1/s − 1). A rest ends
        early when the directive changes; after a pause nothing is caught up. Plain iterables go with `for` and `async
        for`, asynchronous ones with `async for`.

        ```python
        for batch in workload.pace(batches):
            train(batch)
        ```
        """
        self._paces = True
        self._one_or_the_other()
        if isinstance(steps, AsyncIterable):
            return paced(steps, self._valve)
        return Pace(steps, self._valve)

    def batch_size(self, full: int) -> int:
        """The size of the next batch at the speed that stands, after waiting while paused: 64 → 32 at 0.5, at least 1.

        For programs that would rather shrink their batches than slow down: use this or the rests of `pace`. Where
        both are used, `pace` only waits while paused. In an event loop await `ready()` before.

        ```python
        batch = take(workload.batch_size(64))
        ```
        """
        self._valve.shrinks = True
        self._one_or_the_other()
        self.wait()
        # a speed such as 0.29 is a little less in binary, and 100 · 0.29 should be 29
        return max(1, int(full * self._valve.speed + 1e-9))

    def wait(self) -> None:
        """Block while paused."""
        if self._link is not None and threading.current_thread() is self._link:
            log.warning("wait() inside a callback would wait for itself: not waiting")
            return
        while (view := self._valve.look()).speed <= 0:
            self._valve.wait(view.turn)

    async def ready(self) -> None:
        """Wait, as a coroutine, while paused."""
        while (view := self._valve.look()).speed <= 0:
            await self._valve.changed(view.turn)

    def count(self, counter: str, n: float = 1) -> None:
        """Add `n` to a counter of the workload's own; the sums are told about once a second, and stop at 10^15.

        There are at most 64: name kinds of calls, not each call. What is beyond is left out, and logged once.

        ```python
        workload.count("add_sections")
        ```

        :raises ValueError: `n` is NaN.
        """
        self._outbox.count(counter, n)

    def gauge(self, name: str, value: float) -> None:
        """Set a level of the workload's own, such as the length of a queue; the last value is told, once a second.

        There are at most 64, as of counters.

        ```python
        workload.gauge("pending", len(queue))
        ```

        :raises ValueError: `value` is NaN.
        """
        self._outbox.gauge(name, value)

    def __enter__(self) -> Self:
        """Start listening; returns as soon as it is known what stands, or that no supervisor is there."""
        self._start()
        self._valve.wait(0, START_S)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Say goodbye and stop listening; whoever waits goes on at full speed."""
        link = self._stop(kind)
        if link is not None and link is not threading.current_thread():
            link.join(STOP_S)

    async def __aenter__(self) -> Self:
        """As `__enter__`, without blocking the event loop."""
        self._start()
        await self._valve.changed(0, START_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """As `__exit__`, without blocking the event loop."""
        import asyncio

        link = self._stop(kind)
        if link is None:
            return
        try:
            await asyncio.to_thread(link.join, STOP_S)
        except RuntimeError:  # no more threads to be had; the goodbye takes a moment
            link.join(STOP_S)

    def _start(self) -> None:
        """Start the thread that listens; where the system cannot give what that takes, this stays a shell."""
        if self._entered:
            raise RuntimeError("a Workload is entered once; make another one")
        self._entered = True
        try:
            self._listen()
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the program; it is logged
            log.warning("workload %s cannot listen (%s): running at full speed", self._name, error)
            self._valve.turn_to(None)  # nobody has to wait for what stands
            return
        _watch_forks()
        _open.add(self)
        atexit.register(self.__exit__, None, None, None)

    def _listen(self) -> None:
        """Make and start the thread.

        :raises OSError: no more descriptors.
        :raises RuntimeError: no more threads.
        :raises ValueError: FLYBALL_SHARD is no number.
        """
        me = Identity(
            name=self._name,
            host=self._host,
            shard=shard(),
            pid=os.getpid(),
            start_time_s=start_time_s(),
            targets=self._targets,
            priority=self._priority,
            on_silence=self._on_silence,
        )
        self._outbox.introduce(me)
        link = Link(me, Orders(self._targets, self._on_silence), self._valve, self._outbox, evidence=self._evidence)
        for callback, state in self._callbacks:
            link.on_change(callback, state)
        if self._cleanup is not None:
            link.on_cleanup(self._cleanup)
        self._link = link
        try:
            link.start()
        except RuntimeError:
            self._link = None
            link.abandon()
            raise

    def _stop(self, kind: type[BaseException] | None) -> Link | None:
        """Ask the thread to say goodbye and end; the thread, where it still ran."""
        link, self._link = self._link, None
        if link is None:
            return None
        _open.discard(self)
        atexit.unregister(self.__exit__)
        self._outbox.leave("finished" if kind is None else f"ended by {kind.__name__}")
        link.stop()
        self._valve.close()
        return link

    def _listen_with(self, callback: OnChange, state: State | None) -> None:
        """Call it from now on; with a `state`, at moves into it."""
        self._callbacks.append((callback, state))
        if self._link is not None:
            self._link.on_change(callback, state)

    def _applied(self, directive: Directive, speed: float) -> None:
        """A loop has reached a directive."""
        self._outbox.applied(directive, speed)
        if self._link is not None:
            self._link.ring()

    def _one_or_the_other(self) -> None:
        """Say once that slowing down twice was not done."""
        if self._paces and self._valve.shrinks and not self._warned:
            self._warned = True
            log.warning("workload %s uses batch_size() and pace(): pace() only waits while paused", self._name)

    def _become_shell(self) -> None:
        """In a forked child: the thread and the connections are the parent's."""
        link, self._link = self._link, None
        if link is not None:
            link.abandon()
        self._outbox.reset()
        self._valve.open(f"this is a forked child of workload {self._name}, at full speed; open a Workload of its own")


def _watch_forks() -> None:
    """From the first workload on, make the forked child's copies shells."""
    global _watching_forks  # noqa: PLW0603 - a registration is for good, and there is one for the process
    if not _watching_forks and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)
    _watching_forks = True


def _after_fork() -> None:
    """In the child."""
    witness.forget()
    for workload in list(_open):
        workload._become_shell()
    _open.clear()
