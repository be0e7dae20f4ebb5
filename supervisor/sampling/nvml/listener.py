"""Waits for XIDs in a thread of its own, so that neither a card that hangs nor a flood of them slows a read.

Cards are registered by the thread that has just read them: one that hangs there is a card that hangs, and is treated
like any other. When the wait fails - it does whenever a registered card falls off the bus - the event set is given up,
and after a pause another one is made, for the cards that can still be read.
"""

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable
from typing import Final

import pynvml

from supervisor.sampling.nvml.device import CARD_LOST, LARGEST, Device
from supervisor.sampling.nvml.protocol import Heard, Hearing

#: A wait ends by itself, because one that began earlier may not notice a card that is registered meanwhile.
WAIT_S: Final = 1.0
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 30.0
#: Codes by which a driver says that it has no event sets at all, as on Windows.
_NO_EVENTS: Final = frozenset({pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_FUNCTION_NOT_FOUND})


class EventSet:
    """One event set of the driver's, and the cards that are registered in it."""

    def __init__(self) -> None:
        """Make it.

        :raises pynvml.NVMLError: the driver cannot.
        """
        self._set = pynvml.nvmlEventSetCreate()
        self._lock = threading.Lock()
        self._closed = False
        self._registering = 0
        self._uuids: dict[int, str] = {}
        #: The indices of the cards that were tried, and whether any could be registered.
        self.tried: set[int] = set()
        self.used = threading.Event()

    def add(self, device: Device) -> None:
        """Register a card that was just read, once.

        :raises pynvml.NVMLError: the driver tells no XIDs of it.
        """
        with self._lock:
            if self._closed or device.index in self.tried:
                return
            self.tried.add(device.index)
            self._registering += 1
        try:
            xids = pynvml.nvmlEventTypeXidCriticalError
            if not pynvml.nvmlDeviceGetSupportedEventTypes(device.handle) & xids:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            self._uuids[_address(device.handle)] = device.uuid
            pynvml.nvmlDeviceRegisterEvents(device.handle, xids, self._set)
        finally:
            with self._lock:
                self._registering -= 1
                left = self._is_left()
            if left:
                self._free()
        self.used.set()

    def wait(self, seconds: float) -> Heard | None:
        """The next XID; None where there was none for so long.

        :raises pynvml.NVMLError: the set is of no use any more.
        """
        try:
            event = pynvml.nvmlEventSetWait_v2(self._set, int(1000 * seconds))
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_TIMEOUT:
                raise
            return None
        return Heard(self._uuids.get(_address(event.device), ""), min(event.eventData, LARGEST))

    def close(self) -> None:
        """Free it, at once or when the last card that is being registered is: what the driver still uses must stay."""
        with self._lock:
            self._closed = True
            left = self._is_left()
        if left:
            self._free()

    def _is_left(self) -> bool:
        return self._closed and not self._registering

    def _free(self) -> None:
        with contextlib.suppress(pynvml.NVMLError):  # it was of no use before
            pynvml.nvmlEventSetFree(self._set)


class Listener(threading.Thread):
    """Tells of XIDs as they come, and of whether it can."""

    def __init__(self, tell: Callable[[Heard | Hearing], None]) -> None:
        """`tell` is called from several threads."""
        super().__init__(name="nvml-listener", daemon=True)
        #: Set once the first event set is there, or cannot be made.
        self.begun = threading.Event()
        self._tell = tell
        self._events: EventSet | None = None
        self._pause_s = FIRST_PAUSE_S
        self._said: int | None = None

    def add(self, device: Device) -> None:
        """Listen to a card from now on; called after each read of it, and does nothing if it is known already."""
        events = self._events
        if events is None or device.index in events.tried:
            return
        try:
            events.add(device)
        except pynvml.NVMLError as error:
            if error.value not in CARD_LOST:  # its next reading says that
                self._tell(Hearing(error.value, device.index))

    def run(self) -> None:
        """Listen, whatever happens, until the process ends or the driver says that it has no events."""
        while True:
            try:
                events = EventSet()
            except pynvml.NVMLError as error:
                self.begun.set()
                self._say(error.value)
                if error.value in _NO_EVENTS:
                    return
            else:
                if self._said is None:
                    self._say(pynvml.NVML_SUCCESS)
                self._listen(events)
            time.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _listen(self, events: EventSet) -> None:
        """Tell what comes until the set fails."""
        self._events = events
        self.begun.set()
        events.used.wait()  # without cards there is nothing to wait for
        try:
            while True:
                begun_s = time.monotonic()
                heard = events.wait(WAIT_S)
                self._say(pynvml.NVML_SUCCESS)
                self._pause_s = FIRST_PAUSE_S
                if heard is not None:
                    self._tell(heard)
                elif (early_s := begun_s + WAIT_S / 2 - time.monotonic()) > 0:
                    time.sleep(early_s)  # a driver that does not wait must not keep us spinning
        except pynvml.NVMLError as error:
            self._say(error.value)
        self._events = None
        events.close()

    def _say(self, code: int) -> None:
        if code != self._said:
            self._said = code
            self._tell(Hearing(code))


def _address(handle: "ctypes._Pointer[ctypes.Structure]") -> int:
    """What tells one `nvmlDevice_t` from another: the driver gives the same pointer for a card every time."""
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
