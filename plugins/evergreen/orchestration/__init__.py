"""Airflow lives here: the DAG factory, its tasks, the approval, the watchers."""
