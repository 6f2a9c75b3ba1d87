"""Gives memory back that is free inside this process: glibc keeps it for a next model that may never come."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import time
from collections.abc import Callable

_EVERY = 1.0  # seconds at least between two: it walks the whole heap
_last = 0.0


def give_back() -> None:
    """Now and then, where this libc can. For a thread: it releases the GIL, and takes milliseconds."""
    global _last
    if time.monotonic() - _last >= _EVERY and (trim := _trim()):
        trim(0)
        _last = time.monotonic()


@functools.cache
def _trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
