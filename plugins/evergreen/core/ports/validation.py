"""Expectation suites and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class ExpectationResult:
    """One expectation. `rows` are positions in the frame; none where the expectation judges no single row."""

    expectation: str
    column: str | None
    status: str  # passed | failed | errored
    rows: tuple[int, ...] | None = None
    detail: str = ""


@dataclass(frozen=True)
class ValidationReport:
    """All results of a suite on a frame, and the library's own full result for the record."""

    results: tuple[ExpectationResult, ...]
    full: Mapping[str, Any] = field(default_factory=dict)


class Validator(Protocol):
    """Runs an expectation suite (stock Great Expectations JSON, parsed)."""

    def validate(self, frame: pl.DataFrame, suite: Mapping[str, Any]) -> ValidationReport:
        """Every expectation of the suite has a result, in the suite's order."""
