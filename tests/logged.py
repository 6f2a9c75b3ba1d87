"""Answers for tests of the prediction log: a loaded model, requests for it, and the parts that come of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
from tests.bundles import make_bundle

from evergreen.core.logged_parts import PREDICTIONS, TRUTH
from evergreen.core.ports import Store
from evergreen.serving.inference_id import inference_ids
from evergreen.serving.log.prediction_log import PredictionLog
from evergreen.serving.models.encoder import Unseen
from evergreen.serving.models.loaded_model import LoadedModel, load
from evergreen.serving.protocols.endpoint import Asked
from evergreen.serving.state import Released


def loaded(folder: Path, version: int = 1, name: str = "flight-delay") -> LoadedModel:
    """A model with features distance, hour and carrier (AA, DL, UA)."""
    bundle, files = make_bundle(name, seed=version)
    folder.mkdir(parents=True, exist_ok=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    return load(folder, name, Released(version, f"release-{version}", bundle, version))


def asked(rows: int = 1, *, key: str = "", unseen: str = "", first: float = 0.0) -> Asked:
    """A request: distances from `first` up, hour missing, carrier DL; the first row's carrier is `unseen` if given."""
    matrix = np.array([[first + row, np.nan, 1] for row in range(rows)], np.float32)
    if unseen:
        matrix[0, 2] = np.nan
    return Asked(matrix, [Unseen(0, "carrier", unseen)] if unseen else [], key)


def answer(log: PredictionLog, model: LoadedModel, *requests: Asked, arm: str = "champion") -> list[str]:
    """Ask the model for all requests in one predict call, and log it; the inference ids."""
    predictions = model.predict(np.concatenate([one.matrix for one in requests]))
    ids = inference_ids(len(predictions))
    log.add(model, arm, requests, predictions, ids)
    return ids


def predictions_in(store: Store) -> pl.DataFrame:
    """All parts of predictions, one below the other."""
    return _all(store, PREDICTIONS)


def truth_in(store: Store) -> pl.DataFrame:
    """All parts of ground truth."""
    return _all(store, TRUTH)


def _all(store: Store, prefix: str) -> pl.DataFrame:
    frames = [pl.read_parquet(io.BytesIO(store.get(key))) for key in store.keys(prefix)]
    return pl.concat(frames, how="diagonal") if frames else pl.DataFrame({"inference_id": []})
