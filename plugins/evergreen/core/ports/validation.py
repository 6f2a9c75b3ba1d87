"""Expectation suites and their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import polars as pl


@dataclass(frozen=True)
class PartRows:
    """One part of a window. `key` is that of its file in the store, which tells what it holds; empty for rows that have
    no such file, of which nothing is kept.

    `read` gives all its rows, checked by their hash. `skim` gives some columns (all for none) quickly and unchecked,
    `head` the first row: for what is not kept, as no step learns from a part that it has not checked. `hashes` gives
    64 bits of each value of a column, in order of the rows, kept with the part; equal values of any parts have equal
    ones.
    """

    key: str
    height: int
    read: Callable[[], pl.DataFrame]
    skim: Callable[[Sequence[str] | None], pl.DataFrame]
    head: Callable[[], pl.DataFrame]
    hashes: Callable[[str], np.ndarray]

    @classmethod
    def of(cls, frame: pl.DataFrame, key: str = "") -> PartRows:
        """Rows that are in memory already."""
        return cls(
            key,
            frame.height,
            lambda: frame,
            lambda columns: frame.select(columns or frame.columns),
            lambda: frame.head(1),
            lambda column: frame[column].hash().to_numpy(),
        )


@dataclass(frozen=True)
class ExpectationResult:
    """One expectation. `rows` are positions in the window, from the first row of its first part on, ascending; none
    where the expectation judges no single row.
    """

    expectation: str
    column: str | None
    status: str  # passed | failed | errored
    rows: Sequence[int] | None = None
    detail: str = ""


@dataclass(frozen=True)
class ValidationReport:
    """All results of a suite on a window, and the library's own full result for the record: of its `results`, which are
    in the suite's order, each has `success` and the `expectation_config` that was asked.
    """

    results: tuple[ExpectationResult, ...]
    full: Mapping[str, Any] = field(default_factory=dict)


class Validator(Protocol):
    """Runs an expectation suite (stock Great Expectations JSON, parsed)."""

    def validate(self, parts: Sequence[PartRows], suite: Mapping[str, Any]) -> ValidationReport:
        """Every expectation of the suite has a result, in the suite's order. At least one part, all with the same
        columns; together they are judged as one frame would be.
        """

    def data_docs(self, full: Mapping[str, Any], title: str) -> str:
        """A page on the `full` of a report, as it was kept in JSON: one HTML file that runs no script and loads
        nothing, whatever stands in the data.
        """


class WindowFacts(Protocol):
    """What is to be known of a window as a whole, with memory that does not grow with it. Missing values count as
    values for none of these; a NaN is missing.
    """

    def distinct(self, parts: Sequence[PartRows], column: str, limit: int) -> pl.Series | None:
        """The column's distinct values, ordered; none if they are more than `limit`."""

    def count_distinct(self, parts: Sequence[PartRows], column: str) -> int:
        """How many they are."""

    def modes(self, parts: Sequence[PartRows], column: str) -> pl.Series:
        """The most frequent values, ordered."""

    def repeated(self, parts: Sequence[PartRows], columns: Sequence[str], ignore_row_if: str) -> Sequence[int]:
        """Positions of the rows whose values of these columns are those of another row, ascending.

        `ignore_row_if` is all_values_are_missing, any_value_is_missing or never: what rows are not looked at.
        """
