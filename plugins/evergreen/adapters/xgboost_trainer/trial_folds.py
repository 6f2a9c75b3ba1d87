"""The rows of a trial's folds, binned once for all trials, and a fit on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import xgboost as xgb

from evergreen.adapters.xgboost_trainer.growing import MAX_BIN
from evergreen.adapters.xgboost_trainer.inputs import has_label, inputs_of
from evergreen.adapters.xgboost_trainer.params import balance, params_of, try_params
from evergreen.adapters.xgboost_trainer.parts_iter import Batches, PartsIter
from evergreen.adapters.xgboost_trainer.prepared import prepare
from evergreen.core.errors import TrainingRefused
from evergreen.core.measure import value
from evergreen.core.ports.tuning import FoldScore, TrialLost
from evergreen.core.tuning import tuned_spec

if TYPE_CHECKING:
    from evergreen.core.metrics import Metric
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_tuning import Value
    from evergreen.core.tuning import TrialFold


@dataclass(frozen=True)
class Work:
    """What a process of trials is given once. `folder`: the rows, as Arrow files in order of event time."""

    spec: ModelSpec
    folder: Path
    folds: Sequence[TrialFold]
    metric: Metric
    threads: int

    def rows(self) -> pl.DataFrame:
        """Those with a label."""
        files = sorted(self.folder.glob("*.arrow"))
        return pl.concat([pl.read_ipc(file).filter(has_label(self.spec)) for file in files])


class Fold:
    """One fold. Trees are grown on the older of its fitted rows, stopped by the newest of them, as Trainer.fit does."""

    def __init__(self, work: Work, rows: pl.DataFrame, fold: TrialFold) -> None:
        spec, at = work.spec, pl.col(work.spec.source.event_time)
        self._work = work
        ahead = rows.filter((at > fold.after) & (at <= fold.until))
        prepared = prepare(spec, [rows.filter(at.is_between(fold.start, fold.cut))], None)
        self._classes = prepared.classes
        balanced = balance(spec, prepared.refuse_head(spec))
        self._ours = balanced.params
        head, tail = partial(prepared.between, 0, prepared.cut), partial(prepared.between, prepared.cut, prepared.rows)
        known, bins = prepared.categories, {"max_bin": int(spec.training.params.get("max_bin", MAX_BIN))}
        given: dict[str, Any] = {"enable_categorical": True, "nthread": work.threads, **bins}
        self._head = xgb.QuantileDMatrix(PartsIter(Batches(head, known, balanced.head)), **given)
        self._tail = xgb.QuantileDMatrix(PartsIter(Batches(tail, known, balanced.tail)), ref=self._head, **given)
        self._ahead = xgb.QuantileDMatrix(inputs_of(ahead, known), ref=self._head, **given)
        self._label = _labels(spec, ahead)
        self._one = inputs_of(rows.head(1), known), _labels(spec, rows.head(1))

    def score(self, params: Mapping[str, Value]) -> FoldScore:
        """Fit with these parameters in place of the spec's, and score on the rows ahead."""
        spec = self._work.spec
        rounds = spec.training.rounds
        booster = xgb.train(
            self._params(params),
            self._head,
            num_boost_round=rounds.max,
            evals=[(self._tail, "tail")],
            early_stopping_rounds=rounds.early_stopping,
            verbose_eval=False,
        )
        kept = booster.best_iteration + 1
        said = booster.predict(self._ahead, iteration_range=(0, kept)).astype(np.float64)
        return FoldScore(value(self._work.metric, self._label, said), kept)

    def try_own(self) -> None:
        """One round with the spec's own parameters. Raises TrainingRefused where XGBoost does not take them."""
        try_params(self._work.spec, self._params({}), *self._one)

    def _params(self, tuned: Mapping[str, Value]) -> dict[str, Any]:
        spec = tuned_spec(self._work.spec, tuned)
        return {**params_of(spec, self._classes), **self._ours, "nthread": self._work.threads, "verbosity": 0}


class Folds:
    """All folds, each made when it is first asked for; the bare rows go when the last one was."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._made: dict[int, Fold] = {}

    @cached_property
    def _rows(self) -> pl.DataFrame:
        return self._work.rows()

    def __getitem__(self, at: int) -> Fold:
        """Raises TrialLost for one whose rows nothing can be learned from: those of the whole window may be."""
        if at not in self._made:
            try:
                self._made[at] = Fold(self._work, self._rows, self._work.folds[at])
            except TrainingRefused as refused:
                raise TrialLost(f"fold {at + 1}: {refused}") from refused
            if len(self._made) == len(self._work.folds):
                del self._rows
        return self._made[at]


def _labels(spec: ModelSpec, rows: pl.DataFrame) -> np.ndarray:
    return rows[spec.label.column].cast(pl.Float64).to_numpy()
