"""Ledgers of each kind for the contract tests, and short ways to fill them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy import text

from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.ledger.engine import Database
from evergreen.adapters.ledger.tables import metadata
from evergreen.core.ports import Ledger
from evergreen.core.records import Candidate, CandidateState, Release
from evergreen.fakes.ledger import in_memory_ledger
from records import NOW, WATERMARK, make_candidate, make_verdict

POSTGRES = os.environ.get("EVERGREEN_TEST_POSTGRES")  # the URL of a database that may be emptied
KINDS = ["memory", "sqlite", *(["postgres"] if POSTGRES else [])]
LATER = NOW + timedelta(hours=1)
Opener = Callable[[], Ledger]
# Connections of earlier tests, which are closed only once their ledger is collected: a server has only so many.
END_OTHERS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()"
)


def empty_postgres(url: str) -> str:
    """The URL, of a database that has nothing in it now."""
    with Database(url).write() as connection:
        connection.execute(END_OTHERS)
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    return url


def cleared_postgres(url: str) -> str:
    """The URL, of a ledger that has its tables and no row in them: much quicker than to make them anew."""
    open_ledger(url)
    with Database(url).write() as connection:
        connection.execute(END_OTHERS)
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    return url


def url_of(kind: str, folder: Path) -> str:
    """The URL of a new ledger in SQL."""
    return f"sqlite:///{folder / 'ledger.db'}" if kind == "sqlite" else empty_postgres(POSTGRES or "")


def opener_of(kind: str, folder: Path) -> Opener:
    """Opens the same ledger again and again, as other processes do."""
    if kind == "memory":
        ledger = in_memory_ledger()
        return lambda: ledger
    url = cleared_postgres(POSTGRES or "") if kind == "postgres" else url_of(kind, folder)
    return lambda: open_ledger(url)


def release(ledger: Ledger, candidate: Candidate, **changes: object) -> Release:
    """Release the candidate: prepared, and live at once."""
    prepared = prepare(ledger, candidate, **changes)
    return ledger.releases.go_live(prepared.id, changes.get("now", NOW))  # type: ignore[arg-type]


def prepare(ledger: Ledger, candidate: Candidate, **changes: object) -> Release:
    """Prepare the candidate's release."""
    arguments = {"pool": "default", "released_by": "auto", "reason": "gates", "watermark": WATERMARK, "now": NOW}
    return ledger.releases.prepare(candidate, **{**arguments, **changes})  # type: ignore[arg-type]


def roll_back(ledger: Ledger, candidate: Candidate, **changes: object) -> Release:
    """Roll back to the candidate, an hour later."""
    arguments = {"seen": 2, "pool": "default", "by": "ada", "reason": "wrong fares", "act": "run-9", "now": LATER}
    return ledger.releases.roll_back(candidate, **{**arguments, **changes})  # type: ignore[arg-type]


def passed(ledger: Ledger, version: int, *, seen: int, model: str = "m") -> Candidate:
    """A new candidate that passed its gates."""
    ledger.models.add_candidate(make_candidate(model=model, version=version))
    state = CandidateState.PASSED
    return ledger.models.judge(model, version, verdict=make_verdict(), state=state, generation_seen=seen)
