"""What every ledger does: who has lost the lease cannot write any more."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from evergreen.core.errors import LeaseBusy, LeaseLost
from evergreen.core.ports import Ledger
from evergreen.core.records import CandidateState, Lease
from ledgers import Opener
from records import NOW, make_candidate, make_snapshot, make_verdict

TTL = timedelta(minutes=30)
EXPIRED = NOW + TTL


def lost_to_another(ledger: Ledger, lease: Lease) -> None:
    ledger.leases.acquire("m", "b", TTL, EXPIRED)


def lost_and_left_by_the_other(ledger: Ledger, lease: Lease) -> None:
    ledger.leases.acquire("m", "b", TTL, EXPIRED)
    ledger.leases.release("m", "b")


def given_up(ledger: Ledger, lease: Lease) -> None:
    ledger.leases.release("m", lease.holder)


def taken_again_after_another(ledger: Ledger, lease: Lease) -> None:
    ledger.leases.acquire("m", "b", TTL, EXPIRED)
    ledger.leases.acquire("m", lease.holder, TTL, EXPIRED + TTL)


LOST = [lost_to_another, lost_and_left_by_the_other, given_up, taken_again_after_another]


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    """The lease of request a."""
    return ledger.leases.acquire("m", "a", TTL, NOW)


@pytest.mark.parametrize("lose", LOST)
def test_a_lost_lease_is_told(ledger: Ledger, lease: Lease, lose: Callable[[Ledger, Lease], None]) -> None:
    ledger.leases.check(lease)
    lose(ledger, lease)
    with pytest.raises(LeaseLost, match="m"):
        ledger.leases.check(lease)


def test_a_lease_that_ran_out_or_was_renewed_is_not_lost(ledger: Ledger, lease: Lease) -> None:
    renewed = ledger.leases.acquire("m", "a", TTL, EXPIRED + TTL)
    for held in (lease, renewed):
        ledger.leases.check(held)
    ledger.leases.acquire("other", "b", TTL, NOW)
    ledger.leases.check(lease)


def test_a_lease_that_never_was_is_lost(ledger: Ledger) -> None:
    with pytest.raises(LeaseLost):
        ledger.leases.check(Lease("m", "a", 1, EXPIRED))


def test_the_holder_writes(ledger: Ledger, lease: Lease) -> None:
    ledger.models.add_snapshot(make_snapshot(), lease=lease)
    ledger.models.add_candidate(make_candidate(), lease=lease)
    ledger.models.judge("m", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=3, lease=lease)
    assert ledger.models.snapshot("m", "snap-1") == make_snapshot()
    kept = ledger.models.candidate("m", 1)
    assert (kept.state, kept.verdict, kept.generation_seen) == (CandidateState.PASSED, make_verdict(), 3)


@pytest.mark.parametrize("lose", LOST)
def test_who_lost_the_lease_writes_nothing(ledger: Ledger, lease: Lease, lose: Callable[[Ledger, Lease], None]) -> None:
    judged = ledger.models.add_candidate(make_candidate())
    ledger.models.add_snapshot(make_snapshot(id="early"))
    lose(ledger, lease)
    with pytest.raises(LeaseLost):
        ledger.models.add_snapshot(make_snapshot(), lease=lease)
    with pytest.raises(LeaseLost):
        ledger.models.add_snapshot(make_snapshot(id="early", suite="m@1"), lease=lease)
    with pytest.raises(LeaseLost):
        ledger.models.add_candidate(make_candidate(version=2), lease=lease)
    with pytest.raises(LeaseLost):
        ledger.models.judge("m", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0, lease=lease)
    with pytest.raises(KeyError):
        ledger.models.snapshot("m", "snap-1")
    assert ledger.models.snapshot("m", "early").suite == ""
    assert ledger.models.candidates("m") == [judged]


def test_the_lease_of_one_model_is_none_of_another(ledger: Ledger) -> None:
    other = ledger.leases.acquire("other", "a", TTL, NOW)
    ledger.leases.acquire("m", "b", TTL, NOW)
    ledger.models.add_snapshot(make_snapshot(model="other"), lease=other)
    with pytest.raises(LeaseLost):
        ledger.leases.check(Lease("m", other.holder, other.fence, other.expires_at))


@pytest.mark.parametrize("attempt", range(3))
def test_a_write_and_a_takeover_at_once_leave_no_write_of_the_loser_behind(opener: Opener, attempt: int) -> None:
    """Either the write came first, or it is refused: whoever takes the lease then sees all that there will be."""
    ledger = opener()
    late = ledger.leases.acquire("m", "late", TTL, NOW)
    ready = Barrier(2)

    def write() -> int:
        own, written = opener(), 0
        ready.wait(10)
        for version in range(1, 200):
            try:
                own.models.add_candidate(make_candidate(version=version), lease=late)
            except LeaseLost:
                return written
            written += 1
        return written

    def take_over() -> int:
        own = opener()
        ready.wait(10)
        own.leases.acquire("m", "next", TTL, EXPIRED)
        return len(own.models.candidates("m"))

    with ThreadPoolExecutor(2) as pool:
        writer, taker = pool.submit(write), pool.submit(take_over)
        assert writer.result() == taker.result() == len(ledger.models.candidates("m"))
    with pytest.raises(LeaseBusy, match="next"):
        ledger.leases.acquire("m", "late", TTL, EXPIRED)
