"""What people read of an alert: what was measured, against which limit, since when, what was done, what to do next."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core.monitoring import names
from evergreen.core.readable import readable_age
from evergreen.core.records import ALL, Severity
from evergreen.core.requested import readable_time

if TYPE_CHECKING:
    from evergreen.core.records import Alert

_RETRAIN = "if the change is real, `evergreen retrain {model}` learns it"
_NEXT = {  # by how a metric's name begins, the longest first
    names.VOLUME: "See whether its callers still reach serving",
    "requests.": "See the replicas' logs and /metrics; did it begin with the release, `evergreen rollback {model}`",
    names.MISSING: "Ask who fills the column: callers send less of it than training saw",
    names.OUT_OF_RANGE: "Ask who fills the column: its values lie where training had none, and the model guesses there",
    names.UNSEEN: "See which categories are new: they are answered as missing values until a retrain learns them",
    "drift.": f"See which features moved: a broken source is to be repaired; {_RETRAIN}",
    "quality.": "See the worst slices; did it begin with the release, `evergreen rollback {model}`, "
    "else `evergreen retrain {model}`",
    "labels.": "See where labels come from: until they are back only estimates tell how good its answers are",
    names.CHAMPION_AGE: "See why no newer version was released: `evergreen status {model}`",
    names.DATA_AGE: "See whether the source still gets rows: no retrain is better than its data",
    names.USER: "See whoever posts this metric",
}
WENT_BACK = "it is back within its limit"
NO_RULE = "its rule is no longer in the spec"
NO_ROWS = "too few rows of it come to judge it any more"


def title(alert: Alert) -> str:
    """'flight-delay: drift.psi.max is 0.31, above 0.2', with the slice, and a word where it is critical."""
    loud = "critical: " if alert.severity is Severity.CRITICAL else ""
    return f"{loud}{alert.model}: {alert.metric} is {number(alert.value)}, {_limit(alert)}{_where(alert)}"


def sentence(alert: Alert) -> str:
    """All of it, as it was when the alert opened, what was started, and what to do next."""
    measured = f"{alert.metric}{_where(alert)} is {number(alert.value)}, {_limit(alert)}, {_over(alert)}"
    since = f"the alert ({alert.severity}) is open since {readable_time(alert.opened_at)}"
    return f"{measured}; {since}. {_done(alert)} {what_next(alert)}."


def what_next(alert: Alert) -> str:
    """What a person can do about it, without a full stop."""
    starts = [start for start in _NEXT if alert.metric.startswith(start)]
    told = _NEXT[max(starts, key=len)] if starts else "See the model's page"
    return told.format(model=alert.model)


def closed_title(alert: Alert) -> str:
    """'flight-delay: drift.psi.max is 0.12 again (limit 0.2)'; without a value where none is known."""
    what = f"is {number(alert.closed_value)} again" if alert.closed_value is not None else "is closed"
    return f"{alert.model}: {alert.metric}{_where(alert)} {what} ({_limit(alert)} was an alert)"


def closed_sentence(alert: Alert) -> str:
    """Why it closed, how long it was open, and how bad it was."""
    lasted = f" after {readable_age(alert.closed_at - alert.opened_at)}" if alert.closed_at else ""
    worst = f"It was {number(alert.value)} when the alert opened, and {number(alert.worst)} at worst."
    return f"The alert was closed{lasted}: {alert.closed_why or 'no reason was given'}. {worst}"


def recovered(version: int, released_at: datetime) -> str:
    """Why an alert closed whose retrain was released."""
    return f"{WENT_BACK} with version {version}, which it asked for, released at {readable_time(released_at)}"


def flaps_title(alert: Alert) -> str:
    """Of an alert that comes and goes."""
    return f"{alert.model}: {alert.metric}{_where(alert)} comes and goes around {number(alert.limit)}"


def flaps_sentence(alert: Alert) -> str:
    """What is done about it, and which keys of the spec help."""
    return (
        f"Its alert opened and closed again and again within 24 h. It now stays open until it has been quiet, and "
        f"nobody is told again until then. A larger `for` or a limit farther from {number(alert.limit)} suits the "
        "metric better; so does a longer monitoring.window."
    )


def backs_off_title(alert: Alert) -> str:
    """Of an alert that no retrain mends."""
    return f"{alert.model}: retrains do not mend {alert.metric}{_where(alert)}"


def backs_off_sentence(alert: Alert, unhelpful: int, until: datetime) -> str:
    """How many were tried, how bad it is, and that a person is needed."""
    return (
        f"The last {unhelpful} retrains that this alert asked for did not bring {alert.metric} back ({_limit(alert)}; "
        f"{number(alert.worst)} at worst). The next one is asked for after {readable_time(until)} at the earliest, if "
        f"it is still broken then. New data alone does not mend this: look at features, window and labels, or at the "
        f"limit itself. `evergreen retrain {alert.model}` retrains at once."
    )


def number(value: float | None) -> str:
    """Six significant digits: '0.31', '12,000'."""
    if value is None:
        return "not known"
    return f"{value:,.0f}" if abs(value) >= 1_000 and value == round(value) else f"{value:.6g}"


def _limit(alert: Alert) -> str:
    return f"{alert.direction} {number(alert.limit)}"


def _where(alert: Alert) -> str:
    """' where carrier is UA'; empty for all rows."""
    feature, _, value = alert.slice.partition("=")
    return "" if alert.slice == ALL else f" where {feature} is {value}"


def _over(alert: Alert) -> str:
    """'over 1d and 12,000 rows of version 4'; an age, and what users post, rests on no rows."""
    if names.of_rows(alert.metric):
        return f"over {alert.window} and {alert.rows:,} rows of version {alert.version}"
    return (
        f"over {alert.window}, of version {alert.version}"
        if alert.metric.startswith("requests.")
        else (f"while version {alert.version} answers")
    )


def _done(alert: Alert) -> str:
    return f"A retrain was asked for (request {alert.request_id})." if alert.request_id else "No retrain was asked for."
