"""Studies that are kept, and the processes that fit their trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.metrics import Metric
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_tuning import Space, Value
    from evergreen.core.tuning import Trial, TrialFold, TrialKind


@dataclass(frozen=True)
class FoldScore:
    """What a fit is worth on the fold's later rows (NaN where these rows do not give the metric), and its rounds."""

    score: float
    rounds: int


class TrialLost(Exception):
    """The process that fitted a trial is gone, or held too much memory; or XGBoost refused the parameters; or nothing
    can be learned from the fold's rows."""


class Study(Protocol):
    """One search for better parameters, kept as it goes. One process at a time goes on with it, by many threads."""

    def trials(self) -> list[Trial]:
        """Those that ended, oldest first. One that a killed process left behind is not among them: it is done again."""

    def ask(self) -> Trial:
        """The next trial: the given first ones, what was left behind, then what the sampler thinks best.

        Which one it is depends on the trials that ended before and the seed alone, as long as one runs at a time: a
        study that was killed and gone on with comes to the same trials as one that was not.
        """

    def is_hopeless(self, trial: Trial, gains: Sequence[float]) -> bool:
        """Whether to leave out the trial's other folds, after these gains over the untuned one on its first folds."""

    def tell(self, trial: Trial, gain: float | None) -> None:
        """Keep an ended trial, with its mean gain over the untuned one; none where it has no scores."""

    def importances(self) -> dict[str, float]:
        """By parameter, how much of the differences between trials is due to it; empty where that cannot be told."""


class Studies(Protocol):
    """Studies by name."""

    def open(
        self, name: str, space: Space, first: Sequence[tuple[TrialKind, Mapping[str, Value]]], *, seed: int
    ) -> Study:
        """The study of this name, made if there is none. `first`: what it begins with (core.tuning.first_trials)."""

    def forget(self, begin: str, but: str) -> None:
        """Remove all studies whose name begins so, but this one."""


class Bench(Protocol):
    """Fits trials: `workers` processes that have the rows. Each call needs one of them, and waits for it."""

    def score(self, params: Mapping[str, Value], fold: int) -> FoldScore:
        """Fit on a fold's earlier rows, and score on its later ones. Raises TrialLost; the next call works again.

        Early stopping goes by the newest of the earlier rows, never by those that are scored. Raises TrainingRefused
        where not even the spec's own parameters can be fitted.
        """


class Benches(Protocol):
    """Makes them."""

    def open(
        self,
        spec: ModelSpec,
        rows: Iterable[pl.DataFrame],
        folds: Sequence[TrialFold],
        metric: Metric,
        *,
        workers: int,
        memory_mb: float,
    ) -> AbstractContextManager[Bench]:
        """Processes that end with the `with`, and with this one. Each may hold so much memory (10^6 bytes).

        `rows` are gone through once.
        """
