"""Grows the trees of one fit on all workers of a cluster, each of which reads its share of the rows by itself.

Not by xgboost.dask, which wants Dask's own frames and binds a fit to the addresses of its workers: what it does below
those is two calls of XGBoost's, and they are here. All workers see the same categories, one after another in the same
order, so a cluster of so many workers gives the same trees each time; bins are drawn from sketches of the shares, so
they are not quite those of one process.

Between them XGBoost sends numbers only, unencrypted, and takes them from whoever is told of a port: on several
machines a network of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xgboost as xgb
from xgboost.collective import CommunicatorContext
from xgboost.tracker import RabitTracker

from evergreen.adapters.xgboost_trainer.growing import Fit, History, boosted
from evergreen.adapters.xgboost_trainer.parts_iter import Batches, PartsIter
from evergreen.adapters.xgboost_trainer.shares import Share, share_of
from evergreen.core.ports.cluster import BrokenOff, Place

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports.cluster import Cluster
    from evergreen.core.spec_training import Rounds

Terms = dict[str, Any]
TIMEOUT = 3600  # seconds that a worker waits for the others, who may still read; `place.tell` ends it sooner
_tracker: list[RabitTracker] = []  # of this worker process: lives until the next one


@dataclass(frozen=True)
class Shared:
    """What each worker is given of a fit: no row."""

    fit: Share
    params: Mapping[str, Any]
    rounds: Rounds
    max_bin: int
    head_weights: Mapping[float, float]
    tail_weights: Mapping[float, float]


def grow_by_cluster(cluster: Cluster, fit: Fit, _: Path | None) -> tuple[xgb.Booster, History]:
    """See growing.Grow. Raises ClusterFailed where the cluster does not get it done."""
    if not fit.elsewhere:
        raise ValueError("these rows are in memory only: no other process can read them")
    share = Share(fit.spec, tuple(fit.elsewhere), fit.rows.categories, fit.rows.cut)
    shared = Shared(share, fit.params, fit.rounds, fit.max_bin, fit.head_weights, fit.tail_weights)
    what = f"training of {fit.spec.name}, {fit.rows.rows:,} rows,"
    raw, history = next(filter(None, cluster.together(_begin, partial(_grow, shared), what=what)))
    return xgb.Booster(model_file=bytearray(raw)), history


def _begin(host: str, count: int) -> Terms:
    """Where the workers find each other: https://xgboost.readthedocs.io/en/stable/python/python_api.html (tracker)."""
    tracker = RabitTracker(n_workers=count, host_ip=host, sortby="task")
    tracker.start()
    _tracker[:] = [tracker]
    return dict(tracker.worker_args())


def _grow(shared: Shared, terms: Terms, place: Place) -> tuple[bytes, History] | None:
    """The booster and its curve; they are the same everywhere, so the first worker's are enough."""
    params = {**shared.params, "nthread": place.threads}
    with _together(terms, place):
        head, tail = share_of(shared.fit, place)
        fitted = _matrix(shared, head, shared.head_weights, place)
        held = _matrix(shared, tail, shared.tail_weights, place, ref=fitted)
        booster, history = boosted(params, shared.rounds, fitted, held, [_TellRounds(place.tell)])
    return (bytes(booster.save_raw("ubj")), history) if place.number == 0 else None


def _matrix(
    shared: Shared, frames: Sequence[pl.DataFrame], weights: Mapping[float, float], place: Place, **more: Any
) -> xgb.QuantileDMatrix:
    def told() -> Iterator[pl.DataFrame]:
        for frame in frames:
            place.tell("rows that were binned")
            yield frame

    batches = Batches(told, shared.fit.categories, weights)
    return xgb.QuantileDMatrix(PartsIter(batches), enable_categorical=True, max_bin=shared.max_bin, **more)


@contextmanager
def _together(terms: Terms, place: Place) -> Iterator[None]:
    """XGBoost's communication between the workers. Raises BrokenOff where it ends because another worker did."""
    try:
        with CommunicatorContext(**terms, dmlc_task_id=f"{place.number:06}", dmlc_timeout=TIMEOUT):
            yield
    except xgb.core.XGBoostError as error:
        if "collective" not in str(error):
            raise
        told = [line[2:] for line in str(error).splitlines() if line.startswith("- ")]
        raise BrokenOff(told[0] if told else str(error).splitlines()[0]) from None


class _TellRounds(xgb.callback.TrainingCallback):
    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        self._tell(f"round {epoch + 1}")
        return False
