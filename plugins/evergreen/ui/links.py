"""Addresses: of the pages, and of Airflow and MLflow from them. They follow the path of `[api] base_url`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from fastapi import Request

    from evergreen.core.records import Approval

PREFIX = "/evergreen"


@dataclass(frozen=True)
class Links:
    """`pages` and `airflow` are paths without a slash at the end; `mlflow` is a URL, or empty where it has no pages."""

    pages: str
    airflow: str
    mlflow: str
    here: str

    @classmethod
    def of(cls, request: Request, mlflow_url: str) -> Links:
        """As the request came."""
        pages = str(request.scope.get("root_path", "")).rstrip("/")
        return cls(
            pages=pages,
            airflow=pages.removesuffix(PREFIX),
            mlflow=mlflow_url.rstrip("/") if mlflow_url.startswith("http") else "",
            here=request.url.path,
        )

    def model(self, model: str) -> str:
        """A model's page."""
        return f"{self.pages}/models/{quote(model)}"

    def version(self, model: str, version: int) -> str:
        """A version's evidence."""
        return f"{self.model(model)}/versions/{version}"

    def dag(self, dag: str) -> str:
        """A DAG in Airflow. Its Trigger button opens the form: the form has no address of its own."""
        return f"{self.airflow}/dags/{quote(dag)}"

    def run(self, dag: str, run_id: str) -> str:
        """A run in Airflow."""
        return f"{self.dag(dag)}/runs/{quote(run_id, safe='')}"

    def approval(self, approval: Approval) -> str:
        """Where the question is answered in Airflow."""
        return f"{self.run(approval.model, approval.run_id)}/tasks/approve/required_actions"

    def mlflow_version(self, model: str, version: int) -> str:
        """The version in MLflow; empty where MLflow has no pages."""
        return self.mlflow and f"{self.mlflow}/#/models/{quote(model)}/versions/{version}"

    @property
    def sign_in(self) -> str:
        """Airflow's sign-in, which leads back here."""
        return f"{self.airflow}/api/v2/auth/login?next={quote(self.here, safe='/')}"
