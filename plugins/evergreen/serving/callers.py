"""Who may ask a worker: `Authorization: Bearer <token>`, looked up by its digest in the local list of callers.

Open to all are the health endpoints, so that a container or a load balancer can look, and /metrics, which the edge
does not pass on: it is for the scraper on the internal network. So is /docs, which is the same for everyone and tells
nothing of the models.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from evergreen.core.caller_tokens import digest
from evergreen.serving import state as files
from evergreen.serving.metrics import Metrics
from evergreen.serving.refusals import RequestRefused, refuse
from evergreen.serving.state import Callers, Reason

OPEN = frozenset({"/v2/health/live", "/v2/health/ready", "/metrics", "/docs"})
CALLER = "evergreen.caller"  # the key of the caller's name in an ASGI scope
_ALLOWED = "'Bearer <token>' with a token that is valid now"
_UNKNOWING = "no list of callers has come from the control ledger yet"
_AGAIN = "Ask again in a second: another replica may know them."
_ASK = "Ask those who run Evergreen for a token (`evergreen token add <caller>` makes one)."


class KnownCallers:
    """The callers of callers.json. What was read last is kept whatever becomes of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._names: dict[str, str] | None = None

    def refresh(self) -> None:
        """Read the file if it has changed. Raises ValueError if it cannot be read."""
        stamp = files.stamp(self._path)
        if stamp in (None, self._seen):
            return
        found = files.read(self._path, Callers)
        if found is not None:
            self._names, self._seen = found.names, stamp

    def name_of(self, token: bytes) -> str | None:
        """Whose token this is: one hash and one look-up, however many callers there are."""
        return (self._names or {}).get(digest(token.decode("latin-1")))

    def check(self, authorization: bytes, metrics: Metrics) -> str:
        """The caller's name by the header's value, empty where there is none.

        Raises RequestRefused: 401, or 503 where nobody is known yet.
        """
        if self._names is None:
            raise refuse(503, "replica", found=_UNKNOWING, allowed="one that knows its callers", do=_AGAIN)
        scheme, _, token = authorization.partition(b" ")
        is_bearer = scheme.lower() == b"bearer"
        name = self.name_of(token.strip()) if is_bearer else None
        if name is None:
            metrics.add("evergreen_unauthorised_total")
            other = "another scheme" if authorization else ""
            raise _refusal("a token that is not known, or was revoked" if is_bearer else other, invalid=is_bearer)
        return name

    def reasons(self) -> list[Reason]:
        """Why every request is refused, if so.

        A list that has not come blocks readiness: a replica that has just started would refuse callers whom the
        others know. An empty one does not: no other replica would answer either.
        """
        if self._names is None:
            return [Reason(f"Every request is refused: {_UNKNOWING}.", blocks=True)]
        if not self._names:
            return [Reason("Every request is refused: no caller has a token. `evergreen token add` makes one.")]
        return []


class CallersOnly:
    """ASGI middleware: 401 for a request without a valid token; the caller's name goes into the scope."""

    def __init__(self, app: ASGIApp, callers: KnownCallers, metrics: Metrics) -> None:
        self._app, self._callers, self._metrics = app, callers, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            try:
                scope[CALLER] = self._callers.check(given, self._metrics)
            except RequestRefused as refused:
                headers = {name.decode(): value.decode() for name, value in refused.headers}
                answer = Response(error_body(refused), refused.status, headers, "application/json")
                return await answer(scope, receive, send)
        return await self._app(scope, receive, send)


def error_body(refused: RequestRefused) -> bytes:
    """The body of a refusal at the door: the same whatever was asked."""
    return msgspec.json.encode({"error": str(refused)})


def _refusal(found: str, *, invalid: bool) -> RequestRefused:
    """Says what is wrong with the header and never repeats it."""
    challenge = 'Bearer realm="evergreen"' + (', error="invalid_token"' if invalid else "")
    headers = ((b"www-authenticate", challenge.encode()),)
    found = found or "no such header"
    return refuse(401, "header Authorization", found=found, allowed=_ALLOWED, do=_ASK, headers=headers)
