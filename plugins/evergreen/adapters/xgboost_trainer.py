"""Trains and predicts with XGBoost's native API, from Polars over Arrow, without a pandas detour.

The newest 15 % of the rows are the early-stopping tail: they choose how many trees are kept and grow none.
All cores are used (XGBoost's default, which minds a container's limit); the bytes do not depend on how many.
Categories go in as `pl.Enum` of the sorted values seen in these rows; the bundle keeps that list, and serving sends
a value's index in it. A value that is not in the list is a missing value, here and there.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xgboost as xgb

from evergreen.core.bundle import GOLDEN, MODEL, SCHEMA, canonical_json
from evergreen.core.errors import TrainingRefused
from evergreen.core.metrics import Task
from evergreen.core.ports import TrainedModel
from evergreen.core.scorable import refuse_unscorable
from evergreen.core.trainable import refuse_label, refuse_untrainable

if TYPE_CHECKING:
    from evergreen.core.spec import ModelSpec

Measure = Callable[[Task, "np.ndarray", "np.ndarray"], dict[str, float]]
Draw = Callable[[Mapping[str, float], Mapping[str, Sequence[float]], int], dict[str, bytes]]

TAIL = 0.15
GOLDEN_ROWS = 20
SEED = 2013
OBJECTIVE = {
    Task.BINARY: "binary:logistic",  # serving answers with the probability of class 1,
    Task.MULTICLASS: "multi:softprob",  # with a probability for each class,
    Task.REGRESSION: "reg:squarederror",  # or with a number
}
EVAL_METRIC = {Task.BINARY: "logloss", Task.MULTICLASS: "mlogloss", Task.REGRESSION: "rmse"}


class XGBoostTrainer:
    """Fits boosters and answers rows. `measure` gives the metrics of a task, `draw` the pictures of a run."""

    def __init__(self, measure: Measure, draw: Draw) -> None:
        self._measure, self._draw = measure, draw

    def fit(self, spec: ModelSpec, frame: pl.DataFrame) -> TrainedModel:
        """See Trainer. Raises TrainingRefused also for parameters that XGBoost does not know or accept."""
        refuse_untrainable(spec, frame)
        rows = frame.filter(_has_label(spec))
        head, tail = _split(spec, rows)
        categories = _categories(spec, rows)
        label = _label(spec, rows)
        params = _params(spec, label)
        _try_params(spec, params, _inputs(rows.head(1), categories), label[:1])
        fitted = xgb.QuantileDMatrix(_inputs(head, categories), label=_label(spec, head), enable_categorical=True)
        held = xgb.QuantileDMatrix(
            _inputs(tail, categories), label=_label(spec, tail), ref=fitted, enable_categorical=True
        )
        history: dict[str, dict[str, list[float]]] = {}
        booster = xgb.train(
            params,
            fitted,
            num_boost_round=spec.training.rounds.max,
            evals=[(fitted, "fitted"), (held, "tail")],  # early stopping goes by the last one
            early_stopping_rounds=spec.training.rounds.early_stopping,
            evals_result=history,
            verbose_eval=False,
        )
        booster = booster[: booster.best_iteration + 1]  # predict would use every tree
        return self._result(spec, booster, rows, tail, categories, params, history)

    def _result(
        self,
        spec: ModelSpec,
        booster: xgb.Booster,
        rows: pl.DataFrame,
        tail: pl.DataFrame,
        categories: Categories,
        params: dict[str, Any],
        history: Mapping[str, Mapping[str, list[float]]],
    ) -> TrainedModel:
        files = {
            MODEL: bytes(booster.save_raw("ubj")),
            SCHEMA: canonical_json(_schema(spec, categories, params)),
            GOLDEN: canonical_json(_golden(booster, rows, categories)),
        }
        found = self._measure(spec.task, _label(spec, tail), _predict(booster, tail, categories))
        importances = _importances(booster, categories)
        curve = {f"{rows} {metric}": v for rows, by_metric in history.items() for metric, v in by_metric.items()}
        kept = booster.num_boosted_rounds()
        return TrainedModel(
            files=files,
            data_end=rows[spec.source.event_time].max(),
            rounds=kept,
            metrics={f"tail.{name}": value for name, value in found.items() if value == value},
            params={**params, "rounds.max": spec.training.rounds.max, "rounds.kept": kept},
            importances=importances,
            history=curve,
            plots=self._draw(importances, curve, kept),
        )

    def predict(self, files: Mapping[str, bytes], frame: pl.DataFrame) -> np.ndarray:
        """See Trainer."""
        schema = json.loads(files[SCHEMA])
        refuse_unscorable(schema["features"], frame)
        if not frame.height:
            return np.empty((0, schema["classes"]) if "classes" in schema else 0)
        booster = xgb.Booster(model_file=bytearray(files[MODEL]))
        categories = {feature["name"]: feature.get("categories") for feature in schema["features"]}
        return _predict(booster, frame, categories).astype(np.float64)


Categories = dict[str, list[str] | None]  # by feature, in the spec's order; none for a number


def _has_label(spec: ModelSpec) -> pl.Expr:
    label = pl.col(spec.label.column)
    return label.is_not_null() & label.cast(pl.Float64).is_not_nan()


def _label(spec: ModelSpec, rows: pl.DataFrame) -> np.ndarray:
    return rows[spec.label.column].cast(pl.Float64).to_numpy()


def _split(spec: ModelSpec, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Older rows to grow trees on, and the newest to stop by. Raises TrainingRefused if the older cannot be used."""
    cut = rows.height - max(1, round(rows.height * TAIL))
    head, tail = rows.head(cut), rows.tail(rows.height - cut)
    refuse_label(spec, head)
    return head, tail


