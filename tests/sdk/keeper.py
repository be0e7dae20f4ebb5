"""The test as keeper of the ledger: reads the inbox of a real bus and answers, in a thread of its own."""

import queue
import threading
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import redis

from flyball.wire import (
    INBOX_TYPES,
    LedgerAnswer,
    Release,
    Reservation,
    Reserve,
    Started,
    inbox_key,
    memory_channel,
    reservation_key,
)
from schemas.envelope import Event, event_from_entry
from supervisor.bus.keys import status_key
from tests.sdk.supervision import HOST, PATIENCE_S

MIB: Final = 2**20


class Keeper:
    """Promises what there is (target → MiB); requests of the ledger only, in their order."""

    def __init__(self, url: str, **has_mb: int) -> None:
        """Serve the bus at `url` until left."""
        self.url = url
        self._has = {target: size_mb * MIB for target, size_mb in has_mb.items()}
        self.ledger: dict[str, Reservation] = {}
        #: everything that was asked and answered
        self.requests: list[tuple[Event, Any]] = []
        self.answers: list[LedgerAnswer] = []
        self._unseen: queue.Queue[tuple[Event, Any]] = queue.Queue()
        self._forgets_to_say = 0
        self._attends = threading.Event()
        self._attends.set()
        self._stopping = False
        self.client: Any = redis.Redis.from_url(url)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="keeper")

    def swallow(self, answers: int) -> None:
        """Decide, but let so many of the next answers be lost on their way."""
        self._forgets_to_say = answers

    def leave_alone(self) -> None:
        """Be away: what is asked waits in the inbox."""
        self._attends.clear()

    def come_back(self) -> None:
        """Answer what waits."""
        self._attends.set()

    def until_asked(self) -> None:
        """Come back when something stands in the inbox, answered or not."""
        assert self.client.xread({inbox_key(): "0"}, block=PATIENCE_S * 1000)

    def next(self, kind: type[msgspec.Struct]) -> tuple[Event, Any]:
        """The next request of that kind, answered."""
        while True:
            event, data = self._unseen.get(timeout=PATIENCE_S)
            if isinstance(data, kind):
                return event, data

    def grant(self, allocation_id: str, **parts_mb: int) -> None:
        """Somebody else has got something."""
        parts = {target: size * MIB for target, size in parts_mb.items()}
        self._keep(
            Reservation(allocation_id=allocation_id, owner="other", parts=parts, request="theirs", since_s=1.0, pid=7)
        )

    def end(self, allocation_id: str, *, say: bool = True) -> None:
        """It ended by itself."""
        with self._lock:
            entry = self._drop(allocation_id)
        if say:
            self._say(LedgerAnswer(request=entry.request, allocation_id=allocation_id, outcome="expired"))

    def say_free(self, **free_mb: int) -> None:
        """The status says that so much could be had."""
        memory = [{"target": target, "available_bytes": size_mb * MIB} for target, size_mb in free_mb.items()]
        self.client.set(status_key(HOST), msgspec.json.encode({"host": HOST, "memory": memory}))

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; a bus that is gone by then is not asked."""
        self._stopping = True
        self._attends.set()
        self._thread.join()
        self.client.close()

    def _serve(self) -> None:
        position = "0"
        while not self._stopping:
            try:
                found: Any = self.client.xread({inbox_key(): position}, block=20)
            except redis.RedisError:
                continue
            for entry, fields in found[0][1] if found else ():
                position = entry
                event = event_from_entry(fields)
                data = event.decode(INBOX_TYPES[event.type])
                self._attends.wait()
                if isinstance(data, Reserve | Started | Release):
                    self._take(event, data)

    def _take(self, event: Event, data: Any) -> None:
        with self._lock:
            answer = self._answer(event.id, data)
        self.requests.append((event, data))
        self._say(answer)
        self._unseen.put((event, data))

    def _answer(self, request: str, data: Reserve | Started | Release) -> LedgerAnswer:
        entry = self.ledger.get(data.allocation_id)

        def answer(outcome: Any, **more: Any) -> LedgerAnswer:
            text = f"{data.allocation_id}: {outcome}, says the keeper"
            return LedgerAnswer(request=request, allocation_id=data.allocation_id, outcome=outcome, text=text, **more)

        if isinstance(data, Reserve):
            if entry is not None:
                return answer("duplicate", reservation=entry, holders=(entry,))
            free = self._free()
            starting = [one for one in self.ledger.values() if one.starting and data.exclusive_start]
            if starting or any(size > free.get(target, 0) for target, size in data.parts.items()):
                holders = tuple(one for one in self.ledger.values() if one.parts.keys() & data.parts.keys())
                return answer(
                    "denied", available={target: free.get(target, 0) for target in data.parts}, holders=holders
                )
            entry = Reservation(
                allocation_id=data.allocation_id, owner=data.owner, parts=data.parts, request=request, since_s=1.0,
                pid=data.pid, start_time_s=data.start_time_s, starting=data.exclusive_start,
            )  # fmt: skip
            self._keep(entry)
            return answer("reserved", reservation=entry)
        if entry is None or (isinstance(data, Release) and data.of not in ("", entry.request)):
            return answer("unknown")
        if isinstance(data, Started):
            self._keep(msgspec.structs.replace(entry, starting=False))
            return answer("started")
        self._drop(data.allocation_id)
        return answer("released", reservation=entry)

    def _free(self) -> dict[str, int]:
        held = [part for one in self.ledger.values() for part in one.parts.items()]
        return {t: has - sum(size for target, size in held if target == t) for t, has in self._has.items()}

    def _keep(self, entry: Reservation) -> None:
        self.ledger[entry.allocation_id] = entry
        self.client.hset(reservation_key(HOST), entry.allocation_id, msgspec.json.encode(entry))

    def _drop(self, allocation_id: str) -> Reservation:
        self.client.hdel(reservation_key(HOST), allocation_id)
        return self.ledger.pop(allocation_id)

    def _say(self, answer: LedgerAnswer) -> None:
        self.answers.append(answer)
        if self._forgets_to_say:
            self._forgets_to_say -= 1
            return
        self.client.publish(memory_channel(HOST), msgspec.json.encode(answer))
