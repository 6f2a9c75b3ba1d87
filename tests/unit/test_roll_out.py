"""Roll-out on an in-memory ledger and registry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from evergreen.core.errors import EvergreenError, PromotionConflict
from evergreen.core.ports import Ledger
from evergreen.core.records import CandidateState, Release, RequestState
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.roll_out import roll_out
from records import NOW, WATERMARK, make_candidate, make_request_args, make_spec, make_verdict

LATER = NOW + timedelta(hours=1)
SPEC = make_spec(serving={"pool": "fast"})


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def judged(ledger: Ledger, registry: FakeRegistry, version: int, state: CandidateState = CandidateState.PASSED) -> str:
    """A candidate of this version with a verdict; returns its request's id."""
    run = registry.start_run("m", f"run-{version}", {})
    registry.register("m", run, {}, {"version": str(version)})
    request = ledger.requests.open(**make_request_args(run_id=f"run-{version}", dedupe_key=f"k{version}"))
    ledger.models.add_candidate(make_candidate(version=version, request_id=request.id, mlflow_run=run))
    seen = ledger.releases.champion("m").generation
    ledger.models.judge("m", version, verdict=make_verdict(), state=state, generation_seen=seen)
    return request.id


def go(ledger: Ledger, registry: FakeRegistry, request: str, version: int, **changes: Any) -> Release:
    arguments = {"released_by": "auto", "reason": "1 of 1 gates passed", "now": NOW, **changes}
    return roll_out(SPEC, ledger, registry, request_id=request, version=version, **arguments)


def test_a_passed_candidate_becomes_champion(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    release = go(ledger, registry, request, 1)
    assert ledger.releases.live("fast") == [release]
    assert (release.version, release.generation, release.request_id) == (1, 1, request)
    assert (release.released_by, release.reason) == ("auto", "1 of 1 gates passed")
    assert (release.watermark, release.released_at) == (WATERMARK, NOW)
    assert registry.aliases == {("m", "champion"): 1}
    assert registry.runs[ledger.models.candidate("m", 1).mlflow_run].status == "FINISHED"
    row = ledger.requests.get(request)
    assert (row.state, row.step, row.reason) == (RequestState.SERVED, "roll_out", "released version 1")
    assert row.closed_at == NOW


def test_the_former_champion_is_named_previous(ledger: Ledger, registry: FakeRegistry) -> None:
    for version in (1, 2, 3):
        go(ledger, registry, judged(ledger, registry, version), version)
    assert registry.aliases == {("m", "champion"): 3, ("m", "previous"): 2}


def test_rolled_out_again_nothing_changes(ledger: Ledger, registry: FakeRegistry) -> None:
    first = judged(ledger, registry, 1)
    release = go(ledger, registry, first, 1)
    go(ledger, registry, judged(ledger, registry, 2), 2)
    before = ledger.requests.get(first)
    assert go(ledger, registry, first, 1, reason="again", now=LATER) == release
    assert ledger.requests.get(first) == before
    assert registry.aliases == {("m", "champion"): 2, ("m", "previous"): 1}
    assert len(ledger.releases.history()) == 2


def test_killed_after_the_release_the_rest_is_made_up_for(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    release = ledger.releases.release(
        ledger.models.candidate("m", 1), pool="fast", released_by="auto", reason="r", watermark=None, now=NOW
    )
    assert go(ledger, registry, request, 1, now=LATER) == release
    assert registry.aliases == {("m", "champion"): 1}
    assert ledger.requests.get(request).state is RequestState.SERVED


@pytest.mark.parametrize("state", [CandidateState.TRAINED, CandidateState.REJECTED, CandidateState.NOT_JUDGED])
def test_only_what_passed_is_released(ledger: Ledger, registry: FakeRegistry, state: CandidateState) -> None:
    request = judged(ledger, registry, 1, state)
    with pytest.raises(EvergreenError, match=f"m: version 1 is {state}, and only one that passed"):
        go(ledger, registry, request, 1)
    assert ledger.releases.history() == []
    assert ledger.requests.get(request).state is RequestState.OPEN


def test_an_unknown_version_is_named(ledger: Ledger, registry: FakeRegistry) -> None:
    request = judged(ledger, registry, 1)
    with pytest.raises(EvergreenError, match="no candidate of version 7"):
        go(ledger, registry, request, 7)


def test_a_conflict_releases_nothing(ledger: Ledger, registry: FakeRegistry) -> None:
    early, late = judged(ledger, registry, 1), judged(ledger, registry, 2)
    go(ledger, registry, late, 2)
    with pytest.raises(PromotionConflict, match="judged against champion generation 0, which is now 1"):
        go(ledger, registry, early, 1)
    assert registry.aliases == {("m", "champion"): 2}
    assert ledger.requests.get(early).state is RequestState.OPEN
