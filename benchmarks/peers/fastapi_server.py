"""A server as people write it by hand: FastAPI, a pydantic model of the row, `inplace_predict`.

Reads from the environment: BENCH_MODEL (file), BENCH_FEATURES (their number).
"""

from __future__ import annotations

import os

import numpy as np
import xgboost as xgb
from fastapi import FastAPI
from pydantic import create_model

NAMES = [f"f{number}" for number in range(int(os.environ["BENCH_FEATURES"]))]
Row = create_model("Row", **dict.fromkeys(NAMES, (float | None, ...)))  # type: ignore[call-overload]
booster = xgb.Booster(model_file=os.environ["BENCH_MODEL"])
app = FastAPI()


async def predict(row: Row) -> dict[str, float]:  # type: ignore[valid-type]
    """One row in, one number out."""
    matrix = np.array([[getattr(row, name) for name in NAMES]], dtype=np.float32)
    return {"prediction": float(booster.inplace_predict(matrix)[0])}


predict.__annotations__ = {"row": Row, "return": dict[str, float]}
app.post("/predict")(predict)
