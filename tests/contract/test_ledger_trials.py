"""What every ledger does with releases on trial, what replicas say of them, settings, and rolls of a pool."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from evergreen.core.errors import EvergreenError, PromotionConflict, TrialTripped
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    ArmCount,
    CandidateState,
    PoolChange,
    PoolEvent,
    Release,
    RolloutPlan,
    RolloutState,
    ServingSettings,
    Trip,
    TripKind,
)
from ledgers import LATER, Opener, passed, prepare, release
from records import NOW

PLAN = RolloutPlan(
    shadow=timedelta(minutes=5),
    canary=(5, 25),
    step=timedelta(seconds=90),
    bake=timedelta(minutes=10),
    min_requests=200,
    error_rate=0.01,
    prediction_psi=0.3,
)
TRIALS = [RolloutState.SHADOW, RolloutState.CANARY, RolloutState.BAKE]


def on_trial(ledger: Ledger, version: int = 2, *, model: str = "m", pool: str = "default") -> Release:
    """Version 1 is live, and this one in shadow."""
    if ledger.releases.champion(model).generation == 0:
        release(ledger, passed(ledger, 1, seen=0, model=model), pool=pool)
    prepared = prepare(ledger, passed(ledger, version, seen=1, model=model), plan=PLAN, pool=pool)
    return enter(ledger, prepared, RolloutState.SHADOW)


def enter(ledger: Ledger, made: Release, state: RolloutState, weight: int = 0) -> Release:
    """An hour later."""
    return ledger.releases.enter(made, state, weight, reason="its time has come", now=LATER)


def events_of(ledger: Ledger, made: Release) -> list[tuple[str, str, str]]:
    """State, who and why, oldest first."""
    events = ledger.releases.events(made.model)
    return [(e.state.value, e.by, e.reason) for e in events if e.release_id == made.id]


# ---------------------------------------------------------------- stages


def test_a_release_keeps_its_plan(ledger: Ledger) -> None:
    made = on_trial(ledger)
    assert made.plan == PLAN
    assert ledger.releases.get(made.id) == made
    assert ledger.releases.go_live(made.id, LATER).plan == PLAN


def test_its_stages_are_told_and_change_no_champion(ledger: Ledger) -> None:
    shadow = on_trial(ledger)
    assert (shadow.state, shadow.weight, shadow.stage, shadow.stage_since) == (
        RolloutState.SHADOW,
        0,
        "shadow",
        LATER,
    )
    canary = enter(ledger, shadow, RolloutState.CANARY, 5)
    assert (canary.stage, canary.generation, ledger.releases.get(canary.id)) == ("canary-5", 0, canary)
    wider = enter(ledger, canary, RolloutState.CANARY, 25)
    bake = enter(ledger, wider, RolloutState.BAKE, 100)
    assert ledger.releases.on_trial() == [bake]
    assert ledger.releases.prepared() == []
    assert ledger.releases.champion("m").generation == 1
    assert [made.version for made in ledger.releases.history("m")] == [1]
    assert ledger.models.candidate("m", 2).state is CandidateState.PASSED
    stages = [("shadow", "auto"), ("canary", "auto"), ("canary", "auto"), ("bake", "auto")]
    told = [("prepared", "auto", "gates"), *((*stage, "its time has come") for stage in stages)]
    assert events_of(ledger, bake) == told


def test_prepared_again_it_stays_on_trial(ledger: Ledger) -> None:
    made = on_trial(ledger)
    assert prepare(ledger, ledger.models.candidate("m", 2), plan=PLAN) == made


def test_one_that_has_moved_meanwhile_does_not_move_again(ledger: Ledger) -> None:
    shadow = on_trial(ledger)
    canary = enter(ledger, shadow, RolloutState.CANARY, 5)
    assert enter(ledger, shadow, RolloutState.CANARY, 5) == canary
    assert enter(ledger, shadow, RolloutState.BAKE, 100) == canary
    wider = enter(ledger, canary, RolloutState.CANARY, 25)
    assert enter(ledger, canary, RolloutState.BAKE, 100) == wider
    assert len(events_of(ledger, shadow)) == 4


def test_only_one_of_a_model_is_on_trial(ledger: Ledger) -> None:
    made = on_trial(ledger)
    second = prepare(ledger, passed(ledger, 3, seen=1), plan=PLAN)
    with pytest.raises(EvergreenError, match="m: version 2 is on trial; version 3 has to wait"):
        enter(ledger, second, RolloutState.SHADOW)
    assert (ledger.releases.on_trial(), ledger.releases.prepared()) == ([made], [second])
    ledger.releases.abort(made.id, by="ada", reason="wrong fares", now=LATER)
    assert enter(ledger, second, RolloutState.SHADOW).state is RolloutState.SHADOW


def test_of_two_that_enter_at_once_one_does(opener: Opener) -> None:
    ledger = opener()
    release(ledger, passed(ledger, 1, seen=0))
    both = [prepare(ledger, passed(ledger, version, seen=1), plan=PLAN) for version in (2, 3)]

    def enters(made: Release) -> bool:
        try:
            return enter(opener(), made, RolloutState.CANARY, 5).state is RolloutState.CANARY
        except EvergreenError:
            return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(enters, both)) == [False, True]
    assert len(ledger.releases.on_trial()) == 1


def test_of_another_champion_none_enters_or_goes_live(ledger: Ledger) -> None:
    made = on_trial(ledger)
    release(ledger, passed(ledger, 3, seen=1))
    with pytest.raises(PromotionConflict):
        enter(ledger, made, RolloutState.CANARY, 5)
    with pytest.raises(PromotionConflict):
        ledger.releases.go_live(made.id, LATER)
    assert ledger.releases.on_trial() == [made]


@pytest.mark.parametrize("state", TRIALS)
def test_from_each_trial_it_goes_live(ledger: Ledger, state: RolloutState) -> None:
    shadow = on_trial(ledger)
    made = shadow if state is RolloutState.SHADOW else enter(ledger, shadow, state, 50)
    live = ledger.releases.go_live(made.id, LATER)
    assert (live.state, live.generation, live.weight, live.stage_since) == (RolloutState.LIVE, 2, 0, None)
    assert (ledger.releases.get(live.id), ledger.releases.on_trial()) == (live, [])
    assert ledger.releases.live("default") == [live]


def test_a_person_who_does_not_wait_is_told_with_the_reason(ledger: Ledger) -> None:
    made = on_trial(ledger)
    live = ledger.releases.go_live(made.id, LATER, by="ada", reason="the fair begins")
    assert (live.released_by, live.reason) == ("auto", "gates")
    assert events_of(ledger, made)[-1] == ("live", "ada", "the fair begins")
    before = ledger.releases.history("m")[0]
    assert events_of(ledger, before)[-1] == ("replaced", "ada", "the fair begins")


@pytest.mark.parametrize("state", TRIALS)
def test_from_each_trial_it_is_aborted(ledger: Ledger, state: RolloutState) -> None:
    shadow = on_trial(ledger)
    made = shadow if state is RolloutState.SHADOW else enter(ledger, shadow, state, 50)
    ended = ledger.releases.abort(made.id, by="ada", reason="wrong fares", now=LATER)
    assert (ended.state, ended.weight, ended.stage_since) == (RolloutState.ABORTED, 0, None)
    assert (ledger.releases.get(made.id), ledger.releases.on_trial()) == (ended, [])
    assert ledger.models.candidate("m", 2).state is CandidateState.PASSED
    assert ledger.releases.go_live(made.id, LATER) == ended
    assert enter(ledger, made, RolloutState.BAKE, 100) == ended


def test_what_a_guard_ends_is_rolled_back_and_so_is_its_candidate(ledger: Ledger) -> None:
    made = on_trial(ledger)
    ended = ledger.releases.abort(made.id, by="guard", reason="5 faults", now=LATER, tripped=True)
    assert ended.state is RolloutState.ROLLED_BACK
    assert ledger.models.candidate("m", 2).state is CandidateState.ROLLED_BACK
    assert events_of(ledger, made)[-1] == ("rolled_back", "guard", "5 faults")
    assert [r.version for r in ledger.releases.history("m")] == [1]
    with pytest.raises(EvergreenError, match="version 2 is rolled"):
        prepare(ledger, ledger.models.candidate("m", 2), plan=PLAN)


@pytest.mark.parametrize("state", TRIALS)
def test_what_tripped_never_goes_live_whoever_asks(ledger: Ledger, state: RolloutState) -> None:
    shadow = on_trial(ledger)
    made = shadow if state is RolloutState.SHADOW else enter(ledger, shadow, state, 50)
    ledger.trials.trip(Trip(made.id, "blue", TripKind.FAULTS, "5 faults in 0.4 s", NOW))
    for who in ({}, {"by": "ada", "reason": "the fair begins"}):
        with pytest.raises(TrialTripped, match="m: a guard took version 2 off its trial"):
            ledger.releases.go_live(made.id, LATER, **who)
    assert ledger.releases.on_trial() == [made]
    assert ledger.releases.champion("m").generation == 1


def test_those_on_trial_come_by_pool_oldest_first(ledger: Ledger) -> None:
    made = [on_trial(ledger, model=model, pool=pool) for model, pool in (("b", "x"), ("a", "y"), ("c", "x"))]
    assert ledger.releases.on_trial() == made
    assert ledger.releases.on_trial("x") == [made[0], made[2]]
    assert ledger.releases.on_trial("z") == []


# ---------------------------------------------------------------- trips and counts


def test_the_first_trip_of_a_release_stays(ledger: Ledger) -> None:
    first = Trip("r-1", "blue", TripKind.FAULTS, "5 faults in 0.4 s", NOW)
    assert ledger.trials.trip(first)
    assert not ledger.trials.trip(replace(first, replica="green", reason="another"))
    assert ledger.trials.trips(["r-1", "r-2"]) == {"r-1": first}
    assert ledger.trials.trips([]) == {}


def test_counts_replace_those_of_the_same_boot(ledger: Ledger) -> None:
    count = ArmCount("r-1", "canary-5", "challenger", "blue", "boot-1", 10, 1, (4, 6), (3, 7))
    more = replace(count, requests=25, latency=(9, 16))
    others = [
        replace(count, arm="champion"),
        replace(count, boot="boot-2"),
        replace(count, replica="green"),
        replace(count, stage="bake"),
    ]
    ledger.trials.count([count, *others])
    ledger.trials.count([more])
    ledger.trials.count([replace(count, release_id="r-2")])
    found = ledger.trials.counts("r-1")
    assert sorted(found, key=repr) == sorted([more, *others], key=repr)
    assert [(c.stage, c.arm, c.replica, c.boot) for c in found] == sorted(
        (c.stage, c.arm, c.replica, c.boot) for c in found
    )
    assert ledger.trials.counts("r-3") == []


# ---------------------------------------------------------------- settings and pools


def test_settings_are_kept_by_model(ledger: Ledger) -> None:
    first = ServingSettings("m", "default", True, 0.5, ("name",), 9, fresh_within=3600.0, rule_metrics=("volume.rows",))
    assert ledger.settings.put(first)
    assert not ledger.settings.put(first)
    assert ledger.settings.put(ServingSettings("a", "default"))
    assert ledger.settings.of("default") == {"a": ServingSettings("a", "default"), "m": first}
    assert ledger.settings.put(replace(first, pool="fast", pinned=False))
    assert list(ledger.settings.of("default")) == ["a"]
    assert ledger.settings.of("fast") == {"m": replace(first, pool="fast", pinned=False)}


def test_a_pools_steps_come_oldest_first(ledger: Ledger) -> None:
    steps = [
        PoolEvent("default", "blue", PoolChange.STARTED, "ops", "image abc", NOW),
        PoolEvent("default", "green", PoolChange.SWITCHED, "ops", "image abc", NOW),
    ]
    for step in [*steps, replace(steps[0], pool="fast")]:
        ledger.pools.record(step)
    assert ledger.pools.history("default") == steps
    assert ledger.pools.history("none") == []
