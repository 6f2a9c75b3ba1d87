"""`window.train: auto`: which of some training windows would have served best on the past.

Prequential: each is fitted on what lay before a cut and scored on the rows that came after it, at several cuts (Dawid,
"The prequential approach", JRSS A 1984; for data that drift Gama, Sebastião and Rodrigues, "On evaluating stream
learning algorithms", Machine Learning 2013). Of those whose mean score is within one standard error of the best, the
one with the fewest rows is taken (Breiman et al., "Classification and Regression Trees", 1984): it costs less, and what
it would lose is noise.
No row of the holdout is looked at: the candidate is judged on these, and must not have been chosen by them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from evergreen.core.metrics import Metric
from evergreen.core.spec_fields import format_duration

if TYPE_CHECKING:
    from evergreen.core.records import Candidate
    from evergreen.core.spec import ModelSpec
    from evergreen.core.window import Window

Span = tuple[datetime, datetime]  # both ends included
FOLDS, LEAST_FOLDS = 4, 2
MORE = 1.1  # a longer window is another one where it has so many times the rows of the shorter
KEPT_AS = "window"  # in a candidate's made_with: the choice, as text


@dataclass(frozen=True)
class Option:
    """A training window that may be chosen: the newest `length`, and, of `season`, as much as followed so long ago."""

    length: timedelta
    season: timedelta | None = None

    @property
    def name(self) -> str:
        """'30d', '30d+season'."""
        return format_duration(self.length) + ("+season" if self.season else "")

    def spans(self, end: datetime) -> list[Span]:
        """The stretches that it holds of a window that ends then, oldest first; they do not overlap."""
        recent = (end - self.length, end)
        if self.season is None:
            return [recent]
        then = end - self.season
        if then + self.length >= recent[0]:  # a season shorter than twice the length
            return [(then, end)]
        return [(then, then + self.length), recent]


@dataclass(frozen=True)
class Fold:
    """Fitted on rows up to `cut`, whose labels were there at `after`; scored on `after < t <= until`."""

    cut: datetime
    after: datetime
    until: datetime


@dataclass(frozen=True)
class Tried:
    """A window and what came of it: its rows, its score by fold (oldest first), or why it was left out."""

    name: str
    rows: int
    scores: tuple[float, ...] = ()
    left_out: str = ""

    @property
    def mean(self) -> float:
        """NaN where it was not scored."""
        return fmean(self.scores) if self.scores else math.nan


@dataclass(frozen=True)
class Choice:
    """What was chosen, by which metric (its label), among which, and why; `spans` are the rows that are fitted on."""

    chosen: str
    metric: str
    tried: tuple[Tried, ...]
    why: str
    spans: tuple[Span, ...] = ()


# ---------------------------------------------------------------- what is tried, on what


def options(spec: ModelSpec) -> list[Option]:
    """The lengths, the shortest first, then that of the season. One where nothing is to be chosen."""
    plain = [Option(length) for length in spec.window.lengths]
    season = spec.window.season if spec.window.is_auto else None
    return [*plain, Option(plain[0].length, season)] if season else plain


def folds(spec: ModelSpec, end: datetime) -> list[Fold]:
    """Stretches as long as the holdout, one after another up to the end of training, oldest first."""
    stretch, gap = spec.window.holdout.length, spec.label.arrives_after
    ends = [end - number * stretch for number in reversed(range(FOLDS))]
    return [Fold(until - stretch - gap, until - stretch, until) for until in ends]


def reads(spec: ModelSpec, bounds: Window) -> list[Span]:
    """What pull reads of the source: what any window holds that may be chosen, of now or at a cut; oldest first."""
    whole = (bounds.start, bounds.as_of)
    if not spec.window.is_auto:
        return [whole]
    ends = [bounds.train_end, *(fold.cut for fold in folds(spec, bounds.train_end))]
    return _merged([whole, *(span for one in options(spec) for end in ends for span in one.spans(end))])


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


# ---------------------------------------------------------------- the choice


def choose(metric: Metric, tried: Sequence[Tried]) -> Choice:
    """Choose among those that have scores; `tried` in order of preference, where they are as good and as large.

    Folds in which no window has a score are left out, and windows that miss one of the others. Where fewer than two
    windows or two folds are left, it is the plain window with the most rows, and `why` says so.
    """
    scored = [one for one in tried if one.scores]
    many = len(scored[0].scores) if scored else 0
    told = [at for at in range(many) if any(math.isfinite(one.scores[at]) for one in scored)]
    looked = [_looked_at(one, told) for one in tried]
    rivals = [one for one in looked if one.scores]
    if len(rivals) < 2 or len(told) < LEAST_FOLDS:
        return _most(metric, looked, len(told))
    return _of(metric, looked, rivals)


def _looked_at(one: Tried, told: Sequence[int]) -> Tried:
    scores = tuple(one.scores[at] for at in told) if one.scores else ()
    if all(map(math.isfinite, scores)):
        return replace(one, scores=scores)
    return replace(one, scores=(), left_out="what it learned gives no score: it lacks a class that came later")


def _of(metric: Metric, looked: Sequence[Tried], rivals: Sequence[Tried]) -> Choice:
    best = max(rivals, key=lambda one: fmean(_good(metric, one)))
    within = [one for one in rivals if _is_noise(_good(metric, best), _good(metric, one))]
    chosen = min(within, key=lambda one: one.rows)
    many = f"{len(best.scores)} stretches of the past"
    if chosen is best:
        why = f"the best on {many}" if len(within) == 1 else f"the best on {many}, and the smallest of those as good"
    else:
        why = f"the smallest of those that are as good as the best ({best.name}), within one standard error, on {many}"
    return Choice(chosen.name, metric.label, tuple(looked), why)


def _most(metric: Metric, looked: Sequence[Tried], folds: int) -> Choice:
    chosen = max((one for one in looked if "+" not in one.name), key=lambda one: one.rows)
    if folds < LEAST_FOLDS:
        enough = f"fewer than {LEAST_FOLDS} of {FOLDS} stretches of the past have enough rows"
        why = f"too little data to try windows on ({enough})"
    else:
        why = "no other window could be compared with it"
    return Choice(chosen.name, metric.label, tuple(looked), f"{why}: the one with the most rows is taken")


def _good(metric: Metric, one: Tried) -> list[float]:
    """By fold: more is better."""
    return [metric.improvement(score, 0.0) for score in one.scores]


def _is_noise(best: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the mean difference over the folds, on the same rows, is at most its standard error."""
    apart = [a - b for a, b in zip(best, other, strict=True)]
    return fmean(apart) <= stdev(apart) / math.sqrt(len(apart))


