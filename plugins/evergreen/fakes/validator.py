"""A validator in plain Python that knows a few expectations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from evergreen.core.ports import ExpectationResult, PartRows, ValidationReport

if TYPE_CHECKING:
    import polars as pl

Kwargs = Mapping[str, Any]


class FakeValidator:
    """Knows the expectations of `ROW_CHECKS` and the table's row count; any other is errored."""

    def validate(self, parts: Sequence[PartRows], suite: Mapping[str, Any]) -> ValidationReport:
        """Every expectation of the suite has a result, in the suite's order. All rows are in memory at once."""
        frame, *rest = (part.read() for part in parts)
        for more in rest:
            frame = frame.vstack(more)
        results = tuple(_judged(frame, config["type"], config["kwargs"]) for config in suite["expectations"])
        listed = [
            {"success": r.status == "passed", "status": r.status, "expectation_config": config}
            for r, config in zip(results, suite["expectations"], strict=True)
        ]
        return ValidationReport(results, {"success": all(r.status == "passed" for r in results), "results": listed})

    def data_docs(self, full: Mapping[str, Any], title: str) -> str:
        """See Validator."""
        listed = [(one["expectation_config"], one["status"]) for one in full["results"]]
        lines = [f"{config['type']} ({config['kwargs'].get('column')}): {status}" for config, status in listed]
        return "<br>".join(escape(line) for line in [title, *lines])


def _judged(frame: pl.DataFrame, kind: str, kwargs: Kwargs) -> ExpectationResult:
    column = kwargs.get("column")
    if kind == "expect_table_row_count_to_be_between":
        passed = _between(frame.height, kwargs)
        return ExpectationResult(kind, None, "passed" if passed else "failed", None, f"observed {frame.height}")
    if kind not in ROW_CHECKS or column not in frame.columns:
        return ExpectationResult(kind, column, "errored", None, f"{kind} cannot be judged on {column}")
    try:
        return _by_row(frame[column], kind, kwargs)
    except TypeError as error:
        return ExpectationResult(kind, column, "errored", None, str(error))


def _by_row(values: pl.Series, kind: str, kwargs: Kwargs) -> ExpectationResult:
    fits, judges_nulls = ROW_CHECKS[kind]
    judged = [(row, value) for row, value in enumerate(values) if judges_nulls or value is not None]
    rows = tuple(row for row, value in judged if not fits(value, kwargs))
    passed = len(judged) - len(rows) >= kwargs.get("mostly", 1.0) * len(judged)
    return ExpectationResult(kind, values.name, "passed" if passed else "failed", rows, "")


def _between(value: Any, kwargs: Kwargs) -> bool:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    return bool((low is None or value >= low) and (high is None or value <= high))


ROW_CHECKS: dict[str, tuple[Callable[[Any, Kwargs], bool], bool]] = {
    "expect_column_values_to_not_be_null": (lambda value, _: value is not None, True),
    "expect_column_values_to_be_between": (_between, False),
    "expect_column_values_to_be_in_set": (lambda value, kwargs: value in kwargs["value_set"], False),
}
