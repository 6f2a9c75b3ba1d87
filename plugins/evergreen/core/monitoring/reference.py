"""What a bundle says of the rows it was made from: reference.json, against which the monitor measures.

Features are those of the rows that the booster was fitted on. Predictions, their calibration and the quality come from
the early-stopping tail: the newest rows of training, on which no tree was grown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from evergreen.core.errors import NotComparable
from evergreen.core.metrics import Task
from evergreen.core.monitoring.bins import Bins, CategoryBins, NumberBins, as_json, from_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Calibrate = Callable[[Floats, Floats], tuple[tuple[float, float], ...]]  # said, happened → points of a rising line

REFERENCE, LOSS = "reference.json", "loss.ubj"  # files of a bundle
FORMAT = 1
PREDICTION = "prediction"  # the name of the predictions' bins
PREDICTION_BINS = 200


@dataclass(frozen=True)
class Reference:
    """`prediction` are bins of the tail's predictions (of the named class's chance for multiclass).

    `calibration` are points (said, true) of a rising line: of the chances of class 1, or of the class that is named.
    Empty for regression, where loss.ubj says the absolute and the squared error of a row.
    `quality`: each metric on the tail; `spread`: one standard deviation of what estimates miss beyond chance, by metric
    and in its unit; without a metric where it is not known. `label_mean` is the centre of r2's sums.
    """

    task: Task
    rows: int
    features: tuple[Bins, ...]
    prediction: NumberBins
    calibration: tuple[tuple[float, float], ...] = ()
    quality: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    label_mean: float = 0.0

    @cached_property
    def _line(self) -> tuple[Floats, Floats]:
        import numpy as np

        said, true = zip(*self.calibration, strict=True) if self.calibration else ((0.0, 1.0), (0.0, 1.0))
        return np.array(said, dtype=np.float64), np.array(true, dtype=np.float64)

    def calibrated(self, chance: Floats) -> Floats:
        """The true chance of what is said, shape as given."""
        import numpy as np

        said, true = self._line
        return np.interp(chance, said, true)


def absent(task: Task) -> Reference:
    """For a bundle older than references: volume and realised quality follow from it, drift and estimates do not."""
    bounds = tuple(at / PREDICTION_BINS for at in range(PREDICTION_BINS + 1))
    return Reference(task, 0, (), NumberBins(PREDICTION, bounds, (0,) * (PREDICTION_BINS + 3)))


def to_bytes(reference: Reference) -> bytes:
    """The file. The same reference gives the same bytes."""
    facts: dict[str, Any] = {
        "format": FORMAT,
        **{name: value for name, value in asdict(reference).items() if name not in ("features", "prediction")},
        "features": [as_json(bins) for bins in reference.features],
        "prediction": as_json(reference.prediction),
    }
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def from_bytes(data: bytes) -> Reference:
    """The opposite. Raises ValueError for what this version did not write."""
    try:
        found = json.loads(data)
        if found.pop("format") != FORMAT:
            raise ValueError("another format")
        prediction = from_json(found.pop("prediction"))
        if not isinstance(prediction, NumberBins):
            raise TypeError("predictions are numbers")
        features = tuple(map(from_json, found.pop("features")))
        points = tuple((said, true) for said, true in found.pop("calibration"))
        return Reference(
            **{
                **found,
                "task": Task(found["task"]),
                "features": features,
                "prediction": prediction,
                "calibration": points,
            }
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{REFERENCE}: found {error}; allowed: what this version of Evergreen writes") from error


def with_categories(data: bytes, features: Sequence[Mapping[str, Any]]) -> bytes:
    """The file for a bundle whose schema has these features: categories that it did not know are counted 0 times."""
    known = {feature["name"]: feature.get("categories") for feature in features}
    found = from_bytes(data)
    return to_bytes(replace(found, features=tuple(_recounted(bins, known.get(bins.name)) for bins in found.features)))


def _recounted(bins: Bins, categories: Sequence[str] | None) -> Bins:
    if not isinstance(bins, CategoryBins) or categories is None:
        return bins
    counted = dict(zip(bins.categories, bins.counts, strict=False))
    counts = [counted.get(one, 0) for one in categories]
    return replace(bins, categories=tuple(categories), counts=(*counts, *bins.counts[len(bins.categories) :]))


def refuse_without_losses(files: Mapping[str, bytes]) -> None:
    """Raise NotComparable for a bundle whose errors nothing tells ahead."""
    if LOSS not in files:
        raise NotComparable(
            f"no {LOSS} in this bundle: only regressions have one, and only those trained since the monitor came; "
            "retrain it"
        )
