"""What every ledger does: requests that wait for the reconciler, put off or opened by no run, and those that expire."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from evergreen.core.ports import Ledger
from evergreen.core.records import Cause, RequestState, TriggerRequest
from ledgers import LATER, Opener
from records import NOW, WATERMARK, make_request_args

UNTIL = NOW + timedelta(hours=6)


def queue(ledger: Ledger, **changes: object) -> TriggerRequest:
    """A request that no run opened."""
    return ledger.requests.open(**make_request_args(run_id=None, **changes))


def put_off(ledger: Ledger, request: TriggerRequest, reason: str = "cooldown", **changes: object) -> TriggerRequest:
    """Put off until six hours later, unless told otherwise."""
    return ledger.requests.put_off(request.id, **{"until": UNTIL, "reason": reason, "now": NOW, **changes})  # type: ignore[arg-type]


def test_a_request_without_a_run_waits_under_its_own_id(ledger: Ledger) -> None:
    made = queue(ledger, cause=Cause.METRIC, detail={"metric": "drift.psi.max", "value": 0.31}, due_at=UNTIL)
    assert made == ledger.requests.get(made.id)
    assert (made.state, made.queued, made.attempt) == (RequestState.OPEN, True, 1)
    assert (made.run_id, made.first_run, made.due_at) == (made.id, "", UNTIL)
    assert (made.cause, made.detail) == (Cause.METRIC, {"metric": "drift.psi.max", "value": 0.31})
    assert ledger.requests.for_run("m", made.id) == made
    assert queue(ledger, model="n", cause=Cause.UPSTREAM).due_at is None


def test_a_request_of_a_run_does_not_wait(ledger: Ledger) -> None:
    made = ledger.requests.open(**make_request_args())
    assert (made.queued, made.attempt, made.run_id, made.first_run, made.due_at) == (False, 0, "run-1", "run-1", None)


def test_what_waits_is_opened_once(ledger: Ledger) -> None:
    first = queue(ledger, due_at=UNTIL)
    assert queue(ledger, now=LATER) == first
    assert ledger.requests.open(**make_request_args(run_id="run-1")) == first
    assert len(ledger.requests.latest("m", limit=9)) == 1


def test_put_off_it_waits_and_both_runs_find_it(ledger: Ledger) -> None:
    made = ledger.requests.open(**make_request_args())
    waits = put_off(ledger, made, "cooldown ends at six")
    assert waits == ledger.requests.get(made.id)
    assert (waits.state, waits.queued, waits.attempt) == (RequestState.OPEN, True, 1)
    assert (waits.run_id, waits.first_run) == (made.id, "run-1")
    assert (waits.due_at, waits.reason, waits.closed_at) == (UNTIL, "cooldown ends at six", None)
    assert ledger.requests.for_run("m", "run-1") == ledger.requests.for_run("m", made.id) == waits
    assert ledger.requests.for_run("other", "run-1") is None


def test_the_request_that_a_run_serves_comes_before_the_one_that_it_opened(ledger: Ledger) -> None:
    """A run's id may be both: of a request that it put off, and of one that names it since."""
    put_off(ledger, ledger.requests.open(**make_request_args(run_id="run-1")))
    serves = ledger.requests.open(**make_request_args(run_id="run-1", dedupe_key="run:run-1"))
    assert ledger.requests.for_run("m", "run-1") == serves
    put_off(ledger, ledger.requests.open(**make_request_args(run_id="run-1", dedupe_key="third")))
    assert ledger.requests.for_run("m", "run-1") == serves


def test_what_waits_keeps_its_run_and_takes_the_new_reason(ledger: Ledger) -> None:
    waits = put_off(ledger, ledger.requests.open(**make_request_args()))
    again = put_off(ledger, waits, "ada holds m", until=None, now=LATER)
    assert (again.run_id, again.attempt, again.first_run) == (waits.run_id, 1, "run-1")
    assert (again.due_at, again.reason, again.queued) == (None, "ada holds m", True)


