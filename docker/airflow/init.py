"""Brings databases, rights, roles and tokens up to date; run once by `make up`, as often as one likes.

python docker/airflow/init.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from databases import grant_serving, make_databases

from evergreen import wiring
from evergreen.core.caller_tokens import digest
from evergreen.orchestration import roles

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger

PLATFORM = "evergreen"  # the caller that the platform itself is


def main() -> int:
    """Do all of it; returns the exit status."""
    print("Databases and their users ...", flush=True)
    make_databases()
    print("Airflow's tables ...", flush=True)
    if code := subprocess.run(["airflow", "db", "migrate"], check=False).returncode:
        return code
    print("The control ledger ...", flush=True)
    ledger = wiring.ledger(wiring.Settings.load())
    grant_serving()
    _register_token(ledger, os.environ["EVERGREEN_SERVING_TOKEN"])
    print("Roles and accounts ...", flush=True)
    return roles.main()


def _register_token(ledger: Ledger, token: str) -> None:
    """The platform's own, as .env has it now; one that it had before no longer counts."""
    now, wanted = datetime.now(UTC), digest(token)
    own = [kept for kept in ledger.tokens.active() if kept.caller == PLATFORM]
    if wanted not in [kept.sha256 for kept in own]:
        ledger.tokens.add(PLATFORM, wanted, by="make up", now=now)
    for kept in own:
        if kept.sha256 != wanted:
            ledger.tokens.revoke(kept.id, by="make up", now=now)


if __name__ == "__main__":
    sys.exit(main())
