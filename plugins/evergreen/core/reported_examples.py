"""The answers that were most wrong: a heap, so that memory does not grow with the answers."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from evergreen.core import logged_parts as parts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Floats = npt.NDArray[np.float64]

JOINED = "label, joined"  # the column of the label: a feature may be called `label`
MOST = 20
_NOT_FEATURES = frozenset({*parts.OWN, JOINED})


@dataclass(frozen=True)
class Example:
    """One answer that was wrong. `features` as callers sent them, without those that are hidden; `named` is the class,
    of several, and `said` its chance."""

    inference_id: str
    at: datetime
    said: float
    label: float
    features: Mapping[str, Any]
    named: int | None = None


@dataclass
class Examples:
    """The MOST answers that were farthest off."""

    hidden: Collection[str] = frozenset()
    _worst: list[tuple[float, int, Example]] = field(default_factory=list)
    _number: Iterator[int] = field(default_factory=lambda: count(0, -1))  # of two that are equal the first stays

    def add(self, frame: pl.DataFrame, label: Floats, said: Floats) -> None:
        """Add answers: `said` has shape (rows,), or (rows, classes)."""
        import numpy as np

        off = abs(said - label) if said.ndim == 1 else 1 - said[np.arange(len(label)), label.astype(np.int64)]
        for at in np.argsort(-off, kind="stable")[:MOST].tolist():
            worth, full = float(off[at]), len(self._worst) == MOST
            if full and worth <= self._worst[0][0]:
                return
            example = self._example(frame.row(at, named=True), float(label[at]), said[at])
            push = heapq.heappushpop if full else heapq.heappush
            push(self._worst, (worth, next(self._number), example))

    @property
    def worst_first(self) -> list[Example]:
        """All that are kept."""
        return [example for _, _, example in sorted(self._worst, reverse=True)]

    def _example(self, row: Mapping[str, Any], label: float, said: Any) -> Example:
        told = {name.removeprefix("feature."): value for name, value in row.items() if name not in _NOT_FEATURES}
        features = {name: value for name, value in told.items() if name not in self.hidden}
        several = said.ndim == 1
        named = int(said.argmax()) if several else None
        chance = float(said.max()) if several else float(said)
        return Example(str(row[parts.ID]), row[parts.AT], chance, label, features, named)
