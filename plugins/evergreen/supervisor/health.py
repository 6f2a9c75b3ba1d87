"""Which components answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import httpx

from evergreen.supervisor.stack import Record

TIMEOUT = 5.0  # seconds
_HEARTBEATS = {
    "scheduler": ("scheduler", "latest_scheduler_heartbeat"),
    "dag-processor": ("dag_processor", "latest_dag_processor_heartbeat"),
    "triggerer": ("triggerer", "latest_triggerer_heartbeat"),
}


def healthy(record: Record, names: Iterable[str]) -> list[str]:
    """Those of the named components that answer now, or have sent a heartbeat since they were started."""
    stack = record.stack
    airflow = _airflow(f"{stack.airflow_url}/api/v2/monitor/health")
    found = {name for name in _HEARTBEATS if _beats(airflow, name, record)}
    if airflow:
        found.add("api-server")
    if "mlflow" in names and _answers(f"{stack.mlflow_url}/health"):
        found.add("mlflow")
    if "serving" in names and _answers(f"{stack.serving_url}/v2/health/live"):
        found.add("serving")
    return [name for name in names if name in found]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=TIMEOUT).is_success
    except httpx.HTTPError:
        return False


def _airflow(url: str) -> dict[str, dict[str, str | None]]:
    try:
        said: dict[str, dict[str, str | None]] = httpx.get(url, timeout=TIMEOUT).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return said


def _beats(airflow: dict[str, dict[str, str | None]], name: str, record: Record) -> bool:
    """A heartbeat of the process that runs now: that of the one before is still fresh after a quick restart."""
    part, key = _HEARTBEATS[name]
    beat, session = (airflow.get(part) or {}).get(key), record.sessions.get(name)
    return bool(beat and session and datetime.fromisoformat(beat).timestamp() >= session.created)
