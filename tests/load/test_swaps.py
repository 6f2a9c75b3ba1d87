"""100 swaps under load: nobody is refused, nobody gets a version that is not released, and hardly anybody waits."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import median

import pytest
from tests.bundles import ROW, make_bundle, put, release_bundle
from tests.load_client import Answered, Plan, between, failures, load, predict, quantile
from tests.serving_process import Serving, serving, wait_for

pytestmark = pytest.mark.alone

MODELS = ("delay", "fares", "seats", "bags")
BLOCKS, ROUNDS = 5, 5  # in each round every model is swapped
QUIET = 2.0  # seconds without a swap before each block
PACE = 1.0  # seconds from a round to the next: what is compared is a swap a second of each model
SEEDS = 6  # different bundles of a model


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Serving]:
    """Two workers that answer with version 1 of each model."""
    with serving(tmp_path, "--workers", "2") as started:
        for model in MODELS:
            for seed in range(SEEDS):
                put(started.store, *sealed(model, seed))
        release_all(started, 1)
        started.start()
        await_version(started, 1)
        yield started


@cache
def sealed(model: str, seed: int) -> tuple[str, dict[str, bytes]]:
    return make_bundle(model, seed)


def release_all(replica: Serving, version: int) -> None:
    for model in MODELS:
        release_bundle(replica.ledger, sealed(model, version % SEEDS)[0], version=version, model=model)


def await_version(replica: Serving, version: int) -> None:
    """Until the replica acknowledges this version of every model, as the ledger knows it."""

    def acknowledged() -> bool:
        alive = replica.ledger.replicas.alive("default", datetime.now(UTC) - timedelta(seconds=10))
        return [found.versions for found in alive] == [dict.fromkeys(MODELS, version)]

    wait_for(acknowledged, 20, replica.log)


class Swaps:
    """When each version was released, when the ledger knew that it answers, and when nothing changed."""

    def __init__(self) -> None:
        self.released, self.acknowledged = {1: 0.0}, {1: 0.0}
        self.quiet: list[tuple[float, float]] = []
        self.busy: list[tuple[float, float]] = []

    def run(self, replica: Serving) -> None:
        for _ in range(BLOCKS):
            begun = time.monotonic()
            time.sleep(QUIET)  # is measured, not waited for
            self.quiet.append((begun, time.monotonic()))
            begun = time.monotonic()
            for _ in range(ROUNDS):
                version = len(self.released) + 1
                self.released[version] = time.monotonic()
                release_all(replica, version)
                await_version(replica, version)
                self.acknowledged[version] = time.monotonic()
                time.sleep(max(0.0, self.released[version] + PACE - time.monotonic()))  # is measured, too
            self.busy.append((begun, time.monotonic()))

    def is_right(self, answer: Answered) -> bool:
        """Whether the version was released when it answered, and the next not yet known to answer when it was asked."""
        version = int(answer.version)
        gone = self.acknowledged.get(version + 1, float("inf"))
        return self.released[version] <= answer.end and answer.start <= gone

    def slowest(self, answers: Sequence[Answered], spans: Sequence[tuple[float, float]]) -> float:
        """The p99 (s) of the middle one of these spans."""
        return median(quantile(between(answers, *span), 0.99) for span in spans)


def test_100_swaps_under_64_connections(replica: Serving) -> None:
    swaps = Swaps()
    with load(Plan(replica.port, [predict(model, ROW) for model in MODELS], connections=64)) as run:
        wait_for(lambda: run.count > 1000, 20, replica.log)
        swaps.run(replica)
        asked = run.count
        wait_for(lambda: run.count > asked + 1000, 20, replica.log)  # the last version is asked for too
    assert len(swaps.released) == 1 + BLOCKS * ROUNDS
    assert BLOCKS * ROUNDS * len(MODELS) == 100
    assert failures(run.answers) == []
    assert [answer for answer in run.answers if not swaps.is_right(answer)] == []
    versions = defaultdict(set)
    for answer in run.answers:
        versions[answer.ask].add(int(answer.version))
    assert all(versions[ask] == swaps.released.keys() for ask in range(len(MODELS)))
    quiet, busy = swaps.slowest(run.answers, swaps.quiet), swaps.slowest(run.answers, swaps.busy)
    print(f"{len(run.answers)} answers; p99 {quiet * 1000:.1f} ms, during swaps {busy * 1000:.1f} ms")
    assert busy <= 2 * quiet, (busy, quiet)
