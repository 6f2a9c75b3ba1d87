"""Many models in one pool: the first answers soon, each its own; memory stays within its budget whatever is asked."""

from __future__ import annotations

import functools
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import xgboost as xgb
from sqlalchemy import Engine, event
from tests.bundles import ROW, answer_of, frame, make_bundle, offline, put, release_bundle
from tests.load_client import Plan, failures, load, predict
from tests.serving_process import Serving, serving, wait_for

from evergreen.core import bundle as bundles

SMALL = [f"m{number:03}" for number in range(500)]  # of 26 KB each, as counted
LARGE = [f"l{number:02}" for number in range(40)]  # of 1.25 MB each
BUDGET, PLENTY = 6, 128  # MB
SEEDS = 5  # different boosters: neighbours answer differently
SHAPING, ROUNDS = 5, 3  # rounds in which the heap takes its shape, and those in which nothing may grow
Files = Mapping[str, bytes]


@functools.cache
def large_booster(seed: int) -> xgb.Booster:
    data = frame(seed, 20_000)
    labels = np.random.default_rng(seed).integers(0, 2, data.height)
    matrix = xgb.QuantileDMatrix(data, label=labels, enable_categorical=True)
    return xgb.train({"objective": "binary:logistic", "max_depth": 8, "seed": seed, "nthread": 1}, matrix, 100)


def small(seed: int) -> Files:
    _, files = make_bundle(seed=seed)
    return {name: data for name, data in files.items() if name != bundles.MANIFEST}


def large(seed: int) -> Files:
    fitted, golden = large_booster(seed), frame(seed).head(12)
    answers = {"rows": golden.to_dicts(), "predictions": offline(fitted, golden)}
    changed = {bundles.MODEL: bytes(fitted.save_raw("ubj")), bundles.GOLDEN: bundles.canonical_json(answers)}
    return {**small(seed), **changed}


def large_answer(seed: int) -> float:
    rows = frame(seed).head(1).clear()
    return offline(large_booster(seed), rows.vstack(type(rows)([ROW], schema=rows.schema)))[0]


@contextmanager
def no_waiting_for_the_disk() -> Iterator[None]:
    """Thousands of writes that need not outlive this machine."""

    def hurry(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", hurry)
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(os, "fsync", lambda descriptor: None)
            yield
    finally:
        event.remove(Engine, "connect", hurry)


def release_all(replica: Serving, models: Sequence[str], made: Callable[[int], Files]) -> None:
    files = [made(seed) for seed in range(SEEDS)]
    with no_waiting_for_the_disk():
        for number, model in enumerate(models):
            bundle, sealed = bundles.seal(files[number % SEEDS], model=model)
            put(replica.store, bundle, sealed)
            release_bundle(replica.ledger, bundle, version=1, model=model)


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, "--model-memory", str(BUDGET)) as made:
        yield made


