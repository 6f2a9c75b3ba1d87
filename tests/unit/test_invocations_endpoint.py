"""MLflow's scoring protocol without a server: the documented forms, and strictness where MLflow guesses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.bundles import ROW, answer_of
from tests.loaded import exchange, flights, numeric

from evergreen.serving.protocols.invocations_endpoint import IDS_TOLD, InvocationsEndpoint, model_asked
from evergreen.serving.refusals import RequestRefused

ENDPOINT = InvocationsEndpoint()
FLIGHTS, NUMERIC = flights(), numeric()
NAMES, ROWS = ["carrier", "distance", "hour"], [["DL", 500.0, 9], ["UA", 700.5, None]]
EXPECTED = [answer_of(7, dict(zip(NAMES, row, strict=True))) for row in ROWS]
CSV = {b"content-type": b"text/csv"}


def records() -> list[dict[str, Any]]:
    return [dict(zip(NAMES, row, strict=True)) for row in ROWS]


def asked(body: Any) -> Any:
    done = exchange(ENDPOINT, FLIGHTS, body if isinstance(body, bytes) else json.dumps(body).encode())
    return json.loads(done.written.body)


def refused(body: Any, headers: dict[bytes, bytes] | None = None, model: Any = FLIGHTS, status: int = 422) -> str:
    with pytest.raises(RequestRefused) as caught:
        ENDPOINT.read(model, body if isinstance(body, bytes) else json.dumps(body).encode(), headers or {})
    assert caught.value.status == status
    return str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": NAMES, "data": ROWS}},
        {"dataframe_split": {"index": [0, 1], "columns": NAMES, "data": ROWS}},
        {"dataframe_records": records()},
        {"instances": records()},
        {"inputs": records()},
        {"inputs": {name: [row[at] for row in ROWS] for at, name in enumerate(NAMES)}},
        {"instances": [[500.0, 9, "DL"], [700.5, None, "UA"]], "params": {}},
        {"inputs": [[500.0, 9, "DL"], [700.5, None, "UA"]]},
    ],
)
def test_every_form_that_mlflow_documents_is_answered_alike(body: Any) -> None:
    assert asked(body) == {"predictions": pytest.approx(EXPECTED, abs=1e-6)}


@pytest.mark.parametrize("text", [
    "carrier,distance,hour\nDL,500.0,9\nUA,700.5,\n",
    '"carrier","distance","hour"\r\n"DL","5e2","9"\r\nUA,700.5,""\r\n\r\n',
    "\ufeffdistance,hour,carrier\n500,9.0,DL\n+700.5,,UA",
])  # fmt: skip
@pytest.mark.parametrize("kind", [b"text/csv", b"Text/CSV; charset=UTF-8", b'text/csv;charset="utf-8"'])
def test_csv_as_pandas_writes_it(text: str, kind: bytes) -> None:
    done = exchange(ENDPOINT, FLIGHTS, text.encode(), {b"content-type": kind})
    assert json.loads(done.written.body)["predictions"] == pytest.approx(EXPECTED, abs=1e-6)


def test_the_ids_are_in_a_header_as_long_as_one_holds_them() -> None:
    one = json.dumps({"dataframe_records": [ROW] * IDS_TOLD}).encode()
    done = exchange(ENDPOINT, FLIGHTS, one)
    assert dict(done.written.headers)[b"x-inference-ids"].decode().split(",") == done.answer.inference_ids
    assert sum(map(len, dict(done.written.headers).values())) < 4096
    more = json.dumps({"dataframe_records": [ROW] * (IDS_TOLD + 1)}).encode()
    assert exchange(ENDPOINT, FLIGHTS, more).written.headers == ()


def test_a_probability_for_each_class_is_a_list() -> None:
    body = json.dumps({"inputs": [[1, 2]]}).encode()
    (row,) = json.loads(exchange(ENDPOINT, numeric(classes=3), body).written.body)["predictions"]
    assert len(row) == 3


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "none of the forms"),
        ({"inputs": [[1, 2, "DL"]], "instances": [[1, 2, "DL"]]}, "instances and inputs"),
        ({"data": []}, "unknown field `data`"),
        ({"dataframe_split": {"columns": NAMES}}, "missing required field `data`"),
        ({"dataframe_split": {"columns": NAMES, "data": []}}, "no row"),
        ({"dataframe_split": {"columns": NAMES, "data": [[1]]}}, "row 0: found 1 values; allowed: 3: 'carrier'"),
        ({"dataframe_split": {"columns": [*NAMES, "hour"], "data": [[1, 2, 3, 4]]}}, "column 'hour': found it twice"),
        ({"dataframe_split": {"columns": NAMES[:2], "data": [["DL", 1]]}}, "feature 'hour': found no such column"),
        ({"dataframe_split": {"columns": ["carrier", "distance", "huor"], "data": [["DL", 1, 2]]}}, "Did you mean"),
        ({"dataframe_split": {"columns": [], "data": [[]]}}, "no row"),
        ({"dataframe_records": [{"hour": 1}]}, "row 0, feature 'distance': found no such key"),
        ({"dataframe_records": []}, "no record"),
        ({"instances": [[1, 2, "DL"], {"hour": 1}]}, "records, or rows of values"),
        ({"instances": [1, 2]}, "found the number 1"),
        ({"inputs": {"hour": [1, 2], "distance": [1]}}, "feature 'distance': found 1 values"),
        ({"inputs": 5}, "Expected"),
        ({"inputs": [["500", 9, "DL"]]}, "row 0, feature 'distance': found the string '500'"),
        ({"inputs": [[500, 9, "DL"]], "params": {"temperature": 1}}, "no model takes any"),
    ],
)  # fmt: skip
def test_json_of_another_form_is_422_naming_it(body: Any, told: str) -> None:
    assert told in refused(body)


@pytest.mark.parametrize(
    ("text", "told", "status"),
    [
        (b"", "nothing", 400),
        (b"\n\n", "nothing", 400),
        (b"\xff\xfe", "no CSV", 400),
        (b'carrier,distance,hour\n"DL,500,9', "no CSV", 400),
        (b"a" * 200_000, "no CSV", 400),
        (b"carrier,distance,hour\n", "no row", 422),
        (b"carrier,distance,hour\nDL,500\n", "row 0: found 2 values", 422),
        (b"carrier,distance,hour\nDL,500,9,1\n", "row 0: found 4 values", 422),
        (b",carrier,distance,hour\n0,DL,500,9\n", "column '': found no such feature", 422),
        (b"carrier,distance,hour\nDL,NaN,9\n", "row 0, feature 'distance': found the string 'NaN'", 422),
        (b"carrier,distance,hour\nDL,inf,1_0\n", "row 0, feature 'hour': found the string '1_0'", 422),
        (b"carrier,distance,hour\nDL,1e999,9\n", "row 0, feature 'distance'", 422),
    ],
)
def test_csv_that_is_none_or_does_not_fit_is_refused(text: bytes, told: str, status: int) -> None:
    assert told in refused(text, CSV, status=status)


@pytest.mark.parametrize(
    "kind", [b"application/x-www-form-urlencoded", b"application/vnd.apache.parquet", b"text/csv; charset=latin-1", b""]
)
def test_another_content_type_is_415(kind: bytes) -> None:
    assert "header Content-Type" in refused({"inputs": [[1, 2, "DL"]]}, {b"content-type": kind}, status=415)


def test_which_model_is_meant() -> None:
    assert model_asked(["a"], {}, {}) == "a"
    assert model_asked(["a", "b"], {"model": "b"}, {}) == "b"
    assert model_asked(["a", "b"], {}, {b"x-model": b"a"}) == "a"
    for served, status in ((["a", "b"], 400), ([], 404)):
        with pytest.raises(RequestRefused, match=r"POST /models/<name>/invocations") as caught:
            model_asked(served, {}, {})
        assert caught.value.status == status
