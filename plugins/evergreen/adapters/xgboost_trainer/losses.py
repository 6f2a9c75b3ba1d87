"""By how much a regression's answers will miss, before labels are known: a second, small booster on the tail.

Direct Loss Estimation, after NannyML's DLE (https://nannyml.readthedocs.io, "Estimating performance for regression"):
rows that the model was not grown on say which kinds of rows it misses by how much. It sees what serving logs and the
model's own answer. Two outputs: the absolute and the squared error. Shallow and regularised, since its mean over many
rows is what counts, and a wrong row is worse than a dull one.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import xgboost as xgb

from evergreen.adapters.xgboost_trainer.inputs import Categories, inputs_of, predict

ROUNDS, FOLDS = 25, 2
PARAMS: dict[str, Any] = {
    "objective": "reg:squarederror",
    "max_depth": 3,
    "learning_rate": 0.15,
    "reg_lambda": 10.0,
    "max_bin": 32,
    "seed": 2013,
    "nthread": 1,  # so small that threads would mostly wait for each other
}
MOST = 8000  # rows, evenly over the time: more cost training much, and say little that so few leaves can hold
LEAF, SMALLEST_LEAF = 0.01, 20  # rows: a fraction of all, and at least so many


def fit_losses(rows: pl.DataFrame, categories: Categories, label: np.ndarray, prediction: np.ndarray) -> bytes:
    """The booster as a bundle's file. `categories`: the features that it may see; label and prediction: (rows,)."""
    return bytes(_fit(rows, categories, label, prediction).save_raw("ubj"))


def open_losses(file: bytes) -> tuple[xgb.Booster, list[str]]:
    """The booster of a bundle's file, and the features that it sees."""
    booster = xgb.Booster(model_file=bytearray(file))
    return booster, json.loads(booster.attributes()["features"])


def with_categories(file: bytes, known: Categories) -> bytes:
    """The file for a bundle whose schema may have other categories: these are the ones that the booster was fitted on,
    and in their order."""
    booster, seen = open_losses(file)
    booster.set_attr(categories=json.dumps({name: known[name] for name in seen}))
    return bytes(booster.save_raw("ubj"))


def own_categories(booster: xgb.Booster) -> Categories:
    """What with_categories kept; empty where they are those of the bundle's schema."""
    found: Categories = json.loads(booster.attributes().get("categories") or "{}")
    return found


def expected_losses(
    booster: xgb.Booster, categories: Categories, frame: pl.DataFrame, prediction: np.ndarray
) -> np.ndarray:
    """(rows, 2): absolute and squared error. Neither is below 0, nor the second below the first's square."""
    scale = float(booster.attributes()["scale"])
    told = predict(booster, _inputs(frame, categories, prediction)).astype(np.float64)
    absolute = np.maximum(told[:, 0], 0.0)
    return np.column_stack([absolute * scale, np.maximum(told[:, 1], absolute**2) * scale**2])


def held_out_losses(
    rows: pl.DataFrame, categories: Categories, label: np.ndarray, prediction: np.ndarray
) -> np.ndarray:
    """(rows, 2): each row's expected losses by a booster of the rows of other times, of FOLDS stretches in order."""
    every = np.arange(len(label))
    told = np.empty((len(label), 2))
    for held in np.array_split(every, FOLDS):
        others = np.delete(every, held)
        booster = _fit(rows[others], categories, label[others], prediction[others])
        told[held] = expected_losses(booster, categories, rows[held], prediction[held])
    return told


def _fit(rows: pl.DataFrame, categories: Categories, label: np.ndarray, prediction: np.ndarray) -> xgb.Booster:
    if len(label) > MOST:
        some = np.linspace(0, len(label) - 1, MOST).astype(np.int64)
        rows, label, prediction = rows[some], label[some], prediction[some]
    error = np.abs(prediction.astype(np.float64) - label)
    scale = float(np.sqrt(np.mean(error**2))) or 1.0  # errors near 1, so that no square leaves float32
    off = error / scale
    matrix = xgb.QuantileDMatrix(
        _inputs(rows, categories, prediction),
        label=np.column_stack([off, off**2]),
        enable_categorical=True,
        max_bin=PARAMS["max_bin"],
    )
    leaf = max(SMALLEST_LEAF, round(len(error) * LEAF))
    booster = xgb.train({**PARAMS, "min_child_weight": leaf}, matrix, ROUNDS)
    booster.set_attr(features=json.dumps(list(categories)), scale=repr(scale))
    return booster


def _inputs(rows: pl.DataFrame, categories: Categories, prediction: np.ndarray) -> pl.DataFrame:
    """The features by number, since one may have any name, and the answer."""
    inputs = inputs_of(rows, categories)
    numbered = inputs.rename({name: str(at) for at, name in enumerate(inputs.columns)})
    return numbered.with_columns(pl.Series("prediction", prediction.astype(np.float32)))