def metric(replica: Serving, name: str) -> float:
    page = replica.ask("GET", "/metrics")[1]
    return sum(float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", page, re.MULTILINE))


def held(replica: Serving) -> int:
    """VmRSS of the worker in bytes, read from outside: a page of metrics would add its own."""
    status = Path(f"/proc/{replica.worker_pid()}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1]) * 1024


def proven(replica: Serving, models: Sequence[str]) -> bool:
    """Whether the ledger knows that every model answers."""
    alive = replica.ledger.replicas.alive("default", datetime.now(UTC) - timedelta(seconds=10))
    return [found.versions for found in alive] == [dict.fromkeys(models, 1)]


def is_ready(replica: Serving) -> bool:
    return replica.ask("GET", "/v2/health/ready")[0] == 200


def answers(replica: Serving, models: Sequence[str]) -> list[float]:
    return [replica.answer(ROW, model)[1] for model in models]


def ask_all(replica: Serving, models: Sequence[str], times: int) -> int:
    """Ask each model in turn, so that the next one is never there where not all fit; what is held then."""
    with load(Plan(replica.port, [predict(model, ROW) for model in models], connections=8)) as run:
        wait_for(lambda: run.count > times * len(models), 60, replica.log)
    assert failures(run.answers) == []
    assert {answer.ask for answer in run.answers} == set(range(len(models)))
    return held(replica)


def assert_flat(replica: Serving, models: Sequence[str], times: int, noise: int) -> list[int]:
    """Ask round after round: once the heap has taken its shape, nothing grows.

    `noise` is in bytes: the heap comes and goes by 0.7 MB, and by some models that are being loaded or evicted.
    """
    before = [ask_all(replica, models, times) for _ in range(SHAPING)]
    loads = metric(replica, "evergreen_model_loads_total")
    after = [ask_all(replica, models, times) for _ in range(ROUNDS)]
    loads = metric(replica, "evergreen_model_loads_total") - loads
    print("MB after each round:", *(f"{size / 1e6:.1f}" for size in before + after), f"{loads:.0f} loads in the last")
    assert loads > ROUNDS * times * len(models) / 2, "most requests load their model: one kept of fifty would show"
    assert max(after) - max(before) < noise
    return before + after


def test_500_models_answer_soon_each_its_own_and_nothing_grows(replica: Serving) -> None:
    release_all(replica, SMALL, small)
    begun = time.monotonic()
    replica.start()
    newest = SMALL[-1]
    first = wait_for(lambda: replica.ask("POST", f"/models/{newest}/predict", {"records": [ROW]})[0] == 200, 60)
    assert not is_ready(replica), "the first answers come before all bundles have"
    wait_for(lambda: is_ready(replica) and proven(replica, SMALL), 120, replica.log)
    all_here = time.monotonic() - begun
    expected = [answer_of(seed) for seed in range(SEEDS)] * (len(SMALL) // SEEDS)
    assert answers(replica, SMALL) == pytest.approx(expected, abs=1e-6)
    assert_flat(replica, SMALL, times=2, noise=2_000_000)
    assert metric(replica, "evergreen_model_memory_bytes") <= BUDGET * 1_000_000
    replica.stop()
    replica.start()
    again = wait_for(lambda: is_ready(replica) and replica.answer(ROW, newest)[0] == 1, 20, replica.log)
    wait_for(lambda: proven(replica, SMALL), 60, replica.log)
    print(f"first answer {first:.1f} s, all here {all_here:.1f} s, ready again after {again:.1f} s")


def test_a_budget_for_few_models_holds_few(replica: Serving, tmp_path: Path) -> None:
    """Against the same worker with room for all: what it holds less is what the budget leaves out."""
    release_all(replica, LARGE, large)
    expected = [large_answer(seed) for seed in range(SEEDS)] * (len(LARGE) // SEEDS)
    with serving(tmp_path, "--model-memory", str(PLENTY)) as roomy:
        roomy.start()
        wait_for(lambda: is_ready(roomy), 60, roomy.log)
        with_all = [ask_all(roomy, LARGE, times=2) for _ in range(3)][-1]
        cost = metric(roomy, "evergreen_model_memory_bytes")
        assert metric(roomy, "evergreen_loaded_models") == len(LARGE)
        assert metric(roomy, "evergreen_evictions_total") == 0
    assert cost > 8 * BUDGET * 1_000_000
    replica.start()
    wait_for(lambda: is_ready(replica) and proven(replica, LARGE), 60, replica.log)
    assert answers(replica, LARGE) == pytest.approx(expected, abs=1e-6)
    with_few = max(assert_flat(replica, LARGE, times=3, noise=4_000_000))
    assert metric(replica, "evergreen_model_memory_bytes") <= BUDGET * 1_000_000
    print(f"{cost / 1e6:.0f} MB of models; held with all {with_all / 1e6:.0f} MB, with few {with_few / 1e6:.0f} MB")
    assert with_all - with_few > 0.6 * (cost - BUDGET * 1_000_000)  # found: 0.73 to 0.8; the heap keeps some
