"""Models for benchmarks: fitted here, sealed into bundles, and released in a home of their own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xgboost as xgb

from evergreen import wiring
from evergreen.core import bundle as bundles
from evergreen.core.records import Candidate, CandidateState, Verdict

NAME = "bench"
_FITTED_ON = 50_000
_GOLDEN_ROWS = 20


@dataclass(frozen=True)
class Shape:
    """How large a model is."""

    trees: int
    depth: int
    features: int

    def __str__(self) -> str:
        return f"{self.trees} trees, depth {self.depth}, {self.features} features"

    @property
    def names(self) -> list[str]:
        """Of the features."""
        return [f"f{number}" for number in range(self.features)]


SMALL, LARGE = Shape(200, 6, 20), Shape(500, 8, 30)


def rows_of(shape: Shape, rows: int, seed: int = 0) -> np.ndarray:
    """float32, rows by features; every fiftieth value is missing."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, shape.features)).astype(np.float32)
    values[rng.random(values.shape) < 0.02] = np.nan
    return values


def fit(shape: Shape) -> xgb.Booster:
    """A booster that has learned something, so that its trees are as deep as they may be."""
    values, noise = rows_of(shape, _FITTED_ON), np.random.default_rng(1).normal(size=_FITTED_ON)
    known = np.nan_to_num(values)
    label = (known[:, 0] + known[:, 1] * known[:, 2] + np.sin(3 * known[:, 3]) + noise > 0).astype(int)
    matrix = xgb.QuantileDMatrix(
        values, label=label, feature_names=shape.names, feature_types=["float"] * shape.features
    )
    params = {"objective": "reg:logistic", "max_depth": shape.depth, "eta": 0.1, "seed": 0}
    return xgb.train(params, matrix, shape.trees)


def settings_in(home: Path) -> wiring.Settings:
    """A SQLite ledger and a store in this folder."""
    return wiring.Settings(home, home, f"sqlite:///{home / 'ledger.db'}", str(home / "store"), "sqlite:///none")


def release(home: Path, shape: Shape, booster: xgb.Booster) -> None:
    """Make the booster the champion of NAME in this home, as version 1."""
    settings, now = settings_in(home), datetime.now(UTC)
    bundle, files = _sealed(shape, booster)
    store, ledger = wiring.store(settings), wiring.ledger(settings)
    for name, data in files.items():
        store.put(bundles.key(bundle, name), data)
    ledger.models.add_candidate(
        Candidate(
            model=NAME, version=1, bundle=bundle, request_id="bench", train_key="bench", snapshot_id="none",
            data_end=now, mlflow_run="none", metrics={}, state=CandidateState.TRAINED, verdict=None, generation_seen=0,
            created_at=now,
        )
    )  # fmt: skip
    verdict = Verdict(judged=True, passed=True, rows=1, gates=(), reason="a benchmark")
    judged = ledger.models.judge(NAME, 1, verdict=verdict, state=CandidateState.PASSED, generation_seen=0)
    prepared = ledger.releases.prepare(
        judged, pool="default", released_by="bench", reason="a benchmark", watermark=now, now=now
    )
    ledger.releases.go_live(prepared.id, now)


def _sealed(shape: Shape, booster: xgb.Booster) -> tuple[str, dict[str, bytes]]:
    golden = rows_of(shape, _GOLDEN_ROWS, seed=2)
    rows = [
        {name: None if np.isnan(value) else float(value) for name, value in zip(shape.names, row, strict=True)}
        for row in golden
    ]
    features = [{"name": name, "kind": "number"} for name in shape.names]
    schema = {"task": "binary_classification", "features": features, "unknown_category": "missing"}
    files = {
        bundles.MODEL: bytes(booster.save_raw("ubj")),
        bundles.SCHEMA: bundles.canonical_json(schema),
        bundles.GOLDEN: bundles.canonical_json(
            {"rows": rows, "predictions": booster.inplace_predict(golden, missing=np.nan).tolist()}
        ),
    }
    return bundles.seal(files, model=NAME, train_key="bench", snapshot="none", label="y")
