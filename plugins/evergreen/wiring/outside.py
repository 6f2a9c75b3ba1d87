"""The programs beside ours: MLflow and Airflow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from evergreen.core.errors import FoundProblem
from evergreen.faults import watched

if TYPE_CHECKING:
    from evergreen.adapters.airflow_api import AirflowApi
    from evergreen.core.ports import Aliases, Registry, Runs
    from evergreen.wiring.settings import Settings


def registry(settings: Settings) -> Registry:
    """MLflow."""
    from evergreen.adapters.mlflow_registry import MlflowRegistry

    folder = settings.home / "mlflow" / "artifacts"
    return watched("registry", MlflowRegistry(settings.mlflow_url, settings.artifacts_url or folder.resolve().as_uri()))


def hasty_registry(settings: Settings) -> Registry:
    """MLflow, given up on within seconds: for an act that must not wait for it. This whole process is hasty then."""
    os.environ.update(MLFLOW_HTTP_REQUEST_MAX_RETRIES="1", MLFLOW_HTTP_REQUEST_TIMEOUT="5")
    return registry(settings)


def aliases(settings: Settings) -> Aliases:
    """MLflow's aliases alone, for a process that lives for ever."""
    from evergreen.adapters.mlflow_aliases import MlflowAliases

    if not settings.mlflow_url.startswith("http"):  # a database, of tests
        return registry(settings)
    return watched("registry", MlflowAliases(settings.mlflow_url))


def airflow(url: str, user: str, password: str) -> AirflowApi:
    """Airflow's REST API, as this user."""
    from evergreen.adapters.airflow_api import AirflowApi

    return AirflowApi(url, user, password)


def airflow_api() -> AirflowApi | None:
    """Airflow's REST API, as EVERGREEN_AIRFLOW_URL, _USER and _PASSWORD say; none where they are not set."""
    names = ("EVERGREEN_AIRFLOW_URL", "EVERGREEN_AIRFLOW_USER", "EVERGREEN_AIRFLOW_PASSWORD")
    if not all(os.environ.get(name) for name in names):
        return None
    return airflow(*(os.environ[name] for name in names))


def runs() -> Runs:
    """The runs of models' DAGs, through Airflow's REST API. Raises FoundProblem where nobody says which Airflow."""
    api = airflow_api()
    if api is None:
        raise FoundProblem(
            "EVERGREEN_AIRFLOW_URL, EVERGREEN_AIRFLOW_USER, EVERGREEN_AIRFLOW_PASSWORD",
            found="at least one that is not set",
            allowed="Airflow's address, and the platform's own account there",
            do="Set them where Airflow's components are started; both shapes do.",
        )
    return watched("runs", api)
