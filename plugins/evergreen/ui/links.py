"""Addresses: of the pages, and of Airflow and MLflow from them. They follow the path of `[api] base_url`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from evergreen.core.addresses import PREFIX, Addresses

if TYPE_CHECKING:
    from fastapi import Request

    from evergreen.core.lineage import Node
    from evergreen.core.records import Approval


@dataclass(frozen=True)
class Links(Addresses):
    """`pages` and `airflow` are paths; `mlflow` is a URL, or empty where it has no pages."""

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

    def approval(self, approval: Approval) -> str:
        """Where the question is answered in Airflow."""
        return self.question(approval.model, approval.run_id)

    def release(self, model: str, release_id: str) -> str:
        """Where a release came from."""
        return f"{self.model(model)}/releases/{quote(release_id, safe='')}"

    def snapshot(self, model: str, snapshot_id: str) -> str:
        """A snapshot, and what was made from it."""
        return f"{self.model(model)}/snapshots/{quote(snapshot_id, safe='')}"

    def report(self, model: str, version: int) -> str:
        """The report on a version's answers."""
        return f"{self.version(model, version)}/report"

    def node(self, node: Node) -> str:
        """The page of a link of a trace, empty where it has none."""
        facts = node.facts
        match node.kind:
            case "version":
                return self.version(facts["model"], facts["version"])
            case "run" | "release" | "snapshot" if "id" in facts:
                page = {"run": self.run, "release": self.release, "snapshot": self.snapshot}[node.kind]
                return page(facts["model"], facts["id"])
        return ""

    def mlflow_version(self, model: str, version: int) -> str:
        """The version in MLflow; empty where MLflow has no pages."""
        return self.mlflow and f"{self.mlflow}/#/models/{quote(model)}/versions/{version}"

    @property
    def sign_in(self) -> str:
        """Airflow's sign-in, which leads back here."""
        return f"{self.airflow}/api/v2/auth/login?next={quote(self.here, safe='/')}"
