"""Whether a retrain that a metric asked for brought the metric back: what a request's record says of it afterwards.

Told from what the ledger holds, so that it is true at any time: the alert that asked, the release of the version that
was made, and whether the alert closed since or asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.monitoring.alert_texts import number
from evergreen.core.readable import readable_age
from evergreen.core.records import ALL, Alert, Cause, Release, ReleaseKind, RequestState, TriggerRequest
from evergreen.core.spec_fields import parse_duration

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

ALERTS = 1_000  # the newest of a model
_ENDED = (RequestState.SERVED, RequestState.FAILED, RequestState.SKIPPED, RequestState.EXPIRED)


@dataclass(frozen=True)
class Recovery:
    """What came of a retrain that a metric asked for, and since when that is so.

    `helped`: none where it is not known yet, or not to be known; `at`: none until then. `version`: the one that was
    released for it.
    """

    request_id: str
    helped: bool | None
    at: datetime | None
    version: int | None
    asked: str
    became: str

    @property
    def says(self) -> str:
        """'asked for by drift.psi.max 0.31 (above 0.2); recovered to 0.05, 40 min after its release'."""
        return f"{self.asked}; {self.became}"


def recoveries(
    ledger: Ledger, model: str, requests: Sequence[TriggerRequest], now: datetime | None = None
) -> dict[str, Recovery]:
    """Of all of the requests that an alert asked for, by id. `requests`: in any order, with those asked later.

    Without `now`, of an alert that is open it is not told for how long.
    """
    asked = [one for one in requests if one.cause is Cause.METRIC and one.dedupe_key.startswith("metric:")]
    if not asked:
        return {}
    alerts = {alert.id: alert for alert in ledger.alerts.history(model, limit=ALERTS)}
    releases = _released(ledger.releases.history(model))
    known = [(one, alerts[str(one.detail["alert"])]) for one in asked if one.detail.get("alert") in alerts]
    return {
        request.id: recovery_of(request, alert, _next_of(request, asked), releases.get(request.id), now)
        for request, alert in known
    }


def recovery_of(
    request: TriggerRequest, alert: Alert, asked_again: datetime | None, release: Release | None, now: datetime | None
) -> Recovery:
    """`asked_again`: when the same alert asked for the next one; `release`: of the version that it made, once live."""
    where = "" if alert.slice == ALL else f" where {alert.slice.replace('=', ' is ', 1)}"
    value, limit = number(_float(request.detail.get("value"))), f"{alert.direction} {number(alert.limit)}"
    asked = f"asked for by {alert.metric} {value}{where} ({limit})"
    ends = [moment for moment in (asked_again, alert.closed_at) if moment]
    over = min(ends, default=None)
    if release is None or (over and release.released_at > over):
        helped, at, became = _unreleased(request, alert, over)
    elif over is None:
        helped, at, became = _open(alert, release, now)
    else:
        helped, at, became = _over(alert, release, over)
    return Recovery(request.id, helped, at, release.version if release else None, asked, became)


_Became = tuple[bool | None, datetime | None, str]


def _over(alert: Alert, release: Release, over: datetime) -> _Became:
    """The alert closed after the release, or asked again."""
    after = f"{readable_age(over - release.released_at)} after its release"
    if over != alert.closed_at:
        return False, over, f"did not help: still broken {after}, when the next one was asked for"
    if alert.closed_value is None:
        return None, over, f"not known to have helped: {alert.closed_why}, {after}"
    return True, over, f"recovered to {number(alert.closed_value)}, {after}"


def _open(alert: Alert, release: Release, now: datetime | None) -> _Became:
    """Released, and the alert is open. A window must be over before the new version is to blame."""
    after = f" {readable_age(now - release.released_at)} after its release" if now else ""
    until = release.released_at + parse_duration(alert.window)
    if now is None or now < until:
        return None, None, f"not recovered yet: the alert is still open{after}"
    return False, until, f"did not help: the alert is still open{after}"


def _unreleased(request: TriggerRequest, alert: Alert, over: datetime | None) -> _Became:
    if over and over == alert.closed_at:
        back = f" to {number(alert.closed_value)}" if alert.closed_value is not None else ""
        return None, over, f"the alert closed before a version of it was released: the metric went back{back} by itself"
    if request.state in _ENDED:
        return False, request.closed_at, f"did not help: no version was released ({request.reason or request.state})"
    return None, None, "under way"


def _released(releases: Iterable[Release]) -> Mapping[str, Release]:
    """The first that went live of each request; a rollback to its version later on is none."""
    live = [one for one in releases if one.generation and one.kind is ReleaseKind.PROMOTION]
    return {one.request_id: one for one in sorted(live, key=lambda one: one.released_at, reverse=True)}


def _next_of(request: TriggerRequest, asked: Sequence[TriggerRequest]) -> datetime | None:
    later = [
        one.requested_at
        for one in asked
        if one.detail.get("alert") == request.detail.get("alert") and one.requested_at > request.requested_at
    ]
    return min(later, default=None)


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
