"""Studies in memory."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from threading import Lock

from evergreen.core.ports.tuning import Study
from evergreen.core.spec_tuning import Space, Span, Value
from evergreen.core.tuning import Trial, TrialKind, TrialState


class FakeStudies:
    """Keeps each study's trials in a list. Samples at random, and prunes what is worse than the untuned one by 0.2."""

    def __init__(self) -> None:
        self.kept: dict[str, list[Trial]] = {}

    def open(
        self, name: str, space: Space, first: Sequence[tuple[TrialKind, Mapping[str, Value]]], *, seed: int
    ) -> Study:
        """See Studies."""
        return FakeStudy(self.kept.setdefault(name, []), space, list(first), seed)

    def forget(self, begin: str, but: str) -> None:
        """See Studies."""
        for name in [name for name in self.kept if name.startswith(begin) and name != but]:
            del self.kept[name]


class FakeStudy:
    """Twin of adapters.optuna_studies.OptunaStudy."""

    def __init__(
        self,
        trials: list[Trial],
        space: Space,
        first: Sequence[tuple[TrialKind, Mapping[str, Value]]],
        seed: int,
    ) -> None:
        self._trials, self._space, self._first, self._seed = trials, space, first, seed
        self._running = 0
        self._turn = Lock()

    def trials(self) -> list[Trial]:
        """See Study."""
        return list(self._trials)

    def ask(self) -> Trial:
        """See Study."""
        with self._turn:
            number = len(self._trials) + self._running
            self._running += 1
        if number < len(self._first):
            kind, params = self._first[number]
            return Trial(number, kind, {} if kind is TrialKind.UNTUNED else dict(params))
        draw = random.Random(self._seed + number)  # noqa: S311  (not for cryptography)
        return Trial(number, TrialKind.SAMPLED, {name: _drawn(draw, of) for name, of in sorted(self._space.items())})

    def is_hopeless(self, trial: Trial, gains: Sequence[float]) -> bool:
        """See Study."""
        return trial.kind is not TrialKind.UNTUNED and sum(gains) / len(gains) < -0.2

    def tell(self, trial: Trial, gain: float | None) -> None:
        """See Study."""
        assert (gain is not None) == (trial.state is TrialState.COMPLETE)
        with self._turn:
            self._running -= 1
            self._trials.append(trial)

    def importances(self) -> dict[str, float]:
        """See Study."""
        return {name: 1 / len(self._space) for name in self._space} if len(self._trials) > 1 else {}


def _drawn(draw: random.Random, values: Span | Sequence[Value]) -> Value:
    if not isinstance(values, Span):
        return draw.choice(list(values))
    return draw.randint(int(values.low), int(values.high)) if values.int else draw.uniform(values.low, values.high)
