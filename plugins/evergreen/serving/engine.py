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

from evergreen.core.records import CHAMPION
from evergreen.serving.inference_id import inference_ids
from evergreen.serving.limits import Limits, overloaded
from evergreen.serving.log.answer_log import Log, NoLog
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.endpoint import Asked

CANARY, SHADOW = "canary", "shadow"  # a challenger's arms in the prediction log
CHALLENGERS = 8  # threads: so many that hang at a time leave no room for others
INLINE_ROWS = 64  # rows that are answered on the event loop; more would hold up the others
_DRAINED_ROWS = 512  # rows of one predict call on the event loop: some 5 ms
_log = logging.getLogger(__name__)

Done = Callable[[Answer | Exception], None]
_Future = asyncio.Future[Answer]
_Waiting = tuple[Asked, Done, _Future | None]  # a future that is done before its answer: its caller has given up
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
        self._wait((model, arm), (asked, done, None))

    async def ask(self, model: LoadedModel, asked: Asked, arm: str = CHAMPION) -> Answer:
        """The answer; many rows are answered in a thread. Raises what the model raises."""
        future: _Future = asyncio.get_running_loop().create_future()
        one = (asked, _resolving(future), future)
        if len(asked.matrix) > INLINE_ROWS:
            await self._answer_in(self._batches, (model, arm), [one])
        else:
            self._wait((model, arm), one)
        return await future

    async def ask_aside(self, model: LoadedModel, asked: Asked, arm: str = CANARY, *, within: float) -> Answer:
        """The answer of a challenger, from a thread: a slow one holds up neither the champion nor other challengers.

        An answer that takes longer than `within` seconds, or is no finite number, is neither logged nor counted: its
        caller gets the champion's. Raises TimeoutError then, or ValueError; RequestRefused (429) where too many wait
        for the challenger already; and what the model raises.
        """
        key = (model, arm)
        waiting = self._aside.setdefault(key, [])
        if len(waiting) >= self._limits.max_queue:
            raise overloaded(model.name)
        future: _Future = asyncio.get_running_loop().create_future()
        waiting.append((asked, _resolving(future), future))
        if key not in self._asking_aside:
            self._asking_aside[key] = asyncio.create_task(self._drain_aside(key))
        try:
            await asyncio.wait([future], timeout=within)  # what is there then is taken, else it is given up: no third
            if not future.done():
                raise TimeoutError(f"{model.name}: no answer within {within:.3g} s")
            return future.result()
        finally:
            future.cancel()

    async def ask_all_aside(
        self, model: LoadedModel, asked: Sequence[Asked], arm: str = SHADOW
    ) -> list[Answer | Exception]:
        """The answers of a challenger to many requests, or what it raised, for each: none of them waits in the loop."""
        found: list[Answer | Exception] = []
        if asked:
            await self._answer_in(self._challengers, (model, arm), [(one, found.append, None) for one in asked])
        return found

    def close(self) -> None:
        """Let go of the threads."""
        for threads in (self._batches, self._challengers):
            threads.shutdown(wait=False, cancel_futures=True)

    def _wait(self, key: _Key, one: _Waiting) -> None:
        if (waiting := self._waiting.get(key)) is not None:
            waiting.append(one)
            return
        self._waiting[key] = [one]
        asyncio.get_running_loop().call_soon(self._drain, key)

    def _drain(self, key: _Key) -> None:
        waiting = self._waiting.pop(key)
        taken, rest = _first_rows(waiting, _DRAINED_ROWS)
        if rest:
            self._waiting[key] = rest
            asyncio.get_running_loop().call_soon(self._drain, key)
        try:
            predictions, ids = _predicted(key, taken)
        except Exception as error:
            return self._apart(key, taken, error)
        self._finish(key, taken, predictions, ids)

    async def _drain_aside(self, key: _Key) -> None:
        try:
            while waiting := self._aside.pop(key, None):
                taken, rest = _first_rows(waiting, _DRAINED_ROWS)
                if rest:
                    self._aside[key] = rest
                if wanted := [one for one in taken if not _given_up(one)]:
                    await self._answer_in(self._challengers, key, wanted)
        finally:
            del self._asking_aside[key]

    async def _answer_in(self, threads: Executor, key: _Key, waiting: list[_Waiting]) -> None:
        try:
            loop = asyncio.get_running_loop()
            predictions, ids = await loop.run_in_executor(threads, _predicted, key, waiting)
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
                predictions, ids = _predicted(key, [one])
            except Exception as its_own:
                one[1](its_own)
            else:
                self._finish(key, [one], predictions, ids)

    def _finish(self, key: _Key, waiting: list[_Waiting], predictions: np.ndarray, ids: list[str]) -> None:
        """Write down, count, and give everyone their rows."""
        model, arm = key
        model.usage.asked_at = time.monotonic()
        if any(map(_given_up, waiting)):
            waiting, predictions, ids = _wanted(waiting, predictions, ids)
            if not waiting:
                return
        self._log.add(model, arm, [asked for asked, _, _ in waiting], predictions, ids)
        self._metrics.of(model.name, model.release.version, arm).rows += len(ids)
        begin = 0
        for asked, done, _ in waiting:
            end = begin + len(asked.matrix)
            answer = Answer(model, predictions[begin:end], ids[begin:end], asked.unseen, arm)
            begin = end
            for unseen in asked.unseen:
                self._metrics.add("evergreen_unseen_categories_total", model=model.name, feature=unseen.feature)
            try:
                done(answer)
            except Exception:
                _log.exception("%s: an answer could not be given", model.name)


def _predicted(key: _Key, waiting: Sequence[_Waiting]) -> tuple[np.ndarray, list[str]]:
    """Predictions and inference ids of all rows. Of a challenger they are finite: else the champion answers."""
    model, arm = key
    matrix = waiting[0][0].matrix if len(waiting) == 1 else np.concatenate([asked.matrix for asked, _, _ in waiting])
    predictions = model.predict(matrix)
    if len(predictions) != len(matrix):
        raise ValueError(f"{model.name}: {len(predictions)} predictions for {len(matrix)} rows")
    if arm != CHAMPION and not np.isfinite(predictions).all():
        raise ValueError(f"{model.name}: a prediction is no finite number")
    return predictions, inference_ids(len(matrix))


def _given_up(one: _Waiting) -> bool:
    return one[2] is not None and one[2].done()


def _wanted(
    waiting: list[_Waiting], predictions: np.ndarray, ids: list[str]
) -> tuple[list[_Waiting], np.ndarray, list[str]]:
    """Without those who have given up and were answered otherwise: the log must not tell of what nobody got."""
    kept: list[_Waiting] = []
    rows: list[int] = []
    begin = 0
    for one in waiting:
        end = begin + len(one[0].matrix)
        if not _given_up(one):
            kept.append(one)
            rows.extend(range(begin, end))
        begin = end
    return kept, predictions[rows], [ids[row] for row in rows]


def _first_rows(waiting: list[_Waiting], most: int) -> tuple[list[_Waiting], list[_Waiting]]:
    """The first requests, with about as many rows as this, and the rest."""
    rows = 0
    for position, (asked, _, _) in enumerate(waiting, 1):
        rows += len(asked.matrix)
        if rows >= most:
            return waiting[:position], waiting[position:]
    return waiting, []


def _resolving(future: _Future) -> Done:
    def done(result: Answer | Exception) -> None:
        if future.done():  # its request was given up
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    return done
