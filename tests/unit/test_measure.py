"""Every metric, against scikit-learn and against the trainer's own measures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as skl

from evergreen.adapters.sklearn_metrics import measure as trainers_own
from evergreen.core.measure import CALIBRATION_BINS, all_values, value
from evergreen.core.metrics import METRICS_BY_TASK, RANGES, Metric, Task

Rows = tuple[np.ndarray, np.ndarray]


def binary(seed: int, rows: int = 400, *, steps: int | None = None) -> Rows:
    """Labels and chances; with `steps` many rows share a chance."""
    rng = np.random.default_rng(seed)
    chance = rng.random(rows)
    label = (rng.random(rows) < chance).astype(np.float64)
    return label, np.round(chance * steps) / steps if steps else chance


def multiclass(seed: int, rows: int = 300, classes: int = 4) -> Rows:
    rng = np.random.default_rng(seed)
    chances = rng.dirichlet(np.ones(classes), rows)
    return np.array([rng.choice(classes, p=row) for row in chances], dtype=np.float64), chances


def numbers(seed: int, rows: int = 300) -> Rows:
    rng = np.random.default_rng(seed)
    label = 100 + 20 * rng.normal(size=rows)
    return label, label + rng.gamma(2, 3, rows) - 4


ROWS: dict[Task, Callable[[int], Rows]] = {
    Task.BINARY: binary, Task.MULTICLASS: multiclass, Task.REGRESSION: numbers,
}  # fmt: skip


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("seed", range(3))
def test_it_says_what_the_trainer_says(task: Task, seed: int) -> None:
    label, prediction = ROWS[task](seed)
    found, theirs = all_values(task, label, prediction), trainers_own(task, label, prediction)
    assert list(found) == list(METRICS_BY_TASK[task])
    common = found.keys() & theirs.keys()
    assert len(common) >= 2
    assert {name: found[name] for name in common} == pytest.approx({name: theirs[name] for name in common}, rel=1e-12)


@pytest.mark.parametrize("steps", [None, 5, 1])
def test_equal_scores_count_half_and_together(steps: int | None) -> None:
    label, chance = binary(3, steps=steps)
    assert value(Metric("auc"), label, chance) == pytest.approx(skl.roc_auc_score(label, chance), rel=1e-12)
    ours, theirs = value(Metric("average_precision"), label, chance), skl.average_precision_score(label, chance)
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "oracle"),
    [
        (Metric("accuracy", 0.3), lambda y, p: skl.accuracy_score(y, p >= 0.3)),
        (Metric("quantile_loss", 0.9), lambda y, p: skl.mean_pinball_loss(y, p, alpha=0.9)),
        (Metric("quantile_loss"), lambda y, p: skl.mean_pinball_loss(y, p, alpha=0.5)),
        (Metric("bias"), lambda y, p: p.mean() - y.mean()),
    ],
)
def test_a_parameter_counts(metric: Metric, oracle: Callable[..., float]) -> None:
    label, prediction = binary(4)
    assert value(metric, label, prediction) == pytest.approx(oracle(label, prediction), rel=1e-12)


def test_calibration_error_is_the_mean_gap_of_a_calibration_curve() -> None:
    label, chance = binary(5)
    own = np.minimum((chance * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [abs(chance[own == at].mean() - label[own == at].mean()) * (own == at).mean() for at in range(10)]
    assert value(Metric("calibration_error"), label, chance) == pytest.approx(sum(gaps), rel=1e-12)


def test_brier_and_calibration_of_several_classes() -> None:
    label, chances = multiclass(6)
    by_hand = ((chances - np.eye(4)[label.astype(int)]) ** 2).sum(axis=1).mean()
    assert value(Metric("brier"), label, chances) == pytest.approx(by_hand, rel=1e-12)
    top, right = chances.max(axis=1), (chances.argmax(axis=1) == label).astype(np.float64)
    assert value(Metric("calibration_error"), label, chances) == pytest.approx(
        value(Metric("calibration_error"), right, top), rel=1e-12
    )


@pytest.mark.parametrize(
    ("task", "label", "prediction", "missing"),
    [
        (Task.BINARY, [1, 1], [0.4, 0.9], {"auc", "average_precision"}),
        (Task.BINARY, [0, 0], [0.4, 0.9], {"auc", "average_precision"}),
        (Task.BINARY, [0, 1], [0.4, math.nan], set(METRICS_BY_TASK[Task.BINARY])),
        (Task.BINARY, [], [], set(METRICS_BY_TASK[Task.BINARY])),
        (Task.MULTICLASS, [0, 2], [[0.5, 0.5], [0.9, 0.1]], {"logloss", "brier"}),  # training never saw class 2
        (Task.REGRESSION, [3, 3], [2, 5], {"r2"}),
        (Task.REGRESSION, [0.1, 0.1, 0.1], [2, 5, 1], {"r2"}),
        (Task.REGRESSION, [3], [2], {"r2"}),
        (Task.REGRESSION, [3, 4], [2, math.inf], set(METRICS_BY_TASK[Task.REGRESSION])),
    ],
)
def test_what_the_rows_do_not_give_is_nan(task: Task, label: Any, prediction: Any, missing: set[str]) -> None:
    found = all_values(task, np.array(label, dtype=np.float64), np.array(prediction, dtype=np.float64))
    assert {name for name, number in found.items() if math.isnan(number)} == missing


def test_a_certain_and_wrong_chance_costs_a_finite_loss() -> None:
    assert value(Metric("logloss"), np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(36.04, abs=0.01)


def test_float32_predictions_are_measured_in_double() -> None:
    label, chance = binary(7, rows=5000)
    wide = all_values(Task.BINARY, label, chance.astype(np.float32).astype(np.float64))
    assert all_values(Task.BINARY, label, chance.astype(np.float32)) == pytest.approx(wide, rel=1e-12)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_value_lies_in_its_range_and_auc_turns_with_the_score(rows: list[tuple[bool, int]]) -> None:
    label, chance = np.array([y for y, _ in rows], dtype=np.float64), np.array([p / 8 for _, p in rows])
    for name, found in all_values(Task.BINARY, label, chance).items():
        low, high = RANGES[name]
        assert math.isnan(found) or low <= found <= high
    auc = value(Metric("auc"), label, chance)
    assert math.isnan(auc) or auc == pytest.approx(1 - value(Metric("auc"), label, -chance))
