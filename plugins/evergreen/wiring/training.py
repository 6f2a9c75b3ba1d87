"""What makes a candidate, and draws what is to be shown of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xgboost import Booster

    from evergreen.adapters.xgboost_trainer.growing import Fit, Grow, History
    from evergreen.core.evidence import Evidence
    from evergreen.core.ports import Benches, Store, Studies, Trainer, Validator
    from evergreen.core.replayed import Replayed
    from evergreen.steps.tune import Draw, Tuner
    from evergreen.wiring.settings import Settings

TUNING_ITSELF_MB = 500  # what the process that asks for trials holds, beside them


def validator(store: Store, memory_mb: float) -> Validator:
    """Great Expectations, with DuckDB for what is asked of a window as a whole; `store` keeps what it found."""
    from evergreen.adapters.duckdb_window import DuckdbWindow
    from evergreen.adapters.gx_validator import GxValidator

    return GxValidator(store, DuckdbWindow(), memory_mb)


def trainer(settings: Settings | None = None, *, pictures: bool = True) -> Trainer:
    """XGBoost, with scikit-learn's metrics and matplotlib's pictures; these take longer than a small fit.

    Rows that do not stay in memory lie in home meanwhile; without settings, where temporary files do.
    """
    from evergreen.adapters.calibration import calibrate
    from evergreen.adapters.sklearn_metrics import measure
    from evergreen.adapters.training_plots import draw
    from evergreen.adapters.xgboost_trainer import ENGINES, XGBoostTrainer

    pictured = draw if pictures else lambda *_: {}
    if settings is None:
        return XGBoostTrainer(measure, pictured, calibrate)
    limit, folder = settings.training_memory_mb, settings.home / "training"
    engines = {**ENGINES, "dask": _by_dask(settings)}
    return XGBoostTrainer(measure, pictured, calibrate, limit_mb=limit, folder=folder, engines=engines)


def _by_dask(settings: Settings) -> Grow:
    """Dask is imported where a spec asks for it: it takes a third of a second."""

    def grow(fit: Fit, folder: Path | None) -> tuple[Booster, History]:
        from evergreen.adapters.dask_cluster import DaskCluster
        from evergreen.adapters.xgboost_trainer.by_cluster import grow_by_cluster

        address = settings.dask_scheduler
        cluster = DaskCluster.at(address) if address else DaskCluster.here(memory_mb=settings.training_memory_mb)
        return grow_by_cluster(cluster, fit, folder)

    return grow


def tuner(settings: Settings) -> Tuner:
    """Optuna in the ledger's database, and processes that train with XGBoost; opened where a tuning is due."""
    from evergreen.steps.tune import Tuner

    @cache
    def studies() -> Studies:
        from evergreen.adapters.optuna_studies import OptunaStudies

        return OptunaStudies(settings.ledger_url)

    def benches() -> Benches:
        from evergreen.adapters.xgboost_trainer.trial_bench import TrialBenches

        return TrialBenches(settings.home / "training")

    def pictures() -> Draw:
        from evergreen.adapters import tuning_plots

        return tuning_plots.draw

    left = settings.training_memory_mb - TUNING_ITSELF_MB
    return Tuner(studies, benches, pictures, cores=len(os.sched_getaffinity(0)), memory_mb=max(left, 1))


def evidence_charts() -> Callable[[Evidence], Mapping[str, bytes]]:
    """The charts of a candidate's evidence, SVG by file name, with matplotlib."""
    from evergreen.adapters.evidence_charts import draw

    return draw


def replay_chart() -> Callable[[Replayed], bytes]:
    """The chart of a replay, PNG, with matplotlib."""
    from evergreen.adapters.replay_chart import draw

    return draw
