"""tune: looks for better tree parameters on the past of the training window, where that is due, before the fit.

Every act can be repeated: trials are kept as they end, the ledger's row comes last. A kill loses the trial in progress.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING

from evergreen.core import fence
from evergreen.core.evidence import primary_metric
from evergreen.core.ports import LoggedTrial
from evergreen.core.records import Lease, Snapshot, TriggerRequest, TuningResult
from evergreen.core.requested import TUNE
from evergreen.core.tuning import (
    Decision,
    Trial,
    TrialFold,
    TrialState,
    decide,
    declared,
    first_trials,
    folds_of,
    gains,
    is_due,
    seed_of,
    study_name,
    trial_memory_mb,
    workers_of,
)
from evergreen.core.window import window_of
from evergreen.steps.run_trials import Trials

if TYPE_CHECKING:
    from evergreen.core.metrics import Metric
    from evergreen.core.ports import Benches, Ledger, Registry, Studies
    from evergreen.core.read_rows import Read
    from evergreen.core.rows import Rows
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_tuning import Tuning, Value

Draw = Callable[[Sequence["Trial"], "Metric", Mapping[str, float]], Mapping[str, bytes]]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tuner:
    """What tuning needs from outside. Opened only where it is due: it takes a second to import.

    `memory_mb`: what all processes of trials may hold together; `pictures`: draws a study, PNG by path.
    """

    studies: Callable[[], Studies]
    benches: Callable[[], Benches]
    pictures: Callable[[], Draw]
    cores: int
    memory_mb: float


def tune(
    spec: ModelSpec,
    ledger: Ledger,
    read: Read,
    registry: Registry,
    tuner: Tuner | None,
    *,
    request: TriggerRequest,
    snapshot: Snapshot,
    lease: Lease | None,
    now: datetime,
) -> Mapping[str, Value]:
    """The tree parameters to take in place of the spec's own; none where these stay. `read`: rows of the snapshot.

    Not due: those of the last tuning, as long as the spec asks for the same. Raises TrainingRefused where XGBoost does
    not take the spec's own parameters, LeaseLost where another has the model's lease by now.
    """
    tuning = spec.training.tuning
    if tuning is None:
        return {}
    last = ledger.tunings.last(spec.name, declared(spec))
    if tuner is None or not is_due(tuning, last, request_id=request.id, asked=bool(request.detail.get(TUNE)), now=now):
        if last:
            log.info("Not tuned now; the last time, %s: %s", last.at.date(), last.words)
        return last.params if last else {}
    found = _search(spec, ledger, read, tuner, tuning, request, snapshot)
    if found is None:
        return last.params if last else {}
    result = _result(spec, found, request, now)
    fence.check(ledger, lease)
    _record(spec, registry, tuner, found, result, request)
    ledger.tunings.keep(result, lease=lease)
    tuner.studies().forget(f"{spec.name}/", but=found.study)  # what they came to is in the ledger and in MLflow
    return result.params


@dataclass(frozen=True)
class _Found:
    study: str
    metric: Metric
    trials: Sequence[Trial]
    decision: Decision
    importances: Mapping[str, float]


def _search(
    spec: ModelSpec,
    ledger: Ledger,
    read: Read,
    tuner: Tuner,
    tuning: Tuning,
    request: TriggerRequest,
    snapshot: Snapshot,
) -> _Found | None:
    """Run trials until the budget is used; none where nothing can be tuned, which the log tells."""
    bounds, metric = window_of(spec, request, snapshot.as_of), primary_metric(spec)
    rows = read(((bounds.start, bounds.train_end),))
    folds = _with_enough(spec, rows, folds_of(spec, tuning, _first_time(spec, rows, bounds.start), bounds.train_end))
    if not folds:
        log.warning("Not tuned: no stretch of the past has %s rows to score on", spec.window.holdout.min_rows)
        return None
    bins = spec.training.params.get("max_bin", 256)
    each = trial_memory_mb(rows.height, len(spec.features.columns), len(folds), int(bins))
    workers = workers_of(tuning, tuner.cores, each, tuner.memory_mb)
    if not workers:
        log.warning("Not tuned: a trial needs about %s MB of memory, of %s", round(each), round(tuner.memory_mb))
        return None
    name = study_name(spec, snapshot.id, folds)
    last = ledger.tunings.last(spec.name)
    first = first_trials(spec, tuning.searched, last)
    memory = tuner.memory_mb / workers
    with tuner.benches().open(spec, rows, folds, metric, workers=workers, memory_mb=memory) as bench:
        study = tuner.studies().open(name, tuning.searched, first, seed=seed_of(name))
        tuner.pictures()  # imported now, while the processes of the trials still import
        Trials(study, bench, metric, len(folds), tuning).run(workers)
    trials = study.trials()
    decision = decide(metric, trials)
    if decision is None:
        log.warning("Not tuned: the spec's own parameters could not be scored on any stretch of the past")
        return None
    log.info("Tuned by %s trials on %s: %s", len(trials), metric.label, decision.why)
    return _Found(name, metric, trials, decision, study.importances())


def _first_time(spec: ModelSpec, rows: Rows, start: datetime) -> datetime:
    """Of the rows, where the source has less history than the window."""
    for part in rows:
        first: datetime = part[spec.source.event_time].min()  # type: ignore[assignment]
        return max(first, start)
    return start


def _with_enough(spec: ModelSpec, rows: Rows, folds: Sequence[TrialFold]) -> list[TrialFold]:
    """Those that have window.holdout.min_rows rows with a label, to fit on and to score on."""
    import polars as pl

    at, label = pl.col(spec.source.event_time), pl.col(spec.label.column).is_not_null()
    counts = [[0, 0] for _ in folds]
    for part in rows:
        for fold, count in zip(folds, counts, strict=True):
            fitted, ahead = at.is_between(fold.start, fold.cut), (at > fold.after) & (at <= fold.until)
            found = part.select((fitted & label).sum().alias("fitted"), (ahead & label).sum().alias("ahead")).row(0)
            count[0], count[1] = count[0] + found[0], count[1] + found[1]
    least = spec.window.holdout.min_rows
    return [fold for fold, count in zip(folds, counts, strict=True) if min(count) >= least]


# ---------------------------------------------------------------- told


def _result(spec: ModelSpec, found: _Found, request: TriggerRequest, now: datetime) -> TuningResult:
    decision = found.decision
    return TuningResult(
        model=spec.name,
        study=found.study,
        declared=declared(spec),
        request_id=request.id,
        params=decision.params,
        metric=found.metric.label,
        tuned=fmean(decision.best.scores),
        untuned=fmean(decision.untuned.scores),
        trials=len(found.trials),
        at=now,
    )


def _record(
    spec: ModelSpec, registry: Registry, tuner: Tuner, found: _Found, result: TuningResult, request: TriggerRequest
) -> None:
    """Trials as runs below the request's, and on that one the outcome and the pictures."""
    run = registry.start_run(spec.name, request.id, {"evergreen.request": request.id})
    registry.log_trials(run, [_logged(found, trial) for trial in found.trials])
    decision = found.decision
    outcome = {"params": dict(result.params), "words": result.words, "why": decision.why, "study": result.study}
    registry.log(
        run,
        metrics={"tuning.tuned": result.tuned, "tuning.untuned": result.untuned, "tuning.trials": len(found.trials)},
        tags={"evergreen.tuning": result.words, "evergreen.tuning.why": decision.why},
    )
    registry.log_file(run, "tuning/outcome.json", json.dumps(outcome, indent=2).encode())
    for path, picture in tuner.pictures()(found.trials, found.metric, found.importances).items():
        registry.log_file(run, path, picture)


def _logged(found: _Found, trial: Trial) -> LoggedTrial:
    better = gains(found.metric, trial, found.decision.untuned)
    scores = {f"fold_{at + 1}": score for at, score in enumerate(trial.scores)}
    means = {"score": fmean(trial.scores), "gain": fmean(better)} if trial.state is TrialState.COMPLETE else {}
    return LoggedTrial(
        name=f"{found.study.rpartition('/')[2][:12]}-{trial.number:03}",
        params=trial.params,
        metrics={**scores, **means, "seconds": trial.seconds},
        tags={"evergreen.trial": str(trial.kind), "evergreen.trial.state": str(trial.state), **_why(trial)},
        failed=trial.state is TrialState.FAILED,
    )


def _why(trial: Trial) -> dict[str, str]:
    return {"evergreen.trial.why": trial.why} if trial.why else {}
