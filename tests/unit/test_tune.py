"""tune against the in-memory twins: when it is due, what it tries, and which parameters the version gets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from evergreen.core.ports import TrialLost
from evergreen.core.tuning import TrialKind, TrialState
from evergreen.fakes.benches import FakeBenches
from evergreen.fakes.studies import FakeStudies
from evergreen.steps.tune import Tuner
from judging import NOW, Killed, World
from training_data import SPEC, make_rows, make_spec

SPACE = {"max_depth": {"low": 2, "high": 9, "int": True}}


def spec_with(**tuning: Any):
    given = {"trials": 6, "every": "7d", "timeout": "1h", "space": SPACE, "folds": 2, **tuning}
    return make_spec(training={**SPEC["training"], "tuning": given})


def deeper_is_better(params: Mapping[str, Any], fold: int) -> float:
    return 0.5 + params.get("max_depth", 3) / 100 + fold / 1000


class Tuned:
    """A world that tunes, with what it tunes by."""

    def __init__(self, worth=deeper_is_better, **tuner: Any) -> None:
        self.studies, self.benches = FakeStudies(), FakeBenches(worth)
        made = Tuner(lambda: self.studies, lambda: self.benches, lambda: lambda *_: {"plots/t.png": b"png"}, 2, 4000)
        self.world = World(tuner=replace(made, **tuner))
        self.rows = self.world.pulled(make_rows())

    def train(self, name: str = "r", spec=None, **detail: Any):
        return self.world.train(self.world.request(name, **detail), self.rows, spec or spec_with())

    @property
    def trials(self):
        (trials,) = self.studies.kept.values()
        return trials


def test_the_best_trial_wins_and_its_parameters_are_fitted_kept_and_logged() -> None:
    tuned = Tuned()
    candidate = tuned.train()
    best = max(trial.params.get("max_depth", 3) for trial in tuned.trials)
    assert best > 3
    (run,) = tuned.world.registry.runs.values()
    assert run.params["max_depth"] == str(best)
    assert candidate.made_with["tuned"] == f'{{"max_depth": {best}}}'
    result = tuned.world.ledger.tunings.last("m")
    assert (result.params, result.metric, result.trials) == ({"max_depth": best}, "auc", 6)
    assert (result.tuned, result.untuned) == (pytest.approx(0.5005 + best / 100), pytest.approx(0.5305))
    assert result.request_id == candidate.request_id


def test_rows_are_read_once_for_the_trials_and_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = Tuned()
    read: list[str] = []
    original = tuned.world.snapshots.read
    monkeypatch.setattr(
        tuned.world.snapshots,
        "read",
        lambda parts, columns=None: (read.extend(part.key for part in parts), original(parts, columns))[1],
    )
    tuned.train()
    assert tuned.benches.opened == 1
    assert read
    assert len(read) == len(set(read))


def test_each_trial_is_a_run_below_the_requests() -> None:
    tuned = Tuned()
    tuned.train()
    (run,) = tuned.world.registry.runs.values()
    first, *_ = run.trials.values()
    assert len(run.trials) == 6
    assert first.tags["evergreen.trial"] == "untuned"
    assert set(first.metrics) == {"fold_1", "fold_2", "score", "gain", "seconds"}
    assert "plots/t.png" in run.files
    assert "tuned parameters are used" in run.tags["evergreen.tuning"]


def test_the_specs_own_parameters_stay_where_no_trial_is_better() -> None:
    tuned = Tuned(lambda params, fold: 0.5 - params.get("max_depth", 3) / 100 * (params != {}))
    candidate = tuned.train()
    (run,) = tuned.world.registry.runs.values()
    assert run.params["max_depth"] == "3"
    assert "tuned" not in candidate.made_with
    assert tuned.world.ledger.tunings.last("m").params == {}


def test_a_version_of_tuned_parameters_has_a_train_key_of_its_own() -> None:
    untuned = Tuned()
    untuned.world.tuner = None
    assert Tuned().train().train_key == Tuned().train().train_key != untuned.train().train_key


def test_not_due_the_last_tuned_parameters_are_used() -> None:
    tuned = Tuned()
    first = tuned.train()
    tuned.world.now = NOW + timedelta(days=6)
    tuned.rows = tuned.world.pulled(make_rows(590))
    second = tuned.train("second")
    assert second.made_with["tuned"] == first.made_with["tuned"]
    assert tuned.benches.opened == 1


def test_due_by_age_it_begins_with_the_untuned_and_the_last_best_parameters() -> None:
    tuned = Tuned()
    tuned.train()
    tuned.world.now = NOW + timedelta(days=7)
    tuned.rows = tuned.world.pulled(make_rows(590))
    tuned.train("second")
    assert [trial.kind for trial in tuned.trials[:3]] == [TrialKind.UNTUNED, TrialKind.LAST, TrialKind.SAMPLED]


def test_who_asks_for_it_gets_a_tuning_before_it_is_due() -> None:
    tuned = Tuned()
    tuned.train()
    tuned.rows = tuned.world.pulled(make_rows(590))
    tuned.train("second", tune=True)
    assert tuned.benches.opened == 2


def test_another_space_is_tuned_anew() -> None:
    tuned = Tuned()
    tuned.train()
    tuned.rows = tuned.world.pulled(make_rows(590))
    tuned.train("second", spec_with(space={"max_depth": {"low": 2, "high": 5, "int": True}}))
    assert tuned.benches.opened == 2


def test_no_more_trials_and_no_longer_than_the_spec_says() -> None:
    tuned = Tuned()
    tuned.train(spec=spec_with(timeout="1s", trials=2))
    assert len(tuned.trials) == 2

    def slow(params: Mapping[str, Any], fold: int) -> float:
        clock[0] += 0.4
        return deeper_is_better(params, fold)

    clock = [0.0]
    late = Tuned(slow)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evergreen.steps.run_trials.time.monotonic", lambda: clock[0])
        late.train(spec=spec_with(timeout="1s"))
    assert [trial.state for trial in late.trials] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_a_lost_trial_costs_only_itself() -> None:
    calls = iter(range(100))

    def dies(params: Mapping[str, Any], fold: int) -> float:
        if next(calls) == 3:  # in the second trial
            raise TrialLost("killed")
        return deeper_is_better(params, fold)

    tuned = Tuned(dies)
    tuned.train()
    states = [trial.state for trial in tuned.trials]
    assert states == [TrialState.COMPLETE, TrialState.FAILED, *[TrialState.COMPLETE] * 4]
    assert tuned.trials[1].why == "killed"


def test_where_every_trial_is_lost_the_model_is_trained_untuned() -> None:
    def dies(params: Mapping[str, Any], fold: int) -> float:
        raise TrialLost("out of memory")

    tuned = Tuned(dies)
    candidate = tuned.train()
    assert "tuned" not in candidate.made_with
    assert len(tuned.trials) == 1
    assert tuned.world.ledger.tunings.last("m") is None


def test_three_lost_in_a_row_end_it() -> None:
    def dies(params: Mapping[str, Any], fold: int) -> float:
        if params:
            raise TrialLost("out of memory")
        return 0.6

    tuned = Tuned(dies)
    tuned.train()
    assert len(tuned.trials) == 4


def test_too_little_memory_for_one_trial_means_untuned() -> None:
    tuned = Tuned(memory_mb=100)
    assert "tuned" not in tuned.train().made_with
    assert tuned.benches.opened == 0


def test_too_few_rows_mean_untuned() -> None:
    tuned = Tuned()
    spec = spec_with()
    few = spec.model_copy(
        update={
            "window": spec.window.model_copy(
                update={"holdout": spec.window.holdout.model_copy(update={"min_rows": 10_000})}
            )
        }
    )
    assert "tuned" not in tuned.train(spec=few).made_with
    assert tuned.benches.opened == 0


def test_a_much_worse_trial_is_pruned_after_its_first_fold() -> None:
    tuned = Tuned(lambda params, fold: 0.1 if params else 0.9)
    tuned.train()
    assert [len(trial.scores) for trial in tuned.trials] == [2, 1, 1, 1, 1, 1]


def test_several_workers_run_the_same_number_of_trials() -> None:
    tuned = Tuned()
    tuned.train(spec=spec_with(workers=2, trials=9))
    assert len(tuned.trials) == 9
    assert tuned.trials[0].kind is TrialKind.UNTUNED


@pytest.mark.parametrize("calls", range(1, 15, 2))
def test_killed_anywhere_the_retry_ends_with_the_same_study_and_version(calls: int) -> None:
    whole = Tuned()
    expected = whole.train()
    tuned = Tuned()
    request = tuned.world.request("r")
    countdown = [calls]
    mortal = tuned.world.mortal(countdown)
    mortal.tuner = replace(tuned.world.tuner)
    with suppress(Killed):
        mortal.train(request, tuned.rows, spec_with())
    candidate = tuned.world.train(request, tuned.rows, spec_with())
    assert candidate.train_key == expected.train_key
    assert len(tuned.trials) == 6
    assert [trial.params for trial in tuned.trials] == [trial.params for trial in whole.trials]
