"""The Airflow DAG `promote`: approvers make a version on trial champion at once, in its form, started from the UI."""

from __future__ import annotations

from pathlib import Path

from evergreen.core.catalog import load_catalog
from evergreen.orchestration.promote import build_promote_dag

dag = build_promote_dag(load_catalog(Path(__file__).parents[1]))
