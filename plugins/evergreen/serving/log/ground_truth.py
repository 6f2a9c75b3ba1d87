"""POST /models/{name}/ground-truth: what turned out to be true of earlier answers, by their inference ids."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec

from evergreen.core.records import Truth
from evergreen.serving.log.posted import Posted, is_finite, read_all
from evergreen.serving.protocols.body import decode
from evergreen.serving.refusals import refuse

LIKE = '{"records": [{"inference_id": "<id>", "label": <number>, "at": "<ISO time, optional>"}, …]}'
_FIELDS = ("inference_id", "label", "at")
_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_LONGEST = 200  # characters of a class's name
_TWICE = (", field 'inference_id'", "it twice", "each once", "Send one label an answer.")


class GroundTruth(msgspec.Struct, forbid_unknown_fields=True):
    """The body."""

    records: list[dict[str, Any]]


_DECODER = msgspec.json.Decoder(GroundTruth)


def read(body: bytes, caller: str, now: datetime) -> list[Truth]:
    """The records. Raises RequestRefused: 400 for what is no JSON, 422 naming each record and field that is wrong."""
    records = decode(body, _DECODER, LIKE).records
    if not records:
        raise refuse(422, "records", found="no record", allowed="at least one", do="Send a record.")

    def truth(posted: Posted) -> Truth:
        return Truth(_inference_id(posted), _label(posted), posted.milliseconds("at", now) or 0, caller)

    return read_all(records, "record", _FIELDS, truth, lambda one: one.inference_id, _TWICE)


def _inference_id(posted: Posted) -> str:
    value = posted.fields.get("inference_id")
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    do = "Send the id of the answer that it is about."
    posted.wrong("inference_id", "an inference id as an answer has it", do)
    return ""


def _label(posted: Posted) -> float | str:
    value = posted.fields.get("label")
    if isinstance(value, str) and 0 < len(value) <= _LONGEST:
        return value
    if is_finite(value):
        return float(value)
    do = "Send 1 or 0." if isinstance(value, bool) else "Leave out records whose truth is not known yet."
    posted.wrong("label", "a finite number, or the name of a class", do)
    return 0.0
