"""The engine: what waits is answered by one predict call, and each request gets its own rows or its own failure."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest

from evergreen.serving.engine import INLINE_ROWS, Engine
from evergreen.serving.inference_id import inference_ids
from evergreen.serving.limits import Limits
from evergreen.serving.log.answer_log import NoLog
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.models.usage import Usage
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.endpoint import Asked
from evergreen.serving.refusals import RequestRefused

BAD = 666.0


class Doubling:
    """In a model's place: answers twice the first column, and notes each call: its rows and its thread."""

    def __init__(self, name: str = "m", wait: Callable[[], object] = lambda: None) -> None:
        self.name, self.version, self.release = name, "3", SimpleNamespace(version=3)
        self.usage, self.calls, self._wait = Usage(), list[tuple[int, str]](), wait

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        self.calls.append((len(matrix), threading.current_thread().name))
        self._wait()
        if (matrix[:, 0] == BAD).any():
            raise ValueError("a bad row")
        return matrix[:, 0] * 2


class Noted(NoLog):
    """A log that notes each call."""

    def __init__(self) -> None:
        self.added: list[tuple[str, int, list[float], list[str]]] = []

    def add(self, model: Any, arm: str, asked: Sequence[Asked], predictions: np.ndarray, ids: Sequence[str]) -> None:
        self.added.append((arm, len(asked), predictions.tolist(), list(ids)))


def asked(*values: float) -> Asked:
    return Asked(np.array(values, dtype=np.float32).reshape(-1, 1), ())


def loaded(model: Doubling) -> LoadedModel:
    return cast(LoadedModel, model)


def run(work: Callable[[Engine], Awaitable[Any]], log: NoLog | None = None, limits: Limits | None = None) -> Any:
    async def running() -> Any:
        engine = Engine(Metrics(), log or NoLog(), limits)
        try:
            return await work(engine)
        finally:
            engine.close()

    return asyncio.run(running())


def test_what_waits_is_answered_by_one_call_and_logged_once() -> None:
    model, log = Doubling(), Noted()

    async def work(engine: Engine) -> list[Answer]:
        return await asyncio.gather(*(engine.ask(loaded(model), asked(*range(n, 2 * n))) for n in range(1, 8)))

    answers = run(work, log)
    assert [(rows, thread) for rows, thread in model.calls] == [(28, "MainThread")]
    for n, answer in enumerate(answers, 1):
        assert answer.predictions.tolist() == [2.0 * value for value in range(n, 2 * n)]
        assert len(answer.inference_ids) == n
        assert (answer.arm, answer.model) == ("champion", model)
    ((arm, requests, predictions, ids),) = log.added
    assert (arm, requests, len(predictions)) == ("champion", 7, 28)
    assert ids == [given for answer in answers for given in answer.inference_ids]


def test_models_and_arms_are_asked_apart() -> None:
    one, other, log = Doubling("one"), Doubling("other"), Noted()

    async def work(engine: Engine) -> list[Answer]:
        return await asyncio.gather(
            engine.ask(loaded(one), asked(1)),
            engine.ask(loaded(other), asked(2)),
            engine.ask(loaded(one), asked(3), "canary"),
            engine.ask(loaded(one), asked(4)),
        )

    answers = run(work, log)
    assert [a.predictions.tolist() for a in answers] == [[2], [4], [6], [8]]
    assert [rows for rows, _ in one.calls] == [2, 1]
    assert [(arm, requests) for arm, requests, _, _ in log.added] == [("champion", 2), ("champion", 1), ("canary", 1)]


@pytest.mark.parametrize("aside", [False, True])
def test_one_bad_request_fails_alone(aside: bool) -> None:
    model, log = Doubling(), Noted()

    async def work(engine: Engine) -> list[Any]:
        ask = partial(engine.ask_aside, within=10) if aside else engine.ask
        return await asyncio.gather(
            *(ask(loaded(model), asked(value)) for value in (1, BAD, 3)), return_exceptions=True
        )

    first, bad, third = run(work, log)
    assert (first.predictions.tolist(), third.predictions.tolist()) == ([2], [6])
    assert isinstance(bad, ValueError)
    assert [rows for rows, _ in model.calls] == ([1, 1, 1] if aside and len(model.calls) == 3 else [3, 1, 1, 1])
    assert sorted(value for _, _, values, _ in log.added for value in values) == [2, 6]


