"""Real bundles for tests: a tiny booster, sealed, stored and released, in a tenth of a second."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import xgboost as xgb

import ledgers
from evergreen.core import bundle as bundles
from evergreen.core.ports import Ledger, Store
from evergreen.core.records import Candidate, CandidateState, Release, Verdict

CARRIERS = ["AA", "DL", "UA"]
ROW = {"distance": 500.0, "hour": 9, "carrier": "DL"}
NOW = datetime(2013, 6, 1, tzinfo=UTC)


def frame(seed: int = 0, rows: int = 400) -> pl.DataFrame:
    """Features as training sees them: two numbers with gaps, and an Enum."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "distance": pl.Series(rng.uniform(100, 2500, rows)).cast(pl.Float32),
            "hour": pl.Series([None if h == 3 else h for h in rng.integers(0, 24, rows).tolist()], dtype=pl.Float32),
            "carrier": pl.Series(rng.choice(CARRIERS, rows)).cast(pl.Enum(CARRIERS)),
        }
    )


def booster(seed: int = 0) -> xgb.Booster:
    """A small booster; each seed answers differently."""
    data = frame(seed)
    labels = np.random.default_rng(seed + 1000).random(data.height)
    labels = (labels + 0.3 * (data["carrier"].to_physical().to_numpy() == 1) > 0.6).astype(int)
    matrix = xgb.QuantileDMatrix(data, label=labels, enable_categorical=True)
    return xgb.train({"objective": "binary:logistic", "max_depth": 4, "seed": seed, "nthread": 1}, matrix, 20)


def offline(model: xgb.Booster, data: pl.DataFrame) -> list[float]:
    """What the booster answers on a frame, outside of serving."""
    answers: list[float] = model.predict(xgb.DMatrix(data, enable_categorical=True)).tolist()
    return answers


def make_bundle(
    model: str = "flight-delay", seed: int = 0, unknown_category: str = "missing", **changed: Any
) -> tuple[str, dict[str, bytes]]:
    """A sealed bundle: its id and files. `changed` replaces what golden.json holds."""
    fitted, golden = booster(seed), frame(seed).head(12)
    kinds = [{"name": "distance", "kind": "number"}, {"name": "hour", "kind": "number"}]
    kinds += [{"name": "carrier", "kind": "category", "categories": CARRIERS}]
    schema = {"task": "binary_classification", "features": kinds, "unknown_category": unknown_category}
    answers = {"rows": golden.to_dicts(), "predictions": offline(fitted, golden), **changed}
    files = {
        bundles.MODEL: bytes(fitted.save_raw("ubj")),
        bundles.SCHEMA: bundles.canonical_json(schema),
        bundles.GOLDEN: bundles.canonical_json(answers),
    }
    return bundles.seal(files, model=model, train_key=f"{model}-{seed}", snapshot="none")


def answer_of(seed: int, row: Mapping[str, Any] = ROW) -> float:
    """What a bundle of this seed answers for one row."""
    data = pl.DataFrame([row]).select(
        pl.col("distance").cast(pl.Float32),
        pl.col("hour").cast(pl.Float32),
        pl.col("carrier").cast(pl.Enum(CARRIERS)),
    )
    return offline(booster(seed), data)[0]


def put(store: Store, bundle: str, files: Mapping[str, bytes]) -> None:
    """Store a bundle's files."""
    for name, data in files.items():
        store.put(bundles.key(bundle, name), data)


def release(
    ledger: Ledger,
    store: Store,
    *,
    version: int,
    model: str = "flight-delay",
    pool: str = "default",
    **bundle: Any,
) -> Release:
    """Store a bundle made by `make_bundle` (seed = version, unless given) and make it the champion."""
    made, files = make_bundle(model, **{"seed": version, **bundle})
    put(store, made, files)
    return release_bundle(ledger, made, version=version, model=model, pool=pool)


def release_bundle(
    ledger: Ledger, bundle: str, *, version: int, model: str = "flight-delay", pool: str = "default"
) -> Release:
    """Make a stored bundle the champion."""
    seen = ledger.releases.champion(model).generation
    ledger.models.add_candidate(
        Candidate(
            model=model,
            version=version,
            request_id=f"request-{version}",
            train_key=f"{model}-{version}-{bundle[:12]}",  # 64 characters at most in Postgres
            snapshot_id="none",
            data_end=NOW,
            bundle=bundle,
            mlflow_run="none",
            metrics={},
            state=CandidateState.TRAINED,
            verdict=None,
            generation_seen=seen,
            created_at=NOW,
        )
    )
    verdict = Verdict(judged=True, passed=True, rows=100, gates=(), reason="for a test")
    judged = ledger.models.judge(model, version, verdict=verdict, state=CandidateState.PASSED, generation_seen=seen)
    now = datetime.now(UTC)
    return ledgers.release(ledger, judged, pool=pool, released_by="test", reason="for a test", watermark=NOW, now=now)