def test_put_off_by_its_own_run_it_waits_for_the_next_one(ledger: Ledger) -> None:
    waits = queue(ledger)
    begun = ledger.requests.mark(waits.id, now=NOW, step="admit")
    assert (begun.queued, begun.run_id) == (False, waits.id)
    second = put_off(ledger, begun, "ada holds m")
    assert (second.queued, second.step, second.attempt, second.run_id) == (True, "", 2, f"{waits.id}-2")
    assert put_off(ledger, second).run_id == f"{waits.id}-2"
    ledger.requests.mark(waits.id, now=NOW, step="admit")
    third = put_off(ledger, waits)
    assert (third.attempt, third.run_id, third.first_run) == (3, f"{waits.id}-3", "")
    assert ledger.requests.for_run("m", third.run_id) == third
    assert ledger.requests.for_run("m", f"{waits.id}-2") is None


@pytest.mark.parametrize("state", [s for s in RequestState if s is not RequestState.OPEN])
def test_only_an_open_request_is_put_off(ledger: Ledger, state: RequestState) -> None:
    made = ledger.requests.open(**make_request_args())
    kept = ledger.requests.mark(made.id, now=NOW, state=state, reason="as it is")
    assert put_off(ledger, made) == kept == ledger.requests.get(made.id)


def test_nobody_can_be_put_off(ledger: Ledger) -> None:
    with pytest.raises(KeyError):
        ledger.requests.put_off("nobody", until=None, reason="", now=NOW)


def test_a_request_whose_run_has_begun_does_not_wait(ledger: Ledger) -> None:
    made = ledger.requests.open(**make_request_args())
    assert not ledger.requests.mark(made.id, now=NOW, step="admit").queued
    assert put_off(ledger, made).queued


def test_a_claimed_request_no_longer_waits(ledger: Ledger) -> None:
    waits = queue(ledger)
    claimed = ledger.requests.mark(waits.id, now=LATER, state=RequestState.CLAIMED)
    assert (claimed.queued, claimed.run_id) == (False, waits.id)


def test_an_expired_request_is_closed(ledger: Ledger) -> None:
    waits = queue(ledger)
    expired = ledger.requests.mark(waits.id, now=LATER, state=RequestState.EXPIRED, reason="waited for 7 days")
    assert (expired.state, expired.closed_at, expired.queued) == (RequestState.EXPIRED, LATER, False)
    assert ledger.requests.unfinished() == []
    assert ledger.requests.last_served("m") is None
    assert ledger.requests.newest_watermark(model="m") == WATERMARK


def test_unfinished_are_the_open_and_claimed_ones_oldest_first(ledger: Ledger) -> None:
    made = {state: queue(ledger, dedupe_key=state.value) for state in RequestState}
    for state, request in made.items():
        ledger.requests.mark(request.id, now=NOW, state=state)
    other = ledger.requests.open(**make_request_args(model="other", now=NOW - timedelta(days=1)))
    ids = [made[RequestState.OPEN].id, made[RequestState.CLAIMED].id]
    assert [request.id for request in ledger.requests.unfinished("m")] == ids
    assert [request.id for request in ledger.requests.unfinished()] == [*ids, other.id]
    assert ledger.requests.unfinished("none") == []


def test_times_of_what_waits_are_in_utc_and_naive_ones_are_refused(ledger: Ledger) -> None:
    waits = put_off(ledger, queue(ledger), until=UNTIL.astimezone())
    assert (waits.due_at, waits.due_at.utcoffset()) == (UNTIL, timedelta(0))
    with pytest.raises(Exception, match="without a time zone"):
        put_off(ledger, waits, until=UNTIL.replace(tzinfo=None))
    assert ledger.requests.get(waits.id) == waits


def test_put_off_by_many_at_once_it_waits_under_one_id(opener: Opener) -> None:
    made = opener().requests.open(**make_request_args())
    ready = Barrier(6)

    def put_off_now(number: int) -> str:
        ledger = opener()
        ready.wait(10)
        return put_off(ledger, made, f"told by {number}").run_id

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(put_off_now, range(6))) == {made.id}
    assert opener().requests.get(made.id).attempt == 1