def test_a_model_that_answers_for_other_rows_fails() -> None:
    model = Doubling()
    model.predict = lambda matrix: np.zeros(1, dtype=np.float32)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="1 predictions for 2 rows"):
        run(lambda engine: engine.ask(loaded(model), asked(1, 2)))


def test_many_rows_are_answered_in_a_thread_and_the_loop_goes_on() -> None:
    release = threading.Event()
    slow, quick = Doubling(wait=lambda: release.wait(10)), Doubling()

    async def work(engine: Engine) -> Answer:
        large = asyncio.create_task(engine.ask(loaded(slow), asked(*range(INLINE_ROWS + 1))))
        while not slow.calls:
            await asyncio.sleep(0)
        await engine.ask(loaded(quick), asked(1))  # while the large one waits
        assert not large.done()
        release.set()
        return await large

    answer = run(work)
    assert len(answer.predictions) == INLINE_ROWS + 1
    assert slow.calls[0][1].startswith("batches")
    assert quick.calls == [(1, "MainThread")]


def test_the_loop_is_not_held_up_by_all_rows_that_wait() -> None:
    model = Doubling()

    async def work(engine: Engine) -> None:
        await asyncio.gather(*(engine.ask(loaded(model), asked(*range(INLINE_ROWS))) for _ in range(20)))

    run(work)
    assert sum(rows for rows, _ in model.calls) == 20 * INLINE_ROWS
    assert max(rows for rows, _ in model.calls) == 512


def test_a_slow_challenger_holds_up_only_its_own_and_is_drained() -> None:
    release = threading.Event()
    challenger, champion = Doubling(wait=lambda: release.wait(10)), Doubling()

    async def work(engine: Engine) -> list[Answer]:
        aside = [asyncio.create_task(engine.ask_aside(loaded(challenger), asked(n), within=10)) for n in range(5)]
        while not challenger.calls:
            await asyncio.sleep(0)
        aside += [asyncio.create_task(engine.ask_aside(loaded(challenger), asked(n), within=10)) for n in range(5, 9)]
        for n in range(20):
            assert (await engine.ask(loaded(champion), asked(n))).predictions.tolist() == [2 * n]
        release.set()
        return await asyncio.gather(*aside)

    answers = run(work)
    assert [answer.predictions.tolist() for answer in answers] == [[2 * n] for n in range(9)]
    assert {answer.arm for answer in answers} == {"canary"}
    assert [rows for rows, _ in challenger.calls] == [5, 4]
    assert all(thread.startswith("challengers") for _, thread in challenger.calls)


def test_a_challenger_that_hangs_holds_up_no_other_challenger() -> None:
    release = threading.Event()
    hanging, quick = Doubling(wait=lambda: release.wait(10)), Doubling()

    async def work(engine: Engine) -> list[Any]:
        stuck = [asyncio.create_task(engine.ask_aside(loaded(hanging), asked(n), within=10)) for n in range(4)]
        await asyncio.sleep(0)
        answers = [await engine.ask_aside(loaded(quick), asked(n), within=10) for n in range(3)]
        release.set()
        refused = [found for found in await asyncio.gather(*stuck, return_exceptions=True) if type(found) is not Answer]
        return [*answers, *refused]

    *answers, refused = run(work, limits=Limits(max_queue=3))  # what waits for the one takes no room of the other
    assert [answer.predictions.tolist() for answer in answers] == [[0], [2], [4]]
    assert isinstance(refused, RequestRefused)


