"""What a model answered to one request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evergreen.serving.encoder import Encoded, Unseen
from evergreen.serving.inference_id import inference_id
from evergreen.serving.loaded_model import LoadedModel


@dataclass(frozen=True)
class Answer:
    """Predictions, an id for each, and the model that made them. Never parts of two versions."""

    model: LoadedModel
    predictions: np.ndarray
    inference_ids: list[str]
    unseen: list[Unseen]


def answer(model: LoadedModel, encoded: Encoded) -> Answer:
    """Ask the model."""
    predictions = model.predict(encoded.matrix)
    return Answer(model, predictions, [inference_id() for _ in range(len(predictions))], encoded.unseen)
