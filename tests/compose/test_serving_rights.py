"""What Postgres lets the slots' user do in the ledger: read all of it, write its heartbeat, upgrade nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from compose_stack import ComposeStack
from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.ledger.engine import Database, LedgerRefused
from evergreen.adapters.ledger.tables import HEAD
from evergreen.adapters.ledger.upgrade import run_alembic
from evergreen.core.caller_tokens import digest
from evergreen.core.records import ArmCount, Replica, Trip, TripKind
from ledgers import passed, release
from records import NOW

USER, PASSWORD = "try_serving", "no-secret"
BEHIND = f"tables of revision 0002; allowed: tables of revision {HEAD}. Run the init step"


@pytest.fixture
def owner(stack: ComposeStack) -> Iterator[str]:
    """The owner's URL of an empty database, in which the user of serving may read."""
    stack.sql("DROP DATABASE IF EXISTS rights WITH (FORCE)")
    stack.sql("CREATE DATABASE rights")
    url = f"postgresql+psycopg2://postgres:{stack.env['POSTGRES_PASSWORD']}@{stack.address('postgres')}/rights"
    with Database(url).write() as connection:
        connection.execute(text(f"DROP ROLE IF EXISTS {USER}"))
        connection.execute(text(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'"))
        connection.execute(text(f"GRANT USAGE ON SCHEMA public TO {USER}"))
        connection.execute(text(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {USER}"))
    yield url
    with Database(url).write() as connection:
        connection.execute(text(f"DROP OWNED BY {USER}"))
        connection.execute(text(f"DROP ROLE {USER}"))


def as_serving(url: str) -> str:
    """The same database, as serving's user."""
    return make_url(url).set(username=USER, password=PASSWORD).render_as_string(hide_password=False)


def grant(url: str) -> None:
    """As docker/airflow/databases.py does."""
    with Database(url).write() as connection:
        for right in ("INSERT, UPDATE ON replica, arm_count", "INSERT ON trip"):
            connection.execute(text(f"GRANT {right} TO {USER}"))


def test_serving_reads_everything_and_writes_only_what_it_sees(owner: str) -> None:
    ledger = open_ledger(owner)
    grant(owner)
    token = ledger.tokens.add("shop", digest("t"), by="ada", now=NOW)
    released = release(ledger, passed(ledger, 1, seen=0))
    serving = open_ledger(as_serving(owner))
    assert (serving.releases.live("default"), serving.tokens.active()) == ([released], [token])
    assert serving.releases.champion("m").release_id == released.id
    for _ in range(2):  # the first beat inserts, the second updates
        serving.replicas.beat(Replica("default", "blue", "http://serving-blue:8000", {"m": 1}), NOW)
    assert [replica.replica for replica in ledger.replicas.alive("default", NOW)] == ["blue"]
    count = ArmCount("r-1", "canary-5", "challenger", "blue", "boot-1", 10, 1, (4, 6), (3, 7))
    for counted in (count, replace(count, requests=11)):
        serving.trials.count([counted])
    assert ledger.trials.counts("r-1") == [replace(count, requests=11)]
    tripped = Trip("r-1", "blue", TripKind.FAULTS, "5 faults", NOW)
    assert [serving.trials.trip(tripped) for _ in range(2)] == [True, False]
    with pytest.raises(ProgrammingError, match="permission denied"):
        serving.tokens.revoke(token.id, by="mallory", now=NOW)
    with pytest.raises(ProgrammingError, match="permission denied"):
        serving.holds.place("m", by="mallory", reason="", now=NOW)


def test_a_ledger_behind_is_refused_to_serving_and_upgraded_by_its_owner(owner: str) -> None:
    with pytest.raises(LedgerRefused, match="no tables that this user may read"):
        open_ledger(as_serving(owner))
    with Database(owner).write() as connection:
        run_alembic(connection, "0002")
    with pytest.raises(LedgerRefused, match=BEHIND):
        open_ledger(as_serving(owner))
    with Database(owner).write() as connection:  # may create tables, and still does not own these
        connection.execute(text(f"GRANT CREATE ON SCHEMA public TO {USER}"))
    with pytest.raises(LedgerRefused, match=BEHIND):
        open_ledger(as_serving(owner))
    open_ledger(owner)
    grant(owner)
    assert open_ledger(as_serving(owner)).tokens.all() == []
