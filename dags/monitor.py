"""The Airflow DAG `monitor`: it watches every model, opens alerts and asks for retrains."""

from __future__ import annotations

from evergreen.orchestration.monitor import build_monitor_dag

dag = build_monitor_dag()
