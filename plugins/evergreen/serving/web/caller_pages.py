"""Pages for those who ask models, beside asking: ground truth, users' metrics, the OpenAPI description, its page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from evergreen.serving.callers import CALLER
from evergreen.serving.log import ground_truth, posted, user_metrics
from evergreen.serving.log.answer_log import Log
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.protocols.body import read_body
from evergreen.serving.refusals import RequestRefused
from evergreen.serving.web import docs_page, openapi

_FEWER = "Send them in several requests; `evergreen ground-truth` does so with the labels of a file."


class CallerPages:
    """Routes over a table of models. `max_body` in bytes; `on_loopback`: nobody else can reach this server."""

    def __init__(self, table: ModelTable, log: Log, version: str, max_body: int, *, on_loopback: bool) -> None:
        self._table, self._log, self._version = table, log, version
        self._max_body, self._on_loopback = max_body, on_loopback

    def routes(self) -> list[Route]:
        """To be mounted among the other pages."""
        return [
            Route("/models/{name}/ground-truth", self.ground_truth, methods=["POST"]),
            Route("/models/{name}/metrics", self.metrics, methods=["POST"]),
            Route("/openapi.json", self.openapi),
            Route("/docs", self.docs),
        ]

    async def ground_truth(self, request: Request) -> Response:
        """POST /models/{name}/ground-truth."""
        return await self._kept(request, "ground truth", self._keep_truth)

    async def metrics(self, request: Request) -> Response:
        """POST /models/{name}/metrics."""
        return await self._kept(request, "metrics", self._keep_metrics)

    async def _kept(self, request: Request, what: str, keep: Callable[[str, bytes, str], int]) -> Response:
        """202 with how many records were kept, once they are."""
        name = request.path_params["name"]
        headers, tokens = dict(request.scope["headers"]), self._table.callers is not None
        try:
            posted.allow(headers, asks_for_tokens=tokens, on_loopback=self._on_loopback, what=what)
            if name not in self._table.answering:
                await self._table.awake(name)  # says why not
            body = await read_body(request, self._max_body, _FEWER)
            return _json({"accepted": keep(name, body, request.scope.get(CALLER, ""))}, 202)
        except RequestRefused as refused:
            headers_back = {name.decode(): value.decode() for name, value in refused.headers}
            return _json({"error": refused.as_json()}, refused.status, headers_back)
        except ClientDisconnect:
            return Response(status_code=400)

    def _keep_truth(self, name: str, body: bytes, caller: str) -> int:
        records = ground_truth.read(body, caller, datetime.now(UTC))
        self._log.add_truth(name, records)
        self._table.metrics.add("evergreen_ground_truth_total", len(records), model=name)
        return len(records)

    def _keep_metrics(self, name: str, body: bytes, caller: str) -> int:
        records = user_metrics.read(body, caller, datetime.now(UTC))
        self._log.add_metrics(name, records)
        self._table.metrics.add("evergreen_user_metrics_total", len(records), model=name)
        return len(records)

    async def openapi(self, request: Request) -> Response:
        """GET /openapi.json, of the models in memory; ?model= for one of them."""
        named = request.query_params.get("model")
        try:
            models = [await self._table.awake(named)] if named else list(self._table.models.values())
        except RequestRefused as refused:
            return _json({"error": str(refused)}, refused.status)
        return _json(await asyncio.to_thread(openapi.document, models, self._version))

    async def docs(self, request: Request) -> Response:
        """GET /docs."""
        return Response(docs_page.PAGE, headers=docs_page.HEADERS, media_type="text/html; charset=utf-8")


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")
