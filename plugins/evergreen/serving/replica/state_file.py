"""The state file as the supervisor keeps it: after any crash it is the last good one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from evergreen.serving import state as files
from evergreen.serving.replica.local_bundles import DiskRefused, LocalBundles
from evergreen.serving.state import PoolState, Released, Settings, Trial

_log = logging.getLogger(__name__)


class StateFile:
    """What is served, by the file. `coming` names the bundles that will be in it soon."""

    def __init__(self, folder: Path, bundles: LocalBundles, coming: Callable[[], Collection[str]]) -> None:
        self._folder, self._bundles, self._coming = folder, bundles, coming
        self._state = _last(folder / files.STATE)

    @property
    def models(self) -> dict[str, Released]:
        """The releases, the newest first."""
        return self._state.models if self._state else {}

    @property
    def trials(self) -> dict[str, Trial]:
        """What is on trial, by model."""
        return self._state.trials if self._state else {}

    def bundles(self) -> set[str]:
        """All that it names."""
        named = [entry for release in self.models.values() for entry in (release, release.previous) if entry]
        named += [trial.release for trial in self.trials.values()]
        return {entry.bundle for entry in named}

    def change(
        self,
        *,
        models: dict[str, Released] | None = None,
        trials: dict[str, Trial] | None = None,
        settings: dict[str, Settings] | None = None,
    ) -> None:
        """Write these if they differ. Raises DiskRefused; the state before goes on then."""
        given = {"models": models, "trials": trials, "settings": settings}
        before = self._state or PoolState()
        changed = {key: value for key, value in given.items() if value is not None and value != getattr(before, key)}
        if changed:
            self._write(before, changed)

    def write_anew(self) -> None:
        """The same with a higher revision: workers read the bundles again. Raises DiskRefused."""
        self._write(self._state or PoolState(), {})

    def write_first(self) -> None:
        """Where there is none yet, so that workers know that nothing is released. Raises DiskRefused."""
        if self._state is None:
            self._store(PoolState())

    def _write(self, before: PoolState, changed: dict[str, Any]) -> None:
        self._store(replace(before, revision=before.revision + 1, **changed))
        self._bundles.keep_only(self.bundles() | {*self._coming()})

    def _store(self, state: PoolState) -> None:
        try:
            files.write(self._folder / files.STATE, state, durable=True)
        except OSError as error:
            raise DiskRefused(self._folder, error) from error
        self._state = state


def _last(path: Path) -> PoolState | None:
    try:
        return files.read(path, PoolState)
    except ValueError as error:
        _log.error("%s. It is written anew from the ledger", error)
        return None
