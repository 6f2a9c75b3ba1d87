"""Gives XGBoost the rows of a fit piece by piece, as often as it goes through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xgboost as xgb

from evergreen.adapters.xgboost_trainer.inputs import inputs_of
from evergreen.adapters.xgboost_trainer.prepared import LABEL, WEIGHT

if TYPE_CHECKING:
    from pathlib import Path

    from evergreen.adapters.xgboost_trainer.inputs import Categories


@dataclass(frozen=True)
class Batches:
    """Frames of prepared rows, and what they weigh: their WEIGHT, if any, times that of their class, if given."""

    frames: Callable[[], Iterator[pl.DataFrame]]
    categories: Categories
    by_class: Mapping[float, float] = field(default_factory=dict)

    def arguments(self, frame: pl.DataFrame) -> dict[str, Any]:
        """A frame as what a DMatrix of XGBoost, or of its Dask module, is made of."""
        label = frame[LABEL].to_numpy()
        found = {"data": inputs_of(frame, self.categories), "label": label}
        weight = self._weight(frame, label)
        return found if weight is None else {**found, "weight": weight}

    def _weight(self, frame: pl.DataFrame, label: np.ndarray) -> np.ndarray | None:
        own = frame[WEIGHT].to_numpy() if WEIGHT in frame.columns else None
        if not self.by_class:
            return own
        classes = np.array(list(self.by_class))  # a class that only the tail has weighs 1
        weights = np.append(np.array(list(self.by_class.values())), 1.0)
        at = np.where(np.isin(label, classes), np.searchsorted(classes, label), len(classes))
        return weights[at] if own is None else weights[at] * own


class PartsIter(xgb.DataIter):
    """See Batches. `cache`: the beginning of the names of files that external memory writes.

    https://xgboost.readthedocs.io/en/stable/tutorials/external_memory.html
    """

    def __init__(self, batches: Batches, cache: Path | None = None) -> None:
        self._batches = batches
        self._frames = batches.frames()
        super().__init__(cache_prefix=str(cache) if cache else None)

    def reset(self) -> None:
        """Begin anew."""
        self._frames = self._batches.frames()

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand on one frame; False when there is none left."""
        frame = next(self._frames, None)
        if frame is None:
            return False
        input_data(**self._batches.arguments(frame))
        return True
