"""500 models in one pool: the first answers soon, all are proven, memory stays within its budget whatever is asked."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.bundles import ROW, make_bundle, put, release_bundle
from tests.load_client import Plan, failures, load, predict
from tests.serving_process import Serving, serving, wait_for

from evergreen.core import bundle as bundles

MODELS = [f"m{number:03}" for number in range(500)]
BUDGET = 8  # MB, for models of 26


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, "--model-memory", str(BUDGET)) as made:
        _, files = make_bundle()
        del files[bundles.MANIFEST]
        for model in MODELS:
            bundle, sealed = bundles.seal(files, model=model)
            put(made.store, bundle, sealed)
            release_bundle(made.ledger, bundle, version=1, model=model)
        yield made


def metric(replica: Serving, name: str) -> float:
    page = replica.ask("GET", "/metrics")[1]
    return sum(float(value) for value in re.findall(rf"^{name}{{.*}} (\S+)$", page, re.MULTILINE))


def proven(replica: Serving) -> bool:
    """Whether the ledger knows that every model answers."""
    alive = replica.ledger.replicas.alive("default", datetime.now(UTC) - timedelta(seconds=10))
    return [found.versions for found in alive] == [dict.fromkeys(MODELS, 1)]


def is_ready(replica: Serving) -> bool:
    return replica.ask("GET", "/v2/health/ready")[0] == 200


def test_500_models_in_the_memory_of_a_third_of_them(replica: Serving) -> None:
    begun = time.monotonic()
    replica.start()
    newest = MODELS[-1]
    first = wait_for(lambda: replica.ask("POST", f"/models/{newest}/predict", {"records": [ROW]})[0] == 200, 60)
    assert not is_ready(replica), "the first answers come before all bundles have"
    wait_for(lambda: is_ready(replica) and proven(replica), 120, replica.log)
    all_here = time.monotonic() - begun
    empty = metric(replica, "evergreen_memory_bytes") - metric(replica, "evergreen_model_memory_bytes")
    with load(Plan(replica.port, [predict(model, ROW) for model in MODELS], connections=8)) as run:
        wait_for(lambda: run.count > 3 * len(MODELS), 120, replica.log)
    assert failures(run.answers) == []
    assert {answer.ask for answer in run.answers} == set(range(len(MODELS)))
    held, counted = metric(replica, "evergreen_memory_bytes"), metric(replica, "evergreen_model_memory_bytes")
    print(
        f"first answer {first:.1f} s, all here {all_here:.1f} s; {empty / 1e6:.0f} MB without models, {held / 1e6:.0f}"
    )
    assert counted <= BUDGET * 1_000_000
    assert held - empty < 3 * BUDGET * 1_000_000, "with what is counted and logged of 500 models"
    with load(Plan(replica.port, [predict(model, ROW) for model in MODELS], connections=8)) as more:
        wait_for(lambda: more.count > 3 * len(MODELS), 120, replica.log)
    assert failures(more.answers) == []
    assert metric(replica, "evergreen_memory_bytes") - held < 3_000_000
    assert metric(replica, "evergreen_evictions_total") > len(MODELS)
    replica.stop()
    replica.start()
    again = wait_for(lambda: is_ready(replica) and replica.answer(ROW, newest)[0] == 1, 20, replica.log)
    print(f"ready again after {again:.1f} s")
    wait_for(lambda: proven(replica), 60, replica.log)
