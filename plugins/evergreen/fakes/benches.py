"""Trials without processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from evergreen.core.ports.tuning import Bench, FoldScore

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.metrics import Metric
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_tuning import Value
    from evergreen.core.tuning import TrialFold

Worth = Callable[[Mapping[str, "Value"], int], float]  # of parameters on a fold; may raise TrialLost


class FakeBenches:
    """`worth` says what parameters score on a fold. `scored` lists what was asked, `rows` counts what was given."""

    def __init__(self, worth: Worth) -> None:
        self.worth = worth
        self.scored: list[tuple[Mapping[str, Value], int]] = []
        self.opened = self.rows = 0

    @contextmanager
    def open(
        self,
        spec: ModelSpec,
        rows: Iterable[pl.DataFrame],
        folds: Sequence[TrialFold],
        metric: Metric,
        *,
        workers: int,
        memory_mb: float,
    ) -> Iterator[Bench]:
        """See Benches."""
        self.opened += 1
        self.rows = sum(frame.height for frame in rows)
        yield self

    def score(self, params: Mapping[str, Value], fold: int) -> FoldScore:
        """See Bench."""
        self.scored.append((params, fold))
        return FoldScore(self.worth(params, fold), 10)
