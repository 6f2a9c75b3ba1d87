"""Brings what is released into the state file: each release as soon as its bundle is here, verified."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from evergreen.core.errors import BundleRefused
from evergreen.core.records import Release
from evergreen.serving.reasons import Reasons, first_line
from evergreen.serving.replica.fetches import Fetches
from evergreen.serving.replica.local_bundles import DiskRefused, LocalBundles
from evergreen.serving.replica.state_file import StateFile
from evergreen.serving.replica.worker_reports import WorkerReports
from evergreen.serving.state import Reason, Released

RETRY = 5.0  # seconds until a refused bundle is fetched again
_log = logging.getLogger(__name__)


class ReleaseFollower:
    """Of one replica. What was released last is brought first, what replaces a version that answers before all else."""

    def __init__(
        self, file: StateFile, bundles: LocalBundles, fetches: Fetches, reports: WorkerReports, reasons: Reasons
    ) -> None:
        self._file, self._bundles, self._fetches = file, bundles, fetches
        self._reports, self._reasons = reports, reasons
        self._retry_at: dict[str, float] = {}  # by release, or by a damaged bundle
        self._wanted: list[Release] = []  # released, and not in the state file
        self._mending: set[str] = set()  # bundles that are damaged here

    def aim(self, released: Iterable[Release]) -> None:
        """What is released now."""
        live, newest = self._file.models, sorted(released, key=lambda release: release.released_at, reverse=True)
        wanted = []
        for release in newest:
            if (entry := live.get(release.model)) is not None and entry.release_id == release.id:
                self._reasons.clear(release.model)
            else:
                wanted.append(release)
        self._wanted = sorted(wanted, key=lambda release: release.model not in live)

    def bundles(self) -> set[str]:
        """Those that are to come."""
        return {release.bundle for release in self._wanted} | self._mending

    def is_waiting(self) -> bool:
        """Whether any of them is to be tried now."""
        return any(self._may_try(release) for release in self._wanted)

    def awaited(self) -> list[str]:
        """Models that nothing answers for yet, and of which no reason is told."""
        told = self._reasons.models()
        live = self._file.models
        return [r.model for r in self._wanted if r.model not in live and r.model not in told]

    def bring(self, patience: float) -> None:
        """Write what is here into the state file. Raises DiskRefused."""
        if not self._wanted:
            return
        self._take([release for release in self._wanted if self._is_here(release)])
        waits = [release.bundle for release in self._wanted if self._may_try(release)]
        if waits and self._fetches.wait(waits, patience):
            self._take([release for release in self._wanted if self._is_here(release)])

    def mend(self, patience: float) -> None:
        """Where a worker refused a bundle because the local copy is damaged: fetch it again. Raises DiskRefused."""
        for name in self._reports.refused() & self._file.models.keys():
            bundle = self._file.models[name].bundle
            is_intact = self._bundles.is_intact(bundle)
            if not is_intact and time.monotonic() >= self._retry_at.get(bundle, 0):
                is_intact = self._is_mended(name, bundle, patience)
            if is_intact and bundle in self._mending:
                self._mending.discard(bundle)
                self._file.write_anew()

    def _is_mended(self, name: str, bundle: str, patience: float) -> bool:
        self._mending.add(bundle)
        try:
            self._fetches.have(bundle, urgent=True)
            return self._fetches.wait([bundle], patience) and self._fetches.have(bundle)
        except Exception as error:
            self._retry_at[bundle] = time.monotonic() + RETRY
            text = f"{name}: its damaged local bundle cannot be fetched again ({first_line(error)})."
            self._reasons.tell(name, Reason(text, model=name))
            return False

    def _may_try(self, release: Release) -> bool:
        return time.monotonic() >= self._retry_at.get(release.id, 0)

    def _is_here(self, release: Release) -> bool:
        """Whether the bundle is here. A way back, which mostly is on the disk, waits for no store and no thread."""
        if not self._may_try(release):
            return False
        is_urgent = release.model in self._file.models
        if is_urgent and self._bundles.is_intact(release.bundle):
            return True
        try:
            return self._fetches.have(release.bundle, urgent=is_urgent)
        except Exception as error:
            self._cannot_fetch(release, error)
            return False

    def _take(self, here: Sequence[Release]) -> None:
        if not here:
            return
        live = self._file.models
        entries = {release.model: self._entry(release, live.get(release.model)) for release in here}
        self._file.change(models={**entries, **{name: old for name, old in live.items() if name not in entries}})
        for release in here:
            self._reasons.clear(release.model)
            _log.info("%s: version %d is to be served (release %s)", release.model, release.version, release.id)
        self._wanted = [release for release in self._wanted if release.model not in entries]

    def _entry(self, release: Release, live: Released | None) -> Released:
        good = self._good(live, release) if live else None
        return Released(release.version, release.id, release.bundle, release.generation, good)

    def _good(self, live: Released, release: Release) -> Released:
        """What to fall back on: the release before, or the one before that if workers refused it."""
        answering = self._reports.answering(release.model)
        refused = any(loaded is not None and loaded.release_id != live.release_id for loaded in answering)
        good = live.previous if refused and live.previous else live
        return Released(good.version, good.release_id, good.bundle, good.generation)

    def _cannot_fetch(self, release: Release, error: Exception) -> None:
        self._retry_at[release.id] = time.monotonic() + RETRY
        live = self._file.models.get(release.model)
        kept = f"version {live.version} goes on answering" if live else "no version answers here"
        if isinstance(error, BundleRefused):
            text = f"{release.model} version {release.version} is refused, {kept}. {error}"
        elif isinstance(error, DiskRefused):
            text = f"{release.model} version {release.version} cannot be kept here, {kept}. {error}"
        else:
            missing = f"the store has no {error}" if isinstance(error, KeyError) else first_line(error)
            text = f"{release.model} version {release.version} cannot be fetched, {kept}: {missing}"
        refused = isinstance(error, BundleRefused | KeyError)
        blocks = live is None or isinstance(error, BundleRefused)
        self._reasons.tell(release.model, Reason(text, model=release.model, blocks=blocks, refused=refused))
