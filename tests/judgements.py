"""Judgements on rows whose numbers can be worked out, for the tests of the evidence and of the pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from tests.records import make_candidate, make_spec, make_verdict

from evergreen.core.judgement import Judgement
from evergreen.core.metrics import Task
from evergreen.core.scored import Scored
from evergreen.core.spec import ModelSpec

START = datetime(2013, 7, 1, tzinfo=UTC)
GATES = {
    Task.BINARY: [{"metric": "auc", "min": 0.6}],
    Task.MULTICLASS: [{"metric": "accuracy", "min": 0.3}],
    Task.REGRESSION: [{"metric": "size_mb", "max": 50}, {"metric": "mae", "max": 15}],
}


def make_frame(rows: int = 1200, *, start: datetime = START, seed: int = 1) -> pl.DataFrame:
    """Five minutes apart. `x` is a number, `carrier` a category with missing values."""
    random = np.random.default_rng(seed)
    x = random.normal(size=rows)
    return pl.DataFrame(
        {
            "id": [f"r{n}" for n in range(rows)],
            "at": [start + timedelta(minutes=5 * n) for n in range(rows)],
            "x": x,
            "carrier": random.choice(np.array(["AA", "UA", None], dtype=object), rows, p=[0.5, 0.4, 0.1]).tolist(),
            "y": (x + random.normal(size=rows) > 0).astype(int),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC"), "carrier": pl.String},
    )


def spec_of(task: Task = Task.BINARY, **changes: Any) -> ModelSpec:
    """A spec with a number and a category."""
    features = {"columns": ["x", "carrier"], "categorical": ["carrier"]}
    return make_spec(**{"task": str(task), "features": features, "gates": GATES[task], **changes})


def make_scored(task: Task, frame: pl.DataFrame, *, champion: bool = True, seed: int = 2) -> Scored:
    """The candidate sees `x` a little more clearly than the champion does."""
    random = np.random.default_rng(seed)
    x, rows = frame["x"].to_numpy(), frame.height

    def answers(noise: float) -> np.ndarray:
        seen = x + random.normal(scale=noise, size=rows)
        if task is Task.REGRESSION:
            return 100 + 10 * seen
        chance = 1 / (1 + np.exp(-seen))
        return chance if task is Task.BINARY else np.stack([1 - chance, chance * 0.6, chance * 0.4], axis=1)

    labels = {
        Task.BINARY: frame["y"].to_numpy().astype(float),
        Task.MULTICLASS: np.digitize(x, [-0.3, 0.8]).astype(float),
        Task.REGRESSION: 100 + 10 * x + random.normal(size=rows),
    }
    at = frame["at"].dt.replace_time_zone(None).to_numpy()
    return Scored(task, labels[task], answers(0.2), answers(0.6) if champion else None, at)


def make_judgement(
    task: Task = Task.BINARY, *, champion: bool = True, rows: int = 1200, seed: int = 2, **changes: Any
) -> Judgement:
    """Version 2 of the model `m` beside version 1."""
    fitted, fresh = make_frame(seed=3, start=START - timedelta(days=30)), make_frame(rows)
    made = {
        "spec": spec_of(task),
        "candidate": make_candidate(version=2, metrics={"rounds": 31}),
        "champion": make_candidate(version=1) if champion else None,
        "fitted": fitted,
        "fresh": fresh,
        "scored": make_scored(task, fresh, champion=champion, seed=seed),
        "verdict": make_verdict(),
    }
    return Judgement(**{**made, **changes})
