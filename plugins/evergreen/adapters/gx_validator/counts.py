"""What one expectation found in the rows of one part, and the same of several parts together."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MOST_VALUES = 200  # as many unexpected values as the library itself keeps


def positions(rows: Iterable[int]) -> array[int]:
    """Eight bytes a row."""
    return array("q", rows)


@dataclass(frozen=True)
class Counts:
    """`missing` of the `elements` rows were not judged; `rows` are those that were unexpected, ascending, counted from
    the part's first row, and `values` the first of their values. `error` says why nothing could be judged.
    """

    elements: int
    missing: int = 0
    rows: array[int] = field(default_factory=lambda: array("q"))
    values: list[Any] = field(default_factory=list)
    error: str = ""

    @classmethod
    def together(cls, of_parts: Sequence[Counts]) -> Counts:
        """Of parts one after the other."""
        rows, values, start = array("q"), [], 0
        for counts in of_parts:
            rows.frombytes((np.asarray(counts.rows, np.int64) + start).tobytes())
            values += counts.values[: MOST_VALUES - len(values)]
            start += counts.elements
        error = next((counts.error for counts in of_parts if counts.error), "")
        return cls(start, sum(counts.missing for counts in of_parts), rows, values, error)
