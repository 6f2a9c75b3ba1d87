"""A small spec and rows to learn from, for the tests of training and judging."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from evergreen.core.spec import ModelSpec

AS_OF = datetime(2013, 3, 1, tzinfo=UTC)
SPEC: dict[str, Any] = {
    "name": "m",
    "owner": "ops@example.com",
    "task": "binary_classification",
    "source": {"connection": "warehouse", "table": "rows", "event_time": "at", "key": "id"},
    "label": {"column": "y", "arrives_after": "1d"},
    "features": {"columns": ["x", "carrier", "count"], "categorical": ["carrier"]},
    "window": {"train": "20d", "holdout": {"length": "5d", "min_rows": 50}},
    "validation": {"suite": "m"},
    "training": {"params": {"max_depth": 3, "learning_rate": 0.3}, "rounds": {"max": 30, "early_stopping": 5}},
    "gates": [{"metric": "auc", "min": 0.6}],
}


def make_spec(**changes: Any) -> ModelSpec:
    """The spec with top-level keys replaced."""
    return ModelSpec.model_validate({**SPEC, **changes})


def make_rows(rows: int = 600, *, until: datetime = AS_OF, seed: int = 1) -> pl.DataFrame:
    """An hour apart, ending at `until`. `y` can be learned; each feature has missing values.

    `klass` is 0, 1 or 2, `amount` is a number.
    """
    random = np.random.default_rng(seed)
    x, carrier = random.normal(size=rows), random.choice(["AA", "B6", "UA"], rows)
    signal = x + (carrier == "B6") + random.normal(scale=0.7, size=rows)
    return pl.DataFrame(
        {
            "id": [f"r{i}" for i in range(rows)],
            "at": [until - timedelta(hours=rows - 1 - i) for i in range(rows)],
            "x": np.where(random.random(rows) < 0.05, np.nan, x),
            "carrier": np.where(random.random(rows) < 0.05, None, carrier).tolist(),
            "count": random.integers(0, 9, rows),
            "y": (signal > 0.3).astype(int),
            "klass": np.digitize(signal, [-0.3, 0.8]),
            "amount": 1000 + 100 * signal,
        },
        schema_overrides={"at": pl.Datetime("us", "UTC"), "carrier": pl.String},
    ).with_columns(pl.col("x").fill_nan(None))
