"""How certain a metric is: the bootstrap against one that draws rows, its blocks, and what it cannot tell."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evergreen.core import resample
from evergreen.core.measure import value
from evergreen.core.metrics import METRICS_BY_TASK, Metric, Task
from evergreen.core.resample import blocks_of, estimate, improvement, interval
from evergreen.core.sampling import MOST_ROWS
from evergreen.core.student_t import below, quantile

START = np.datetime64("2013-01-01", "us")
BINARY = [Metric(name) for name in METRICS_BY_TASK[Task.BINARY]]
NUMBERS = [Metric(name) for name in METRICS_BY_TASK[Task.REGRESSION]]


def times(rows: int, days: float) -> np.ndarray:
    """Event times, evenly over the days."""
    return START + (np.arange(rows) * (days * 86_400e6 / rows)).astype("timedelta64[us]")


def binary(rows: int, days: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labels, the chances of two models (the first is better), and times; each day has a level of its own."""
    rng = np.random.default_rng(seed)
    at = times(rows, days)
    level = rng.normal(scale=0.7, size=days)[(np.arange(rows) * days) // rows]
    signal = rng.normal(size=rows) + level
    label = (signal + rng.normal(size=rows) > 1).astype(np.float64)
    good, poor = (1 / (1 + np.exp(1 - signal - noise * rng.normal(size=rows))) for noise in (0.3, 1.5))
    return label, good, poor, at


# ---------------------------------------------------------------- against draws of the rows themselves


@pytest.mark.parametrize("metric", BINARY, ids=lambda metric: metric.label)
def test_a_draw_of_blocks_is_the_metric_of_the_rows_of_those_blocks(metric: Metric) -> None:
    label, good, _, at = binary(900, 9)
    good = np.round(good, 2)  # equal scores, also over blocks
    blocks = blocks_of(at)
    drawn = np.random.default_rng(2).multinomial(9, np.full(9, 1 / 9), size=20).astype(np.float64)
    found = resample._draw(metric, label, good, blocks)(drawn)
    for at_draw, expected in zip(found, drawn, strict=True):
        rows = np.concatenate([np.repeat(np.flatnonzero(blocks.of_row == b), int(k)) for b, k in enumerate(expected)])
        close = 0.01 if metric.name == "average_precision" else 1e-9  # told apart to 1 in 500
        assert at_draw == pytest.approx(value(metric, label[rows], good[rows]), abs=close)


@pytest.mark.parametrize("metric", NUMBERS, ids=lambda metric: metric.label)
def test_the_same_for_a_regression(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    label, at = 1e6 + rng.normal(size=300), times(300, 10)
    prediction, blocks = label + rng.normal(size=300), blocks_of(at)
    drawn = rng.multinomial(10, np.full(10, 0.1), size=10).astype(np.float64)
    found = resample._draw(metric, label, prediction, blocks)(drawn)
    for at_draw, expected in zip(found, drawn, strict=True):
        rows = np.concatenate([np.repeat(np.flatnonzero(blocks.of_row == b), int(k)) for b, k in enumerate(expected)])
        assert at_draw == pytest.approx(value(metric, label[rows], prediction[rows]), rel=1e-7, abs=1e-12)


def test_the_error_of_a_mean_is_that_of_its_daily_sums() -> None:
    rng = np.random.default_rng(4)
    label, at = rng.normal(size=2000) + np.repeat(rng.normal(size=20), 100), times(2000, 20)
    found = estimate(Metric("bias"), label, np.zeros(2000), at)
    daily = -label.reshape(20, 100).mean(axis=1)
    assert found.point == pytest.approx(daily.mean())
    assert found.error == pytest.approx(daily.std(ddof=1) / math.sqrt(20), rel=0.08)
    assert found.low == pytest.approx(found.point - stats.t.ppf(0.95, 19) * found.error)


def test_a_comparison_is_paired() -> None:
    """What both models miss alike on a day is no doubt about which is better."""
    label, good, poor, at = binary(4000, 20)
    both = improvement(Metric("auc"), label, good, poor, at)
    apart = [estimate(Metric("auc"), label, each, at).error for each in (good, poor)]
    assert both.point == pytest.approx(value(Metric("auc"), label, good) - value(Metric("auc"), label, poor))
    assert both.error < 0.8 * math.hypot(*apart)


@pytest.mark.parametrize("metric", [*BINARY, Metric("bias"), Metric("mae")], ids=lambda metric: metric.label)
def test_better_is_positive_and_turning_the_models_round_turns_the_sign(metric: Metric) -> None:
    label, good, poor, at = binary(3000, 14)
    if metric.name == "bias":
        poor = poor + 0.3
    found = improvement(metric, label, good, poor, at)
    back = improvement(metric, label, poor, good, at)
    assert found.low < found.point < found.high
    assert (back.point, back.low, back.high) == pytest.approx((-found.point, -found.high, -found.low))
    assert found.low > 0


def test_models_that_say_the_same_do_not_differ_and_that_is_certain() -> None:
    label, good, _, at = binary(1000, 10)
    found = improvement(Metric("auc"), label, good, good, at)
    assert (found.point, found.low, found.high, found.error) == (0, 0, 0, 0)
    assert (found.chance_at_least(0.0), found.chance_at_least(0.01)) == (1.0, 0.0)


def test_more_confidence_reaches_further_and_the_same_rows_give_the_same_bounds() -> None:
    label, good, _, at = binary(1000, 10)
    usual, sure = (interval(Metric("auc"), label, good, at, confidence=c) for c in (0.9, 0.99))
    assert sure[0] < usual[0] < usual[1] < sure[1]
    assert usual == interval(Metric("auc"), label, good, at, confidence=0.9)


def test_bounds_stay_in_the_metrics_range() -> None:
    label, at = np.tile([0.0, 1.0], 500), times(1000, 10)
    scores = label + np.where(np.arange(1000) == 7, -2, 0)  # one row off
    low, high = interval(Metric("auc"), label, scores, at)
    assert low < value(Metric("auc"), label, scores) < high <= 1


def test_the_p_value_meets_the_confidence_where_the_bound_meets_the_limit() -> None:
    label, good, poor, at = binary(1000, 10)
    found = improvement(Metric("auc"), label, good, poor, at, confidence=0.9)
    assert found.chance_at_least(found.high) == pytest.approx(0.1)
    assert found.chance_at_most(found.low) == pytest.approx(0.1)
    assert found.chance_at_least(found.point) == pytest.approx(0.5)


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize(
    ("rows", "days", "unit", "count"),
    [
        (1000, 14, "day", 14),
        (1000, 8, "day", 8),
        (1000, 7, "hour", 168),
        (1000, 8 / 24, "hour", 8),
        (1000, 7 / 24, "row", 400),
        (30, 0.01, "row", 30),
        (1000, 900, "day", 300),  # joined by three
        (5, 30, "row", 5),
    ],
)
def test_blocks_are_days_then_hours_then_rows(rows: int, days: float, unit: str, count: int) -> None:
    blocks = blocks_of(times(rows, days))
    assert (blocks.unit, blocks.count) == (unit, count)
    assert sorted(set(blocks.of_row.tolist())) == list(range(count))


def test_days_without_rows_are_no_blocks() -> None:
    at = np.concatenate([times(50, 4), times(50, 4) + np.timedelta64(90, "D")])
    assert (blocks_of(at).unit, blocks_of(at).count) == ("day", 8)


def test_rows_dealt_into_groups_are_as_certain_as_rows() -> None:
    rng = np.random.default_rng(5)
    label = rng.normal(size=5000)
    found = estimate(Metric("bias"), label, np.zeros(5000), times(5000, 0.1))
    assert (found.unit, found.blocks) == ("row", 400)
    assert found.error == pytest.approx(label.std() / math.sqrt(5000), rel=0.1)


def test_over_200_000_rows_the_spread_comes_from_a_sample_and_the_value_from_all() -> None:
    rng = np.random.default_rng(6)
    label = rng.normal(size=250_000)
    found = estimate(Metric("bias"), label, np.zeros(250_000), times(250_000, 50))
    assert found.point == pytest.approx(-label.mean())
    assert found.error == pytest.approx(1 / math.sqrt(200_000), rel=0.3)
    assert len(resample._sample(250_000)) == MOST_ROWS


# ---------------------------------------------------------------- what cannot be told


def test_a_metric_that_the_rows_do_not_give_has_no_bounds() -> None:
    at = times(100, 10)
    found = improvement(Metric("auc"), np.ones(100), np.linspace(0, 1, 100), np.linspace(0, 1, 100), at)
    assert all(map(math.isnan, (found.point, found.low, found.high, found.chance_at_least(0.0))))
    assert all(map(math.isnan, interval(Metric("mae"), np.array([]), np.array([]), np.array([], "datetime64[us]"))))


def test_one_row_has_a_value_and_no_bounds() -> None:
    found = estimate(Metric("mae"), np.array([1.0]), np.array([3.0]), times(1, 1))
    assert found.point == 2
    assert math.isnan(found.low)


def test_draws_of_one_class_are_left_out() -> None:
    label = np.zeros(1000)
    label[100:110] = label[500:510] = 1  # positives on two of ten days only
    found = estimate(Metric("auc"), label, np.random.default_rng(7).random(1000) + label / 2, times(1000, 10))
    assert found.low < found.point < found.high


# ---------------------------------------------------------------- Student's t


@pytest.mark.parametrize("degrees", [1, 2, 3, 7, 8, 13, 90, 399])
def test_students_t_is_scipys(degrees: int) -> None:
    for t in (-6.0, -1.7, 0.0, 0.4, 5.0):
        assert below(t, degrees) == pytest.approx(stats.t.cdf(t, degrees), abs=1e-12)
    for chance in (0.05, 0.6, 0.95, 0.999):
        assert quantile(chance, degrees) == pytest.approx(stats.t.ppf(chance, degrees), rel=1e-8)
