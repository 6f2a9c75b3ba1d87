"""Expectation suites run by Great Expectations on pandas, the frame's columns as plain numpy arrays.

Times are handed over as UTC without a zone: a suite's JSON can only name a limit as text, and the library cannot
compare that with a zoned time. Text is of dtype object (pandas' own text type is several times slower here).
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the library is imported

import great_expectations as gx
import pandas as pd
import polars as pl
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

from evergreen.core.ports import ExpectationResult, ValidationReport

_FORMAT = {"result_format": "COMPLETE", "return_unexpected_index_query": False}
_DETAIL = 200
_COLUMNS = ("column", "column_A", "column_B", "column_list", "column_set", "sum_columns")
_NO_LIMITS = {*_COLUMNS, "batch_id", "mostly"}


class GxValidator:
    """Great Expectations in this process, without a project folder and without telemetry."""

    def validate(self, frame: pl.DataFrame, suite: Mapping[str, Any]) -> ValidationReport:
        """Every expectation of the suite has a result, in the suite's order."""
        declared = list(suite["expectations"])
        refused = {at: why for at, config in enumerate(declared) if (why := _refusal(config))}
        named = [{**config, "id": _id(at)} for at, config in enumerate(declared) if at not in refused]
        result = _run(frame, str(suite.get("name") or "suite"), named)
        by_id = {found["expectation_config"]["id"]: found for found in result["results"]}
        ordered = [by_id.get(_id(at)) or _never_run(config, refused.get(at)) for at, config in enumerate(declared)]
        for found, config in zip(ordered, declared, strict=True):
            found["expectation_config"]["id"] = config.get("id")
        result |= {"results": ordered, "success": all(found["success"] for found in ordered)}
        return ValidationReport(tuple(_result(found) for found in ordered), result)


def _run(frame: pl.DataFrame, name: str, expectations: list[dict[str, Any]]) -> dict[str, Any]:
    context = gx.get_context(mode="ephemeral")  # 4 ms, and nothing is left of an earlier frame
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("snapshot").add_dataframe_asset("rows")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": _to_pandas(frame)})
    suite = gx.ExpectationSuite(name=name, expectations=expectations)
    full = batch.validate(suite, result_format=_FORMAT).to_json_dict()
    plain: dict[str, Any] = json.loads(json.dumps(full, default=str), parse_constant=str)  # NaN is no JSON
    return plain


def _refusal(config: Mapping[str, Any]) -> str:
    """Why the library would not run it. A suite drops an unknown expectation silently, so each is built before."""
    try:
        ExpectationConfiguration(**config).to_domain_obj()
    except Exception as error:  # its own errors, its pydantic's, TypeError: whatever it is, it cannot be judged
        return " ".join(str(error).split())[:_DETAIL]
    return ""


def _id(position: int) -> str:
    return str(uuid.UUID(int=position + 1))


def _never_run(config: Mapping[str, Any], why: str | None) -> dict[str, Any]:
    message = why or "the library gave no result"
    info = {"raised_exception": True, "exception_message": message, "exception_traceback": None}
    kept = {"type": str(config.get("type")), "kwargs": dict(config.get("kwargs") or {})}
    return {"success": False, "expectation_config": kept, "result": {}, "meta": {}, "exception_info": info}


def _result(found: Mapping[str, Any]) -> ExpectationResult:
    config, result = found["expectation_config"], found["result"]
    error = _error(found["exception_info"])
    rows = result.get("unexpected_index_list")
    return ExpectationResult(
        expectation=config["type"],
        column=_column(config["kwargs"]),
        status="errored" if error else "passed" if found["success"] else "failed",
        rows=None if rows is None else tuple(rows),
        detail=error or _detail(config["kwargs"], result),
    )


def _error(info: Mapping[str, Any]) -> str:
    """The first exception's message, empty if none was raised. Keyed by metric where a metric raised."""
    for raised in [info] if "raised_exception" in info else info.values():
        if raised["raised_exception"]:
            return " ".join(str(raised["exception_message"] or "raised an exception").split())[:_DETAIL]
    return ""


def _column(kwargs: Mapping[str, Any]) -> str | None:
    names = [kwargs[key] for key in _COLUMNS if kwargs.get(key)]
    flat = [str(name) for item in names for name in (item if isinstance(item, list | tuple | set) else [item])]
    return ", ".join(flat) or None


def _detail(kwargs: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    limits = ", ".join(f"{key} {value}" for key, value in kwargs.items() if key not in _NO_LIMITS and value is not None)
    seen = f"observed {result['observed_value']}" if "observed_value" in result else ""
    return "; ".join(part for part in (limits, seen) if part)[:_DETAIL]


def _to_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({column.name: _to_numpy(column) for column in frame.iter_columns()}, copy=False)


def _to_numpy(column: pl.Series) -> Any:
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum):
        return pd.Series(column.cast(pl.String).to_numpy(), dtype=object)
    return column.cast(pl.Float64).to_numpy() if isinstance(column.dtype, pl.Decimal) else column.to_numpy()
