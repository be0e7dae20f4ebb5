"""The reader process: `python -m supervisor.sampling.nvml.child`, requests on standard input, answers on the output.

The main thread only listens; another one calls into the driver. When that one is stuck and the parent asks for other
cards, a new thread takes over and the stuck one ends by itself once its call returns. The process ends with its
parent: at the end of its input, and on Linux by the parent-death signal. A third thread may wait for XIDs.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Final

import msgspec
import pynvml

from supervisor.sampling.nvml.device import DRIVER_GONE, Device
from supervisor.sampling.nvml.listener import Listener
from supervisor.sampling.nvml.protocol import Answer, Failed, Frames, Message, Opened, Read, frame

LISTENER_WAIT_S: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1


class Output:
    """Standard output; a message is written whole, whichever thread it comes from."""

    def __init__(self) -> None:
        # What libraries print must not fall between the messages.
        self._descriptor = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        self._lock = threading.Lock()

    def write(self, message: Message) -> None:
        """Send one message; the process ends where nobody listens any more."""
        rest = memoryview(frame(message))
        try:
            with self._lock:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
        except BrokenPipeError:
            os._exit(0)


class Worker(threading.Thread):
    """Serves requests one after the other until it is `abandoned`."""

    def __init__(
        self, devices: dict[int, Device], slow_interval_s: float, output: Output, listener: Listener | None
    ) -> None:
        super().__init__(name="nvml-worker", daemon=True)
        self.abandoned = False
        self.busy = False
        self._devices = devices
        self._slow_interval_s = slow_interval_s
        self._output = output
        self._listener = listener
        self._requests: queue.SimpleQueue[Read] = queue.SimpleQueue()

    def submit(self, request: Read) -> None:
        """Hand over a request; returns at once."""
        self.busy = True
        self._requests.put(request)

    def run(self) -> None:
        """Read cards; a driver that is gone ends the process."""
        try:
            while not self.abandoned:
                self._serve(self._requests.get())
        except pynvml.NVMLError as error:
            self._output.write(Failed(error.value))
            os._exit(0)

    def _serve(self, request: Read) -> None:
        last = request.indices[-1]
        for index in request.indices:
            answer = self._read(request.sequence, index, anew=index in request.anew)
            if index == last:  # before the answer, because the next request may follow upon it
                self.busy = False
            self._output.write(answer)
            if self.abandoned:  # this answer was late; another thread reads the rest
                return

    def _read(self, sequence: int, index: int, *, anew: bool) -> Answer:
        try:
            device = self._devices.get(index)
            if device is None:
                device = self._devices[index] = Device(index, self._slow_interval_s)
            gpu = device.read(anew=anew)
            if self._listener is not None and gpu.reading == "fresh":
                self._listener.add(device)
            return Answer(sequence, index, pynvml.NVML_SUCCESS, gpu)
        except pynvml.NVMLError as error:
            if error.value in DRIVER_GONE:
                raise
            return Answer(sequence, index, error.value, None)


def requests() -> Iterator[Read]:
    """The parent's requests until it closes the pipe."""
    frames = Frames()
    decoder = msgspec.msgpack.Decoder(Read)
    while data := os.read(sys.stdin.fileno(), 65536):
        for body in frames.feed(data):
            yield decoder.decode(body)


def end_with(parent: int) -> None:
    """Ask Linux to kill this process with its parent; elsewhere the end of the input must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(0)


def main() -> None:
    """Arguments: the parent's pid, seconds between reads of the slowly changing figures, whether to `listen`."""
    end_with(int(sys.argv[1]))
    slow_interval_s, listens = float(sys.argv[2]), sys.argv[3] == "listen"
    output = Output()
    try:
        pynvml.nvmlInit()
        output.write(Opened(pynvml.nvmlDeviceGetCount(), pynvml.nvmlSystemGetDriverVersion()))
    except pynvml.NVMLError as error:
        output.write(Failed(error.value))
        return
    listener = Listener(output.write) if listens else None
    if listener is not None:
        listener.start()
        listener.begun.wait(LISTENER_WAIT_S)  # so that cards are registered at their first reading
    devices: dict[int, Device] = {}
    worker = Worker(devices, slow_interval_s, output, listener)
    worker.start()
    for request in requests():
        if worker.busy:
            worker.abandoned = True
            worker = Worker(devices, slow_interval_s, output, listener)
            worker.start()
        worker.submit(request)
    os._exit(0)  # not exit: a thread inside the driver would hold it up


if __name__ == "__main__":
    main()
