"""The gate on known truth, small: how often it passes where the true difference is its limit, and away from it."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from evergreen.core.gates import judge_quality
from evergreen.core.metrics import Task
from evergreen.core.scored import Scored
from records import make_spec

ROWS, DAYS, PREVALENCE = 2000, 14, 0.25
LEVEL, WHIM = 0.3, 0.05  # of a day: what shifts all its scores, and what is one model's own luck with its positives
START = np.datetime64("2013-01-01", "us")


NOT_WORSE, SUPERIOR, LENIENT = {"min_delta": -0.01}, {"min_delta": 0.0}, {"min_delta": 0.0, "confidence": 0.8}


def rates(truth: float, *, runs: int = 150, seed: int = 20) -> list[float]:
    """How often the three gates pass a candidate whose auc is truly better by `truth`, judged on the same worlds."""
    rng = np.random.default_rng(seed)
    against = [{"metric": "auc", "against": "champion", **gate} for gate in (NOT_WORSE, SUPERIOR, LENIENT)]
    spec = make_spec(gates=[{"metric": "accuracy", "min": 0.0}, *against])
    judged = [judge_quality(spec, world(rng, truth), has_champion=True)[1:] for _ in range(runs)]
    return [sum(gate.passed for gate in gates) / runs for gates in zip(*judged, strict=True)]


def world(rng: np.random.Generator, truth: float) -> Scored:
    """Binormal scores: auc = Φ(distance / sqrt(2 + 2 LEVEL² + WHIM²)), exactly, for pairs of any two days."""
    day = np.sort(rng.integers(0, DAYS, ROWS))
    label = (rng.random(ROWS) < PREVALENCE).astype(np.float64)
    shared = rng.normal(scale=LEVEL, size=DAYS)[day] + 0.9 * rng.normal(size=ROWS)
    spread = math.sqrt(2 + 2 * LEVEL**2 + WHIM**2)

    def scores(auc: float) -> np.ndarray:
        distance = NormalDist().inv_cdf(auc) * spread
        own = math.sqrt(1 - 0.9**2) * rng.normal(size=ROWS)
        return label * (distance + rng.normal(scale=WHIM, size=DAYS)[day]) + shared + own

    return Scored(Task.BINARY, label, scores(0.66 + truth), scores(0.66), START + day.astype("timedelta64[D]"))


def test_where_the_true_difference_is_the_limit_it_passes_as_often_as_its_confidence_allows() -> None:
    equal, worse = rates(0.0), rates(-0.01)
    assert worse[0] == pytest.approx(0.05, abs=0.05)
    assert equal[1] == pytest.approx(0.05, abs=0.05)
    assert equal[2] == pytest.approx(0.2, abs=0.08)
    assert worse[0] < equal[0]
    assert worse[1] <= equal[1]


def test_better_passes_nearly_always_and_worse_hardly_ever() -> None:
    assert max(rates(-0.03, runs=60)) <= 0.05
    assert min(rates(0.03, runs=60)) >= 0.75
