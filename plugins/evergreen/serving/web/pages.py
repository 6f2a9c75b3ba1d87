"""All pages but those that ask a model: what is served, health, metadata, metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evergreen.serving.callers import CallersOnly
from evergreen.serving.cgroup import memory_limit
from evergreen.serving.limits import InFlight
from evergreen.serving.log.answer_log import Log
from evergreen.serving.metrics import exposition, gauge
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.protocols import tensors_endpoint
from evergreen.serving.refusals import RequestRefused
from evergreen.serving.state import Platform, Status
from evergreen.serving.web.caller_pages import CallerPages
from evergreen.serving.web.health import ready
from evergreen.serving.web.routes import PATHS

VERSION = "0.1.0"
STALE = 120.0  # seconds after which what was read of the platform is not shown; it is read every minute at least
_log = logging.getLogger(__name__)


class Pages:
    """Routes over a table of models. `max_body` in bytes; `on_loopback`: nobody else can reach this server."""

    def __init__(
        self, table: ModelTable, log: Log, in_flight: InFlight, max_body: int, *, on_loopback: bool = False
    ) -> None:
        self._table, self._log, self._in_flight = table, log, in_flight
        self._for_callers = CallerPages(table, log, VERSION, max_body, on_loopback=on_loopback)
        self._metrics = table.metrics

    def starlette(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", self.index),
            Route("/v2", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models/{name}", self.model),
            Route("/v2/models/{name}/ready", self.model_ready),
            Route("/v2/models/{name}/versions/{version}", self.model),
            Route("/v2/models/{name}/versions/{version}/ready", self.model_ready),
            *self._for_callers.routes(),
            Route("/metrics", self.metrics),
            *(Route(path, _elsewhere, methods=["POST"]) for path in PATHS),  # so that GET is 405
        ]
        callers = self._table.callers
        door = [Middleware(CallersOnly, callers=callers, metrics=self._metrics)] if callers else []
        handlers = {HTTPException: _http_error, Exception: _failed}
        return Starlette(routes=routes, middleware=door, exception_handlers=handlers)

    async def live(self, request: Request) -> Response:
        """GET /v2/health/live: this process answers."""
        return _object({"live": True})

    async def ready(self, request: Request) -> Response:
        """GET /v2/health/ready: 200 if every released bundle is loaded; reasons in any case."""
        is_ready, reasons = ready(self._table)
        reasons = [*reasons, *self._log.reasons()]
        return _object({"ready": is_ready, "reasons": [r.text for r in reasons]}, 200 if is_ready else 503)

    async def server(self, request: Request) -> Response:
        """GET /v2: the server's metadata."""
        return _object(tensors_endpoint.server_metadata(VERSION))

    async def model(self, request: Request) -> Response:
        """GET /v2/models/{name}: metadata of the Open Inference Protocol; 404 for a version that does not answer."""
        try:
            return _object(tensors_endpoint.metadata(await self._asked(request)))
        except RequestRefused as refused:
            return _object({"error": str(refused)}, refused.status)

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/{name}/ready: 200 if the released version is the one that answers.

        `refused` says that no waiting will change it: the released bundle is not served.
        """
        name = request.path_params["name"]
        reasons = self._table.reasons_of(name)
        never = {"refused": True} if any(reason.refused for reason in reasons) else {}
        try:
            released = self._table.answering.get(name) or (await self._table.awake(name)).release
            tensors_endpoint.check_version(name, released.version, request.path_params.get("version", ""))
        except RequestRefused as refused:
            return _object({"error": str(refused), **never}, refused.status)
        blocking = [reason.text for reason in reasons if reason.blocks]
        version = str(released.version)
        answer = {"name": name, "ready": not blocking, "version": version, "reasons": blocking, **never}
        return _object(answer, 503 if blocking else 200)

    async def _asked(self, request: Request) -> LoadedModel:
        """The model that the path names, in the version that it names. Raises RequestRefused."""
        model = await self._table.awake(request.path_params["name"])
        tensors_endpoint.check_version(model.name, model.release.version, request.path_params.get("version", ""))
        return model

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: Prometheus text, of all workers of this replica."""
        return Response(self._metrics_page(), media_type="text/plain; version=0.0.4")

    def _metrics_page(self) -> str:
        is_ready, reasons = ready(self._table)
        status: Status = self._table.reports.status()
        slot, shipping = self._table.slot, self._log.shipping()
        versions = [
            gauge("evergreen_model_version", released.version, model=name)
            for name, released in sorted(self._table.answering.items())
        ]
        return exposition(
            self._metrics.families(slot),
            *self._table.reports.others_metrics(),
            gauge("evergreen_requests_in_flight", self._in_flight.total, worker=slot),
            gauge("evergreen_requests_in_flight_peak", self._in_flight.peak, worker=slot),
            gauge("evergreen_requests_in_flight_limit", self._in_flight.limit),
            *versions,
            gauge("evergreen_ready", is_ready),
            gauge("evergreen_reasons", len(reasons) + len(self._log.reasons())),
            gauge("evergreen_ledger_up", time.time() - status.heard_at < 15),
            *(gauge("evergreen_worker_restarts_total", n, reason=why) for why, n in status.restarts.items()),
            gauge("evergreen_log_lag_seconds", shipping.lag),
            gauge("evergreen_log_backlog_bytes", shipping.backlog),
            gauge("evergreen_log_shipped_rows_total", shipping.rows),
            gauge("evergreen_memory_limit_bytes", limit) if (limit := memory_limit()) else {},
            *platform_samples(self._table.reports.platform(), time.time()),
        )

    async def index(self, request: Request) -> Response:
        """GET /: what is served, and where to ask."""
        models = [
            {
                "name": name,
                "version": released.version,
                "predict": f"/models/{name}/predict",
                "infer": f"/v2/models/{name}/infer",
                "metadata": f"/v2/models/{name}",
                "ground_truth": f"/models/{name}/ground-truth",
                "metrics": f"/models/{name}/metrics",
            }
            for name, released in sorted(self._table.answering.items())
        ]
        return _object(
            {
                "models": models,
                "ready": "/v2/health/ready",
                "live": "/v2/health/live",
                "metrics": "/metrics",
                "docs": "/docs",
                "openapi": "/openapi.json",
            }
        )


def platform_samples(told: Platform, now: float) -> list[Mapping[str, list[str]]]:
    """What the ledger knew, and when. What is old is not shown: it would be taken for what is."""
    read = gauge("evergreen_ledger_read_timestamp_seconds", told.read_at)
    return [read, told.samples] if now - told.read_at < STALE else [read]


async def _elsewhere(request: Request) -> Response:
    raise AssertionError(f"{request.url.path} is answered by serving.app")


def _object(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path[:200]}: {error.detail}. GET / lists what there is."
    body = msgspec.json.encode({"error": text})
    return Response(body, error.status_code, dict(error.headers or {}), media_type="application/json")


async def _failed(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path[:200], exc_info=error)
    return _object({"error": "The server failed to answer; its log has the reason."}, 500)
