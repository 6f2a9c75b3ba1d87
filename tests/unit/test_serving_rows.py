"""Good bodies read straight to the matrix: the same bits as by the slow path, and nothing that it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evergreen.serving.models.encoder import Encoder, FeatureSchema, Schema
from evergreen.serving.models.row_decoder import RowDecoder
from evergreen.serving.protocols.records_endpoint import read_strictly
from evergreen.serving.refusals import RequestRefused

NAMES = ["distance", "a b.c/ü", "class", "carrier"]
CARRIERS = ["", "AA", "DL", "ü"]
SCHEMA = Schema(
    "binary_classification",
    [*(FeatureSchema(name, "number") for name in NAMES[:3]), FeatureSchema("carrier", "category", CARRIERS)],
)
ENCODER, DECODER = Encoder(SCHEMA), RowDecoder(SCHEMA)

numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.sampled_from([10**400])
categories = st.none() | st.sampled_from(CARRIERS)
good_numbers = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
good_rows = st.fixed_dictionaries({**dict.fromkeys(NAMES[:3], good_numbers), "carrier": categories})
anything = numbers | st.booleans() | st.text(max_size=3) | st.sampled_from([[], {}, [1]])
any_rows = st.dictionaries(st.sampled_from([*NAMES, "Distance", "hour"]), anything, max_size=5)


def strictly(body: bytes) -> np.ndarray | None:
    """The slow path's matrix; none for what it refuses or names an unseen category of."""
    try:
        found = read_strictly(ENCODER, body)
    except RequestRefused:
        return None
    return None if found.unseen else found.matrix


def same(body: bytes) -> bool:
    """Whether both paths read the body to the same bits, or neither does. -0 and 0 are one number to a tree."""
    fast, slow = DECODER.read(body), strictly(body)
    if fast is None or slow is None:
        return fast is None and slow is None
    assert (fast.dtype, fast.shape, fast.flags.c_contiguous) == (np.dtype(np.float32), slow.shape, True)
    return (fast + 0.0).tobytes() == (slow + 0.0).tobytes()


@settings(max_examples=200)
@given(st.lists(good_rows, min_size=1, max_size=5))
def test_good_records_are_read_to_the_same_bits(rows: list[dict[str, Any]]) -> None:
    body = json.dumps({"records": rows}).encode()
    assert same(body)
    assert DECODER.read(body) is not None


@settings(max_examples=200)
@given(st.lists(good_rows, min_size=1, max_size=5))
def test_good_columns_are_read_to_the_same_bits_as_records(rows: list[dict[str, Any]]) -> None:
    columns = {name: [row[name] for row in rows] for name in NAMES}
    body = json.dumps({"columns": columns}).encode()
    assert same(body)
    found, records = DECODER.read(body), DECODER.read(json.dumps({"records": rows}).encode())
    assert found is not None
    assert records is not None
    assert (found + 0.0).tobytes() == (records + 0.0).tobytes()


@settings(max_examples=400)
@given(st.lists(good_rows | any_rows, max_size=4), st.sampled_from(["records", "columns", "rows"]))
@example([{"distance": 3.4028235677973366e38, "a b.c/ü": 1, "class": 1, "carrier": "AA"}], "records")
@example([{"distance": 3.4028235677973362e38, "a b.c/ü": 1, "class": 1, "carrier": "AA"}], "records")
def test_whatever_else_comes_is_left_to_the_slow_path(rows: list[dict[str, Any]], form: str) -> None:
    assert same(json.dumps({form: rows}).encode())


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([*NAMES, "hour"]), st.lists(anything, max_size=3) | anything, max_size=5))
def test_columns_of_any_kind_and_length_are_read_alike(columns: dict[str, Any]) -> None:
    assert same(json.dumps({"columns": columns}).encode())


ROW = '{"distance": 1, "a b.c/ü": 2.5, "class": null, "carrier": "AA"}'


def records(row: str) -> str:
    return '{"records": [' + row + "]}"


@pytest.mark.parametrize(
    ("body", "is_fast"),
    [
        (records(ROW), True),
        (' {"records" : [' + ROW + " ] } \n", True),
        (records(ROW.replace("1", "1e10")), True),
        (records(ROW.replace("1", "1e999")), False),
        (records(ROW.replace("1", "-1e39")), False),
        (records(ROW.replace("1", "9" * 400)), False),
        (records(ROW.replace("1", "NaN")), False),
        (records(ROW.replace("1", "true")), False),
        (records(ROW.replace("AA", "ZZ")), False),
        (records(ROW.replace("AA", "\\ud800")), False),
        (records(ROW.replace("{", '{"distance": "x", ')), False),
        (records(ROW.replace("{", '{"distance": 7, ')), True),  # of two, the last counts
        (records(ROW)[:-1] + ', "records": 1}', False),
        (records(ROW)[:-1] + ', "columns": null}', False),
        ('{"records": null}', False),
        ('{"columns": {}}', False),
        ('{"records": []}', False),
        ("{}", False),
        ("", False),
        ("[" * 5000, False),
    ],
)
def test_texts_that_json_writers_make(body: str, is_fast: bool) -> None:
    found = DECODER.read(body.encode())
    assert (found is not None) == is_fast
    if found is not None:
        assert same(body.encode())
    assert DECODER.read(b"\xff" + body.encode()) is None


def test_a_feature_whose_name_a_struct_cannot_take_is_left_to_the_slow_path() -> None:
    for name in ('a "b"', "a\\b", "a\nb"):
        schema = Schema("regression", [FeatureSchema(name, "number")])
        body = json.dumps({"records": [{name: 1.0}]}).encode()
        assert RowDecoder(schema).read(body) is None
        assert read_strictly(Encoder(schema), body).matrix.tolist() == [[1.0]]


def test_a_schema_of_one_feature() -> None:
    decoder = RowDecoder(Schema("regression", [FeatureSchema("x", "number")]))
    found = decoder.read(b'{"records": [{"x": 1}, {"x": null}]}')
    assert found is not None
    np.testing.assert_array_equal(found, np.array([[1], [np.nan]], dtype=np.float32))


NOTHING: dict[str, list[Any]] = {name: [None] for name in NAMES}
UNEVEN = {"distance": [1, 2], "a b.c/ü": [1], "class": [1, 2]}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({}, "columns: found no row"),
        ({name: [] for name in NAMES}, "columns: found no row"),
        (UNEVEN, "feature 'a b.c/ü': found 1 values; allowed: a column of 2"),
        (UNEVEN, "feature 'carrier': found no such column"),
        ({**NOTHING, "carier": ["AA"]}, "column 'carier': found no such feature"),
        ({**NOTHING, "class": ["x"]}, "row 0, feature 'class': found the string 'x'"),
        (1, "Expected `object`, got `int`"),
        ({"distance": 1}, "Expected `array`, got `int`"),
    ],
)
def test_wrong_columns_are_told_in_words(columns: Any, told: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        read_strictly(ENCODER, json.dumps({"columns": columns}).encode())
    assert caught.value.status == 422
    assert told in str(caught.value)


def test_records_and_columns_together_are_refused() -> None:
    body = b'{"records": [], "columns": {}}'
    assert DECODER.read(body) is None
    with pytest.raises(RequestRefused, match="both `records` and `columns`"):
        read_strictly(ENCODER, body)
