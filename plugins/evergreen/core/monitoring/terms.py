"""What each row adds to a metric of a window: columns, whose sums are kept in tallies. Pure numpy.

Of a realised metric those of core.measure, and what its interval needs; of an estimated one what may be expected of a
row before its label is known, and by how much chance may make it differ. core.monitoring.realised and .estimated make
values of their sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core import measure
from evergreen.core.metrics import PARAMETER, Metric, Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

OF_ESTIMATE = 3  # rows, what is expected, the variance that chance adds
_COUNTS = {"calibration_error": measure.CALIBRATION_BINS + 2, "r2": 9}
_EDGE = 1e-15  # a chance of 0 or 1 has no logarithm
_HEAVIEST = 4.0


def count(name: str) -> int:
    """How many columns `realised` gives of a metric: rows, its terms, and squares."""
    return _COUNTS.get(name, 3)


def named(prediction: Floats) -> Floats:
    """The prediction itself, shape (rows,); of (rows, classes) the chance of the class that is named. NaN for what is
    no finite number."""
    import numpy as np

    if prediction.ndim == 1:
        return np.where(np.isfinite(prediction), prediction, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        chances: Floats = prediction.max(axis=1) / prediction.sum(axis=1)
    return chances


def given(label: Floats, prediction: Floats) -> npt.NDArray[np.bool_]:
    """Which rows have a label and a prediction that are finite numbers."""
    import numpy as np

    finite = np.isfinite(prediction)
    told: npt.NDArray[np.bool_] = np.isfinite(label) & (finite if finite.ndim == 1 else finite.all(axis=1))
    return told


def known(amounts: Floats) -> Floats:
    """0 for what is no finite number."""
    import numpy as np

    return np.where(np.isfinite(amounts), amounts, 0.0)


# ---------------------------------------------------------------- labels are known


def realised(name: str, label: Floats, prediction: Floats, centre: float) -> Floats:
    """Shape (count(name), rows). Rows that do not give the metric add nothing: a class that training never saw.

    Those of core.measure and last the squares; of r2 with labels less `centre`, e off and c the label: 1, e², c, c²,
    e⁴, e²c, e²c², c³, c⁴.
    """
    import numpy as np

    if name == "r2":
        return _of_r2(label.astype(np.float64) - centre, prediction.astype(np.float64) - label)
    columns = measure.columns(Metric(name), label, prediction)
    columns = np.vstack([columns, columns[1:].sum(axis=0) ** 2])
    return np.where(np.isfinite(columns).all(axis=0), columns, 0.0)


def _of_r2(c: Floats, off: Floats) -> Floats:
    import numpy as np

    e2, c2 = off**2, c**2
    return np.vstack([np.ones(len(c)), e2, c, c2, e2**2, e2 * c, e2 * c2, c2 * c, c2**2])


# ---------------------------------------------------------------- labels are not known


def estimated(task: Task, name: str, said: Floats, chance: Floats, losses: Floats | None) -> Floats:
    """Shape (OF_ESTIMATE, rows). `said`: see `named`; `chance`: the true one of it. Rows without a finite one add
    nothing, and neither do those of regression without losses."""
    import numpy as np

    if name in ("mae", "rmse"):
        expected = np.full((2, len(said)), np.nan) if losses is None else _of_losses(name, losses)
    elif task is Task.MULTICLASS:  # accuracy: the class that is named is the true one
        expected = _of_two(chance, np.ones(len(said)), np.zeros(len(said)))
    else:
        expected = _of_two(chance, *_if_one_or_zero(name, said))
    columns = np.vstack([np.ones(len(said)), expected])
    return np.where(np.isfinite(columns).all(axis=0), columns, 0.0)


def _if_one_or_zero(name: str, said: Floats) -> tuple[Floats, Floats]:
    """What a row adds to the metric if its label is 1, and if it is 0."""
    import numpy as np

    if name == "logloss":
        chance = np.clip(said, _EDGE, 1 - _EDGE)
        return -np.log(chance), -np.log1p(-chance)
    if name == "brier":
        return (1 - said) ** 2, said**2
    above = (said >= PARAMETER["accuracy"]).astype(np.float64)
    return above, 1 - above


def _of_two(chance: Floats, one: Floats, zero: Floats) -> Floats:
    """Mean and variance of what is `one` with this chance, else `zero`."""
    import numpy as np

    return np.vstack([chance * one + (1 - chance) * zero, chance * (1 - chance) * (one - zero) ** 2])


def _of_losses(name: str, losses: Floats) -> Floats:
    """Mean and variance of the absolute, or of the squared error of a row.

    The variance of a square needs the fourth moment. Of the generalised normal distributions it is about square² *
    (square / absolute²)^2.5: 3.1 for 3 of the normal one, 5.7 for 6 of Laplace's. No heavier than _HEAVIEST.
    """
    import numpy as np

    absolute = np.maximum(losses[:, 0].astype(np.float64), 0.0)
    square = np.maximum(losses[:, 1].astype(np.float64), absolute**2)
    if name == "mae":
        return np.vstack([absolute, square - absolute**2])
    with np.errstate(divide="ignore", invalid="ignore"):
        heavy = np.where(absolute > 0, square / absolute**2, 1.0)
    return np.vstack([square, square**2 * (np.minimum(heavy, _HEAVIEST) ** 2.5 - 1)])
