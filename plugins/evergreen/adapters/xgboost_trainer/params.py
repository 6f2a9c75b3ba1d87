"""What XGBoost is told: what the task decides, and the spec's tree parameters."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xgboost as xgb

from evergreen.core.errors import TrainingRefused
from evergreen.core.metrics import Task

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

SEED = 2013
SMALL_ROUNDS, SMALL_RATE = 40, 0.2  # of a small model, whatever the spec says of them
OBJECTIVE = {
    Task.BINARY: "binary:logistic",  # serving answers with the probability of class 1,
    Task.MULTICLASS: "multi:softprob",  # with a probability for each class,
    Task.REGRESSION: "reg:squarederror",  # or with a number
}
EVAL_METRIC = {Task.BINARY: "logloss", Task.MULTICLASS: "mlogloss", Task.REGRESSION: "rmse"}


def params_of(spec: ModelSpec, label: np.ndarray) -> dict[str, Any]:
    """The parameters of one fit; of these labels only the number of classes is asked."""
    classes = {"num_class": int(label.max()) + 1} if spec.task is Task.MULTICLASS else {}
    ours = {"objective": OBJECTIVE[spec.task], "eval_metric": EVAL_METRIC[spec.task], "seed": SEED}
    return {**spec.training.params, **ours, **classes}


def small_params_of(spec: ModelSpec, label: np.ndarray) -> dict[str, Any]:
    """Those of a small model: the spec's own, with a rate that suits SMALL_ROUNDS."""
    given = {name: value for name, value in params_of(spec, label).items() if name not in ("eta", "learning_rate")}
    return {**given, "learning_rate": SMALL_RATE}


def try_params(spec: ModelSpec, params: dict[str, Any], row: pl.DataFrame, label: np.ndarray) -> None:
    """One round on one row. XGBoost only warns of a parameter that it does not know: here that is TrainingRefused."""
    matrix = xgb.DMatrix(row, label=label, enable_categorical=True)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            xgb.train(params, matrix, num_boost_round=1)
        except (xgb.core.XGBoostError, ValueError, TypeError) as error:
            raise _refused_params(spec, str(error).split("\nStack trace")[0].splitlines()[0]) from error
    for warning in heard:
        if unused := re.search(r"Parameters: \{ *(.*?) *\} are not used", str(warning.message)):
            raise _refused_params(spec, f"{unused[1]}, which this booster does not use")


def _refused_params(spec: ModelSpec, found: str) -> TrainingRefused:
    return TrainingRefused(
        f"{spec.name}: training.params",
        found=found,
        allowed="XGBoost's tree parameters, within their bounds, that fit the task",
        do="Correct them in model.yaml (https://xgboost.readthedocs.io/en/stable/parameter.html).",
    )
