"""The pages as a FastAPI app, for Airflow's API server to mount at /evergreen.

Every route asks for Airflow's signed-in user and for the right to read these pages, and none changes anything. The HTML
is whole without a script: the one there is opens links that lead out of Airflow's frame in the whole window.
"""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from hashlib import sha256
from pathlib import Path
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from evergreen.core import reconciling, watching
from evergreen.core.lineage_inference import NotLogged
from evergreen.core.roles import PAGES
from evergreen.core.slot_health import told
from evergreen.ui import reading, tables, tracing
from evergreen.ui.links import Links
from evergreen.ui.platform import Platform
from evergreen.ui.reading import NotThere
from evergreen.ui.templating import environment

HERE = Path(__file__).parent
PAGE_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'self'"
)
CHART_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # matplotlib styles its SVG inline; no script either way
FILES = {"pages.css": "text/css", "framed.js": "text/javascript", "icon.svg": "image/svg+xml"}
LONGEST_ID = 100  # characters of what is asked for as an inference id
REFUSALS = {401: "sign_in.html", 403: "no_role.html"}
log = logging.getLogger(__name__)


def may_read(user: GetUserDep) -> None:
    """Refuse whom the auth manager does not let read the Models pages: 401 nobody, 403 somebody without a role."""
    if not get_auth_manager().is_authorized_custom_view(method="GET", resource_name=PAGES, user=user):
        raise HTTPException(403, "No role of yours may read the Models pages")


def build_app(platform: Platform) -> FastAPI:
    """All routes. FastAPI's own pages are left out: they would be open to anyone."""
    reader = Depends(may_read)
    app = FastAPI(title="Evergreen", docs_url=None, redoc_url=None, openapi_url=None, dependencies=[reader])
    pages = Pages(platform)
    for path, handler in (
        ("/", pages.models),
        ("/answers", pages.answer),
        ("/files/{name}", pages.file),
        ("/models/{model}", pages.model),
        ("/models/{model}/versions/{version:int}", pages.version),
        ("/models/{model}/versions/{version:int}/report", pages.report),
        ("/models/{model}/versions/{version:int}/{name}.svg", pages.chart),
        ("/models/{model}/data-docs/{request_id}", pages.data_docs),
        ("/models/{model}/releases/{release_id}", pages.release),
        ("/models/{model}/snapshots/{snapshot_id}", pages.snapshot),
        ("/{path:path}", pages.nowhere),
    ):
        app.add_api_route(path, pages.guarded(handler), methods=["GET", "HEAD"], response_class=HTMLResponse)
    app.add_exception_handler(HTTPException, pages.refused)
    return app


