"""The reservation: memory that is promised to this process while a `with` block lasts."""

import logging
import math
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from msgspec.structs import replace

from flyball.bus import BusLost
from flyball.card import MIB, card
from flyball.claim import Claim, GivenUp
from flyball.identity import host_name, shard, start_time_s
from flyball.thread import in_thread
from flyball.wire import LedgerAnswer, Reserve, checked_name

log = logging.getLogger("flyball")

#: What the wire holds: 2^50 bytes, and 10^9 seconds.
MOST_MB: Final = 2**30
LONGEST_S: Final = 10**9

_alone = False


class MemoryUnavailable(Exception):
    """The memory was not to be had; the text says what was asked, what could be had, and who holds the rest.

    `answer` is the ledger's last word: `available` (target → bytes) and `holders`.
    """

    def __init__(self, answer: LedgerAnswer, waited_s: float) -> None:
        super().__init__(answer, waited_s)
        self.answer = answer
        self._waited_s = waited_s

    def __str__(self) -> str:
        """In the words of the ledger."""
        waited = f" (waited {self._waited_s:g} s)" if self._waited_s else ""
        return f"{self.answer.text or f'{self.answer.allocation_id}: {self.answer.outcome}'}{waited}"


def reserve(
    name: str,
    vram_mb: float = 0,
    *,
    gpu: int = 0,
    ram_mb: float = 0,
    wait_s: float = 0.0,
    ttl_s: float | None = None,
    owner: str | None = None,
    exclusive_start: bool = False,
    host: str | None = None,
) -> "Reservation":
    """Memory for this process while the block lasts: VRAM of a card, RAM of the host, or both; sizes are MiB.

    Nothing happens before it is entered. It then waits up to `wait_s` until all of it is to be had, and raises
    `MemoryUnavailable` otherwise. Without a supervisor it is one warning, and the program goes on unreserved. The
    reservation ends with the block, with this process, or after `ttl_s` where that is given.

    `name` is the reservation's, one at a time on a host; `owner` says to people whose it is, by default `name`. With
    `exclusive_start` no two of them are in their start-up on the same card: call `reservation.started()` when it is
    over. `host` is the supervisor's name of this machine, by default FLYBALL_HOST or the host name.

    ```python
    with flyball.reserve("llm_model", vram_mb=2048, wait_s=60) as reservation:
        model = load()
    ```

    :raises ValueError: a size that is negative, not a number or beyond 2^50 bytes, or none at all; a time that is
        negative or not a number, a TTL of 0; a negative GPU; a name with other characters than A-Z a-z 0-9 . _ -.
    """
    parts = {
        target: math.ceil(size_mb * MIB)
        for target, size_mb in ((card(gpu), vram_mb), ("host", ram_mb))
        if _checked_size(target, size_mb)
    }
    if not parts:
        raise ValueError(f"{name} reserves nothing: say vram_mb, ram_mb or both, in MiB")
    if not wait_s >= 0:
        raise ValueError(f"wait_s is {wait_s}; it must be 0 or more seconds")
    if ttl_s is not None and not 0 < ttl_s <= LONGEST_S:
        raise ValueError(f"ttl_s is {ttl_s}; it must be above 0 and at most 10^9 seconds, or None")
    wanted = Reserve(
        allocation_id=checked_name(name), owner=checked_name(name if owner is None else owner), parts=parts,
        ttl_s=ttl_s, exclusive_start=exclusive_start,
    )  # fmt: skip
    return Reservation(wanted, host=host_name() if host is None else checked_name(host), wait_s=wait_s)


