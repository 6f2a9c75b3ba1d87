"""Admit on an in-memory source and ledger: one request a run, killed and repeated at any point."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.core.errors import LeaseBusy, RunEnds, SourceUnavailable
from evergreen.core.ports import Ledger
from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.triggers import LEASE_TTL
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.source import FakeSource
from evergreen.steps.admit import admit
from records import AS_OF, NOW, WATERMARK, make_request_args, make_spec

HOUR = timedelta(hours=1)
SPEC = make_spec(cooldown="6h")


def rows(count: int, newest: datetime = WATERMARK) -> pl.DataFrame:
    """One row an hour, back from the newest; of 24 + n rows, n are labelled in time."""
    times = [newest - HOUR * n for n in range(count)]
    return pl.DataFrame({"at": times}, schema={"at": pl.Datetime("us", "UTC")})


@pytest.fixture
def ledger() -> Ledger:
    return in_memory_ledger()


@pytest.fixture
def source() -> FakeSource:
    return FakeSource(rows(100), SPEC.source)


def go(ledger: Ledger, source: FakeSource, run_id: str = "run-1", **changes: Any) -> TriggerRequest:
    arguments = {"cause": Cause.NEW_DATA, "detail": {}, "now": NOW, **changes}
    return admit(SPEC, ledger, source, run_id=run_id, **arguments)


def ends(ledger: Ledger, source: FakeSource, run_id: str = "run-1", **changes: Any) -> str:
    """The reason of a run that is skipped, which is the one in its own row."""
    with pytest.raises(RunEnds) as end:
        go(ledger, source, run_id, **changes)
    assert not end.value.served
    row = ledger.requests.for_run("m", run_id)
    assert (row.run_id, row.state, row.reason) == (run_id, RequestState.SKIPPED, end.value.reason)
    return end.value.reason


def close(ledger: Ledger, request: TriggerRequest, state: RequestState, now: datetime = NOW) -> None:
    ledger.leases.release("m", request.id)
    ledger.requests.mark(request.id, now=now, state=state, reason="over")


def test_a_run_is_admitted_with_its_cause_detail_and_window(ledger: Ledger, source: FakeSource) -> None:
    detail = {"requested_by": "ada", "reason": "repaired"}
    request = go(ledger, source, cause=Cause.PERSON, detail=detail)
    assert (request.state, request.step, request.run_id) == (RequestState.CLAIMED, "admit", "run-1")
    assert (request.cause, request.detail, request.source) == (Cause.PERSON, detail, SPEC.source.id)
    assert (request.watermark, request.as_of) == (WATERMARK, AS_OF)
    lease = ledger.leases.get("m")
    assert (lease.holder, lease.expires_at) == (request.id, NOW + LEASE_TTL)


def test_a_repeated_run_keeps_its_window_when_data_has_arrived(ledger: Ledger, source: FakeSource) -> None:
    first = go(ledger, source)
    source.frame = rows(100, WATERMARK + 5 * HOUR)
    assert go(ledger, source, now=NOW + HOUR) == first
    assert ledger.leases.get("m").expires_at == NOW + HOUR + LEASE_TTL


def test_a_cleared_failed_run_is_claimed_again(ledger: Ledger, source: FakeSource) -> None:
    request = go(ledger, source)
    close(ledger, request, RequestState.FAILED)
    again = go(ledger, source)
    assert (again.id, again.state, again.reason, again.closed_at) == (request.id, RequestState.CLAIMED, "", None)
    assert ledger.leases.get("m").holder == request.id


def test_a_served_run_stays_as_it_is(ledger: Ledger, source: FakeSource) -> None:
    request = go(ledger, source)
    close(ledger, request, RequestState.SERVED)
    assert go(ledger, source, now=NOW + HOUR) == ledger.requests.get(request.id)
    assert ledger.leases.get("m") is None


def test_an_empty_source_is_skipped(ledger: Ledger, source: FakeSource) -> None:
    source.frame = rows(0)
    assert ends(ledger, source) == "the source holds no rows"
    assert ends(ledger, source, "run-2") == "the source holds no rows"


def test_a_source_that_does_not_answer_leaves_no_request(ledger: Ledger, source: FakeSource) -> None:
    source.answers = False
    with pytest.raises(SourceUnavailable):
        go(ledger, source)
    assert ledger.requests.latest("m") == []


def test_too_few_new_rows_are_skipped_and_remembered(ledger: Ledger, source: FakeSource) -> None:
    close(ledger, go(ledger, source), RequestState.SERVED)
    source.frame = rows(104, WATERMARK + 4 * HOUR)
    late = NOW + 7 * HOUR
    reason = ends(ledger, source, "run-2", now=late, detail={"event": 7})
    assert reason == "4 new rows since 2013-02-28 23:00 UTC, 5 needed"
    row = ledger.requests.for_run("m", "run-2")
    assert (row.watermark, row.detail) == (WATERMARK + 4 * HOUR, {"event": 7})
    assert ledger.requests.newest_watermark(source=SPEC.source.id) == WATERMARK + 4 * HOUR
    source.frame = rows(105, WATERMARK + 5 * HOUR)
    assert go(ledger, source, "run-3", now=late).state is RequestState.CLAIMED


def test_a_skipped_run_gives_the_same_reason_again(ledger: Ledger, source: FakeSource) -> None:
    close(ledger, go(ledger, source), RequestState.SERVED)
    reason = ends(ledger, source, "run-2", cause=Cause.SCHEDULE)
    assert reason == "cooldown: 6h since the last retrain ends at 2025-03-01 18:00 UTC"
    assert ends(ledger, source, "run-2", cause=Cause.SCHEDULE, now=NOW + 9 * HOUR) == reason


def test_a_person_may_retrain_the_same_data_during_cooldown(ledger: Ledger, source: FakeSource) -> None:
    close(ledger, go(ledger, source), RequestState.SERVED)
    assert go(ledger, source, "run-2", cause=Cause.PERSON).state is RequestState.CLAIMED


def test_the_same_event_twice_starts_one_retrain(ledger: Ledger, source: FakeSource) -> None:
    request = go(ledger, source)
    reason = "run run-1 was started for the data up to 2013-03-01 23:00 UTC"
    assert ends(ledger, source, "run-2") == reason
    assert ends(ledger, source, "run-2") == reason
    assert ledger.requests.get(request.id).state is RequestState.CLAIMED


def test_a_busy_lease_leaves_the_request_open_for_the_retry(ledger: Ledger, source: FakeSource) -> None:
    first = go(ledger, source)
    source.frame = rows(130, WATERMARK + 30 * HOUR)
    with pytest.raises(LeaseBusy, match=first.id):
        go(ledger, source, "run-2")
    waiting = ledger.requests.for_run("m", "run-2")
    assert waiting.state is RequestState.OPEN
    close(ledger, first, RequestState.FAILED)
    claimed = go(ledger, source, "run-2", now=NOW + HOUR)
    assert (claimed.id, claimed.state) == (waiting.id, RequestState.CLAIMED)


def test_the_retry_decides_anew(ledger: Ledger, source: FakeSource) -> None:
    first = go(ledger, source)
    with pytest.raises(LeaseBusy):
        go(ledger, source, "run-2", cause=Cause.SCHEDULE)
    close(ledger, first, RequestState.SERVED)
    assert ends(ledger, source, "run-2", cause=Cause.SCHEDULE, now=NOW + HOUR).startswith("cooldown: 6h")


def test_a_waiting_request_is_coalesced_into_a_newer_one(ledger: Ledger, source: FakeSource) -> None:
    first = go(ledger, source, "run-0", cause=Cause.PERSON)
    source.frame = rows(130, WATERMARK + 30 * HOUR)
    with pytest.raises(LeaseBusy):
        go(ledger, source, "run-1")
    source.frame = rows(160, WATERMARK + 60 * HOUR)
    with pytest.raises(LeaseBusy):
        go(ledger, source, "run-2")
    close(ledger, first, RequestState.FAILED)
    assert "run run-2 was started" in ends(ledger, source, "run-1")
    assert go(ledger, source, "run-2").state is RequestState.CLAIMED


def test_killed_between_lease_and_claim_a_skip_gives_the_lease_up(ledger: Ledger, source: FakeSource) -> None:
    row = ledger.requests.open(**make_request_args(run_id="run-1", cause=Cause.SCHEDULE, dedupe_key="k"))
    ledger.leases.acquire("m", row.id, LEASE_TTL, NOW)
    served = ledger.requests.open(**make_request_args(run_id="run-0", dedupe_key="other"))
    ledger.requests.mark(served.id, now=NOW, state=RequestState.SERVED)
    assert ends(ledger, source, cause=Cause.SCHEDULE).startswith("cooldown")
    assert ledger.leases.get("m") is None


def test_killed_after_the_duplicate_was_written_the_run_is_still_skipped(ledger: Ledger, source: FakeSource) -> None:
    go(ledger, source)
    ledger.requests.open(**make_request_args(run_id="run-2", dedupe_key="run:run-2"))
    assert ends(ledger, source, "run-2").startswith("run run-1 was started")
