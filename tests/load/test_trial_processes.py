"""Trials in real processes: what they score, and that losing one costs one trial."""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest
import xgboost as xgb

from clustered import command_of
from evergreen.adapters.xgboost_trainer.inputs import categories_of, inputs_of
from evergreen.adapters.xgboost_trainer.trial_bench import TrialBenches
from evergreen.core.errors import TrainingRefused
from evergreen.core.evidence import primary_metric
from evergreen.core.measure import auc
from evergreen.core.ports import FoldScore, TrialLost
from evergreen.core.tuning import folds_of
from training_data import AS_OF, SPEC, make_rows, make_spec

TUNING = {"trials": 5, "folds": 2}
PARAMS = {"max_depth": 2, "learning_rate": 0.2}


def spec_with(**params):
    return make_spec(
        training={**SPEC["training"], "params": {**SPEC["training"]["params"], **params}, "tuning": TUNING}
    )


def opened(folder: Path, rows: pl.DataFrame, spec=None, memory_mb: float = 2000):
    spec = spec or spec_with()
    folds = folds_of(spec, spec.training.tuning, rows["at"].min(), AS_OF)
    parts = list(rows.iter_slices(200))
    return TrialBenches(folder).open(spec, parts, folds, primary_metric(spec), workers=1, memory_mb=memory_mb)


def worker() -> psutil.Process:
    """The process of trials."""
    (found,) = [one for one in psutil.Process().children() if "trial_worker" in command_of(one)]
    return found


def bare(rows: pl.DataFrame, params, fold) -> FoldScore:
    """The same fit by XGBoost alone: grown on the older rows before the cut, stopped by the newer of these."""
    spec, at = spec_with(), pl.col("at")
    fitted = rows.filter(at.is_between(fold.start, fold.cut))
    ahead = rows.filter((at > fold.after) & (at <= fold.until))
    cut = fitted.height - round(fitted.height * 0.15)
    known = categories_of(spec, fitted)
    head, tail = (
        xgb.DMatrix(inputs_of(part, known), part["y"].to_numpy(), enable_categorical=True)
        for part in (fitted[:cut], fitted[cut:])
    )
    given = {"objective": "binary:logistic", "eval_metric": "logloss", "seed": 2013, **params}
    booster = xgb.train(given, head, 30, evals=[(tail, "tail")], early_stopping_rounds=5, verbose_eval=False)
    kept = booster.best_iteration + 1
    said = booster.predict(xgb.DMatrix(inputs_of(ahead, known), enable_categorical=True), iteration_range=(0, kept))
    return FoldScore(auc(ahead["y"].to_numpy().astype(float), said.astype(np.float64)), kept)


def test_a_trial_scores_what_xgboost_scores_on_the_same_rows(tmp_path: Path) -> None:
    rows, spec = make_rows(), spec_with()
    folds = folds_of(spec, spec.training.tuning, rows["at"].min(), AS_OF)
    with opened(tmp_path, rows) as bench:
        for at, fold in enumerate(folds):
            found, wanted = bench.score(PARAMS, at), bare(rows, PARAMS, fold)
            assert found.score == pytest.approx(wanted.score, abs=1e-6)
            assert found.rounds == wanted.rounds
            assert bench.score(PARAMS, at) == found
        untuned = bench.score({}, 0)
        assert untuned == bench.score({"max_depth": 3, "learning_rate": 0.3}, 0)
        assert untuned != bench.score(PARAMS, 0)


def test_a_killed_process_costs_its_trial_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with opened(tmp_path, make_rows()) as bench:
        before = bench.score(PARAMS, 0)
        first = worker()
        first.send_signal(signal.SIGSTOP)  # so that the trial is in progress when it is killed
        threading.Timer(1, os.kill, (first.pid, signal.SIGKILL)).start()
        with pytest.raises(TrialLost, match="-9"):
            bench.score(PARAMS, 0)
        assert bench.score(PARAMS, 0) == before
        last = worker()
    assert not last.is_running()


def test_a_process_that_holds_more_than_it_may_is_stopped(tmp_path: Path) -> None:
    with (
        opened(tmp_path, make_rows(), memory_mb=20) as bench,
        pytest.raises(TrialLost, match="of 20 MB"),
    ):
        bench.score(PARAMS, 0)


def test_parameters_that_xgboost_refuses_cost_their_trial_and_those_of_the_spec_the_step(tmp_path: Path) -> None:
    with opened(tmp_path, make_rows()) as bench:
        with pytest.raises(TrialLost, match="max_depth"):
            bench.score({"max_depth": -4}, 0)
        assert bench.score(PARAMS, 0).rounds
    with (
        pytest.raises(TrainingRefused, match="subsample"),
        opened(tmp_path, make_rows(), spec_with(subsample=7)) as bench,
    ):
        bench.score(PARAMS, 0)


def test_a_past_of_one_class_costs_the_trial_and_not_the_step(tmp_path: Path) -> None:
    """The whole window, which the version is fitted on, has both."""
    rows = make_rows().with_columns(y=pl.when(pl.col("at") > AS_OF - timedelta(days=8)).then("y").otherwise(0))
    with opened(tmp_path, rows) as bench, pytest.raises(TrialLost, match=r"fold 1: .*one class only"):
        bench.score({}, 0)


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    with opened(tmp_path, make_rows()) as bench:
        bench.score(PARAMS, 0)
        assert list(tmp_path.rglob("*.arrow"))
    assert not list(tmp_path.iterdir())