class Reservation:
    """Memory promised to this process; a context manager, for `with` and for `async with`, to be entered once.

    It is given back whatever ends the block. A forked child that leaves the block gives nothing back: it is its
    parent's.
    """

    def __init__(self, wanted: Reserve, *, host: str, wait_s: float) -> None:
        """Made by `reserve`."""
        self._wanted, self._host, self._wait_s = wanted, host, wait_s
        self._claim: Claim | None = None
        self._entered = False
        self._pid = 0
        self._granted = False

    @property
    def name(self) -> str:
        """Its name in the ledger."""
        return self._wanted.allocation_id

    @property
    def granted(self) -> bool:
        """Whether a supervisor has promised the memory; false before and after the block, and where there is none."""
        return self._granted

    def started(self) -> None:
        """The start-up for which `exclusive_start` was asked is over: the next one may begin."""
        if self._claim is not None and self._wanted.exclusive_start:
            self._claim.started()

    def __enter__(self) -> Self:
        """Wait for the memory.

        :raises MemoryUnavailable: it was not to be had in `wait_s`.
        """
        if claim := self._begin():
            self._settle(self._obtained(claim))
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        if claim := self._end():
            claim.release()

    async def __aenter__(self) -> Self:
        """As `__enter__`, without blocking the event loop."""
        if claim := self._begin():
            try:
                answer = await in_thread(lambda: self._obtained(claim))
            except RuntimeError as error:
                self._go_on_alone(error)
                return self
            except BaseException:
                claim.give_up()
                with suppress(RuntimeError):  # it may have been granted this moment, so somebody must wait for its end
                    threading.Thread(target=claim.release, name="flyball-ledger", daemon=True).start()
                raise
            self._settle(answer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `__exit__`, without blocking the event loop."""
        if claim := self._end():
            try:
                await in_thread(claim.release)
            except RuntimeError:  # no more threads to be had; the goodbye takes a moment
                claim.release()

    def _begin(self) -> Claim | None:
        """The claim of this process; None where it cannot be made."""
        if self._entered:
            raise RuntimeError("a Reservation is entered once; make another one")
        self._entered, self._pid = True, os.getpid()
        try:
            mine = replace(self._wanted, pid=self._pid, start_time_s=start_time_s())
            self._claim = Claim(mine, _request(mine), host=self._host, shard=shard(), wait_s=self._wait_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the program; it is logged
            self._go_on_alone(error)
        return self._claim

    def _obtained(self, claim: Claim) -> LedgerAnswer | None:
        """The ledger's last word; None where there is none. Blocks."""
        try:
            answer = claim.obtain()
        except GivenUp:
            return None
        except BusLost as lost:
            self._go_on_alone(lost)
            return None
        except Exception as error:
            log.error("a fault in Flyball's SDK; this program goes on unreserved", exc_info=error)
            return None
        except BaseException:
            claim.release()
            raise
        if answer.outcome != "reserved":
            claim.release()
        return answer

    def _settle(self, answer: LedgerAnswer | None) -> None:
        """Go on with the memory, or without a supervisor.

        :raises MemoryUnavailable: the last word was no.
        """
        global _alone  # noqa: PLW0603 - said once for the process, as long as nobody answers
        if answer is None:
            return
        _alone = False
        if answer.outcome != "reserved":
            self._claim = None
            raise MemoryUnavailable(answer, self._wait_s)
        self._granted = True

    def _go_on_alone(self, reason: Exception) -> None:
        """Say once that nobody promises this program its memory."""
        global _alone  # noqa: PLW0603 - see above
        log.log(
            logging.DEBUG if _alone else logging.WARNING,
            "no supervisor for the reservation %s (%s): going on unreserved; start one with `flyball run`, or set "
            "FLYBALL_URL",
            self.name,
            reason,
        )
        _alone = True

    def _end(self) -> Claim | None:
        """The claim that is to be released now; None where there is none, or it is the parent's of a forked child."""
        claim, self._claim, self._granted = self._claim, None, False
        return claim if os.getpid() == self._pid else None


def _request(wanted: Reserve) -> str:
    """What is wanted, for people."""
    start = ", and to be the only one in its start-up" if wanted.exclusive_start else ""
    return f"{wanted.owner} (pid {wanted.pid}) asks for {_amounts(wanted.parts)} as {wanted.allocation_id}{start}"


def _amounts(parts: Mapping[str, int]) -> str:
    """Bytes by target, as MiB."""
    return " and ".join(f"{size / MIB:.6g} MiB of {target}" for target, size in parts.items())


def _checked_size(target: str, size_mb: float) -> float:
    """A size in MiB.

    :raises ValueError: it is none.
    """
    if not 0 <= size_mb <= MOST_MB:
        raise ValueError(f"{size_mb} MiB of {target} cannot be reserved; it must be a number from 0 to 2^30")
    return size_mb
