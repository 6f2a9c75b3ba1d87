"""No answered request is missing from the parts, and none is there twice, whatever is killed under load."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.bundles import ROW, release
from tests.load_client import Ask, Plan, Run, load, predict
from tests.logged import predictions_in
from tests.serving_process import Serving, serving, wait_for

pytestmark = pytest.mark.alone

WORKERS, ROUNDS = 2, 5
ASKS: list[Ask] = [predict("flight-delay", ROW), predict("flight-delay", ROW, ROW, {**ROW, "carrier": "ZZ"})]


def pids(replica: Serving) -> list[int]:
    """Of the workers, once all have reported: a new supervisor voids the reports of those before (process id 0)."""
    reports = [replica.report(slot) for slot in range(WORKERS)]

    def all_there() -> bool:
        reports[:] = [replica.report(slot) for slot in range(WORKERS)]
        return all(report and report.pid > 0 for report in reports)

    wait_for(all_there, 20, replica.log)
    return [report.pid for report in reports if report]


def kill_workers(replica: Serving, chance: random.Random) -> None:
    """One of them, and now and then both."""
    known = pids(replica)
    for pid in {chance.choice(known), chance.choice(known)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_supervisor(replica: Serving, chance: random.Random) -> None:
    """Its workers end by themselves."""
    replica.kill()
    replica.start()


def kill_replica(replica: Serving, chance: random.Random) -> None:
    """All of it at once, as a container that is killed."""
    known = pids(replica)
    replica.kill()
    for pid in known:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    replica.start()


@pytest.mark.parametrize("kill", [kill_workers, kill_supervisor, kill_replica])
def test_every_answer_is_in_the_parts_once(tmp_path: Path, kill: Callable[[Serving, random.Random], None]) -> None:
    seed = time.time_ns()
    chance = random.Random(seed)
    with serving(tmp_path, "--workers", str(WORKERS), "--log-seconds", "1") as replica:
        release(replica.ledger, replica.store, version=1)
        replica.start()
        replica.await_version(1)
        pids(replica)
        plan = Plan(replica.port, ASKS, connections=16, keys=50, ids=True, timeout=5)
        with load(plan) as run:
            for _ in range(ROUNDS):
                answered(run, chance.randrange(200, 900), replica)
                kill(replica, chance)
            answered(run, 200, replica)
        answers = [one for one in run.answers if one.status == 200]
        wait_for(lambda: not list((replica.folder / "log").glob("*.seg")), 30, replica.log)
        assert replica.stop() == 0
    ids = [one for answer in answers for one in answer.ids]
    assert len(answers) > 1000
    rows = predictions_in(replica.store)
    logged = rows["inference_id"].to_list()
    assert len(logged) == len(set(logged)), f"twice, with seed {seed}"
    missing = set(ids) - set(logged)
    assert not missing, f"{len(missing)} of {len(ids)} are missing, with seed {seed}"
    assert rows["key"].null_count() == 0  # each request named one
    assert rows["unseen"].drop_nulls().unique().to_list() == ['{"carrier": "ZZ"}']


def answered(run: Run, more: int, replica: Serving) -> None:
    """Wait until so many more are answered."""
    before = run.count - run.failed
    wait_for(lambda: run.count - run.failed >= before + more, 60, replica.log)