def test_too_many_waiting_for_challengers_are_refused() -> None:
    release = threading.Event()
    challenger = Doubling(wait=lambda: release.wait(10))

    async def work(engine: Engine) -> list[Any]:
        first = asyncio.create_task(engine.ask_aside(loaded(challenger), asked(0), within=10))
        while not challenger.calls:
            await asyncio.sleep(0)
        waiting = [asyncio.create_task(engine.ask_aside(loaded(challenger), asked(n), within=10)) for n in range(3)]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(first, *waiting, return_exceptions=True)

    *answered, refused = run(work, limits=Limits(max_queue=2))
    assert [answer.predictions.tolist() for answer in answered] == [[0], [0], [2]]
    assert isinstance(refused, RequestRefused)
    assert refused.status == 429
    assert dict(refused.headers) == {b"retry-after": b"1"}


def test_a_challenger_that_is_late_is_not_logged_and_who_waits_on_still_is() -> None:
    release = threading.Event()
    challenger, log, metrics = Doubling(wait=lambda: release.wait(10)), Noted(), Metrics()

    async def work(engine: Engine) -> list[Any]:
        asked_first = [engine.ask_aside(loaded(challenger), asked(n, n), within=limit) for n, limit in ((1, 0), (2, 9))]
        first = [asyncio.create_task(one) for one in asked_first]
        while not challenger.calls:
            await asyncio.sleep(0)
        first.append(asyncio.create_task(engine.ask_aside(loaded(challenger), asked(3), within=0)))
        await asyncio.sleep(0.01)
        release.set()
        return [*await asyncio.gather(*first, return_exceptions=True)]

    async def running() -> list[Any]:
        engine = Engine(metrics, log)
        try:
            return await work(engine)
        finally:
            engine.close()

    late, answered, never_begun = asyncio.run(running())
    assert isinstance(late, TimeoutError)
    assert isinstance(never_begun, TimeoutError)
    assert answered.predictions.tolist() == [4, 4]
    assert log.added == [("canary", 1, [4, 4], list(answered.inference_ids))]
    assert challenger.calls == [(4, challenger.calls[0][1])]  # what was given up before its turn is not asked
    assert metrics.of("m", 3, "canary").rows == 2


def test_a_challenger_that_answers_no_number_fails_and_is_not_logged() -> None:
    challenger, log = Doubling(), Noted()

    async def work(engine: Engine) -> list[Any]:
        values = (1.0, float("nan"), 3.0)
        canary = [engine.ask_aside(loaded(challenger), asked(value), within=10) for value in values]
        found = await asyncio.gather(*canary, return_exceptions=True)
        return [*found, *await engine.ask_all_aside(loaded(challenger), [asked(value) for value in values])]

    found = run(work, log)
    assert [type(one) for one in found] == [Answer, ValueError, Answer] * 2
    assert sorted(value for _, _, values, _ in log.added for value in values) == [2, 2, 6, 6]


def test_a_request_that_was_given_up_does_not_disturb_the_others() -> None:
    model = Doubling()

    async def work(engine: Engine) -> Answer:
        gone = asyncio.create_task(engine.ask(loaded(model), asked(1)))
        staying = asyncio.create_task(engine.ask(loaded(model), asked(2)))
        await asyncio.sleep(0)
        gone.cancel()
        return await staying

    assert run(work).predictions.tolist() == [4]


def test_an_idle_engine_answers_at_once() -> None:
    model = Doubling()

    async def work(engine: Engine) -> None:
        for n in range(50):
            await engine.ask(loaded(model), asked(n))

    run(work)
    assert [rows for rows, _ in model.calls] == [1] * 50
    assert 0 < model.usage.asked_at <= time.monotonic()


def test_inference_ids_are_uuids_of_version_7_that_name_their_time() -> None:
    before = time.time_ns() // 1_000_000
    found = inference_ids(2000)
    after = time.time_ns() // 1_000_000
    ids = [UUID(text) for text in found]
    assert [str(one) for one in ids] == found
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}
    assert len(set(ids)) == 2000
    assert all(before <= one.int >> 80 <= after for one in ids)
    assert {one.int >> 62 & 3 for one in ids} == {2}
    assert len({one.int >> 60 & 15 for one in ids}) == 4  # both bits beside the variant are random
    assert inference_ids(0) == []