def _categories(spec: ModelSpec, rows: pl.DataFrame) -> Categories:
    def seen(column: str) -> list[str]:
        return rows[column].cast(pl.String).drop_nulls().unique().sort().to_list()

    return {column: seen(column) if column in spec.features.categorical else None for column in spec.features.columns}


def _inputs(rows: pl.DataFrame, categories: Categories) -> pl.DataFrame:
    """The features as XGBoost takes them. A category that is not in the list becomes a missing value."""
    return rows.select(
        pl.col(name).cast(pl.Float32)
        if known is None
        else pl.col(name).cast(pl.String).cast(pl.Enum(known), strict=False)
        for name, known in categories.items()
    )


def _predict(booster: xgb.Booster, rows: pl.DataFrame, categories: Categories) -> np.ndarray:
    return booster.predict(xgb.DMatrix(_inputs(rows, categories), enable_categorical=True))


def _params(spec: ModelSpec, label: np.ndarray) -> dict[str, Any]:
    """What the task decides, and the spec's tree parameters."""
    classes = {"num_class": int(label.max()) + 1} if spec.task is Task.MULTICLASS else {}
    ours = {"objective": OBJECTIVE[spec.task], "eval_metric": EVAL_METRIC[spec.task], "seed": SEED}
    return {**spec.training.params, **ours, **classes}


def _try_params(spec: ModelSpec, params: dict[str, Any], row: pl.DataFrame, label: np.ndarray) -> None:
    """One round on one row. XGBoost only warns of a parameter that it does not know: here that is an error."""
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


def _schema(spec: ModelSpec, categories: Categories, params: Mapping[str, Any]) -> dict[str, Any]:
    features = [
        {"name": name, "kind": "number"} if known is None else {"name": name, "kind": "category", "categories": known}
        for name, known in categories.items()
    ]
    classes = {"classes": params["num_class"]} if "num_class" in params else {}
    return {
        "task": str(spec.task),
        "features": features,
        "unknown_category": spec.serving.unknown_category,
        **classes,
    }


def _golden(booster: xgb.Booster, rows: pl.DataFrame, categories: Categories) -> dict[str, Any]:
    """Rows over the whole window, one of them with nothing known, and what the booster answers offline.

    Numbers are those of float32, and read back from JSON unchanged.
    """
    some = rows.gather_every(max(1, rows.height // GOLDEN_ROWS)).head(GOLDEN_ROWS)
    some = _inputs(some, categories).with_columns(pl.col(pl.Float32).fill_nan(None))
    some = pl.concat([some, some.clear(1)])
    answers = booster.predict(xgb.DMatrix(some, enable_categorical=True))
    return {"rows": some.to_dicts(), "predictions": answers.tolist()}


def _importances(booster: xgb.Booster, categories: Categories) -> dict[str, float]:
    """Each feature's share of the total gain, largest first; 0 for one that no tree uses."""
    gain = booster.get_score(importance_type="total_gain")
    total = sum(gain.values()) or 1.0
    shares = {name: gain.get(name, 0.0) / total for name in categories}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
