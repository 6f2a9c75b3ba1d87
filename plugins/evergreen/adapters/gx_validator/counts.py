"""What one expectation found in the rows of one part, and the same of several parts together."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from evergreen.core.bundle import sha256

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
            rows.extend(counts.rows if not start else array("q", (start + row for row in counts.rows)))
            values += counts.values[: MOST_VALUES - len(values)]
            start += counts.elements
        error = next((counts.error for counts in of_parts if counts.error), "")
        return cls(start, sum(counts.missing for counts in of_parts), rows, values, error)


def packed(of_part: Sequence[Counts]) -> bytes:
    """What all expectations found in a part, with a hash of itself. ValueError where something could not be judged."""
    if any(counts.error for counts in of_part):
        raise ValueError("errors are not kept")
    body = json.dumps([[one.elements, one.missing, list(one.rows), one.values] for one in of_part]).encode()
    return sha256(body).encode() + b"\n" + body


def unpacked(data: bytes, expectations: int) -> list[Counts]:
    """What `packed` wrote of so many expectations. ValueError where it is damaged."""
    digest, _, body = data.partition(b"\n")
    if digest.decode("ascii", "replace") != sha256(body):
        raise ValueError("not what its hash says")
    found = [Counts(elements, missing, positions(rows), values) for elements, missing, rows, values in json.loads(body)]
    if len(found) != expectations:
        raise ValueError(f"{len(found)} expectations instead of {expectations}")
    return found
