"""Fitting a model, and scoring rows with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.rows import Rows
    from evergreen.core.spec import ModelSpec


@dataclass(frozen=True)
class TrainedModel:
    """A fitted booster as a bundle's files (name → bytes), without the manifest, and what is worth logging."""

    files: Mapping[str, bytes]
    data_end: datetime
    rounds: int
    metrics: Mapping[str, float]
    params: Mapping[str, Any]
    importances: Mapping[str, float]
    history: Mapping[str, Sequence[float]]  # metric by boosting round, on the fitted rows and on the tail
    plots: Mapping[str, bytes] = field(default_factory=dict)  # PNG by artifact path
    engine: str = "local"  # how the rows were held: training.engine, with auto decided


class Trainer(Protocol):
    """Fits a model, and scores rows with one that was fitted."""

    def fit(self, spec: ModelSpec, rows: Rows) -> TrainedModel:
        """Fit on the rows, which are in order of event time; the newest are the early-stopping tail.

        Raises TrainingRefused for one class, an all-null label or a feature of a type that cannot be used, and where
        they would need more memory than there is (core.memory_estimate).
        The same rows and spec give the same files, however they are cut into parts; a cluster's trees (engine dask) are
        its own. Among them is what the monitor measures against: reference.json
        (core.monitoring.reference), and for a regression loss.ubj (`expected_losses`).
        """

    def refit(self, spec: ModelSpec, rows: Rows, rounds: int, files: Mapping[str, bytes]) -> TrainedModel:
        """Fit so many rounds on all of the rows, without a tail. `files`: of the bundle that was judged before.

        Nothing is measured: metrics and history are empty, and reference.json and loss.ubj are those of `files`, whose
        booster had not seen the rows that they tell of. Features and categories are those of the rows. Raises
        TrainingRefused as `fit` does, and for a class that the judged one does not know.
        """

    def try_out(self, spec: ModelSpec, frame: pl.DataFrame, ahead: pl.DataFrame) -> np.ndarray:
        """What a small model, fitted on the frame, answers to the rows of `ahead`: as `predict`. Nothing is kept of it.

        A fraction of what `fit` costs: few rounds, no tail. The same frames and spec give the same answers. Raises
        TrainingRefused as `fit` does.
        """

    def predict(self, files: Mapping[str, bytes], frame: pl.DataFrame) -> np.ndarray:
        """What a bundle's booster answers for each row: shape (rows,), or (rows, classes) for multiclass; float64.

        Uses the features, order and categories of the bundle's own schema, whatever the spec says now. Raises
        NotComparable where the frame lacks one of its columns, has it in a type that cannot be used, or with infinite
        numbers.
        """

    def expected_losses(self, files: Mapping[str, bytes], frame: pl.DataFrame, prediction: np.ndarray) -> np.ndarray:
        """How far off a regression is expected to be on each row: (rows, 2), absolute and squared error; float64.

        `prediction`: what its booster answered, (rows,). The frame needs the features that serving logs. Raises
        NotComparable as predict does, and for a bundle without loss.ubj.
        """
