"""Quality before labels are known: right where chances and losses are, and as sure as it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evergreen.core.measure import all_values
from evergreen.core.metrics import Task
from evergreen.core.monitoring.estimated import chance_alone, estimated
from evergreen.core.monitoring.names import ESTIMATES
from evergreen.core.monitoring.quality import SURE
from evergreen.core.monitoring.reference import absent
from evergreen.core.monitoring.tally import Layout, add_rows
from tallied import layout, tally, world

LAYOUTS = {task: layout(task) for task in Task}


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("off", [0.0, 0.8])
def test_it_is_near_what_turns_out(task: Task, off: float) -> None:
    """Features that move are seen."""
    rows = world(task, 50_000, 3, off=off)
    found, later = (
        estimated(LAYOUTS[task], tally(LAYOUTS[task], rows=rows)),
        all_values(task, rows.label, rows.prediction),
    )
    assert found.keys() == set(ESTIMATES[task])
    for name, one in found.items():
        assert one.value == pytest.approx(later[name], abs=4 * one.error + 0.002)
        assert one.rows == rows.size


@pytest.mark.parametrize("task", Task)
def test_what_turns_out_is_in_the_interval_as_often_as_it_says(task: Task) -> None:
    """At least; that of auc and average_precision takes for chance what is the same in both, and is wider."""
    of = LAYOUTS[task]
    held = dict.fromkeys(ESTIMATES[task], 0)
    rows, sample = world(task, 100_000, 9), np.arange(100_000) % 200
    vectors = np.zeros((200, of.size))
    add_rows(of, rows.rows(sample), vectors)
    for at, vector in enumerate(vectors):
        own = rows.take(sample == at)
        found, later = estimated(of, vector), all_values(task, own.label, own.prediction)
        for name in held:
            low, high = found[name].interval
            held[name] += low <= later[name] <= high
    assert all(times >= 180 for times in held.values()), held
    assert all(times <= 198 for name, times in held.items() if name not in ("auc", "average_precision")), held


def test_calibration_is_what_the_estimate_believes() -> None:
    """The model says too much: of chances that are told as c, half of c is true."""
    rows = world(Task.BINARY, 50_000, 5)
    happened = (np.random.default_rng(1).random(rows.size) < rows.prediction / 2).astype(np.float64)
    later = all_values(Task.BINARY, happened, rows.prediction)
    of = layout(Task.BINARY, calibration=((0.0, 0.0), (1.0, 0.5)))
    found = estimated(of, tally(of, rows=rows))
    for name, one in found.items():
        assert one.value == pytest.approx(later[name], abs=4 * one.error), name
    believed = estimated(LAYOUTS[Task.BINARY], tally(LAYOUTS[Task.BINARY], rows=rows))
    assert abs(believed["logloss"].value - later["logloss"]) > 10 * found["logloss"].error


@pytest.mark.parametrize("task", Task)
def test_by_how_much_estimates_missed_widens_the_interval(task: Task) -> None:
    name = ESTIMATES[task][0]
    of = layout(task, spread={name: 0.3})
    rows = tally(of, rows=world(task, 4000))
    alone = chance_alone(of, rows)[name].error
    assert estimated(of, rows)[name].error == pytest.approx(np.hypot(alone, 0.3))
    low, high = chance_alone(of, rows)[name].interval
    assert (high - low) == pytest.approx(2 * SURE * alone)


def test_without_losses_regression_has_no_estimate() -> None:
    of, rows = LAYOUTS[Task.REGRESSION], world(Task.REGRESSION, 100).rows()
    vectors = np.zeros((1, of.size))
    add_rows(of, replace(rows, losses=None), vectors)
    assert estimated(of, vectors[0]) == {}


def test_losses_that_no_error_can_have_are_taken_for_the_nearest_that_one_can() -> None:
    of, rows = LAYOUTS[Task.REGRESSION], world(Task.REGRESSION, 3)
    said = np.array([[-1.0, -5.0], [2.0, 1.0], [0.0, 0.0]])
    found = estimated(of, tally(of, rows=replace(rows, losses=said)))
    assert (found["mae"].value, found["rmse"].value) == pytest.approx((2 / 3, np.sqrt(4 / 3)))


@pytest.mark.parametrize("task", Task)
def test_without_a_reference_or_a_row_there_is_no_estimate(task: Task) -> None:
    old = Layout(absent(task))
    rows = world(task, 1000)
    assert estimated(old, tally(old, rows=rows)) == {}
    assert estimated(LAYOUTS[task], np.zeros(LAYOUTS[task].size)) == {}


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_chances_that_are_certain_give_finite_numbers(chance: float) -> None:
    of, rows = LAYOUTS[Task.BINARY], world(Task.BINARY, 50)
    found = estimated(of, tally(of, rows=replace(rows, prediction=np.full(50, chance))))
    assert found.keys() == {"logloss", "brier", "accuracy"}
    assert (found["accuracy"].value, found["brier"].value) == (1, 0)
