"""Requests that make no version: pull, validate and train pass one on, judge judges it against the champion of now."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from evergreen.core.errors import FoundProblem, RunEnds
from evergreen.core.outcome import dry_run_ends, ends_with
from evergreen.core.records import ApprovalState, Candidate, CandidateState, GateState
from evergreen.fakes.source import FakeSource
from evergreen.fakes.validator import FakeValidator
from evergreen.steps.again import judge_again
from evergreen.steps.pull import pull
from evergreen.steps.validate import validate
from judging import NOW, World
from training_data import AS_OF, make_rows, make_spec

DEEPER: dict[str, Any] = {"params": {"max_depth": 5}}
STRICT: list[dict[str, Any]] = [{"metric": "auc", "min": 0.999}]
NO_SUITE: dict[str, Any] = {"name": "none", "expectations": []}  # would stop every run that it validates
OVERTAKEN = "the champion changed"


@pytest.fixture
def world() -> World:
    return World()


def again(world: World, candidate: Candidate) -> str:
    """The id of the request that the platform opens where a candidate was overtaken."""
    request = world.ledger.requests.get(candidate.request_id)
    return judge_again(world.ledger, candidate, request, OVERTAKEN, NOW).id


def override(world: World, version: int) -> str:
    """The id of a person's request, made long after the version."""
    return world.request("o", AS_OF + timedelta(days=300), override=version, reason="the outage is in its holdout")


def passed_on(world: World, request: str) -> Candidate:
    """What train hands to judge: nothing was read, validated or fitted for it."""
    spec, fits, kept = make_spec(), world.trainer.fits, dict(world.snapshots.frames)
    source = FakeSource(make_rows(2), spec.source)
    source.answers = False
    raw = pull(spec, world.ledger, source, world.snapshots, world.store, request_id=request, lease=None)
    clean = validate(
        spec, world.ledger, world.snapshots, FakeValidator(), world.registry, world.store, NO_SUITE,
        suite_sha256="-", request_id=request, snapshot_id=raw.id, lease=None,
    )  # fmt: skip
    candidate = world.train(request, clean.id)
    assert raw.id == clean.id == candidate.snapshot_id
    assert world.trainer.fits == fits
    assert world.snapshots.frames.keys() == kept.keys()
    return candidate


# ---------------------------------------------------------------- overtaken


