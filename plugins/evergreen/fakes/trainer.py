"""In-memory twin of the trainer: one straight line through the first number feature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evergreen.core.bundle import GOLDEN, MODEL, SCHEMA, canonical_json
from evergreen.core.memory_estimate import plan_of
from evergreen.core.metrics import Task
from evergreen.core.monitoring.from_training import feature_bins, reference_of
from evergreen.core.monitoring.reference import LOSS, REFERENCE, refuse_without_losses, to_bytes, with_categories
from evergreen.core.monitoring.spread import Tail
from evergreen.core.ports import TrainedModel
from evergreen.core.scorable import refuse_unscorable
from evergreen.core.trainable import Trainable, class_weights, refuse_new_classes, refuse_untrainable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.rows import Rows
    from evergreen.core.spec import ModelSpec

TAIL = 0.15


class FakeTrainer:
    """`skill` goes into the model that fit() makes, so that versions can differ: 1 is the least-squares line, 0 the
    mean of the labels whatever the row, -1 the line turned round. It may be changed. `fits`, `tries` and
    `refits` count.
    """

    def __init__(self, skill: float = 1.0, *, limit_mb: float = 4000) -> None:
        self.skill = skill
        self.limit_mb = limit_mb
        self.fits = 0
        self.tries = 0
        self.refits = 0

    def fit(self, spec: ModelSpec, rows: Rows) -> TrainedModel:
        """See Trainer. Every engine is one frame."""
        seen = Trainable(spec)
        for part in rows:
            seen.look(part)
        seen.refuse()
        plan = plan_of(spec, rows.height, self.limit_mb)
        self.fits += 1
        return self._fit(spec, rows.frame().drop_nulls(spec.label.column), plan.engine)

    def _fit(self, spec: ModelSpec, rows: pl.DataFrame, engine: str) -> TrainedModel:
        files = _files(spec, rows, self.skill)
        mean = json.loads(files[MODEL])["mean"]
        return TrainedModel(
            files=files,
            data_end=rows[spec.source.event_time].max(),  # type: ignore[arg-type]
            rounds=1,
            metrics={"tail.loss": mean},
            params=dict(spec.training.params),
            importances={name: 1 / len(spec.features.columns) for name in spec.features.columns},
            history={"tail loss": [mean]},
            plots={"plots/training_curve.png": b"\x89PNG"},
            engine=engine,
        )

    def refit(self, spec: ModelSpec, rows: Rows, rounds: int, files: Mapping[str, bytes]) -> TrainedModel:
        """See Trainer."""
        seen = Trainable(spec)
        for part in rows:
            seen.look(part)
        seen.refuse()
        judged = json.loads(files[SCHEMA])
        refuse_new_classes(spec, seen.labels.classes, judged)
        plan = plan_of(spec, rows.height, self.limit_mb)
        self.refits += 1
        found = self._fit(spec, rows.frame().drop_nulls(spec.label.column), plan.engine)
        made = {name: data for name, data in found.files.items() if name not in (REFERENCE, LOSS)}
        kept = {LOSS: files[LOSS]} if LOSS in files else {}
        features = json.loads(made[SCHEMA])["features"]
        kept[REFERENCE] = with_categories(files[REFERENCE], features)
        return replace(found, files={**made, **kept}, rounds=rounds, metrics={}, history={}, plots={})

    def try_out(self, spec: ModelSpec, frame: pl.DataFrame, ahead: pl.DataFrame) -> np.ndarray:
        """See Trainer."""
        refuse_untrainable(spec, frame)
        self.tries += 1
        return self.predict(_files(spec, frame.drop_nulls(spec.label.column), self.skill), ahead)

    def predict(self, files: Mapping[str, bytes], frame: pl.DataFrame) -> np.ndarray:
        """See Trainer."""
        schema = json.loads(files[SCHEMA])
        refuse_unscorable(schema["features"], frame)
        return _answers(schema, json.loads(files[MODEL]), frame)

    def expected_losses(self, files: Mapping[str, bytes], frame: pl.DataFrame, prediction: np.ndarray) -> np.ndarray:
        """See Trainer: the tail's mean errors, whatever the row."""
        import numpy as np

        refuse_without_losses(files)
        told = json.loads(files[LOSS])
        features = [one for one in json.loads(files[SCHEMA])["features"] if one["name"] in told["features"]]
        refuse_unscorable(features, frame)
        return np.tile(np.array([told["absolute"], told["squared"]]), (len(prediction), 1))


