"""The Airflow DAG `hold`: ops hold a model or all of them, or lift a hold, in its form, and start it from the UI."""

from __future__ import annotations

from pathlib import Path

from evergreen.core.catalog import load_catalog
from evergreen.orchestration.hold import build_hold_dag

dag = build_hold_dag(load_catalog(Path(__file__).parents[1]))
