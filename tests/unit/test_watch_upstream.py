"""The reconciler's part for models that are made from others."""

from __future__ import annotations

from datetime import timedelta

import pytest

from evergreen.core.ports import Ledger
from evergreen.core.records import CandidateState, Cause, Release
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.steps.watch_upstream import watch_upstream
from records import NOW, make_candidate, make_spec, make_verdict

MINUTE = timedelta(minutes=1)
SPECS = {
    "fares": make_spec(name="fares"),
    "m": make_spec(triggers=[{"upstream": "fares"}, {"upstream": "seats"}]),
    "n": make_spec(name="n", triggers=[{"upstream": "fares"}]),
}


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


def release(ledger: Ledger, version: int, model: str = "fares") -> Release:
    """A version that passed its gates answers."""
    made = ledger.models.add_candidate(make_candidate(model, version))
    seen = ledger.releases.champion(model).generation
    passed = ledger.models.judge(
        model, made.version, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=seen
    )
    words = {"pool": "default", "released_by": "auto", "reason": "passed", "watermark": None, "now": NOW}
    prepared = ledger.releases.prepare(passed, **words)  # type: ignore[arg-type]
    return ledger.releases.go_live(prepared.id, NOW)


def roll_back(ledger: Ledger, version: int) -> None:
    candidate = ledger.models.candidate("fares", version)
    seen = ledger.releases.champion("fares").generation
    ledger.releases.roll_back(candidate, seen=seen, pool="default", by="ada", reason="x", act="act", now=NOW)


def test_a_release_asks_for_a_retrain_of_all_that_are_made_from_it(ledger: Ledger) -> None:
    assert watch_upstream(ledger, SPECS, now=NOW) == []
    release(ledger, 3)
    told = watch_upstream(ledger, SPECS, now=NOW)
    [request] = ledger.requests.latest("m", limit=9)
    assert told[0] == f"m: opened request {request.id}: version 3 of fares was released (generation 1)"
    assert (request.cause, request.queued, request.watermark) == (Cause.UPSTREAM, True, None)
    assert request.detail == {"upstream": "fares", "version": 3, "generation": 1}
    assert [line.split(":")[0] for line in told] == ["m", "n"]
    assert ledger.requests.latest("fares", limit=9) == []


def test_each_release_asks_once(ledger: Ledger) -> None:
    release(ledger, 1)
    known: set[tuple[str, str]] = set()
    assert len(watch_upstream(ledger, SPECS, now=NOW, known=known)) == 2
    for memory in (known, set()):  # that of the same reconciler, and of one that was started anew
        assert watch_upstream(ledger, SPECS, now=NOW + MINUTE, known=memory) == []
    release(ledger, 2)
    assert len(watch_upstream(ledger, SPECS, now=NOW + MINUTE, known=known)) == 2
    assert len(ledger.requests.latest("m", limit=9)) == 2


def test_each_upstream_model_asks_for_itself(ledger: Ledger) -> None:
    release(ledger, 1)
    release(ledger, 1, "seats")
    told = watch_upstream(ledger, {"m": SPECS["m"]}, now=NOW)
    assert len(told) == 2
    assert {request.detail["upstream"] for request in ledger.requests.latest("m", limit=9)} == {"fares", "seats"}


def test_a_rollback_asks_for_nothing_and_the_release_after_it_does(ledger: Ledger) -> None:
    release(ledger, 1)
    release(ledger, 2)
    watch_upstream(ledger, SPECS, now=NOW)
    roll_back(ledger, 1)
    assert watch_upstream(ledger, SPECS, now=NOW + MINUTE) == []
    release(ledger, 3)
    [told, _] = watch_upstream(ledger, SPECS, now=NOW + MINUTE)
    assert "version 3 of fares was released (generation 4)" in told
