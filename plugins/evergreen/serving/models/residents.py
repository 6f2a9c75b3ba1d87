"""The models that a worker has loaded: brought in aside, swapped by one reference, evicted where memory is short."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from evergreen.core.errors import BundleRefused
from evergreen.serving import state as files
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.heap import give_back
from evergreen.serving.models.loaded_model import LoadedModel, load
from evergreen.serving.models.refused import Refused
from evergreen.serving.models.usage import surplus, taken
from evergreen.serving.state import PoolState, Released, Settings

_NOTHING, _DEFAULTS = PoolState(), Settings()
_log = logging.getLogger(__name__)


class Residents:
    """`models` are loaded; `answering` are the releases that answer when they are asked. Both are replaced only.

    `memory` is in bytes. Pinned models, those of which `busy` says that requests are under way, and the one that has
    just come are never evicted.
    """

    def __init__(self, folder: Path, metrics: Metrics, memory: int) -> None:
        self.models: dict[str, LoadedModel] = {}
        self.answering: dict[str, Released] = {}
        self.refused = Refused()
        self._folder, self._metrics, self._memory = folder, metrics, memory
        self._state = _NOTHING
        self._passed: dict[str, str] = {}  # the release that has passed here once, by model
        self._bringing: dict[str, asyncio.Task[LoadedModel | None]] = {}
        self._asked_for: set[str] = set()  # requests wait for these
        self.busy: Callable[[str], bool] = self._asked_for.__contains__  # whether requests are under way
        self._turn = asyncio.Lock()  # of models that requests wait for: one at a time, so that a swap finds a thread
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="loading")

    def aim(self, state: PoolState) -> None:
        """What is to be loaded from now on; models that it does not name are gone at once."""
        self._state = state
        self.refused.keep(state.models)
        self.refused.try_all()
        self._passed = {name: passed for name, passed in self._passed.items() if name in state.models}
        self.answering = {name: release for name, release in self.answering.items() if name in state.models}
        self._replace({name: model for name, model in self.models.items() if name in state.models})
        self._evict(None)  # one that is no longer pinned

    def settings_of(self, name: str) -> Settings:
        """What the model's spec says that serving must know; the defaults where it says nothing."""
        return self._state.settings.get(name, _DEFAULTS)

    def outdated(self, name: str) -> bool:
        """Whether it is to be loaded: no release of it has passed, or another one, or it is pinned and not there."""
        release, proven = self._state.models.get(name), self.answering.get(name)
        if release is None or self.refused.stands(name, release.release_id):
            return False
        missing = name not in self.models and self.settings_of(name).pinned
        return missing or proven is None or proven.release_id != release.release_id

    async def bring(self, name: str, *, asked: bool = False) -> LoadedModel | None:
        """Have the released version loaded (`asked`) or proven; what answers then. One load serves all who ask."""
        if asked:
            self._asked_for.add(name)
        task = self._bringing.get(name)
        if task is None:
            task = self._bringing[name] = asyncio.create_task(self._in_turn(name) if asked else self._brought(name))
            task.add_done_callback(lambda _: self._done(name))
        return await asyncio.shield(task)

    def _done(self, name: str) -> None:
        self._bringing.pop(name, None)
        self._asked_for.discard(name)

    async def _in_turn(self, name: str) -> LoadedModel | None:
        async with self._turn:
            return await self._brought(name)

    async def _brought(self, name: str) -> LoadedModel | None:
        """Load what is to be served, and again if that has changed meanwhile."""
        while (release := self._state.models.get(name)) is not None:
            model = await self._loaded(name, release)
            if self._state.models.get(name) == release:
                return self._took(name, model) if model else self.models.get(name)
        return None

    async def _loaded(self, name: str, release: Released) -> LoadedModel | None:
        """The release; the one before where it is refused and nothing else answers; none where what answers stays."""
        if not self.refused.stands(name, release.release_id) and (model := await self._load(name, release)):
            self.refused.clear(name)
            return model
        had_passed = self._passed.get(name) == release.release_id  # damaged since: the one before is not released now
        if name in self.models or had_passed or release.previous is None:
            return None
        return await self._load(name, release.previous)

    async def _load(self, name: str, release: Released) -> LoadedModel | None:
        folder = self._folder / files.BUNDLES / release.bundle
        try:
            model = await asyncio.get_running_loop().run_in_executor(self._threads, load, folder, name, release)
        except Exception as error:  # whatever a bundle does at loading, the old version goes on
            self._refuse(name, release, error)
            return None
        self._metrics.add("evergreen_model_loads_total", model=name)
        return model

    def _refuse(self, name: str, release: Released, error: Exception) -> None:
        for_good = isinstance(error, BundleRefused)
        if not for_good:
            _log.error("%s: version %d could not be loaded", name, release.version, exc_info=error)
        text = str(error) or repr(error)
        _log.error("%s: version %d refused: %s", name, release.version, text)
        self._metrics.add("evergreen_load_failures_total", model=name)
        if self._state.models.get(name) == release:
            self.refused.add(name, release.release_id, text, for_good=for_good)
        proven = self.answering.get(name)
        if name not in self.models and proven is not None and proven.release_id == release.release_id:
            self.answering = {key: value for key, value in self.answering.items() if key != name}

    # ------------------------------------------------------------ memory

    def _took(self, name: str, model: LoadedModel) -> LoadedModel:
        """It answers from now on. What nobody asked for stays loaded only if there is room."""
        proven = self.answering.get(name)
        if proven is None or proven.release_id != model.release.release_id:
            self.answering = {**self.answering, name: model.release}
            self._passed[name] = model.release.release_id
            self._metrics.add("evergreen_swaps_total", model=name)
            _log.info("%s: version %d answers (release %s)", name, model.release.version, model.release.release_id)
        has_room = taken(self.models) + model.usage.memory <= self._memory
        if has_room or name in self.models or name in self._asked_for or self.settings_of(name).pinned:
            self._keep(name, model)
        return model

    def _keep(self, name: str, model: LoadedModel) -> None:
        before = self.models.get(name)
        model.usage.asked_at = before.usage.asked_at if before else 0.0
        if name in self._asked_for:
            model.usage.asked_at = time.monotonic()
        self._replace({**self.models, name: model})
        self._evict(name)

    def _evict(self, just_come: str | None) -> None:
        def kept(name: str) -> bool:
            return name == just_come or self.settings_of(name).pinned or self.busy(name)

        evicted = surplus(self.models, self._memory, kept)
        if evicted:
            self._replace({name: model for name, model in self.models.items() if name not in evicted})
            for name in evicted:
                self._metrics.add("evergreen_evictions_total", model=name)
            self._threads.submit(give_back)

    def _replace(self, models: dict[str, LoadedModel]) -> None:
        self._metrics.add("evergreen_loaded_models", len(models) - len(self.models))
        self._metrics.add("evergreen_model_memory_bytes", taken(models) - taken(self.models))
        self.models = models
