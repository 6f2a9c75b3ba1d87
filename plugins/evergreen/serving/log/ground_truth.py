"""POST /models/{name}/ground-truth: what turned out to be true of earlier answers, by their inference ids.

With users' metrics (user_metrics) it is what changes something. Where tokens are asked for, both want one like all
others. Where none are, they take requests on loopback alone, and such that a page in somebody's browser cannot send:
JSON by its content type, which the browser asks about first, to a host that is named as this machine.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from evergreen.core.records import Truth
from evergreen.serving.protocols.body import decode
from evergreen.serving.protocols.endpoint import Headers
from evergreen.serving.refusals import Problem, Problems, did_you_mean, refuse, shown, some

LIKE = '{"records": [{"inference_id": "<id>", "label": <number>, "at": "<ISO time, optional>"}, …]}'
_FIELDS = ("inference_id", "label", "at")
_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_OWN_HOST = re.compile(r"(localhost|127\.[0-9]+\.[0-9]+\.[0-9]+|\[::1\])(:[0-9]+)?", re.IGNORECASE)
_LONGEST = 200  # characters of a class's name
TIME, SAY_THE_ZONE = "a time such as 2013-06-01T12:00:00Z", "Say the time zone, or leave the field out for now."


class GroundTruth(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    records: list[dict[str, Any]]


_DECODER = msgspec.json.Decoder(GroundTruth)


def allow(headers: Headers, *, asks_for_tokens: bool, on_loopback: bool, what: str = "ground truth") -> None:
    """Raises RequestRefused: 403 for who may not, 415 for another content type. The token is checked elsewhere."""
    if not asks_for_tokens:
        _only_from_here(headers, on_loopback, what)
    given = headers.get(b"content-type", b"").decode("latin-1")
    if given.partition(";")[0].strip().lower() != "application/json":
        raise refuse(
            415,
            "header Content-Type",
            found=shown(given) if given else "no such header",
            allowed="application/json",
            do="Send the header Content-Type: application/json.",
        )


def _only_from_here(headers: Headers, on_loopback: bool, what: str) -> None:
    host = headers.get(b"host", b"").decode("latin-1")
    if on_loopback and _OWN_HOST.fullmatch(host):
        return
    raise refuse(
        403,
        what,
        found="a server without tokens" + (f", asked as host {shown(host)}" if on_loopback else " on a network"),
        allowed="callers with a token, or a server on loopback asked as localhost",
        do="Start serving with EVERGREEN_SERVING_AUTH=tokens, so that it is known who tells the truth.",
    )


def read(body: bytes, caller: str, now: datetime) -> list[Truth]:
    """The records. Raises RequestRefused: 400 for what is no JSON, 422 naming each record and field that is wrong."""
    records = decode(body, _DECODER, LIKE).records
    if not records:
        raise refuse(422, "records", found="no record", allowed="at least one", do="Send a record.")
    problems, ids = Problems(), set[str]()
    found = [_truth(row, record, caller, now, problems) for row, record in enumerate(records)]
    for row, truth in enumerate(found):
        if truth.inference_id in ids:
            problems.add(_twice, row)
        ids.add(truth.inference_id or str(row))
    problems.raise_if_any()
    return found


def _truth(row: int, record: dict[str, Any], caller: str, now: datetime, problems: Problems) -> Truth:
    """The record; what is wrong with it is told in `problems`."""
    for name in record.keys() - set(_FIELDS):
        problems.add(_unknown, row, name)
    return Truth(
        inference_id=_inference_id(row, record.get("inference_id"), problems),
        label=_label(row, record.get("label"), problems),
        at=_at(row, record.get("at"), now, problems),
        caller=caller,
    )


def _inference_id(row: int, value: Any, problems: Problems) -> str:
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    allowed = "an inference id as an answer has it"
    problems.add(_wrong, row, "inference_id", value, allowed, "Send the id of the answer that it is about.")
    return ""


def _label(row: int, value: Any, problems: Problems) -> float | str:
    is_name = isinstance(value, str) and 0 < len(value) <= _LONGEST
    is_number = type(value) in (int, float) and is_finite(value)
    if is_name or is_number:
        return value if is_name else float(value)
    do = "Send 1 or 0." if isinstance(value, bool) else "Leave out records whose truth is not known yet."
    problems.add(_wrong, row, "label", value, "a finite number, or the name of a class", do)
    return 0.0


def is_finite(value: float) -> bool:
    """Whether it is a finite float64."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond float64
        return False


def _at(row: int, value: Any, now: datetime, problems: Problems) -> int:
    """Unix milliseconds; now where nothing is said."""
    at = milliseconds_at(value, now)
    if at is None:
        problems.add(_wrong, row, "at", value, TIME, SAY_THE_ZONE)
    return at or 0


def milliseconds_at(value: Any, now: datetime) -> int | None:
    """A time of the request in Unix ms, now where nothing is said; none for what is no time with a zone."""
    try:
        at = now if value is None else datetime.fromisoformat(value)
        if at.tzinfo is None:
            return None
        return int(at.astimezone(UTC).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _wrong(row: int, field: str, value: Any, allowed: str, do: str) -> Problem:
    found = "no such field, or null" if value is None else shown(value)
    return Problem(f"record {row}, field '{field}'", found, allowed, do)


def _unknown(row: int, name: str) -> Problem:
    do = f"{did_you_mean(name, _FIELDS)}Leave it out."
    return Problem(f"record {row}, field '{name[:60]}'", "no such field", some(_FIELDS), do)


def _twice(row: int) -> Problem:
    do = "Send one label an answer."
    return Problem(f"record {row}, field 'inference_id'", "it twice", "each once", do)
