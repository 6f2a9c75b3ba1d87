"""Load on a serving replica or its edge, with a record of every request.

    with load(Plan(port, [predict("flight-delay", ROW)], connections=64)) as run:
        …                                  # swap, kill, roll; wait_for(lambda: run.count > 1000, 20)
    assert not failures(run.answers) and quantile(run.answers, 0.99) < …

It runs in a process of its own, so that the test's work does not slow it. Times are of time.monotonic(), which is one
clock for all processes of a machine. Closed loop: each connection asks again once it has its answer. Open loop (with
`rate`): requests are due at a constant rate, whatever the answers do, and a latency counts from when it was due.
A request is asked once: a connection that breaks is a failure, as it is for a caller without retries.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any

import msgspec
import uvloop

_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")  # UUIDs of version 7
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_VERSION = re.compile(rb"\r\nx-model-version: *([^\r]*)", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_TELL = 0.05  # seconds between two counts that the process tells


class Ask(msgspec.Struct, frozen=True):
    """One request; the client adds host and content-length."""

    path: str
    body: bytes = b""
    method: str = "POST"
    headers: dict[str, str] = msgspec.field(default_factory=lambda: {"content-type": "application/json"})


class Plan(msgspec.Struct, frozen=True):
    """What to ask, and how. `asks` are taken in turn.

    `rate` is requests a second over all connections (none: closed loop); `connections` are the most at a time.
    `keys`: so many different x-request-keys, in turn. `ids`: keep the inference ids of the answers. `ca`: over TLS,
    by this authority's certificate (a file). `timeout` in seconds, for one request.
    """

    port: int
    asks: list[Ask]
    connections: int = 64
    rate: float | None = None
    keep_alive: bool = True
    keys: int = 0
    ids: bool = False
    timeout: float = 10.0
    host: str = "127.0.0.1"
    ca: str | None = None


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """What became of one request. `start` is when it was sent (open loop: was due), `latency` in seconds.

    `status` 0: no answer, and `error` says why. `ask` is its place in the plan's list.
    """

    start: float
    latency: float
    status: int
    version: str = ""
    ids: list[str] = []
    error: str = ""
    ask: int = 0
    key: str = ""

    @property
    def end(self) -> float:
        """When the answer was there."""
        return self.start + self.latency


def predict(model: str, *rows: dict[str, Any]) -> Ask:
    """A request of the records endpoint."""
    return Ask(f"/models/{model}/predict", json.dumps({"records": rows}).encode())


def failures(answers: Sequence[Answered]) -> list[Answered]:
    """Those that were not answered with 200."""
    return [answer for answer in answers if answer.status != 200]


def quantile(answers: Sequence[Answered], part: float) -> float:
    """The latency (seconds) that this part of the requests did not exceed."""
    latencies = sorted(answer.latency for answer in answers)
    return latencies[min(int(part * len(latencies)), len(latencies) - 1)]


def between(answers: Sequence[Answered], begin: float, end: float) -> list[Answered]:
    """Those that were sent (or due) within this time."""
    return [answer for answer in answers if begin <= answer.start < end]


class Run:
    """A plan that is under way in its process. `count` and `failed` so far; `answers` once it has ended."""

    def __init__(self, plan: Plan) -> None:
        self.count = self.failed = 0
        self.answers: list[Answered] = []
        command = [sys.executable, str(Path(__file__).resolve())]
        # In a file, not in the pipe, whose end was lost at times as the process ended.
        self._kept = tempfile.NamedTemporaryFile()  # noqa: SIM115  closed by kill()
        command.append(self._kept.name)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._input.write(msgspec.json.encode(plan) + b"\n")
        self._input.flush()
        self._told = Thread(target=self._listen, daemon=True)
        self._told.start()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def _listen(self) -> None:
        """Lines of counts."""
        output = self._process.stdout
        assert output is not None
        for line in output:
            self.count, self.failed = map(int, line.split())

    def stop(self) -> list[Answered]:
        """Let what is asked be answered, and end."""
        if not self._input.closed:
            self._input.close()
        assert self._process.wait(120) == 0, "the load client failed; its error is in the output of the tests"
        self._told.join()
        self.answers = msgspec.msgpack.decode(Path(self._kept.name).read_bytes(), type=list[Answered])
        self.count, self.failed = len(self.answers), len(failures(self.answers))
        return self.answers

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._told.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._kept.close()


@contextmanager
def load(plan: Plan) -> Iterator[Run]:
    """Load until the end of the block; all answers are there after it."""
    run = Run(plan)
    try:
        yield run
        run.stop()
    finally:
        run.kill()


class Client:
    """Carries a plan out in this process's event loop."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.answers, self.failed = plan, list[Answered](), 0
        self._tls = ssl.create_default_context(cafile=plan.ca) if plan.ca else None
        self._turn = 0
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def run(self, stop: asyncio.Event) -> list[Answered]:
        """Ask until told to stop; what is under way then is waited for."""
        if self.plan.rate is None:
            await asyncio.gather(*(self._closed_loop(stop) for _ in range(self.plan.connections)))
        else:
            await self._open_loop(stop, self.plan.rate)
        for _, writer in self._idle:
            writer.close()
        return self.answers

    async def _closed_loop(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            before = len(self._idle)
            await self._ask(time.monotonic())
            if self.answers[-1].status == 0 and len(self._idle) == before:
                await asyncio.sleep(0.01)  # nobody listens: not a hundred thousand records a second

    async def _open_loop(self, stop: asyncio.Event, rate: float) -> None:
        due, under_way, room = time.monotonic(), set[asyncio.Task[None]](), asyncio.Semaphore(self.plan.connections)

        async def one(due: float) -> None:
            async with room:
                await self._ask(due)

        while not stop.is_set():
            while due <= time.monotonic():
                task = asyncio.ensure_future(one(due))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                due += 1 / rate
            await asyncio.sleep(max(0.0, min(due - time.monotonic(), 0.05)))
        await asyncio.gather(*under_way)

    async def _ask(self, start: float) -> None:
        turn, self._turn = self._turn, self._turn + 1
        place = turn % len(self.plan.asks)
        key = f"key-{turn % self.plan.keys}" if self.plan.keys else ""
        try:
            async with asyncio.timeout(self.plan.timeout):
                status, version, ids = await self._exchange(self._bytes(place, key))
            answer = Answered(start, time.monotonic() - start, status, version, ids, "", place, key)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            answer = Answered(start, time.monotonic() - start, 0, "", [], repr(error)[:200], place, key)
        self.answers.append(answer)
        self.failed += answer.status != 200

    async def _exchange(self, request: bytes) -> tuple[int, str, list[str]]:
        reader, writer = await self._connection()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length.group(1))) if length else b""
        except BaseException:
            writer.close()
            raise
        if self.plan.keep_alive and not _CLOSES.search(head):
            self._idle.append((reader, writer))
        else:
            writer.close()
        version = _VERSION.search(head)
        ids = [found.decode() for found in _ID.findall(body)] if self.plan.ids else []
        return int(head[9:12]), version.group(1).decode() if version else "", ids

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():  # closed while idle: nothing was asked of it
                return reader, writer
            writer.close()
        return await asyncio.open_connection(self.plan.host, self.plan.port, ssl=self._tls)

    def _bytes(self, place: int, key: str) -> bytes:
        ask = self.plan.asks[place]
        lines = [f"{ask.method} {ask.path} HTTP/1.1", f"host: {self.plan.host}:{self.plan.port}"]
        lines += [f"{name}: {value}" for name, value in ask.headers.items()]
        lines += [f"content-length: {len(ask.body)}"]
        lines += [f"x-request-key: {key}"] if key else []
        lines += [] if self.plan.keep_alive else ["connection: close"]
        return "\r\n".join([*lines, "", ""]).encode() + ask.body


async def _child(plan: Plan) -> list[Answered]:
    """Until standard input is closed; counts are told meanwhile."""
    stop, client = asyncio.Event(), Client(plan)
    asyncio.get_running_loop().add_reader(0, _ended, stop)
    running = asyncio.ensure_future(client.run(stop))
    while not running.done():
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(running), _TELL)
        print(len(client.answers), client.failed, flush=True)
    return running.result()


def _ended(stop: asyncio.Event) -> None:
    asyncio.get_running_loop().remove_reader(0)
    stop.set()


if __name__ == "__main__":
    answers = uvloop.run(_child(msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)))
    Path(sys.argv[1]).write_bytes(msgspec.msgpack.encode(answers))
