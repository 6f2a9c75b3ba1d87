"""Tuning: which stretches of the past trials are scored on, what a trial is, and when the tuned parameters win.

Prequential, never random splits: a fold is fitted on what lay before it and scored on what came then (Dawid, "The
prequential approach", JRSS A 1984; Cerqueira, Torgo and Mozetič, "Evaluating time series forecasting models", Machine
Learning 109 (2020), on why shuffled folds flatter a model of data that drift). No row of the holdout is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from evergreen.core.bundle import canonical_json, sha256
from evergreen.core.evidence import primary_metric
from evergreen.core.spec_tuning import Span, Value, own_value, with_values

if TYPE_CHECKING:
    from evergreen.core.metrics import Metric
    from evergreen.core.records import TuningResult
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_tuning import Space, Tuning

KEPT_AS = "tuned"  # in a candidate's made_with: its tuned parameters, as JSON
_FITTED = 2  # times the length of a scored stretch that the oldest fold has to fit on, at least
_BASE_MB, _ROW_BYTES = 350, 60  # of a process of trials; of a row: label, gradients, answers, XGBoost's own


class TrialState(StrEnum):
    """What became of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"  # so much worse on its first folds that the others were left out
    FAILED = "failed"


class TrialKind(StrEnum):
    """Where a trial's parameters come from."""

    UNTUNED = "untuned"
    LAST = "last best"
    SAMPLED = "sampled"


@dataclass(frozen=True)
class Trial:
    """Parameters, in place of the spec's own, and their score on each fold, oldest first, as far as it came."""

    number: int
    kind: TrialKind
    params: Mapping[str, Value]
    state: TrialState = TrialState.RUNNING
    scores: tuple[float, ...] = ()
    rounds: tuple[int, ...] = ()
    seconds: float = 0.0
    why: str = ""  # it failed


@dataclass(frozen=True)
class TrialFold:
    """Fitted on `start <= t <= cut`, whose labels were there at `after`; scored on `after < t <= until`."""

    start: datetime
    cut: datetime
    after: datetime
    until: datetime


@dataclass(frozen=True)
class Decision:
    """The best trial, whether it wins over the untuned one, and why."""

    untuned: Trial
    best: Trial
    wins: bool
    why: str

    @property
    def params(self) -> Mapping[str, Value]:
        """What takes the place of the spec's own parameters."""
        return self.best.params if self.wins else {}


# ---------------------------------------------------------------- when, and on what


def declared(spec: ModelSpec) -> str:
    """Hash of what of the spec is tuned. While it stays the last tuned parameters may be used."""
    tuning = spec.training.tuning
    assert tuning is not None
    fit = spec.training.model_dump(mode="json", exclude={"tuning", "engine", "device"})
    features = {"columns": spec.features.columns, "categorical": spec.features.categorical}
    facts = {"task": str(spec.task), "label": spec.label.column, "features": features, "fit": fit}
    return sha256(canonical_json({**facts, "space": _plain(tuning.searched), "metric": primary_metric(spec).label}))


def is_due(tuning: Tuning, last: TuningResult | None, *, request_id: str, asked: bool, now: datetime) -> bool:
    """Whether a run tunes. `last` is of the same `declared`; one that this request made already is not made again."""
    if last is None:
        return True
    if last.request_id == request_id:
        return False
    return asked or now - last.at >= tuning.every


def study_name(spec: ModelSpec, snapshot_id: str, folds: Sequence[TrialFold]) -> str:
    """The same for the same model, rows, spec and folds: so it is found again after a kill."""
    stretches = [[moment.isoformat() for moment in vars(fold).values()] for fold in folds]
    facts = {"snapshot": snapshot_id, "declared": declared(spec), "folds": stretches}
    return f"{spec.name}/{sha256(canonical_json(facts))}"


def seed_of(study: str) -> int:
    """A seed for the study of this name, of 31 bits."""
    return int(sha256(study.encode())[:8], 16) >> 1


