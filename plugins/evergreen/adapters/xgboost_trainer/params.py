"""What XGBoost is told: what the task decides, and the spec's tree parameters."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xgboost as xgb

from evergreen.core.errors import TrainingRefused
from evergreen.core.metrics import Task
from evergreen.core.trainable import class_weights

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

SMALL_ROUNDS, SMALL_RATE = 40, 0.2  # of a small model, whatever the spec says of them
OBJECTIVE = {
    Task.BINARY: "binary:logistic",  # serving answers with the probability of class 1,
    Task.MULTICLASS: "multi:softprob",  # with a probability for each class,
    Task.REGRESSION: "reg:squarederror",  # or with a number
}
SIGN = {"increasing": 1, "decreasing": -1}
EVAL_METRIC = {Task.BINARY: "logloss", Task.MULTICLASS: "mlogloss", Task.REGRESSION: "rmse"}


def params_of(spec: ModelSpec, classes: Iterable[float]) -> dict[str, Any]:
    """The parameters of one fit. `classes`: those that its rows have, of which a multiclass asks the highest."""
    training = spec.training
    ours: dict[str, Any] = {
        "objective": OBJECTIVE[spec.task],
        "eval_metric": EVAL_METRIC[spec.task],
        "seed": training.seed,
    }
    if spec.task is Task.MULTICLASS:
        ours["num_class"] = int(max(classes)) + 1
    if training.monotone:
        signs = [SIGN.get(training.monotone.get(name, ""), 0) for name in spec.features.columns]
        ours["monotone_constraints"] = f"({','.join(map(str, signs))})"
    if training.device != "cpu":
        ours["device"] = training.device
    return {**training.params, **ours}


def small_params_of(spec: ModelSpec, classes: Iterable[float]) -> dict[str, Any]:
    """Those of a small model: the spec's own, with a rate that suits SMALL_ROUNDS. On the CPU: it is small."""
    left_out = ("eta", "learning_rate", "device")
    given = {name: value for name, value in params_of(spec, classes).items() if name not in left_out}
    return {**given, "learning_rate": SMALL_RATE}


@dataclass(frozen=True)
class Balance:
    """Parameters, and weights by class: of the rows that trees are grown on, and of the tail."""

    params: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[float, float] = field(default_factory=dict)
    tail: Mapping[float, float] = field(default_factory=dict)


def balance(spec: ModelSpec, classes: Mapping[float, int]) -> Balance:
    """`imbalance: balanced`, by the counts of the rows that trees are grown on.

    Of two classes the parameter scale_pos_weight, which weighs gradients only: the tail is weighed like that, or
    early stopping would go by another measure than what is learned.
    """
    if spec.training.imbalance is None:
        return Balance()
    if spec.task is Task.BINARY:
        ratio = classes[0] / classes[1]
        return Balance({"scale_pos_weight": ratio}, tail={0.0: 1.0, 1.0: ratio})
    weights = class_weights(classes)
    return Balance(head=weights, tail=weights)


def try_params(spec: ModelSpec, params: dict[str, Any], row: pl.DataFrame, label: np.ndarray) -> None:
    """One round on one row. XGBoost only warns of a parameter that it does not know: here that is TrainingRefused.

    So is a GPU that is not there, of which it only warns too: a fit on the CPU may take longer than anyone expects.
    """
    matrix = xgb.DMatrix(row, label=label, enable_categorical=True)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            xgb.train(params, matrix, num_boost_round=1)
        except (xgb.core.XGBoostError, ValueError, TypeError) as error:
            raise _refused_params(spec, str(error).split("\nStack trace")[0].splitlines()[0]) from error
    for warning in heard:
        if "setting device to CPU" in str(warning.message):
            raise _no_gpu(spec)
        if unused := re.search(r"Parameters: \{ *(.*?) *\} are not used", str(warning.message)):
            raise _refused_params(spec, f"{unused[1]}, which this booster does not use")


def _no_gpu(spec: ModelSpec) -> TrainingRefused:
    return TrainingRefused(
        f"{spec.name}: training.device",
        found="cuda, and no GPU that XGBoost can use on this machine",
        allowed="cpu, or cuda where nvidia-smi lists a GPU in the container that runs the train task",
        do="Give that container a GPU, or write device: cpu in model.yaml.",
    )


def _refused_params(spec: ModelSpec, found: str) -> TrainingRefused:
    return TrainingRefused(
        f"{spec.name}: training.params",
        found=found,
        allowed="XGBoost's tree parameters, within their bounds, that fit the task",
        do="Correct them in model.yaml (https://xgboost.readthedocs.io/en/stable/parameter.html).",
    )
