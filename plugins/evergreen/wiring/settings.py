"""Where everything is: settings from the environment, and the connections that specs name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evergreen.core.errors import ServiceFailed, SourceError


def project_root(start: Path | None = None) -> Path:
    """The folder that holds `models/` and `dags/`, from any folder inside; EVERGREEN_PROJECT overrides."""
    if named := os.environ.get("EVERGREEN_PROJECT"):
        return Path(named)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "models" / "_defaults.yaml").is_file() and (folder / "dags").is_dir():
            return folder
    return Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Settings:
    """Where everything is. Each can be set by the environment variable named beside it."""

    root: Path
    home: Path  # EVERGREEN_HOME, default <root>/.evergreen
    ledger_url: str  # EVERGREEN_LEDGER_URL, default SQLite in home
    store_url: str  # EVERGREEN_STORE_URL, default a folder in home
    mlflow_url: str  # MLFLOW_TRACKING_URI, set by the supervisor
    rehearsal_memory_mb: int = 2000  # EVERGREEN_REHEARSAL_MEMORY_MB: what a slot may hold, of 10^6 bytes
    training_memory_mb: int = 4000  # EVERGREEN_TRAINING_MEMORY_MB: what pull, validate, train and judge may hold each
    artifacts_url: str = ""  # EVERGREEN_ARTIFACTS_URL: where MLflow keeps artifacts; default a folder in home
    slots_url: str = ""  # EVERGREEN_SLOTS_URL: docker-slots, for rehearsals in a container; default child processes
    edge_url: str = ""  # EVERGREEN_EDGE_URL: the runtime API of the edge before the slots; default: there is none
    mlflow_pages: str = ""  # EVERGREEN_MLFLOW_PAGES: where people find MLflow; default mlflow_url, empty for nowhere
    keep_days: int = 30  # EVERGREEN_KEEP_DAYS: how long Airflow's records of runs and their logs are kept
    reconcile_seconds: int = 2  # EVERGREEN_RECONCILE_SECONDS: the pause between two passes of the reconciler
    dask_scheduler: str = ""  # EVERGREEN_DASK_SCHEDULER: tcp://… of a cluster; default: processes of the step itself

    @classmethod
    def load(cls) -> Settings:
        """Read the environment."""
        root = project_root()
        home = Path(os.environ.get("EVERGREEN_HOME", root / ".evergreen")).resolve()
        mlflow_url = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
        return cls(
            root=root,
            home=home,
            ledger_url=os.environ.get("EVERGREEN_LEDGER_URL", f"sqlite:///{home / 'ledger.db'}"),
            store_url=os.environ.get("EVERGREEN_STORE_URL", str(home / "store")),
            mlflow_url=mlflow_url,
            mlflow_pages=os.environ.get("EVERGREEN_MLFLOW_PAGES", mlflow_url),
            rehearsal_memory_mb=_whole_number("EVERGREEN_REHEARSAL_MEMORY_MB", cls.rehearsal_memory_mb),
            training_memory_mb=_whole_number("EVERGREEN_TRAINING_MEMORY_MB", cls.training_memory_mb),
            artifacts_url=os.environ.get("EVERGREEN_ARTIFACTS_URL", cls.artifacts_url),
            slots_url=os.environ.get("EVERGREEN_SLOTS_URL", cls.slots_url),
            edge_url=os.environ.get("EVERGREEN_EDGE_URL", cls.edge_url),
            keep_days=_whole_number("EVERGREEN_KEEP_DAYS", cls.keep_days),
            reconcile_seconds=_whole_number("EVERGREEN_RECONCILE_SECONDS", cls.reconcile_seconds),
            dask_scheduler=os.environ.get("EVERGREEN_DASK_SCHEDULER", cls.dask_scheduler),
        )

    @property
    def kept_specs(self) -> Path:
        """Where specs are kept as they were read, see core.kept_specs."""
        return self.home / "specs.json"


def _whole_number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdigit() or int(text) < 1:
        raise ServiceFailed(f"{variable}: found {text!r}; allowed: a whole number from 1. Correct it, or unset it.")
    return int(text)


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
