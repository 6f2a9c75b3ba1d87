"""Between which numbers a metric of the monitor lies: a limit outside of them is never broken, or always."""

from __future__ import annotations

import math

from evergreen.core.metrics import NEAREST_ZERO_IS_BEST, RANGES
from evergreen.core.monitoring import names

Range = tuple[float, float]
_FRACTION, _LOSS, _ANY = (0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)
_RISE = (-1.0, 1.0)  # of one fraction above another
_QUALITY = (names.REALISED, names.ESTIMATED)
_QUALITY_LOSS = (names.REALISED_LOSS, names.ESTIMATED_LOSS)
_BY_NAME = {
    names.VOLUME: _LOSS, names.ERROR_RATE: _FRACTION, names.LATENCY: _LOSS, names.LABELLED: _FRACTION,
    names.LABEL_DELAY: _LOSS, names.CHAMPION_AGE: _LOSS, f"{names.MISSING}.{names.MAX}": _RISE,
}  # fmt: skip
_BY_FAMILY = {
    names.MISSING: _FRACTION, names.OUT_OF_RANGE: _FRACTION, names.UNSEEN: _FRACTION,
    names.WASSERSTEIN: _LOSS, names.PSI: _LOSS, "drift.prediction": _LOSS,
}  # fmt: skip


def range_of(name: str) -> Range:
    """The least and the largest value that a metric of this name can have, infinities where there is none."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    family, _, metric = name.rpartition(".")
    if family in _QUALITY:
        return RANGES[metric]
    if family in _QUALITY_LOSS:
        low, high = RANGES[metric]
        worst = math.inf if metric in NEAREST_ZERO_IS_BEST else high - low
        return -worst, worst
    return next((known for start, known in _BY_FAMILY.items() if name.startswith(f"{start}.")), _ANY)
