"""Answers whatever waits with one predict call.

A call of the booster costs nearly the same for one row as for eight, so requests that arrive while the loop is busy are
answered together: no window is waited for, and an idle worker answers at once. Each request still gets its own rows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np

from evergreen.serving.answer import Answer
from evergreen.serving.endpoint import Asked
from evergreen.serving.inference_id import inference_ids
from evergreen.serving.limits import Limits, overloaded
from evergreen.serving.loaded_model import LoadedModel
from evergreen.serving.metrics import Metrics
from evergreen.serving.prediction_log import Log, NoLog

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
CHALLENGERS = 8  # threads: so many that hang at a time leave no room for others
INLINE_ROWS = 64  # rows that are answered on the event loop; more would hold up the others
_DRAINED_ROWS = 512  # rows of one predict call on the event loop: some 5 ms
_log = logging.getLogger(__name__)

Done = Callable[[Answer | Exception], None]
_Waiting = tuple[Asked, Done]
_Key = tuple[LoadedModel, str]


class Engine:
    """The models' queues of one worker. All its methods are for the event loop's thread."""

    def __init__(self, metrics: Metrics, log: Log | None = None, limits: Limits | None = None) -> None:
        self._metrics, self._log, self._limits = metrics, log or NoLog(), limits or Limits()
        self._waiting: dict[_Key, list[_Waiting]] = {}
        self._aside: dict[_Key, list[_Waiting]] = {}
        self._asking_aside: dict[_Key, asyncio.Task[None]] = {}
        self._batches = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._challengers = ThreadPoolExecutor(CHALLENGERS, thread_name_prefix="challengers")

    def submit(self, model: LoadedModel, asked: Asked, arm: str, done: Done) -> None:
        """Ask with the others that wait; `done` gets the answer, or what the model raised, in the next round."""
        key = (model, arm)
        if (waiting := self._waiting.get(key)) is not None:
            waiting.append((asked, done))
            return
        self._waiting[key] = [(asked, done)]
        asyncio.get_running_loop().call_soon(self._drain, key)

    async def ask(self, model: LoadedModel, asked: Asked, arm: str = CHAMPION) -> Answer:
        """The answer; many rows are answered in a thread. Raises what the model raises."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if len(asked.matrix) > INLINE_ROWS:
            await self._answer_in(self._batches, (model, arm), [(asked, _resolving(future))])
        else:
            self.submit(model, asked, arm, _resolving(future))
        return await future

    async def ask_aside(self, model: LoadedModel, asked: Asked, arm: str = CANARY) -> Answer:
        """The answer of a challenger, from a thread: a slow one holds up neither the champion nor other challengers.

        Raises RequestRefused (429) where too many wait for it already, and what the model raises.
        """
        key = (model, arm)
        waiting = self._aside.setdefault(key, [])
        if len(waiting) >= self._limits.max_queue:
            raise overloaded(model.name)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting.append((asked, _resolving(future)))
        if key not in self._asking_aside:
            self._asking_aside[key] = asyncio.create_task(self._drain_aside(key))
        return await future

    async def ask_all_aside(
        self, model: LoadedModel, asked: Sequence[Asked], arm: str = SHADOW
    ) -> list[Answer | Exception]:
        """The answers of a challenger to many requests, or what it raised, for each: none of them waits in the loop."""
        found: list[Answer | Exception] = []
        if asked:
            await self._answer_in(self._challengers, (model, arm), [(one, found.append) for one in asked])
        return found

    def close(self) -> None:
        """Let go of the threads."""
        for threads in (self._batches, self._challengers):
            threads.shutdown(wait=False, cancel_futures=True)

    def _drain(self, key: _Key) -> None:
        waiting = self._waiting.pop(key)
        taken, rest = _first_rows(waiting, _DRAINED_ROWS)
        if rest:
            self._waiting[key] = rest
            asyncio.get_running_loop().call_soon(self._drain, key)
        try:
            predictions, ids = _predicted(key[0], taken)
        except Exception as error:
            return self._apart(key, taken, error)
        self._finish(key, taken, predictions, ids)

    async def _drain_aside(self, key: _Key) -> None:
        try:
            while waiting := self._aside.pop(key, None):
                taken, rest = _first_rows(waiting, _DRAINED_ROWS)
                if rest:
                    self._aside[key] = rest
                await self._answer_in(self._challengers, key, taken)
        finally:
            del self._asking_aside[key]

    async def _answer_in(self, threads: Executor, key: _Key, waiting: list[_Waiting]) -> None:
        try:
            loop = asyncio.get_running_loop()
            predictions, ids = await loop.run_in_executor(threads, _predicted, key[0], waiting)
        except Exception as error:
            if len(waiting) == 1:
                return waiting[0][1](error)
            for one in waiting:
                await self._answer_in(threads, key, [one])
            return
        self._finish(key, waiting, predictions, ids)

    def _apart(self, key: _Key, waiting: list[_Waiting], error: Exception) -> None:
        """One by one, so that what one request does to the model is not the others' fault."""
        if len(waiting) == 1:
            return waiting[0][1](error)
        for one in waiting:
            try:
                predictions, ids = _predicted(key[0], [one])
            except Exception as its_own:
                one[1](its_own)
            else:
                self._finish(key, [one], predictions, ids)

    def _finish(self, key: _Key, waiting: list[_Waiting], predictions: np.ndarray, ids: list[str]) -> None:
        """Write down, count, and give everyone their rows."""
        model, arm = key
        model.usage.asked_at = time.monotonic()
        self._log.add(model, arm, [asked for asked, _ in waiting], predictions, ids)
        self._metrics.of(model.name, model.release.version, arm).rows += len(ids)
        begin = 0
        for asked, done in waiting:
            end = begin + len(asked.matrix)
            answer = Answer(model, predictions[begin:end], ids[begin:end], asked.unseen, arm)
            begin = end
            for unseen in asked.unseen:
                self._metrics.add("evergreen_unseen_categories_total", model=model.name, feature=unseen.feature)
            try:
                done(answer)
            except Exception:
                _log.exception("%s: an answer could not be given", model.name)


def _predicted(model: LoadedModel, waiting: Sequence[_Waiting]) -> tuple[np.ndarray, list[str]]:
    matrix = waiting[0][0].matrix if len(waiting) == 1 else np.concatenate([asked.matrix for asked, _ in waiting])
    predictions = model.predict(matrix)
    if len(predictions) != len(matrix):
        raise ValueError(f"{model.name}: {len(predictions)} predictions for {len(matrix)} rows")
    return predictions, inference_ids(len(matrix))


def _first_rows(waiting: list[_Waiting], most: int) -> tuple[list[_Waiting], list[_Waiting]]:
    """The first requests, with about as many rows as this, and the rest."""
    rows = 0
    for position, (asked, _) in enumerate(waiting, 1):
        rows += len(asked.matrix)
        if rows >= most:
            return waiting[:position], waiting[position:]
    return waiting, []


def _resolving(future: asyncio.Future[Answer]) -> Done:
    def done(result: Answer | Exception) -> None:
        if future.done():  # its request was given up
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    return done
