"""The versions on trial in one worker: follows the state file, loads challengers aside, forgets those that ended."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from evergreen.core import bundle as bundles
from evergreen.core.records import TripKind
from evergreen.serving import state as files
from evergreen.serving.models.faulty import as_ordered
from evergreen.serving.models.loaded_model import LoadedModel, load
from evergreen.serving.state import PoolState, Reason, Released, Trial
from evergreen.serving.trials.guard import Guard
from evergreen.serving.trials.latch import latch, latched
from evergreen.serving.trials.prediction_bins import PredictionBins
from evergreen.serving.trials.running_trial import Asking, RunningTrial

RETRY = 5.0  # seconds
_log = logging.getLogger(__name__)


class Trials:
    """What `of` tells to each request. Whatever goes wrong here, the champion answers."""

    def __init__(self, folder: Path, slot: str, asking: Asking) -> None:
        self._folder, self._slot, self._asking = folder, int(slot), asking
        self._running: dict[str, RunningTrial] = {}
        self._bins: dict[str, PredictionBins] = {}  # by the champion's bundle, of the running trials
        self._unguarded: dict[str, str] = {}  # model → why its trial does not run here
        self._applying = asyncio.Lock()
        self._retry: asyncio.Task[None] | None = None

    def of(self, name: str) -> RunningTrial | None:
        """The model's trial; none, as mostly: the champion answers everyone."""
        running = self._running.get(name)
        return running if running is not None and not running.tripped else None

    async def apply(self, state: PoolState) -> None:
        """Begin, go on to another stage, and forget, as the state says."""
        async with self._applying:
            self._unguarded = {}
            for name, trial in state.trials.items():
                await self._follow(name, trial, state.models.get(name))
            for name in self._running.keys() - state.trials.keys():
                self._end(name)
            used = {champion.bundle for name in self._running if (champion := state.models.get(name))}
            self._bins = {bundle: bins for bundle, bins in self._bins.items() if bundle in used}
        if self._retry:
            self._retry.cancel()
        self._retry = asyncio.create_task(self._again(state)) if self._unguarded else None

    def reasons(self) -> list[Reason]:
        """Why trials do not run in this worker."""
        return [Reason(text, model=name) for name, text in self._unguarded.items()]

    async def _again(self, state: PoolState) -> None:
        await asyncio.sleep(RETRY)
        self._retry = None
        await self.apply(state)

    async def _follow(self, name: str, trial: Trial, champion: Released | None) -> None:
        running = self._running.get(name)
        if running and running.trial == trial:
            return
        if trial.tripped or champion is None or latched(self._folder, trial.release.release_id):
            return self._end(name)
        if running and running.trial.release == trial.release:
            challenger: LoadedModel | None = running.challenger
        else:
            challenger = await self._load(name, trial.release)
        if challenger is not None:
            await self._begin(name, trial, challenger, champion)
        return None

    async def _load(self, name: str, release: Released) -> LoadedModel | None:
        """The challenger, its golden rows passed; one that cannot be loaded is off trial."""
        folder = self._folder / files.BUNDLES / release.bundle
        try:
            return as_ordered(await asyncio.to_thread(load, folder, name, release))
        except Exception as error:
            self._asking.metrics.add("evergreen_load_failures_total", model=name)
            reason = f"it cannot be loaded: {error or repr(error)}"
            _log.exception("%s: version %d on trial %s", name, release.version, reason)
            await asyncio.to_thread(latch, self._folder, release.release_id, TripKind.FAULTS, reason)
            return None

    async def _begin(self, name: str, trial: Trial, challenger: LoadedModel, champion: Released) -> None:
        """A version that cannot be guarded answers nobody."""
        self._end(name)
        try:
            if champion.bundle not in self._bins:
                golden = await asyncio.to_thread(_golden, self._folder / files.BUNDLES / champion.bundle)
                self._bins[champion.bundle] = PredictionBins(golden)
            guard = Guard(self._folder, self._slot, trial, self._bins[champion.bundle])
        except (OSError, ValueError) as error:
            text = f"{name} version {trial.release.version} is not tried in a worker, which cannot count: {error}"
            self._unguarded[name] = text
            return _log.error("%s. The champion answers; tried again in %.0f s", text, RETRY)
        self._running[name] = RunningTrial(trial, challenger, guard, self._asking)
        text = "%s: version %d is on trial, %s (release %s)"
        return _log.info(text, name, trial.release.version, trial.stage, trial.release.release_id)

    def _end(self, name: str) -> None:
        if running := self._running.pop(name, None):
            running.end()


def _golden(folder: Path) -> list[object]:
    found: list[object] = json.loads((folder / bundles.GOLDEN).read_bytes())["predictions"]
    return found
