"""One Airflow DAG for each form in which people start something: `abort`, `hold`, `promote` and `rollback`.

One file for all of them: each file is a process of its own every few seconds, for as long as Airflow runs.
"""

from __future__ import annotations

from pathlib import Path

from evergreen.orchestration.abort import build_abort_dag
from evergreen.orchestration.hold import build_hold_dag
from evergreen.orchestration.promote import build_promote_dag
from evergreen.orchestration.rollback import build_rollback_dag
from evergreen.orchestration.specs import specs_of

_catalog = specs_of(Path(__file__).parents[1])
abort, hold = build_abort_dag(_catalog), build_hold_dag(_catalog)
promote, rollback = build_promote_dag(_catalog), build_rollback_dag(_catalog)
