"""A worker's guard of one stage of a trial: counts both arms, and takes the challenger off when the counts say so.

All on the event loop, so without locks; other processes count in slots of their own (serving.guard_file).
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from pathlib import Path

import numpy as np

from evergreen.core.guarding import HARD_FAULTS, Counted, Finding, judge, total
from evergreen.core.records import CHALLENGER, CHAMPION, LATENCY_BOUNDS, TripKind
from evergreen.serving.state import Trial
from evergreen.serving.trials.guard_file import ARM, ARMS, FAULTS, LATENCY, PREDICTIONS, REQUESTS, GuardFile, files_of
from evergreen.serving.trials.latch import latch, latched
from evergreen.serving.trials.prediction_bins import PredictionBins

_log = logging.getLogger(__name__)


class Guard:
    """Of one stage. Raises OSError or ValueError where its counts cannot be kept: then nobody may be asked."""

    def __init__(self, folder: Path, slot: int, trial: Trial, bins: PredictionBins) -> None:
        self._folder, self._release, self._rules, self._bins = folder, trial.release, trial.rules, bins
        self._file = GuardFile(folder, trial.release.release_id, trial.stage)
        first = self._file.slot(slot)
        self._arms = {arm: first + position * ARM for arm, position in ARMS.items()}
        self._earlier, kind = _earlier(folder, trial)
        if kind and not self.tripped:
            self._file.trip(kind)

    @property
    def tripped(self) -> bool:
        """Whether the release is off trial in this replica: looked at for every request."""
        return self._file.cells[1] != 0

    def answered(self, arm: str, milliseconds: float, predictions: np.ndarray) -> None:
        """Count a request that was answered."""
        cells, first = self._file.cells, self._arms[arm]
        cells[first + REQUESTS] += 1
        cells[first + LATENCY + bisect_left(LATENCY_BOUNDS, milliseconds)] += 1
        self._bins.count(predictions, cells, first + PREDICTIONS)

    def failed(self, arm: str, milliseconds: float) -> bool:
        """Count a request that was not; whether it was one too many: then `trip` must follow."""
        cells, first = self._file.cells, self._arms[arm]
        for cell in (REQUESTS, FAULTS, LATENCY + bisect_left(LATENCY_BOUNDS, milliseconds)):
            cells[first + cell] += 1
        return not self.tripped and self._file.counted(CHALLENGER).faults >= HARD_FAULTS

    def finding(self) -> Finding | None:
        """Why the challenger must come off by what all workers of this replica have counted; none: it stays.

        Where all callers are the challenger's, its predictions are held against the champion's of earlier stages.
        """
        champion = total([self._file.counted(CHAMPION), self._earlier])
        return judge(self._rules, self._file.counted(CHALLENGER), champion)

    def trip(self, finding: Finding) -> None:
        """Take the release off trial: all workers of the replica obey at once. `keep` must follow."""
        self._file.trip(finding.kind)

    def keep(self, finding: Finding) -> None:
        """Have it stay so, and told to the ledger. Writes to disk: to be called in a thread."""
        found = latch(self._folder, self._release.release_id, finding.kind, finding.reason)
        text = "version %d (release %s) is off trial: %s"
        _log.error(text, self._release.version, self._release.release_id, found.reason)


def _earlier(folder: Path, trial: Trial) -> tuple[Counted, TripKind | None]:
    """What the champion answered in the release's earlier stages here, and what took the release off already."""
    release_id, champions = trial.release.release_id, []
    found = latched(folder, release_id)
    kind = found.kind if found else None
    for other, stage in files_of(folder):
        if other == release_id and stage != trial.stage:
            file = GuardFile(folder, other, stage)
            champions.append(file.counted(CHAMPION))
            kind = kind or file.tripped
    return total(champions), kind
