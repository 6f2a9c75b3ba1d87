"""One Airflow DAG for each valid models/*/model.yaml, with the seven tasks from admit to roll_out."""

from __future__ import annotations

from pathlib import Path

from evergreen.orchestration.dag_factory import build_dags, wanted
from evergreen.orchestration.specs import specs_of

for dag in build_dags(specs_of(Path(__file__).parents[1], only=wanted())):
    globals()[dag.dag_id] = dag
