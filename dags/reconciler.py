"""The Airflow DAG `reconciler`: it watches the reconciler, which works in the triggerer, and sends notices."""

from __future__ import annotations

from evergreen.orchestration.reconciler import build_reconciler_dag

dag = build_reconciler_dag()
