"""A suite on a window: each expectation where it is judged best, and one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evergreen.adapters.gx_validator import frames, kinds, rowwise
from evergreen.adapters.gx_validator.counts import Counts, positions
from evergreen.adapters.gx_validator.kept import Kept
from evergreen.adapters.gx_validator.kinds import Kind
from evergreen.adapters.gx_validator.library import DETAIL, Config, Library, Result, error_of, never_run, refusal
from evergreen.adapters.gx_validator.plan import Plan
from evergreen.adapters.gx_validator.verdict import MOST_ROWS, on_counts
from evergreen.adapters.gx_validator.whole import WholeChecks
from evergreen.adapters.gx_validator.window import WindowChecks
from evergreen.adapters.gx_validator.workers import shared
from evergreen.core.ports import ExpectationResult, PartRows, ValidationReport

if TYPE_CHECKING:
    from evergreen.core.ports import Store, WindowFacts

_NO_LIMITS = {*kinds.COLUMNS, "batch_id", "mostly"}
_WORTH_A_FORK = 400_000  # rows; fewer are judged before two processes have begun


class GxValidator:
    """Great Expectations. `store` keeps what was found in a part, `memory_mb` bounds what is run on all rows."""

    def __init__(self, store: Store, facts: WindowFacts, memory_mb: float = 4000) -> None:
        self._store, self._facts, self._memory_mb = store, facts, memory_mb

    def validate(self, parts: Sequence[PartRows], suite: Mapping[str, Any]) -> ValidationReport:
        """Every expectation of the suite has a result, in the suite's order.

        Two processes are forked for the rows, before Polars is used here.
        """
        declared = [{**config, "kwargs": dict(config.get("kwargs") or {})} for config in suite["expectations"]]
        results = {at: never_run(config, why) for at, config in enumerate(declared) if (why := refusal(config))}
        left = {at: config for at, config in enumerate(declared) if at not in results}
        plan = Plan.of(parts, list(left.values()), fork=_worth_a_fork(parts))
        rows: dict[int, Sequence[int]] = {}
        full = self._judge(parts, left, plan, results, rows, str(suite.get("name") or "suite"))
        ordered = [results[at] for at in range(len(declared))]
        return ValidationReport(
            tuple(_result(one, rows.get(at)) for at, one in enumerate(ordered)), _whole(full, ordered)
        )

    def _judge(
        self,
        parts: Sequence[PartRows],
        configs: Mapping[int, Config],
        plan: Plan,
        results: dict[int, Result],
        rows: dict[int, Sequence[int]],
        name: str,
    ) -> dict[str, Any]:
        """Fills in results and rows by the expectations' positions; returns what the library says of a suite."""
        by_kind = {kind: [at for at in configs if plan.kind(configs[at]) is kind] for kind in Kind}
        checks = rowwise.RowChecks([configs[at] for at in by_kind[Kind.ROWS]], plan.nullable)
        kept = Kept(self._store, checks)
        found = {at: kept.find(part) if checks.configs else [] for at, part in enumerate(parts)}
        new = [at for at, counts in found.items() if counts is None]

        def judge(group: Sequence[int]) -> list[list[Counts]]:
            counted = checks.judge([parts[at] for at in group])
            for at, counts in zip(group, counted, strict=True):
                kept.keep(parts[at], counts)
            return counted

        with shared(_groups(parts, new), judge, fork=_worth_a_fork([parts[at] for at in new])) as answers:
            library = Library(frames.to_pandas(parts[0].skim(None).head(1), plan.nullable))  # Polars from here on
            full = library.report(name, [configs[at] for at in by_kind[Kind.SCHEMA]])
            results |= dict(zip(by_kind[Kind.SCHEMA], full["results"], strict=True))
            window = WindowChecks(parts, self._store, self._facts, library, plan.nullable)
            results |= dict(
                zip(by_kind[Kind.FACTS], window.on_facts([configs[at] for at in by_kind[Kind.FACTS]]), strict=True)
            )
            whole = WholeChecks(parts, self._memory_mb)
            for at in by_kind[Kind.DISTINCT]:
                results[at] = window.on_values(configs[at]) or whole.run(configs[at], plan.schema)
            for at in by_kind[Kind.WHOLE]:
                results[at] = whole.run(configs[at], plan.schema)
            for at in by_kind[Kind.REPEATED]:
                results[at], counts = window.on_repeated(configs[at])
                rows[at] = counts.rows
            for group, counted in answers:
                found |= dict(zip(group, counted, strict=True))
        for column, at in enumerate(by_kind[Kind.ROWS]):
            counts = Counts.together([(found[part] or [])[column] for part in range(len(parts))])
            results[at], rows[at] = on_counts(configs[at], counts, library), counts.rows
        return full


def _worth_a_fork(parts: Sequence[PartRows]) -> bool:
    return sum(part.height for part in parts) > _WORTH_A_FORK


def _groups(parts: Sequence[PartRows], those: Sequence[int]) -> list[list[int]]:
    """Small parts together, so that the cost of a run of the library is paid once for some hundred thousand rows."""
    groups: list[list[int]] = []
    room = 0
    for at in those:
        if not groups or parts[at].height > room:
            groups.append([])
            room = rowwise.ROWS
        groups[-1].append(at)
        room -= parts[at].height
    return groups


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
