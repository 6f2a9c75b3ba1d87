"""The ledgers that the contract tests of the ledger are held against.

Set EVERGREEN_TEST_POSTGRES to the URL of an empty Postgres database to hold it to them too.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from evergreen.core.ports import Ledger
from ledgers import KINDS, Opener, opener_of


@pytest.fixture(params=KINDS)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the same ledger again and again, as other processes do."""
    return opener_of(request.param, tmp_path)


@pytest.fixture
def ledger(opener: Opener) -> Ledger:
    """A ledger with nothing in it."""
    return opener()
