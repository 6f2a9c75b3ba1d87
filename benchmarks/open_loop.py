"""Asks a server at a constant rate, whatever the answers do: a closed loop hides the waiting of who comes too late.

    python benchmarks/open_loop.py --port 8000 --path /models/m/predict --rate 5000 --seconds 10 < body.json

Requests are due at equal distances; a latency counts from when a request was due. A connection has one request at a
time. Where no connection is free the request waits for one, and is given up (`unsent`) once as many wait as there are
connections. Each `--every` seconds, and at the end, prints one line of JSON:

    {"seconds", "due", "answered": {status: number}, "unsent", "p50_ms", "p99_ms", "max_ms" of those answered with 200,
     "lag_p99_ms": how late this program itself was with sending}

It watches the clock instead of sleeping, because timers of event loops count whole milliseconds: it keeps a core busy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter, deque

import uvloop

_SETTLE = 10.0  # seconds for the last answers


class Window:
    """What was seen since the last line."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.due = self.unsent = 0
        self.answered: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.lags: list[float] = []

    def line(self) -> str:
        """As JSON."""
        latencies, lags = sorted(self.latencies), sorted(self.lags)
        told = {
            "seconds": round(time.monotonic() - self.began, 2), "due": self.due, "answered": self.answered,
            "unsent": self.unsent, "p50_ms": _part(latencies, 0.5), "p99_ms": _part(latencies, 0.99),
            "max_ms": _part(latencies, 1.0), "lag_p99_ms": _part(lags, 0.99),
        }  # fmt: skip
        return json.dumps(told)


def _part(ordered: list[float], part: float) -> float | None:
    return round(1000 * ordered[min(int(part * len(ordered)), len(ordered) - 1)], 3) if ordered else None


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, load: Load) -> None:
        self.load, self.due, self.waited = load, 0.0, False
        self._head, self._left = b"", 0
        self._status = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ready to ask."""
        self.transport = transport
        self.load.free.append(self)

    def ask(self, due: float) -> None:
        """Send the request that was due then."""
        self.due = due
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        """An answer, or a part of one."""
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._head[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self._status, self._left = self._head[9:12].decode(), length - (len(self._head) - end - 4)
            self._head = b""
        if self._left <= 0:
            self._left = 0
            self._answered(self._status)

    def connection_lost(self, error: Exception | None) -> None:
        """The server closed it: what was asked is not answered, and another connection takes its place."""
        if self in self.load.free:
            self.load.free.remove(self)
        elif self.due:
            self._count("lost")
        self.load.open_another()

    def _answered(self, status: str) -> None:
        if status == "200":
            self.load.window.latencies.append(time.monotonic() - self.due)
        self._count(status)
        if self.load.waiting:
            self.ask(self.load.waiting.popleft())
        elif not self.transport.is_closing():
            self.load.free.append(self)

    def _count(self, what: str) -> None:
        self.load.window.answered[what] += 1
        self.due = 0.0
        self.load.under_way -= 1


class Load:
    """A constant rate over connections that are opened before."""

    def __init__(self, options: argparse.Namespace, body: bytes) -> None:
        self._options = options
        head = f"POST {options.path} HTTP/1.1\r\nhost: {options.host}:{options.port}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.request = head.encode() + body
        self.free: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.under_way, self.window, self._opening = 0, Window(), set[asyncio.Future[object]]()
        self._ended = False

    def open_another(self) -> None:
        """In the background."""
        if self._ended:
            return
        making = asyncio.ensure_future(self._open())
        self._opening.add(making)
        making.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: Connection(self), self._options.host, self._options.port
            )
        except OSError:
            await asyncio.sleep(0.1)
            self.open_another()

    async def run(self) -> None:
        """Ask until the time is over, and wait for the last answers."""
        for _ in range(self._options.connections):
            await self._open()
        step, begin = 1 / self._options.rate, time.monotonic()
        self.window = Window()
        due, end, tell = begin, begin + self._options.seconds, begin + self._options.every
        while due < end:
            now = time.monotonic()
            while due <= now and due < end:
                self._ask(due)
                due += step
            if now >= tell:
                self._tell()
                tell += self._options.every
            await asyncio.sleep(0)
        while self.under_way and time.monotonic() < end + _SETTLE:
            await asyncio.sleep(0.01)
        self._tell()
        self._ended = True

    def _ask(self, due: float) -> None:
        self.window.due += 1
        if self.free:
            self.under_way += 1
            self.window.lags.append(time.monotonic() - due)
            self.free.popleft().ask(due)
        elif len(self.waiting) < self._options.connections:
            self.under_way += 1
            self.waiting.append(due)
        else:
            self.window.unsent += 1

    def _tell(self) -> None:
        if self.window.due:
            print(self.window.line(), flush=True)
        self.window = Window()


def main() -> None:
    """Read the body from standard input, and ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--rate", type=float, required=True, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=1e9, help="seconds from one line to the next")
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    uvloop.run(Load(options, sys.stdin.buffer.read()).run())


if __name__ == "__main__":
    main()
