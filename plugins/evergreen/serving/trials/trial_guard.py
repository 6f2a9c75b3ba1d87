"""What a trial in one worker tells its guard, and what becomes of what the guard finds."""

from __future__ import annotations

import asyncio
import logging

import numpy as np

from evergreen.core.guarding import Finding
from evergreen.core.records import CHALLENGER
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.refusals import RequestRefused
from evergreen.serving.trials.guard import Guard

LOOK = 0.1  # seconds between two looks at the counts
_log = logging.getLogger(__name__)


class TrialGuard:
    """A guard with its metrics and words in the log. Times are in milliseconds."""

    def __init__(self, guard: Guard, challenger: LoadedModel, metrics: Metrics) -> None:
        self._guard, self._challenger, self._metrics = guard, challenger, metrics
        self._told: set[str] = set()

    @property
    def tripped(self) -> bool:
        """Whether a guard of this replica took the version off."""
        return self._guard.tripped

    def answered(self, arm: str, milliseconds: float, predictions: np.ndarray) -> None:
        """Count an answer."""
        self._guard.answered(arm, milliseconds, predictions)

    def refused(self, refused: RequestRefused, arm: str, milliseconds: float) -> None:
        """A request that the champion took. No fault of the version's: too many wait (429), another was named (404)."""
        if refused.status == 429:
            self._count("overload", arm)
        elif refused.status != 404:
            self.failed(refused, arm, milliseconds)

    def failed(self, error: Exception, arm: str, milliseconds: float) -> None:
        """A fault of the version's; `arm` as in the prediction log."""
        reason = {TimeoutError: "timeout", RequestRefused: "refused"}.get(type(error), "raised")
        self._count(reason, arm)
        if repr(error) not in self._told and len(self._told) < 10:  # a few texts, each once
            self._told.add(repr(error))
            version = self._challenger.release.version
            text = "%s: version %d on trial %s for a request (%s); no caller saw it"
            _log.error(text, self._challenger.name, version, reason, arm, exc_info=error)
        if self._guard.failed(CHALLENGER, milliseconds):
            self._trip(self._guard.finding())

    async def watch(self) -> None:
        """Look at what all workers have counted, until one of them has tripped."""
        while not self.tripped:
            await asyncio.sleep(LOOK)
            try:
                self._trip(self._guard.finding())
            except Exception:
                _log.exception("%s: the guard cannot look at its counts", self._challenger.name)

    def _count(self, reason: str, arm: str) -> None:
        name, version = self._challenger.name, self._challenger.version
        self._metrics.add("evergreen_challenger_failures_total", model=name, version=version, arm=arm, reason=reason)

    def _trip(self, finding: Finding | None) -> None:
        """Hold the version off for all workers of this replica, at once."""
        if finding is None or self.tripped:
            return
        self._guard.trip(finding)
        self._metrics.add("evergreen_guard_trips_total", model=self._challenger.name, reason=finding.kind)
        keeping = asyncio.create_task(asyncio.to_thread(self._guard.keep, finding))
        _KEEPING.add(keeping)  # it must outlive this trial
        keeping.add_done_callback(_KEEPING.discard)


_KEEPING: set[asyncio.Task[None]] = set()
