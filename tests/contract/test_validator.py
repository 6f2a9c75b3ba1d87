"""What every validator does: Great Expectations, and the few checks of its twin."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from evergreen.adapters.duckdb_window import DuckdbWindow
from evergreen.adapters.gx_validator import GxValidator
from evergreen.core.ports import ExpectationResult, PartRows, Validator
from evergreen.fakes.store import InMemoryStore
from evergreen.fakes.validator import FakeValidator

FRAME = pl.DataFrame(
    {
        "id": ["a", "b", "c", "d"],
        "at": [datetime(2013, month, 1, tzinfo=UTC) for month in (1, 2, 3, 4)],
        "hour": [5, None, 99, 7],
        "carrier": ["AA", None, "ZZ", "UA"],
        "wind": [1.5, float("nan"), None, 2.5],
        "late": [True, False, None, True],
    },
    schema_overrides={"at": pl.Datetime("us", "UTC")},
)


def expectation(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": kwargs, "meta": {}, "id": "8a0f6ea4-7a3e-4a57-9c0f-000000000000"}


BETWEEN = expectation("expect_column_values_to_be_between", column="hour", min_value=0, max_value=23)
NOT_NULL = expectation("expect_column_values_to_not_be_null", column="carrier")
IN_SET = expectation("expect_column_values_to_be_in_set", column="carrier", value_set=["AA", "UA"])


def gx_validator() -> Validator:
    return GxValidator(InMemoryStore(), DuckdbWindow())


@pytest.fixture(params=[gx_validator, FakeValidator])
def validator(request: pytest.FixtureRequest) -> Validator:
    made: Validator = request.param()
    return made


@pytest.fixture(params=["one part", "a part a row"], autouse=True)
def parts(request: pytest.FixtureRequest) -> None:
    """The same rows in one part or in four, where a test does not hand over its own."""
    global PARTS
    PARTS = [PartRows.of(piece) for piece in ([FRAME] if request.param == "one part" else FRAME.iter_slices(1))]


PARTS: list[PartRows] = []


def judged(validator: Validator, *expectations: dict[str, Any]) -> list[ExpectationResult]:
    report = validator.validate(PARTS, {"name": "s", "expectations": list(expectations), "meta": {}})
    assert len(report.results) == len(expectations)
    json.dumps(report.full, allow_nan=False)
    return [replace(one, rows=None if one.rows is None else tuple(one.rows)) for one in report.results]


def test_failed_expectations_name_their_rows_and_nulls_fail_only_the_null_check(validator: Validator) -> None:
    found = [(r.column, r.status, r.rows) for r in judged(validator, BETWEEN, NOT_NULL, IN_SET)]
    assert found == [("hour", "failed", (2,)), ("carrier", "failed", (1,)), ("carrier", "failed", (2,))]


def test_passed_and_tolerated_by_mostly(validator: Validator) -> None:
    clean = expectation("expect_column_values_to_not_be_null", column="id")
    tolerant = expectation("expect_column_values_to_not_be_null", column="carrier", mostly=0.5)
    assert [(r.status, r.rows) for r in judged(validator, clean, tolerant)] == [("passed", ()), ("passed", (1,))]


def test_the_table_as_a_whole_names_no_row(validator: Validator) -> None:
    (result,) = judged(validator, expectation("expect_table_row_count_to_be_between", min_value=10))
    assert (result.column, result.status, result.rows) == (None, "failed", None)
    assert "observed 4" in result.detail


def test_what_cannot_be_judged_is_errored_and_keeps_its_place(validator: Validator) -> None:
    gone = expectation("expect_column_values_to_be_between", column="gone", min_value=0)
    text = expectation("expect_column_values_to_be_between", column="carrier", min_value=0)
    unknown = expectation("expect_nonsense", column="hour")
    results = judged(validator, gone, NOT_NULL, text, unknown, BETWEEN)
    assert [r.status for r in results] == ["errored", "failed", "errored", "errored", "failed"]
    assert [r.column for r in results] == ["gone", "carrier", "carrier", "hour", "hour"]
    assert all(r.detail for r in results if r.status == "errored")


def test_the_same_expectation_twice_has_two_results(validator: Validator) -> None:
    assert [r.status for r in judged(validator, BETWEEN, BETWEEN)] == ["failed", "failed"]


def test_an_empty_suite_has_no_result(validator: Validator) -> None:
    assert judged(validator) == []


# ---------------------------------------------------------------- Great Expectations only


def gx(*expectations: dict[str, Any]) -> list[ExpectationResult]:
    return judged(gx_validator(), *expectations)


def test_wrong_arguments_are_errored() -> None:
    (result,) = gx(expectation("expect_column_values_to_be_between", column="hour", nonsense=1))
    assert result.status == "errored"
    assert "nonsense" in result.detail


def test_a_failed_check_without_result_is_not_errored() -> None:
    (result,) = gx(expectation("expect_column_to_exist", column="gone"))
    assert (result.status, result.rows) == ("failed", None)


def test_times_compare_with_limits_written_as_text() -> None:
    (result,) = gx(expectation("expect_column_max_to_be_between", column="at", max_value="2013-02-01T00:00:00"))
    assert result.status == "failed"
    assert "observed 2013-04-01" in result.detail


def test_types_are_those_that_a_stock_suite_names() -> None:
    kinds = {"id": "str", "hour": "float64", "wind": "float64"}
    results = gx(
        *[expectation("expect_column_values_to_be_of_type", column=c, type_=kind) for c, kind in kinds.items()]
    )
    assert [r.status for r in results] == ["passed"] * 3


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([float("inf"), 1.0, float("-inf")], ["sum", "mean", "stdev"]),
        ([1e308, 1e308, 1e308], ["sum", "mean"]),
        ([1e200, -1e200, 1.0], ["sum", "mean", "stdev"]),
    ],
)
def test_sums_that_no_number_holds_are_judged_as_in_one_frame(values: list[float], names: list[str]) -> None:
    frame = pl.DataFrame({"wind": values})
    kinds = [f"expect_column_{name}_to_be_between" for name in names]
    suite = {"name": "s", "expectations": [expectation(kind, column="wind", min_value=0) for kind in kinds]}
    whole, cut = (
        gx_validator().validate([PartRows.of(piece) for piece in pieces], suite)
        for pieces in ([frame], frame.iter_slices(1))
    )
    assert [one.status for one in cut.results] == [one.status for one in whole.results]
    assert cut.full["results"][0]["result"] == whole.full["results"][0]["result"]


def test_several_columns() -> None:
    pair = expectation("expect_compound_columns_to_be_unique", column_list=["late", "carrier"])
    (result,) = gx(pair)
    assert (result.column, result.status, result.rows) == ("late, carrier", "passed", ())


def test_the_full_result_is_in_the_suites_order_and_keeps_its_ids() -> None:
    report = gx_validator().validate(
        PARTS, {"name": "s", "expectations": [BETWEEN, expectation("expect_nonsense"), IN_SET]}
    )
    full = report.full["results"]
    assert [r["expectation_config"]["type"] for r in full] == [BETWEEN["type"], "expect_nonsense", IN_SET["type"]]
    assert full[0]["expectation_config"]["id"] == BETWEEN["id"]
    assert full[0]["result"]["unexpected_list"] == [99.0]
    assert report.full["success"] is False
