"""Trains and predicts with XGBoost's native API, from Polars over Arrow, without a pandas detour.

The newest 15 % of the rows are the early-stopping tail: they choose how many trees are kept and grow none. They also
say what to expect of the model (core.monitoring.reference).
All cores are used (XGBoost's default, which minds a container's limit); the bytes do not depend on how many.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xgboost as xgb

from evergreen.adapters.xgboost_trainer import losses
from evergreen.adapters.xgboost_trainer.bundle_files import answering_files, monitored_files
from evergreen.adapters.xgboost_trainer.inputs import (
    Categories,
    categories_of,
    has_label,
    inputs_of,
    label_of,
    predict,
    split,
)
from evergreen.adapters.xgboost_trainer.params import SMALL_ROUNDS, params_of, small_params_of, try_params
from evergreen.core.bundle import MODEL, SCHEMA
from evergreen.core.metrics import Task
from evergreen.core.monitoring.reference import LOSS, refuse_without_losses
from evergreen.core.ports import TrainedModel
from evergreen.core.scorable import refuse_unscorable
from evergreen.core.trainable import refuse_untrainable

if TYPE_CHECKING:
    from evergreen.core.monitoring.reference import Calibrate
    from evergreen.core.spec import ModelSpec

Measure = Callable[[Task, "np.ndarray", "np.ndarray"], dict[str, float]]
Draw = Callable[[Mapping[str, float], Mapping[str, Sequence[float]], int], dict[str, bytes]]
History = dict[str, dict[str, list[float]]]  # by rows and metric, a value for each round


class XGBoostTrainer:
    """Fits boosters and answers rows. `measure` gives the metrics of a task, `draw` the pictures of a run,
    `calibrate` the line from what is said to what is true."""

    def __init__(self, measure: Measure, draw: Draw, calibrate: Calibrate) -> None:
        self._measure, self._draw, self._calibrate = measure, draw, calibrate

    def fit(self, spec: ModelSpec, frame: pl.DataFrame) -> TrainedModel:
        """See Trainer. Raises TrainingRefused also for parameters that XGBoost does not know or accept."""
        refuse_untrainable(spec, frame)
        rows = frame.filter(has_label(spec))
        head, tail = split(spec, rows)
        categories = categories_of(spec, rows)
        label = label_of(spec, rows)
        params = params_of(spec, label)
        try_params(spec, params, inputs_of(rows.head(1), categories), label[:1])
        booster, history = _grow(spec, head, tail, categories, params)
        answers = predict(booster, inputs_of(tail, categories))
        files = {
            **answering_files(spec, booster, rows, categories, params),
            **monitored_files(spec, rows, tail, answers, categories, self._calibrate),
        }
        found = self._measure(spec.task, label_of(spec, tail), answers)
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

    def try_out(self, spec: ModelSpec, frame: pl.DataFrame, ahead: pl.DataFrame) -> np.ndarray:
        """See Trainer. So many rounds at such a rate that trees of the spec's shape fit nearly all that there is."""
        refuse_untrainable(spec, frame)
        rows = frame.filter(has_label(spec))
        categories, label = categories_of(spec, rows), label_of(spec, rows)
        matrix = xgb.QuantileDMatrix(inputs_of(rows, categories), label=label, enable_categorical=True)
        booster = xgb.train(small_params_of(spec, label), matrix, num_boost_round=SMALL_ROUNDS)
        return predict(booster, inputs_of(ahead, categories)).astype(np.float64)

    def predict(self, files: Mapping[str, bytes], frame: pl.DataFrame) -> np.ndarray:
        """See Trainer."""
        schema = json.loads(files[SCHEMA])
        refuse_unscorable(schema["features"], frame)
        if not frame.height:
            return np.empty((0, schema["classes"]) if "classes" in schema else 0)
        booster = xgb.Booster(model_file=bytearray(files[MODEL]))
        return predict(booster, inputs_of(frame, _known(schema["features"]))).astype(np.float64)

    def expected_losses(self, files: Mapping[str, bytes], frame: pl.DataFrame, prediction: np.ndarray) -> np.ndarray:
        """See Trainer."""
        refuse_without_losses(files)
        booster, seen = losses.open_losses(files[LOSS])
        features = [feature for feature in json.loads(files[SCHEMA])["features"] if feature["name"] in seen]
        refuse_unscorable(features, frame)
        if not frame.height:
            return np.empty((0, 2))
        return losses.expected_losses(booster, _known(features), frame, prediction)


def _grow(
    spec: ModelSpec, head: pl.DataFrame, tail: pl.DataFrame, categories: Categories, params: Mapping[str, Any]
) -> tuple[xgb.Booster, History]:
    """The trees up to the round that was best on the tail, and the curve of all rounds."""
    fitted = xgb.QuantileDMatrix(inputs_of(head, categories), label=label_of(spec, head), enable_categorical=True)
    held = xgb.QuantileDMatrix(
        inputs_of(tail, categories), label=label_of(spec, tail), ref=fitted, enable_categorical=True
    )
    history: History = {}
    booster = xgb.train(
        dict(params),
        fitted,
        num_boost_round=spec.training.rounds.max,
        evals=[(fitted, "fitted"), (held, "tail")],  # early stopping goes by the last one
        early_stopping_rounds=spec.training.rounds.early_stopping,
        evals_result=history,
        verbose_eval=False,
    )
    return booster[: booster.best_iteration + 1], history  # predict would use every tree


def _known(features: Sequence[Mapping[str, Any]]) -> Categories:
    return {feature["name"]: feature.get("categories") for feature in features}


def _importances(booster: xgb.Booster, categories: Categories) -> dict[str, float]:
    """Each feature's share of the total gain, largest first; 0 for one that no tree uses."""
    gain = booster.get_score(importance_type="total_gain")
    total = sum(gain.values()) or 1.0
    shares = {name: gain.get(name, 0.0) / total for name in categories}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
