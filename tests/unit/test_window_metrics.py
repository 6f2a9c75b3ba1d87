"""The metrics of a window: exactly the names that rules may watch, nothing on few rows, only finite numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from evergreen.core.metrics import Task
from evergreen.core.monitoring import names
from evergreen.core.monitoring.reference import absent
from evergreen.core.monitoring.tally import FAILED, LATENCY, REQUESTS, Layout, add_rows
from evergreen.core.monitoring.window_metrics import Value, metrics_of
from tallied import MISSING, UNSEEN, World, layout, tally, world

LAYOUTS = {task: layout(task) for task in Task}
NOT_OF_ROWS = {names.ERROR_RATE, names.LATENCY, names.CHAMPION_AGE, names.DATA_AGE}


def told(task: Task, *, rows: World | None = None, labels: World | None = None, least: int = 500) -> dict[str, Value]:
    found = metrics_of(LAYOUTS[task], tally(LAYOUTS[task], rows=rows, labels=labels), least)
    assert len({one.name for one in found}) == len(found)
    assert all(math.isfinite(one.value) and (one.low is None or one.low <= one.value <= one.high) for one in found)
    return {one.name: one for one in found}


@pytest.mark.parametrize("task", Task)
def test_all_names_that_rules_may_watch_and_no_other(task: Task) -> None:
    rows = world(task, 1000)
    found = told(task, rows=rows, labels=rows)
    assert found.keys() == set(names.known(task, ["delay", "carrier"], ["carrier"])) - NOT_OF_ROWS
    assert all(one.rows == 1000 for one in found.values())


@pytest.mark.parametrize("task", Task)
def test_on_few_rows_no_drift_and_no_quality(task: Task) -> None:
    rows = world(task, 499)
    assert told(task, rows=rows, labels=rows).keys() == {names.VOLUME, names.LABEL_DELAY}


@pytest.mark.parametrize("task", Task)
def test_realised_quality_waits_for_labels(task: Task) -> None:
    rows = world(task, 1000)
    found = told(task, rows=rows, labels=rows.take(slice(0, 499)))
    assert found[names.LABELLED].value == 0.499
    assert not any(name.startswith((names.REALISED, names.REALISED_LOSS)) for name in found)
    assert any(name.startswith(names.ESTIMATED) for name in found)
    found = told(task, rows=rows, labels=rows.take(slice(0, 500)))
    assert {one.rows for name, one in found.items() if name.startswith(names.REALISED)} == {500}


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("least", [0, 1, 500])
def test_an_empty_window_has_no_rows_and_nothing_else(task: Task, least: int) -> None:
    assert list(told(task, least=least).values()) == [Value(names.VOLUME, 0, 0)]


def test_the_worst_feature_of_each_family() -> None:
    rows = world(Task.BINARY, 1000)
    carrier = np.r_[np.full(300, MISSING), np.full(100, UNSEEN), rows.carrier[400:]]
    inside = np.clip(rows.delay, -2, 2)
    delay = np.where(np.arange(1000) < 50, np.nan, np.where(np.arange(1000) < 150, 1e9, inside)).astype(np.float32)
    found = told(Task.BINARY, rows=replace(rows, carrier=carrier, delay=delay))
    assert found["missing.carrier"].value == found["missing.max"].value == 0.3
    assert (found["missing.delay"].value, found["out_of_range.max"].value) == (0.05, 0.1)
    assert found["unseen.max"].value == 0.1
    assert found["drift.psi.max"].value == max(found["drift.psi.delay"].value, found["drift.psi.carrier"].value) > 0.25
    assert found["drift.wasserstein.max"].value == found["drift.wasserstein.delay"].value > 0


def test_what_was_missing_in_training_too_is_no_rise() -> None:
    of = layout(Task.BINARY)
    delay, carrier = of.reference.features
    half = replace(delay, counts=(*delay.counts[:-1], sum(delay.counts)))
    of = Layout(replace(of.reference, features=(half, carrier)))
    rows = world(Task.BINARY, 1000)
    holes = np.where(np.arange(1000) < 600, np.nan, rows.delay).astype(np.float32)
    found = {one.name: one.value for one in metrics_of(of, tally(of, rows=replace(rows, delay=holes)), 500)}
    assert (found["missing.delay"], found["missing.max"]) == pytest.approx((0.6, 0.1))


def test_a_feature_that_is_not_logged_has_no_metric() -> None:
    of, rows = LAYOUTS[Task.BINARY], world(Task.BINARY, 1000).rows()
    vectors = np.zeros((1, of.size))
    add_rows(of, replace(rows, features={"delay": rows.features["delay"]}), vectors)
    found = {one.name for one in metrics_of(of, vectors[0], 500)}
    assert not any(name.endswith(".carrier") for name in found)
    assert "unseen.max" not in found


@pytest.mark.parametrize("task", Task)
def test_losses_say_how_much_worse_it_is(task: Task) -> None:
    """The metric that a model of noise gives is worse than the reference's, whichever its direction."""
    rows, rng = world(task, 2000), np.random.default_rng(1)
    noise = replace(rows, label=rng.permutation(rows.label))
    if task is Task.REGRESSION:
        noise = replace(rows, label=rows.label + 20)  # bias too
    found = told(task, rows=noise, labels=noise)
    losses = {name: one for name, one in found.items() if name.startswith(names.REALISED_LOSS)}
    assert len(losses) == sum(name.startswith(f"{names.REALISED}.") for name in found)
    assert all(one.low is not None and one.low > 0 for one in losses.values())


