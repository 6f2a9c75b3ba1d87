"""Quality from tallies, against the rows themselves: core.measure, which scikit-learn is the oracle of."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as skl

from evergreen.core.measure import all_values
from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.monitoring.quality import auc
from evergreen.core.monitoring.realised import realised
from evergreen.core.monitoring.tally import BY_ORDER, add_labels
from tallied import layout, tally, world

LAYOUTS = {task: layout(task) for task in Task}


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_is_that_of_the_rows(task: Task, seed: int) -> None:
    rows = world(task, 20_000, seed)
    found, exact = (
        realised(LAYOUTS[task], tally(LAYOUTS[task], labels=rows)),
        all_values(task, rows.label, rows.prediction),
    )
    assert found.keys() == exact.keys() == set(METRICS_BY_TASK[task])
    for name, one in found.items():
        assert one.rows == rows.size
        if name in BY_ORDER:
            assert abs(one.value - exact[name]) < 0.002
        else:
            assert one.value == pytest.approx(exact[name], rel=1e-9)


@pytest.mark.parametrize("off", [-1.0, 0.0, 1.0])
def test_what_follows_from_bins_is_near_scikit_learn_even_where_predictions_have_moved(off: float) -> None:
    rows = world(Task.BINARY, 20_000, off=off)
    found = realised(LAYOUTS[Task.BINARY], tally(LAYOUTS[Task.BINARY], labels=rows))
    assert abs(found["auc"].value - skl.roc_auc_score(rows.label, rows.prediction)) < 0.002
    assert abs(found["average_precision"].value - skl.average_precision_score(rows.label, rows.prediction)) < 0.002


@pytest.mark.parametrize("task", Task)
def test_intervals_hold_the_truth_as_often_as_they_say(task: Task) -> None:
    """Of 300 samples 95 %: 270 to 297. calibration_error is 0 in truth, where its interval is no normal one."""
    of = LAYOUTS[task]
    many = world(task, 100_000, 7)
    truth = all_values(task, many.label, many.prediction)
    held = dict.fromkeys(set(truth) - {"calibration_error"}, 0)
    vectors = np.zeros((300, of.size))
    add_labels(of, world(task, 150_000, 8).labels(np.arange(150_000) % 300), vectors)
    for vector in vectors:
        found = realised(of, vector)
        for name in held:
            low, high = found[name].interval
            held[name] += low <= truth[name] <= high
    assert all(268 <= times <= 298 for times in held.values()), held


def test_the_error_of_auc_is_hanleys_and_mcneils() -> None:
    """Their table II: an area of 0.893, 51 abnormal and 58 normal images, standard error 0.032."""
    normal, abnormal = np.array([33.0, 6, 6, 11, 2]), np.array([3.0, 2, 2, 11, 33])
    found = auc(abnormal, normal)
    assert found is not None
    assert (found.value, found.error) == pytest.approx((0.893, 0.032), abs=5e-4)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_gives_no_order(label: float) -> None:
    of, rows = LAYOUTS[Task.BINARY], world(Task.BINARY, 400)
    found = realised(of, tally(of, labels=replace(rows, label=np.full(400, label))))
    assert found.keys() == set(METRICS_BY_TASK[Task.BINARY]) - set(BY_ORDER)


def test_one_label_gives_no_r2() -> None:
    of, rows = LAYOUTS[Task.REGRESSION], world(Task.REGRESSION, 400)
    found = realised(of, tally(of, labels=replace(rows, label=np.full(400, of.reference.label_mean))))
    assert found.keys() == set(METRICS_BY_TASK[Task.REGRESSION]) - {"r2"}


def test_large_labels_do_not_swallow_r2() -> None:
    rows = world(Task.REGRESSION, 2000)
    far = replace(rows, label=rows.label + 1e7, prediction=rows.prediction + 1e7)
    of = layout(Task.REGRESSION, label_mean=1e7 + 300)
    exact = all_values(Task.REGRESSION, far.label, far.prediction)["r2"]
    assert realised(of, tally(of, labels=far))["r2"].value == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("task", Task)
def test_no_label_no_quality(task: Task) -> None:
    assert realised(LAYOUTS[task], np.zeros(LAYOUTS[task].size)) == {}
