"""Addresses of the pages that people act on, under the one that Airflow has for them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

PREFIX = "/evergreen"


@dataclass(frozen=True)
class Addresses:
    """`pages` and `airflow` are URLs or paths, without a slash at the end."""

    pages: str
    airflow: str

    @classmethod
    def under(cls, airflow: str) -> Addresses:
        """For messages, which are read elsewhere: `airflow` is its `[api] base_url`."""
        base = airflow.rstrip("/")
        return cls(f"{base}{PREFIX}", base)

    def model(self, model: str) -> str:
        """A model's page."""
        return f"{self.pages}/models/{quote(model)}"

    def version(self, model: str, version: int) -> str:
        """A version's evidence."""
        return f"{self.model(model)}/versions/{version}"

    def data_docs(self, model: str, request_id: str) -> str:
        """The data docs of a request that validation stopped."""
        return f"{self.model(model)}/data-docs/{quote(request_id, safe='')}"

    def dag(self, dag: str) -> str:
        """A DAG in Airflow. Its Trigger button opens the form: the form has no address of its own."""
        return f"{self.airflow}/dags/{quote(dag)}"

    def run(self, dag: str, run_id: str) -> str:
        """A run in Airflow."""
        return f"{self.dag(dag)}/runs/{quote(run_id, safe='')}"

    def question(self, model: str, run_id: str) -> str:
        """Where the question of a model's run is answered in Airflow."""
        return f"{self.run(model, run_id)}/tasks/approve/required_actions"
