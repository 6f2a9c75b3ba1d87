"""Grows the trees of one fit, with its rows in memory or in files beside it.

Both ways see the same pieces in the same order, and give the same trees, bit by bit (a contract test).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xgboost as xgb

from evergreen.adapters.xgboost_trainer.parts_iter import Batches, PartsIter
from evergreen.adapters.xgboost_trainer.prepared import Prepared

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_training import Rounds

History = dict[str, dict[str, list[float]]]  # by rows and metric, a value for each round
FITTED, TAIL = "fitted", "tail"  # the names of the rows in it
MAX_BIN = 256  # XGBoost's default


@dataclass(frozen=True)
class Fit:
    """What one booster is grown of. `head_weights` and `tail_weights`: by class, on top of the rows' own.

    `whole`: of all rows, exactly `rounds.max` rounds. There is no tail.
    """

    params: Mapping[str, Any]
    rounds: Rounds
    rows: Prepared
    head_weights: Mapping[float, float]
    tail_weights: Mapping[float, float]
    spec: ModelSpec
    elsewhere: Sequence[Callable[[], pl.DataFrame]] = ()  # see core.rows.Rows: the same rows for other processes
    whole: bool = False

    @property
    def head(self) -> Batches:
        """The rows on which trees are grown: the older ones, or all."""
        end = self.rows.rows if self.whole else self.rows.cut
        return Batches(partial(self.rows.between, 0, end), self.rows.categories, self.head_weights)

    @property
    def tail(self) -> Batches:
        """The newest rows, which choose how many trees are kept."""
        rows = self.rows
        return Batches(partial(rows.between, rows.cut, rows.rows), rows.categories, self.tail_weights)

    @property
    def max_bin(self) -> int:
        """How finely numbers are told apart."""
        return int(self.params.get("max_bin", MAX_BIN))


Grow = Callable[[Fit, Path | None], tuple[xgb.Booster, History]]


def grow_local(fit: Fit, _: Path | None) -> tuple[xgb.Booster, History]:
    """With binned rows in memory: about a byte a value."""
    fitted = xgb.QuantileDMatrix(PartsIter(fit.head), enable_categorical=True, max_bin=fit.max_bin)
    if fit.whole:
        return boosted_whole(fit, fitted)
    held = xgb.QuantileDMatrix(PartsIter(fit.tail), ref=fitted, enable_categorical=True, max_bin=fit.max_bin)
    return boosted(fit.params, fit.rounds, fitted, held)


def grow_external(fit: Fit, folder: Path | None) -> tuple[xgb.Booster, History]:
    """With binned rows in files of the folder, read anew for each level of a tree: in memory are label, gradients and
    answer of each row."""
    if folder is None:
        raise ValueError("external memory needs a folder for its cache")
    fitted = xgb.ExtMemQuantileDMatrix(
        PartsIter(fit.head, folder / FITTED), enable_categorical=True, max_bin=fit.max_bin
    )
    if fit.whole:
        return boosted_whole(fit, fitted)
    held = xgb.ExtMemQuantileDMatrix(
        PartsIter(fit.tail, folder / TAIL), ref=fitted, enable_categorical=True, max_bin=fit.max_bin
    )
    return boosted(fit.params, fit.rounds, fitted, held)


def boosted(
    params: Mapping[str, Any],
    rounds: Rounds,
    fitted: xgb.DMatrix,
    held: xgb.DMatrix,
    callbacks: Sequence[xgb.callback.TrainingCallback] = (),
) -> tuple[xgb.Booster, History]:
    """The trees up to the round that was best on the tail, and the curve of all rounds."""
    history: History = {}
    booster = xgb.train(
        dict(params),
        fitted,
        num_boost_round=rounds.max,
        evals=[(fitted, FITTED), (held, TAIL)],  # early stopping goes by the last one
        early_stopping_rounds=rounds.early_stopping,
        evals_result=history,  # type: ignore[arg-type]
        verbose_eval=False,
        callbacks=list(callbacks),
    )
    return booster[: booster.best_iteration + 1], history  # predict would use every tree


def boosted_whole(fit: Fit, fitted: xgb.DMatrix) -> tuple[xgb.Booster, History]:
    """All rounds, and no curve: there are no rows that could say how it went."""
    return xgb.train(dict(fit.params), fitted, num_boost_round=fit.rounds.max), {}
