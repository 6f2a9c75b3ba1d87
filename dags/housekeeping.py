"""The Airflow DAG `housekeeping`: each night it removes old records, old logs, and files that no release needs."""

from __future__ import annotations

from evergreen.orchestration.housekeeping import build_housekeeping_dag

dag = build_housekeeping_dag()
