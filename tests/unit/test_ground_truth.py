"""Ground truth as callers tell it: strict records, and who may tell it at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from evergreen.serving.inference_id import inference_ids
from evergreen.serving.log.ground_truth import read
from evergreen.serving.log.posted import allow
from evergreen.serving.refusals import RequestRefused

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ID, OTHER = inference_ids(2)
JSON = {b"content-type": b"application/json"}


def told(*records: Any) -> bytes:
    return json.dumps({"records": records}).encode()


def refused(body: bytes, status: int = 422) -> str:
    with pytest.raises(RequestRefused) as caught:
        read(body, "", NOW)
    assert caught.value.status == status
    return str(caught.value)


def test_records_as_they_are_kept() -> None:
    late = {"inference_id": OTHER, "label": "late", "at": "2026-01-01T12:00:00+01:00"}
    first, second = read(told({"inference_id": ID, "label": 1}, late), "team-a", NOW)
    assert (first.inference_id, first.label, first.caller) == (ID, 1.0, "team-a")
    assert first.at == int(NOW.timestamp() * 1000)
    assert second.label == "late"
    assert second.at == int(datetime(2026, 1, 1, 11, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"label": 1}, "record 0, field 'inference_id': found no such field, or null"),
        ({"inference_id": 7, "label": 1}, "field 'inference_id': found the number 7"),
        ({"inference_id": "7", "label": 1}, "field 'inference_id': found the string '7'"),
        ({"inference_id": ID}, "field 'label': found no such field, or null"),
        ({"inference_id": ID, "label": True}, "Send 1 or 0."),
        ({"inference_id": ID, "label": ""}, "field 'label'"),
        ({"inference_id": ID, "label": 10**400}, "the number a very long number"),
        ({"inference_id": ID, "label": [1]}, "found the array [1]"),
        ({"inference_id": ID, "label": 1, "at": "2026-01-01T12:00:00"}, "Say the time zone"),
        ({"inference_id": ID, "label": 1, "at": 5}, "field 'at': found the number 5"),
        ({"inference_id": ID, "label": 1, "at": "0001-01-01T00:00:00+23:00"}, "field 'at'"),
        ({"inference_id": ID, "label": 1, "lable": 2}, "field 'lable': found no such field; allowed: 'inference_id'"),
    ],
)
def test_a_wrong_record_is_422_naming_record_and_field(record: dict[str, Any], named: str) -> None:
    assert named in refused(told(record))


def test_all_that_is_wrong_is_told_and_nothing_kept() -> None:
    found = refused(told({"inference_id": ID, "label": 1}, {"inference_id": ID, "label": "1" * 300}, {}))
    for part in ("1, field 'label'", "1, field 'inference_id': found it twice", "2, field 'label'"):
        assert f"record {part}" in found
    assert "record 0" not in found


@pytest.mark.parametrize(("body", "status"), [(b"", 400), (b"{", 400), (b"[]", 422), (b'{"records": []}', 422),
                                              (b'{"records": [{"label": NaN}]}', 400)])  # fmt: skip
def test_what_is_no_list_of_records(body: bytes, status: int) -> None:
    refused(body, status)


def test_infinity_is_refused() -> None:
    assert "field 'label'" in refused(told({"inference_id": ID, "label": 1.5}).replace(b"1.5", b"1e999"))


@pytest.mark.parametrize("host", [b"localhost:8000", b"127.0.0.1", b"[::1]:8000"])
def test_without_tokens_this_machine_may_tell(host: bytes) -> None:
    allow({**JSON, b"host": host}, asks_for_tokens=False, on_loopback=True, what="labels")


def test_with_tokens_everyone_who_has_one_may_tell() -> None:
    headers = {b"content-type": b"application/json; charset=utf-8", b"host": b"evergreen"}
    allow(headers, asks_for_tokens=True, on_loopback=False, what="labels")


@pytest.mark.parametrize(
    ("headers", "on_loopback", "status"),
    [
        ({**JSON, b"host": b"localhost"}, False, 403),
        ({**JSON, b"host": b"attacker.example:8000"}, True, 403),  # a name that a page made point here
        ({**JSON, b"host": b"127.0.0.1.attacker.example"}, True, 403),
        (JSON, True, 403),
        ({b"host": b"localhost", b"content-type": b"text/plain"}, True, 415),  # what a form or fetch sends unasked
        ({b"host": b"localhost", b"content-type": b"application/x-www-form-urlencoded"}, True, 415),
        ({b"host": b"localhost"}, True, 415),
    ],
)
def test_a_page_in_a_browser_and_the_network_may_not(headers: Any, on_loopback: bool, status: int) -> None:
    with pytest.raises(RequestRefused) as caught:
        allow(headers, asks_for_tokens=False, on_loopback=on_loopback, what="labels")
    assert caught.value.status == status
