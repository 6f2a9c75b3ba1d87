"""What every ledger does: events, heartbeats and notices, which tell people what happened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, timedelta, timezone
from threading import Barrier

import pytest

from evergreen.core.ports import Ledger
from evergreen.core.records import FLEET, Event, Heartbeat, Notice, NoticeKind
from ledgers import LATER, Opener
from records import NOW

# ---------------------------------------------------------------- events


def add_event(ledger: Ledger, model: str = "m", key: str = "alias-1", **changes: object) -> bool:
    """Tell that a hand moved an alias."""
    told = {"what": "alias moved", "detail": "champion pointed to version 3", "by": "a hand", "now": NOW}
    return ledger.events.add(model, key=key, **{**told, **changes})  # type: ignore[arg-type]


def test_an_event_is_kept_once(ledger: Ledger) -> None:
    assert ledger.events.history() == []
    assert add_event(ledger)
    assert not add_event(ledger, detail="told again", now=LATER)
    assert add_event(ledger, FLEET)
    assert add_event(ledger, key="alias-2", by="ada", now=LATER)
    first = Event("m", "alias moved", "champion pointed to version 3", "a hand", "alias-1", NOW)
    fleet = Event(FLEET, "alias moved", "champion pointed to version 3", "a hand", "alias-1", NOW)
    second = Event("m", "alias moved", "champion pointed to version 3", "ada", "alias-2", LATER)
    assert ledger.events.history() == [first, fleet, second]
    assert ledger.events.history("m") == [first, second]
    assert ledger.events.history("other") == []


def test_of_many_who_tell_one_event_one_is_first(opener: Opener) -> None:
    ready = Barrier(6)

    def tell(number: int) -> bool:
        ledger = opener()
        ready.wait(10)
        return add_event(ledger, by=f"person-{number}")

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(tell, range(6))) == [False] * 5 + [True]
    assert len(opener().events.history()) == 1


# ---------------------------------------------------------------- heartbeats


def test_the_last_heartbeat_counts(ledger: Ledger) -> None:
    assert ledger.heartbeats.last("reconciler") is None
    ledger.heartbeats.beat("reconciler", "nothing to do", NOW)
    ledger.heartbeats.beat("other", "", NOW)
    ledger.heartbeats.beat("reconciler", "started run 7", LATER)
    assert ledger.heartbeats.last("reconciler") == Heartbeat("reconciler", LATER, "started run 7")
    assert ledger.heartbeats.last("other") == Heartbeat("other", NOW, "")


def test_a_clock_that_went_back_is_believed(ledger: Ledger) -> None:
    """Else a heartbeat from the future would hide for hours that nobody lives."""
    ledger.heartbeats.beat("reconciler", "", LATER)
    ledger.heartbeats.beat("reconciler", "", NOW)
    assert ledger.heartbeats.last("reconciler").at == NOW


def test_many_may_beat_at_once(opener: Opener) -> None:
    ready = Barrier(6)

    def beat(number: int) -> None:
        ledger = opener()
        ready.wait(10)
        ledger.heartbeats.beat("reconciler", f"from {number}", NOW)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(beat, range(6)))
    assert opener().heartbeats.last("reconciler").at == NOW


# ---------------------------------------------------------------- notices


def add_notice(ledger: Ledger, key: str = "approval-1", model: str = "m", **changes: object) -> bool:
    """Tell that an approval is needed."""
    told = {"title": "m waits for you", "text": "version 3", "link": "http://airflow/m", "now": NOW}
    kind = changes.pop("kind", NoticeKind.APPROVAL_NEEDED)
    return ledger.notices.add(model, kind, key=key, **{**told, **changes})  # type: ignore[arg-type]


def unsent(ledger: Ledger, tries: int = 3) -> list[str]:
    """Keys of those to be sent."""
    return [notice.key for notice in ledger.notices.unsent(tries=tries)]


def test_a_notice_is_kept_once_and_comes_back_whole(ledger: Ledger) -> None:
    assert ledger.notices.unsent(tries=3) == ledger.notices.latest(5) == []
    assert add_notice(ledger)
    assert not add_notice(ledger, title="told again", kind=NoticeKind.REMINDER, now=LATER)
    assert add_notice(ledger, model="other")
    [first, other] = ledger.notices.unsent(tries=3)
    assert first == Notice(
        id=first.id,
        model="m",
        kind=NoticeKind.APPROVAL_NEEDED,
        key="approval-1",
        title="m waits for you",
        text="version 3",
        link="http://airflow/m",
        created_at=NOW,
    )
    assert (other.model, other.id != first.id, isinstance(other.kind, NoticeKind)) == ("other", True, True)
    assert ledger.notices.latest(5) == [other, first]
    assert ledger.notices.latest(1) == [other]


def test_what_was_sent_is_not_sent_again(ledger: Ledger) -> None:
    for key in "abc":
        add_notice(ledger, key)
    second = ledger.notices.unsent(tries=3)[1]
    ledger.notices.sent(second.id, LATER)
    assert unsent(ledger) == ["a", "c"]
    kept = ledger.notices.latest(2)[-1]
    assert (kept.key, kept.sent_at, kept.tries, kept.error) == ("b", LATER, 0, "")
    assert not add_notice(ledger, "b")
    assert unsent(ledger) == ["a", "c"]


def test_what_failed_too_often_is_given_up(ledger: Ledger) -> None:
    add_notice(ledger)
    add_notice(ledger, "other")
    first = ledger.notices.unsent(tries=2)[0]
    ledger.notices.failed(first.id, "no route to host")
    assert unsent(ledger, tries=2) == ["approval-1", "other"]
    ledger.notices.failed(first.id, "550 no such user")
    assert unsent(ledger, tries=2) == ["other"]
    kept = ledger.notices.latest(2)[-1]
    assert (kept.tries, kept.error, kept.sent_at) == (2, "550 no such user", None)
    ledger.notices.sent(first.id, LATER)
    assert ledger.notices.latest(2)[-1].sent_at == LATER


def test_times_of_events_and_notices_are_in_utc_and_naive_ones_are_refused(ledger: Ledger) -> None:
    berlin, naive = NOW.astimezone(timezone(timedelta(hours=1))), NOW.replace(tzinfo=None)
    add_event(ledger, now=berlin)
    add_notice(ledger, now=berlin)
    ledger.heartbeats.beat("reconciler", "", berlin)
    kept = [*ledger.events.history(), ledger.heartbeats.last("reconciler")]
    times = [ledger.notices.latest(1)[0].created_at, *(one.at for one in kept)]
    assert [(time, time.tzinfo) for time in times] == [(NOW, UTC)] * 3
    with pytest.raises(Exception, match="without a time zone"):
        add_event(ledger, key="naive", now=naive)
    with pytest.raises(Exception, match="without a time zone"):
        add_notice(ledger, "naive", now=naive)
    with pytest.raises(Exception, match="without a time zone"):
        ledger.heartbeats.beat("naive", "", naive)
    assert (len(ledger.events.history()), len(ledger.notices.latest(9))) == (1, 1)