def folds_of(spec: ModelSpec, tuning: Tuning, start: datetime, end: datetime) -> list[TrialFold]:
    """Stretches one after another up to `end`, oldest first, as long as the holdout, or shorter in a short window."""
    gap, many = spec.label.arrives_after, tuning.folds
    stretch = min(spec.window.holdout.length, (end - start - gap) / (many + _FITTED))
    if stretch <= timedelta(0):
        return []
    ends = [end - number * stretch for number in reversed(range(many))]
    cuts = [until - stretch - gap for until in ends]
    length = cuts[0] - start
    starts = [cut - length if tuning.past == "sliding" else start for cut in cuts]
    return [TrialFold(*times) for times in zip(starts, cuts, (u - stretch for u in ends), ends, strict=True)]


def trial_memory_mb(rows: int, features: int, folds: int, max_bin: int = 256) -> float:
    """What one process of trials holds at most (10^6 bytes): all rows as float32 once, binned rows for each fold."""
    binned = 1 if max_bin <= 256 else 2
    return _BASE_MB + rows * (4 * (features + 2) + folds * (binned * features + _ROW_BYTES)) / 1e6


def workers_of(tuning: Tuning, cores: int, each_mb: float, limit_mb: float) -> int:
    """How many processes of trials run at a time: 0 where not even one fits."""
    return min(tuning.workers, cores, int(limit_mb // each_mb))


def first_trials(spec: ModelSpec, space: Space, last: TuningResult | None) -> list[tuple[TrialKind, dict[str, Value]]]:
    """What every study begins with: the spec's own parameters, then the last best ones where there are any.

    Each with a value for all that is searched, within its bounds: how a sampler sees them.
    """
    own = {name: _within(values, own_value(spec.training.params, name)) for name, values in space.items()}
    found = [(TrialKind.UNTUNED, own)]
    if last and last.params:
        best = {name: _within(values, last.params.get(name, own[name])) for name, values in space.items()}
        found.append((TrialKind.LAST, best))
    return found


def tuned_spec(spec: ModelSpec, params: Mapping[str, Value]) -> ModelSpec:
    """The spec with these parameters in place of its own."""
    if not params:
        return spec
    training = spec.training.model_copy(update={"params": with_values(spec.training.params, params)})
    return spec.model_copy(update={"training": training})


def _within(values: Span | Sequence[Value], value: Value | None) -> Value:
    """The nearest one that may be searched."""
    if not isinstance(values, Span):
        return value if value in values else values[0]  # type: ignore[return-value]
    number = float(value) if isinstance(value, int | float) else values.low
    near = min(max(number, values.low), values.high)
    return int(near) if values.int else near


def _plain(space: Space) -> dict[str, Any]:
    return {name: v.model_dump() if isinstance(v, Span) else list(v) for name, v in space.items()}


# ---------------------------------------------------------------- which parameters win


def gains(metric: Metric, trial: Trial, untuned: Trial) -> list[float]:
    """By fold, as far as the trial came: how much better it is than the untuned one; more is better."""
    return [metric.improvement(mine, own) for mine, own in zip(trial.scores, untuned.scores, strict=False)]


def decide(metric: Metric, trials: Sequence[Trial]) -> Decision | None:
    """Whether the best complete trial wins; none where the untuned one has no scores.

    It wins where its mean gain over the folds is above 0 and above the gain's standard error. The best of many noisy
    means is better than it will be later on, and the folds are few: the one-standard-error rule (Breiman et al.,
    "Classification and Regression Trees", 1984, 3.4.3) leaves what may be noise with the parameters that a person
    chose. With one fold there is no standard error: it wins if it is better.
    """
    whole = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    untuned = next((trial for trial in whole if trial.kind is TrialKind.UNTUNED), None)
    if untuned is None:
        return None
    best = max(whole, key=lambda trial: (fmean(gains(metric, trial, untuned)), -trial.number))
    gain = fmean(gains(metric, best, untuned))
    error = standard_error(gains(metric, best, untuned))
    if best is untuned or gain <= 0:
        return Decision(untuned, untuned, False, "no trial was better than the spec's own parameters")
    told = f"better by {gain:.4g} on average"
    if gain <= error:
        return Decision(untuned, best, False, f"the best trial was {told}, within one standard error ({error:.2g})")
    return Decision(untuned, best, True, f"{told} over {len(best.scores)} folds (standard error {error:.2g})")


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; 0 of one value."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
