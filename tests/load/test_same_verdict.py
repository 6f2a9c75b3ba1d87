"""Judged part by part, a window gets the verdict that stock Great Expectations gives of the whole frame."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from evergreen.adapters.duckdb_window import DuckdbWindow
from evergreen.adapters.gx_validator import GxValidator, frames, rowwise
from evergreen.adapters.gx_validator.found import PartChecks
from evergreen.adapters.gx_validator.library import Library, error_of
from evergreen.core.ports import PartRows
from evergreen.fakes.store import InMemoryStore

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
ROWS = 1_200
_random = np.random.default_rng(7)


def _some(values: Any, every: int) -> list[Any]:
    """The values, each so-manieth missing."""
    return [None if at % every == every - 1 else value for at, value in enumerate(values)]


def _frame() -> pl.DataFrame:
    number = _random.normal(10, 3, ROWS).round(3)
    hour = _random.integers(0, 24, ROWS)
    carrier = _random.choice(["AA", "UA", "ZZ"], ROWS, p=[0.6, 0.395, 0.005])
    start = datetime(2013, 1, 1, tzinfo=UTC)
    columns: dict[str, Any] = {
        "id": [f"f{at}" for at in range(ROWS)],
        "twin": [f"f{at % (ROWS - 3)}" for at in range(ROWS)],
        "at": [start + timedelta(minutes=37 * at) for at in range(ROWS)],
        "hour": hour,
        "gap": _some(hour.tolist(), 7),
        "number": number,
        "holes": _some(number.tolist(), 5),
        "nan": np.where(np.arange(ROWS) % 9 == 0, np.nan, number),
        "single": pl.Series(number, dtype=pl.Float32),
        "carrier": carrier,
        "text": _some([f"{one}-{at % 40}" for at, one in enumerate(carrier)], 11),
        "kind": pl.Series(carrier, dtype=pl.Enum(["AA", "UA", "ZZ"])),
        "late": _some((number > 11).tolist(), 13),
        "sure": number > 11,
        "day": [start.date() + timedelta(days=at // 100) for at in range(ROWS)],
        "empty": pl.Series([None] * ROWS, dtype=pl.Float64),
        "blank": pl.Series([None] * ROWS, dtype=pl.String),
        "a": [at % 5 for at in range(ROWS)],
        "b": _some([at % 7 for at in range(ROWS)], 17),
        "json": [f'{{"n": {at % 3}}}' if at % 50 else "{" for at in range(ROWS)],
        "written": ["2013-01-05" if at % 30 else "no day" for at in range(ROWS)],
    }
    return pl.DataFrame(columns)


FRAME = _frame()
COLUMNS = FRAME.columns


def one(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": f"expect_{kind}", "kwargs": kwargs}


def on(columns: str, kind: str, **kwargs: Any) -> list[dict[str, Any]]:
    return [one(kind, column=column, **kwargs) for column in columns.split()]


def edges(kind: str, column: str, unexpected: int, judged: int, **kwargs: Any) -> list[dict[str, Any]]:
    """With `mostly` at just what is met, and at the next number above."""
    share = (float(judged) - float(unexpected)) / float(judged)
    return [one(kind, column=column, mostly=limit, **kwargs) for limit in (share, math.nextafter(share, 1.0))]


ALL = "id at hour gap number holes nan single carrier text kind late sure day empty blank"
NUMBERS = "hour gap number holes nan single late sure empty"
_ZZ = int((FRAME["carrier"] == "ZZ").sum())
_HOLES = int((FRAME["holes"] > 12).sum())

EXPECTATIONS = [
    *on(ALL, "column_values_to_not_be_null"),
    *on("gap holes nan text", "column_values_to_not_be_null", mostly=0.8),
    *edges("column_values_to_not_be_null", "holes", 240, ROWS),
    *on("empty blank gap id", "column_values_to_be_null"),
    *on("gap", "column_values_to_be_null", mostly=0.1),
    *on("hour gap number holes nan single empty", "column_values_to_be_between", min_value=2, max_value=12),
    *on("hour number late", "column_values_to_be_between", max_value=1000),
    *on("number single", "column_values_to_be_between", min_value=8, strict_min=True, mostly=0.6),
    *on("number", "column_values_to_be_between", min_value=500),
    *on("at day", "column_values_to_be_between", min_value="2013-01-03", max_value="2013-01-20"),
    *on("carrier", "column_values_to_be_between", min_value=1),
    *edges("column_values_to_be_between", "holes", _HOLES, ROWS - 240, max_value=12),
    *on("carrier kind text", "column_values_to_be_in_set", value_set=["AA", "UA"]),
    *on("hour gap late sure", "column_values_to_be_in_set", value_set=[1, 2, 3, "x"]),
    *on("at", "column_values_to_be_in_set", value_set=["2013-01-01T00:00:00"]),
    *edges("column_values_to_be_in_set", "carrier", _ZZ, ROWS, value_set=["AA", "UA"]),
    *on("carrier gap", "column_values_to_not_be_in_set", value_set=["ZZ", 3]),
    *on("id carrier text hour gap", "column_values_to_match_regex", regex="^[A-Zf0-9]+$"),
    *on("text", "column_values_to_match_regex_list", regex_list=["AA", "1"], match_on="all"),
    *on("text carrier", "column_values_to_not_match_regex", regex="Z"),
    *on("text", "column_values_to_not_match_regex_list", regex_list=["ZZ", "x"]),
    *on("text", "column_values_to_match_like_pattern", like_pattern="A%"),
    *on("text id carrier", "column_value_lengths_to_be_between", min_value=2, max_value=4),
    *on("carrier id", "column_value_lengths_to_equal", value=2),
    *on("hour gap late sure text", "column_values_to_be_of_type", type_="str"),
    *on("hour gap late sure text number", "column_values_to_be_of_type", type_="float64"),
    *on("late sure", "column_values_to_be_of_type", type_="bool"),
    *on("hour gap late text at", "column_values_to_be_in_type_list", type_list=["int64", "str", "bool"]),
    *on("json", "column_values_to_be_json_parseable"),
    *on("json", "column_values_to_be_json_parseable", mostly=0.98),
    *on("json", "column_values_to_match_json_schema", json_schema={"type": "object"}),
    *on("written", "column_values_to_match_strftime_format", strftime_format="%Y-%m-%d"),
    *on("written", "column_values_to_be_dateutil_parseable"),
    *on("id twin carrier gap holes at empty", "column_values_to_be_unique"),
    *on("twin", "column_values_to_be_unique", mostly=0.9),
    one("compound_columns_to_be_unique", column_list=["a", "b"]),
    one("compound_columns_to_be_unique", column_list=["id", "b"]),
    one("compound_columns_to_be_unique", column_list=["twin", "holes"], ignore_row_if="any_value_is_missing"),
    one("compound_columns_to_be_unique", column_list=["empty", "blank"]),
    one("compound_columns_to_be_unique", column_list=["empty", "blank"], ignore_row_if="never"),
    one("column_pair_values_to_be_equal", column_A="a", column_B="b"),
    one("column_pair_values_to_be_equal", column_A="a", column_B="b", ignore_row_if="either_value_is_missing"),
    one("column_pair_values_a_to_be_greater_than_b", column_A="number", column_B="a", mostly=0.9),
    one("column_pair_values_to_be_in_set", column_A="a", column_B="b", value_pairs_set=[[1, 1], [2, 2]]),
    one("multicolumn_sum_to_equal", column_list=["a", "hour"], sum_total=9),
    one("multicolumn_values_to_be_equal", column_list=["a", "hour"]),
    one("select_column_values_to_be_unique_within_record", column_list=["a", "b", "hour"]),
    *on(NUMBERS + " at day carrier text", "column_max_to_be_between", max_value=15),
    *on("at day", "column_max_to_be_between", max_value="2013-01-20"),
    *on("at hour holes empty", "column_min_to_be_between", min_value=0, max_value=1),
    *on(NUMBERS + " carrier", "column_mean_to_be_between", min_value=9, max_value=11),
    *on(NUMBERS, "column_stdev_to_be_between", min_value=2, max_value=3.5),
    *on(NUMBERS, "column_sum_to_be_between", min_value=2),
    *on("hour gap number holes nan empty", "column_median_to_be_between", min_value=9, max_value=11),
    *on(
        "hour holes",
        "column_quantile_values_to_be_between",
        quantile_ranges={"quantiles": [0.1, 0.5, 0.9], "value_ranges": [[0, 5], [5, 15], [None, 20]]},
    ),
    *on("carrier text hour gap holes late at empty", "column_unique_value_count_to_be_between", max_value=24),
    *on("carrier id holes empty", "column_proportion_of_unique_values_to_be_between", min_value=0.5),
    *on("carrier holes empty", "column_proportion_of_non_null_values_to_be_between", min_value=0.8),
    *on("carrier kind hour gap text", "column_distinct_values_to_be_in_set", value_set=["AA", "UA", *range(24)]),
    *on("carrier gap", "column_distinct_values_to_contain_set", value_set=["AA", "QQ"]),
    *on("carrier hour", "column_distinct_values_to_equal_set", value_set=["AA", "UA", "ZZ"]),
    *on("carrier hour text", "column_most_common_value_to_be_in_set", value_set=["AA", "AA-0"]),
    *on("hour", "column_values_to_be_increasing"),
    *on("at", "column_values_to_be_increasing"),
    *on("a", "column_values_to_be_decreasing", mostly=0.5),
    *on("number", "column_value_z_scores_to_be_less_than", threshold=2, double_sided=True),
    *on("carrier", "column_values_to_be_in_set", value_set=["AA"], row_condition="hour > 3", condition_parser="pandas"),
    *on("hour nothing", "column_to_exist"),
    *on("hour gap text", "column_type_to_be", type_="int64"),
    *on("nothing", "column_values_to_not_be_null"),
    *on("nothing", "column_mean_to_be_between", min_value=1),
    one("table_row_count_to_be_between", min_value=1, max_value=10),
    one("table_row_count_to_equal", value=ROWS),
    one("table_column_count_to_equal", value=3),
    one("table_column_count_to_be_between", min_value=3),
    one("table_columns_to_match_set", column_set=COLUMNS[::-1]),
    one("table_columns_to_match_ordered_list", column_list=COLUMNS),
]


Judged = tuple[dict[str, Any], dict[str, Any]]  # an expectation, and what the library itself says of the whole frame


@pytest.fixture(scope="module")
def stock() -> list[Judged]:
    return list(zip(EXPECTATIONS, Library(frames.to_pandas(FRAME)).run(EXPECTATIONS), strict=True))


def test_thirty_types_and_more_are_asked() -> None:
    assert len({expectation["type"] for expectation in EXPECTATIONS}) >= 45


@pytest.mark.parametrize("cut", [250, 30])
def test_a_window_in_parts_gets_the_verdict_of_the_whole_frame(
    stock: list[Judged], cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rowwise, "ROWS", 400)
    parts = [PartRows.of(piece, f"snapshots/m/{at}.parquet") for at, piece in enumerate(FRAME.iter_slices(cut))]
    validator = GxValidator(InMemoryStore(), DuckdbWindow())
    sound = [one for one in stock if not error_of(one[1])]
    _assert_same(validator, parts, [one for one in stock if error_of(one[1])])  # of these nothing is kept
    _assert_same(validator, parts, sound)
    monkeypatch.setattr(PartChecks, "judge", None)
    _assert_same(validator, parts, sound)  # as they are kept


def _assert_same(validator: GxValidator, parts: list[PartRows], wanted: list[Judged]) -> None:
    report = validator.validate(parts, {"name": "s", "expectations": [expectation for expectation, _ in wanted]})
    found = zip(report.full["results"], report.results, strict=True)
    assert [_seen(result, None if one.rows is None else list(one.rows)) for result, one in found] == [
        _seen(result, result["result"].get("unexpected_index_list")) for _, result in wanted
    ]


def _seen(result: dict[str, Any], rows: list[int] | None) -> dict[str, Any]:
    config = result["expectation_config"]
    kwargs = {key: value for key, value in config["kwargs"].items() if key != "batch_id"}
    facts = {"asked": (config["type"], kwargs), "success": result["success"], "errored": bool(error_of(result))}
    return facts | {"rows": rows, "told": _told(result["result"])}


def _told(result: dict[str, Any]) -> dict[str, Any]:
    return {key: _near(key, value) for key, value in result.items() if key != "unexpected_index_list"}


def _near(key: str, value: Any) -> Any:
    """Floating point sums may differ in the last digits, and a set has no order."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-6, nan_ok=True)  # pandas sums single precision in single precision
    if key == "partial_unexpected_counts":  # the library counts each missing value by itself
        return [one for one in value if "None" not in str(one)]
    if key in ("partial_unexpected_list", "partial_missing_list"):
        return sorted(value, key=str) if all(isinstance(one, str) for one in value) else value
    return value
