"""Settings, and the adapters built from them: the one place where ports meet their real systems."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from evergreen.core.errors import FoundProblem, ServiceFailed, SourceError
from evergreen.faults import watched, watched_ledger

if TYPE_CHECKING:
    from xgboost import Booster

    from evergreen.adapters.airflow_api import AirflowApi
    from evergreen.adapters.label_file import LabelFile
    from evergreen.adapters.xgboost_trainer.growing import Fit, Grow, History
    from evergreen.core.evidence import Evidence
    from evergreen.core.ports import (
        Aliases,
        Benches,
        EdgeProxy,
        Ledger,
        LoggedParts,
        PartWriter,
        Predictions,
        Registry,
        RehearsalSlots,
        Runs,
        ServingClient,
        ServingCounters,
        SlotContainers,
        Snapshots,
        Source,
        Store,
        Studies,
        Trainer,
        Validator,
    )
    from evergreen.core.replayed import Replayed
    from evergreen.core.spec import Source as SourceSpec
    from evergreen.steps.tune import Draw, Tuner

TUNING_ITSELF_MB = 500  # what the process that asks for trials holds, beside them


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


def ledger(settings: Settings) -> Ledger:
    """The control ledger, its tables up to date."""
    from evergreen.adapters.ledger import open_ledger

    return watched_ledger(open_ledger(settings.ledger_url))


def store(settings: Settings) -> Store:
    """The store of snapshots, quarantine and bundles."""
    from evergreen.adapters.file_store import FileStore

    return watched("store", FileStore(settings.store_url))


def snapshots(settings: Settings) -> Snapshots:
    """Snapshots in the store."""
    from evergreen.adapters.parquet_snapshots import ParquetSnapshots

    return ParquetSnapshots(store(settings))


def part_writer() -> PartWriter:
    """Parquet with arro3, for what serving logs."""
    from evergreen.adapters.parquet_parts import ArrowParts

    return ArrowParts()


def predictions(settings: Settings) -> Predictions:
    """What serving logged, in the store."""
    from evergreen.adapters.logged_predictions import LoggedPredictions

    return LoggedPredictions(store(settings))


def logged_parts(settings: Settings) -> LoggedParts:
    """The same, part by part."""
    from evergreen.adapters.logged_predictions import LoggedPredictions

    return LoggedPredictions(store(settings))


def label_file(path: str) -> LabelFile:
    """A file of labels, Parquet or CSV."""
    from evergreen.adapters.label_file import LabelFile

    return LabelFile(path)


def serving_counters() -> ServingCounters:
    """Serving's own counters, over HTTP."""
    from evergreen.adapters.serving_counters import HttpServingCounters

    return HttpServingCounters()


def source(described: SourceSpec, connections: Callable[[str], str | None] = lambda name: None) -> Source:
    """A spec's source: files by their URL, tables and queries over their connection (see connection_url)."""
    if described.files is not None:
        from evergreen.adapters.files_source import FilesSource

        return FilesSource(described, project_root())
    from evergreen.adapters.sql_source import SqlSource

    return SqlSource(connection_url(str(described.connection), connections), described)


def validator(store: Store, memory_mb: float) -> Validator:
    """Great Expectations, with DuckDB for what is asked of a window as a whole; `store` keeps what it found."""
    from evergreen.adapters.duckdb_window import DuckdbWindow
    from evergreen.adapters.gx_validator import GxValidator

    return GxValidator(store, DuckdbWindow(), memory_mb)


def trainer(settings: Settings | None = None, *, pictures: bool = True) -> Trainer:
    """XGBoost, with scikit-learn's metrics and matplotlib's pictures; these take longer than a small fit.

    Rows that do not stay in memory lie in home meanwhile; without settings, where temporary files do.
    """
    from evergreen.adapters.calibration import calibrate
    from evergreen.adapters.sklearn_metrics import measure
    from evergreen.adapters.training_plots import draw
    from evergreen.adapters.xgboost_trainer import ENGINES, XGBoostTrainer

    pictured = draw if pictures else lambda *_: {}
    if settings is None:
        return XGBoostTrainer(measure, pictured, calibrate)
    limit, folder = settings.training_memory_mb, settings.home / "training"
    engines = {**ENGINES, "dask": _by_dask(settings)}
    return XGBoostTrainer(measure, pictured, calibrate, limit_mb=limit, folder=folder, engines=engines)


def _by_dask(settings: Settings) -> Grow:
    """Dask is imported where a spec asks for it: it takes a third of a second."""

    def grow(fit: Fit, folder: Path | None) -> tuple[Booster, History]:
        from evergreen.adapters.dask_cluster import DaskCluster
        from evergreen.adapters.xgboost_trainer.by_cluster import grow_by_cluster

        address = settings.dask_scheduler
        cluster = DaskCluster.at(address) if address else DaskCluster.here(memory_mb=settings.training_memory_mb)
        return grow_by_cluster(cluster, fit, folder)

    return grow


def tuner(settings: Settings) -> Tuner:
    """Optuna in the ledger's database, and processes that train with XGBoost; opened where a tuning is due."""
    from evergreen.steps.tune import Tuner

    @cache
    def studies() -> Studies:
        from evergreen.adapters.optuna_studies import OptunaStudies

        return OptunaStudies(settings.ledger_url)

    def benches() -> Benches:
        from evergreen.adapters.xgboost_trainer.trial_bench import TrialBenches

        return TrialBenches(settings.home / "training")

    def pictures() -> Draw:
        from evergreen.adapters import tuning_plots

        return tuning_plots.draw

    left = settings.training_memory_mb - TUNING_ITSELF_MB
    return Tuner(studies, benches, pictures, cores=len(os.sched_getaffinity(0)), memory_mb=max(left, 1))


def slots(settings: Settings) -> RehearsalSlots:
    """The rehearsal container where EVERGREEN_SLOTS_URL is set, else throwaway processes on this machine."""
    from evergreen.adapters.slot_readiness import wait_until_ready

    if settings.slots_url:
        from evergreen.adapters.container_slots import ContainerSlots

        containers, leases = slot_containers(settings), ledger(settings).leases
        return ContainerSlots(containers, leases, settings.home / "rehearsal", wait_until_ready)
    from evergreen.adapters.child_slots import ChildSlots

    return ChildSlots(
        settings.root,
        settings.home,
        settings.store_url,
        wait_until_ready,
        memory_limit_mb=settings.rehearsal_memory_mb,
    )


def slot_containers(settings: Settings) -> SlotContainers:
    """The container slots, through docker-slots."""
    from evergreen.adapters.container_slots import DockerSlots

    return DockerSlots(settings.slots_url)


def edge(settings: Settings) -> EdgeProxy | None:
    """The edge before the slots, by its runtime API; none where EVERGREEN_EDGE_URL is not set."""
    from evergreen.adapters.edge_proxy import HAProxyEdge

    return HAProxyEdge(settings.edge_url) if settings.edge_url else None


def serving_client() -> ServingClient:
    """Serving over HTTP, with the platform's own token (EVERGREEN_SERVING_TOKEN) where one is set."""
    from evergreen.adapters.serving_client import HttpServingClient

    return HttpServingClient(token=os.environ.get("EVERGREEN_SERVING_TOKEN", ""))


def replay_chart() -> Callable[[Replayed], bytes]:
    """The chart of a replay, PNG, with matplotlib."""
    from evergreen.adapters.replay_chart import draw

    return draw


def evidence_charts() -> Callable[[Evidence], Mapping[str, bytes]]:
    """The charts of a candidate's evidence, SVG by file name, with matplotlib."""
    from evergreen.adapters.evidence_charts import draw

    return draw


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
