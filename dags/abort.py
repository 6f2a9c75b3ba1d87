"""The Airflow DAG `abort`: ops end a release that has not gone live, in its form, started from the UI."""

from __future__ import annotations

from pathlib import Path

from evergreen.core.catalog import load_catalog
from evergreen.orchestration.abort import build_abort_dag

dag = build_abort_dag(load_catalog(Path(__file__).parents[1]))
