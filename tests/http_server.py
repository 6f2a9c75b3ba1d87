"""Serving's HTTP protocol on a port of its own, and connections that send it bytes."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from bundles import ROW, make_bundle, put
from evergreen.core.caller_tokens import digest
from evergreen.fakes.store import InMemoryStore
from evergreen.serving.callers import KnownCallers
from evergreen.serving.limits import Limits
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.replica.local_bundles import LocalBundles
from evergreen.serving.state import CALLERS, STATE, WORKERS, Callers, PoolState, Released, Settings, write
from evergreen.serving.web import http
from evergreen.serving.web.app import ServingApp
from serving_process import wait_for

PREDICT = "/models/flight-delay/predict"
BODY = json.dumps({"records": [ROW]}).encode()


class Server:
    """An application with version 1 of some models behind the protocol, on a port of its own, in a thread."""

    def __init__(self, folder: Path, limits: Limits, token: str, models: Mapping[str, Settings]) -> None:
        (folder / WORKERS).mkdir(parents=True)
        released = {name: Released(1, f"release-{name}", _fetched(folder, name), 1) for name in models}
        write(folder / STATE, PoolState(1, released, {}, dict(models)))
        write(folder / CALLERS, Callers({digest(token): "shop"}))
        self.table = ModelTable(folder, "0", Metrics(), KnownCallers(folder / CALLERS) if token else None)
        self.app = ServingApp(self.table, limits)
        config = uvicorn.Config(
            self.app,
            http=http.ServingProtocol,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            access_log=False,  # as a worker has it; pytest would keep each line in memory
            log_config=None,
        )
        self.server = uvicorn.Server(config)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        wait_for(lambda: self.server.started, 10)

    async def _serve(self) -> None:
        while not self.table.state or self.table.models.keys() != self.table.state.models.keys():
            await self.table.follow_once(False)
        looking = asyncio.create_task(http.look_after(self.server.server_state.connections))
        await self.server.serve(sockets=[self.listening.dup()])
        looking.cancel()
        self.app.close()

    def end(self) -> None:
        self.server.should_exit = True
        self._thread.join(20)
        self.listening.close()
        assert not self._thread.is_alive()

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        with socket.create_connection(self.listening.getsockname(), timeout=10) as made:
            connection = Connection(made)
            try:
                yield connection
            finally:
                connection.file.close()

    def connections(self) -> int:
        return len(self.server.server_state.connections)


def _fetched(folder: Path, model: str) -> str:
    store, (bundle, files) = InMemoryStore(), make_bundle(model, seed=1)
    put(store, bundle, files)
    LocalBundles(folder / "bundles").fetch(bundle, store)
    return bundle


class Answer:
    """One response as it came."""

    def __init__(self, head: bytes, body: bytes) -> None:
        status, *lines = head.decode().split("\r\n")
        self.status, self.body = int(status.split()[1]), body
        self.headers = dict(line.split(": ", 1) for line in lines)

    @property
    def found(self) -> Any:
        return json.loads(self.body)


class Connection:
    """Bytes out, responses in."""

    def __init__(self, made: socket.socket) -> None:
        self.socket, self.file = made, made.makefile("rb")

    def send(self, *packets: bytes) -> None:
        for packet in packets:
            self.socket.sendall(packet)

    def receive(self) -> Answer:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.file.readline()
            assert line, "the server closed the connection"
            head += line
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        return Answer(head[:-4], self.file.read(int(length.split(b":")[1])))

    def is_closed(self) -> bool:
        """Whether the server ends it, after what it has sent; by a reset where more had come that nobody will read."""
        try:
            return self.file.read() == b""
        except ConnectionResetError:
            return True


def request(body: bytes = BODY, path: str = PREDICT, version: str = "1.1", **headers: str) -> bytes:
    given = {"host": "x", "content-length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/{version}\r\n{lines}\r\n".encode() + body


LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n"


@contextmanager
def served(
    folder: Path, limits: Limits | None = None, token: str = "", models: Mapping[str, Settings] | None = None
) -> Iterator[Server]:
    """A server of these models (none: flight-delay) until the end of the block."""
    server = Server(
        folder / "default", limits or Limits(max_body=20_000), token, models or {"flight-delay": Settings()}
    )
    try:
        yield server
    finally:
        server.end()
