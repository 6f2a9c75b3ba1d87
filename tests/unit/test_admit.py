"""Admit on an in-memory source and ledger: one request a run, killed and repeated at any point."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.core.errors import LeaseBusy, RunEnds, SourceUnavailable
from evergreen.core.ports import Ledger
from evergreen.core.records import FLEET, Cause, RequestState, TriggerRequest
from evergreen.core.run_params import BadRunParameter
from evergreen.core.triggers import LEASE_TTL
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.source import FakeSource
from evergreen.steps.admit import admit
from evergreen.steps.again import judge_again
from records import AS_OF, NOW, WATERMARK, make_candidate, make_request_args, make_spec

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


def put_off(ledger: Ledger, source: FakeSource, run_id: str = "run-1", **changes: Any) -> TriggerRequest:
    """The request of a run that ends because it is not time yet."""
    with pytest.raises(RunEnds) as end:
        go(ledger, source, run_id, **changes)
    row = ledger.requests.for_run("m", run_id) or ledger.requests.get(run_id)
    assert (row.queued, row.reason, end.value.served) == (True, end.value.reason, False)
    assert row.run_id != run_id
    return row


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


@pytest.mark.parametrize("ended", [RequestState.OPEN, RequestState.FAILED])
def test_a_source_that_does_not_answer_is_in_the_ledger_and_asked_again(
    ledger: Ledger, source: FakeSource, ended: RequestState
) -> None:
    source.answers = False
    with pytest.raises(SourceUnavailable):
        go(ledger, source)
    (row,) = ledger.requests.latest("m", limit=9)
    assert (row.run_id, row.state, row.watermark, row.as_of) == ("run-1", RequestState.OPEN, None, None)
    ledger.requests.mark(row.id, now=NOW, state=ended, step="admit", reason="no answer")
    source.answers = True
    request = go(ledger, source, now=NOW + HOUR)
    assert (request.id, request.state, request.reason) == (row.id, RequestState.CLAIMED, "")
    assert (request.watermark, request.as_of) == (WATERMARK, AS_OF)


def test_what_could_not_be_decided_before_is_decided_when_the_run_is_cleared(
    ledger: Ledger, source: FakeSource
) -> None:
    source.answers = False
    with pytest.raises(SourceUnavailable):
        go(ledger, source)
    row = ledger.requests.for_run("m", "run-1")
    ledger.requests.mark(row.id, now=NOW, state=RequestState.FAILED, step="admit")
    source.answers = True
    close(ledger, go(ledger, source, "run-2"), RequestState.SERVED)
    assert put_off(ledger, source, cause=Cause.SCHEDULE).reason.startswith("cooldown")


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
    source.frame = rows(0)
    reason = ends(ledger, source)
    source.frame = rows(100)
    assert ends(ledger, source) == reason


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
    assert put_off(ledger, source, "run-2", cause=Cause.SCHEDULE, now=NOW + HOUR).reason.startswith("cooldown: 6h")


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


def test_killed_between_lease_and_claim_one_that_is_put_off_gives_the_lease_up(
    ledger: Ledger, source: FakeSource
) -> None:
    row = ledger.requests.open(**make_request_args(run_id="run-1", cause=Cause.SCHEDULE, dedupe_key="k"))
    ledger.leases.acquire("m", row.id, LEASE_TTL, NOW)
    served = ledger.requests.open(**make_request_args(run_id="run-0", dedupe_key="other"))
    ledger.requests.mark(served.id, now=NOW, state=RequestState.SERVED)
    assert put_off(ledger, source, cause=Cause.SCHEDULE).reason.startswith("cooldown")
    assert ledger.leases.get("m") is None


def test_killed_after_the_duplicate_was_written_the_run_is_still_skipped(ledger: Ledger, source: FakeSource) -> None:
    go(ledger, source)
    ledger.requests.open(**make_request_args(run_id="run-2", dedupe_key="run:run-2"))
    assert ends(ledger, source, "run-2").startswith("run run-1 was started")


# ---------------------------------------------------------------- what the run asks for


def asked(ledger: Ledger, source: FakeSource, run_id: str = "run-1", **conf: Any) -> TriggerRequest:
    return go(ledger, source, run_id, cause=Cause.API, detail={"user": "ada", "triggered_by": "rest_api", **conf})


def test_the_window_ends_where_the_run_asks_for(ledger: Ledger, source: FakeSource) -> None:
    request = asked(ledger, source, window_end="2013-02-20T00:00:00+01:00", window_train="30d")
    assert request.as_of == datetime(2013, 2, 19, 23, tzinfo=UTC)
    assert (request.watermark, request.detail["window_train"]) == (WATERMARK, "30d")
    assert asked(ledger, source, window_end="2013-02-20T00:00:00+01:00") == request


def test_a_window_that_ends_before_its_labels_are_complete_is_refused(ledger: Ledger, source: FakeSource) -> None:
    with pytest.raises(BadRunParameter) as raised:
        asked(ledger, source, window_end="2013-03-01T12:00:00Z")
    for told in ("'window_end'", "found 2013-03-01 12:00 UTC", "up to 2013-02-28 23:00 UTC", "2013-03-01 23:00 UTC"):
        assert told in str(raised.value)
    assert not raised.value.retryable
    row = ledger.requests.for_run("m", "run-1")
    assert row.state is RequestState.OPEN, "the task fails it"
    ledger.requests.mark(row.id, now=NOW, state=RequestState.FAILED, step="admit")
    with pytest.raises(BadRunParameter):
        asked(ledger, source)


def test_a_request_made_to_end_earlier_takes_no_new_data_along(ledger: Ledger, source: FakeSource) -> None:
    close(ledger, asked(ledger, source, window_end="2013-02-01T00:00:00Z"), RequestState.FAILED)
    assert go(ledger, source, "run-2").state is RequestState.CLAIMED


def test_unknown_parameters_are_refused_and_the_row_says_who_asked(ledger: Ledger, source: FakeSource) -> None:
    with pytest.raises(BadRunParameter, match=r"'forse': found no such parameter.*Did you mean 'force'\?"):
        asked(ledger, source, forse=True)
    assert ledger.requests.for_run("m", "run-1").detail["forse"] is True


def test_an_event_cannot_force(ledger: Ledger, source: FakeSource) -> None:
    close(ledger, go(ledger, source), RequestState.SERVED)
    waits = put_off(ledger, source, "run-2", cause=Cause.SCHEDULE, detail={"force": True})
    assert waits.reason.startswith("cooldown")


def test_force_ignores_hold_and_cooldown(ledger: Ledger, source: FakeSource) -> None:
    close(ledger, go(ledger, source), RequestState.SERVED)
    ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    waits = put_off(ledger, source, "run-2", cause=Cause.API)
    assert waits.reason == "held since 2025-03-01 12:00 UTC by ada: wrong fares"
    assert asked(ledger, source, "run-3", force=True).state is RequestState.CLAIMED


@pytest.mark.parametrize("model", ["m", FLEET])
def test_a_held_model_is_retrained_by_a_person_only(ledger: Ledger, source: FakeSource, model: str) -> None:
    ledger.holds.place(model, by="ada", reason="wrong fares", now=NOW)
    for cause in (Cause.NEW_DATA, Cause.SCHEDULE, Cause.API):
        waits = put_off(ledger, source, f"run-{cause}", cause=cause)
        assert "held since 2025-03-01 12:00 UTC by ada: wrong fares" in waits.reason
        assert waits.due_at is None
    assert go(ledger, source, "run-2", cause=Cause.PERSON).state is RequestState.CLAIMED
    ledger.leases.release("m", ledger.requests.for_run("m", "run-2").id)
    ledger.holds.lift(model, by="ada", reason="repaired", now=NOW)
    assert go(ledger, source, "run-3", cause=Cause.SCHEDULE).state is RequestState.CLAIMED


# ---------------------------------------------------------------- put off, and taken up again


def test_what_is_put_off_waits_for_the_end_of_the_cooldown(ledger: Ledger, source: FakeSource) -> None:
    close(ledger, go(ledger, source), RequestState.SERVED)
    waits = put_off(ledger, source, "run-2", cause=Cause.SCHEDULE)
    assert waits.reason == "cooldown: 6h since the last retrain ends at 2025-03-01 18:00 UTC"
    assert (waits.due_at, waits.first_run, waits.run_id) == (NOW + 6 * HOUR, "run-2", waits.id)
    assert put_off(ledger, source, "run-2", cause=Cause.SCHEDULE, now=NOW + 9 * HOUR) == waits, "killed and repeated"
    assert ledger.leases.get("m") is None


def test_the_run_that_the_reconciler_starts_serves_it_with_the_data_of_now(ledger: Ledger, source: FakeSource) -> None:
    close(ledger, go(ledger, source), RequestState.SERVED)
    waits = put_off(ledger, source, "run-2", cause=Cause.SCHEDULE)
    source.frame = rows(106, WATERMARK + 6 * HOUR)
    request = go(ledger, source, waits.run_id, cause=Cause.API, detail={"user": "service"}, now=NOW + 6 * HOUR)
    assert (request.id, request.state, request.cause) == (waits.id, RequestState.CLAIMED, Cause.SCHEDULE)
    assert (request.watermark, request.as_of) == (WATERMARK + 6 * HOUR, AS_OF + 6 * HOUR)
    assert (request.detail, request.reason) == ({}, "")
    with pytest.raises(RunEnds, match=f"run {waits.run_id} serves this run's request"):
        go(ledger, source, "run-2", cause=Cause.SCHEDULE)
    assert ledger.requests.get(request.id) == request


def test_put_off_in_its_own_run_it_gets_another_one(ledger: Ledger, source: FakeSource) -> None:
    waits = ledger.requests.open(**make_request_args(run_id=None, cause=Cause.METRIC, watermark=None, as_of=None))
    ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    again = put_off(ledger, source, waits.run_id)
    assert (again.id, again.run_id) == (waits.id, f"{waits.id}-2")
    assert put_off(ledger, source, waits.run_id) == again, "repeated, it opens nothing"
    ledger.holds.lift("m", by="ada", reason="repaired", now=NOW)
    claimed = go(ledger, source, again.run_id, now=NOW + HOUR)
    assert (claimed.id, claimed.cause, claimed.watermark) == (waits.id, Cause.METRIC, WATERMARK)
    assert len(ledger.requests.latest("m", limit=9)) == 1


def test_an_expired_request_starts_nothing(ledger: Ledger, source: FakeSource) -> None:
    waits = ledger.requests.open(**make_request_args(run_id=None))
    ledger.requests.mark(waits.id, now=NOW, state=RequestState.EXPIRED, reason="waited for more than 7d")
    with pytest.raises(RunEnds, match="waited for more than 7d"):
        go(ledger, source, waits.run_id)
    assert ledger.requests.get(waits.id).state is RequestState.EXPIRED


# ---------------------------------------------------------------- whose turn it is


def test_a_persons_request_that_waits_for_the_lease_goes_first(ledger: Ledger, source: FakeSource) -> None:
    first = go(ledger, source)
    for run_id, cause in (("run-2", Cause.SCHEDULE), ("run-3", Cause.PERSON)):
        with pytest.raises(LeaseBusy):
            go(ledger, source, run_id, cause=cause)
    close(ledger, first, RequestState.FAILED)
    with pytest.raises(LeaseBusy, match=r"\(person\) waits for the lease, and goes first"):
        go(ledger, source, "run-2", cause=Cause.SCHEDULE)
    assert go(ledger, source, "run-3", cause=Cause.PERSON).state is RequestState.CLAIMED


def test_who_has_the_lease_keeps_it_however_urgent_those_are_that_wait(ledger: Ledger, source: FakeSource) -> None:
    first = go(ledger, source)
    with pytest.raises(LeaseBusy):
        go(ledger, source, "run-2", cause=Cause.PERSON)
    assert go(ledger, source) == first


def test_a_request_that_goes_takes_the_open_ones_along(ledger: Ledger, source: FakeSource) -> None:
    ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    along = [put_off(ledger, source, "run-2", cause=Cause.SCHEDULE), put_off(ledger, source, "run-3", cause=Cause.API)]
    metric = make_request_args(run_id=None, cause=Cause.METRIC, dedupe_key="k", watermark=None, as_of=None)
    along.append(ledger.requests.open(**metric))
    own = ledger.requests.open(**make_request_args(run_id=None, dedupe_key="again", detail={"judge_again": 7}))
    goes = go(ledger, source, "run-4", cause=Cause.PERSON)
    assert {one.state for one in map(ledger.requests.get, (one.id for one in along))} == {RequestState.SKIPPED}
    reason = "run run-4 was started for the data up to 2013-03-01 23:00 UTC"
    assert ledger.requests.get(along[0].id).reason == reason
    assert ledger.requests.get(own.id) == own
    with pytest.raises(RunEnds, match=reason):
        go(ledger, source, along[0].run_id)
    assert go(ledger, source, "run-4") == goes


def test_killed_before_it_took_the_others_along_it_does_so_again(ledger: Ledger, source: FakeSource) -> None:
    waits = ledger.requests.open(**make_request_args(run_id=None, cause=Cause.METRIC, dedupe_key="k"))
    goes = ledger.requests.open(**make_request_args(cause=Cause.SCHEDULE))
    ledger.leases.acquire("m", goes.id, LEASE_TTL, NOW)
    ledger.requests.mark(goes.id, now=NOW, state=RequestState.CLAIMED, step="admit")
    go(ledger, source)
    assert ledger.requests.get(waits.id).state is RequestState.SKIPPED


# ---------------------------------------------------------------- what makes nothing new


def test_a_version_that_is_judged_again_asks_no_source_and_keeps_its_data(ledger: Ledger, source: FakeSource) -> None:
    served = go(ledger, source)
    close(ledger, served, RequestState.SERVED)
    ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    waits = judge_again(ledger, make_candidate(version=7), served, "version 6 was released meanwhile", NOW)
    assert judge_again(ledger, make_candidate(version=7), served, "said otherwise", NOW + HOUR) == waits
    source.answers = False
    request = go(ledger, source, waits.run_id)
    assert (request.id, request.state, request.cause) == (waits.id, RequestState.CLAIMED, Cause.NEW_DATA)
    assert (request.watermark, request.as_of) == (WATERMARK, AS_OF)


def test_a_run_cannot_say_itself_that_a_version_is_judged_again(ledger: Ledger, source: FakeSource) -> None:
    with pytest.raises(BadRunParameter, match="'judge_again': found no such parameter"):
        asked(ledger, source, judge_again=7)


def test_an_override_takes_the_data_of_its_version_and_is_a_persons(ledger: Ledger, source: FakeSource) -> None:
    made_for = go(ledger, source)
    close(ledger, made_for, RequestState.SERVED)
    ledger.models.add_candidate(make_candidate(version=7, request_id=made_for.id))
    source.answers = False
    conf = {"override": 7, "reason": "the timetable changed"}
    request = go(ledger, source, "run-2", cause=Cause.PERSON, detail={"user": "ada", **conf})
    assert (request.state, request.watermark, request.as_of) == (RequestState.CLAIMED, WATERMARK, AS_OF)
    with pytest.raises(BadRunParameter, match="'override': found a run that the API started"):
        asked(ledger, source, "run-3", **conf)


def test_a_dry_run_goes_during_hold_and_cooldown_and_uses_nothing_up(ledger: Ledger, source: FakeSource) -> None:
    close(ledger, go(ledger, source), RequestState.SERVED)
    ledger.holds.place("m", by="ada", reason="wrong fares", now=NOW)
    source.frame = rows(110, WATERMARK + 10 * HOUR)
    dry = asked(ledger, source, "run-2", dry_run=True)
    close(ledger, dry, RequestState.SERVED, NOW + 5 * HOUR)
    ledger.holds.lift("m", by="ada", reason="repaired", now=NOW)
    request = go(ledger, source, "run-3", now=NOW + 6 * HOUR)
    assert request.state is RequestState.CLAIMED, "the ten new rows are still new, and the cooldown is over"