def test_a_version_that_was_overtaken_is_judged_against_the_champion_of_now(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    first, other = world.made("r"), world.made("other", training=DEEPER)
    world.release(other)
    request = again(world, first)
    with caplog.at_level(logging.INFO):
        candidate = passed_on(world, request)
    assert caplog.text.count(f"version {first.version} is judged again: {OVERTAKEN}") == 3
    assert candidate == first
    judged = world.judge(request, candidate.version)
    assert (judged.state, judged.generation_seen) == (CandidateState.PASSED, 1)
    assert judged.verdict
    assert (judged.verdict.champion_version, judged.verdict.request_id) == (other.version, request)
    assert {run.name: run.status for run in world.registry.runs.values()}[request] == "FINISHED"
    world.release(judged)


def test_judged_once_for_it_however_often_it_is_run(world: World) -> None:
    first, other = world.made("r"), world.made("other", training=DEEPER)
    world.release(other)
    request = again(world, first)
    judged = world.judge(request, passed_on(world, request).version)
    told = len(world.reports)
    assert world.judge(request, judged.version, make_spec(gates=STRICT)) == judged
    assert len(world.reports) == told


def test_what_ended_meanwhile_is_not_judged(world: World) -> None:
    first = world.made("r")
    request = again(world, first)
    world.release(first)
    source = FakeSource(make_rows(2), make_spec().source)
    with pytest.raises(RunEnds, match=r"nothing to judge: version 1 was released") as end:
        pull(make_spec(), world.ledger, source, world.snapshots, world.store, request_id=request, lease=None)
    assert end.value.served


def test_a_verdict_of_before_verdicts_named_their_request_is_of_the_one_that_made_the_version(world: World) -> None:
    first = world.made("r")
    assert first.verdict
    old = replace(first.verdict, request_id="")
    kept = world.ledger.models.judge("m", 1, verdict=old, state=first.state, generation_seen=0)
    assert world.judge(first.request_id, 1) == kept
    assert world.judge(world.request("r2"), 1).verdict != old


# ---------------------------------------------------------------- overridden


def test_a_person_is_asked_about_what_its_gates_refused(world: World) -> None:
    refused = world.made("r", gates=STRICT)
    assert refused.state is CandidateState.REJECTED
    assert ends_with(refused)
    request = override(world, refused.version)
    assert passed_on(world, request).state is CandidateState.TRAINED
    judged = world.judge(request, refused.version, make_spec(gates=STRICT))
    assert judged.state is CandidateState.TO_OVERRIDE
    assert ends_with(judged) == ""
    assert judged.verdict
    assert not judged.verdict.passed
    assert world.rehearsed == [(1, None)]  # refused, it was not rehearsed; to be released, it must load and answer
    assert judged.verdict.rows == refused.verdict.rows == 5 * 24  # type: ignore[union-attr]  # its own holdout
    tags = world.registry.runs[world.registry.start_run("m", request, {})].tags
    assert tags["evergreen.verdict"] == "to_override"


def test_it_is_reopened_and_judged_once(world: World) -> None:
    refused = world.made("r", gates=STRICT)
    request = override(world, refused.version)
    passed_on(world, request)
    judged = world.judge(request, 1, make_spec(gates=STRICT))
    assert passed_on(world, request) == judged == world.judge(request, 1, make_spec(gates=STRICT))
    asked = world.ledger.approvals.ask(judged, request_id=request, run_id="o", expires_at=NOW, now=NOW, overrides="auc")
    world.ledger.approvals.answer(asked.id, state=ApprovalState.REJECTED, by="ada", reason="no", now=NOW)
    assert passed_on(world, request).state is CandidateState.REJECTED  # cleared afterwards, it opens nothing again
    assert len(world.reports) == 2


def test_what_keeps_its_gates_now_passes_as_any_other(world: World) -> None:
    refused = world.made("r", gates=STRICT)
    request = override(world, refused.version)
    assert world.judge(request, passed_on(world, request).version).state is CandidateState.PASSED


def test_what_does_not_even_load_is_nobodys_to_override(world: World) -> None:
    refused = world.made("r", gates=STRICT)
    world.rehearsal = GateState.FAILED
    request = override(world, refused.version)
    judged = world.judge(request, passed_on(world, request).version, make_spec(gates=STRICT))
    assert judged.state is CandidateState.REJECTED


def test_too_few_rows_leave_nothing_to_decide_on(world: World) -> None:
    refused = world.made("r", gates=STRICT)
    request = override(world, refused.version)
    window = {"train": "20d", "holdout": {"length": "5d", "min_rows": 121}}
    judged = world.judge(request, passed_on(world, request).version, make_spec(gates=STRICT, window=window))
    assert judged.state is CandidateState.NOT_JUDGED
    assert ends_with(judged).startswith("not judged")


def test_another_run_does_not_take_away_what_a_person_is_asked_about(world: World) -> None:
    refused = world.made("r", gates=STRICT)
    request = override(world, refused.version)
    judged = world.judge(request, passed_on(world, request).version, make_spec(gates=STRICT))
    with pytest.raises(RunEnds, match="a person is asked about, although its gates refused it"):
        world.train(world.request("nightly"), judged.snapshot_id)
    assert world.ledger.models.candidate("m", 1) == judged


def test_a_version_that_is_not_there_is_refused(world: World) -> None:
    world.made("r")
    with pytest.raises(FoundProblem, match=r"m: version 9, .*: found no such version of this model"):
        passed_on(world, override(world, 9))


def test_a_version_that_was_released_needs_no_override(world: World) -> None:
    first = world.made("r")
    world.release(first)
    with pytest.raises(FoundProblem, match="found a version that was released: there is nothing to override"):
        passed_on(world, override(world, first.version))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": {"column": "late", "arrives_after": "1d"}}, r"another label \('y', now 'late'\)"),
        ({"task": "regression", "gates": [{"metric": "mae", "max": 9}]}, "another task"),
        ({"features": {"columns": ["x", "gusts"]}}, "its features are not those of now .see carrier, count, gusts."),
    ],
)
def test_a_version_of_another_model_yaml_is_refused_and_stays_as_it_is(
    world: World, change: dict[str, Any], says: str
) -> None:
    refused = world.made("r", gates=STRICT)
    with pytest.raises(FoundProblem, match=says):
        world.train(override(world, refused.version), refused.snapshot_id, make_spec(**change))
    assert world.ledger.models.candidate("m", 1) == refused


# ---------------------------------------------------------------- dry runs


def test_a_dry_run_says_what_would_have_been_and_leaves_no_run_open(world: World) -> None:
    request = world.request("d", dry_run=True)
    judged = world.judge(request, world.train(request, world.pulled(make_rows())).version)
    assert judged.state is CandidateState.PASSED
    assert dry_run_ends(judged) == "dry run: version 1 passed; nothing was asked and nothing released"
    assert world.registry.runs[judged.mlflow_run].status == "FINISHED"


def test_a_dry_run_says_why_it_would_not_have_passed(world: World) -> None:
    request = world.request("d", dry_run=True)
    spec = make_spec(gates=STRICT)
    judged = world.judge(request, world.train(request, world.pulled(make_rows()), spec).version, spec)
    assert dry_run_ends(judged).startswith("dry run: version 1 would not have passed: auc 0.")


def test_a_version_of_a_dry_run_is_judged_anew_for_a_run_that_may_release_it(world: World) -> None:
    request = world.request("d", dry_run=True)
    made = world.judge(request, world.train(request, world.pulled(make_rows())).version)
    real = world.request("r")
    judged = world.judge(real, world.train(real, made.snapshot_id).version)
    assert (judged.version, judged.verdict and judged.verdict.request_id) == (made.version, real)
    world.release(judged)


@pytest.mark.parametrize("force", [False, True])
def test_a_dry_run_takes_nothing_up_that_others_decide_on(world: World, force: bool) -> None:
    waits, refused = world.made("r"), world.made("r2", training=DEEPER, skill=0)
    for made, spec in ((waits, make_spec()), (refused, make_spec(training=DEEPER))):
        with pytest.raises(RunEnds, match=f"nothing to train: .* made version {made.version}, which"):
            world.train(world.request(f"d{made.version}", dry_run=True, force=force), made.snapshot_id, spec)
        assert world.ledger.models.candidate("m", made.version) == made
