"""A program with many threads and handles of known kinds, which measures the longest time for which it stood still.

`python hoarder.py THREADS SOCKETS FILES DIRECTORY`; it prints `ready`, and at each line on stdin the longest gap
between two looks at the clock since the line before, in seconds. It ends when stdin does.
"""

import ctypes
import os
import socket
import sys
import threading
import time
from pathlib import Path

PR_SET_NAME = 15


class Gap:
    """The longest time for which a thread that does nothing else did not run."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        last_s = time.perf_counter()
        while True:
            time.sleep(0.001)
            now_s = time.perf_counter()
            self.longest_s = max(self.longest_s, now_s - last_s)
            last_s = now_s

    def take(self) -> float:
        """The longest since the last call."""
        longest_s, self.longest_s = self.longest_s, 0.0
        return longest_s


def named_thread(name: str, end: threading.Event) -> None:
    """A thread whose name the kernel knows."""

    def run() -> None:
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
        started.set()
        end.wait()

    started = threading.Event()
    threading.Thread(target=run, daemon=True).start()
    started.wait()


def main() -> None:
    """Hoard, and answer."""
    threads, sockets, files = map(int, sys.argv[1:4])
    directory, end, kept = Path(sys.argv[4]), threading.Event(), []
    for number in range(threads):
        named_thread(f"lance-bg-{number}", end)
    with socket.create_server(("127.0.0.1", 0), backlog=sockets) as server:
        for number in range(sockets):
            ours = socket.create_connection(server.getsockname())
            theirs, _ = server.accept()
            if number % 2:
                ours.close()
                theirs.recv(1)  # the end of it has come: theirs is in CLOSE_WAIT now
                kept.append(theirs)
            else:
                kept += [ours, theirs]
        held = [(directory / f"part-{number}").open("w") for number in range(files)]
        gone = (directory / "gone").open("w")
        (directory / "gone").unlink()
        pipe = os.pipe()
        events = [os.eventfd(0) for _ in range(5)]
        gap = Gap()
        print("ready", flush=True)
        for _ in sys.stdin:
            print(gap.take(), flush=True)
    del kept, held, gone, pipe, events


if __name__ == "__main__":
    main()
