"""What tuning found. See the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class TuningResult:
    """The outcome of one study: the parameters that win over the spec's own, empty where these stay.

    `tuned` is the mean prequential score of the best trial, `untuned` that of the spec's parameters, on the same folds.
    `declared` is the hash of what of the spec was tuned (core.tuning.declared): for another one it says nothing.
    """

    model: str
    study: str
    declared: str
    request_id: str
    params: Mapping[str, int | float | str | bool]
    metric: str
    tuned: float
    untuned: float
    trials: int
    at: datetime

    @property
    def words(self) -> str:
        """For people: 'auc 0.7123 by 3 tuned parameters, 0.7011 untuned, in 20 trials'."""
        scores = f"{self.metric} {self.tuned:.4g} tuned, {self.untuned:.4g} untuned"
        kept = "tuned parameters are used" if self.params else "the spec's own stay"
        return f"{scores}, {self.trials} trials: {kept}"
