"""Settings, and the adapters built from them: the one place where ports meet their real systems."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen.core.errors import SourceError

if TYPE_CHECKING:
    from evergreen.adapters.airflow_api import AirflowApi
    from evergreen.core.ports import Ledger, Registry, Snapshots, Source, Store, Trainer, Validator
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec import Source as SourceSpec


def project_root(start: Path | None = None) -> Path:
    """The folder that holds `models/` and `dags/`, from any folder inside; EVERGREEN_PROJECT overrides."""
    if named := os.environ.get("EVERGREEN_PROJECT"):
        return Path(named)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "models" / "_defaults.yaml").is_file() and (folder / "dags").is_dir():
            return folder
    return Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """Where everything is. Each can be set by the environment variable named beside it."""

    root: Path
    home: Path  # EVERGREEN_HOME, default <root>/.evergreen
    ledger_url: str  # EVERGREEN_LEDGER_URL, default SQLite in home
    store_url: str  # EVERGREEN_STORE_URL, default a folder in home
    mlflow_url: str  # MLFLOW_TRACKING_URI, set by the supervisor

    @classmethod
    def load(cls) -> Settings:
        """Read the environment."""
        root = project_root()
        home = Path(os.environ.get("EVERGREEN_HOME", root / ".evergreen")).resolve()
        return cls(
            root=root,
            home=home,
            ledger_url=os.environ.get("EVERGREEN_LEDGER_URL", f"sqlite:///{home / 'ledger.db'}"),
            store_url=os.environ.get("EVERGREEN_STORE_URL", str(home / "store")),
            mlflow_url=os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"),
        )


def connection_url(name: str, fallback: Callable[[str], str | None] = lambda name: None) -> str:
    """The SQLAlchemy URL of a spec's connection: the environment first, then `fallback` (Airflow's connections).

    Raises SourceError if neither knows it.
    """
    variable = f"EVERGREEN_CONN_{name.upper()}"
    url = os.environ.get(variable) or fallback(name)
    if not url:
        raise SourceError(
            f"source.connection '{name}'",
            found="no such connection",
            allowed=f"an Airflow connection '{name}', or the environment variable {variable}",
            do=f"Add the connection in Airflow (Admin, Connections), or set {variable}=postgresql+psycopg2://…",
        )
    return url


def ledger(settings: Settings) -> Ledger:
    """The control ledger, its tables up to date."""
    from evergreen.adapters.ledger import open_ledger

    return open_ledger(settings.ledger_url)


def store(settings: Settings) -> Store:
    """The store of snapshots, quarantine and bundles."""
    from evergreen.adapters.file_store import FileStore

    return FileStore(settings.store_url)


def snapshots(settings: Settings) -> Snapshots:
    """Snapshots in the store."""
    from evergreen.adapters.parquet_snapshots import ParquetSnapshots

    return ParquetSnapshots(store(settings))


def source(spec: ModelSpec, url: str) -> Source:
    """The spec's source behind this SQLAlchemy URL."""
    return source_of(spec.source, url)


def source_of(described: SourceSpec, url: str) -> Source:
    """A source behind this SQLAlchemy URL, whichever models read it."""
    from evergreen.adapters.sql_source import SqlSource

    return SqlSource(url, described)


def validator() -> Validator:
    """Great Expectations."""
    from evergreen.adapters.gx_validator import GxValidator

    return GxValidator()


def trainer() -> Trainer:
    """XGBoost, with scikit-learn's metrics and matplotlib's pictures."""
    from evergreen.adapters.sklearn_metrics import measure
    from evergreen.adapters.training_plots import draw
    from evergreen.adapters.xgboost_trainer import XGBoostTrainer

    return XGBoostTrainer(measure, draw)


def registry(settings: Settings) -> Registry:
    """MLflow."""
    from evergreen.adapters.mlflow_registry import MlflowRegistry

    return MlflowRegistry(settings.mlflow_url, settings.home / "mlflow" / "artifacts")


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
