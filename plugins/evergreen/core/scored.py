"""What judge knows of the fresh rows: their labels, and what both models say of the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from evergreen.core.metrics import Task


@dataclass(frozen=True)
class Scored:
    """Arrays of equal length, one entry a row, in order of event time.

    `label` is float64; `candidate` and `champion` have shape (rows,), or (rows, classes) for multiclass; `champion`
    is none where there is none, or where it cannot be compared. `at` is the event time, datetime64[us] UTC. `slices`
    holds the values, as text, of each column that a gate slices by ('missing' for none).
    """

    task: Task
    label: np.ndarray
    candidate: np.ndarray
    champion: np.ndarray | None
    at: np.ndarray
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.label)
