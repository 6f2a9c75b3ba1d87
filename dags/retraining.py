"""One Airflow DAG for each valid models/*/model.yaml, with the seven tasks from admit to roll_out."""

from __future__ import annotations

from pathlib import Path

from evergreen.core.catalog import load_catalog
from evergreen.orchestration.dag_factory import build_dags, wanted

for dag in build_dags(load_catalog(Path(__file__).parents[1], only=wanted())):
    globals()[dag.dag_id] = dag
