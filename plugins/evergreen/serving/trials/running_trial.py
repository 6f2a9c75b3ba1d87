"""One version on trial in one worker: who is answered by it, what happens when it fails, what is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from evergreen.core.records import CHALLENGER, CHAMPION
from evergreen.serving.engine import CANARY, SHADOW, Engine
from evergreen.serving.limits import too_many_rows
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.body import INLINE_BYTES
from evergreen.serving.protocols.endpoint import Asked, Endpoint, Headers
from evergreen.serving.refusals import RequestRefused
from evergreen.serving.state import Trial
from evergreen.serving.trials.guard import Guard
from evergreen.serving.trials.shadow import Copy, Shadow
from evergreen.serving.trials.trial_guard import TrialGuard

LIMIT = 1.0  # seconds that a challenger has for an answer


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
        self._engine, self._metrics = asking.engine, asking.metrics
        self._guard = TrialGuard(guard, challenger, asking.metrics)
        self._max_rows = asking.max_rows
        self._salt, self._share = trial.release.release_id.encode(), trial.weight * 100
        self._shadow = None if trial.weight else Shadow(self._ask_copies, self._dropped)
        work = [self._guard.watch()] + ([self._shadow.run()] if self._shadow else [])
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
            left = LIMIT - _since(begun) / 1000
            answer = await self._engine.ask_aside(self.challenger, asked, CANARY, within=left)
        except RequestRefused as refused:
            elapsed, taken = _since(begun), await self._by_champion(endpoint, champion, body, headers)
            self._guard.refused(refused, CANARY, elapsed)  # by it alone: the champion took the request
            return taken
        except Exception as error:
            self._guard.failed(error, CANARY, _since(begun))
            return await self._by_champion(endpoint, champion, body, headers)
        self._guard.answered(CHALLENGER, _since(begun), answer.predictions)
        return asked, answer

    async def _read(self, endpoint: Endpoint, model: LoadedModel, body: bytes, headers: Headers) -> Asked:
        if len(body) <= INLINE_BYTES:
            asked = endpoint.read(model, body, headers)
        else:
            asked = await asyncio.to_thread(endpoint.read, model, body, headers)
        if len(asked.matrix) > self._max_rows:
            raise too_many_rows(len(asked.matrix), self._max_rows)
        return asked

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
            self._guard.refused(found, SHADOW, milliseconds)
        elif isinstance(found, Exception):
            self._guard.failed(found, SHADOW, milliseconds)
        else:
            self._guard.answered(CHALLENGER, milliseconds, found.predictions)

    def _dropped(self) -> None:
        self._metrics.add("evergreen_shadow_dropped_total", model=self.challenger.name)


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
