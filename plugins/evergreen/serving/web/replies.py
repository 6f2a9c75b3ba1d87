"""What goes back to a caller of a model, and what is counted of it."""

from __future__ import annotations

import logging
import time

from evergreen.core.records import CHAMPION
from evergreen.serving.callers import error_body
from evergreen.serving.limits import RETRY_AFTER, overloaded
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.endpoint import Endpoint, Written
from evergreen.serving.refusals import RequestRefused
from evergreen.serving.web.call import Call, Reply

_JSON = b"application/json"
_FAILED = b'{"error":"The server failed to answer; its log has the reason under this request\'s x-request-id."}'
_REASONS = {
    400: "malformed",
    401: "unauthorised",
    404: "unknown_model",
    408: "slow_client",
    413: "too_large",
    415: "unsupported",
    422: "invalid",
    429: "overload",
    503: "unavailable",
    504: "timeout",
}  # of evergreen_request_errors_total
_log = logging.getLogger(__name__)


class Replies:
    """Of one worker."""

    def __init__(self, table: ModelTable) -> None:
        self._table, self._metrics = table, table.metrics
        self._overloads: dict[tuple[Endpoint, str], bytes] = {}

    def answer(self, call: Call, answer: Answer, written: Written) -> Reply:
        """The reply to a request that is answered."""
        model = answer.model
        counts = self._metrics.of(model.name, model.release.version, answer.arm)
        counts.observe(call.caller, time.perf_counter() - call.begun)
        headers = [
            (b"content-type", written.media_type),
            (b"x-request-id", call.id),
            (b"x-model-version", model.version.encode()),
            *written.headers,
        ]
        return Reply(200, headers, written.body)

    def refusal(self, call: Call, error: Exception) -> Reply:
        """The reply to a request that is not answered; anything but a RequestRefused is our fault, and logged."""
        headers = [(b"content-type", _JSON), (b"x-request-id", call.id)]
        if not isinstance(error, RequestRefused):
            _log.error("request %s failed", call.id.decode("latin-1"), exc_info=error)
            self.count_refusal(call, 500)
            return Reply(500, headers, _FAILED)
        self.count_refusal(call, error.status)
        body = error_body(error) if error.status == 401 else call.endpoint.refusal(error)
        return Reply(error.status, [*headers, *error.headers], body)

    def overload(self, call: Call) -> Reply:
        """429, in the cheapest way: where too many ask, this is what most of them get."""
        body = self._overloads.get((call.endpoint, call.name))
        if body is None:
            body = call.endpoint.refusal(overloaded(call.name))
            if len(self._overloads) < 1_000:
                self._overloads[call.endpoint, call.name] = body
        self.count_refusal(call, 429)
        return Reply(429, [(b"content-type", _JSON), (b"x-request-id", call.id), *RETRY_AFTER], body)

    def count_refusal(self, call: Call, status: int) -> None:
        """Count a request that is not answered, by the status that it gets or would get."""
        name = call.name if call.name in self._table.answering else "(unknown)"
        outcome = "failed" if status >= 500 else "refused"
        labels = {"model": name, "version": call.version, "outcome": outcome}
        if call.caller:
            labels["caller"] = call.caller
        self._metrics.add("evergreen_requests_total", 1, **labels, arm=CHAMPION)
        self._metrics.add("evergreen_request_errors_total", model=name, reason=_REASONS.get(status, "failed"))
