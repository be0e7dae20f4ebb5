"""The thread that keeps a workload in touch with its supervisor: listening comes first, speaking after it.

It never raises into the user's program: trouble is one line in the log (logger `flyball`) at each change, and the
thread goes on trying.
"""

import logging
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, Final

import msgspec

from flyball.bus import BusLost, Connection, Refused, connect, described
from flyball.cleaner import Cleaner, OnCleanup
from flyball.identity import Identity
from flyball.orders import Orders, State, essence, speed_of, state_of
from flyball.outbox import Outbox
from flyball.valve import Valve
from flyball.wire import Directive, ask_channel, directive_key, throttle_channel
from flyball.witness import Witness

log = logging.getLogger("flyball")

OnChange = Callable[[Directive], object]

#: How often silence, counters and the connection are looked after when nothing is heard.
TICK_S: Final = 1.0
#: After so much silence on the connection the server is asked for a sign of life …
QUIET_S: Final = 10.0
#: … and after so much more it counts as lost.
GONE_S: Final = 3.0
#: A supervisor says what stands within a second or so of its start: after so long without a word nobody speaks to us.
UNHEARD_S: Final = 30.0
FIRST_RETRY_S: Final = 0.05
LAST_RETRY_S: Final = 5.0
#: Messages in one round trip.
BATCH: Final = 100

#: Unlike select it takes any descriptor, and unlike epoll it needs none.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)
_decode_directive = msgspec.json.Decoder(Directive).decode


