"""A ledger that this program cannot upgrade is refused in words; tests/compose has what Postgres adds to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.ledger.engine import Database, LedgerRefused
from evergreen.adapters.ledger.tables import HEAD, VERSION_TABLE
from evergreen.adapters.ledger.upgrade import run_alembic
from evergreen.core.ports import Ledger

BEHIND = f"tables of revision 0002; allowed: tables of revision {HEAD}. Run the init step"


@pytest.fixture
def behind(tmp_path: Path) -> str:
    """A ledger of revision 0002."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with Database(url).write() as connection:
        run_alembic(connection, "0002")
    return url


def test_a_program_without_alembic_says_what_to_do(behind: str) -> None:
    code = (
        "import sys; sys.modules['alembic'] = None\n"
        "from evergreen.adapters.ledger import open_ledger\n"
        "try: open_ledger(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    told = subprocess.run([sys.executable, "-c", code, behind], check=True, capture_output=True, text=True).stdout
    assert told.startswith(f"LedgerRefused the control ledger: found {BEHIND}")
    ledger: Ledger = open_ledger(behind)
    assert ledger.slot_events.latest(1) == []


def test_a_ledger_of_a_newer_program_is_refused(behind: str) -> None:
    open_ledger(behind)
    with Database(behind).write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(LedgerRefused, match=f"revision 9999; allowed: tables of revision {HEAD}. Start a program"):
        open_ledger(behind)
