"""Starts tracemalloc in a running program and stops it again, without harm to threads that are no Python's.

Before Python 3.12.9 and 3.13.2 `tracemalloc.stop()` crashes the program where another thread allocates at that moment
without Python's lock, as native threads that call back do (https://github.com/python/cpython/issues/128679). There we
first put the allocators back, wait until whoever was inside is out, and only then stop.
"""

import sys
import time
from typing import Any, Final

from flyball.stops import Stops

_STOP_IS_SAFE: Final = sys.version_info >= (3, 13, 2) or (3, 12, 9) <= sys.version_info < (3, 13)
#: Who was inside has waited for Python's lock; many turns of it fit in here.
DRAIN_S: Final = 0.5
#: PYMEM_DOMAIN_RAW, _MEM and _OBJ of Python's C API.
_DOMAINS: Final = (0, 1, 2)


class Untraceable(Exception):
    """tracemalloc cannot be used here; the text says why, as a sentence."""


class Tracing:
    """tracemalloc while it is needed; where the program uses it itself, it is left as it is."""

    def __init__(self, stops: Stops) -> None:
        self._stops = stops
        self.ours = False
        self._hooks: _Hooks | None = None

    def start(self) -> None:
        """Start, where the program has not: with one frame, the line that allocates.

        :raises Untraceable: this Python has no tracemalloc, or could not stop it without harm.
        """
        try:
            import tracemalloc
        except ImportError:
            raise Untraceable(f"allocations: {sys.implementation.name} has no tracemalloc") from None
        if tracemalloc.is_tracing():
            return
        self._hooks = None if _STOP_IS_SAFE else _Hooks()
        self._stops.during(lambda: tracemalloc.start(1))
        self.ours = True

    def stop(self, *, alone: bool = False) -> None:
        """Stop what we started; `alone`: no other thread is there, as in a forked child."""
        if not self.ours:
            return
        import tracemalloc

        if self._hooks is not None and not alone:
            self._hooks.put_back()
            time.sleep(DRAIN_S)
        self._stops.during(tracemalloc.stop)
        self.ours = False


class _Hooks:
    """Python's allocators as they are now, to be put back."""

    def __init__(self) -> None:
        """Remember them.

        :raises Untraceable: this Python does not let us.
        """
        try:
            import ctypes

            class Allocator(ctypes.Structure):
                """PyMemAllocatorEx."""

                _fields_ = [(name, ctypes.c_void_p) for name in ("ctx", "malloc", "calloc", "realloc", "free")]

            self._set: Any = ctypes.pythonapi.PyMem_SetAllocator
            self._found = [(domain, Allocator()) for domain in _DOMAINS]
            self._by_reference: Any = ctypes.byref
            for domain, allocator in self._found:
                ctypes.pythonapi.PyMem_GetAllocator(domain, ctypes.byref(allocator))
        except (ImportError, AttributeError) as error:
            raise Untraceable(
                f"allocations: this Python's tracemalloc cannot be stopped without harm ({error}); it is fixed in "
                "3.12.9 and 3.13.2"
            ) from None

    def put_back(self) -> None:
        """From here on nothing is traced."""
        for domain, allocator in self._found:
            self._set(domain, self._by_reference(allocator))
