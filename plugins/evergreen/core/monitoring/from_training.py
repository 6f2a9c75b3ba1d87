"""Makes a bundle's reference of what training has: its rows, and the tail with what the model answered to it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evergreen.core.measure import all_values
from evergreen.core.metrics import Task
from evergreen.core.monitoring.bins import Bins, category_bins, number_bins
from evergreen.core.monitoring.reference import PREDICTION, PREDICTION_BINS, Reference
from evergreen.core.monitoring.spread import Tail, spread_of
from evergreen.core.monitoring.terms import named

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from evergreen.core.monitoring.reference import Calibrate

    Floats = npt.NDArray[np.float64]


def reference_of(task: Task, features: tuple[Bins, ...], rows: int, tail: Tail, calibrate: Calibrate) -> Reference:
    """`features`: bins of all `rows` that were fitted. Metrics that the tail does not give are left out."""
    import numpy as np

    tail = replace(tail, label=tail.label.astype(np.float64), prediction=tail.prediction.astype(np.float64))
    said, quality = named(tail.prediction), all_values(task, tail.label, tail.prediction)
    of_numbers = task is Task.REGRESSION
    found = Reference(
        task=task,
        rows=rows,
        features=features,
        prediction=number_bins(PREDICTION, said.astype(np.float32), PREDICTION_BINS),
        calibration=() if of_numbers else calibrate(said, tail.happened()),
        quality={name: value for name, value in quality.items() if math.isfinite(value)},
        label_mean=float(tail.label.mean()) if of_numbers else 0.0,
    )
    return replace(found, spread=spread_of(found, tail, calibrate))


def feature_bins(
    features: Sequence[Mapping[str, Any]], rows: pl.DataFrame, not_logged: Collection[str]
) -> tuple[Bins, ...]:
    """Bins of the features of a bundle's schema, of their values as serving logs them: float32, or a category.

    Those that are never logged are left out: nothing could be compared with them, and the bounds may tell of a person.
    """
    return tuple(_bins_of(feature, rows[feature["name"]]) for feature in features if feature["name"] not in not_logged)


def _bins_of(feature: Mapping[str, Any], values: pl.Series) -> Bins:
    import polars as pl

    name, known = feature["name"], feature.get("categories")
    if known is None:
        return number_bins(name, values.cast(pl.Float32).to_numpy())
    codes = values.cast(pl.String).cast(pl.Enum(known)).to_physical().cast(pl.Int64)  # training saw each of them
    return category_bins(name, tuple(known), codes.fill_null(len(known) + 1).to_numpy())
