"""The models of one worker: follows the state file, and loads the most urgent first.

Of many models only those stay loaded that the memory has room for: the others are loaded when they are asked. Each
release is loaded once in any case, so that what a worker acknowledges has passed its golden rows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

from evergreen.serving import state as files
from evergreen.serving.callers import KnownCallers
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.absent import absent
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.models.newer_state import NewerState
from evergreen.serving.models.recent import MOST, RecentModels
from evergreen.serving.models.reports import Reports
from evergreen.serving.models.residents import Residents
from evergreen.serving.reasons import awaited, summed_up
from evergreen.serving.state import PoolState, Reason, Released, Settings

POLL_SECONDS = 0.1
MEMORY = 256_000_000  # bytes of models
_SLICE = 0.1  # seconds of loading between two looks at the state file
_SOON = (3, 0)  # ranks below are not left for later: what they replace answers now, or must be there
_log = logging.getLogger(__name__)


class ModelTable:
    """What this worker answers with, and whom (`callers`; none: everyone). `then` is told each state, after its models.

    `also` have reasons of their own. `draining`: this replica is about to stop, and is not ready for that reason.
    """

    def __init__(
        self, folder: Path, slot: str, metrics: Metrics, callers: KnownCallers | None = None, memory: int = MEMORY
    ) -> None:
        self.metrics, self.slot, self.callers = metrics, slot, callers
        self.reports = Reports(folder, slot, metrics)
        self.state: PoolState | None = None
        self.draining = False
        self.then: list[Callable[[PoolState], Awaitable[None]]] = []
        self.also: list[Callable[[], list[Reason]]] = []
        self._path, self._recent = folder / files.STATE, RecentModels(folder, slot)
        self._newer = NewerState(self._path)
        self._residents = Residents(folder, metrics, memory)
        self._pending: deque[str] = deque()  # to be loaded, most urgent first
        self._seen: tuple[int, int] | None = None
        self._unread = ""  # why the state file cannot be read
        self._told: dict[str, str] = {}

    # ------------------------------------------------------------ for requests

    @property
    def models(self) -> dict[str, LoadedModel]:
        """Those that are loaded now. Replaced, never changed."""
        return self._residents.models

    @property
    def answering(self) -> dict[str, Released]:
        """The releases that answer when they are asked, loaded or not. Replaced, never changed."""
        return self._residents.answering

    def settings_of(self, name: str) -> Settings:
        """What the model's spec says that serving must know."""
        return self._residents.settings_of(name)

    async def awake(self, name: str) -> LoadedModel:
        """The model, loaded now if it is not. Raises RequestRefused: 404, or 503 where it is released."""
        if (model := self.models.get(name)) is not None:
            return model
        if self.state is None or name not in self.state.models:
            raise absent(name, self.reasons_of(name), self.answering)
        model = await self._residents.bring(name, asked=True)
        if model is None:
            raise absent(name, self.reasons_of(name), self.answering)
        return model

    def drain(self) -> None:
        """This replica is about to stop: not ready from now on."""
        self.draining = True

    def keep_while(self, busy: Callable[[str], bool]) -> None:
        """Evict no model of which this says that requests are under way."""
        self._residents.busy = busy

    # ------------------------------------------------------------ following

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
        except Exception as error:
            self._unread = str(error)
            self._tell_once(files.STATE, "going on with what was read last", error)
        await self._work()
        self.report(share_metrics)
        self._recent.keep(self.models)

    def _tell_once(self, name: str, then: str, error: Exception) -> None:
        """In the log, once for each text: this comes round ten times a second."""
        if self._told.get(name) != repr(error):
            self._told[name] = repr(error)
            _log.error("cannot follow %s; %s", name, then, exc_info=error)

    async def refresh(self) -> None:
        """Apply the state file if it has changed. Raises ValueError or OSError if it cannot be read."""
        stamp = files.stamp(self._path)
        if stamp == self._seen and not self._unread:
            return
        self._seen = stamp
        state = await asyncio.to_thread(files.read, self._path, PoolState)
        self._unread = ""
        if state is not None:
            self._newer.applied(stamp)
            await self.apply(state)

    async def apply(self, state: PoolState) -> None:
        """Load what is new, then swap; a refused release leaves the version that was live."""
        recent = self._recent.names() if self.state is None else []
        self.state = state
        self._residents.aim(state)
        ranks = {name: self._rank(name, recent) for name in state.models if self._residents.outdated(name)}
        self._pending = deque(sorted(ranks, key=lambda name: ranks[name]))
        await self._work(at_least=max(MOST, sum(rank < _SOON for rank in ranks.values())))
        for told in self.then:
            await told(state)

    def _rank(self, name: str, recent: list[str]) -> tuple[int, int]:
        """How soon it is to be loaded: what answers now first, what nobody has asked last (in the state's order)."""
        if name in self.models:
            return 0, 0
        if self.settings_of(name).pinned:
            return 1, 0
        if name in self.answering:
            return 2, 0
        return (3, recent.index(name)) if name in recent else (4, 0)

    async def _work(self, at_least: int = 0) -> None:
        """Load what is pending for a while, unless a newer state file may say what is more urgent."""
        self._pending.extend(self._residents.refused.due())
        begun = time.monotonic()
        while self._pending and (at_least > 0 or time.monotonic() - begun < _SLICE):
            if self.models and files.stamp(self._path) != self._seen:
                return
            name = self._pending.popleft()
            if self._residents.outdated(name):
                await self._residents.bring(name)
                at_least -= 1

    # ------------------------------------------------------------ telling

    def report(self, share_metrics: bool) -> None:
        """Tell the supervisor and the other workers what answers here."""
        revision = self.state.revision if self.state else 0
        self.reports.tell(revision, self.answering, self._residents.refused.texts, metrics=share_metrics)

    def own_reasons(self) -> list[Reason]:
        """Why this worker does not answer as released."""
        told = [*self.reports.reasons(), *(self.callers.reasons() if self.callers else [])]
        told += [reason for tell in self.also for reason in tell()]
        if self.draining:
            told.append(Reason("This replica is about to stop.", blocks=True))
        if self._unread:
            told.append(Reason(f"{files.STATE} cannot be read ({self._unread}); going on with what was read last."))
        if self.state is None:
            text = "No list of releases yet: the control ledger has not answered since the first start."
            return [Reason(text, blocks=True), *told]
        refused = self._residents.refused.texts
        told += [Reason(text, model=name, blocks=True, refused=True) for name, text in refused.items()]
        told += summed_up([_just_come(name) for name in sorted(self._newer.models() - self.state.models.keys())])
        return told + summed_up([reason for name in self._pending if (reason := self._pending_reason(name))])

    def reasons_of(self, name: str) -> list[Reason]:
        """Why this replica does not answer as released for one model."""
        status = self.reports.status()  # before the state file, which is written first
        text, pending = self._residents.refused.texts.get(name), self._pending_reason(name)
        told = [Reason(text, model=name, blocks=True, refused=True)] if text else []
        told += [pending] if pending else []
        is_new = self.state is not None and name not in self.state.models and name in self._newer.models()
        told += [_just_come(name)] if is_new else []
        told += [awaited(name)] if name in status.awaited else []
        return told + [reason for reason in status.reasons if reason.model == name]

    def _pending_reason(self, name: str) -> Reason | None:
        if not self._residents.outdated(name) or name in self._residents.refused.texts:
            return None
        blocks = self.settings_of(name).pinned and name not in self.models
        return Reason(f"{name} is being loaded.", model=name, blocks=blocks)


def _just_come(name: str) -> Reason:
    return Reason(f"{name} is released, and this worker is about to read it.", model=name, blocks=True)
