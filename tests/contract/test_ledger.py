"""What every ledger does: the same tests for the SQL one and its in-memory twin. Here: requests, leases, replicas."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from evergreen.core.errors import LeaseBusy
from evergreen.core.ports import Ledger
from evergreen.core.records import Cause, Replica, RequestState
from ledgers import LATER, Opener
from records import AS_OF, NOW, WATERMARK, make_request_args

TTL = timedelta(minutes=30)


# ---------------------------------------------------------------- trigger requests


def test_an_open_request_comes_back_whole(ledger: Ledger) -> None:
    made = ledger.requests.open(**make_request_args(detail={"requested_by": "ada", "rows": 5}))
    assert ledger.requests.get(made.id) == made
    assert (made.state, made.step, made.reason, made.closed_at) == (RequestState.OPEN, "", "", None)
    assert (made.cause, made.detail) == (Cause.NEW_DATA, {"requested_by": "ada", "rows": 5})
    assert (made.watermark, made.as_of, made.requested_at) == (WATERMARK, AS_OF, NOW)


def test_times_come_back_aware_and_in_utc(ledger: Ledger) -> None:
    berlin = WATERMARK.astimezone(timezone(timedelta(hours=1))) + timedelta(microseconds=7)
    made = ledger.requests.get(ledger.requests.open(**make_request_args(watermark=berlin)).id)
    assert made.watermark == berlin
    assert made.watermark.utcoffset() == timedelta(0)
    assert made.requested_at.utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(Exception, match="without a time zone"):
        ledger.requests.open(**make_request_args(watermark=datetime(2013, 1, 1)))


def test_the_same_dedupe_key_is_the_same_request(ledger: Ledger) -> None:
    first = ledger.requests.open(**make_request_args(run_id="run-1"))
    again = ledger.requests.open(**make_request_args(run_id="run-2", now=LATER))
    other = ledger.requests.open(**make_request_args(model="other"))
    assert again == first
    assert other.id != first.id


def test_eight_writers_with_one_dedupe_key_make_one_request(opener: Opener) -> None:
    def write(number: int) -> str:
        return opener().requests.open(**make_request_args(run_id=f"run-{number}")).id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(write, range(8)))
    assert len(ids) == 1
    assert len(opener().requests.latest("m", limit=9)) == 1


def test_mark_closes_and_opens_again(ledger: Ledger) -> None:
    request = ledger.requests.open(**make_request_args())
    mark = ledger.requests.mark
    assert mark(request.id, now=NOW, step="pull").step == "pull"
    failed = mark(request.id, now=LATER, state=RequestState.FAILED, reason="no rows")
    assert (failed.state, failed.step, failed.reason, failed.closed_at) == (
        RequestState.FAILED,
        "pull",
        "no rows",
        LATER,
    )
    assert mark(request.id, now=LATER, state=RequestState.CLAIMED, reason="").closed_at is None
    served = mark(request.id, now=NOW, state=RequestState.SERVED)
    assert served.closed_at == NOW
    assert mark(request.id, now=LATER, state=RequestState.SERVED, reason="again").closed_at == NOW
    assert ledger.requests.get(request.id).reason == "again"


def test_eight_writers_wait_for_each_other(opener: Opener) -> None:
    def write(number: int) -> None:
        ledger = opener()
        for step in range(5):
            request = ledger.requests.open(**make_request_args(dedupe_key=f"{number}-{step}"))
            ledger.requests.mark(request.id, now=NOW, state=RequestState.SERVED)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    made = opener().requests.latest("m", limit=99)
    assert [request.state for request in made] == [RequestState.SERVED] * 40


def test_an_unknown_request_is_a_key_error(ledger: Ledger) -> None:
    with pytest.raises(KeyError):
        ledger.requests.get("nobody")
    with pytest.raises(KeyError):
        ledger.requests.mark("nobody", now=NOW, step="pull")


def test_requests_are_found_by_run_by_age_and_by_state(ledger: Ledger) -> None:
    made = [ledger.requests.open(**make_request_args(run_id=f"r{n}", dedupe_key=f"k{n}")) for n in range(3)]
    ledger.requests.mark(made[0].id, now=NOW, state=RequestState.SERVED)
    ledger.requests.mark(made[2].id, now=NOW, state=RequestState.FAILED)
    assert ledger.requests.for_run("m", "r1").id == made[1].id
    assert ledger.requests.for_run("m", "r9") is None
    assert ledger.requests.for_run("other", "r1") is None
    assert [r.id for r in ledger.requests.latest("m", limit=2)] == [made[2].id, made[1].id]
    assert ledger.requests.last_served("m").id == made[0].id
    assert ledger.requests.last_served("other") is None


def test_the_newest_watermark_counts_every_state(ledger: Ledger) -> None:
    newer, newest = WATERMARK + timedelta(days=1), WATERMARK + timedelta(days=2)
    assert ledger.requests.newest_watermark(model="m") is None
    ledger.requests.open(**make_request_args(dedupe_key="none", watermark=None, as_of=None))
    assert ledger.requests.newest_watermark(model="m") is None
    assert ledger.requests.watermarks() == {}
    skipped = ledger.requests.open(**make_request_args(dedupe_key="a", watermark=newer))
    ledger.requests.open(**make_request_args(dedupe_key="b", watermark=WATERMARK))
    ledger.requests.mark(skipped.id, now=NOW, state=RequestState.SKIPPED)
    ledger.requests.open(**make_request_args(model="n", source="s", watermark=newest))
    assert ledger.requests.newest_watermark(model="m") == newer
    assert ledger.requests.newest_watermark(source="warehouse/rows/at") == newer
    assert ledger.requests.newest_watermark(source="s") == newest
    assert ledger.requests.newest_watermark() == newest
    assert ledger.requests.watermarks() == {"m": newer, "n": newest}
    assert ledger.requests.newest_watermark(cause=Cause.SCHEDULE) is None


# ---------------------------------------------------------------- leases


def test_one_holder_at_a_time_and_the_fence_grows(ledger: Ledger) -> None:
    first = ledger.leases.acquire("m", "a", TTL, NOW)
    assert first.expires_at == NOW + TTL
    with pytest.raises(LeaseBusy, match="request a holds the lease"):
        ledger.leases.acquire("m", "b", TTL, NOW)
    renewed = ledger.leases.acquire("m", "a", TTL, NOW + TTL / 2)
    assert (renewed.fence, renewed.expires_at) == (first.fence, NOW + TTL * 1.5)
    ledger.leases.release("m", "a")
    assert ledger.leases.acquire("m", "b", TTL, NOW).fence == first.fence + 1
    assert ledger.leases.acquire("m", "c", TTL, NOW + TTL).fence == first.fence + 2  # b's has expired
    assert ledger.leases.get("m").holder == "c"


def test_a_holder_gives_up_all_that_it_has_and_nothing_of_others(ledger: Ledger) -> None:
    for name, holder in (("m", "a"), ("owner ops #1", "a"), ("n", "b")):
        ledger.leases.acquire(name, holder, TTL, NOW)
    ledger.leases.release_all("a")
    ledger.leases.release_all("nobody")
    assert [ledger.leases.get(name) is None for name in ("m", "owner ops #1", "n")] == [True, True, False]
    assert ledger.leases.acquire("m", "b", TTL, NOW).fence == 2


def test_of_eight_at_once_one_gets_the_lease(opener: Opener) -> None:
    def take(number: int) -> int | None:
        try:
            return opener().leases.acquire("m", f"holder-{number}", TTL, NOW).fence
        except LeaseBusy:
            return None

    with ThreadPoolExecutor(8) as pool:
        fences = list(pool.map(take, range(8)))
    assert sorted(fences, key=str) == [1, *[None] * 7]


def test_a_lease_is_given_up_by_its_holder_only(ledger: Ledger) -> None:
    ledger.leases.release("m", "a")
    assert ledger.leases.get("m") is None
    first = ledger.leases.acquire("m", "a", TTL, NOW)
    ledger.leases.release("m", "b")
    assert ledger.leases.get("m") == first
    ledger.leases.release("m", "a")
    assert ledger.leases.get("m") is None
    assert ledger.leases.acquire("m", "a", TTL, NOW).fence == first.fence + 1


# ---------------------------------------------------------------- replicas


def test_a_replica_lives_while_it_is_heard_of(ledger: Ledger) -> None:
    for name, at in (("r2", LATER), ("r1", NOW)):
        ledger.replicas.beat(Replica("default", name, "http://127.0.0.1:1", {"m": 1}), at)
    assert [r.replica for r in ledger.replicas.alive("default", NOW)] == ["r1", "r2"]
    assert [r.replica for r in ledger.replicas.alive("default", LATER)] == ["r2"]
    assert [r.reasons for r in ledger.replicas.alive("default", NOW)] == [(), ()]
    told = ("m version 3 cannot be written here: No space left on device",)
    ledger.replicas.beat(Replica("default", "r1", "http://127.0.0.1:2", {"m": 2}, reasons=told), LATER)
    replica = ledger.replicas.alive("default", LATER)[0]
    assert (replica.url, replica.versions, replica.heartbeat) == ("http://127.0.0.1:2", {"m": 2}, LATER)
    assert replica.reasons == told
    assert replica.heartbeat.astimezone(UTC).utcoffset() == timedelta(0)
    assert ledger.replicas.alive("other", NOW) == []
