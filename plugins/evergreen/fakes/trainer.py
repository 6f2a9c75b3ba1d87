"""In-memory twin of the trainer: answers the training rows' mean label, whatever the features."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evergreen.core.bundle import GOLDEN, MODEL, SCHEMA, canonical_json
from evergreen.core.metrics import METRICS_BY_TASK, Task
from evergreen.core.ports import TrainedModel
from evergreen.core.trainable import refuse_untrainable

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.spec import ModelSpec


class FakeTrainer:
    """`scores` is what score() answers for each metric that is named; the others are 0.5. `fits` counts."""

    def __init__(self, scores: Mapping[str, float] | None = None) -> None:
        self.scores = dict(scores or {})
        self.fits = 0

    def fit(self, spec: ModelSpec, frame: pl.DataFrame) -> TrainedModel:
        """See Trainer."""
        refuse_untrainable(spec, frame)
        self.fits += 1
        rows = frame.drop_nulls(spec.label.column)
        mean = float(rows[spec.label.column].mean())  # type: ignore[arg-type]
        return TrainedModel(
            files=_files(spec, rows, mean),
            data_end=rows[spec.source.event_time].max(),  # type: ignore[arg-type]
            rounds=1,
            metrics={"tail.loss": mean},
            params=dict(spec.training.params),
            importances={name: 1 / len(spec.features.columns) for name in spec.features.columns},
            history={"tail loss": [mean]},
            plots={"plots/training_curve.png": b"\x89PNG"},
        )

    def score(self, spec: ModelSpec, files: Mapping[str, bytes], frame: pl.DataFrame) -> dict[str, float]:
        """See Trainer. As the real one: auc and average_precision are NaN for rows of one class."""
        json.loads(files[MODEL])
        one_class = frame.drop_nulls(spec.label.column)[spec.label.column].n_unique() < 2
        scores = {name: self.scores.get(name, 0.5) for name in METRICS_BY_TASK[spec.task]}
        if one_class and spec.task is Task.BINARY:
            scores |= {"auc": math.nan, "average_precision": math.nan}
        return scores


def _files(spec: ModelSpec, rows: pl.DataFrame, mean: float) -> dict[str, bytes]:
    features = [_feature(spec, rows, name) for name in spec.features.columns]
    schema: dict[str, Any] = {
        "task": str(spec.task), "features": features, "unknown_category": spec.serving.unknown_category,
    }  # fmt: skip
    answer: Any = mean
    if spec.task is Task.MULTICLASS:
        schema["classes"] = int(rows[spec.label.column].max()) + 1  # type: ignore[arg-type]
        answer = [1 / schema["classes"]] * schema["classes"]
    golden = {"rows": [dict.fromkeys(spec.features.columns)], "predictions": [answer]}
    return {MODEL: canonical_json(answer), SCHEMA: canonical_json(schema), GOLDEN: canonical_json(golden)}


def _feature(spec: ModelSpec, rows: pl.DataFrame, name: str) -> dict[str, Any]:
    if name not in spec.features.categorical:
        return {"name": name, "kind": "number"}
    seen = sorted(str(value) for value in rows[name].drop_nulls().unique())
    return {"name": name, "kind": "category", "categories": seen}
