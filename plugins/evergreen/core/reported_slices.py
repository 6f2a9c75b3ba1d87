"""In which slices a model errs: every value of every feature, from sums that answers are added to part after part."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from evergreen.core.metrics import Task
from evergreen.core.monitoring.bins import Bins, CategoryBins, NumberBins
from evergreen.core.reported_shifts import MISSING, group_labels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from evergreen.core.monitoring.reference import Reference

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

SURE = 1.96
UNSEEN = "not seen in training"


@dataclass(frozen=True)
class SliceError:
    """The answers with one value of a feature: their mean loss and its interval, what was said and what was true (none
    of several classes).

    `surely` is by how much, with a chance of 95 % at least, the model is worse here: of a binary classifier how far
    what it says is from what comes true (its loss is larger wherever chances are near a half, however right they are);
    else how far the mean loss is above that of all answers.
    """

    feature: str
    value: str
    rows: int
    loss: float
    low: float
    high: float
    surely: float
    said: float | None = None
    true: float | None = None


@dataclass
class Slices:
    """Sums by feature and value: rows, loss, its square, what was said and what was true."""

    task: Task
    reference: Reference
    hidden: Collection[str] = frozenset()
    rows: int = 0
    loss: float = 0.0
    _sums: dict[str, Any] = field(default_factory=dict)  # by feature, shape (5, groups)

    def add(self, features: Mapping[str, npt.NDArray[Any]], loss: Floats, said: Floats, true: Floats) -> None:
        """Add answers, shape (rows,) each; `features` as encoding.features_of has them."""
        self.rows, self.loss = self.rows + len(loss), self.loss + float(loss.sum())
        for bins in self.reference.features:
            if bins.name in features and bins.name not in self.hidden:
                places, size = _places(bins, features[bins.name])
                self._sums[bins.name] = self._sums.get(bins.name, 0.0) + sums(places, size, loss, loss**2, said, true)

    @property
    def mean_loss(self) -> float:
        """Over all answers. ZeroDivisionError without any."""
        return self.loss / self.rows

    def worst(self, least: int, most: int) -> list[SliceError]:
        """Those with at least so many rows in which the model is surely worse, the worst first."""
        found = [one for one in self.all(least) if one.surely > 0]
        return sorted(found, key=lambda one: (-one.surely, one.feature, one.value))[:most]

    def all(self, least: int) -> Iterator[SliceError]:
        """Those with at least so many rows; all rows together are no slice."""
        for bins in self.reference.features:
            if bins.name in self._sums:
                for value, column in zip(_names(bins), self._sums[bins.name].T.tolist(), strict=True):
                    if least <= column[0] < self.rows:
                        yield self._slice(bins.name, value, *column)

    def _slice(
        self, feature: str, value: str, rows: float, loss: float, squares: float, said: float, true: float
    ) -> SliceError:
        mean = loss / rows
        error = math.sqrt(max(squares / rows - mean**2, 0.0) / rows)
        low, high = mean - SURE * error, mean + SURE * error
        if self.task is Task.MULTICLASS:
            return SliceError(feature, value, round(rows), mean, low, high, low - self.mean_loss)
        off, surely = abs(said - true) / rows, low - self.mean_loss
        if self.task is Task.BINARY:  # the loss is the mean square of what `off` is the mean of
            surely = off - SURE * math.sqrt(max(mean - off**2, 0.0) / rows)
        return SliceError(feature, value, round(rows), mean, low, high, surely, said / rows, true / rows)


def sums(places: Ints, size: int, *columns: Floats) -> Floats:
    """Rows and sums of the columns by place, shape (1 + columns, size)."""
    import numpy as np

    return np.stack([np.bincount(places, weights, minlength=size) for weights in (None, *columns)]).astype(np.float64)


def _places(bins: Bins, values: npt.NDArray[Any]) -> tuple[Ints, int]:
    """Which slice each row is in, and how many there are: of a number its groups, of a category every one."""
    if isinstance(bins, NumberBins):
        return bins.groups[bins.index(values)], int(bins.groups.max()) + 1
    return values, bins.size


def _names(bins: Bins) -> Collection[str]:
    return [*bins.categories, UNSEEN, MISSING] if isinstance(bins, CategoryBins) else group_labels(bins)