class Pages:
    """The handlers. They run in a thread each, because the ledger and the store block."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._templates = environment()
        self._files = {name: (HERE / "files" / name).read_bytes() for name in FILES}
        self._style = self._files["pages.css"].decode()
        self._style_hash = f"sha256-{b64encode(sha256(self._files['pages.css']).digest()).decode()}"

    def guarded(self, handler: Callable[..., Response]) -> Callable[..., Response]:
        """The handler; a ledger or store that does not answer, or a fault of ours, becomes a page that says so."""

        @wraps(handler)
        def asked(request: Request, **values: Any) -> Response:
            try:
                return handler(request, **values)
            except NotThere as error:
                return self._page(request, "missing.html", 404, what=error.what, instead=error.instead)
            except Exception as error:
                log.exception("The page %s could not be made", request.url.path)
                return self._page(request, "trouble.html", 503, what=f"{type(error).__name__}: {error}"[:300])

        return asked

    def models(self, request: Request) -> Response:
        """All models."""
        now = datetime.now(UTC)
        rows, catalog = reading.models_page(self._platform, now)
        slots = told(self._platform.ledger().slot_events.latest(50), since=now - timedelta(days=1))
        ledger = self._platform.ledger()
        background = reconciling.told(ledger.heartbeats.last(reconciling.RECONCILER), now)
        background += watching.told(
            catalog.specs, ledger.heartbeats.last(watching.MONITOR), watching.first_release(ledger), now
        )
        problems = len(catalog.problems)
        return self._page(
            request, "models.html", rows=rows, problems=problems, background=background, slots=slots, now=now
        )

    def model(self, request: Request, model: str) -> Response:
        """One model: who was champion when and why, its candidates, its history."""
        now = datetime.now(UTC)
        return self._page(request, "model.html", page=reading.model_page(self._platform, model, now), now=now)

    def version(self, request: Request, model: str, version: int) -> Response:
        """One version's evidence."""
        page = reading.version_page(self._platform, model, version)
        evidence = page.evidence
        return self._page(
            request,
            "version.html",
            page=page,
            changed=tables.changed(evidence) if evidence else None,
            sections=tables.sections(evidence) if evidence else [],
        )

    def chart(self, request: Request, model: str, version: int, name: str) -> Response:
        """One chart of the evidence."""
        data = reading.chart(self._platform, model, version, f"{name}.svg")
        return Response(data, media_type="image/svg+xml", headers=_headers(CHART_POLICY))

    def report(self, request: Request, model: str, version: int) -> Response:
        """The newest report on one version's answers, as `evergreen report` made it."""
        data = reading.report(self._platform, model, version)
        return HTMLResponse(data, headers=_headers(CHART_POLICY))

    def data_docs(self, request: Request, model: str, request_id: str) -> Response:
        """What validation found in the rows of a request that it stopped, by Great Expectations' renderers."""
        data = reading.data_docs(self._platform, model, request_id)
        return HTMLResponse(data, headers=_headers(CHART_POLICY))

    def release(self, request: Request, model: str, release_id: str) -> Response:
        """Where one release came from."""
        origin = tracing.of_release(self._platform, model, release_id)
        return self._page(request, "trace.html", model=model, origin=origin)

    def snapshot(self, request: Request, model: str, snapshot_id: str) -> Response:
        """One snapshot, and the versions that were made from it."""
        origin = tracing.of_snapshot(self._platform, model, snapshot_id)
        return self._page(request, "trace.html", model=model, origin=origin)

    def answer(self, request: Request, id: str = "") -> Response:
        """Where one answer came from, by its inference id; without one, the form that asks for it."""
        asked, origin, problem = id.strip()[:LONGEST_ID], None, None
        if asked:
            try:
                origin = tracing.of_answer(self._platform, asked, datetime.now(UTC))
            except NotLogged as error:
                problem = error
        status = 404 if problem else 200
        return self._page(request, "answer.html", status, asked=asked, origin=origin, problem=problem)

    def file(self, request: Request, name: str) -> Response:
        """The style sheet, the script or the icon."""
        if name not in self._files:
            raise NotThere(f"There is no file '{name[:80]}'")
        return Response(self._files[name], media_type=FILES[name], headers=_headers(PAGE_POLICY))

    def nowhere(self, request: Request, path: str) -> Response:
        """Any other address."""
        raise NotThere(f"There is no page '/{path[:80]}'")

    def refused(self, request: Request, error: Exception) -> Response:
        """JSON, as Airflow's API gives it; for a browser that may not read a page, which may fetch no file here."""
        assert isinstance(error, HTTPException)
        page = REFUSALS.get(error.status_code)
        if page and "text/html" in request.headers.get("accept", ""):
            policy = f"default-src 'none'; style-src '{self._style_hash}'; base-uri 'none'; form-action 'none'"
            return self._page(request, page, error.status_code, policy, style=self._style)
        return JSONResponse({"detail": error.detail}, error.status_code, error.headers)

    def _page(
        self, request: Request, name: str, status: int = 200, policy: str = PAGE_POLICY, /, **values: Any
    ) -> Response:
        links = Links.of(request, self._platform.mlflow_url)
        html = self._templates.get_template(name).render(to=links, **values)
        return HTMLResponse(html, status, _headers(policy))


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": f"{policy}; frame-ancestors 'self'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