class Link(threading.Thread):
    """The connection of one workload, from its first attempt to its end."""

    def __init__(self, me: Identity, orders: Orders, valve: Valve, outbox: Outbox, *, evidence: bool) -> None:
        """Prepare; `start` begins. The thread is the only one that touches `orders`.

        `evidence` is whether what the program keeps in memory may be asked for.

        :raises OSError: no socket to be had.
        """
        super().__init__(name="flyball", daemon=True)
        self._host, self._shard = me.host, me.shard
        self._channels = {throttle_channel(me.host, target).encode(): target for target in me.targets}
        self._orders, self._valve, self._outbox = orders, valve, outbox
        self._listeners: list[_Listener] = []
        self._cleaner = Cleaner(outbox, self.ring)
        self._ask_channel = ask_channel(me.host, me.name).encode()
        self._witness = Witness(me, outbox, self.ring) if evidence else None
        self._stopping = False
        self._alarm, self._bell = socket.socketpair()
        self._alarm.setblocking(False)
        self._bell.setblocking(False)
        #: whether the bus is there; None until the first attempt
        self._up: bool | None = None
        self._retry_s = FIRST_RETRY_S
        self._garbage_seen = False
        self._fault_seen = False
        self._refused = False
        self._deaf_said = False
        #: whether a supervisor ever spoke to this host, and whether the log says that none does
        self._spoken_to = False
        self._unheard_said = False
        self._connections: tuple[Connection, ...] = ()

    # called from the user's threads

    def on_change(self, callback: OnChange, state: State | None = None) -> None:
        """Call `callback` with what stands now, if anything, and with every change; or with those into `state`."""
        self._listeners.append(_Listener(callback, state))
        self.ring()

    def on_cleanup(self, callback: OnCleanup) -> None:
        """Call `callback` when a cleanup is asked for."""
        self._cleaner.use(callback)

    def ring(self) -> None:
        """Let the thread look around at once."""
        try:
            self._bell.send(b"!")
        except (BlockingIOError, OSError):
            return  # it rings already, or nobody is there any more

    def stop(self) -> None:
        """Say what is left to say, and end."""
        self._stopping = True
        if self._witness is not None:
            self._witness.stop()
        self.ring()

    def abandon(self) -> None:
        """In a forked child: the thread is the parent's; close our copies of its sockets and touch nothing else."""
        self._alarm.close()
        self._bell.close()
        for connection in self._connections:
            connection.close()

    # the thread itself

    def run(self) -> None:
        """Look for the bus, stay with it as long as it lasts, look again."""
        try:
            while not self._stopping:
                try:
                    self._stay()
                except BusLost as lost:
                    self._is_away(str(lost))
                except Exception as error:  # noqa: BLE001 - a fault of ours must not end the listening; it is logged
                    self._is_faulty(error)
                self._attend(until_s=time.monotonic() + self._retry_s * random.uniform(0.5, 1.0))
                self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)
        finally:
            self._alarm.close()
            self._bell.close()

    def _stay(self) -> None:
        """Connect to the first bus that is there, and stay until it is lost or we stop.

        :raises BusLost: always, unless we stop.
        """
        ears, url = connect()
        with closing(ears), closing(Connection(url)) as mouth:
            self._connections = (ears, mouth)
            self._subscribe(ears)
            self._recall(mouth)
            self._is_up(url)
            self._outbox.join()
            self._converse(ears, mouth)

    def _subscribe(self, ears: Connection) -> None:
        """Subscribe before the hash is read: what is said in between is then heard twice rather than never."""
        ears.send("SUBSCRIBE", *self._channels)
        waiting = len(self._channels)
        while waiting:
            reply = ears.read()
            if reply[0] == b"subscribe":
                waiting -= 1
            else:
                self._hear(reply)
        if self._witness is not None:
            ears.send("SUBSCRIBE", self._ask_channel)  # apart: rights given before there were asks refuse it

    def _recall(self, mouth: Connection) -> None:
        """Read the retained directives, and let them stand all at once."""
        targets = self._channels.values()
        replies = mouth.ask([["HGETALL", directive_key(self._host, target, self._shard)] for target in targets])
        for target, reply in zip(targets, replies, strict=True):
            if isinstance(reply, Exception):
                raise BusLost(f"the retained directive of {target} cannot be read: {reply}")
        new = []
        for target, reply in zip(targets, replies, strict=True):
            if not reply:
                continue
            self._is_spoken_to()
            try:
                texts = [text.decode() for text in reply]
                fields = dict(zip(texts[::2], texts[1::2], strict=True))
                directive = msgspec.convert(fields, Directive, strict=False)
            except (msgspec.ValidationError, UnicodeDecodeError) as error:
                self._ignore(f"the retained directive of {target}", error)
                continue
            if self._is_new(directive, target, retained=True):
                new.append(directive)
        self._refresh(time.monotonic(), new)

    def _converse(self, ears: Connection, mouth: Connection) -> None:
        """Hear, act, then speak, until we stop.

        :raises BusLost: the connection broke or the server fell silent.
        """
        now_s = time.monotonic()
        since_s, heard_s, asked, next_tick_s = now_s, now_s, False, now_s
        with _Selector() as selector:
            ear = selector.register(ears.fileno(), selectors.EVENT_READ)
            alarm = selector.register(self._alarm, selectors.EVENT_READ)
            while True:
                stopping = self._stopping
                now_s = time.monotonic()
                self._refresh(now_s)
                if now_s >= next_tick_s or stopping:
                    next_tick_s = now_s + TICK_S
                    self._outbox.post_counts()
                if not self._spoken_to and now_s - since_s >= UNHEARD_S:
                    self._wonder(mouth)
                self._speak(mouth)
                if stopping:
                    return
                ready = [key for key, _ in selector.select(self._nap_s(time.monotonic(), next_tick_s))]
                if alarm in ready:
                    self._hush()
                now_s = time.monotonic()
                if ear in ready:
                    heard_s, asked = now_s, False
                    while True:
                        self._listen(ears)
                        if not ears.has_more():
                            break
                elif now_s - heard_s > QUIET_S + GONE_S:
                    raise BusLost(f"no sign of life for {now_s - heard_s:.0f} s")
                elif now_s - heard_s > QUIET_S and not asked:
                    ears.send("PING")
                    asked = True

    def _attend(self, until_s: float) -> None:
        """Without a bus: keep the rules of silence until it is time to look for the bus again."""
        with _Selector() as selector:
            selector.register(self._alarm, selectors.EVENT_READ)
            while not self._stopping and (now_s := time.monotonic()) < until_s:
                self._refresh(now_s)
                if selector.select(self._nap_s(now_s, until_s)):
                    self._hush()

    def _nap_s(self, now_s: float, until_s: float) -> float:
        """How long nothing has to be done."""
        deadline_s = self._orders.deadline_s(now_s)
        return max(0.0, min(until_s, until_s if deadline_s is None else deadline_s) - now_s)

    def _hush(self) -> None:
        """Take what rang."""
        try:
            self._alarm.recv(4096)
        except BlockingIOError:
            return

    def _listen(self, ears: Connection) -> None:
        """Take in what comes next.

        :raises BusLost: the connection broke.
        """
        try:
            self._hear(ears.read())
        except Refused as refused:
            self._is_deaf(str(refused))

    def _hear(self, reply: Any) -> None:
        """Take in what came over the subscription."""
        if reply[0] != b"message":
            return  # the answer to a PING, or to a SUBSCRIBE
        if reply[1] == self._ask_channel:
            self._hear_ask(reply[2])
            return
        target = self._channels.get(reply[1], "")
        try:
            directive = _decode_directive(reply[2])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._ignore(f"a message about {target}", error)
            return
        if self._is_new(directive, target, retained=False):
            self._refresh(time.monotonic(), [directive])

    def _hear_ask(self, message: bytes) -> None:
        """Somebody asks what the program keeps."""
        if self._witness is None:
            return
        try:
            self._witness.hear(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._ignore("a request for evidence", error)

    def _is_new(self, directive: Directive, target: str, *, retained: bool) -> bool:
        """Take in a directive; where it is new, note that it was heard and what it asks for."""
        if (directive.host, directive.target) != (self._host, target):
            self._ignore(f"a directive for {directive.host} {directive.target}", f"said about {target}")
            return False
        self._is_spoken_to()
        if not self._orders.hear(directive, time.monotonic(), retained=retained):
            return False
        self._outbox.accepted(directive)
        return True

    def _refresh(self, now_s: float, new: Sequence[Directive] = ()) -> None:
        """Turn the valve to what stands now, and tell the callbacks that do not know it yet."""
        standing = self._orders.standing(now_s)
        changed = essence(standing) != essence(self._valve.directive)
        if changed and standing is not None and not standing.id:
            log.warning("%s: %s at speed %g", standing.reason, standing.action, speed_of(standing))
        if changed or new:
            self._valve.turn_to(standing, new)
        for directive in new:  # only now: a cleanup may look at what stands
            self._cleaner.hear(directive)
        if standing is not None and self._listeners:
            obeyed = {listener.tell(standing) for listener in self._listeners}
            if True in obeyed and False not in obeyed and not self._valve.followed:
                self._valve.look(loop=False)

    def _wonder(self, mouth: Connection) -> None:
        """Nothing was said about our targets; a supervisor of this host has said something about its memory.

        :raises BusLost: the connection broke.
        """
        if self._unheard_said:
            return
        (reply,) = mouth.ask([["HGETALL", directive_key(self._host, "host", self._shard)]])
        if reply and not isinstance(reply, Exception):
            self._spoken_to = True
            return
        self._unheard_said = True
        log.warning(
            "the bus is there, but no supervisor has spoken to host %s for %g s: running at full speed; "
            "start one there with `flyball run`, or set FLYBALL_HOST to the name that `flyball status` shows",
            self._host,
            UNHEARD_S,
        )

    def _speak(self, mouth: Connection) -> None:
        """Send what waits; what the server refuses is dropped with a line in the log.

        :raises BusLost: the connection broke; all that was not answered waits on, under the same ids.
        """
        while len(self._outbox):
            commands = self._outbox.commands(BATCH)
            for reply in mouth.ask(commands):
                if isinstance(reply, Exception):
                    self._is_refused(str(reply))
            self._outbox.sent(len(commands))

    # what is said about it, at each change only

    def _is_up(self, url: str) -> None:
        """The bus is there."""
        if self._up is False:
            log.warning("found the bus at %s", described(url))
        else:
            log.info("listening on %s", described(url))
        self._up, self._retry_s = True, FIRST_RETRY_S
        self._refused = False
        self._first_contact()

    def _is_away(self, reason: str) -> None:
        """The bus is not there, or no longer."""
        if self._up:
            log.warning("the bus is lost (%s); what was last said is held, and Flyball keeps looking", reason)
        elif self._up is None:
            log.warning(
                "no supervisor found (%s): running at full speed; start one with `flyball run`, or set FLYBALL_URL",
                reason,
            )
        else:
            log.debug("no bus: %s", reason)
        self._up = False
        self._first_contact()

    def _is_faulty(self, error: Exception) -> None:
        """Something that should not happen: told in full once, however often it comes."""
        if not self._fault_seen:
            self._fault_seen = True
            log.error("a fault in Flyball's SDK; this program goes on as it was", exc_info=error)
        self._is_away(f"a fault in Flyball's SDK: {error}")

    def _is_spoken_to(self) -> None:
        """There is a supervisor of this host."""
        if self._unheard_said and not self._spoken_to:
            log.warning("a supervisor speaks to host %s now", self._host)
        self._spoken_to = True

    def _first_contact(self) -> None:
        """Let `Workload.__enter__` go on: what stands at the start is known."""
        if self._valve.turn == 0:
            self._valve.turn_to(self._valve.directive)

    def _is_refused(self, reason: str) -> None:
        """The server does not take what we say."""
        if not self._refused:
            log.warning("the bus refuses what this workload says (%s); directives are obeyed all the same", reason)
        self._refused = True

    def _is_deaf(self, reason: str) -> None:
        """The server does not let us hear what is asked of us."""
        if not self._deaf_said:
            self._deaf_said = True
            log.warning(
                "the bus lets nobody ask this workload for evidence (%s); directives are obeyed all the same", reason
            )

    def _ignore(self, what: str, reason: object) -> None:
        """Something that is no directive; one warning, because a broken program may say a thousand."""
        log.log(logging.DEBUG if self._garbage_seen else logging.WARNING, "ignored %s: %s", what, reason)
        self._garbage_seen = True


class _Listener:
    """A callback of `on_change` or `on_state`, and what it was last told."""

    def __init__(self, callback: OnChange, state: State | None) -> None:
        self._callback = callback
        self._state = state
        self._told: object = None
        self._speed = 1.0
        self._obeyed = False

    def tell(self, directive: Directive) -> bool | None:
        """Tell it, if it does not know; whether it has obeyed: false where it failed, None where it is not asked to.

        A callback of a state is told when the order moves into it; it has obeyed the speed that it was told.
        """
        if self._state is None:
            news = essence(directive)
        elif state_of(directive) == self._state:
            news = self._state
        else:
            self._told = None
            return None
        if news != self._told:
            self._told, self._speed, self._obeyed = news, speed_of(directive), False
            try:
                self._callback(directive)
                self._obeyed = True
            except BaseException:  # SystemExit too: it would end our thread and not the program
                log.exception("a callback of %s failed", "on_state" if self._state else "on_change")
        elif self._state is not None and speed_of(directive) != self._speed:
            return None
        return self._obeyed
