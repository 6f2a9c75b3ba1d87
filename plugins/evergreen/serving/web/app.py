"""One worker's ASGI application: the paths that ask a model here, all other pages by Starlette.

Where tokens are asked for, all but health and /metrics want one (serving.callers); /metrics is for the internal
network, and the edge in front of a slot does not pass it on.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope, Send

from evergreen.core.records import CHAMPION
from evergreen.serving.engine import INLINE_ROWS, Engine
from evergreen.serving.limits import InFlight, Limits, too_late
from evergreen.serving.log.answer_log import Log, NoLog
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.body import INLINE_BYTES, check_announced, read_body
from evergreen.serving.protocols.endpoint import Endpoint, Headers
from evergreen.serving.protocols.invocations_endpoint import model_asked
from evergreen.serving.refusals import RequestRefused
from evergreen.serving.web.call import Bounded, Call, NoTrials, OnTrial, Reply, Trials
from evergreen.serving.web.pages import Pages
from evergreen.serving.web.replies import Replies
from evergreen.serving.web.routes import endpoint_of

_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class ServingApp:
    """Answers callers from a table of models. For one event loop. `on_loopback`: nobody else can reach it."""

    def __init__(
        self,
        table: ModelTable,
        limits: Limits | None = None,
        log: Log | None = None,
        trials: Trials | None = None,
        engine: Engine | None = None,
        *,
        on_loopback: bool = False,
    ) -> None:
        self.limits = limits or Limits()
        self.log, self.trials = log or NoLog(), trials or NoTrials()
        self.replies = Replies(table)
        self._table, self._metrics = table, table.metrics
        self.engine = engine or Engine(table.metrics, self.log, self.limits)
        self.in_flight = InFlight(self.limits, table.settings_of)
        table.keep_while(self.in_flight.busy)
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="reading")
        self._pages = Pages(table, self.log, self.in_flight, self.limits.max_body, on_loopback=on_loopback).starlette()
        self._under_way: set[asyncio.Task[None]] = set()
        self._ids, self._numbers = os.urandom(8).hex().encode(), count()
        self._routes: dict[bytes, tuple[Endpoint, str]] = {}
        self._inline_rows = min(INLINE_ROWS, self.limits.max_rows)

    def close(self) -> None:
        """At the worker's end, when the last answer has left."""
        self.engine.close()
        self._reading.shutdown(wait=False, cancel_futures=True)
        self.log.close()

    # ------------------------------------------------------------ a request by ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        found = endpoint_of(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if found is None:
            return await self._pages(scope, receive, send)
        try:
            reply = await self._by_asgi(*found, Request(scope, receive))
        except ClientDisconnect:
            return
        headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _by_asgi(self, endpoint: Endpoint, name: str, request: Request) -> Reply:
        headers = dict(request.scope["headers"])
        call = self.call(endpoint, name, headers)
        try:
            if (refusal := self.refused_at_once(call)) is not None:
                return refusal
            call.name = name or model_asked(sorted(self._table.answering), _query(request), headers)
            body = await read_body(request, self.limits.max_body)
        except RequestRefused as refused:
            return self.replies.refusal(call, refused)
        except ClientDisconnect:
            self.replies.count_refusal(call, 400)
            raise
        return await self.respond(call, body)

    # ------------------------------------------------------------ a request by any way

    def is_draining(self) -> bool:
        """Whether callers are to connect anew, to another replica."""
        return self._table.draining

    def route(self, path: bytes) -> tuple[Endpoint, str] | None:
        """The endpoint and the model's name of a raw path that needs no decoding; none for all other paths."""
        found = self._routes.get(path)
        if found is None and b"%" not in path and b"?" not in path:
            found = endpoint_of(path.decode("latin-1"))
            if found and found[1] in self._table.answering and len(self._routes) < 10_000:
                self._routes[path] = found
        return found if found and found[1] else None

    def call(self, endpoint: Endpoint, name: str, headers: Headers) -> Call:
        """A call that begins now. Its id is the caller's, if it can be sent back as it is, else a new one."""
        given = headers.get(b"x-request-id")
        if given is None or not _REQUEST_ID.fullmatch(given):
            given = b"%s%016x" % (self._ids, next(self._numbers))
        return Call(endpoint, name, headers, given, "", time.perf_counter())

    def refused_at_once(self, call: Call) -> Reply | None:
        """The reply to what need not be read: no token, too much under way, a body announced too large; else none."""
        try:
            if self._table.callers:
                call.caller = self._table.callers.check(call.headers.get(b"authorization", b""), self._metrics)
            if self.in_flight.full(call.name):
                return self.replies.overload(call)
            check_announced(call.headers, self.limits.max_body)
        except RequestRefused as refused:
            return self.replies.refusal(call, refused)
        return None

    def start(self, call: Call, body: bytes, done: Callable[[Reply], None]) -> None:
        """Answer without a task where that can be done: a loaded model, asked of the champion, few rows."""
        model = self._table.models.get(call.name)
        trial = self.trials.of(call.name)
        if model is None or len(body) > INLINE_BYTES or (trial is not None and trial.takes(_key(call))):
            return self._spawn(self._respond_to(call, body, done))
        if self.in_flight.full(call.name):
            return done(self.replies.overload(call))
        call.version = model.version
        try:
            asked = call.endpoint.read(model, body, call.headers)
        except Exception as error:
            return done(self.replies.refusal(call, error))
        if len(asked.matrix) > self._inline_rows:
            return self._spawn(self._respond_to(call, body, done))
        self.in_flight.enter(call.name)

        def answered(answer: Answer | Exception) -> None:
            self.in_flight.leave(call.name)
            try:
                if isinstance(answer, Exception):
                    raise answer
                _tell(trial, call, body, answer)
                reply = self.replies.answer(call, answer, call.endpoint.write(asked, answer, call.headers))
            except Exception as error:
                reply = self.replies.refusal(call, error)
            done(reply)

        self.engine.submit(model, asked, CHAMPION, answered)

    async def respond(self, call: Call, body: bytes) -> Reply:
        """Answer, whatever it takes: a model to be loaded, a version on trial, many rows."""
        if self.in_flight.full(call.name):
            return self.replies.overload(call)
        self.in_flight.enter(call.name)
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await self._answer(call, body)
        except TimeoutError:
            return self.replies.refusal(call, too_late(self.limits.seconds))
        except Exception as error:
            return self.replies.refusal(call, error)
        finally:
            self.in_flight.leave(call.name)

    async def _answer(self, call: Call, body: bytes) -> Reply:
        model = self._table.models.get(call.name) or await self._table.awake(call.name)
        call.version = model.version
        endpoint = Bounded(call.endpoint, self.limits.max_rows)
        if (trial := self.trials.of(call.name)) is not None:
            asked, answer = await trial.answer(endpoint, model, body, call.headers, _key(call))
        else:
            asked = await self._aside(len(body) > INLINE_BYTES, endpoint.read, model, body, call.headers)
            answer = await self.engine.ask(model, asked)
        written = await self._aside(len(asked.matrix) > INLINE_ROWS, endpoint.write, asked, answer, call.headers)
        return self.replies.answer(call, answer, written)

    async def _aside(self, is_big: bool, function: Callable[..., Any], *arguments: Any) -> Any:
        """In a thread what would hold up the others."""
        if not is_big:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._reading, function, *arguments)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _respond_to(self, call: Call, body: bytes, done: Callable[[Reply], None]) -> None:
        done(await self.respond(call, body))


def _key(call: Call) -> str:
    """What keeps a caller with one arm of a trial."""
    return (call.headers.get(b"x-request-key") or call.id).decode("latin-1")


def _tell(trial: OnTrial | None, call: Call, body: bytes, answer: Answer) -> None:
    """Let a trial count an answer of the champion's."""
    if trial is not None:
        trial.saw(call.endpoint, body, call.headers, call.begun, answer)


def _query(request: Request) -> Mapping[str, str]:
    return dict(parse_qsl(request.scope["query_string"].decode("latin-1")))
