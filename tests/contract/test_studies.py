"""What every keeper of studies does: Optuna in the ledger's database, and its in-memory twin.

Set EVERGREEN_TEST_POSTGRES to the URL of a Postgres database that may be emptied to hold Optuna on it to them too.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.optuna_studies import OptunaStudies
from evergreen.core.ports import Studies, Study
from evergreen.core.spec_tuning import Span
from evergreen.core.tuning import Trial, TrialKind, TrialState
from evergreen.fakes.studies import FakeStudies
from ledgers import KINDS, url_of

SPACE = {"max_depth": Span(low=2, high=9, int=True), "subsample": Span(low=0.5, high=1), "grow_policy": ["a", "b"]}
OWN = {"max_depth": 6, "subsample": 1.0, "grow_policy": "a"}
LAST = {"max_depth": 4, "subsample": 0.7, "grow_policy": "b"}
FIRST = [(TrialKind.UNTUNED, OWN), (TrialKind.LAST, LAST)]
Opener = Callable[[], Studies]


@pytest.fixture(params=KINDS)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same studies again and again, as other processes do."""
    if request.param == "memory":
        studies = FakeStudies()
        return lambda: studies
    url = url_of(request.param, tmp_path)
    open_ledger(url)
    return lambda: OptunaStudies(url)


def opened(opener: Opener, name: str = "m/1", seed: int = 7) -> Study:
    return opener().open(name, SPACE, FIRST, seed=seed)


def gain_of(trial: Trial) -> float:
    """The deeper the better, and one of the two policies."""
    return float(trial.params.get("max_depth", 6)) / 9 + (trial.params.get("grow_policy", "a") == "b")


def go_on(study: Study, trials: int) -> list[Trial]:
    for _ in range(trials):
        asked = study.ask()
        study.is_hopeless(asked, [gain_of(asked)])
        study.tell(replace(asked, state=TrialState.COMPLETE, scores=(gain_of(asked),), rounds=(3,)), gain_of(asked))
    return study.trials()


def test_a_study_begins_with_the_untuned_trial_and_the_last_best_one(opener: Opener) -> None:
    untuned, last, sampled = go_on(opened(opener), 3)
    assert (untuned.kind, untuned.params) == (TrialKind.UNTUNED, {})
    assert (last.kind, last.params) == (TrialKind.LAST, LAST)
    assert (sampled.kind, set(sampled.params)) == (TrialKind.SAMPLED, set(SPACE))
    assert [one.number for one in (untuned, last, sampled)] == [0, 1, 2]


def test_ended_trials_come_back_whole(opener: Opener) -> None:
    study = opened(opener)
    asked = study.ask()
    ended = replace(asked, state=TrialState.FAILED, scores=(0.5,), rounds=(9,), seconds=1.5, why="lost")
    study.tell(ended, None)
    assert opened(opener).trials() == [ended]


def test_sampled_values_are_within_the_space(opener: Opener) -> None:
    for trial in go_on(opened(opener), 9)[2:]:
        assert 2 <= trial.params["max_depth"] <= 9
        assert isinstance(trial.params["max_depth"], int)
        assert 0.5 <= trial.params["subsample"] <= 1
        assert trial.params["grow_policy"] in ("a", "b")


def test_the_same_seed_comes_to_the_same_trials_and_another_one_to_others(opener: Opener) -> None:
    one, same, other = (go_on(opened(opener, name, seed), 8) for name, seed in (("a", 7), ("b", 7), ("c", 8)))
    assert one == same
    assert one[2:] != other[2:]


@pytest.mark.parametrize("left", [0, 1, 7])
def test_a_study_whose_process_was_killed_in_a_trial_comes_to_the_same_trials(opener: Opener, left: int) -> None:
    whole = go_on(opened(opener, "whole"), 8)
    study = opened(opener, "killed")
    go_on(study, left)
    study.is_hopeless(study.ask(), [0.1])  # and is never told of
    if isinstance(opener(), FakeStudies):
        study._running -= 1  # type: ignore[attr-defined]  # its process is gone
    assert go_on(opened(opener, "killed"), 8 - left) == whole


def test_several_threads_go_on_with_one_study(opener: Opener) -> None:
    """Each with trials of its own, and the first ones once."""
    study = opened(opener)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: go_on(study, 2), range(4)))
    trials = study.trials()
    assert sorted(trial.number for trial in trials) == list(range(8))
    first = [trial.kind for trial in trials if trial.kind is not TrialKind.SAMPLED]
    assert sorted(first) == [TrialKind.LAST, TrialKind.UNTUNED]


def test_studies_do_not_see_each_other(opener: Opener) -> None:
    go_on(opened(opener, "a"), 3)
    assert opened(opener, "b").trials() == []


def test_earlier_studies_of_a_model_are_forgotten_and_no_other_ones(opener: Opener) -> None:
    for name in ("m/1", "m/2", "m-2/1"):
        go_on(opened(opener, name), 1)
    opener().forget("m/", but="m/2")
    assert [len(opened(opener, name).trials()) for name in ("m/1", "m/2", "m-2/1")] == [0, 1, 1]


def test_the_untuned_trial_is_never_hopeless_and_a_much_worse_one_is(opener: Opener) -> None:
    study = opened(opener)
    untuned = study.ask()
    assert not study.is_hopeless(untuned, [-5.0])
    study.tell(replace(untuned, state=TrialState.COMPLETE, scores=(0.0,)), 0.0)
    go_on(study, 5)
    bad = study.ask()
    assert study.is_hopeless(bad, [-9.0])
    study.tell(replace(bad, state=TrialState.PRUNED, scores=(-9.0,)), None)
    assert study.trials()[-1].state is TrialState.PRUNED


def test_importances_are_shares_once_there_are_trials(opener: Opener) -> None:
    study = opened(opener)
    assert study.importances() == {}
    go_on(study, 8)
    found = study.importances()
    assert set(found) == set(SPACE)
    assert sum(found.values()) == pytest.approx(1)


def test_optunas_tables_leave_the_ledgers_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = open_ledger(url)
    go_on(OptunaStudies(url).open("m/1", SPACE, FIRST, seed=1), 2)
    assert open_ledger(url).tunings.last("m") == ledger.tunings.last("m") is None


def test_of_several_that_ran_the_left_one_is_done_again_in_its_place(tmp_path: Path) -> None:
    """A later one may have ended before the kill: no two trials have a number, nor a seed."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    study = OptunaStudies(url).open("m/1", SPACE, FIRST, seed=1)
    go_on(study, 2)
    left = study.ask()
    go_on(study, 1)
    again = OptunaStudies(url).open("m/1", SPACE, FIRST, seed=1)
    assert again.ask() == left
    assert [trial.number for trial in go_on(again, 1)] == [0, 1, 3, 4]


def test_one_that_was_left_twice_stays_failed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"

    def study() -> Study:
        return OptunaStudies(url).open("m/1", SPACE, FIRST, seed=1)

    go_on(study(), 2)
    study().ask()
    study().ask()
    found = study().trials()
    assert [trial.state for trial in found[2:]] == [TrialState.FAILED]
    assert "killed twice" in found[2].why
