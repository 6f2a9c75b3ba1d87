"""Which rows validation sets aside, and what stops the run instead. What people read about it is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from evergreen.core.ports import ExpectationResult

MAX_FAILURES, MAX_EXAMPLES, MAX_CHARACTERS = 10, 5, 40
FAILED_EXPECTATION = "failed_expectation"


def name(result: ExpectationResult) -> str:
    """'expect_column_values_to_be_between (hour)'."""
    return f"{result.expectation} ({result.column})" if result.column else result.expectation


def stoppers(results: Iterable[ExpectationResult]) -> list[ExpectationResult]:
    """What cannot be set right by setting rows aside: errored, or failed without naming a row."""
    return [r for r in results if r.status == "errored" or (r.status == "failed" and not r.rows)]


def rows_aside(results: Iterable[ExpectationResult], total: int) -> list[int]:
    """The rows, ascending, that an expectation names that did not succeed. Those tolerated by `mostly` stay.

    Of `total` rows; costs a byte each, however often they are named.
    """
    import numpy as np

    named = np.zeros(total, dtype=np.bool_)
    for result in results:
        if result.status == "failed" and result.rows:
            named[np.asarray(result.rows, dtype=np.int64)] = True
    rows: list[int] = np.flatnonzero(named).tolist()
    return rows


def set_aside(results: Iterable[ExpectationResult]) -> dict[int, list[str]]:
    """Row → the expectations that name it, of `rows_aside`."""
    aside: dict[int, list[str]] = {}
    for result in results:
        if result.status == "failed":
            for row in result.rows or ():
                aside.setdefault(row, []).append(name(result))
    return aside


def over_limit(bad: int, total: int, limit: float, *, bad_newer: int = 0, newer: int = 0) -> str:
    """Why so many are too many of all rows, or of the newer ones (0: no earlier snapshot); empty if they are not."""
    for found, of, rows in ((bad, total, "rows"), (bad_newer, newer, "new rows")):
        if of and found / of > limit:
            return (
                f"{found:,} of {of:,} {rows} ({found / of:.2%}) fail expectations, and at most {limit:.2%} may be set "
                "aside (validation.quarantine.max_fraction)"
            )
    return ""


def failures(results: Sequence[ExpectationResult], example: Callable[[ExpectationResult, int], str]) -> list[str]:
    """At most 10 lines, one for each failure with at most 5 examples of at most 40 characters, each once."""
    lines = [_line(result, example) for result in results[:MAX_FAILURES]]
    more = len(results) - MAX_FAILURES
    return [*lines, f"and {more} more"] if more > 0 else lines


def _line(result: ExpectationResult, example: Callable[[ExpectationResult, int], str]) -> str:
    facts = [result.detail] if result.detail else []
    if result.rows:
        examples = dict.fromkeys(shortened(example(result, row)) for row in result.rows[:MAX_EXAMPLES])
        facts.append(f"{len(result.rows):,} rows, for example {', '.join(examples)}")
    return f"{name(result)} {result.status}" + (f": {'; '.join(facts)}" if facts else "")


def shortened(text: str) -> str:
    """At most 40 characters, on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= MAX_CHARACTERS else f"{flat[: MAX_CHARACTERS - 1]}…"


def labels(aside: Mapping[int, Sequence[str]]) -> list[str]:
    """The failed expectations of each row, in order of row."""
    return ["; ".join(aside[row]) for row in sorted(aside)]
