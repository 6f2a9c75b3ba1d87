"""The decision of admit, without a ledger or a source."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.run_params import BadRunParameter
from evergreen.core.spec_fields import format_duration
from evergreen.core.triggers import Facts, Go, Skip, decide, dedupe_key, end_of_window, readable_time
from records import AS_OF, NOW, WATERMARK, make_request_args, make_spec

DAY = timedelta(days=1)
SPEC = make_spec(triggers=[{"new_data": {"min_rows": 5000}}], cooldown="6h")


def request(id: str = "mine", **changes: Any) -> TriggerRequest:
    arguments = make_request_args(run_id=f"run-{id}", **changes)
    requested_at = arguments.pop("now")
    state = arguments.pop("state", RequestState.OPEN)
    closed_at = arguments.pop("closed_at", None)
    return TriggerRequest(
        id=id, state=state, step="", reason="", requested_at=requested_at, closed_at=closed_at, **arguments
    )


def served(ago: timedelta, **changes: Any) -> TriggerRequest:
    defaults = {"watermark": WATERMARK - DAY, "as_of": AS_OF - DAY, "state": RequestState.SERVED}
    return request("served", **{**defaults, "closed_at": NOW - ago, **changes})


def decided(
    mine: TriggerRequest,
    *others: TriggerRequest,
    last: TriggerRequest | None = None,
    rows: int | None = 9000,
    **more: Any,
) -> Go | Skip:
    """`others` newest first; those named 'later' were requested after mine."""
    later = [other for other in others if other.id == "later"]
    earlier = [other for other in others if other.id != "later"]
    rows = rows if mine.cause is Cause.NEW_DATA else None
    facts = Facts(requests=[*later, mine, *earlier], last_served=last, new_rows=rows, now=NOW, **more)
    return decide(SPEC, mine, facts)


@pytest.mark.parametrize("cause", Cause)
def test_the_first_request_goes(cause: Cause) -> None:
    assert decided(request(cause=cause)) == Go()


@pytest.mark.parametrize("cause", Cause)
def test_an_empty_source_has_nothing_to_train_on(cause: Cause) -> None:
    assert decided(request(cause=cause, watermark=None, as_of=None)) == Skip("the source holds no rows")


def test_too_few_rows_are_counted_since_the_last_served_request() -> None:
    last = served(7 * DAY)
    found = decided(request(), last, last=last, rows=1200)
    assert found == Skip("1,200 new rows since 2013-02-27 23:00 UTC, 5,000 needed")
    assert decided(request(), rows=1200) == Skip("1,200 new rows so far, 5,000 needed")
    assert decided(request(), last, last=last, rows=5000) == Go()


@pytest.mark.parametrize("cause", [Cause.SCHEDULE, Cause.API, Cause.PERSON])
def test_only_new_data_needs_a_number_of_rows(cause: Cause) -> None:
    assert decided(request(cause=cause), rows=0) == Go()


@pytest.mark.parametrize("cause", [Cause.SCHEDULE, Cause.API, Cause.NEW_DATA])
def test_cooldown_counts_from_the_end_of_the_last_retrain(cause: Cause) -> None:
    last = served(timedelta(hours=2))
    skipped = Skip("cooldown: 6h since the last retrain ends at 2025-03-01 16:00 UTC")
    assert decided(request(cause=cause), last, last=last) == skipped
    over = replace(last, closed_at=NOW - timedelta(hours=6))
    assert decided(request(cause=cause), over, last=over) == Go()


def test_a_person_ignores_cooldown() -> None:
    last = served(timedelta(hours=2))
    assert decided(request(cause=Cause.PERSON), last, last=last) == Go()


@pytest.mark.parametrize("state", [s for s in RequestState if s is not RequestState.SKIPPED])
def test_new_data_that_another_request_has_is_coalesced(state: RequestState) -> None:
    newer = request("later", watermark=WATERMARK + DAY, state=state, cause=Cause.SCHEDULE)
    skipped = Skip("run run-later was started for the data up to 2013-03-02 23:00 UTC")
    assert decided(request(), newer) == skipped
    assert decided(request(), replace(newer, id="earlier")) == skipped


def test_a_skipped_or_an_older_request_covers_nothing() -> None:
    skipped = request("later", watermark=WATERMARK + DAY, state=RequestState.SKIPPED)
    older = request("earlier", watermark=WATERMARK - DAY, state=RequestState.CLAIMED)
    assert decided(request(), skipped, older) == Go()


def test_of_two_with_the_same_data_exactly_the_first_stays() -> None:
    assert decided(request(), request("later")) == Go()
    assert isinstance(decided(request(), request("earlier")), Skip)


@pytest.mark.parametrize("cause", [Cause.SCHEDULE, Cause.API, Cause.PERSON])
def test_other_causes_are_not_coalesced(cause: Cause) -> None:
    assert decided(request(cause=cause), request("later", watermark=WATERMARK + DAY)) == Go()


@pytest.mark.parametrize("cause", Cause)
def test_a_held_model_waits_for_a_person(cause: Cause) -> None:
    expected = Go() if cause is Cause.PERSON else Skip("held since noon")
    assert decided(request(cause=cause), held="held since noon") == expected


@pytest.mark.parametrize("cause", Cause)
def test_force_ignores_all_but_an_empty_source(cause: Cause) -> None:
    last = served(timedelta(hours=2))
    newer = request("later", watermark=WATERMARK + DAY)
    assert decided(request(cause=cause), newer, last=last, rows=0, held="held", forced=True) == Go()
    assert decided(request(cause=cause, watermark=None), forced=True) == Skip("the source holds no rows")


def test_a_window_can_be_made_to_end_up_to_the_newest_complete_label() -> None:
    assert end_of_window(WATERMARK, DAY, AS_OF) == AS_OF
    assert end_of_window(WATERMARK, DAY, AS_OF - 30 * DAY) == AS_OF - 30 * DAY
    with pytest.raises(BadRunParameter, match=r"allowed: up to 2013-02-28 23:00 UTC: the newest row is of 2013-03-01"):
        end_of_window(WATERMARK, DAY, AS_OF + timedelta(seconds=1))


def test_new_data_is_the_same_by_its_watermark_and_others_by_their_run() -> None:
    berlin = WATERMARK.astimezone(timezone(timedelta(hours=1)))
    key = dedupe_key(Cause.NEW_DATA, "run-1", WATERMARK)
    assert key == dedupe_key(Cause.NEW_DATA, "run-2", berlin) == "new_data:2013-03-01T23:00:00+00:00"
    assert dedupe_key(Cause.SCHEDULE, "run-1", WATERMARK) == "schedule:run-1"
    assert dedupe_key(Cause.NEW_DATA, "run-1", None) == "new_data:run-1"


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=90), "90m"),
        (timedelta(hours=6), "6h"),
        (timedelta(days=2), "2d"),
    ],
)
def test_durations_read_as_a_spec_writes_them(length: timedelta, text: str) -> None:
    assert format_duration(length) == text


def test_times_read_in_utc() -> None:
    assert readable_time(datetime(2013, 3, 1, 5, tzinfo=timezone(timedelta(hours=-5)))) == "2013-03-01 10:00 UTC"
