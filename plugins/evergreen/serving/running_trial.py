"""One version on trial in one worker: who is answered by it, what happens when it fails, what is counted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np

from evergreen.core.guarding import Finding
from evergreen.core.records import CHALLENGER, CHAMPION
from evergreen.serving.answer import Answer
from evergreen.serving.endpoint import Asked, Endpoint, Headers
from evergreen.serving.guard import Guard
from evergreen.serving.limits import too_many_rows
from evergreen.serving.loaded_model import LoadedModel
from evergreen.serving.metrics import Metrics
from evergreen.serving.refusals import RequestRefused
from evergreen.serving.shadow import Copy, Shadow
from evergreen.serving.state import Trial

CANARY, SHADOW = "canary", "shadow"  # the challenger's arms in the prediction log
LIMIT = 1.0  # seconds that a challenger has for an answer
LOOK = 0.1  # seconds between two looks at the counts
_INLINE = 16_000  # bytes of body that are read on the event loop; more would hold up the others
_NOT_FINITE = "a prediction is no finite number"
_log = logging.getLogger(__name__)


class Engine(Protocol):
    """What asks models (serving.engine)."""

    async def ask(self, model: LoadedModel, asked: Asked, arm: str = ...) -> Answer:
        """On the event loop, with all that wait."""

    async def ask_aside(self, model: LoadedModel, asked: Asked, arm: str = ...) -> Answer:
        """In a thread of challengers."""

    async def ask_all_aside(
        self, model: LoadedModel, asked: Sequence[Asked], arm: str = ...
    ) -> list[Answer | Exception]:
        """The same of many, none of which waits on its own."""


@dataclass(frozen=True)
class Asking:
    """What all trials of a worker have in common. `max_rows`: of a request."""

    engine: Engine
    metrics: Metrics
    max_rows: int


class RunningTrial:
    """A challenger beside its model's champion, in one stage."""

    def __init__(self, trial: Trial, challenger: LoadedModel, guard: Guard, asking: Asking) -> None:
        self.trial, self.challenger = trial, challenger
        self._guard, self._engine, self._metrics = guard, asking.engine, asking.metrics
        self._max_rows = asking.max_rows
        self._salt, self._share = trial.release.release_id.encode(), trial.weight * 100
        self._shadow = None if trial.weight else Shadow(self._ask_copies, self._dropped)
        self._told: set[str] = set()
        work = [self._watch()] + ([self._shadow.run()] if self._shadow else [])
        self._tasks = {asyncio.create_task(one) for one in work}

    @property
    def tripped(self) -> bool:
        """Whether a guard of this replica took it off."""
        return self._guard.tripped

    def end(self) -> None:
        """Stop looking, and drop the copies that wait. Requests under way are still answered."""
        for task in self._tasks:
            task.cancel()

    async def answer(
        self, endpoint: Endpoint, champion: LoadedModel, body: bytes, headers: Headers, key: str
    ) -> tuple[Asked, Answer]:
        """The challenger's answer for those who are its callers, else and in each failure of it the champion's.

        Raises RequestRefused for what the champion refuses.
        """
        if self.takes(key):
            return await self._by_challenger(endpoint, champion, body, headers)
        begun = time.perf_counter()
        asked, answer = await self._by_champion(endpoint, champion, body, headers)
        self.saw(endpoint, body, headers, begun, answer)
        return asked, answer

    def takes(self, key: str) -> bool:
        """Whether this caller is the challenger's."""
        return takes(self._salt, key, self._share)

    def saw(self, endpoint: Endpoint, body: bytes, headers: Headers, begun: float, answer: Answer) -> None:
        """Count the champion's answer to one of its callers; in shadow the challenger is asked too, later.

        `begun` is on the clock of perf_counter.
        """
        self._guard.answered(CHAMPION, _since(begun), answer.predictions)
        if self._shadow:
            self._shadow.offer(Copy(endpoint, body, headers))

    async def _by_champion(
        self, endpoint: Endpoint, champion: LoadedModel, body: bytes, headers: Headers
    ) -> tuple[Asked, Answer]:
        asked = await self._read(endpoint, champion, body, headers)
        return asked, await self._engine.ask(champion, asked, arm=CHAMPION)

    async def _by_challenger(
        self, endpoint: Endpoint, champion: LoadedModel, body: bytes, headers: Headers
    ) -> tuple[Asked, Answer]:
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(LIMIT):
                asked = await self._read(endpoint, self.challenger, body, headers)
                answer = await self._asked_aside(asked)
        except RequestRefused as refused:
            elapsed, taken = _since(begun), await self._by_champion(endpoint, champion, body, headers)
            self._refused(refused, CANARY, elapsed)  # by it alone: the champion took the request
            return taken
        except Exception as error:
            self._failed(error, CANARY, _since(begun))
            return await self._by_champion(endpoint, champion, body, headers)
        self._guard.answered(CHALLENGER, _since(begun), answer.predictions)
        return asked, answer

    async def _read(self, endpoint: Endpoint, model: LoadedModel, body: bytes, headers: Headers) -> Asked:
        if len(body) <= _INLINE:
            asked = endpoint.read(model, body, headers)
        else:
            asked = await asyncio.to_thread(endpoint.read, model, body, headers)
        if len(asked.matrix) > self._max_rows:
            raise too_many_rows(len(asked.matrix), self._max_rows)
        return asked

    async def _asked_aside(self, asked: Asked) -> Answer:
        answer = await self._engine.ask_aside(self.challenger, asked, arm=CANARY)
        if not np.isfinite(answer.predictions).all():
            raise ValueError(_NOT_FINITE)
        return answer

    # ------------------------------------------------------------ shadow

    async def _ask_copies(self, copies: Sequence[Copy]) -> None:
        """Of requests that the champion has answered, together."""
        begun = time.perf_counter()
        read = await asyncio.to_thread(lambda: [_read_copy(self.challenger, copy) for copy in copies])
        asked = [one for one in read if isinstance(one, Asked)]
        found: list[Answer | Exception] = [one for one in read if isinstance(one, Exception)]
        try:
            async with asyncio.timeout(LIMIT):
                found += await self._engine.ask_all_aside(self.challenger, asked, SHADOW)
        except TimeoutError as error:
            found += [error] * len(asked)
        for one in found:
            self._answered_copy(one, _since(begun))

    def _answered_copy(self, found: Answer | Exception, milliseconds: float) -> None:
        if isinstance(found, RequestRefused):
            self._refused(found, SHADOW, milliseconds)
        elif isinstance(found, Exception):
            self._failed(found, SHADOW, milliseconds)
        elif not np.isfinite(found.predictions).all():
            self._failed(ValueError(_NOT_FINITE), SHADOW, milliseconds)
        else:
            self._guard.answered(CHALLENGER, milliseconds, found.predictions)

    def _dropped(self) -> None:
        self._metrics.add("evergreen_shadow_dropped_total", model=self.challenger.name)

    # ------------------------------------------------------------ guard

    def _refused(self, refused: RequestRefused, arm: str, milliseconds: float) -> None:
        """A request that the champion took. No fault of the version's: too many wait (429), another was named (404)."""
        if refused.status == 429:
            self._count("overload", arm)
        elif refused.status != 404:
            self._failed(refused, arm, milliseconds)

    def _failed(self, error: Exception, arm: str, milliseconds: float) -> None:
        reason = {TimeoutError: "timeout", RequestRefused: "refused"}.get(type(error), "raised")
        self._count(reason, arm)
        if repr(error) not in self._told and len(self._told) < 10:  # a few texts, each once
            self._told.add(repr(error))
            version = self.challenger.release.version
            text = "%s: version %d on trial %s for a request (%s); no caller saw it"
            _log.error(text, self.challenger.name, version, reason, arm, exc_info=error)
        if self._guard.failed(CHALLENGER, milliseconds):
            self._trip(self._guard.finding())

    def _count(self, reason: str, arm: str) -> None:
        name, version = self.challenger.name, str(self.challenger.release.version)
        self._metrics.add("evergreen_challenger_failures_total", model=name, version=version, arm=arm, reason=reason)

    async def _watch(self) -> None:
        """Look at what all workers have counted, until one of them has tripped."""
        while not self.tripped:
            await asyncio.sleep(LOOK)
            try:
                self._trip(self._guard.finding())
            except Exception:
                _log.exception("%s: the guard cannot look at its counts", self.challenger.name)

    def _trip(self, finding: Finding | None) -> None:
        """Hold the version off for all workers of this replica, at once."""
        if finding is None or self.tripped:
            return
        self._guard.trip(finding)
        self._metrics.add("evergreen_guard_trips_total", model=self.challenger.name, reason=finding.kind)
        keeping = asyncio.create_task(asyncio.to_thread(self._guard.keep, finding))
        _KEEPING.add(keeping)  # it must outlive this trial
        keeping.add_done_callback(_KEEPING.discard)


_KEEPING: set[asyncio.Task[None]] = set()


def takes(salt: bytes, key: str, share: int) -> bool:
    """Whether a caller is among `share` of 10,000: always the same ones, and who is in at 5 % is in at 25 %."""
    if not share:
        return False
    found = int.from_bytes(blake2b(key.encode(), digest_size=8, key=salt[:64]).digest(), "big")
    return found % 10_000 < share


def _read_copy(challenger: LoadedModel, copy: Copy) -> Asked | Exception:
    time.sleep(0)  # let the event loop have the interpreter between two of them
    try:
        return copy.endpoint.read(challenger, copy.body, copy.headers)
    except Exception as error:
        return error


def _since(begun: float) -> float:
    """Milliseconds."""
    return (time.perf_counter() - begun) * 1000
