"""Recall: which earlier version answers again, that it is once, and that nothing happens to the one that was fitted."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from evergreen.core import lineage, recalling
from evergreen.core.bundle import MODEL, key
from evergreen.core.errors import RunEnds
from evergreen.core.history import history_of
from evergreen.core.metrics import Metric
from evergreen.core.records import (
    Candidate,
    CandidateState,
    Cause,
    GateResult,
    GateState,
    RequestState,
    TriggerRequest,
    Verdict,
)
from evergreen.core.requested import is_recall, is_retrain
from evergreen.core.retention import ModelFacts, needed_versions
from evergreen.core.spec import ModelSpec, Retention
from evergreen.core.status import facts_of, status_of
from evergreen.core.triggers import Facts, Go, PutOff, Skip, decide
from evergreen.core.way_back import plan
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.runs import InMemoryRuns
from evergreen.fakes.source import FakeSource
from evergreen.steps.recall import VERSIONS
from evergreen.steps.serve_requests import serve_requests
from evergreen.steps.watch_recall import watch_recall
from evergreen.steps.weigh import weigh
from judging import NOW, Killed, World
from records import make_candidate, make_request_args, make_verdict
from training_data import AS_OF, make_rows, make_spec

DAY = timedelta(days=1)
LOOSE = [{"metric": "auc", "min": 0}]
GATES = [{"metric": "auc", "min": 0.6}, {"metric": "auc", "against": "champion", "min_point_delta": 0}]
RECALL = [{"recall": {"every": "14d"}}]
SPEC = make_spec(triggers=RECALL, gates=GATES)


# ---------------------------------------------------------------- which, and which is best


def refused(metric: str = "auc", limit: str = "improvement ≥ 0", more: tuple[GateResult, ...] = ()) -> Verdict:
    gate = GateResult(metric, limit, GateState.FAILED, candidate=0.6, champion=0.7)
    return make_verdict(passed=False, gates=(gate, *more))


def made(version: int, state: CandidateState = CandidateState.RELEASED, **changes: Any) -> Candidate:
    return make_candidate(version=version, state=state, **changes)


def again(version: int, fitted: int, state: CandidateState = CandidateState.RELEASED) -> Candidate:
    """A version as which an earlier one answered again."""
    why = {recalling.RECALLS: str(fitted), recalling.BECAUSE: "best"}
    return made(version, state, bundle=make_candidate(version=fitted).bundle, made_with=why)


def versions(candidates: list[Candidate], most: int = 10, champion: Candidate | None = None) -> list[int]:
    return [one.version for one in recalling.kept(candidates, most, champion)]


def test_released_ones_are_kept_and_those_that_only_the_champion_beat() -> None:
    worse = made(3, CandidateState.REJECTED, verdict=refused())
    bad = made(4, CandidateState.REJECTED, verdict=refused(limit="≥ 0.6"))
    slow = made(5, CandidateState.REJECTED, verdict=refused("latency_p99_ms", "≤ 1.5 × the champion's"))
    both = made(6, CandidateState.REJECTED, verdict=refused(more=bad.verdict.gates))  # type: ignore[union-attr]
    waits = [made(7 + at, state) for at, state in enumerate((CandidateState.TRAINED, CandidateState.PASSED))]
    assert versions([made(1), worse, bad, slow, both, *waits]) == [3, 1]


def test_what_people_or_guards_took_off_never_answers_again() -> None:
    gone = [made(1, CandidateState.ROLLED_BACK), made(2, CandidateState.DECLINED), made(3)]
    assert versions(gone) == [3]
    assert versions([made(1), again(4, 1, CandidateState.ROLLED_BACK), made(3)]) == [3]
    assert versions([made(1), again(4, 1, CandidateState.DECLINED), made(3)]) == [3]


def test_the_newest_and_the_champion_whenever_it_was_fitted() -> None:
    five = [made(number) for number in range(1, 6)]
    assert versions(five, 2) == [5, 4]
    assert versions(five, 2, five[0]) == [5, 4, 1]
    assert versions([*five, again(6, 1)], 2) == [1, 5]  # it was needed lately
    assert versions([*five, again(6, 1, CandidateState.REJECTED)], 2) == [1, 5]  # and was released once
    assert versions([*five, again(6, 1)], 1, again(6, 1)) == [1]


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("auc", {1: 0.7, 2: 0.6, 3: 0.65}, 1),
        ("mae", {1: 7.0, 2: 6.0, 3: 9.0}, 2),
        ("bias", {1: 0.1, 2: -3.0, 3: 0.5}, 1),
        ("auc", {1: 0.7, 2: 0.7, 3: 0.65}, 2),  # the newest of equals
        ("auc", {1: 0.65, 2: 0.6, 3: 0.65}, 3),  # the champion before its equals
        ("auc", {1: float("nan"), 2: 0.6, 3: 0.65}, 3),
        ("auc", {1: 0.7, 2: 0.6, 3: float("nan")}, 3),  # nothing can be said against it
    ],
)
def test_the_best_is_the_champion_unless_another_is_better(metric: str, values: dict[int, float], best: int) -> None:
    assert recalling.best(Metric(metric), values, champion=3) == best


def test_periods_are_counted_from_the_epoch() -> None:
    every = 14 * DAY
    number = recalling.period_of(every, datetime(2013, 2, 10, tzinfo=UTC))
    assert recalling.begins(every, number) == datetime(2013, 1, 31, tzinfo=UTC)
    assert recalling.period_of(every, recalling.begins(every, number + 1)) == number + 1


# ---------------------------------------------------------------- the spec


def test_a_recall_needs_a_gate_that_compares() -> None:
    assert SPEC.recall
    assert (SPEC.recall.every, SPEC.recall.versions) == (14 * DAY, 10)
    for gates in (
        [{"metric": "auc", "min": 0.6}],
        [{"metric": "latency_p99_ms", "against": "champion", "max_ratio": 2}],
    ):
        with pytest.raises(ValidationError, match="no gate that compares a metric with the champion's"):
            make_spec(triggers=RECALL, gates=[{"metric": "auc", "min": 0.5}, *gates])
    with pytest.raises(ValidationError, match="a second recall"):
        make_spec(triggers=RECALL * 2, gates=GATES)


# ---------------------------------------------------------------- when


@pytest.fixture
def world() -> World:
    """Version 1 is good and was replaced; version 2, which turns the line round, is champion."""
    world = World()
    for name, skill, days in (("first", 1.0, 0), ("second", -1.0, 7)):
        rows = make_rows(600 + 24 * days, until=AS_OF + days * DAY)
        world.release(world.made(name, rows, skill=skill, gates=LOOSE))
    return world


def due(world: World, now: datetime = NOW) -> str:
    """The id of the request that the reconciler opens, as its run has admitted it, three weeks after the first data."""
    assert len(watch_recall(world.ledger, {"m": SPEC}, now=now)) == 1
    [request] = world.ledger.requests.unfinished("m")[-1:]
    until = AS_OF + 21 * DAY
    return world.ledger.requests.mark(request.id, now=now, watermark=until + DAY, as_of=until).id


def fresh(world: World) -> str:
    """The id of a snapshot of the newest rows."""
    return world.pulled(make_rows(600, until=AS_OF + 21 * DAY, seed=3))


def recall(world: World, spec: ModelSpec = SPEC) -> tuple[str, Candidate]:
    """What train hands to judge, and the request."""
    request = due(world)
    return request, world.train(request, fresh(world), spec)


def test_it_is_asked_for_once_in_each_period(world: World) -> None:
    known: set[tuple[str, int]] = set()
    [told] = watch_recall(world.ledger, {"m": SPEC}, now=NOW, known=known)
    assert "a recall, due every 14d: the kept versions are compared on the newest rows" in told
    for memory in (known, set()):  # of this reconciler, and of one that was started anew
        assert watch_recall(world.ledger, {"m": SPEC}, now=NOW + timedelta(minutes=1), known=memory) == []
    assert len(watch_recall(world.ledger, {"m": SPEC}, now=NOW + 14 * DAY, known=known)) == 1
    asked = [one for one in world.ledger.requests.unfinished("m") if is_recall(one)]
    assert [(one.cause, one.queued, is_retrain(one)) for one in asked] == [(Cause.SCHEDULE, True, False)] * 2


def test_nobody_asks_where_there_is_nothing_to_compare() -> None:
    world = World()
    assert watch_recall(world.ledger, {"m": SPEC}, now=NOW) == []
    world.release(world.made("only", gates=LOOSE))
    assert watch_recall(world.ledger, {"m": SPEC, "n": make_spec(name="n")}, now=NOW) == []
    assert world.ledger.requests.latest("m", limit=9)[0].run_id == "only"


def test_no_cooldown_stops_it_and_a_hold_does(world: World) -> None:
    spec = make_spec(triggers=RECALL, gates=GATES, cooldown="6h")
    asked, retrain = (
        world.ledger.requests.get(world.ledger.requests.open(**make_request_args(**one)).id)
        for one in (
            {"dedupe_key": "recall:1", "run_id": None, "cause": Cause.SCHEDULE, "detail": {"recall": "14d"}},
            {"dedupe_key": "x", "run_id": None, "cause": Cause.SCHEDULE},
        )
    )
    last = replace(retrain, state=RequestState.SERVED, closed_at=NOW)
    facts = Facts([], last, None, NOW + timedelta(hours=1))
    assert isinstance(decide(spec, retrain, facts), PutOff)
    assert decide(spec, asked, facts) == Go()
    assert isinstance(decide(spec, asked, replace(facts, held="held by ada")), PutOff)


def test_new_rows_count_from_the_last_retrain_whatever_came_since() -> None:
    """A recall was served since, and many requests for new data had too few rows."""
    ledger, spec = in_memory_ledger(), make_spec(triggers=[{"new_data": {"min_rows": 48}}, *RECALL], gates=GATES)
    source = FakeSource(make_rows(600, until=AS_OF + DAY), spec.source)

    def asked(number: int, state: RequestState, as_of: datetime, **changes: Any) -> TriggerRequest:
        made = ledger.requests.open(
            **make_request_args(dedupe_key=f"{number}", as_of=as_of, now=NOW + timedelta(minutes=number), **changes)
        )
        return ledger.requests.mark(made.id, now=NOW, state=state)

    asked(0, RequestState.SERVED, AS_OF - DAY)
    asked(1, RequestState.SERVED, AS_OF, run_id=None, cause=Cause.SCHEDULE, detail={"recall": "14d"})
    for number in range(2, 122):
        asked(number, RequestState.SKIPPED, AS_OF)
    new = asked(130, RequestState.OPEN, AS_OF)
    assert weigh(spec, ledger, new, lambda: source, now=NOW) == Skip(
        "24 new rows since 2013-02-28 00:00 UTC, 48 needed"
    )


def test_the_reconciler_starts_its_run(world: World) -> None:
    runs, source = InMemoryRuns(), FakeSource(make_rows(2), SPEC.source)
    watch_recall(world.ledger, {"m": SPEC}, now=NOW)
    told = serve_requests(world.ledger, {"m": SPEC}, runs, lambda _: source, now=NOW)
    [request] = [one for one in world.ledger.requests.unfinished("m") if is_recall(one)]
    assert ("m", request.run_id) in runs.started
    assert any("a recall, due every 14d" in line for line in told)


# ---------------------------------------------------------------- the step


def test_the_best_version_answers_again_under_a_new_number(world: World) -> None:
    first, fits = world.ledger.models.candidate("m", 1), world.trainer.fits
    request, candidate = recall(world)
    assert world.trainer.fits == fits
    assert (candidate.version, recalling.recalled(candidate)) == (3, 1)
    assert (candidate.bundle, candidate.data_end) == (first.bundle, first.data_end)
    why = recalling.why_recalled(candidate)
    assert why.startswith("version 1 again: best of 2 kept versions by auc (0.")
    assert "the champion, version 2, 0." in why
    judged = world.judge(request, candidate.version, SPEC)
    assert (judged.state, judged.generation_seen) == (CandidateState.PASSED, 2)
    report = world.reports[-1]
    assert report.fresh["at"].min() > AS_OF + 15 * DAY  # this snapshot's
    assert report.fitted["at"].max() == first.data_end  # the first one's
    assert world.release(judged).generation == 3
    run = next(run for run in world.registry.runs.values() if run.name == request)
    assert run.tags["evergreen.recall"] == why
    assert json.loads(run.files[VERSIONS]).keys() == {"version 1", "version 2"}
    assert "version 1 again" in run.description
    assert world.registry.pointers["m", "challenger"] == 3


def test_the_champion_that_is_still_the_best_stays(world: World) -> None:
    world.release(world.judge(*(lambda request, one: (request, one.version, SPEC))(*recall(world))))
    request = due(world, NOW + 14 * DAY)
    with pytest.raises(RunEnds, match="version 3 is still the best of 2 kept versions by auc") as end:
        world.train(request, fresh(world), SPEC)
    assert end.value.served
    assert [one.version for one in world.ledger.models.candidates("m")] == [3, 2, 1]
    run = next(run for run in world.registry.runs.values() if run.name == request)
    assert (run.tags["evergreen.outcome"], run.status) == (end.value.reason, "FINISHED")


def test_what_its_gates_would_refuse_is_not_even_registered(world: World) -> None:
    strict = make_spec(triggers=RECALL, gates=[*LOOSE, {"metric": "auc", "against": "champion", "min_delta": 0.9}])
    with pytest.raises(RunEnds, match=r"version 2 stays: version 1 is the best of 2 .*, but auc .* is below 0.9"):
        recall(world, strict)
    assert [one.version for one in world.ledger.models.candidates("m")] == [2, 1]


def test_what_the_rehearsal_refuses_leaves_the_first_one_as_it_was(world: World) -> None:
    before = world.ledger.models.candidate("m", 1)
    world.rehearsal = GateState.FAILED
    request, candidate = recall(world)
    assert world.judge(request, candidate.version, SPEC).state is CandidateState.REJECTED
    assert world.ledger.models.candidate("m", 1) == before
    assert plan(world.ledger, "m", None).to.version == 1  # a rollback's way back
    assert versions(world.ledger.models.candidates("m")) == [1, 2]  # and the next recall may take it


def test_what_cannot_be_asked_is_left_out(world: World) -> None:
    lost = world.ledger.models.candidate("m", 1)
    world.store.remove(key(lost.bundle, MODEL))
    request = due(world)
    with pytest.raises(RunEnds, match="nothing to recall: version 2 is the only one kept that can be compared"):
        world.train(request, fresh(world), SPEC)
    run = next(run for run in world.registry.runs.values() if run.name == request)
    assert "no such file in the store" in json.loads(run.files[VERSIONS])["version 1"]


def test_a_version_that_model_yaml_has_left_behind_is_left_out(world: World) -> None:
    other = make_spec(triggers=RECALL, gates=GATES, features={"columns": ["x", "count"]})
    with pytest.raises(RunEnds, match="the champion, version 2, is none that model"):
        recall(world, other)


def test_too_few_fresh_rows_say_nothing(world: World) -> None:
    window = {"train": "20d", "holdout": {"length": "5d", "min_rows": 5000}}
    with pytest.raises(RunEnds, match="not judged: 120 fresh rows"):
        recall(world, make_spec(triggers=RECALL, gates=GATES, window=window))


def test_a_trigger_that_is_gone_by_now_recalls_nothing(world: World) -> None:
    with pytest.raises(RunEnds, match="no recall trigger any more"):
        recall(world, make_spec(gates=GATES))


def test_killed_at_any_call_it_is_one_version(world: World) -> None:
    request, snapshot = due(world), fresh(world)
    calls = 0
    while True:
        calls += 1
        countdown = [calls]
        try:
            world.mortal(countdown).train(request, snapshot, SPEC)
        except Killed:
            assert [one.version for one in world.ledger.models.candidates("m")][-2:] == [2, 1]
        if countdown[0] > 0:  # it outlived its work
            break
    assert calls > 15
    assert [one.version for one in world.ledger.models.candidates("m")] == [3, 2, 1]
    assert {version for _, version in world.registry.versions} == {1, 2, 3}
    assert world.train(request, snapshot, SPEC).version == 3


# ---------------------------------------------------------------- told, and kept


def test_status_history_and_trace_say_which_version_it_is_and_why(world: World) -> None:
    request, candidate = recall(world)
    world.release(world.judge(request, candidate.version, SPEC))
    status = status_of(SPEC, facts_of("m", world.ledger, NOW), NOW)
    first = world.ledger.models.candidate("m", 1)
    assert status.version == 3
    assert status.recalled.startswith("version 1 again: best of 2 kept versions by auc")
    assert status.data_until == world.ledger.requests.get(first.request_id).as_of
    assert status_of(SPEC, replace(facts_of("m", world.ledger, NOW), last=None), NOW).waiting_for == (
        "a recall at 2025-03-13 00:00 UTC"
    )
    told = [one for one in history_of(world.ledger, "m") if one.what == "recalled"]
    assert [(one.version, one.why) for one in told] == [(3, status.recalled)]
    traced = lineage.of_version(world.ledger, "m", 3)
    by_kind = {node.kind: node for node in traced.below}
    assert by_kind["recalled"].facts == {"version": 1, "judged_on": candidate.snapshot_id}
    assert by_kind["snapshot"].facts["id"] == first.snapshot_id
    assert candidate.snapshot_id not in lineage.snapshot_ids(world.ledger, "m")


def test_retention_keeps_what_a_recall_may_need() -> None:
    old = datetime(2012, 1, 1, tzinfo=UTC)
    candidates = [made(number, created_at=old) for number in range(1, 8)]
    keep = Retention(versions=1)
    assert set(needed_versions(ModelFacts(candidates, []), keep, NOW)) == {7}
    kept = needed_versions(ModelFacts(candidates, []), keep, NOW, recalls=3)
    assert kept == {
        7: "among the newest 1 (retention.versions)",
        6: "a recall may let it answer again (the newest 3)",
        5: "a recall may let it answer again (the newest 3)",
    }
    live = [*candidates, replace(again(8, 2), created_at=old)]
    assert needed_versions(ModelFacts(live, []), keep, NOW)[2] == "it answers again as version 8"
