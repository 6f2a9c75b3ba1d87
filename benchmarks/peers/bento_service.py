"""A BentoML service with an async endpoint. Reads BENCH_MODEL (file) from the environment."""

from __future__ import annotations

import os

import bentoml
import numpy as np
import xgboost as xgb


@bentoml.service(workers=1)
class Bench:
    """Rows in, numbers out."""

    def __init__(self) -> None:
        self.booster = xgb.Booster(model_file=os.environ["BENCH_MODEL"])

    @bentoml.api
    async def predict(self, rows: list[list[float]]) -> list[float]:
        """One number a row."""
        answers: list[float] = self.booster.inplace_predict(np.array(rows, dtype=np.float32)).tolist()
        return answers
