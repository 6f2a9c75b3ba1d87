"""A limit on wrong passwords at Airflow's token addresses, an ASGI middleware of the API server.

FAB limits its sign-in form only: `/auth/token` would let anyone guess as fast as the machine can hash.
"""

from __future__ import annotations

import json
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

MOST = 5  # wrong passwords of one address …
WITHIN = 40.0  # … in so many seconds: as FAB's form
ADDRESSES = 10_000  # remembered at once
PATHS = ("/auth/token", "/auth/token/cli", "/auth/api/v1/security/login")
REFUSED = (400, 401, 403)


class SignInLimit:
    """Answers 429 to an address that was refused too often; others are not slowed. A right password is not counted."""

    def __init__(self, app: Any, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._app, self._clock = app, clock
        self._refused: OrderedDict[str, deque[float]] = OrderedDict()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on, and count the refusals of a sign-in."""
        if scope["type"] != "http" or not _is_sign_in(scope):
            await self._app(scope, receive, send)
            return
        address = str((scope.get("client") or ("unknown",))[0])
        if wait := self._wait(address):
            await _too_many(send, wait)
            return

        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start" and message["status"] in REFUSED:
                self._count(address)
            await send(message)

        await self._app(scope, receive, watched)

    def _wait(self, address: str) -> int:
        """Seconds until this address may try again; 0 where it may now."""
        times = self._refused.get(address, deque())
        while times and times[0] <= self._clock() - WITHIN:
            times.popleft()
        return math.ceil(times[0] + WITHIN - self._clock()) if len(times) >= MOST else 0

    def _count(self, address: str) -> None:
        self._refused.setdefault(address, deque(maxlen=MOST)).append(self._clock())
        self._refused.move_to_end(address)
        while len(self._refused) > ADDRESSES:
            self._refused.popitem(last=False)


def _is_sign_in(scope: Any) -> bool:
    return scope["method"] == "POST" and str(scope["path"]).rstrip("/").endswith(PATHS)


async def _too_many(send: Any, wait: int) -> None:
    told = json.dumps({"detail": f"Too many wrong passwords from this address. Try again in {wait} s."}).encode()
    headers = [(b"content-type", b"application/json"), (b"retry-after", str(wait).encode())]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": told})
