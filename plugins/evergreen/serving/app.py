"""The HTTP endpoints of one worker. None of them changes anything.

Where tokens are asked for, all but health and /metrics want one (serving.callers); /metrics is for the internal
network, and the edge in front of a slot does not pass it on.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from evergreen.serving import records_endpoint, tensors_endpoint
from evergreen.serving.answer import Answer
from evergreen.serving.body import read_body
from evergreen.serving.callers import CALLER, CallersOnly
from evergreen.serving.health import ready, reasons_for
from evergreen.serving.loaded_model import LoadedModel
from evergreen.serving.metrics import exposition, gauge
from evergreen.serving.model_table import ModelTable
from evergreen.serving.refusals import RequestRefused, did_you_mean, refuse, some
from evergreen.serving.state import Status

MAX_BODY = 1_000_000  # bytes
_INLINE = 8_000  # bytes of body that are answered on the event loop; more would hold up the others
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_log = logging.getLogger(__name__)
_Answering = Callable[[LoadedModel, bytes], tuple[Answer, bytes]]


class ServingApp:
    """Routes over a table of models."""

    def __init__(self, table: ModelTable, max_body: int = MAX_BODY) -> None:
        self._table, self._metrics, self._max_body = table, table.metrics, max_body

    def starlette(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", self.index),
            Route("/v2", self.server),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/models/{name}", self.model),
            Route("/v2/models/{name}/ready", self.model_ready),
            Route("/v2/models/{name}/infer", self.infer, methods=["POST"]),
            Route("/models/{name}/predict", self.predict, methods=["POST"]),
            Route("/metrics", self.metrics),
        ]
        callers = self._table.callers
        door = [Middleware(CallersOnly, callers=callers, metrics=self._metrics)] if callers else []
        handlers = {HTTPException: _http_error, Exception: _failed}
        return Starlette(routes=routes, middleware=door, exception_handlers=handlers)

    async def predict(self, request: Request) -> Response:
        """POST /models/{name}/predict."""
        return await self._answer(request, records_endpoint.predict, RequestRefused.as_json)

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/{name}/infer."""
        return await self._answer(request, tensors_endpoint.infer, str)

    async def _answer(
        self, request: Request, answering: _Answering, as_error: Callable[[RequestRefused], Any]
    ) -> Response:
        begun, name, version = time.perf_counter(), request.path_params["name"], ""
        headers = {"x-request-id": _request_id(request)}
        request.state.headers = headers
        outcome = "failed"
        try:
            body = await self._checked_body(request)
            model = self._model(name)  # one reference: version and predictions belong together
            version = str(model.release.version)
            if len(body) <= _INLINE:
                answered, payload = answering(model, body)
            else:
                answered, payload = await anyio.to_thread.run_sync(answering, model, body)
            self._count(answered)
            outcome = "ok"
            return _json(payload, headers={**headers, "x-model-version": version})
        except RequestRefused as refused:
            outcome = "failed" if refused.status >= 500 else "refused"
            return _json(msgspec.json.encode({"error": as_error(refused)}), refused.status, headers)
        except ClientDisconnect:
            outcome = "refused"
            return Response(status_code=400, headers=headers)
        finally:
            label = name if name in self._table.models else "(unknown)"
            labels = {"model": label, "version": version, "outcome": outcome}
            if caller := request.scope.get(CALLER):
                labels["caller"] = caller
            self._metrics.add("evergreen_requests_total", **labels)
            self._metrics.observe(label, time.perf_counter() - begun)

    async def _checked_body(self, request: Request) -> bytes:
        if "inference-header-content-length" in request.headers:
            raise refuse(
                415,
                "body",
                found="binary tensors",
                allowed="JSON tensors",
                do="Send JSON (in tritonclient: binary_data=False for every input and output).",
            )
        return await read_body(request, self._max_body)

    def _model(self, name: str) -> LoadedModel:
        """The model of this name. Raises RequestRefused: 503 for one that is released and not loaded, else 404."""
        model = self._table.models.get(name)
        if model is not None:
            return model
        if reasons := [reason.text for reason in reasons_for(self._table, name)]:
            raise refuse(
                503,
                f"model '{name}'",
                found=reasons[0],
                allowed="a loaded version",
                do="Ask again when it is repaired.",
            )
        served = tuple(sorted(self._table.models))
        raise refuse(
            404,
            f"model '{name[:60]}'",
            found="no such model here",
            allowed=some(served) or "none: nothing is released yet",
            do=f"{did_you_mean(name, served)}GET / lists what is served.",
        )

    def _count(self, answered: Answer) -> None:
        name, version = answered.model.name, str(answered.model.release.version)
        self._metrics.add("evergreen_rows_total", len(answered.inference_ids), model=name, version=version)
        for unseen in answered.unseen:
            self._metrics.add("evergreen_unseen_categories_total", model=name, feature=unseen.feature)

    async def live(self, request: Request) -> Response:
        """GET /v2/health/live: this process answers."""
        return _object({"live": True})

    async def ready(self, request: Request) -> Response:
        """GET /v2/health/ready: 200 if every released bundle is loaded; reasons in any case."""
        is_ready, reasons = ready(self._table)
        return _object({"ready": is_ready, "reasons": [r.text for r in reasons]}, 200 if is_ready else 503)

    async def server(self, request: Request) -> Response:
        """GET /v2: the server's metadata."""
        return _object({"name": "evergreen", "version": "0.1.0", "extensions": []})

    async def model(self, request: Request) -> Response:
        """GET /v2/models/{name}: metadata of the Open Inference Protocol."""
        try:
            return _object(tensors_endpoint.metadata(self._model(request.path_params["name"])))
        except RequestRefused as refused:
            return _object({"error": str(refused)}, refused.status)

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/{name}/ready: 200 if the released version is the one that answers.

        `refused` says that no waiting will change it: the released bundle is not served.
        """
        name = request.path_params["name"]
        reasons = reasons_for(self._table, name)
        never = {"refused": True} if any(reason.refused for reason in reasons) else {}
        try:
            version = str(self._model(name).release.version)
        except RequestRefused as refused:
            return _object({"error": str(refused), **never}, refused.status)
        blocking = [reason.text for reason in reasons if reason.blocks]
        answer = {"name": name, "ready": not blocking, "version": version, "reasons": blocking, **never}
        return _object(answer, 503 if blocking else 200)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: Prometheus text, of all workers of this replica."""
        is_ready, reasons = ready(self._table)
        status: Status = self._table.status()
        versions = [
            gauge("evergreen_model_version", model.release.version, model=name)
            for name, model in sorted(self._table.models.items())
        ]
        page = exposition(
            self._metrics.families(self._table.slot),
            *self._table.others_metrics(),
            *versions,
            gauge("evergreen_ready", is_ready),
            gauge("evergreen_reasons", len(reasons)),
            gauge("evergreen_ledger_up", time.time() - status.heard_at < 15),
            gauge("evergreen_worker_restarts_total", status.restarts),
            gauge("evergreen_worker_hangs_total", status.hangs),
        )
        return Response(page, media_type="text/plain; version=0.0.4")

    async def index(self, request: Request) -> Response:
        """GET /: what is served, and where to ask."""
        models = [
            {
                "name": name,
                "version": model.release.version,
                "predict": f"/models/{name}/predict",
                "infer": f"/v2/models/{name}/infer",
                "metadata": f"/v2/models/{name}",
            }
            for name, model in sorted(self._table.models.items())
        ]
        return _object(
            {"models": models, "ready": "/v2/health/ready", "live": "/v2/health/live", "metrics": "/metrics"}
        )


def _request_id(request: Request) -> str:
    """The caller's id of the request, if it can be sent back as it is, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _json(payload: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(payload, status, headers, media_type="application/json")


def _object(value: Any, status: int = 200) -> Response:
    return _json(msgspec.json.encode(value), status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path[:200]}: {error.detail}. GET / lists what there is."
    return _json(msgspec.json.encode({"error": text}), error.status_code, dict(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    headers = getattr(request.state, "headers", {})
    _log.error("request %s failed", headers.get("x-request-id", ""), exc_info=error)
    text = "The server failed to answer; its log has the reason under this request's x-request-id."
    return _json(msgspec.json.encode({"error": text}), 500, headers)
