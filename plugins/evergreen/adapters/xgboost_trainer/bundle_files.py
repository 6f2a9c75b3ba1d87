"""The files of a bundle that come from a fitted booster; core.bundle says what they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xgboost as xgb

from evergreen.adapters.xgboost_trainer.inputs import Categories, inputs_of, predict
from evergreen.adapters.xgboost_trainer.losses import fit_losses, held_out_losses, with_categories
from evergreen.adapters.xgboost_trainer.prepared import LABEL, Prepared
from evergreen.core.bundle import GOLDEN, MODEL, SCHEMA, canonical_json
from evergreen.core.metrics import Task
from evergreen.core.monitoring import reference
from evergreen.core.monitoring.bins import Bins, CategoryBins
from evergreen.core.monitoring.from_training import feature_bins, reference_of
from evergreen.core.monitoring.spread import LEAST, Tail

if TYPE_CHECKING:
    from evergreen.core.monitoring.reference import Calibrate
    from evergreen.core.spec import ModelSpec

GOLDEN_ROWS = 20


def answering_files(
    spec: ModelSpec, booster: xgb.Booster, rows: Prepared, params: Mapping[str, Any]
) -> dict[str, bytes]:
    """What serving answers from."""
    return {
        MODEL: bytes(booster.save_raw("ubj")),
        SCHEMA: canonical_json(
            {
                "task": str(spec.task),
                "features": _features(rows.categories),
                "unknown_category": spec.serving.unknown_category,
                **({"classes": params["num_class"]} if "num_class" in params else {}),
            }
        ),
        GOLDEN: canonical_json(_golden(booster, rows)),
    }


def monitored_files(
    spec: ModelSpec, rows: Prepared, tail: pl.DataFrame, answers: np.ndarray, calibrate: Calibrate
) -> dict[str, bytes]:
    """What the monitor measures against. `answers`: the booster's, of the rows of the tail that are looked at."""
    label, hidden = tail[LABEL].to_numpy(), spec.features.not_logged
    logged = {name: known for name, known in rows.categories.items() if name not in hidden}
    files, losses = {}, None
    if spec.task is Task.REGRESSION:
        files[reference.LOSS] = fit_losses(tail, logged, label, answers)
        losses = held_out_losses(tail, logged, label, answers) if tail.height >= LEAST else None
    made = reference_of(spec.task, _bins(rows, hidden), rows.rows, Tail(label, answers, losses), calibrate)
    return {**files, reference.REFERENCE: reference.to_bytes(made)}


def measured_before(files: Mapping[str, bytes], fitted: Categories, now: Categories) -> dict[str, bytes]:
    """Of a refit: what the bundle with these files measured on rows that it had not seen, said of the categories of
    now. `fitted`: its own."""
    found = {}
    if reference.REFERENCE in files:
        found[reference.REFERENCE] = reference.with_categories(files[reference.REFERENCE], _features(now))
    if reference.LOSS in files:
        found[reference.LOSS] = with_categories(files[reference.LOSS], fitted)
    return found


def _bins(rows: Prepared, hidden: Collection[str]) -> tuple[Bins, ...]:
    """Of all rows; where they are many of a sample, with the smallest and largest values of all."""
    found = feature_bins(_features(rows.categories), rows.some(0, rows.rows), hidden)
    return tuple(_widened(bins, rows.ends.get(bins.name)) for bins in found) if rows.are_many else found


def _widened(bins: Bins, ends: tuple[float, float] | None) -> Bins:
    if isinstance(bins, CategoryBins) or ends is None or len(bins.bounds) < 2:
        return bins
    return replace(bins, bounds=(ends[0], *bins.bounds[1:-1], ends[1]))


def _features(categories: Categories) -> list[dict[str, Any]]:
    return [
        {"name": name, "kind": "number"} if known is None else {"name": name, "kind": "category", "categories": known}
        for name, known in categories.items()
    ]


def _golden(booster: xgb.Booster, rows: Prepared) -> dict[str, Any]:
    """Rows over the whole window, one of them with nothing known, and what the booster answers offline.

    Numbers are those of float32, and read back from JSON unchanged.
    """
    positions = np.arange(0, rows.rows, max(1, rows.rows // GOLDEN_ROWS))[:GOLDEN_ROWS]
    some = inputs_of(rows.at(positions), rows.categories).with_columns(pl.col(pl.Float32).fill_nan(None))
    some = pl.concat([some, some.clear(1)])
    return {"rows": some.to_dicts(), "predictions": predict(booster, some).tolist()}
