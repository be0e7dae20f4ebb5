"""How long the program stood still because of us: the longest step of ours in which no other thread could run."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Stops:
    """Measures steps that hold Python's lock from their begin to their end."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    def during(self, step: Callable[[], T]) -> T:
        """Do `step`, a call into C; what counts is our thread's own time, since others run while it waits."""
        began_s = time.thread_time()
        try:
            return step()
        finally:
            self.longest_s = max(self.longest_s, time.thread_time() - began_s)
