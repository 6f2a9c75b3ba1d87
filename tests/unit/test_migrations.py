"""The revisions lead to exactly the tables that the code uses, keep rows, and may be run by many at once."""

from __future__ import annotations

import multiprocessing
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.ledger.engine import Database, LedgerRefused
from evergreen.adapters.ledger.tables import HEAD, VERSION_TABLE, metadata
from evergreen.adapters.ledger.upgrade import MIGRATIONS, run_alembic
from records import make_request_args


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"


def test_the_revisions_lead_to_the_tables_of_the_code(url: str) -> None:
    open_ledger(url)
    with Database(url).read() as connection:
        options = {"version_table": VERSION_TABLE, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, VERSION_TABLE}
        version = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
    assert version == HEAD


def test_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_upgrading_again_keeps_rows(url: str) -> None:
    made = open_ledger(url).requests.open(**make_request_args())
    with Database(url).write() as connection:
        run_alembic(connection, "head")
    assert open_ledger(url).requests.get(made.id) == made


def _open(url: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    open_ledger(url)


def test_many_processes_may_open_an_empty_ledger_at_once(url: str) -> None:
    server = multiprocessing.get_context("forkserver")  # a clean parent: this one may hold threads
    server.set_forkserver_preload(["evergreen.adapters.ledger"])
    barrier = server.Barrier(6)
    openers = [server.Process(target=_open, args=(url, barrier)) for _ in range(6)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join(30)
    assert [opener.exitcode for opener in openers] == [0] * 6
    assert open_ledger(url).releases.history() == []


def test_threads_may_open_different_ledgers_at_once(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path / name}.db" for name in "abcdef"]
    with ThreadPoolExecutor(6) as pool:
        ledgers = list(pool.map(open_ledger, urls))
    for ledger in ledgers:
        assert ledger.releases.history() == []


def test_opening_a_ledger_at_head_imports_no_alembic(url: str) -> None:
    open_ledger(url)
    code = (
        "import sys; from evergreen.adapters.ledger import open_ledger; open_ledger(sys.argv[1]); "
        "sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)


def test_an_upgrade_that_fails_leaves_nothing_behind(url: str) -> None:
    database = Database(url)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE replica (x INTEGER)"))
    with pytest.raises(Exception, match="table replica already exists"):
        open_ledger(url)
    with database.read() as connection:
        assert inspect(connection).get_table_names() == ["replica"]


def test_only_the_owner_can_read_the_file(url: str, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        open_ledger(url).requests.open(**make_request_args())
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ("ledger.db", "no database URL"),
        ("mysql+pymysql://host/db", "a mysql URL"),
        ("sqlite://", "an SQLite URL without a file"),
    ],
)
def test_a_url_that_cannot_be_a_ledger_is_refused(bad: str, found: str) -> None:
    with pytest.raises(LedgerRefused, match=f"EVERGREEN_LEDGER_URL: found {found}; allowed: sqlite"):
        open_ledger(bad)
