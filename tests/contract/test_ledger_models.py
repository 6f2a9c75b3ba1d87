"""What every ledger does: snapshots, candidates and their verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from evergreen.core.errors import EvergreenError
from evergreen.core.ports import Ledger
from evergreen.core.records import ENDED, REFUSED, CandidateState, GateResult, GateState, SliceResult, Verdict
from records import make_candidate, make_snapshot, make_verdict


def test_a_snapshot_comes_back_whole_and_is_immutable(ledger: Ledger) -> None:
    ledger.models.add_snapshot(make_snapshot())
    ledger.models.add_snapshot(make_snapshot(rows=99))
    ledger.models.add_snapshot(make_snapshot(model="other", rows=7))
    assert ledger.models.snapshot("m", "snap-1") == make_snapshot()
    assert ledger.models.snapshot("other", "snap-1").rows == 7
    with pytest.raises(KeyError):
        ledger.models.snapshot("m", "snap-2")


def test_the_suite_that_a_snapshot_passed_is_noted_once(ledger: Ledger) -> None:
    ledger.models.add_snapshot(make_snapshot())
    assert ledger.models.snapshot("m", "snap-1").suite == ""
    ledger.models.add_snapshot(make_snapshot(suite="flight-delay@3f", rows=99))
    assert ledger.models.snapshot("m", "snap-1") == make_snapshot(suite="flight-delay@3f")
    ledger.models.add_snapshot(make_snapshot(suite="flight-delay@4a"))
    ledger.models.add_snapshot(make_snapshot())
    assert ledger.models.snapshot("m", "snap-1").suite == "flight-delay@3f"
    ledger.models.add_snapshot(make_snapshot(id="snap-2", suite="flight-delay@4a"))
    assert ledger.models.snapshot("m", "snap-2").suite == "flight-delay@4a"


def test_what_a_candidate_was_made_with_comes_back(ledger: Ledger) -> None:
    assert ledger.models.add_candidate(make_candidate()).made_with == {}
    told = {"code_revision": "1e9c0b8", "image": "", "lock_hash": "3f", "folder_hash": "4a", "spec_sha256": "5b"}
    made = ledger.models.add_candidate(make_candidate(version=2, made_with=told))
    assert made == ledger.models.candidate("m", 2) == make_candidate(version=2, made_with=told)


def test_one_candidate_per_train_key(ledger: Ledger) -> None:
    first = ledger.models.add_candidate(make_candidate())
    assert first == make_candidate()
    assert ledger.models.add_candidate(make_candidate(version=2, train_key=first.train_key)) == first
    assert ledger.models.candidate("m", 1) == ledger.models.by_train_key("m", first.train_key) == first
    assert ledger.models.by_train_key("m", "other") is None
    with pytest.raises(KeyError):
        ledger.models.candidate("m", 2)


def test_a_version_of_another_train_key_is_refused(ledger: Ledger) -> None:
    ledger.models.add_candidate(make_candidate())
    with pytest.raises(EvergreenError, match="m: version 1 was made from another train key"):
        ledger.models.add_candidate(make_candidate(train_key="other"))


def test_the_verdict_is_kept(ledger: Ledger) -> None:
    ledger.models.add_candidate(make_candidate())
    judged = ledger.models.judge("m", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=4)
    assert judged == ledger.models.candidate("m", 1)
    assert (judged.state, judged.verdict, judged.generation_seen) == (CandidateState.PASSED, make_verdict(), 4)
    with pytest.raises(KeyError):
        ledger.models.judge("m", 2, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=4)


def test_candidates_come_newest_version_first(ledger: Ledger) -> None:
    for version in (2, 10, 1):
        ledger.models.add_candidate(make_candidate(version=version))
    ledger.models.add_candidate(make_candidate(model="other", version=3))
    assert ledger.models.candidates("m") == [make_candidate(version=version) for version in (10, 2, 1)]
    assert ledger.models.candidates("none") == []


SLICES = (
    SliceResult("UA", 1200, GateState.PASSED, candidate=0.71, champion=0.7, low=-0.002, high=0.1, note=""),
    SliceResult("HA", 12, GateState.NOT_JUDGED, note="12 rows, 500 needed"),
)
WHOLE = Verdict(
    judged=True,
    passed=False,
    rows=12_600,
    gates=(
        GateResult("auc", "≥ 0.6", GateState.PASSED, candidate=0.1 + 0.2, low=2**-1074, high=1 / 3, rows=12_600),
        GateResult("auc", "drop ≤ 0.03", GateState.FAILED, 0.7, 0.75, -0.06, None, 9_000, "carrier", SLICES, "HA"),
        GateResult("brier", "no worse than the champion", GateState.NOT_COMPARABLE, note="column 'x' is gone"),
        GateResult("rehearsal", "loads, and answers", GateState.NO_CHAMPION),
    ),
    reason="auc by carrier dropped: „UA“ −0.06",
    champion_version=7,
    metrics={"auc": 0.1 + 0.2, "brier": 1e-300},
    champion_metrics={"auc": 0.75},
    ask_why="version 7 could not be compared",
)


def test_a_verdict_with_slices_comes_back_exactly(ledger: Ledger) -> None:
    ledger.models.add_candidate(make_candidate())
    ledger.models.judge("m", 1, verdict=WHOLE, state=CandidateState.REJECTED, generation_seen=4)
    kept = ledger.models.candidate("m", 1).verdict
    assert kept == WHOLE
    assert [gate.state for gate in kept.gates] == [gate.state for gate in WHOLE.gates]
    assert isinstance(kept.gates[1].slices[0].state, GateState)
    assert ledger.models.add_candidate(make_candidate(version=2, verdict=WHOLE)).verdict == WHOLE


def test_numbers_that_are_not_finite_are_none_in_a_verdict_and_left_out_of_metrics(ledger: Ledger) -> None:
    endless = GateResult("auc", "≥ 0.6", GateState.NOT_JUDGED, math.nan, math.inf, -math.inf, math.nan, slices=SLICES)
    infinite_slice = replace(SLICES[0], low=-math.inf)
    verdict = make_verdict(
        gates=(replace(endless, slices=(infinite_slice,)),),
        metrics={"auc": math.nan, "brier": 0.2},
        champion_metrics={"auc": math.inf},
    )
    made = ledger.models.add_candidate(make_candidate(metrics={"auc": 0.7, "logloss": math.inf}))
    assert made.metrics == {"auc": 0.7}
    ledger.models.judge("m", 1, verdict=verdict, state=CandidateState.NOT_JUDGED, generation_seen=0)
    kept = ledger.models.candidate("m", 1).verdict
    gate = kept.gates[0]
    assert (gate.candidate, gate.champion, gate.low, gate.high) == (None, None, None, None)
    assert gate.slices == (replace(SLICES[0], low=None),)
    assert (kept.metrics, kept.champion_metrics) == ({"brier": 0.2}, {})


@pytest.mark.parametrize(
    ("state", "then"),
    [
        (CandidateState.REJECTED, CandidateState.TRAINED),
        (CandidateState.DECLINED, CandidateState.TRAINED),
        (CandidateState.ROLLED_BACK, CandidateState.TRAINED),
        (CandidateState.NOT_JUDGED, CandidateState.NOT_JUDGED),
        (CandidateState.PASSED, CandidateState.PASSED),
        (CandidateState.TO_OVERRIDE, CandidateState.TO_OVERRIDE),
        (CandidateState.RELEASED, CandidateState.RELEASED),
    ],
)
def test_only_a_refused_candidate_is_reopened(ledger: Ledger, state: CandidateState, then: CandidateState) -> None:
    for version in (1, 2):
        ledger.models.add_candidate(make_candidate(version=version, state=state))
    assert ledger.models.reopen("m", 1) == make_candidate(state=then)
    assert ledger.models.candidate("m", 1).state is then
    assert ledger.models.candidate("m", 2).state is state
    with pytest.raises(KeyError):
        ledger.models.reopen("m", 3)


@pytest.mark.parametrize("ended", sorted(ENDED))
def test_a_verdict_that_comes_late_changes_nothing_of_what_has_ended(ledger: Ledger, ended: CandidateState) -> None:
    """Two requests may judge one candidate: what one of them has led to meanwhile is not undone by the other."""
    kept = ledger.models.add_candidate(make_candidate(state=ended, verdict=make_verdict()))
    late = make_verdict(passed=False)
    assert ledger.models.judge("m", 1, verdict=late, state=CandidateState.REJECTED, generation_seen=7) == kept
    assert ledger.models.candidate("m", 1) == kept
    ledger.models.reopen("m", 1)
    judged = ledger.models.judge("m", 1, verdict=late, state=CandidateState.REJECTED, generation_seen=7)
    assert (judged.verdict == late) is (ended in REFUSED)
