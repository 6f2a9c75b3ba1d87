"""Which processes make the embedded shape, and the environment that they share."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evergreen.supervisor.stack import Stack
from evergreen.wiring import Settings

USER, ONCALL = "admin", "oncall"


@dataclass(frozen=True)
class Component:
    """One process: its name (also its log's), what it is called on screen, its command line, what it needs besides."""

    name: str
    title: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def components(stack: Stack, home: Path) -> list[Component]:
    """All components of a stack, in the order in which they are started."""
    airflow = (sys.executable, "-m", "airflow")
    api = ("--host", "127.0.0.1", "--port", port_of(stack.airflow_url), "--workers", "1")
    terse = {"AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}  # it tells of every look at every file: 25 MB a day
    # It may wait for itself, and nobody writes until it gives up: sooner than those do who wait meanwhile.
    hasty = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _database(home, timeout=5)}
    quiet = ("--skip-serve-logs",)  # the log servers bind fixed ports on all interfaces; the UI reads the files
    return [
        Component("mlflow", "MLflow", (sys.executable, "-m", "mlflow", "server", *_mlflow(stack, home))),
        Component("api-server", "Airflow API server", (*airflow, "api-server", *api), hasty),
        Component("scheduler", "Airflow scheduler", (*airflow, "scheduler", *quiet)),
        Component("dag-processor", "Airflow DAG processor", (*airflow, "dag-processor"), terse),
        Component("triggerer", "Airflow triggerer", (*airflow, "triggerer", *quiet)),
        Component("serving", "Serving", (sys.executable, "-m", "evergreen.serving", *_serving(stack))),
    ]


def _mlflow(stack: Stack, home: Path) -> tuple[str, ...]:
    folder = home / "mlflow"
    address = ("--host", "127.0.0.1", "--port", port_of(stack.mlflow_url), "--workers", "1")
    artifacts = str(folder / "artifacts")
    stores = ("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", artifacts)
    return (*address, *stores, "--default-artifact-root", artifacts)


def _serving(stack: Stack) -> tuple[str, ...]:
    return ("--pool", "default", "--port", port_of(stack.serving_url))


def port_of(url: str) -> str:
    """The port at the end of a URL."""
    return url.rsplit(":", 1)[1]


def new_stack(home: Path) -> Stack:
    """Free loopback ports, and the passwords of this home (made once, then kept)."""
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        ports = []
        for free in (one, two, three):  # held together, so that they differ
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    airflow, mlflow, serving = (f"http://127.0.0.1:{port}" for port in ports)
    secret = _secrets(home)
    return Stack(airflow, mlflow, serving, USER, secret["password"], 0, ONCALL, secret["oncall"])


def environment(settings: Settings, stack: Stack) -> dict[str, str]:
    """What every component, and so every task, finds in its environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "MLFLOW_"))}
    warehouse = f"sqlite:///{settings.home / 'warehouse.db'}"
    return {
        "EVERGREEN_CONN_WAREHOUSE": warehouse,
        "OMP_WAIT_POLICY": "PASSIVE",  # else the threads of fits side by side spin: each takes several times as long
        "_RJEM_MALLOC_CONF": "narenas:1",  # else Polars' allocator keeps what was freed for each thread by itself
        **kept,
        "EVERGREEN_PROJECT": str(settings.root),
        "EVERGREEN_HOME": str(settings.home),
        "EVERGREEN_LEDGER_URL": settings.ledger_url,
        "EVERGREEN_STORE_URL": settings.store_url,
        "EVERGREEN_AIRFLOW_URL": stack.airflow_url,
        "EVERGREEN_AIRFLOW_USER": stack.user,
        "EVERGREEN_AIRFLOW_PASSWORD": stack.password,
        "EVERGREEN_AIRFLOW_DB_URL": _database(settings.home),  # for housekeeping: Airflow hides its own from tasks
        "MLFLOW_TRACKING_URI": stack.mlflow_url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "NO_COLOR": "1",
        "AIRFLOW_HOME": str(settings.home / "airflow"),
        **_airflow_options(settings, stack),
    }


def _airflow_options(settings: Settings, stack: Stack) -> dict[str, str]:
    secret = _secrets(settings.home)
    options = {
        "core.dags_folder": settings.root / "dags",
        "core.plugins_folder": settings.root / "plugins",
        "core.load_examples": False,
        "core.executor": "LocalExecutor",
        "core.parallelism": 4,  # forked when the scheduler starts
        "core.execution_api_server_url": f"{stack.airflow_url}/execution/",
        "core.fernet_key": secret["fernet"],
        "core.simple_auth_manager_users": f"{stack.user}:admin,{stack.oncall}:user",
        "core.simple_auth_manager_passwords_file": _password_file(settings.home),
        "core.min_serialized_dag_update_interval": 5,  # this, and the two of dag_processor: edits show in seconds
        "dag_processor.refresh_interval": 5,
        "dag_processor.min_file_process_interval": 5,
        "api.base_url": stack.airflow_url,
        "api.secret_key": secret["session"],
        "api_auth.jwt_secret": secret["token"],
        "database.sql_alchemy_conn": _database(settings.home),
        "logging.base_log_folder": settings.home / "airflow" / "logs",
        "scheduler.trigger_timeout_check_interval": 5,  # approvals that nobody gives end soon after their time
        "scheduler.scheduler_idle_sleep_time": 0.2,  # seconds; the default of 1 is most of a hop between two tasks
        "scheduler.orphaned_tasks_check_interval": 30,  # tasks of a scheduler that was killed start again soon
        "usage_data_collection.enabled": False,
    }
    return {f"AIRFLOW__{name.upper().replace('.', '__')}": str(value) for name, value in options.items()}


def _database(home: Path, timeout: int = 30) -> str:
    """After so many seconds a write gives up that waits for another one."""
    return f"sqlite:///{home / 'airflow' / 'airflow.db'}?timeout={timeout}"


def _password_file(home: Path) -> Path:
    return home / "airflow" / "passwords.json"


def _secrets(home: Path) -> dict[str, str]:
    """Made at the first call, so that sessions and stored connections outlive a restart."""
    kept = home / "airflow" / "secrets.json"
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    known: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
    values = {**_fresh_secrets(), **known}
    if values != known:
        _write_private(kept, values)
    _write_private(_password_file(home), {USER: values["password"], ONCALL: values["oncall"]})
    return values


def _fresh_secrets() -> dict[str, str]:
    keys = {name: secrets.token_urlsafe(64) for name in ("session", "token")}
    fernet = urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return {**keys, "fernet": fernet, **{name: secrets.token_urlsafe(12) for name in ("password", "oncall")}}


def _write_private(file: Path, content: dict[str, str]) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(content, out)
