"""The Airflow DAG `rollback`: ops choose a model, a version and a reason in its form, and start it from the UI."""

from __future__ import annotations

from pathlib import Path

from evergreen.core.catalog import load_catalog
from evergreen.orchestration.rollback import build_rollback_dag

dag = build_rollback_dag(load_catalog(Path(__file__).parents[1]))
