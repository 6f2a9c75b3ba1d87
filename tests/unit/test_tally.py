"""Tallies: sums of parts are those of the whole, what is taken out was never there, each row lies where it belongs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.monitoring.realised import realised
from evergreen.core.monitoring.reference import absent
from evergreen.core.monitoring.tally import (
    DELAYS,
    ESTIMATED,
    EXPECTED,
    KNOWN,
    LABELLED,
    LATENCY_SECONDS,
    POSITIVES,
    PREDICTIONS,
    REALISED,
    ROWS,
    Layout,
    add_labels,
    add_rows,
)
from evergreen.serving.metrics import BUCKETS
from tallied import MISSING, UNSEEN, World, layout, reference, tally, world

LAYOUTS = {task: layout(task) for task in Task}
SIZE = 300


@settings(max_examples=30, deadline=None)
@given(task=st.sampled_from(Task), seed=st.integers(0, 50), cuts=st.lists(st.integers(0, SIZE), max_size=5))
def test_parts_added_up_are_the_whole(task: Task, seed: int, cuts: list[int]) -> None:
    of, all_rows = LAYOUTS[task], world(task, SIZE, seed)
    edges = [0, *sorted(cuts), SIZE]
    parts = [all_rows.take(slice(a, b)) for a, b in pairwise(edges)]
    added = np.sum([tally(of, rows=one, labels=one) for one in parts], axis=0)
    assert added == pytest.approx(tally(of, rows=all_rows, labels=all_rows), rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(task=st.sampled_from(Task), seed=st.integers(0, 50), ways=st.integers(1, 3))
def test_rows_go_into_the_groups_that_they_name(task: Task, seed: int, ways: int) -> None:
    of, all_rows = LAYOUTS[task], world(task, SIZE, seed)
    groups = np.random.default_rng(seed).integers(-1, 4, (ways, SIZE))
    vectors = np.zeros((4, of.size))
    add_rows(of, all_rows.rows(groups if ways > 1 else groups[0]), vectors)
    add_labels(of, all_rows.labels(groups if ways > 1 else groups[0]), vectors)
    for group in range(4):
        own = [all_rows.take(way == group) for way in groups]
        expected = np.sum([tally(of, rows=one, labels=one) for one in own], axis=0)
        assert vectors[group] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(task=st.sampled_from(Task), seed=st.integers(0, 50), wrong=st.integers(1, SIZE))
def test_a_corrected_label_is_as_if_the_old_one_was_never_sent(task: Task, seed: int, wrong: int) -> None:
    of, true = LAYOUTS[task], world(task, SIZE, seed)
    old = true.take(slice(0, wrong))
    old = replace(old, label=1 - old.label if task is not Task.REGRESSION else old.label * 1.3, waited=old.waited / 2)
    vectors = tally(of, labels=true.take(slice(wrong, None)))[None] + tally(of, labels=old)
    add_labels(of, old.labels(), vectors, sign=-1)
    add_labels(of, true.take(slice(0, wrong)).labels(), vectors)
    expected = tally(of, labels=true)
    assert vectors[0] == pytest.approx(expected, rel=1e-9, abs=1e-6)
    found, never = realised(of, vectors[0]), realised(of, expected)
    assert found.keys() == never.keys()
    for name, one in found.items():
        assert (one.value, one.error) == pytest.approx((never[name].value, never[name].error), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("task", Task)
def test_when_all_labels_are_taken_out_no_quality_is_known(task: Task) -> None:
    of, rows = LAYOUTS[task], world(task, SIZE)
    vectors = np.zeros((1, of.size))
    for one in (rows.take(slice(0, 100)), rows.take(slice(100, None))):
        add_labels(of, one.labels(), vectors)
    add_labels(of, rows.labels(), vectors, sign=-1)
    assert realised(of, vectors[0]) == {}


@pytest.mark.parametrize("task", Task)
def test_no_row_adds_nothing(task: Task) -> None:
    of, none = LAYOUTS[task], world(task, 0)
    assert not tally(of, rows=none, labels=none).any()


def test_each_value_is_in_its_bin() -> None:
    of, rows = LAYOUTS[Task.BINARY], world(Task.BINARY, 6)
    bounds = of.reference.features[0].bounds  # type: ignore[union-attr]
    delay = np.array([np.nan, np.inf, -np.inf, bounds[0], bounds[-1], bounds[-1] + 1], dtype=np.float32)
    found = tally(of, rows=replace(rows, delay=delay, carrier=np.array([0, 0, UNSEEN, MISSING, 1, 2])))
    number, category = of.feature(found, 0), of.feature(found, 1)
    assert (number[0], number[1], number[-3], number[-2], number[-1]) == (1, 1, 1, 2, 1)  # two are above
    assert category.tolist() == [2, 1, 1, 1, 1]
    assert of.part(found, ROWS) == 6
    assert of.part(found, PREDICTIONS).sum() == 6


def test_a_feature_that_is_not_logged_has_no_counts() -> None:
    of, rows = LAYOUTS[Task.BINARY], world(Task.BINARY, 6).rows()
    vectors = np.zeros((1, of.size))
    add_rows(of, replace(rows, features={"delay": rows.features["delay"]}), vectors)
    assert of.feature(vectors, 0).sum() == 6
    assert of.feature(vectors, 1).sum() == 0


def test_labels_and_their_delays_by_bin() -> None:
    of, rows = LAYOUTS[Task.BINARY], world(Task.BINARY, 4)
    one = replace(rows, label=np.array([1.0, 0.0, 1.0, 1.0]), waited=np.array([-3.0, 0.1, 5.0, 1e6]))
    found = tally(of, rows=one, labels=one)
    assert of.part(found, LABELLED) == of.part(found, KNOWN).sum() == 4
    assert of.part(found, POSITIVES).sum() == 3
    assert np.flatnonzero(of.part(found, DELAYS)).tolist() == [0, 5, 15]
    assert of.part(found, EXPECTED).sum() == pytest.approx(rows.prediction.sum())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("task", Task)
def test_a_label_or_prediction_that_is_no_finite_number_is_not_counted(task: Task, bad: float) -> None:
    of, rows = LAYOUTS[task], world(task, SIZE)
    label, prediction = rows.label.copy(), rows.prediction.copy()
    label[3], prediction[5] = bad, bad
    good = np.delete(np.arange(SIZE), [3, 5])
    found = tally(of, labels=replace(rows, label=label, prediction=prediction))
    assert found == pytest.approx(tally(of, labels=rows.take(good)))
    assert np.isfinite(tally(of, rows=replace(rows, prediction=prediction))).all()


def test_a_class_that_training_never_saw_counts_as_wrong_and_adds_to_no_metric_that_needs_its_chance() -> None:
    of, rows = LAYOUTS[Task.MULTICLASS], world(Task.MULTICLASS, 50)
    found = realised(of, tally(of, labels=replace(rows, label=np.r_[3.0, rows.label[1:]])))
    assert (found["accuracy"].rows, found["logloss"].rows) == (50, 49)


@pytest.mark.parametrize("task", Task)
def test_a_bundle_without_a_reference_still_knows_its_quality(task: Task) -> None:
    of, rows = Layout(absent(task)), world(task, 2000)
    plain = World(**{name: getattr(rows, name) for name in rows.__dataclass_fields__})
    found = realised(of, tally(of, rows=plain, labels=plain))
    assert found.keys() == set(METRICS_BY_TASK[task])


@pytest.mark.parametrize("task", Task)
def test_parts_lie_one_behind_the_other(task: Task) -> None:
    of = LAYOUTS[task]
    cells = np.arange(of.size)
    names = [ROWS, PREDICTIONS, LABELLED, DELAYS, "features", "requests", "failed", "latency"]
    names += [f"{REALISED}.{name}" for name in of.realised] + [f"{ESTIMATED}.{name}" for name in of.estimated]
    names += [EXPECTED, KNOWN, POSITIVES] if task is Task.BINARY else []
    assert sorted(np.concatenate([of.part(cells, name) for name in names])) == cells.tolist()
    assert reference(task).features[1].size == of.feature(cells, 1).size


def test_latency_is_counted_by_servings_own_bounds() -> None:
    assert LATENCY_SECONDS == BUCKETS
