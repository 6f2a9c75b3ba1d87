"""Pure rules of tuning: folds, when it is due, which parameters win."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evergreen.core.metrics import Metric
from evergreen.core.records import TuningResult
from evergreen.core.tuning import (
    Trial,
    TrialKind,
    TrialState,
    decide,
    declared,
    first_trials,
    folds_of,
    is_due,
    study_name,
    trial_memory_mb,
    tuned_spec,
    workers_of,
)
from records import NOW
from training_data import AS_OF, SPEC, make_spec

AUC, RMSE = Metric("auc"), Metric("rmse")
DAY = timedelta(days=1)


def spec_with(params=None, **tuning):
    return make_spec(training={**SPEC["training"], "params": params or {"max_depth": 3}, "tuning": tuning})


def tuning_of(spec):
    assert spec.training.tuning
    return spec.training.tuning


def trial(number: int, *scores: float, state: TrialState = TrialState.COMPLETE) -> Trial:
    kind = TrialKind.SAMPLED if number else TrialKind.UNTUNED
    return Trial(number, kind, {"max_depth": number} if number else {}, state, scores)


LAST = TuningResult("m", "m/1", "d", "r-1", {"max_depth": 4}, "auc", 0.7, 0.6, 20, NOW)


# ---------------------------------------------------------------- folds


def test_folds_end_at_the_end_of_training_and_leave_labels_time_to_arrive() -> None:
    spec = spec_with(folds=3)
    folds = folds_of(spec, tuning_of(spec), AS_OF - 60 * DAY, AS_OF)
    assert [(AS_OF - fold.until) / DAY for fold in folds] == [10, 5, 0]
    assert {fold.until - fold.after for fold in folds} == {5 * DAY}  # as long as the holdout
    assert {fold.after - fold.cut for fold in folds} == {DAY}  # label.arrives_after
    assert {fold.start for fold in folds} == {AS_OF - 60 * DAY}


def test_sliding_folds_are_fitted_on_equally_much() -> None:
    spec = spec_with(folds=3, past="sliding")
    folds = folds_of(spec, tuning_of(spec), AS_OF - 60 * DAY, AS_OF)
    assert {fold.cut - fold.start for fold in folds} == {44 * DAY}


@given(days=st.integers(2, 400), folds=st.integers(1, 10), past=st.sampled_from(["expanding", "sliding"]))
def test_no_fold_is_scored_on_what_it_was_fitted_on_or_beyond_the_window(days: int, folds: int, past: str) -> None:
    spec = spec_with(folds=folds, past=past)
    start = AS_OF - days * DAY
    for fold in folds_of(spec, tuning_of(spec), start, AS_OF):
        assert start <= fold.start < fold.cut < fold.after < fold.until <= AS_OF


def test_a_window_no_longer_than_the_labels_take_has_no_folds() -> None:
    spec = spec_with()
    assert folds_of(spec, tuning_of(spec), AS_OF - DAY, AS_OF) == []


# ---------------------------------------------------------------- when


def test_due_the_first_time_by_age_and_when_asked() -> None:
    tuning = tuning_of(spec_with(every="7d"))
    facts = {"request_id": "r-2", "asked": False, "now": NOW + 7 * DAY}
    assert is_due(tuning, None, **facts)
    assert is_due(tuning, LAST, **facts)
    assert not is_due(tuning, LAST, **{**facts, "now": NOW + 6 * DAY})
    assert is_due(tuning, LAST, **{**facts, "now": NOW, "asked": True})


def test_a_request_tunes_once_however_often_it_is_tried() -> None:
    tuning = tuning_of(spec_with(every="0s"))
    assert not is_due(tuning, LAST, request_id="r-1", asked=True, now=NOW + 9 * DAY)


def test_what_was_declared_changes_with_space_and_parameters_and_not_with_the_budget() -> None:
    same = declared(spec_with())
    assert declared(spec_with(trials=99, timeout="1h", every="1d", workers=2)) == same
    assert declared(spec_with(space={"max_depth": {"low": 2, "high": 4, "int": True}})) != same
    assert declared(spec_with({"max_depth": 4})) != same


def test_a_study_is_named_by_its_rows_spec_and_folds() -> None:
    spec = spec_with()
    folds = folds_of(spec, tuning_of(spec), AS_OF - 60 * DAY, AS_OF)
    name = study_name(spec, "s-1", folds)
    assert name == study_name(spec, "s-1", folds)
    assert name.startswith("m/")
    assert len({name, study_name(spec, "s-2", folds), study_name(spec, "s-1", folds[1:])}) == 3


def test_what_a_study_begins_with_is_within_the_space() -> None:
    spec = spec_with({"max_depth": 12, "eta": 0.07})
    (_, own), (kind, last) = first_trials(spec, tuning_of(spec).searched, LAST)
    assert (own["max_depth"], own["learning_rate"], own["reg_alpha"]) == (10, 0.07, 0.001)
    assert isinstance(own["max_depth"], int)
    assert (kind, last["max_depth"], last["learning_rate"]) == (TrialKind.LAST, 4, 0.07)
    assert len(first_trials(spec, tuning_of(spec).searched, replace(LAST, params={}))) == 1


def test_tuned_parameters_are_part_of_the_spec_that_is_fitted() -> None:
    spec = spec_with()
    assert tuned_spec(spec, {}) is spec
    assert tuned_spec(spec, {"subsample": 0.5}).training.params == {"max_depth": 3, "subsample": 0.5}


def test_as_many_processes_as_cores_and_memory_allow() -> None:
    tuning = tuning_of(spec_with(workers=8))
    each = trial_memory_mb(1_000_000, 20, 3)
    assert 500 < each < 1000
    assert workers_of(tuning, 4, each, 100_000) == 4
    assert workers_of(tuning, 4, each, 2.5 * each) == 2
    assert workers_of(tuning, 4, each, 0.9 * each) == 0
    assert workers_of(tuning_of(spec_with()), 4, each, 100_000) == 1


# ---------------------------------------------------------------- which wins


def test_the_best_trial_wins_when_better_than_noise() -> None:
    found = decide(AUC, [trial(0, 0.70, 0.71, 0.69), trial(1, 0.72, 0.73, 0.72), trial(2, 0.71, 0.72, 0.70)])
    assert found is not None
    assert (found.wins, found.params) == (True, {"max_depth": 1})


def test_a_loss_is_better_when_lower() -> None:
    found = decide(RMSE, [trial(0, 5.0, 5.1), trial(1, 4.0, 4.2), trial(2, 6.0, 6.1)])
    assert found is not None
    assert found.params == {"max_depth": 1}


@pytest.mark.parametrize(
    ("scores", "why"),
    [
        ((0.69, 0.70, 0.68), "no trial was better"),
        ((0.70, 0.71, 0.69), "no trial was better"),  # as good
        ((0.79, 0.69, 0.66), "within one standard error"),  # better on average, by one lucky fold
    ],
)
def test_the_specs_own_parameters_stay(scores: tuple[float, ...], why: str) -> None:
    found = decide(AUC, [trial(0, 0.70, 0.71, 0.69), trial(1, *scores)])
    assert found is not None
    assert (found.wins, found.params) == (False, {})
    assert why in found.why


def test_pruned_and_failed_trials_do_not_compete_and_without_an_untuned_one_nobody_wins() -> None:
    best = trial(1, 0.9, 0.9, state=TrialState.PRUNED)
    found = decide(AUC, [trial(0, 0.7, 0.7), best, trial(2, state=TrialState.FAILED)])
    assert found is not None
    assert not found.wins
    assert decide(AUC, [trial(1, 0.9, 0.9)]) is None


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=6))
def test_what_wins_is_never_worse_on_average(scores: list[list[float]]) -> None:
    trials = [trial(at, *values) for at, values in enumerate(scores)]
    found = decide(AUC, trials)
    assert found is not None
    assert not found.wins or sum(found.best.scores) > sum(trials[0].scores)
