"""A bad version at 50 % of 200 requests a second: taken off in time, everywhere, and no caller's request fails."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bundles import frame, release
from evergreen.core.guarding import HARD_FAULTS, Counted
from evergreen.core.records import CHALLENGER, CHAMPION, TripKind
from evergreen.serving.state import STATE, PoolState, read
from evergreen.serving.trials.guard_file import GuardFile
from evergreen.serving.trials.latch import latched
from load_client import Answered, Plan, between, failures, load, predict
from serving_process import Serving, serving, wait_for
from trialling import MODEL, PLAN, try_out

pytestmark = pytest.mark.alone

RATE, STAGE, WORKERS = 200.0, "canary-50", 2  # workers of each replica
ASKS = [predict(MODEL, row) for row in frame(seed=77).to_dicts()]
KEYS = 1009  # prime, so that each key asks for many rows


@contextmanager
def two_replicas(home: Path, fault: str) -> Iterator[tuple[Serving, Serving]]:
    """Of one pool, two workers each, with version 1 as champion and a version 2 that will do what the fault says."""
    urls = {
        "EVERGREEN_LEDGER_URL": f"sqlite:///{home / '0' / 'ledger.db'}",
        "EVERGREEN_STORE_URL": str(home / "0/store"),
    }
    with ExitStack() as stack:
        replicas = []
        for number in range(2):
            (home / str(number)).mkdir()
            environment = {**urls, "EVERGREEN_FAULT": fault}
            replica = serving(home / str(number), "--workers", str(WORKERS), environment=environment)
            replicas.append(stack.enter_context(replica))
        release(replicas[0].ledger, replicas[0].store, version=1)
        for replica in replicas:
            replica.start()
        for replica in replicas:
            replica.await_version(1)
        yield replicas[0], replicas[1]


class Watched:
    """What the guard of a replica counts, read from its mapped file."""

    def __init__(self, replica: Serving, release_id: str) -> None:
        self.replica, self.release_id = replica, release_id
        on_trial = f"{MODEL}: version 2 is on trial, {STAGE} (release {release_id})"
        wait_for(lambda: replica.log().count(on_trial) == WORKERS, 10, replica.log)
        self._file = GuardFile(replica.folder, release_id, STAGE)

    def counted(self, arm: str = CHALLENGER) -> Counted:
        return self._file.counted(arm)

    def when(self, requests: int, seconds: float = 20) -> float:
        """When so many of the challenger's requests were counted."""
        wait_for(lambda: self.counted().requests >= requests, seconds, self.replica.log)
        return time.monotonic()

    def tripped_at(self, seconds: float = 20) -> float:
        wait_for(lambda: self._file.tripped is not None, seconds, self.replica.log)
        return time.monotonic()


def is_off(replica: Serving) -> bool:
    """Whether the replica's workers have been told that the trial has tripped."""
    state = read(replica.folder / STATE, PoolState)
    return bool(state and state.trials[MODEL].tripped)


def restart_worker(replica: Serving) -> None:
    """kill -9 one; its successor answers once it reports."""
    before = replica.worker_pid()
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: (report := replica.report()) is not None and report.pid not in (0, before), 20, replica.log)


def asked_on(port: int, seconds: float) -> list[Answered]:
    with load(Plan(port, ASKS, rate=RATE, keys=KEYS)) as run:
        wait_for(lambda: run.count >= RATE * seconds, 20)
    return run.answers


@pytest.mark.parametrize(
    ("fault", "kind", "rules"),
    [
        ("raise", TripKind.FAULTS, {}),
        ("sleep=0.2", TripKind.LATENCY, {"latency_p99_ms": 50}),
        ("constant=0.5", TripKind.PREDICTIONS, {"prediction_psi": 0.3}),
    ],
)
def test_a_bad_version_is_taken_off_in_time_and_stays_off(
    fault: str, kind: TripKind, rules: dict[str, float], tmp_path: Path
) -> None:
    enough = HARD_FAULTS if kind is TripKind.FAULTS else PLAN.min_requests
    with two_replicas(tmp_path, f"predict:{MODEL}:2:{fault}") as (replica, other):
        tried = try_out(replica.ledger, replica.store, **rules)  # alone: a busy machine is slow too
        watched, others = Watched(replica, tried.id), Watched(other, tried.id)
        with load(Plan(replica.port, ASKS, rate=RATE, keys=KEYS)) as run:
            in_at = watched.when(requests=enough)
            tripped_at = watched.tripped_at()
            wait_for(lambda: is_off(other), 3 - (time.monotonic() - tripped_at), other.log)
            off_at = time.monotonic()
            time.sleep(max(0.0, tripped_at + 2 - off_at))  # load for a while after it
        assert tripped_at - in_at < 1
        print()
        assert not failures(run.answers)
        assert {answer.version for answer in between(run.answers, tripped_at + 0.2, float("inf"))} == {"1"}
        seen_by_callers = {answer.version for answer in between(run.answers, in_at - 1, tripped_at)}
        assert seen_by_callers == ({"1"} if kind is TripKind.FAULTS else {"1", "2"})

        after = watched.counted()
        assert after.requests < enough + RATE / 2 * 1.5  # what comes in a second, and was under way
        found = latched(replica.folder, tried.id)
        assert found
        assert found.kind is kind
        told = replica.ledger.trials.trips([tried.id])[tried.id]
        assert (told.kind, told.reason) == (kind, found.reason)

        time.sleep(0.3)  # the other replica's workers read their state file ten times a second
        assert {answer.version for answer in asked_on(other.port, 1)} == {"1"}
        assert others.counted().requests == 0

        restart_worker(replica)
        again = asked_on(replica.port, 1)
        assert not failures(again)
        assert {answer.version for answer in again} == {"1"}
        assert watched.counted() == after


def test_a_good_version_stays_and_what_was_counted_reaches_the_ledger(tmp_path: Path) -> None:
    with two_replicas(tmp_path, "") as (replica, _):
        tried = try_out(replica.ledger, replica.store, seed=1, prediction_psi=0.3)
        watched = Watched(replica, tried.id)
        answers = asked_on(replica.port, 4)
        assert not failures(answers)
        by_key = {answer.key: {a.version for a in answers if a.key == answer.key} for answer in answers[:100]}
        assert all(len(versions) == 1 for versions in by_key.values())  # sticky
        own = sum(answer.version == "2" for answer in answers)
        assert own / len(answers) == pytest.approx(0.5, abs=0.08)
        assert watched.counted().requests == own
        assert watched.counted(CHAMPION).requests == len(answers) - own
        assert watched.counted().faults == 0

        def told() -> dict[str, int]:
            return {count.arm: count.requests for count in replica.ledger.trials.counts(tried.id) if count.requests}

        wait_for(lambda: told() == {CHALLENGER: own, CHAMPION: len(answers) - own}, 10, replica.log)
        assert replica.ledger.trials.trips([tried.id]) == {}
