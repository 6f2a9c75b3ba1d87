"""Trains and predicts with XGBoost's native API, from Polars over Arrow, without a pandas detour.

The newest 15 % of the rows are the early-stopping tail: they choose how many trees are kept and grow none. They also
say what to expect of the model (core.monitoring.reference).
All cores are used (XGBoost's default, which minds a container's limit); the bytes do not depend on how many.
Of rows that are too many for one frame, reference.json, loss.ubj and the tail's metrics come from 200,000 of them, the
same each time; the trees, the categories and the smallest and largest values from all.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xgboost as xgb

from evergreen.adapters.xgboost_trainer import losses
from evergreen.adapters.xgboost_trainer.bundle_files import answering_files, measured_before, monitored_files
from evergreen.adapters.xgboost_trainer.growing import MAX_BIN, Fit, Grow, grow_external, grow_local
from evergreen.adapters.xgboost_trainer.inputs import Categories, categories_of, has_label, inputs_of, predict
from evergreen.adapters.xgboost_trainer.params import SMALL_ROUNDS, balance, params_of, small_params_of, try_params
from evergreen.adapters.xgboost_trainer.prepared import LABEL, prepare
from evergreen.adapters.xgboost_trainer.scratch import scratch
from evergreen.core.bundle import MODEL, SCHEMA
from evergreen.core.errors import TrainingRefused
from evergreen.core.memory_estimate import plan_of
from evergreen.core.metrics import Task
from evergreen.core.monitoring.reference import LOSS, refuse_without_losses
from evergreen.core.ports import TrainedModel
from evergreen.core.scorable import refuse_unscorable
from evergreen.core.spec_training import Rounds
from evergreen.core.trainable import refuse_new_classes, refuse_untrainable

if TYPE_CHECKING:
    from evergreen.core.monitoring.reference import Calibrate
    from evergreen.core.rows import Rows
    from evergreen.core.spec import ModelSpec

Measure = Callable[[Task, "np.ndarray", "np.ndarray"], dict[str, float]]
Draw = Callable[[Mapping[str, float], Mapping[str, Sequence[float]], int], dict[str, bytes]]
ENGINES: Mapping[str, Grow] = {"local": grow_local, "external_memory": grow_external}
log = logging.getLogger(__name__)


class XGBoostTrainer:
    """Fits boosters and answers rows. `measure` gives the metrics of a task, `draw` the pictures of a run,
    `calibrate` the line from what is said to what is true. `limit_mb`: the memory that a fit may hold; `folder`: where
    rows lie meanwhile that do not stay in memory. `engines`: by name how trees are grown (growing.Grow)."""

    def __init__(
        self,
        measure: Measure,
        draw: Draw,
        calibrate: Calibrate,
        *,
        limit_mb: float = 4000,
        folder: Path | None = None,
        engines: Mapping[str, Grow] = ENGINES,
    ) -> None:
        self._measure, self._draw, self._calibrate = measure, draw, calibrate
        self._limit, self._engines = limit_mb, engines
        self._folder = folder or Path(tempfile.gettempdir()) / "evergreen-training"

    def fit(self, spec: ModelSpec, rows: Rows) -> TrainedModel:
        """See Trainer. Raises TrainingRefused also for parameters that XGBoost does not know or accept."""
        plan = plan_of(spec, rows.height, self._limit)
        log.info("%s", plan.told)
        if plan.engine not in self._engines:
            raise _no_such_engine(spec, plan.engine, self._engines)
        if plan.in_one_frame:
            return self._fit(spec, rows, plan.engine, None)
        with scratch(self._folder) as folder:
            return self._fit(spec, rows, plan.engine, folder)

    def _fit(self, spec: ModelSpec, given: Rows, engine: str, folder: Path | None) -> TrainedModel:
        rows = prepare(spec, given, folder)
        classes = rows.refuse_head(spec)
        balanced = balance(spec, classes)
        params = {**params_of(spec, rows.classes), **balanced.params}
        first = rows.at(np.zeros(1, np.int64))
        try_params(spec, params, inputs_of(first, rows.categories), first[LABEL].to_numpy())
        fit = Fit(params, spec.training.rounds, rows, balanced.head, balanced.tail, spec, given.elsewhere)
        booster, history = self._engines[engine](fit, folder)
        tail = rows.some(rows.cut, rows.rows)
        answers = predict(booster, inputs_of(tail, rows.categories))
        files = {
            **answering_files(spec, booster, rows, params),
            **monitored_files(spec, rows, tail, answers, self._calibrate),
        }
        found = self._measure(spec.task, tail[LABEL].to_numpy(), answers)
        importances = _importances(booster, rows.categories)
        curve = {f"{name} {metric}": v for name, by_metric in history.items() for metric, v in by_metric.items()}
        kept = booster.num_boosted_rounds()
        return TrainedModel(
            files=files,
            data_end=rows.data_end,
            rounds=kept,
            metrics={f"tail.{name}": value for name, value in found.items() if value == value},
            params={**params, "rounds.max": spec.training.rounds.max, "rounds.kept": kept, "engine": engine},
            importances=importances,
            history=curve,
            plots=self._draw(importances, curve, kept),
            engine=engine,
        )

    def refit(self, spec: ModelSpec, rows: Rows, rounds: int, files: Mapping[str, bytes]) -> TrainedModel:
        """See Trainer."""
        training = spec.training.model_copy(update={"rounds": Rounds(max=rounds)})
        whole = spec.model_copy(update={"training": training})
        plan = plan_of(whole, rows.height, self._limit)
        log.info("fitted again: %s", plan.told)
        if plan.in_one_frame:
            return self._refit(whole, rows, plan.engine, None, files)
        with scratch(self._folder) as folder:
            return self._refit(whole, rows, plan.engine, folder, files)

    def _refit(
        self, spec: ModelSpec, given: Rows, engine: str, folder: Path | None, files: Mapping[str, bytes]
    ) -> TrainedModel:
        rows = prepare(spec, given, folder)
        judged = json.loads(files[SCHEMA])
        refuse_new_classes(spec, rows.classes, judged)
        balanced = balance(spec, rows.classes)
        params = {**params_of(spec, rows.classes), **balanced.params}
        fit = Fit(params, spec.training.rounds, rows, balanced.head, balanced.tail, spec, given.elsewhere, whole=True)
        booster, _ = self._engines[engine](fit, folder)
        kept = booster.num_boosted_rounds()
        return TrainedModel(
            files={
                **answering_files(spec, booster, rows, params),
                **measured_before(files, _known(judged["features"]), rows.categories),
            },
            data_end=rows.data_end,
            rounds=kept,
            metrics={},
            params={**params, "rounds.kept": kept, "engine": engine},
            importances=_importances(booster, rows.categories),
            history={},
            engine=engine,
        )

    def try_out(self, spec: ModelSpec, frame: pl.DataFrame, ahead: pl.DataFrame) -> np.ndarray:
        """See Trainer. So many rounds at such a rate that trees of the spec's shape fit nearly all that there is."""
        refuse_untrainable(spec, frame)
        rows = frame.filter(has_label(spec))
        categories = categories_of(spec, rows)
        label = rows[spec.label.column].cast(pl.Float64).to_numpy()
        params = small_params_of(spec, label)
        weight = rows[spec.training.weights].to_numpy() if spec.training.weights else None
        matrix = xgb.QuantileDMatrix(
            inputs_of(rows, categories), label=label, weight=weight, enable_categorical=True,
            max_bin=params.get("max_bin", MAX_BIN),
        )  # fmt: skip
        booster = xgb.train(params, matrix, num_boost_round=SMALL_ROUNDS)
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
        own = losses.own_categories(booster) or _known(features)
        return losses.expected_losses(booster, own, frame, prediction)


def _no_such_engine(spec: ModelSpec, engine: str, known: Iterable[str]) -> TrainingRefused:
    return TrainingRefused(
        f"{spec.name}: training.engine",
        found=f"'{engine}', which this installation does not have",
        allowed=f"auto, {', '.join(known)}",
        do="Write one of these in model.yaml.",
    )


def _known(features: Sequence[Mapping[str, Any]]) -> Categories:
    return {feature["name"]: feature.get("categories") for feature in features}


def _importances(booster: xgb.Booster, categories: Categories) -> dict[str, float]:
    """Each feature's share of the total gain, largest first; 0 for one that no tree uses."""
    gain = booster.get_score(importance_type="total_gain")
    total = sum(gain.values()) or 1.0
    shares = {name: gain.get(name, 0.0) / total for name in categories}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
