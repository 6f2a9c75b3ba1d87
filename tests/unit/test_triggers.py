"""The decision of admit, without a ledger or a source."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from evergreen.core.records import Cause, RequestState, TriggerRequest
from evergreen.core.run_params import BadRunParameter
from evergreen.core.spec_fields import format_duration
from evergreen.core.triggers import (
    ADMIT,
    WAITING,
    Decision,
    Facts,
    Go,
    PutOff,
    Skip,
    again,
    cause_told,
    decide,
    dedupe_key,
    end_of_window,
    goes_before,
    judged_again,
    readable_time,
    takes_along,
)
from records import AS_OF, NOW, WATERMARK, make_request_args, make_spec

DAY = timedelta(days=1)
SPEC = make_spec(triggers=[{"new_data": {"min_rows": 5000}}], cooldown="6h")


def request(id: str = "mine", **changes: Any) -> TriggerRequest:
    arguments = make_request_args(run_id=f"run-{id}", **changes)
    requested_at = arguments.pop("now")
    state = arguments.pop("state", RequestState.OPEN)
    more = {"step": "", "reason": "", "closed_at": None}
    return TriggerRequest(**{**more, **arguments}, id=id, state=state, requested_at=requested_at)


def served(ago: timedelta, **changes: Any) -> TriggerRequest:
    defaults = {"watermark": WATERMARK - DAY, "as_of": AS_OF - DAY, "state": RequestState.SERVED}
    return request("served", **{**defaults, "closed_at": NOW - ago, **changes})


def decided(
    mine: TriggerRequest,
    *others: TriggerRequest,
    last: TriggerRequest | None = None,
    rows: int | None = 9000,
    **more: Any,
) -> Decision:
    """`others` newest first; those named 'later' were requested after mine."""
    later = [other for other in others if other.id == "later"]
    earlier = [other for other in others if other.id != "later"]
    rows = rows if mine.cause is Cause.NEW_DATA else None
    facts = Facts(requests=[*later, mine, *earlier], last_served=last, new_rows=rows, now=NOW, **more)
    return decide(SPEC, mine, facts)


@pytest.mark.parametrize("cause", Cause)
def test_the_first_request_goes(cause: Cause) -> None:
    assert decided(request(cause=cause)) == Go()


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
    ends = NOW + timedelta(hours=4)
    put_off = PutOff("cooldown: 6h since the last retrain ends at 2025-03-01 16:00 UTC", ends)
    assert decided(request(cause=cause), last, last=last) == put_off
    over = replace(last, closed_at=NOW - timedelta(hours=6))
    assert decided(request(cause=cause), over, last=over) == Go()


def test_a_person_ignores_cooldown() -> None:
    last = served(timedelta(hours=2))
    assert decided(request(cause=Cause.PERSON), last, last=last) == Go()


@pytest.mark.parametrize("state", [s for s in RequestState if s not in (RequestState.SKIPPED, RequestState.EXPIRED)])
def test_new_data_that_another_request_has_is_coalesced(state: RequestState) -> None:
    newer = request("later", watermark=WATERMARK + DAY, state=state, cause=Cause.SCHEDULE)
    skipped = Skip("run run-later was started for the data up to 2013-03-02 23:00 UTC")
    assert decided(request(), newer) == skipped
    assert decided(request(), replace(newer, id="earlier")) == skipped


def test_what_was_skipped_or_expired_and_what_is_older_covers_nothing() -> None:
    older = request("earlier", watermark=WATERMARK - DAY, state=RequestState.CLAIMED)
    for state in (RequestState.SKIPPED, RequestState.EXPIRED):
        assert decided(request(), request("later", watermark=WATERMARK + DAY, state=state), older) == Go()


def test_one_that_waits_with_newer_data_covers_also_what_hold_or_cooldown_would_put_off() -> None:
    newer = request("later", watermark=WATERMARK + DAY, attempt=1)
    found = decided(request(), newer, held="held since noon", last=served(timedelta(hours=2)))
    assert found == Skip("run run-later is to be started for the data up to 2013-03-02 23:00 UTC")


def test_of_two_with_the_same_data_exactly_the_first_stays() -> None:
    assert decided(request(), request("later")) == Go()
    assert isinstance(decided(request(), request("earlier")), Skip)


@pytest.mark.parametrize("cause", [Cause.SCHEDULE, Cause.API, Cause.PERSON])
def test_other_causes_are_not_coalesced(cause: Cause) -> None:
    assert decided(request(cause=cause), request("later", watermark=WATERMARK + DAY)) == Go()


@pytest.mark.parametrize("cause", Cause)
def test_a_held_model_waits_for_a_person(cause: Cause) -> None:
    expected = Go() if cause is Cause.PERSON else PutOff("held since noon", None)
    assert decided(request(cause=cause), held="held since noon") == expected


@pytest.mark.parametrize("cause", Cause)
def test_force_ignores_everything(cause: Cause) -> None:
    last = served(timedelta(hours=2))
    newer = request("later", watermark=WATERMARK + DAY)
    assert decided(request(cause=cause), newer, last=last, rows=0, held="held", forced=True) == Go()


@pytest.mark.parametrize("detail", [{"judge_again": 7}, {"override": 7, "reason": "x"}, {"dry_run": True}])
@pytest.mark.parametrize("cause", Cause)
def test_what_makes_nothing_that_is_released_needs_no_new_data(cause: Cause, detail: dict[str, Any]) -> None:
    mine = request(cause=cause, detail=detail)
    newer = request("later", watermark=WATERMARK + DAY)
    assert decided(mine, newer, last=served(timedelta(hours=2)), rows=0, held="held since noon") == Go()


@pytest.mark.parametrize("detail", [{"judge_again": 7}, {"dry_run": True}, {"window_end": "x"}, {"window_train": "9d"}])
def test_a_run_that_goes_its_own_way_covers_no_new_data(detail: dict[str, Any]) -> None:
    newer = request("later", watermark=WATERMARK + DAY, cause=Cause.API, detail=detail)
    assert decided(request(), newer) == Go()


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


# ---------------------------------------------------------------- who goes first, and what it takes along


@pytest.mark.parametrize(
    ("mine", "other", "gives_way"),
    [
        (Cause.SCHEDULE, Cause.PERSON, True),
        (Cause.NEW_DATA, Cause.API, True),
        (Cause.METRIC, Cause.PERSON, True),
        (Cause.SCHEDULE, Cause.UPSTREAM, True),
        (Cause.NEW_DATA, Cause.SCHEDULE, False),
        (Cause.API, Cause.PERSON, False),
        (Cause.PERSON, Cause.SCHEDULE, False),
    ],
)
def test_a_more_urgent_one_that_waits_for_the_lease_goes_first(mine: Cause, other: Cause, gives_way: bool) -> None:
    waiting = request("other", cause=other, step=ADMIT, reason=f"{WAITING}busy")
    assert goes_before(request(cause=mine), [waiting]) == (waiting if gives_way else None)


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "", "reason": ""},  # its run has not come to admit yet
        {"reason": "cooldown"},  # it was put off before
        {"state": RequestState.CLAIMED},
        {"state": RequestState.FAILED},
    ],
)
def test_only_one_that_waits_for_the_lease_is_given_way(changes: dict[str, Any]) -> None:
    waiting = request("other", **{"cause": Cause.PERSON, "step": ADMIT, "reason": f"{WAITING}busy", **changes})
    assert goes_before(request(cause=Cause.SCHEDULE), [waiting]) is None


@pytest.mark.parametrize("cause", [c for c in Cause if c is not Cause.PERSON])
def test_what_is_open_and_has_no_newer_data_is_taken_along(cause: Cause) -> None:
    mine = request(cause=Cause.SCHEDULE, state=RequestState.CLAIMED)
    assert takes_along(mine, request("other", cause=cause))
    assert takes_along(mine, request("other", cause=cause, watermark=None, now=NOW - DAY))
    assert not takes_along(mine, request("other", cause=cause, watermark=None, now=NOW + DAY)), "asked for later"
    assert not takes_along(mine, request("other", cause=cause, watermark=WATERMARK + DAY))
    for state in (s for s in RequestState if s is not RequestState.OPEN):
        assert not takes_along(mine, request("other", cause=cause, state=state))


def test_nobody_takes_itself_or_a_persons_request_along() -> None:
    mine = request(state=RequestState.OPEN)
    assert not takes_along(mine, mine)
    assert not takes_along(mine, request("other", cause=Cause.PERSON))


@pytest.mark.parametrize(
    "detail", [{"reason": "x"}, {"force": True}, {"window_end": "x"}, {"dry_run": True}, {"judge_again": 7}]
)
def test_a_request_with_parameters_has_its_own_run(detail: dict[str, Any]) -> None:
    assert not takes_along(request(), request("other", cause=Cause.API, detail=detail))


@pytest.mark.parametrize("detail", [{"window_end": "x"}, {"window_train": "9d"}, {"dry_run": True}, {"judge_again": 7}])
def test_a_run_that_goes_its_own_way_takes_nothing_along(detail: dict[str, Any]) -> None:
    assert not takes_along(request(cause=Cause.PERSON, detail=detail), request("other"))
    assert takes_along(request(cause=Cause.PERSON, detail={"reason": "x", "force": True}), request("other"))


# ---------------------------------------------------------------- judged again, and told


def test_judged_again_it_keeps_cause_data_and_who_asked() -> None:
    mine = request(cause=Cause.PERSON, detail={"user": "ada", "reason": "repaired"})
    made = again(mine, 7, generation=3, because="version 6 was released meanwhile")
    assert (made["cause"], made["watermark"], made["as_of"], made["run_id"]) == (Cause.PERSON, WATERMARK, AS_OF, None)
    assert made["dedupe_key"] == "again:mine:3"
    because = {"judge_again": 7, "because": "version 6 was released meanwhile", "of": "mine"}
    assert made["detail"] == {"user": "ada", "reason": "repaired", **because}


def test_only_the_ledger_says_that_a_version_is_judged_again() -> None:
    assert judged_again(request(detail={"judge_again": 7})) == 7
    assert judged_again(request(detail={"judge_again": 7}, first_run="run-mine")) is None
    assert judged_again(request()) is None


METRIC = {
    "metric": "drift.psi.max",
    "value": 0.31,
    "threshold": 0.2,
    "direction": "above",
    "window": "7d",
    "rows": 12000,
}


@pytest.mark.parametrize(
    ("cause", "detail", "told"),
    [
        (Cause.METRIC, METRIC, "metric drift.psi.max is 0.31, above 0.2, over 7d and 12,000 rows"),
        (Cause.METRIC, {**METRIC, "window": None, "rows": None}, "metric drift.psi.max is 0.31, above 0.2"),
        (Cause.METRIC, {**METRIC, "rows": None}, "metric drift.psi.max is 0.31, above 0.2, over 7d"),
        (Cause.UPSTREAM, {"upstream": "fares", "version": 4, "generation": 9},
         "version 4 of fares was released (generation 9)"),
        (Cause.NEW_DATA, {}, "new data, up to 2013-03-01 23:00 UTC"),
        (Cause.SCHEDULE, {"logical_date": "2025-03-01 03:00"}, "the schedule, of 2025-03-01 03:00"),
        (Cause.PERSON, {"requested_by": "ada", "user": "admin", "reason": "repaired"}, "ada asked for it: repaired"),
        (Cause.API, {"user": "ci"}, "the API was asked, as ci"),
        (Cause.PERSON, {"user": "ada", "dry_run": True}, "dry run: ada asked for it"),
        (Cause.PERSON, {"user": "ada", "override": 7, "reason": "Easter"},
         "version 7, whose gates failed, is judged again: ada asked for it: Easter"),
        (Cause.NEW_DATA, {"judge_again": 7, "because": "version 6 was released"},
         "version 7 is judged again: version 6 was released (first: new data, up to 2013-03-01 23:00 UTC)"),
    ],
)  # fmt: skip
def test_a_cause_is_told_to_people(cause: Cause, detail: dict[str, Any], told: str) -> None:
    assert cause_told(request(cause=cause, detail=detail)) == told


def test_times_read_in_utc() -> None:
    assert readable_time(datetime(2013, 3, 1, 5, tzinfo=timezone(timedelta(hours=-5)))) == "2013-03-01 10:00 UTC"
