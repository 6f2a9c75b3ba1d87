"""Uvicorn's HTTP protocol with a short way for the paths that ask a model.

A request for a loaded model costs no ASGI scope, no task and no event: its body goes to `ServingApp.start`, its reply
comes back as a callback and leaves in one write. Everything unusual goes uvicorn's way and is answered by the same
application: other paths, pipelined requests, Expect: 100-continue, a caller who does not read.

Slow callers: a request must have arrived within `limits.arrival` seconds of its first byte, else it is answered with
408. One who takes nothing of an answer for as long is cut off. A worker that is about to stop asks each caller to
connect anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from evergreen.serving.limits import too_slow
from evergreen.serving.protocols.body import too_large
from evergreen.serving.web.app import ServingApp
from evergreen.serving.web.call import Call, Reply

KEEP_ALIVE = 65.0  # seconds of silence after which a connection is closed; proxies hold idle ones for less
_LOOK = 1.0  # seconds between two looks at slow and idle connections


class _NoEvent:
    """Nobody waits for a short exchange."""

    def set(self) -> None:
        """Nothing."""


class _Exchange:
    """A request on the short way and its reply. To uvicorn's code it is one of its own cycles."""

    __slots__ = ("body", "call", "disconnected", "keep_alive", "more_body", "response_complete")
    message_event = _NoEvent()

    def __init__(self, call: Call, keep_alive: bool) -> None:
        self.call, self.keep_alive = call, keep_alive
        self.body: bytes | bytearray = b""
        self.more_body, self.disconnected, self.response_complete = True, False, False


class _Flow(FlowControl):
    """Reads nothing more while parsed requests wait for their turn: else who pipelines without end fills the memory."""

    def __init__(self, transport: asyncio.Transport, waiting: Collection[Any]) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


class ServingProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        assert isinstance(self.app, ServingApp)
        self._serving: ServingApp = self.app
        self._arrival = self.app.limits.arrival
        self._exchange: _Exchange | None = None  # of the request that is being received
        self._receiving_since: float | None = None
        self._idle_since = self.loop.time()
        self._unread: tuple[int, float] | None = None  # bytes that the caller does not take, and since when

    # ------------------------------------------------------------ what arrives

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One more caller, or one too many."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        if len(self.connections) > self._serving.limits.max_connections:
            transport.write(STATUS_LINE[503] + b"connection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")
            transport.close()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self.url, self.headers, self.expect_100_continue, self._exchange = b"", [], False, None
        self._receiving_since = self.loop.time()

    def on_headers_complete(self) -> None:
        """Its head: the way is chosen, or it is refused at once."""
        call = self._short()
        if call is None:
            return self._usual_way()
        stays = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        keep_alive = stays and not self._serving.is_draining()
        exchange = _Exchange(call, keep_alive)
        self.cycle = self._exchange = exchange  # type: ignore[assignment]
        if (refusal := self._serving.refused_at_once(call)) is not None:
            self._reply(exchange, refusal)
        return None

    def _short(self) -> Call | None:
        """The call, if this request can go the short way."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.expect_100_continue or self.flow.write_paused or self.parser.get_method() != b"POST":
            return None
        found = self._serving.route(self.url)
        if found is None or self.parser.should_upgrade():
            return None
        return self._serving.call(*found, dict(self.headers))

    def _usual_way(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        super().on_headers_complete()
        if self._serving.is_draining() and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """A part of its body."""
        exchange = self._exchange
        if exchange is None:
            return super().on_body(body)
        if exchange.response_complete:  # refused by its headers, or too large: the rest is dropped
            return None
        if not exchange.body:  # mostly all of it
            exchange.body = body
        else:
            exchange.body = bytearray(exchange.body) if isinstance(exchange.body, bytes) else exchange.body
            exchange.body += body
        if len(exchange.body) > self._serving.limits.max_body:
            refused = too_large(f"more than {self._serving.limits.max_body} bytes", self._serving.limits.max_body)
            self._reply(exchange, self._serving.replies.refusal(exchange.call, refused))
        return None

    def on_message_complete(self) -> None:
        """Its last byte."""
        self._receiving_since = None
        exchange = self._exchange
        if exchange is None:
            return super().on_message_complete()
        exchange.more_body = False
        if not exchange.response_complete:
            self._serving.start(exchange.call, bytes(exchange.body), partial(self._reply, exchange))
        return None

    # ------------------------------------------------------------ what leaves

    def _reply(self, exchange: _Exchange, reply: Reply) -> None:
        exchange.response_complete = True
        if exchange.disconnected or self.transport.is_closing():
            return
        parts = [STATUS_LINE[reply.status]]
        for name, value in (*self.server_state.default_headers, *reply.headers):
            parts += name, b": ", value, b"\r\n"
        if not exchange.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += b"content-length: %d\r\n\r\n" % len(reply.body), reply.body
        self.transport.write(b"".join(parts))
        if not exchange.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's, without a timer for each request: `look` closes what is idle."""
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        self.flow.resume_reading()

    # ------------------------------------------------------------ slow and idle callers

    def look(self, now: float) -> None:
        """Close the connection if its caller is too slow, or silent."""
        if self._reads_nothing(now):
            return self.transport.abort()
        if self.transport.is_closing():
            return
        if self._receiving_since is not None:
            if now - self._receiving_since > self._arrival:
                self._too_slow()
        elif self.cycle is None:  # nothing has ever been asked
            if now - self._idle_since > self._arrival:
                self.transport.close()
        elif self.cycle.response_complete and now - self._idle_since > KEEP_ALIVE:
            self.transport.close()

    def _reads_nothing(self, now: float) -> bool:
        """Whether the caller has taken nothing of what is written for too long."""
        size = self.transport.get_write_buffer_size()
        if not size:
            self._unread = None
        elif self._unread is None or size < self._unread[0]:
            self._unread = (size, now)
        return self._unread is not None and now - self._unread[1] > self._arrival

    def _too_slow(self) -> None:
        """408, unless an answer has begun: then only the end is left."""
        exchange = self._exchange
        if exchange is not None and not exchange.response_complete:
            exchange.keep_alive = False
            return self._reply(exchange, self._serving.replies.refusal(exchange.call, too_slow(self._arrival)))
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(STATUS_LINE[408] + b"connection: close\r\ncontent-length: 0\r\n\r\n")
        return self.transport.close()


async def look_after(connections: set[Any]) -> None:
    """For ever: let each connection of a server look at its caller."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(_LOOK)
        for connection in list(connections):
            connection.look(loop.time())
