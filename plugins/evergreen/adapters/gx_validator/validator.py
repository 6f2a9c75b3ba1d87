"""A suite on a window: each expectation where it is judged best, and one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evergreen.adapters.gx_validator import kinds
from evergreen.adapters.gx_validator.counts import positions
from evergreen.adapters.gx_validator.judging import Judging
from evergreen.adapters.gx_validator.library import DETAIL, Result, error_of, never_run, refusal
from evergreen.adapters.gx_validator.verdict import MOST_ROWS
from evergreen.adapters.gx_validator.workers import settled
from evergreen.core.ports import ExpectationResult, PartRows, ValidationReport

if TYPE_CHECKING:
    from evergreen.core.ports import Store, WindowFacts

_NO_LIMITS = {*kinds.COLUMNS, "batch_id", "mostly"}


class GxValidator:
    """Great Expectations. `store` keeps what was found in a part, `memory_mb` bounds what is run on all rows."""

    def __init__(self, store: Store, facts: WindowFacts, memory_mb: float = 4000) -> None:
        self._store, self._facts, self._memory_mb = store, facts, memory_mb

    @settled()
    def validate(self, parts: Sequence[PartRows], suite: Mapping[str, Any]) -> ValidationReport:
        """Every expectation of the suite has a result, in the suite's order.

        Two processes are forked for the rows, before Polars is used here.
        """
        declared = [{**config, "kwargs": dict(config.get("kwargs") or {})} for config in suite["expectations"]]
        results = {at: never_run(config, why) for at, config in enumerate(declared) if (why := refusal(config))}
        left = {at: config for at, config in enumerate(declared) if at not in results}
        judging = Judging(parts, left, self._store, self._facts, self._memory_mb, results)
        full = judging.run(str(suite.get("name") or "suite"))
        ordered = [results[at] for at in range(len(declared))]
        return ValidationReport(
            tuple(_result(one, judging.rows.get(at)) for at, one in enumerate(ordered)), _whole(full, ordered)
        )

    def data_docs(self, full: Mapping[str, Any], title: str) -> str:
        """See Validator. By the library's own renderers, of which nothing is imported before."""
        from evergreen.adapters.gx_validator.data_docs import page

        return page(full, title)


def _whole(full: Mapping[str, Any], results: list[Result]) -> dict[str, Any]:
    """The library's report with these results; of long lists of rows the first, `unexpected_count` says how many."""
    met = sum(1 for found in results if found["success"])
    many = len(results)
    statistics = {
        "evaluated_expectations": many,
        "successful_expectations": met,
        "unsuccessful_expectations": many - met,
        "success_percent": met / many * 100 if many else None,
    }
    for found in results:
        if len(listed := found["result"].get("unexpected_index_list") or []) > MOST_ROWS:
            found["result"] |= {"unexpected_index_list": listed[:MOST_ROWS]}
    return {**full, "results": results, "success": met == many, "statistics": statistics}


def _result(found: Result, rows: Sequence[int] | None) -> ExpectationResult:
    config, result = found["expectation_config"], found["result"]
    error = error_of(found)
    if rows is None and "unexpected_index_list" in result:
        rows = positions(result["unexpected_index_list"])
    return ExpectationResult(
        expectation=config["type"],
        column=", ".join(kinds.columns_of(config["kwargs"])) or None,
        status="errored" if error else "passed" if found["success"] else "failed",
        rows=None if error else rows,
        detail=error or _detail(config["kwargs"], result),
    )


def _detail(kwargs: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    limits = ", ".join(f"{key} {value}" for key, value in kwargs.items() if key not in _NO_LIMITS and value is not None)
    seen = f"observed {result['observed_value']}" if "observed_value" in result else ""
    return "; ".join(part for part in (limits, seen) if part)[:DETAIL]
