"""What the gates ask of the scored rows, each answered once: several gates often ask for the same metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core import measure, resample

if TYPE_CHECKING:
    import numpy as np

    from evergreen.core.metrics import Metric
    from evergreen.core.resample import Estimate, Improvement
    from evergreen.core.scored import Scored


class Evidence:
    """Values of both models on some of the scored rows, and how certain they are.

    `chosen` are the positions of the rows; none: all. What is asked of the champion needs one.
    """

    def __init__(self, scored: Scored, chosen: np.ndarray | None = None) -> None:
        self.scored = scored
        self._pick = slice(None) if chosen is None else chosen
        self.label, self.at = scored.label[self._pick], scored.at[self._pick]
        self.rows = len(self.label)
        self._found: dict[tuple[str, Metric, float], Estimate] = {}
        self._values: dict[Metric, tuple[float, float]] = {}

    def estimate(self, metric: Metric, confidence: float) -> Estimate:
        """The candidate's value."""
        key = ("value", metric, confidence)
        if key not in self._found:
            prediction = self.scored.candidate[self._pick]
            self._found[key] = resample.estimate(metric, self.label, prediction, self.at, confidence=confidence)
        return self._found[key]

    def improvement(self, metric: Metric, confidence: float) -> Improvement:
        """How much better the candidate is than the champion."""
        key = ("improvement", metric, confidence)
        if key not in self._found:
            both = self._both()
            self._found[key] = resample.improvement(metric, self.label, *both, self.at, confidence=confidence)
        found = self._found[key]
        assert isinstance(found, resample.Improvement)
        return found

    def values(self, metric: Metric) -> tuple[float, float]:
        """The candidate's and the champion's value."""
        if metric not in self._values:
            candidate, champion = (measure.value(metric, self.label, prediction) for prediction in self._both())
            self._values[metric] = candidate, champion
        return self._values[metric]

    def _both(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.scored.champion is not None, "gates against the champion are left out without one"
        return self.scored.candidate[self._pick], self.scored.champion[self._pick]
