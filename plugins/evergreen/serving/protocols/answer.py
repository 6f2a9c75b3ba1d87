"""What a model answered to one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evergreen.serving.models.encoder import Unseen
from evergreen.serving.models.loaded_model import LoadedModel


@dataclass(slots=True)
class Answer:
    """Predictions, an id for each, and the model that made them. Never parts of two versions.

    `arm` is who that model was to the caller: champion, canary or shadow.
    """

    model: LoadedModel
    predictions: np.ndarray
    inference_ids: list[str]
    unseen: Sequence[Unseen]
    arm: str = "champion"
