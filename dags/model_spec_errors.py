"""Defines no DAG: raises one error that names every bad model spec, so that the Airflow UI shows it.

The DAGs of the good specs are made in retraining.py and load all the same.
"""

from __future__ import annotations

from pathlib import Path

from evergreen.orchestration.dag_factory import refuse
from evergreen.orchestration.specs import specs_of

refuse(specs_of(Path(__file__).parents[1]))
