"""What every ledger does: callers' tokens, and events of container slots."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta, timezone
from threading import Barrier

import pytest

from evergreen.core.caller_tokens import digest, new_token
from evergreen.core.ports import Ledger
from evergreen.core.records import CallerToken, SlotEvent
from ledgers import LATER, Opener
from records import NOW


def add(ledger: Ledger, caller: str = "shop", token: str | None = None, **changes: object) -> CallerToken:
    """A new token of this caller."""
    arguments = {"by": "ada", "now": NOW, "reason": "the web shop"}
    return ledger.tokens.add(caller, digest(token or new_token()), **{**arguments, **changes})  # type: ignore[arg-type]


# ---------------------------------------------------------------- tokens


def test_a_token_lives_until_it_is_revoked(ledger: Ledger) -> None:
    assert ledger.tokens.active() == ledger.tokens.all() == []
    old = add(ledger, token="old")
    new = add(ledger, now=LATER, by="ben")
    assert old == CallerToken(old.id, "shop", digest("old"), NOW, "ada", reason="the web shop")
    assert ledger.tokens.active() == [old, new]
    revoked = ledger.tokens.revoke(old.id, by="ben", now=LATER)
    assert (revoked.revoked_at, revoked.revoked_by, revoked.created_at) == (LATER, "ben", NOW)
    assert ledger.tokens.active() == [new]
    assert ledger.tokens.all() == [revoked, new]


def test_the_first_revocation_stays(ledger: Ledger) -> None:
    token = add(ledger)
    revoked = ledger.tokens.revoke(token.id, by="ben", now=NOW)
    assert ledger.tokens.revoke(token.id, by="cy", now=LATER) == revoked
    with pytest.raises(KeyError, match="no token nobody"):
        ledger.tokens.revoke("nobody", by="ben", now=NOW)
    assert ledger.tokens.all() == [revoked]


def test_the_same_digest_is_one_token_and_stays_revoked(ledger: Ledger) -> None:
    token = add(ledger, token="same")
    assert add(ledger, caller="other", token="same", by="ben", now=LATER) == token
    revoked = ledger.tokens.revoke(token.id, by="ben", now=LATER)
    assert add(ledger, token="same") == revoked
    assert ledger.tokens.active() == []


def test_times_come_back_in_utc_and_naive_ones_are_refused(ledger: Ledger) -> None:
    berlin = NOW.astimezone(timezone(timedelta(hours=1)))
    token = add(ledger, now=berlin)
    revoked = ledger.tokens.revoke(token.id, by="ada", now=berlin)
    assert token.created_at == revoked.revoked_at == NOW
    assert revoked.revoked_at.tzinfo is UTC
    with pytest.raises(Exception, match="without a time zone"):
        add(ledger, now=NOW.replace(tzinfo=None))
    assert ledger.tokens.all() == [revoked]


def test_one_token_added_by_many_at_once_is_one_row(opener: Opener) -> None:
    ready = Barrier(6)

    def add_now(number: int) -> str:
        ledger = opener()
        ready.wait(10)
        return add(ledger, caller=f"caller-{number}", token="same").id

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(add_now, range(6)))
    assert [token.id for token in opener().tokens.all()] == list(ids)


# ---------------------------------------------------------------- slot events


def test_a_slot_event_is_kept_once(ledger: Ledger) -> None:
    assert ledger.slot_events.latest(5) == []
    assert ledger.slot_events.add("serving-blue", "died", "exit status 137", "died-1", NOW)
    assert not ledger.slot_events.add("serving-blue", "died", "told again", "died-1", LATER)
    assert ledger.slot_events.add("serving-green", "died", "exit status 1", "died-1", NOW)
    assert ledger.slot_events.add("serving-blue", "started", "by ops", "started-2", LATER)
    blue = SlotEvent("serving-blue", "died", "exit status 137", "died-1", NOW)
    green = SlotEvent("serving-green", "died", "exit status 1", "died-1", NOW)
    started = SlotEvent("serving-blue", "started", "by ops", "started-2", LATER)
    assert ledger.slot_events.latest(5) == [started, green, blue]
    assert ledger.slot_events.latest(1) == [started]


def test_of_many_who_tell_one_slot_event_one_is_first(opener: Opener) -> None:
    ready = Barrier(6)

    def tell(number: int) -> bool:
        ledger = opener()
        ready.wait(10)
        return ledger.slot_events.add("serving-blue", "died", f"told by {number}", "died-1", NOW)

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(tell, range(6))) == [False] * 5 + [True]
    assert len(opener().slot_events.latest(9)) == 1
