"""Following trials: what reaches the workers, and what the ledger hears of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundles import make_bundle, put
from evergreen.core import bundle as bundles
from evergreen.core.records import CHALLENGER, CHAMPION, Release, RolloutState, Trip, TripKind
from evergreen.serving.replica import trial_follower
from evergreen.serving.state import BUNDLES, STATE, PoolState, Rules, Trial, read
from evergreen.serving.trials.guard_file import ARM, ARMS, FAULTS, GUARD, REQUESTS, GuardFile
from evergreen.serving.trials.latch import LATCHES, latch
from replicas import Replica
from trialling import MODEL, enter, prepare, try_out

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    replica = Replica(tmp_path / "default")
    replica.release(1)
    replica.follower.poll()
    return replica


def trials(replica: Replica) -> dict[str, Trial]:
    state = read(replica.folder / STATE, PoolState)
    assert state is not None
    return state.trials


def tried(replica: Replica, **trial: object) -> Release:
    return try_out(replica.ledger, replica.store, **trial)  # type: ignore[arg-type]


def reasons(replica: Replica) -> list[str]:
    return [reason.text for reason in replica.reasons() if not reason.blocks]


def count(replica: Replica, release: Release, arm: str = CHALLENGER, requests: int = 7, faults: int = 0) -> GuardFile:
    file = GuardFile(replica.folder, release.id, release.stage)
    first = file.slot(0) + ARMS[arm] * ARM
    file.cells[first + REQUESTS] += requests
    file.cells[first + FAULTS] += faults
    return file


def tripped(replica: Replica, release: Release) -> Trip | None:
    return replica.ledger.trials.trips([release.id]).get(release.id)


def test_a_trial_and_its_stages_reach_the_workers_with_its_bundle(replica: Replica) -> None:
    rules = {"latency_p99_ms": 50, "prediction_psi": 0.3}
    release = tried(replica, state=RolloutState.SHADOW, weight=0, **rules)
    replica.follower.poll()
    found = trials(replica)[MODEL]
    assert (found.release.release_id, found.release.version, found.stage, found.weight) == (release.id, 2, "shadow", 0)
    assert found.rules == Rules(min_requests=100, latency_p99_ms=50, prediction_psi=0.3)
    assert replica.served() == {MODEL: 1}
    kept = {folder.name for folder in (replica.folder / BUNDLES).iterdir()}
    assert kept == {replica.entry().bundle, release.bundle}
    release = enter(replica.ledger, release, RolloutState.CANARY, 25)
    replica.follower.poll()
    assert (trials(replica)[MODEL].stage, trials(replica)[MODEL].weight) == ("canary-25", 25)
    replica.release(4, model="fares")
    replica.follower.poll()
    assert trials(replica).keys() == {MODEL}
    assert {folder.name for folder in (replica.folder / BUNDLES).iterdir()} >= kept


def test_what_goes_live_is_the_champion_before_its_trial_is_forgotten(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tried(replica, state=RolloutState.BAKE, weight=100)
    replica.follower.poll()
    written: list[PoolState] = []
    monkeypatch.setattr(
        "evergreen.serving.replica.state_file.files.write", lambda path, state, **_: written.append(state)
    )
    replica.ledger.releases.go_live(release.id, NOW)
    replica.follower.poll()
    seen = [(s.models[MODEL].version, MODEL in s.trials) for s in written if isinstance(s, PoolState)]
    assert seen == [(2, True), (2, False)]


def test_a_trial_of_another_pool_is_none_of_ours(replica: Replica) -> None:
    bundle, files = make_bundle(seed=2)
    put(replica.store, bundle, files)
    enter(replica.ledger, prepare(replica.ledger, bundle, pool="other"), RolloutState.CANARY, 50)
    replica.follower.poll()
    assert trials(replica) == {}


def test_while_the_ledger_is_away_the_last_trial_goes_on_and_after_a_restart_too(replica: Replica) -> None:
    release = tried(replica)
    replica.follower.poll()
    before = trials(replica)
    replica.ledger_down = True
    for follower in (replica.follower, replica.new()):
        replica.follower = follower
        replica.follower.tick()
        assert trials(replica) == before
    latch(replica.folder, release.id, TripKind.FAULTS, "5 of its 9 requests failed")
    replica.follower.tick()
    assert tripped(replica, release) is None
    replica.ledger_down = False
    replica.follower.poll()
    replica.follower.tick()
    assert tripped(replica, release) is not None


def test_a_latch_is_told_at_the_next_tick_once_and_comes_back_as_tripped(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tried(replica)
    replica.follower.tick(10)
    latch(replica.folder, release.id, TripKind.LATENCY, "it is slow")
    replica.follower.tick(10)
    found = tripped(replica, release)
    assert found
    assert (found.replica, found.kind, found.reason) == ("host:1", TripKind.LATENCY, "it is slow")
    assert abs(found.at.timestamp() - datetime.now(UTC).timestamp()) < 60
    monkeypatch.setattr(replica.ledger.trials, "trip", lambda _: pytest.fail("it was told"))
    replica.follower.tick(10)
    assert trials(replica)[MODEL].tripped == "it is slow"
    assert reasons(replica) == [f"{MODEL} version 2 is off trial, the champion answers: it is slow."]
    replica.ledger.releases.abort(release.id, by="guard", reason="it is slow", now=NOW, tripped=True)
    replica.follower.poll()
    assert trials(replica) == {}
    assert reasons(replica) == []


def test_a_trip_that_the_ledger_does_not_take_is_told_again(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tried(replica)
    replica.follower.tick(10)
    latch(replica.folder, release.id, TripKind.LATENCY, "it is slow")

    def busy(_: Trip) -> bool:
        raise ConnectionError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(replica.ledger.trials, "trip", busy)
        replica.follower.tick(10)
    assert tripped(replica, release) is None
    replica.follower.poll()  # the ledger is opened anew
    replica.follower.tick(10)
    assert tripped(replica, release) is not None


def test_a_flag_without_a_latch_is_told_in_the_words_of_the_counts(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tried(replica)
    replica.follower.tick(10)
    count(replica, release, requests=9, faults=6).trip(TripKind.FAULTS)
    replica.follower.tick(10)
    assert tripped(replica, release) is None  # who set it is about to say why
    monkeypatch.setattr(trial_follower, "PATIENCE", 0)
    replica.follower.tick(10)
    found = tripped(replica, release)
    assert found
    assert (found.kind, found.reason) == (TripKind.FAULTS, "6 of its 9 requests failed")


def test_what_another_replica_saw_is_obeyed_here(replica: Replica) -> None:
    release = tried(replica)
    replica.follower.poll()
    replica.ledger.trials.trip(Trip(release.id, "host:2", TripKind.LATENCY, "it is slow there", NOW))
    replica.follower.poll()
    assert trials(replica)[MODEL].tripped == "it is slow there"


def test_a_refused_bundle_ends_the_trial(replica: Replica) -> None:
    bundle, files = make_bundle(seed=2)
    put(replica.store, bundle, {**files, bundles.GOLDEN: b"{}"})
    release = enter(replica.ledger, prepare(replica.ledger, bundle), RolloutState.CANARY, 50)
    replica.follower.tick(10)
    found = tripped(replica, release)
    assert found
    assert found.kind is TripKind.FAULTS
    assert found.reason.startswith("its bundle is refused: bundle ")
    assert replica.served() == {MODEL: 1}


def test_a_store_that_is_away_ends_no_trial(replica: Replica) -> None:
    replica.store_down = True
    replica.follower = replica.new()
    release = tried(replica)
    replica.follower.tick(10)
    replica.follower.tick(10)
    assert tripped(replica, release) is None
    assert trials(replica) == {}
    assert "cannot be tried yet, the champion answers: its bundle cannot be fetched" in reasons(replica)[0]


def test_counts_are_told_with_each_heartbeat_and_never_twice(replica: Replica) -> None:
    release = tried(replica)
    replica.follower.tick(10)
    count(replica, release, requests=7, faults=2)
    count(replica, release, CHAMPION, requests=5)
    for _ in range(2):
        replica.follower = replica.new()  # a restart: beats at once
        replica.follower.tick(10)
        told = {c.arm: (c.requests, c.faults, c.stage) for c in replica.ledger.trials.counts(release.id)}
        assert told == {CHALLENGER: (7, 2, "canary-50"), CHAMPION: (5, 0, "canary-50")}
    count(replica, release, requests=1)
    replica.follower = replica.new()
    replica.follower.tick(10)
    assert sum(c.requests for c in replica.ledger.trials.counts(release.id)) == 13


def test_the_last_counts_are_told_and_the_files_go(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    release = tried(replica)
    replica.follower.tick(10)
    count(replica, release)
    latch(replica.folder, release.id, TripKind.LATENCY, "it is slow")
    replica.ledger.releases.abort(release.id, by="guard", reason="it is slow", now=NOW, tripped=True)
    replica.follower = replica.new()
    replica.follower.tick(10)
    assert [c.requests for c in replica.ledger.trials.counts(release.id)] == [7]
    assert list((replica.folder / LATCHES).iterdir())
    assert list((replica.folder / GUARD).iterdir())
    monkeypatch.setattr(trial_follower, "LINGERS", -1)
    replica.follower.poll()
    assert not list((replica.folder / LATCHES).iterdir())
    assert not list((replica.folder / GUARD).iterdir())
