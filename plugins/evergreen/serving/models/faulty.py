"""A version with a fault to order (evergreen.faults), for tests of the guard and drills of a rollback."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evergreen import faults
from evergreen.serving.models.booster import Booster
from evergreen.serving.models.loaded_model import LoadedModel


@dataclass(frozen=True)
class _FaultyBooster:
    booster: Booster
    answer: faults.Predict

    def features(self) -> list[tuple[str, str]]:
        return self.booster.features()

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        answer: np.ndarray = self.answer(matrix)
        return answer


def as_ordered(model: LoadedModel) -> LoadedModel:
    """The model itself, unless EVERGREEN_FAULT names its version. To be asked once it has passed its golden rows."""
    ordered = faults.of_version(model.name, model.release.version, model.booster.predict)
    if ordered == model.booster.predict:
        return model
    return replace(model, booster=_FaultyBooster(model.booster, ordered))
