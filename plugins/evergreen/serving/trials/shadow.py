"""Copies of requests for a version in shadow: they wait apart, and are dropped rather than waited for."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from evergreen.serving.protocols.endpoint import Endpoint, Headers

MOST, MOST_BYTES = 256, 4_000_000  # copies that wait, and their bodies
TOGETHER = 16  # are asked at a time: a few hundred microseconds of the interpreter that all requests share
REST = 0.05  # seconds at most between two rounds


@dataclass(slots=True)
class Copy:
    """A request that the champion has answered."""

    endpoint: Endpoint
    body: bytes
    headers: Headers


class Shadow:
    """A bounded queue of copies, and the task that asks them, some at a time. All on the event loop."""

    def __init__(self, ask: Callable[[Sequence[Copy]], Awaitable[None]], dropped: Callable[[], None]) -> None:
        self._ask, self._dropped = ask, dropped
        self._waiting: deque[Copy] = deque()
        self._bytes = 0
        self._some = asyncio.Event()

    def offer(self, copy: Copy) -> None:
        """Have it asked later, unless too much waits already."""
        if len(self._waiting) >= MOST or self._bytes + len(copy.body) > MOST_BYTES:
            self._dropped()
            return
        self._waiting.append(copy)
        self._bytes += len(copy.body)
        self._some.set()

    async def run(self) -> None:
        """Ask what waits, for ever. While it is asked the next ones gather."""
        while True:
            await self._some.wait()
            copies = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
            self._bytes -= sum(len(copy.body) for copy in copies)
            if not self._waiting:
                self._some.clear()
            begun = time.monotonic()
            await self._ask(copies)
            # A busy worker is its callers' most of the time.
            await asyncio.sleep(min(3 * (time.monotonic() - begun), REST))
