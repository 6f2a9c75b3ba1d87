"""Models in memory for tests of the endpoints: no bundle, no files, no process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xgboost as xgb

from bundles import CARRIERS, booster
from evergreen.serving.inference_id import inference_ids
from evergreen.serving.models.booster import open_booster
from evergreen.serving.models.encoder import Encoder, FeatureSchema, Schema
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.models.row_decoder import RowDecoder
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.endpoint import Asked, Endpoint, Headers, Written
from evergreen.serving.state import Released

NUMBERS = ("distance", "hour")


def flights(unknown_category: str = "missing") -> LoadedModel:
    """The model of tests.bundles: two numbers and a category, version 7."""
    features = [*(FeatureSchema(name, "number") for name in NUMBERS), FeatureSchema("carrier", "category", CARRIERS)]
    return _loaded(Schema("binary_classification", features, unknown_category), booster(7))  # type: ignore[arg-type]


def numeric(classes: int | None = None) -> LoadedModel:
    """A model of two numbers alone; with `classes` it answers a probability for each."""
    rng = np.random.default_rng(1)
    matrix = rng.uniform(0, 100, (300, 2)).astype(np.float32)
    data = xgb.QuantileDMatrix(matrix, label=matrix.sum(1) // 67, feature_names=list(NUMBERS))
    objective = {"objective": "multi:softprob", "num_class": classes} if classes else {}
    fitted = xgb.train({"max_depth": 3, "nthread": 1, **objective}, data, 5)
    return _loaded(Schema("regression", [FeatureSchema(name, "number") for name in NUMBERS], classes=classes), fitted)


@dataclass
class Exchange:
    """One request and its answer, without a server between."""

    asked: Asked
    answer: Answer
    written: Written


def exchange(endpoint: Endpoint, model: LoadedModel, body: bytes, headers: Headers | None = None) -> Exchange:
    """Read, predict, write. Raises RequestRefused."""
    asked = endpoint.read(model, body, headers or {})
    predictions = model.predict(asked.matrix)
    answer = Answer(model, predictions, inference_ids(len(predictions)), asked.unseen)
    return Exchange(asked, answer, endpoint.write(asked, answer, headers or {}))


def _loaded(schema: Schema, fitted: xgb.Booster) -> LoadedModel:
    release = Released(7, "release-7", "0" * 64, 1)
    made = open_booster(bytes(fitted.save_raw("ubj")))
    return LoadedModel("flight-delay", release, schema, Encoder(schema), RowDecoder(schema), made)