def _files(spec: ModelSpec, rows: pl.DataFrame, skill: float) -> dict[str, bytes]:
    schema: dict[str, Any] = {
        "task": str(spec.task),
        "features": [_feature(spec, rows, name) for name in spec.features.columns],
        "unknown_category": spec.serving.unknown_category,
    }
    if spec.task is Task.MULTICLASS:
        schema["classes"] = int(rows[spec.label.column].max()) + 1  # type: ignore[arg-type]
    model = _line(spec, rows, _driver(schema), skill)
    golden_row = rows.head(1).select(spec.features.columns)
    golden = {"rows": golden_row.to_dicts(), "predictions": _answers(schema, model, golden_row).tolist()}
    files = {MODEL: canonical_json(model), SCHEMA: canonical_json(schema), GOLDEN: canonical_json(golden)}
    return {**files, **_monitored(spec, schema, model, rows)}


def _monitored(
    spec: ModelSpec, schema: Mapping[str, Any], model: Mapping[str, float], rows: pl.DataFrame
) -> dict[str, bytes]:
    """The reference of the newest rows, by a trainer that believes what it says; and of a regression its errors."""
    import numpy as np
    import polars as pl

    newest = rows.tail(max(1, round(rows.height * TAIL)))
    label, answers = newest[spec.label.column].cast(pl.Float64).to_numpy(), _answers(schema, model, newest)
    bins = feature_bins(schema["features"], rows, spec.features.not_logged)
    made = reference_of(spec.task, bins, rows.height, Tail(label, answers), lambda *_: ((0.0, 0.0), (1.0, 1.0)))
    files = {REFERENCE: to_bytes(made)}
    if spec.task is Task.REGRESSION:
        off = np.abs(answers - label)
        told = {"absolute": float(off.mean()), "squared": float((off**2).mean())}
        files[LOSS] = canonical_json({**told, "features": [one.name for one in bins]})
    return files


def _feature(spec: ModelSpec, rows: pl.DataFrame, name: str) -> dict[str, Any]:
    if name not in spec.features.categorical:
        return {"name": name, "kind": "number"}
    seen = sorted(str(value) for value in rows[name].drop_nulls().unique())
    return {"name": name, "kind": "category", "categories": seen}


def _driver(schema: Mapping[str, Any]) -> str | None:
    """The first number feature."""
    return next((feature["name"] for feature in schema["features"] if feature["kind"] == "number"), None)


def _line(spec: ModelSpec, rows: pl.DataFrame, driver: str | None, skill: float) -> dict[str, float]:
    """Mean label, mean of the driver, and `skill` times the slope between them, by the rows' weights."""
    import numpy as np

    y, weights = _numbers(rows, spec.label.column), _weights(spec, rows)
    model = {"mean": float(np.average(y, weights=weights)), "centre": 0.0, "slope": 0.0}
    if driver is None:
        return model
    x = _numbers(rows, driver)
    known = ~np.isnan(x)
    if known.sum() > 1 and x[known].std():
        x, y, weights = x[known], y[known], weights[known]
        model["centre"] = float(np.average(x, weights=weights))
        away = x - model["centre"]
        slope = skill * float(np.average(away * y, weights=weights) / np.average(away**2, weights=weights))
        wanted = spec.training.monotone.get(driver)
        model["slope"] = max(slope, 0.0) if wanted == "increasing" else min(slope, 0.0) if wanted else slope
    return model


def _weights(spec: ModelSpec, rows: pl.DataFrame) -> np.ndarray:
    """The column's, times that of a row's class."""
    import numpy as np

    own = _numbers(rows, spec.training.weights) if spec.training.weights else np.ones(rows.height)
    if spec.training.imbalance is None:
        return own
    label = _numbers(rows, spec.label.column)
    classes, counts = np.unique(label, return_counts=True)
    by_class = class_weights(dict(zip(classes.tolist(), counts.tolist(), strict=True)))
    return own * np.array([by_class[value] for value in label.tolist()])


def _numbers(rows: pl.DataFrame, column: str) -> np.ndarray:
    import polars as pl

    return rows[column].cast(pl.Float64).to_numpy()


def _answers(schema: Mapping[str, Any], model: Mapping[str, float], frame: pl.DataFrame) -> np.ndarray:
    """The line; as a chance for class 1, or as chances that fall off with the distance of a class from it."""
    import numpy as np
    import polars as pl

    driver = _driver(schema)
    x = frame[driver].cast(pl.Float64).fill_nan(None).fill_null(model["centre"]) if driver else None
    away = np.zeros(frame.height) if x is None else x.to_numpy() - model["centre"]
    line = model["mean"] + model["slope"] * away
    if schema["task"] == Task.BINARY:
        return np.clip(line, 0.01, 0.99)
    if schema["task"] == Task.REGRESSION:
        return line
    weights = np.exp(-np.abs(np.arange(schema["classes"]) - line[:, None]))
    return weights / weights.sum(axis=1, keepdims=True)
