"""A version on trial in a worker: who is answered by it, that no caller sees it fail, and when it is taken off."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundles import ROW, answer_of, frame, make_bundle
from evergreen.adapters.logged_predictions import LoggedPredictions
from evergreen.adapters.parquet_parts import ArrowParts
from evergreen.core.guarding import HARD_FAULTS, Counted
from evergreen.core.records import CHALLENGER, CHAMPION, TripKind
from evergreen.fakes.store import InMemoryStore
from evergreen.serving import state as files
from evergreen.serving.engine import Engine
from evergreen.serving.log.prediction_log import PredictionLog
from evergreen.serving.log.shipper import Shipper
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.loaded_model import LoadedModel, load
from evergreen.serving.protocols.answer import Answer
from evergreen.serving.protocols.endpoint import Asked
from evergreen.serving.protocols.records_endpoint import RecordsEndpoint
from evergreen.serving.refusals import RequestRefused, refuse
from evergreen.serving.state import PoolState, Released, Rules, Trial
from evergreen.serving.trials import running_trial, trial_guard
from evergreen.serving.trials.guard_file import GuardFile
from evergreen.serving.trials.latch import latched
from evergreen.serving.trials.running_trial import Asking, RunningTrial, takes
from evergreen.serving.trials.shadow import MOST
from evergreen.serving.trials.trial_table import Trials
from logged import predictions_in

MODEL, RULES = "flight-delay", Rules(min_requests=20, latency_p99_ms=50, prediction_psi=0.3)
BODY = json.dumps({"records": [ROW]}).encode()
Predict = Callable[[np.ndarray], np.ndarray]


@functools.cache
def _made(version: int) -> tuple[str, dict[str, bytes]]:
    return make_bundle(MODEL, seed=version)


class Log:
    """What the engine wrote down: version and arm of each predict call."""

    def __init__(self) -> None:
        self.arms: list[tuple[int, str]] = []

    def add(self, model: LoadedModel, arm: str, asked: Any, predictions: np.ndarray, ids: Any) -> None:
        self.arms.append((model.release.version, arm))


class Worker:
    """Trials of one worker slot, with bundles 1 (the champion) and 2 (the challenger) on disk."""

    def __init__(self, folder: Path, slot: str = "0") -> None:
        self.folder, self.metrics, self.log = folder, Metrics(), Log()
        self.engine = Engine(self.metrics, self.log)
        self.trials = Trials(folder, slot, Asking(self.engine, self.metrics, max_rows=100))
        self.released = {version: self._released(version) for version in (1, 2)}
        self.champion = load(folder / files.BUNDLES / self.released[1].bundle, MODEL, self.released[1])

    def _released(self, version: int) -> Released:
        bundle, made = _made(version)
        target = self.folder / files.BUNDLES / bundle
        target.mkdir(parents=True, exist_ok=True)
        for name, data in made.items():
            (target / name).write_bytes(data)
        return Released(version, f"release-{version}", bundle, version)

    def state(self, stage: str = "canary-100", weight: int = 100, rules: Rules = RULES, tripped: str = "") -> PoolState:
        trial = Trial(self.released[2], stage, weight, rules, tripped)
        return PoolState(1, {MODEL: self.released[1]}, {MODEL: trial})

    async def begin(self, predict: Predict | None = None, **trial: Any) -> RunningTrial:
        """Run a trial; its challenger answers by `predict`."""
        await self.trials.apply(self.state(**trial))
        running = self.trials.of(MODEL)
        assert running
        if predict:
            running.challenger = replace(running.challenger, booster=Booster(predict))
        return running

    async def ask(self, running: RunningTrial, key: str = "ada", body: bytes = BODY) -> Answer:
        asked, answer = await running.answer(RecordsEndpoint(), self.champion, body, {}, key)
        assert isinstance(asked, Asked)
        return answer

    def counted(self, arm: str = CHALLENGER, stage: str = "canary-100") -> Counted:
        return GuardFile(self.folder, "release-2", stage).counted(arm)

    def failures(self) -> list[str]:
        return [
            line.partition("}")[0] for line in self.metrics.families("0").get("evergreen_challenger_failures_total", [])
        ]


class Booster:
    def __init__(self, predict: Predict) -> None:
        self.predict = predict

    def features(self) -> list[tuple[str, str]]:
        return []


def raises(_: np.ndarray) -> np.ndarray:
    raise RuntimeError("no such tree")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def run(act: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(act(), 20))  # type: ignore[arg-type]


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not happened():
            await asyncio.sleep(0.005)


# ---------------------------------------------------------------- who


def test_weights_are_kept_over_many_keys_and_who_is_in_stays_in() -> None:
    keys = [f"passenger-{number}" for number in range(40_000)]
    within: set[str] = set()
    for weight in (0, 1, 5, 25, 50, 100):
        taken = {key for key in keys if takes(b"release-2", key, weight * 100)}
        assert len(taken) / len(keys) == pytest.approx(weight / 100, abs=0.008)
        assert within <= taken
        within = taken
    other = {key for key in keys if takes(b"release-3", key, 5000)}
    both = other & {key for key in keys if takes(b"release-2", key, 5000)}
    assert len(both) / len(keys) == pytest.approx(0.25, abs=0.01)  # another release draws other callers


def test_the_challenger_answers_its_callers_and_the_champion_the_others(folder: Path) -> None:
    async def act() -> None:
        worker = Worker(folder)
        running = await worker.begin(stage="canary-50", weight=50)
        answers = {str(key): await worker.ask(running, str(key)) for key in range(60)}
        for key, answer in answers.items():
            by_challenger = takes(b"release-2", key, 5000)
            version = 2 if by_challenger else 1
            assert (answer.model.release.version, answer.arm) == (version, "canary" if by_challenger else "champion")
            assert answer.predictions[0] == pytest.approx(answer_of(version), abs=1e-6)
        counted = [worker.counted(arm, "canary-50") for arm in (CHALLENGER, CHAMPION)]
        assert [arm.requests for arm in counted] == [sum(a.arm == "canary" for a in answers.values()),
                                                     sum(a.arm == "champion" for a in answers.values())]  # fmt: skip
        assert all(sum(arm.latency) == sum(arm.predictions) == arm.requests > 10 for arm in counted)
        assert set(worker.log.arms) == {(1, "champion"), (2, "canary")}

    run(act)


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("predict", "reason"),
    [
        (raises, "raised"),
        (lambda matrix: np.full(len(matrix), np.nan, dtype=np.float32), "raised"),
        (lambda matrix: np.zeros(len(matrix) + 1, dtype=np.float32), "raised"),
        (lambda matrix: time.sleep(0.3), "timeout"),
    ],
)
def test_no_caller_sees_a_challenger_fail_and_five_faults_take_it_off(
    folder: Path, predict: Predict, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_trial, "LIMIT", 0.1 if reason == "timeout" else 10.0)

    async def act() -> None:
        worker, other = Worker(folder), Worker(folder, slot="1")
        running, beside = await worker.begin(predict), await other.begin()
        for asked in range(1, HARD_FAULTS + 1):
            assert not running.tripped
            assert (await worker.ask(running)).model is worker.champion
            assert worker.counted().faults == worker.counted().requests == asked
        assert running.tripped and beside.tripped  # noqa: PT018 - at once, in all workers of the replica
        assert worker.trials.of(MODEL) is other.trials.of(MODEL) is None
        await until(lambda: latched(folder, "release-2") is not None)
        found = latched(folder, "release-2")
        assert found and (found.kind, found.reason) == (TripKind.FAULTS, "5 of its 5 requests failed")  # noqa: PT018
        assert worker.counted(CHAMPION).requests == 0  # its answers for the challenger's callers are not its own arm's
        assert worker.failures()[0].endswith(f'reason="{reason}",worker="0"')

    run(act)


@pytest.mark.parametrize("failing", ["late", "no number"])
def test_the_log_tells_of_the_answer_that_the_caller_got(
    folder: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = threading.Event()

    def fails(matrix: np.ndarray) -> np.ndarray:
        if failing == "late":
            late.wait(10)
            return np.full(len(matrix), 0.9, dtype=np.float32)
        return np.full(len(matrix), np.nan, dtype=np.float32)

    store = InMemoryStore()

    async def act() -> None:
        worker = Worker(folder)
        log = PredictionLog(folder, lambda name: files.Settings(), worker.metrics)
        engine = Engine(worker.metrics, log)
        worker.trials = Trials(folder, "0", Asking(engine, worker.metrics, max_rows=100))
        good = await worker.ask(await worker.begin(), "ada")
        monkeypatch.setattr(running_trial, "LIMIT", 0.05)
        answer = await worker.ask(await worker.begin(fails, stage="bake"), "ada")
        late.set()
        await until(lambda: not engine._asking_aside)  # the late one has come
        log.close()
        engine.close()
        assert Shipper(folder, lambda: store, ArrowParts).ship_all()
        predictions = LoggedPredictions(store)
        for found, version, arm in ((good, 2, "canary"), (answer, 1, "champion")):
            row = predictions.find(found.inference_ids[0])
            assert row is not None
            assert (row.facts["version"], row.facts["arm"]) == (version, arm)
            assert row.facts["prediction"] == pytest.approx(answer_of(version), abs=1e-6)
        assert len(predictions_in(store)) == 2

    run(act)


def test_the_faults_of_all_workers_count_together(folder: Path) -> None:
    async def act() -> None:
        workers = [Worker(folder, slot=str(slot)) for slot in range(3)]
        runnings = [await worker.begin(raises) for worker in workers]
        for asked in range(HARD_FAULTS):
            assert not runnings[0].tripped
            await workers[asked % 3].ask(runnings[asked % 3])
        assert all(running.tripped for running in runnings)

    run(act)


def test_a_restarted_worker_remembers(folder: Path) -> None:
    async def act() -> None:
        worker = Worker(folder)
        running = await worker.begin(raises)
        for _ in range(HARD_FAULTS):
            await worker.ask(running)
        await until(lambda: latched(folder, "release-2") is not None)
        again = Worker(folder)
        await again.trials.apply(again.state())
        assert again.trials.of(MODEL) is None
        await again.trials.apply(again.state(stage="bake"))  # nor in another stage
        assert again.trials.of(MODEL) is None

    run(act)


def test_a_flag_whose_latch_found_no_room_is_obeyed_after_a_restart_and_in_the_next_stage(folder: Path) -> None:
    async def act() -> None:
        worker = Worker(folder)
        await worker.begin()
        GuardFile(folder, "release-2", "canary-100").trip(TripKind.LATENCY)
        for stage in ("canary-100", "bake"):
            again = Worker(folder)
            await again.trials.apply(again.state(stage=stage))
            assert again.trials.of(MODEL) is None

    run(act)


def test_what_the_champion_refuses_too_is_the_callers_fault(folder: Path) -> None:
    async def act() -> None:
        worker = Worker(folder)
        running = await worker.begin()
        for body in (b"{", b'{"records": []}', b'{"records": [{"hour": 1}]}'):
            for _ in range(HARD_FAULTS):
                with pytest.raises(RequestRefused):
                    await worker.ask(running, body=body)
        too_many = json.dumps({"records": [ROW] * 101}).encode()
        with pytest.raises(RequestRefused) as refused:
            await worker.ask(running, body=too_many)
        assert refused.value.status == 413
        assert not running.tripped
        assert worker.counted().requests == 0

    run(act)


def test_what_the_challenger_alone_refuses_is_its_fault(folder: Path) -> None:
    class Picky(RecordsEndpoint):
        def read(self, model: LoadedModel, body: bytes, headers: Any) -> Asked:
            if model.release.version == 2:
                raise refuse(422, "row 0", found="no 'weather'", allowed="a value", do="Send it.")
            return super().read(model, body, headers)

    async def act() -> None:
        worker = Worker(folder)
        running = await worker.begin()
        for _ in range(HARD_FAULTS):
            _, answer = await running.answer(Picky(), worker.champion, BODY, {}, "ada")
            assert answer.model is worker.champion
        assert running.tripped
        assert worker.failures()[0].endswith('reason="refused",worker="0"')

    run(act)


def test_a_queue_that_is_full_is_no_fault(folder: Path) -> None:
    class Full(Engine):
        async def ask_aside(self, model: LoadedModel, asked: Asked, arm: str = "canary", *, within: float) -> Answer:
            raise refuse(429, "model", found="too many", allowed="fewer", do="Ask again.")

    async def act() -> None:
        worker = Worker(folder)
        worker.trials = Trials(folder, "0", Asking(Full(worker.metrics), worker.metrics, max_rows=100))
        running = await worker.begin()
        running._engine.ask = worker.engine.ask  # type: ignore[method-assign]
        for _ in range(HARD_FAULTS + 1):
            assert (await worker.ask(running)).model is worker.champion
        assert not running.tripped
        assert worker.counted().requests == 0
        assert worker.failures()[0].endswith('reason="overload",worker="0"')

    run(act)


# ---------------------------------------------------------------- limits


def test_one_that_is_slow_is_taken_off_once_enough_requests_are_in(folder: Path) -> None:
    def slow(matrix: np.ndarray) -> np.ndarray:
        time.sleep(0.08)
        return np.linspace(0, 1, len(matrix), dtype=np.float32)

    async def act() -> None:
        worker = Worker(folder)
        running = await worker.begin(slow, rules=Rules(min_requests=20, latency_p99_ms=50))
        await asyncio.gather(*(worker.ask(running, str(key)) for key in range(19)))
        await asyncio.sleep(2 * trial_guard.LOOK)
        assert not running.tripped
        assert (await worker.ask(running)).model is running.challenger
        await until(lambda: running.tripped)
        await until(lambda: latched(folder, "release-2") is not None)

    run(act)


def test_in_bake_a_constant_is_held_against_what_the_champion_answered_before(folder: Path) -> None:
    rows = frame(seed=5).to_dicts()

    def constant(matrix: np.ndarray) -> np.ndarray:
        return np.full(len(matrix), 0.5, dtype=np.float32)

    async def act() -> None:
        worker = Worker(folder)
        rules = Rules(min_requests=100, prediction_psi=0.3)
        running = await worker.begin(stage="canary-5", weight=5, rules=rules)
        for key in range(120):
            await worker.ask(running, str(key), json.dumps({"records": [rows[key]]}).encode())
        challenger = running.challenger
        running = await worker.begin(stage="bake", weight=100, rules=rules)
        assert running.challenger is challenger  # not loaded again
        running.challenger = replace(challenger, booster=Booster(constant))
        for key in range(100):
            assert (await worker.ask(running, str(key))).predictions[0] == 0.5
        await until(lambda: running.tripped)

    run(act)


# ---------------------------------------------------------------- shadow


def test_shadow_asks_a_copy_and_the_answer_is_the_champions(folder: Path) -> None:
    async def act() -> None:
        worker = Worker(folder)
        running = await worker.begin(stage="shadow", weight=0)
        for key in range(30):
            assert (await worker.ask(running, str(key))).model is worker.champion
        await until(lambda: worker.counted(stage="shadow").requests == 30)
        assert worker.counted(CHAMPION, "shadow").requests == 30
        assert set(worker.log.arms) == {(1, "champion"), (2, "shadow")}

    run(act)


def test_a_shadow_that_is_behind_is_dropped_and_holds_up_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_trial, "LIMIT", 10.0)
    stuck = threading.Event()

    def hangs(matrix: np.ndarray) -> np.ndarray:
        stuck.wait(10)
        return np.zeros(len(matrix), dtype=np.float32)

    async def act() -> None:
        worker = Worker(folder)
        running = await worker.begin(hangs, stage="shadow", weight=0)
        begun = time.monotonic()
        for _ in range(MOST + 60):
            await worker.ask(running)
        assert time.monotonic() - begun < 5  # it would be 10 s for each
        stuck.set()
        (line,) = worker.metrics.families("0")["evergreen_shadow_dropped_total"]
        assert int(line.split()[-1]) >= 60 - 2 * 16

    run(act)


def test_a_shadow_that_fails_is_taken_off_and_nobody_notices(folder: Path) -> None:
    async def act() -> None:
        worker = Worker(folder)
        running = await worker.begin(raises, stage="shadow", weight=0)
        for _ in range(HARD_FAULTS):
            assert (await worker.ask(running)).model is worker.champion
        await until(lambda: running.tripped)

    run(act)


# ---------------------------------------------------------------- the state file


def test_a_trial_ends_with_the_state_that_names_it_no_more_or_as_tripped(folder: Path) -> None:
    async def act() -> None:
        worker = Worker(folder)
        await worker.begin()
        await worker.trials.apply(worker.state(tripped="another replica saw it fail"))
        assert worker.trials.of(MODEL) is None
        running = await worker.begin(stage="bake")
        await worker.trials.apply(PoolState(3, {MODEL: worker.released[1]}))
        assert worker.trials.of(MODEL) is None
        assert (await worker.ask(running)).model.release.version == 2  # a request that was under way

    run(act)


def test_a_challenger_that_cannot_be_loaded_is_off_trial(folder: Path) -> None:
    async def act() -> None:
        worker = Worker(folder)
        (folder / files.BUNDLES / worker.released[2].bundle / "golden.json").write_text("[]")
        await worker.trials.apply(worker.state())
        assert worker.trials.of(MODEL) is None
        found = latched(folder, "release-2")
        assert found and found.reason.startswith("it cannot be loaded: bundle ")  # noqa: PT018

    run(act)


def test_without_room_to_count_nobody_is_asked_and_it_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evergreen.serving.trials.trial_table.RETRY", 0.05)

    async def act() -> None:
        worker = Worker(folder)
        (folder / "guard").write_text("no folder")
        await worker.trials.apply(worker.state())
        assert worker.trials.of(MODEL) is None
        (reason,) = worker.trials.reasons()
        assert "is not tried in a worker, which cannot count" in reason.text
        assert not reason.blocks
        (folder / "guard").unlink()
        await until(lambda: worker.trials.of(MODEL) is not None)
        assert worker.trials.reasons() == []

    run(act)