# ---------------------------------------------------------------- kept, and told


def as_text(choice: Choice) -> str:
    """As JSON, for the ledger and MLflow; NaN is never among the scores."""
    spans = [[start.isoformat(), end.isoformat()] for start, end in choice.spans]
    return json.dumps({**asdict(choice), "spans": spans}, sort_keys=True)


def of_candidate(candidate: Candidate) -> Choice | None:
    """What was chosen for it; none where its window was given."""
    text = candidate.made_with.get(KEPT_AS)
    return _read(json.loads(text)) if text else None


def _read(kept: Mapping[str, Any]) -> Choice:
    tried = tuple(Tried(**{**one, "scores": tuple(one["scores"])}) for one in kept["tried"])
    spans = tuple((datetime.fromisoformat(start), datetime.fromisoformat(end)) for start, end in kept["spans"])
    return Choice(kept["chosen"], kept["metric"], tried, kept["why"], spans)


def told(choice: Choice) -> str:
    """'window 30d was chosen, the best on 4 stretches of the past (auc 30d 0.712, 90d 0.695; 180d left out: …)'."""
    scores = ", ".join(f"{one.name} {one.mean:.4g}" for one in choice.tried if one.scores)
    left = [f"{one.name} left out: {one.left_out}" for one in choice.tried if one.left_out]
    among = "; ".join([*([f"{choice.metric} {scores}"] if scores else []), *left])
    return f"window {choice.chosen} was chosen: {choice.why}" + (f" ({among})" if among else "")
