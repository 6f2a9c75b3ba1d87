"""Encoding: what reaches the booster is what it was fitted on, or a refusal that says what to change."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bundles import CARRIERS, booster, frame, offline

from evergreen.serving.models.encoder import Encoded, Encoder, FeatureSchema, Schema
from evergreen.serving.refusals import LISTED, Problems, RequestRefused

NUMBERS = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)


def encoder(categories: list[str] = CARRIERS, *, refuse: bool = False) -> Encoder:
    features = [FeatureSchema("distance", "number"), FeatureSchema("hour", "number")]
    features.append(FeatureSchema("carrier", "category", categories))
    return Encoder(Schema("binary_classification", features, "refuse" if refuse else "missing"))


def encode(encoding: Encoder, *rows: tuple[Any, Any, Any]) -> Encoded:
    columns = dict(zip(encoding.names, map(list, zip(*rows, strict=True)), strict=True))
    return encoding.encode(columns, len(rows), Problems())


def refusal(*rows: tuple[Any, Any, Any], refuse: bool = False) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        encode(encoder(refuse=refuse), *rows)
    assert caught.value.status == 422
    return caught.value


@settings(max_examples=50)
@given(
    categories=st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=1, max_size=8, unique=True),
    data=st.data(),
)
def test_codes_are_those_of_the_polars_enum(categories: list[str], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | st.sampled_from(categories) | st.text(max_size=3), min_size=1, max_size=9))
    try:
        known = pl.Series(values, dtype=pl.String).cast(pl.Enum(sorted(categories)), strict=False)
    except pl.exceptions.InvalidOperationError:  # pragma: no cover  (a text that Polars does not take)
        return
    expected = [np.nan if code is None else code for code in known.to_physical().to_list()]
    found = encode(encoder(sorted(categories)), *((1.0, 2, value) for value in values))
    np.testing.assert_array_equal(found.matrix[:, 2], np.array(expected, dtype=np.float32))
    unseen = [(u.row, u.value) for u in found.unseen]
    assert unseen == [(i, v) for i, v in enumerate(values) if v is not None and v not in categories]


@given(st.lists(NUMBERS, min_size=1, max_size=9))
def test_numbers_are_those_of_float32_and_null_is_missing(values: list[float | int | None]) -> None:
    found = encode(encoder(), *((value, None, "AA") for value in values))
    expected = np.array([np.nan if v is None else np.float32(v) for v in values], dtype=np.float32)
    np.testing.assert_array_equal(found.matrix[:, 0], expected)
    assert np.isnan(found.matrix[:, 1]).all()


def test_encoded_rows_are_answered_bit_for_bit_as_offline() -> None:
    model, data = booster(), frame(seed=5)
    found = encode(encoder(), *data.rows())
    restored = xgb.Booster(model_file=bytearray(model.save_raw("ubj")))
    answers = restored.inplace_predict(found.matrix, missing=np.nan, validate_features=False)
    assert answers.tolist() == offline(model, data)


@pytest.mark.parametrize(
    ("value", "found", "do"),
    [
        ("12", "the string '12'", "without quotes"),
        ("NaN", "the string 'NaN'", "without quotes"),
        (True, "the boolean True", "Send 1 or 0"),
        (float("inf"), "the number inf", "Send null"),
        (1e39, "the number 1e+39", "Send null"),
        (10**400, "a very long number", "Send null"),
        (-(10**400), "a very long number", "Send null"),
        ([1], "the array [1]", "without quotes"),
        ({}, "the object {}", "without quotes"),
    ],
)
def test_what_is_no_finite_number_is_refused(value: Any, found: str, do: str) -> None:
    (problem,) = refusal((1.0, 1, "AA"), (value, 1, "AA")).problems
    assert problem.where == "row 1, feature 'distance'"
    assert found in problem.found
    assert problem.allowed == "a finite 32-bit number, or null"
    assert do in problem.do


def test_the_largest_float32_is_a_number() -> None:
    largest = float(np.finfo(np.float32).max)
    assert encode(encoder(), (largest, -largest, "AA")).matrix[0, :2].tolist() == [largest, -largest]


@pytest.mark.parametrize(("value", "do"), [(5, '"5"'), (1.5, '"1.5"'), (True, '"true"'), (["AA"], "category's name")])
def test_a_category_is_a_string(value: Any, do: str) -> None:
    (problem,) = refusal((1.0, 1, value)).problems
    assert problem.allowed == "a category as a string, or null"
    assert do in problem.do


def test_an_unseen_category_is_missing_and_named_or_refused() -> None:
    found = encode(encoder(), (1.0, 1, "AA"), (1.0, 1, "ZZ"))
    assert np.isnan(found.matrix[1, 2])
    assert [(u.row, u.feature, u.value) for u in found.unseen] == [(1, "carrier", "ZZ")]
    (problem,) = refusal((1.0, 1, "DLX"), refuse=True).problems
    assert "'DLX', which training did not see" in problem.found
    assert problem.allowed == "'AA', 'DL', 'UA', or null"
    assert problem.do.startswith("Did you mean 'DL'?")


def test_all_problems_are_told_at_once_up_to_a_bound() -> None:
    found = refusal(*[("x", "y", 1)] * 50)
    assert len(found.problems) == LISTED
    assert found.total == 150
    assert str(found).endswith("… and 140 more")
    assert len(str(refusal(("x" * 100_000, 1, "AA")))) < 500
