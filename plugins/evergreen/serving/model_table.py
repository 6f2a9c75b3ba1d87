"""The models of one worker: follows the state file, loads aside, swaps one reference a model."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import msgspec

from evergreen.core.errors import BundleRefused
from evergreen.serving import state as files
from evergreen.serving.callers import KnownCallers
from evergreen.serving.loaded_model import LoadedModel, load
from evergreen.serving.metrics import Metrics
from evergreen.serving.state import PoolState, Reason, Released, Status, WorkerReport

POLL_SECONDS, REPORT_SECONDS = 0.1, 1.0
_log = logging.getLogger(__name__)


class ModelTable:
    """What this worker answers with, and whom (`callers`; none: everyone).

    `models` is read by requests and changed by `apply` alone.
    """

    def __init__(self, folder: Path, slot: str, metrics: Metrics, callers: KnownCallers | None = None) -> None:
        self.models: dict[str, LoadedModel] = {}
        self.metrics, self.slot, self.callers = metrics, slot, callers
        self.state: PoolState | None = None
        self._folder, self._refused = folder, dict[str, str]()
        self._awaited: frozenset[str] = frozenset()  # named by the state file, and not loaded yet
        self._seen: tuple[int, int] | None = None
        self._reported: tuple[float, object] | None = None
        self._unreported = ""  # why the report cannot be written
        self._told: dict[str, str] = {}

    async def follow(self, share_metrics: bool) -> None:
        """Apply every change of the local files, for ever."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.follow_once(share_metrics)

    async def follow_once(self, share_metrics: bool) -> None:
        """Apply what has changed in the local files, and report. Nothing that goes wrong here stops the answers."""
        try:
            if self.callers:
                self.callers.refresh()
        except Exception as error:
            self._tell_once(files.CALLERS, "going on with the callers that are known", error)
        try:
            await self.refresh()
            self.report(share_metrics)
        except Exception as error:
            self._tell_once(files.STATE, "going on with the models that are loaded", error)

    def _tell_once(self, name: str, then: str, error: Exception) -> None:
        """In the log, once for each text: this comes round ten times a second."""
        if self._told.get(name) != repr(error):
            self._told[name] = repr(error)
            _log.error("cannot follow %s; %s", name, then, exc_info=error)

    async def refresh(self) -> None:
        """Apply the state file if it has changed."""
        path = self._folder / files.STATE
        stamp = files.stamp(path)
        if stamp == self._seen:
            return
        state = await asyncio.to_thread(files.read, path, PoolState)
        if state is not None:
            await self.apply(state)
        self._seen = stamp

    async def apply(self, state: PoolState) -> None:
        """Load what is new, then swap; a refused release leaves the version that was live."""
        refused: dict[str, str] = {}
        self._awaited = frozenset(state.models)
        for name, release in state.models.items():
            loaded = self.models.get(name)
            if loaded is None or loaded.release.release_id != release.release_id:
                await self._swap(name, release, refused)
        for name in self.models.keys() - state.models.keys():
            self.models = {key: model for key, model in self.models.items() if key != name}
        self.state, self._refused, self._awaited = state, refused, frozenset()

    async def _swap(self, name: str, release: Released, refused: dict[str, str]) -> None:
        model = await self._load(name, release, refused)
        if model is None and name not in self.models and release.previous:
            model = await self._load(name, release.previous, {})
        if model is not None:
            self.models = {**self.models, name: model}
            self.metrics.add("evergreen_swaps_total", model=name)
            _log.info("%s: version %d answers (release %s)", name, model.release.version, model.release.release_id)

    async def _load(self, name: str, release: Released, refused: dict[str, str]) -> LoadedModel | None:
        folder = self._folder / files.BUNDLES / release.bundle
        try:
            return await asyncio.to_thread(load, folder, name, release)
        except Exception as error:  # whatever a bundle does at loading, the old version goes on
            if not isinstance(error, BundleRefused):
                _log.exception("%s: version %d could not be loaded", name, release.version)
            refused[name] = str(error) or repr(error)
            self.metrics.add("evergreen_load_failures_total", model=name)
            _log.error("%s: version %d refused: %s", name, release.version, refused[name])
            return None

    def report(self, share_metrics: bool) -> None:
        """Tell the supervisor and the other workers what is loaded: at a change at once, else every second."""
        now, current = time.monotonic(), (self.state, self.models, self._refused)
        if self._reported is not None and current == self._reported[1] and now - self._reported[0] < REPORT_SECONDS:
            return
        report = WorkerReport(
            pid=os.getpid(),
            revision=self.state.revision if self.state else 0,
            loaded={name: model.release for name, model in self.models.items()},
            refused=self._refused,
            metrics=self.metrics.families(self.slot) if share_metrics else {},
        )
        self._reported = (now, current)
        try:
            files.write(self._folder / files.WORKERS / f"{self.slot}.json", report)
        except OSError as error:
            if not self._unreported:
                _log.error("the report in %s cannot be written: %s", self._folder, error.strerror)
            self._unreported = str(error.strerror)
        else:
            self._unreported = ""

    def status(self) -> Status:
        """The supervisor's view, as far as it can be read."""
        try:
            return files.read(self._folder / files.STATUS, Status) or Status()
        except (ValueError, OSError) as error:
            return Status(reasons=[Reason(f"{files.STATUS} cannot be read: {error}")])

    def own_reasons(self) -> list[Reason]:
        """Why this worker does not answer as released."""
        told = self.callers.reasons() if self.callers else []
        if self._unreported:
            told.append(Reason(f"A worker cannot write its report to {self._folder}: {self._unreported}."))
        if self.state is None and not self._awaited:
            text = "No list of releases yet: the control ledger has not answered since the first start."
            return [Reason(text, blocks=True), *told]
        reasons = told + [Reason(text, model=name, blocks=True, refused=True) for name, text in self._refused.items()]
        awaited = sorted(self._awaited - self.models.keys() - self._refused.keys())
        return reasons + [Reason(f"{name} is being loaded.", model=name) for name in awaited]

    def others_metrics(self) -> list[dict[str, list[str]]]:
        """What the other workers counted, from their reports."""
        own = f"{self.slot}.json"
        found = []
        for path in sorted((self._folder / files.WORKERS).glob("[0-9]*.json")):
            if path.name != own:
                try:
                    report = files.read(path, WorkerReport)
                except (ValueError, msgspec.MsgspecError):
                    continue
                if report:
                    found.append(report.metrics)
        return found
