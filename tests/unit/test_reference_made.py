"""What training writes down of its rows for the monitor: reference.json."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from evergreen.adapters.calibration import calibrate
from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.monitoring.bins import CategoryBins, NumberBins
from evergreen.core.monitoring.from_training import feature_bins, reference_of
from evergreen.core.monitoring.names import ESTIMATES
from evergreen.core.monitoring.reference import Reference, from_bytes, to_bytes
from evergreen.core.monitoring.spread import LEAST, STRETCHES, Tail

NUMBER = {"name": "x", "kind": "number"}


def bins_of(values: list[float | None]) -> NumberBins:
    (found,) = feature_bins([NUMBER], pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)}), ())
    assert isinstance(found, NumberBins)
    return found


def tail_of(task: Task, rows: int = 1600, seed: int = 0) -> Tail:
    """Chances that are true, or errors as large as they are expected."""
    random = np.random.default_rng(seed)
    if task is Task.REGRESSION:
        size = random.uniform(1, 3, rows)
        label = random.normal(100, 20, rows)
        losses = np.column_stack([size * np.sqrt(2 / np.pi), size**2])
        return Tail(label, (label + random.normal(size=rows) * size).astype(np.float32), losses)
    if task is Task.BINARY:
        chance = random.beta(2, 3, rows)
        return Tail((random.random(rows) < chance).astype(np.float64), chance.astype(np.float32))
    chances = random.dirichlet([1, 2, 3], rows)
    label = (random.random((rows, 1)) > chances.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return Tail(label.astype(np.float64), chances.astype(np.float32))


def made(task: Task, tail: Tail | None = None) -> Reference:
    return reference_of(task, (bins_of([1, 2, None]),), 3, tail or tail_of(task), calibrate)


# ---------------------------------------------------------------- features


def test_features_are_counted_as_serving_logs_them() -> None:
    rows = pl.DataFrame({"late": [True, False, None], "zone": [3, 11, None], "x": [0.1, 0.1, 0.2]})
    kinds = [
        {"name": "late", "kind": "number"},
        {"name": "zone", "kind": "category", "categories": ["11", "3"]},
        NUMBER,
    ]
    late, zone, x = feature_bins(kinds, rows, ())
    assert isinstance(late, NumberBins)
    assert (late.bounds, late.counts) == ((0.0, 0.5, 1.0), (0, 1, 1, 0, 1))
    assert zone == CategoryBins("zone", ("11", "3"), (1, 1, 0, 1))
    assert isinstance(x, NumberBins)
    assert x.index(np.array([0.1, 0.2], dtype=np.float32)).tolist() == [1, 2]  # float64's 0.1 is not float32's
    assert x.counts == (0, 2, 1, 0, 0)


def test_features_that_are_never_logged_are_left_out() -> None:
    rows = pl.DataFrame({"x": [1.0], "salary": [1e6]})
    found = feature_bins([NUMBER, {"name": "salary", "kind": "number"}], rows, ["salary"])
    assert [one.name for one in found] == ["x"]


def test_a_constant_feature_tells_any_other_value() -> None:
    found = bins_of([7.0, 7.0, None])
    assert found.counts == (0, 2, 0, 1)
    assert found.index(np.array([7, 6.99, 7.01, np.nan], dtype=np.float32)).tolist() == [1, 0, 2, 3]
    assert len(found.groups) == found.size


def test_a_feature_without_any_value_has_bins_for_known_and_missing_ones() -> None:
    found = bins_of([None, None])
    assert (found.bounds, found.counts, found.size) == ((), (0, 0, 2), 3)
    assert len(found.groups) == found.size
    assert found.index(np.array([1.0, np.nan], dtype=np.float32)).tolist() == [0, 2]


def test_an_infinite_value_is_in_the_outermost_bins_and_bounds_stay_finite() -> None:
    found = bins_of([1.0, 2.0, 3.0, float("inf"), -float("inf")])
    assert found.bounds[-1] == 3.0
    assert (found.counts[-1], found.mean) == (2, 2.0)
    assert found.index(np.array([np.inf, -np.inf], dtype=np.float32)).tolist() == [found.size - 2, 0]
    assert b"Infinity" not in to_bytes(Reference(Task.REGRESSION, 5, (found,), found))


def test_the_largest_float32_numbers_have_bins() -> None:
    found = bins_of([-3.4e38, 3.4e38, None])
    assert found.counts == (0, 1, 1, 0, 1)
    assert found.index(np.array([-3.4e38, 3.4e38], dtype=np.float32)).tolist() == [1, 2]


def test_every_training_row_is_in_one_bin_and_none_is_outside() -> None:
    values = np.random.default_rng(3).standard_cauchy(5000).astype(np.float32)
    found = bins_of(values.tolist())
    assert sum(found.counts) == 5000
    assert (found.counts[0], found.counts[-2], found.counts[-1]) == (0, 0, 0)
    assert np.bincount(found.index(values), minlength=found.size).tolist() == list(found.counts)
    assert len(found.counts) > 40
    assert max(found.counts) < 0.05 * 5000


# ---------------------------------------------------------------- the tail


@pytest.mark.parametrize("task", Task)
def test_a_reference_is_read_back_and_its_bytes_do_not_change(task: Task) -> None:
    first = made(task)
    data = to_bytes(first)
    assert from_bytes(data) == first
    assert data == to_bytes(made(task)) == to_bytes(from_bytes(data))


@pytest.mark.parametrize("task", Task)
def test_the_tail_gives_every_metric_and_how_well_each_is_estimated(task: Task) -> None:
    found = made(task)
    assert set(found.quality) == set(METRICS_BY_TASK[task])
    assert set(found.spread) == set(ESTIMATES[task])
    assert sum(found.prediction.counts) == 1600
    assert (found.calibration == ()) is (task is Task.REGRESSION)
    assert (found.label_mean != 0) is (task is Task.REGRESSION)


def test_of_several_classes_the_chance_of_the_named_one_is_counted_and_calibrated() -> None:
    sure = np.tile(np.array([[0.1, 0.9], [0.8, 0.2]], dtype=np.float32), (500, 1))
    right = np.tile([1, 1, 1, 0, 1, 1, 0, 0], 125)  # 3 in 4 of what is said with 0.9, 2 in 4 of 0.8
    label = np.where(right, sure.argmax(axis=1), 1 - sure.argmax(axis=1)).astype(np.float64)
    found = made(Task.MULTICLASS, Tail(label, sure))
    assert found.prediction.bounds == pytest.approx((0.8, 0.85, 0.9))
    assert found.calibrated(np.array([0.9, 0.8])) == pytest.approx([0.75, 0.5], abs=0.01)
    assert found.quality["accuracy"] == 0.625


def test_what_is_estimated_well_has_next_to_no_spread_and_what_changes_with_time_has() -> None:
    tail = tail_of(Task.BINARY, 16000)
    steady = made(Task.BINARY, tail).spread
    turned = np.where(np.arange(16000) % 4000 < 2000, tail.label, 1 - tail.label)
    moved = made(Task.BINARY, Tail(turned, tail.prediction)).spread
    assert all(moved[name] > 0.1 > 10 * steady[name] for name in ("auc", "accuracy"))


def test_errors_of_a_regression_that_change_with_time_spread_its_estimates() -> None:
    tail = tail_of(Task.REGRESSION, 8000)
    steady = made(Task.REGRESSION, tail).spread
    factor = np.where(np.arange(8000) % 2000 < 1000, 0.5, 1.5)
    moved = made(Task.REGRESSION, Tail(tail.label, tail.label + (tail.prediction - tail.label) * factor, tail.losses))
    mae = moved.quality["mae"]
    assert moved.spread["mae"] == pytest.approx(mae / 2, rel=0.2)
    assert steady["mae"] < mae / 20
    assert steady["rmse"] < mae / 20 < moved.spread["rmse"]


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("rows", [1, 2, 7, LEAST - 1])
def test_of_a_tiny_tail_the_spread_is_not_known(task: Task, rows: int) -> None:
    tail = tail_of(task, rows)
    found = made(task, Tail(tail.label, tail.prediction, None))
    assert found.spread == {}
    assert set(found.quality) <= set(METRICS_BY_TASK[task])
    assert from_bytes(to_bytes(found)) == found


def test_a_tail_of_one_class_has_no_order_and_does_not_rule_out_the_other() -> None:
    tail = tail_of(Task.BINARY, 400)
    found = made(Task.BINARY, Tail(np.zeros(400), tail.prediction))
    assert {"auc", "average_precision"}.isdisjoint(found.quality)
    assert {"auc", "average_precision"}.isdisjoint(found.spread)
    assert 0 < found.calibrated(np.array([0.5]))[0] < 0.1


def test_a_metric_that_few_stretches_give_has_no_spread() -> None:
    tail = tail_of(Task.BINARY, 800)
    part = len(tail.label) // STRETCHES
    label = np.where(np.arange(800) < part, tail.label, 0.0)  # one class in all others
    assert {"brier", "logloss", "accuracy"} == set(made(Task.BINARY, Tail(label, tail.prediction)).spread)


def test_a_regression_that_is_always_right_has_no_spread() -> None:
    label = np.arange(400, dtype=np.float64)
    found = made(Task.REGRESSION, Tail(label, label, np.zeros((400, 2))))
    assert set(found.spread.values()) <= {0.0}
    assert found.quality["mae"] == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "Expecting"),
        (b'{"format":2}', "another format"),
        (b"[]", "found"),
        (b'{"format":1,"task":"x"}', "prediction"),
    ],
)
def test_a_file_that_this_version_did_not_write_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=r"reference\.json") as refused:
        from_bytes(data)
    assert message in str(refused.value)
