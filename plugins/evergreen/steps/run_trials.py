"""The trials of a study, within its budget of trials and time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from math import isfinite
from statistics import fmean
from typing import TYPE_CHECKING

from evergreen.core.ports import TrialLost
from evergreen.core.tuning import Trial, TrialKind, TrialState

if TYPE_CHECKING:
    from evergreen.core.metrics import Metric
    from evergreen.core.ports import Bench, Study
    from evergreen.core.spec_tuning import Tuning

LOST_IN_A_ROW = 3  # trials: then it is not their parameters, and tuning is given up
log = logging.getLogger(__name__)


@dataclass
class Trials:
    """Trials one after another, or as many at a time as there are processes, within the budget."""

    study: Study
    bench: Bench
    metric: Metric
    folds: int
    tuning: Tuning
    _lost: int = field(default=0, init=False)
    _until: float = field(default=0.0, init=False)

    def run(self, workers: int) -> None:
        """The untuned one first, by itself: the others are compared with it."""
        before = self.study.trials()
        spent = sum(trial.seconds for trial in before) / workers
        self._until = time.monotonic() + self.tuning.timeout.total_seconds() - spent
        self._lost = 0
        begun = iter(range(self.tuning.trials - len(before)))
        if not any(trial.kind is TrialKind.UNTUNED for trial in before) and next(begun, None) is not None:
            self._one()
        if not any(map(_is_scored_untuned, self.study.trials())):
            return
        if workers == 1:
            return self._more(begun)
        with ThreadPoolExecutor(workers) as threads:
            for ended in [threads.submit(self._more, begun) for _ in range(workers)]:
                ended.result()

    def _more(self, begun: Iterator[int]) -> None:
        while self._lost < LOST_IN_A_ROW and time.monotonic() < self._until and next(begun, None) is not None:
            self._one()

    def _one(self) -> None:
        asked, began = self.study.ask(), time.monotonic()
        ended, gain = self._scored(asked)
        ended = replace(ended, seconds=round(time.monotonic() - began, 3))
        self._lost = self._lost + 1 if ended.state is TrialState.FAILED else 0
        self.study.tell(ended, gain)
        scores = ", ".join(f"{score:.5g}" for score in ended.scores) or ended.why
        log.info("Trial %s (%s): %s, %.1f s, %s", ended.number, ended.kind, ended.state, ended.seconds, scores)

    def _scored(self, trial: Trial) -> tuple[Trial, float | None]:
        untuned = next(filter(_is_scored_untuned, self.study.trials()), None)
        own = untuned.scores if untuned else None
        for at in range(self.folds):
            try:
                found = self.bench.score(trial.params, at)
            except TrialLost as lost:
                return replace(trial, state=TrialState.FAILED, why=str(lost)), None
            trial = replace(trial, scores=(*trial.scores, found.score), rounds=(*trial.rounds, found.rounds))
            if not isfinite(found.score):
                return replace(trial, state=TrialState.FAILED, why=f"no {self.metric.label} on fold {at + 1}"), None
            better = [self.metric.improvement(a, b) for a, b in zip(trial.scores, own or trial.scores, strict=False)]
            over = own is not None and time.monotonic() >= self._until
            hopeless = self.study.is_hopeless(trial, better)
            if at + 1 < self.folds and (over or hopeless):
                return replace(trial, state=TrialState.PRUNED, why="out of time" if over else ""), None
        return replace(trial, state=TrialState.COMPLETE), fmean(better)


def _is_scored_untuned(trial: Trial) -> bool:
    return trial.kind is TrialKind.UNTUNED and trial.state is TrialState.COMPLETE
