"""The Airflow DAG `platform`, which watches the container slots; it is there where serving runs in slots."""

from __future__ import annotations

from evergreen.orchestration.slot_watch import platform_dag

dag = platform_dag()
