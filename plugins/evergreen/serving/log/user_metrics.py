"""POST /models/{name}/metrics: values of metrics that users measure, which rules watch as `user.<name>`.

Names, numbers, times and how many there are is bounded: each name becomes a series of points in the ledger, each day a
file of the store.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from evergreen.core.monitoring.names import USER, is_users
from evergreen.core.records import UserMetric
from evergreen.serving.log.posted import Posted, is_finite, read_all
from evergreen.serving.protocols.body import decode
from evergreen.serving.refusals import refuse

LIKE = '{"metrics": [{"name": "revenue_per_call", "value": <number>, "time": "<ISO time, optional>"}, …]}'
MOST = 1_000  # values in one request
EARLIEST, LATEST = timedelta(days=30), timedelta(hours=1)  # before and after this server's now
_FIELDS = ("name", "value", "time")
_NAME = "1 to 100 letters, digits, '_', '.' and '-', a letter or digit first"
_TWICE = ("", "this name and time twice", "each once", "Send one value a time, such as the mean.")


class UserMetrics(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    metrics: list[dict[str, Any]]


_DECODER = msgspec.json.Decoder(UserMetrics)


def read(body: bytes, caller: str, now: datetime) -> list[UserMetric]:
    """The values. Raises RequestRefused: 400 for what is no JSON, 413 for too many, 422 naming each value and field
    that is wrong."""
    records = decode(body, _DECODER, LIKE).metrics
    if not records:
        raise refuse(422, "metrics", found="no value", allowed="at least one", do="Send a value.")
    if len(records) > MOST:
        do = "Send them in several requests, or send one mean in place of many values."
        raise refuse(413, "metrics", found=f"{len(records)} values", allowed=f"at most {MOST} a request", do=do)

    def metric(posted: Posted) -> UserMetric:
        return UserMetric(name=_name(posted), value=_value(posted), at=_time(posted, now), caller=caller)

    return read_all(records, "metric", _FIELDS, metric, lambda one: one.name and (one.name, one.at), _TWICE)


def _name(posted: Posted) -> str:
    value = posted.fields.get("name")
    if isinstance(value, str) and value.startswith(USER):
        posted.wrong("name", _NAME, f"Leave '{USER}' out: it is put before what you send.")
    elif isinstance(value, str) and is_users(USER + value):
        return USER + value
    else:
        posted.wrong("name", _NAME, f"Rules name it '{USER}<name>'.")
    return ""


def _value(posted: Posted) -> float:
    value = posted.fields.get("value")
    if is_finite(value):
        return float(value)
    posted.wrong("value", "a finite number", "Leave out what was not measured.")
    return 0.0


def _time(posted: Posted, now: datetime) -> int:
    at = posted.milliseconds("time", now)
    if at is None:
        return 0
    first, last = (int(one.timestamp() * 1000) for one in (now - EARLIEST, now + LATEST))
    if not first <= at <= last:
        allowed = f"from {EARLIEST.days} days before to an hour after {now.astimezone(UTC):%Y-%m-%dT%H:%MZ}, our clock"
        posted.wrong("time", allowed, "Older values are no longer looked at, later ones not yet.")
    return at