def test_a_bias_nearer_to_zero_is_better() -> None:
    of = layout(Task.REGRESSION, quality={"bias": -2.0})
    rows = world(Task.REGRESSION, 1000)
    for moved, loss in ((0.0, -2.0), (-3.0, 1.0), (3.0, 1.0)):
        at = replace(rows, label=rows.prediction + np.resize([-0.5, 0.5], 1000) - moved)
        found = {one.name: one for one in metrics_of(of, tally(of, labels=at), 500)}["quality.realised_loss.bias"]
        assert found.value == pytest.approx(loss)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
    assert found.low > 0.9


def test_without_a_reference_volume_labels_and_realised_quality_are_known() -> None:
    of, rows = Layout(absent(Task.BINARY)), world(Task.BINARY, 1000)
    found = {one.name for one in metrics_of(of, tally(of, rows=rows, labels=rows), 500)}
    realised = {name for name in names.known(Task.BINARY, [], []) if name.startswith(f"{names.REALISED}.")}
    assert found == {names.VOLUME, names.LABEL_DELAY, names.LABELLED} | realised


def test_requests_count_from_the_first() -> None:
    of = LAYOUTS[Task.BINARY]
    vector = np.zeros(of.size)
    of.part(vector, REQUESTS)[:] = 200
    of.part(vector, FAILED)[:] = 5
    of.part(vector, LATENCY)[3] = 195
    found = {one.name: one for one in metrics_of(of, vector, 500)}
    assert found[names.ERROR_RATE] == Value(names.ERROR_RATE, 0.025, 200)
    assert 2.5 < found[names.LATENCY].value < 5
    of.part(vector, LATENCY)[-1] = 100  # slower than any bound
    assert {one.name: one.value for one in metrics_of(of, vector, 500)}[names.LATENCY] == 2500


def test_the_delay_is_the_median_and_never_infinite() -> None:
    rows = world(Task.BINARY, 100)
    late = replace(rows, waited=np.full(100, 1e6))
    assert told(Task.BINARY, labels=late)[names.LABEL_DELAY].value == 720
    early = replace(rows, waited=np.r_[np.full(60, 1.5), np.full(40, 100.0)])
    assert 1 < told(Task.BINARY, labels=early)[names.LABEL_DELAY].value < 2
