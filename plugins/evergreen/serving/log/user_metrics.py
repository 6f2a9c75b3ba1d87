"""POST /models/{name}/metrics: values of metrics that users measure, which rules watch as `user.<name>`.

Who may post is as with ground truth (ground_truth.allow). Names, numbers, times and how many there are is bounded: each
name becomes a series of points in the ledger, each day a file of the store.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from evergreen.core.monitoring.names import USER, is_users
from evergreen.core.records import UserMetric
from evergreen.serving.log.ground_truth import SAY_THE_ZONE, TIME, is_finite, milliseconds_at
from evergreen.serving.protocols.body import decode
from evergreen.serving.refusals import Problem, Problems, did_you_mean, refuse, shown, some

LIKE = '{"metrics": [{"name": "revenue_per_call", "value": <number>, "time": "<ISO time, optional>"}, …]}'
MOST = 1_000  # values in one request
EARLIEST, LATEST = timedelta(days=30), timedelta(hours=1)  # before and after this server's now
_FIELDS = ("name", "value", "time")
_NAME = "1 to 100 letters, digits, '_', '.' and '-', a letter or digit first"


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
    problems, seen = Problems(), set[tuple[str, int]]()
    found = [_metric(row, record, caller, now, problems) for row, record in enumerate(records)]
    for row, one in enumerate(found):
        if one.name and (one.name, one.at) in seen:
            problems.add(_twice, row)
        seen.add((one.name, one.at))
    problems.raise_if_any()
    return found


def _metric(row: int, record: dict[str, Any], caller: str, now: datetime, problems: Problems) -> UserMetric:
    """The value; what is wrong with it is told in `problems`."""
    for name in record.keys() - set(_FIELDS):
        problems.add(_unknown, row, name)
    return UserMetric(
        name=_name(row, record.get("name"), problems),
        value=_value(row, record.get("value"), problems),
        at=_time(row, record.get("time"), now, problems),
        caller=caller,
    )


def _name(row: int, value: Any, problems: Problems) -> str:
    if isinstance(value, str) and value.startswith(USER):
        problems.add(_wrong, row, "name", value, _NAME, f"Leave '{USER}' out: it is put before what you send.")
    elif isinstance(value, str) and is_users(USER + value):
        return USER + value
    else:
        problems.add(_wrong, row, "name", value, _NAME, f"Rules name it '{USER}<name>'.")
    return ""


def _value(row: int, value: Any, problems: Problems) -> float:
    if type(value) in (int, float) and is_finite(value):
        return float(value)
    problems.add(_wrong, row, "value", value, "a finite number", "Leave out what was not measured.")
    return 0.0


def _time(row: int, value: Any, now: datetime, problems: Problems) -> int:
    at = milliseconds_at(value, now)
    if at is None:
        problems.add(_wrong, row, "time", value, TIME, SAY_THE_ZONE)
        return 0
    first, last = (_milliseconds(one) for one in (now - EARLIEST, now + LATEST))
    if not first <= at <= last:
        allowed = f"from {EARLIEST.days} days before to an hour after {now.astimezone(UTC):%Y-%m-%dT%H:%MZ}, our clock"
        problems.add(_wrong, row, "time", value, allowed, "Older values are no longer looked at, later ones not yet.")
    return at


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _wrong(row: int, field: str, value: Any, allowed: str, do: str) -> Problem:
    found = "no such field, or null" if value is None else shown(value)
    return Problem(f"metric {row}, field '{field}'", found, allowed, do)


def _unknown(row: int, name: str) -> Problem:
    do = f"{did_you_mean(name, _FIELDS)}Leave it out."
    return Problem(f"metric {row}, field '{name[:60]}'", "no such field", some(_FIELDS), do)


def _twice(row: int) -> Problem:
    return Problem(f"metric {row}", "this name and time twice", "each once", "Send one value a time, such as the mean.")
