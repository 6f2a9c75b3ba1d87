"""The Airflow DAG `roll_pool`, which takes a serving pool to a new image; it is there where serving runs in slots."""

from __future__ import annotations

from evergreen.orchestration.roll_pool import roll_dag

dag = roll_dag()
