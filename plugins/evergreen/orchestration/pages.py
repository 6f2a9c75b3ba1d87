"""Where people find pages: under Airflow's `[api] base_url`, which both shapes set."""

from __future__ import annotations

from airflow.sdk.configuration import conf

from evergreen.core.addresses import Addresses


def addresses() -> Addresses:
    """All of them, for messages that are read elsewhere."""
    return Addresses.under(conf.get("api", "base_url", fallback="http://localhost:8080"))


def page(dag_id: str, run_id: str) -> str:
    """A run in Airflow."""
    return addresses().run(dag_id, run_id)
