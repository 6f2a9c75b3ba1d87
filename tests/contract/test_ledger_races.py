"""Many at once: nobody sees a locked database, and of many promotions of one model one wins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest

from evergreen.core.errors import EvergreenError, LeaseBusy, PromotionConflict
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    ApprovalState,
    CandidateState,
    MetricPoint,
    NoticeKind,
    Release,
    Replica,
    RequestState,
    RolloutState,
    RuleState,
)
from ledgers import KINDS, Opener, opener_of, passed, prepare, release
from records import NOW, make_request_args, make_snapshot

RACERS = 20
THREADS = {"sqlite": 50, "postgres": 20}  # Postgres has its own limit of connections, which others need too
ROUNDS = 2
MODELS = [f"m{number}" for number in range(5)]


def at_once(opener: Opener, acts: list[Callable[[Ledger], Release]]) -> list[Release | EvergreenError]:
    """What each came to, all begun together, each through its own connection."""
    ready = Barrier(len(acts))

    def run(ledger: Ledger, act: Callable[[Ledger], Release]) -> Release | EvergreenError:
        ready.wait(60)
        try:
            return act(ledger)
        except EvergreenError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, [opener() for _ in acts], acts))


def check_one_won(ledger: Ledger, results: list[Release | EvergreenError], generation: int) -> Release:
    """One went live, all others were refused by name; the winner."""
    won = [result for result in results if isinstance(result, Release)]
    lost = [result for result in results if not isinstance(result, Release)]
    assert (len(won), len(lost)) == (1, RACERS - 1)
    assert {type(error) for error in lost} == {PromotionConflict}
    told = f"m: judged against champion generation {generation - 1}, which is now {generation}. Nothing was released"
    assert all(str(error).startswith(told) for error in lost)
    live = [made for made in ledger.releases.history("m") if made.state is RolloutState.LIVE]
    assert live == won == ledger.releases.live("default")
    champion = ledger.releases.champion("m")
    assert (champion.release_id, champion.generation) == (won[0].id, generation)
    assert [made.generation for made in ledger.releases.history("m")] == list(range(1, generation + 1))
    return won[0]


@pytest.mark.parametrize("seen", [0, 1])
def test_of_twenty_promotions_of_one_model_one_wins(opener: Opener, seen: int) -> None:
    ledger = opener()
    if seen:
        release(ledger, passed(ledger, 99, seen=0))
    candidates = [passed(ledger, version, seen=seen) for version in range(1, RACERS + 1)]
    acts = [lambda own, candidate=candidate: release(own, candidate) for candidate in candidates]
    winner = check_one_won(ledger, at_once(opener, acts), seen + 1)
    states = {c.version: c.state for c in ledger.models.candidates("m") if c.version <= RACERS}
    assert states.pop(winner.version) is CandidateState.RELEASED
    assert set(states.values()) == {CandidateState.PASSED}


def test_of_twenty_prepared_releases_one_goes_live(opener: Opener) -> None:
    """All were prepared before the first went live: the losers stay prepared, for whoever advances them next."""
    ledger = opener()
    made = [prepare(ledger, passed(ledger, version, seen=0)) for version in range(1, RACERS + 1)]
    acts = [lambda own, id=one.id: own.releases.go_live(id, NOW) for one in made]
    winner = check_one_won(ledger, at_once(opener, acts), 1)
    assert ledger.releases.prepared() == [one for one in made if one.id != winner.id]
    events = Counter(event.state for event in ledger.releases.events("m"))
    assert events == {RolloutState.PREPARED: RACERS, RolloutState.LIVE: 1}


def test_one_candidate_promoted_by_twenty_is_released_once(opener: Opener) -> None:
    ledger = opener()
    release(ledger, passed(ledger, 99, seen=0))
    candidate = passed(ledger, 1, seen=1)
    results = at_once(opener, [lambda own: release(own, candidate)] * RACERS)
    assert [error for error in results if not isinstance(error, Release)] == []
    assert len({result.id for result in results if isinstance(result, Release)}) == 1
    assert ledger.releases.champion("m").generation == 2
    assert [(made.version, made.state) for made in ledger.releases.history("m")] == [
        (99, RolloutState.REPLACED),
        (1, RolloutState.LIVE),
    ]
    states = [event.state for event in ledger.releases.events("m") if event.version == 1]
    assert states == [RolloutState.PREPARED, RolloutState.LIVE]


def test_of_going_live_and_aborting_at_once_one_happens(opener: Opener) -> None:
    ledger = opener()
    made = prepare(ledger, passed(ledger, 1, seen=0))

    def go(own: Ledger) -> Release:
        return own.releases.go_live(made.id, NOW)

    def stop(own: Ledger) -> Release:
        return own.releases.abort(made.id, by="ada", reason="no", now=NOW, decline=True)

    results = at_once(opener, [go, stop] * (RACERS // 2))
    [ended] = {result.state for result in results if isinstance(result, Release)}
    assert ended is ledger.releases.get(made.id).state
    states = [event.state for event in ledger.releases.events("m")]
    assert states == [RolloutState.PREPARED, ended]
    live = ended is RolloutState.LIVE
    assert ledger.releases.champion("m").generation == (1 if live else 0)
    then = CandidateState.RELEASED if live else CandidateState.DECLINED
    assert ledger.models.candidate("m", 1).state is then


# ---------------------------------------------------------------- a locked database


def work(ledger: Ledger, number: int) -> None:
    """What steps, people, the reconciler and replicas do: a few reads and writes of every kind."""
    model = MODELS[number % len(MODELS)]
    request = ledger.requests.open(**make_request_args(model=model, dedupe_key=f"{number}", run_id=f"run-{number}"))
    ledger.requests.put_off(request.id, until=None, reason="cooldown", now=NOW)
    ledger.requests.unfinished()
    ledger.models.add_snapshot(make_snapshot(model=model, id=f"{number}"))
    candidate = passed(ledger, number, seen=ledger.releases.champion(model).generation, model=model)
    until = NOW + timedelta(hours=1)
    asked = ledger.approvals.ask(candidate, request_id=request.id, run_id=request.run_id, expires_at=until, now=NOW)
    ledger.releases.history(model)
    ledger.approvals.answer(asked.id, state=ApprovalState.APPROVED, by="ada", reason="", now=NOW)
    try:
        ledger.leases.acquire(model, request.id, timedelta(minutes=30), NOW)
        release(ledger, candidate)
    except (LeaseBusy, PromotionConflict):
        ledger.holds.place(model, by="ada", reason="busy", now=NOW)
        ledger.holds.lift(model, by="ada", reason="free", now=NOW)
    ledger.leases.release(model, request.id)
    ledger.events.add(model, "worked", "", by="auto", key=f"{number}", now=NOW)
    ledger.notices.add(model, NoticeKind.RELEASED, key=f"{number}", title="", text="", link="", now=NOW)
    ledger.heartbeats.beat("reconciler", f"{number}", NOW)
    ledger.replicas.beat(Replica("default", f"r{number}", "http://127.0.0.1:1", {model: number}), NOW)
    ledger.points.put(
        [MetricPoint(model, number, "volume.rows", "", NOW, until, value, 9, NOW) for value in (1.0, 2.0)]
    )
    ledger.alerts.save([RuleState(one, "psi", breaches=number) for one in MODELS])
    ledger.requests.mark(request.id, now=NOW, state=RequestState.SERVED)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "memory"])
def test_of_fifty_who_read_and_write_nobody_sees_a_locked_database(kind: str, tmp_path: Path) -> None:
    opener, threads = opener_of(kind, tmp_path), THREADS[kind]
    opener()
    ready = Barrier(threads)

    def run(thread: int) -> str:
        try:
            ledger = opener()
            ready.wait(60)
            for number in range(thread * ROUNDS, (thread + 1) * ROUNDS):
                work(ledger, number + 1)
        except Exception as error:  # whatever reaches a caller is told as it is
            return f"{type(error).__name__}: {error}"
        return ""

    with ThreadPoolExecutor(threads) as pool:
        told = Counter(pool.map(run, range(threads)))
    assert told == {"": threads}
    check_all_was_kept(opener(), threads * ROUNDS)


def check_all_was_kept(ledger: Ledger, done: int) -> None:
    """Each piece of work is in the ledger once, and each model has one live release."""
    served = [request for model in MODELS for request in ledger.requests.latest(model, limit=done)]
    assert Counter(request.state for request in served) == {RequestState.SERVED: done}
    assert (len(ledger.events.history()), len(ledger.approvals.history())) == (done, done)
    assert len(ledger.notices.latest(done + 1)) == done
    points = [point for model in MODELS for point in ledger.points.latest(model)]
    assert sorted((point.version, point.value) for point in points) == [(n + 1, 2.0) for n in range(done)]
    assert len(ledger.alerts.states()) == len(MODELS)
    for model in MODELS:
        history = ledger.releases.history(model)
        assert [made.generation for made in history] == list(range(1, len(history) + 1))
        assert Counter(made.state for made in history)[RolloutState.LIVE] == 1
