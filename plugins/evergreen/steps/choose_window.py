"""choose_window: `window.train: auto`, tried on the past of a snapshot, before the fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evergreen.core.errors import TrainingRefused
from evergreen.core.evidence import primary_metric
from evergreen.core.measure import value
from evergreen.core.memory_estimate import FRAME_CELLS
from evergreen.core.sampling import sample
from evergreen.core.window_choice import LEAST_FOLDS, MORE, Choice, Fold, Option, Span, Tried, choose, folds, options

if TYPE_CHECKING:
    from datetime import datetime

    import polars as pl

    from evergreen.core.ports import Trainer
    from evergreen.core.rows import Rows
    from evergreen.core.spec import ModelSpec

MOST_ROWS = 50_000  # of the largest window of a fold that are fitted on; of the others the same share
MOST_SCORED = 50_000  # of a stretch


@dataclass(frozen=True)
class _Trial:
    """A fold with the rows that windows are scored on, and the share of rows that is fitted on."""

    fold: Fold
    ahead: pl.DataFrame
    share: float


def choose_window(spec: ModelSpec, trainer: Trainer, every: Rows, end: datetime) -> Choice:
    """Which of the windows that end at `end` to fit on. The same rows and spec give the same choice.

    `every`: the labelled rows up to `end`, in order of event time, as far back as core.window_choice.reads says;
    later ones are not looked at. Of more than make one frame (core.memory_estimate) some are, and what is told of rows
    is scaled up. Never one with fewer rows than window.holdout.min_rows, unless all have.
    """
    known = options(spec)
    rows = every.some(FRAME_CELLS // len(spec.columns))
    times = every.height / max(rows.height, 1)
    there = [_Trial(fold, _ahead(spec, rows, fold), 1.0) for fold in folds(spec, end)]
    trials = [_with_share(spec, rows, trial, known) for trial in there if _is_enough(spec, rows, trial, known)]
    tried = _tried(spec, trainer, rows, known, trials, end)
    choice = choose(primary_metric(spec), [replace(one, rows=round(one.rows * times)) for one in tried])
    chosen = next(one for one in known if one.name == choice.chosen)
    return replace(choice, spans=tuple(chosen.spans(end)))


def within(spec: ModelSpec, rows: pl.DataFrame, spans: Iterable[Span]) -> pl.DataFrame:
    """The rows of these stretches, in the order they had."""
    import polars as pl

    at = pl.col(spec.source.event_time)
    return rows.filter(pl.any_horizontal(at.is_between(start, end) for start, end in spans))


def _tried(
    spec: ModelSpec,
    trainer: Trainer,
    rows: pl.DataFrame,
    known: Sequence[Option],
    trials: Sequence[_Trial],
    end: datetime,
) -> list[Tried]:
    """Each window with its scores; those that are left out with the reason."""
    found: list[Tried] = []
    for option in known:
        one = Tried(option.name, within(spec, rows, option.spans(end)).height)
        if len(trials) < LEAST_FOLDS:
            found.append(one)
        elif why := _why_not(spec, rows, option, known, trials):
            found.append(replace(one, left_out=why))
        else:
            found.append(_scored(spec, trainer, rows, option, one, trials))
    return found


def _why_not(
    spec: ModelSpec, rows: pl.DataFrame, option: Option, known: Sequence[Option], trials: Sequence[_Trial]
) -> str:
    """Too few rows; or hardly any that the next smaller window does not have."""
    least, cuts = spec.window.holdout.min_rows, [trial.fold.cut for trial in trials]
    fewest = min(within(spec, rows, option.spans(cut)).height for cut in cuts)
    if fewest < least:
        return f"{fewest:,} rows, fewer than window.holdout.min_rows ({least:,})"
    at = known.index(option)
    smaller = known[0] if option.season else known[at - 1] if at else None
    if smaller is None:
        return ""
    here, there = (within(spec, rows, one.spans(cuts[-1])).height for one in (option, smaller))
    return "" if here >= MORE * there else f"the source has next to no more rows for it than for {smaller.name}"


def _scored(
    spec: ModelSpec, trainer: Trainer, rows: pl.DataFrame, option: Option, one: Tried, trials: Sequence[_Trial]
) -> Tried:
    try:
        return replace(one, scores=tuple(_score(spec, trainer, rows, option, trial) for trial in trials))
    except TrainingRefused as error:
        return replace(one, left_out=f"{error.where}: {error.found}")


def _score(spec: ModelSpec, trainer: Trainer, rows: pl.DataFrame, option: Option, trial: _Trial) -> float:
    import polars as pl

    fitted = within(spec, rows, option.spans(trial.fold.cut))
    said = trainer.try_out(spec, sample(fitted, round(fitted.height * trial.share)), trial.ahead)
    return value(primary_metric(spec), trial.ahead[spec.label.column].cast(pl.Float64).to_numpy(), said)


# ---------------------------------------------------------------- folds


def _ahead(spec: ModelSpec, rows: pl.DataFrame, fold: Fold) -> pl.DataFrame:
    import polars as pl

    at = pl.col(spec.source.event_time)
    return sample(rows.filter((at > fold.after) & (at <= fold.until)), MOST_SCORED)


def _is_enough(spec: ModelSpec, rows: pl.DataFrame, trial: _Trial, known: Sequence[Option]) -> bool:
    """Whether there are enough rows to score on, and enough for a window before them."""
    least = spec.window.holdout.min_rows
    before = max(within(spec, rows, one.spans(trial.fold.cut)).height for one in known)
    return trial.ahead.height >= least and before >= least


def _with_share(spec: ModelSpec, rows: pl.DataFrame, trial: _Trial, known: Sequence[Option]) -> _Trial:
    most = max(within(spec, rows, one.spans(trial.fold.cut)).height for one in known)
    return replace(trial, share=min(1.0, MOST_ROWS / most))
