"""A worker's pulse: a byte a second from its event loop, through a pipe. It needs no disk, and dies with the process.

A worker that lives and does not answer any more (its event loop is blocked, or the process is stopped) is told from
a busy one by this: loading and large requests run in threads, beside which the loop goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress

DRAIN = signal.SIGUSR1  # "not ready any more"; a worker inherits it blocked, so that it does not die of it at its start
BEAT = 1.0  # seconds between two bytes
HANGS_AFTER = 10.0  # seconds of silence
STARTS_WITHIN = 60.0  # seconds until the first byte: libraries are imported from a cold disk
_LOOK = 0.5  # seconds of silence that one look counts at most


class Pulse:
    """The supervisor's end: counts seconds of silence."""

    def __init__(self) -> None:
        self._read, self.write_end = os.pipe()
        os.set_blocking(self._read, False)
        self._silent, self._patience, self._looked = 0.0, STARTS_WITHIN, time.monotonic()

    def handed_over(self) -> None:
        """The worker has its end now: close ours."""
        os.close(self.write_end)

    def hangs(self) -> bool:
        """Whether the worker is silent for too long. To be asked several times a second.

        Time in which nobody asked counts for little: this process stood still then too (a paused container).
        """
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        if self._heard():
            self._silent, self._patience = 0.0, HANGS_AFTER
        else:
            self._silent += min(elapsed, _LOOK)
        return self._silent > self._patience

    def close(self) -> None:
        """Once the worker has ended."""
        os.close(self._read)

    def _heard(self) -> bool:
        try:
            return bool(os.read(self._read, 65536))
        except BlockingIOError:
            return False


async def beat(descriptor: int) -> None:
    """The worker's end: for ever. Whether anybody listens does not matter here."""
    os.set_blocking(descriptor, False)
    while True:
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(descriptor, b".")
        await asyncio.sleep(BEAT)
