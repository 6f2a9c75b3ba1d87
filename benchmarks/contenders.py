"""The servers that benchmarks/serving.py measures: how each is installed, started, asked and ended.

Each runs with one worker and one thread for the booster (OMP_NUM_THREADS=1: with one row, more only cost), on the same
model file, in a session of its own, so that all of its processes can be ended.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from bench_models import NAME, Shape

HERE = Path(__file__).resolve().parent
PEERS, VENVS = HERE / "peers", HERE / ".venvs"
PATIENCE = 120  # seconds for a server to answer
_GRACE = 15  # seconds for it to end by itself


@dataclass(frozen=True)
class Place:
    """Where one model lies for everybody: model.ubj, an MLflow model, a home with a release of it."""

    folder: Path
    shape: Shape
    row: Sequence[float]
    expected: float


@dataclass(frozen=True)
class Contender:
    """A server. `command` and `body` are made for a place (and a free port); `read` finds the prediction in an answer.

    `venv` names its requirements in peers/, none: this interpreter. `worker` is in the command line of the process that
    answers, where there are others.
    """

    name: str
    venv: str | None
    path: str
    command: Callable[[Place, int], list[str]]
    body: Callable[[Place], Any]
    read: Callable[[Any], float]
    environment: Callable[[Place], dict[str, str]] = lambda place: {}
    worker: str = ""


def _program(venv: str, name: str) -> str:
    return str(VENVS / venv / "bin" / name)


def _named(place: Place) -> dict[str, float]:
    return dict(zip(place.shape.names, place.row, strict=True))


def _model(place: Place) -> dict[str, str]:
    return {"BENCH_MODEL": str(place.folder / "model.ubj"), "BENCH_FEATURES": str(place.shape.features)}


def _mlserver(place: Place, port: int) -> list[str]:
    folder = place.folder / "mlserver"
    folder.mkdir(exist_ok=True)
    shutil.copy(place.folder / "model.ubj", folder)
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({**settings, "parallel_workers": 0, "debug": False}))
    model = {"name": NAME, "implementation": "mlserver_xgboost.XGBoostModel", "parameters": {"uri": "./model.ubj"}}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [_program("mlserver", "mlserver"), "start", str(folder)]


def _like_ours(prediction: float) -> dict[str, Any]:
    """As long as an answer of Evergreen."""
    ids = ["01950000-0000-7000-8000-000000000000"]
    return {"model": NAME, "version": 1, "predictions": [prediction], "inference_ids": ids}


MLFLOW = Contender(
    "mlflow models serve", "mlflow", "/invocations",
    lambda place, port: [
        _program("mlflow", "mlflow"), "models", "serve", "--model-uri", str(place.folder / "pyfunc"), "--host",
        "127.0.0.1", "--port", str(port), "--env-manager", "local", "--workers", "1",
    ],
    lambda place: {"dataframe_split": {"columns": place.shape.names, "data": [list(place.row)]}},
    lambda answer: answer["predictions"][0],
)  # fmt: skip
BENTOML = Contender(
    "BentoML, async", "bentoml", "/predict",
    lambda place, port: [
        _program("bentoml", "bentoml"), "serve", "bento_service:Bench", "--working-dir", str(PEERS), "--host",
        "127.0.0.1", "--port", str(port), "--quiet",
    ],
    lambda place: {"rows": [list(place.row)]},
    lambda answer: answer[0],
    _model,
)  # fmt: skip
MLSERVER = Contender(
    "MLServer, XGBoost runtime, access log off", "mlserver", f"/v2/models/{NAME}/infer",
    _mlserver,
    lambda place: {
        "inputs": [{"name": "x", "shape": [1, len(place.row)], "datatype": "FP32", "data": list(place.row)}]
    },
    lambda answer: answer["outputs"][0]["data"][0],
)  # fmt: skip
FASTAPI = Contender(
    "FastAPI + pydantic + inplace_predict, by hand", "fastapi", "/predict",
    lambda place, port: [
        _program("fastapi", "uvicorn"), "fastapi_server:app", "--app-dir", str(PEERS), "--host", "127.0.0.1", "--port",
        str(port), "--no-access-log", "--log-level", "warning",
    ],
    _named,
    lambda answer: answer["prediction"],
    _model,
)  # fmt: skip
EVERGREEN = Contender(
    "Evergreen", None, f"/models/{NAME}/predict",
    lambda place, port: [sys.executable, "-m", "evergreen.serving", "--port", str(port), "--workers", "1"],
    lambda place: {"records": [_named(place)]},
    lambda answer: answer["predictions"][0],
    lambda place: {"EVERGREEN_HOME": str(place.folder), "PYTHONPATH": str(HERE.parent / "plugins")},
    "evergreen.serving.worker",
)  # fmt: skip


def _constant(name: str, *how: str) -> Contender:
    return Contender(
        name,
        None,
        EVERGREEN.path,
        lambda place, port: [
            sys.executable, str(PEERS / "constant.py"), str(port), json.dumps(_like_ours(place.expected)), *how
        ],
        EVERGREEN.body,
        EVERGREEN.read,
        EVERGREEN.environment,
    )  # fmt: skip


CONSTANT = _constant("Evergreen's server answering a constant")
PLAIN = _constant("uvicorn by ASGI answering a constant", "asgi")
ALL = (MLFLOW, BENTOML, MLSERVER, FASTAPI, EVERGREEN, CONSTANT, PLAIN)


def install(contender: Contender) -> None:
    """Its venv under benchmarks/.venvs, made anew where its requirements have changed."""
    if contender.venv is not None:
        make_venv(contender.venv)


def make_venv(name: str) -> None:
    """The same, of the requirements of this name."""
    wanted, venv = PEERS / f"{name}.txt", VENVS / name
    done = venv / "installed.txt"
    if done.exists() and done.read_text() == wanted.read_text():
        return
    print(f"Installing {name} into {venv.relative_to(HERE.parent)} …", flush=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if uv is None:
        raise SystemExit("uv is not installed: `pip install uv`, or run this with .venv/bin/python")
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(venv)], check=True)
    python = str(venv / "bin" / "python")
    subprocess.run(
        [uv, "pip", "install", "-q", "--compile-bytecode", "--python", python, "-r", str(wanted)], check=True
    )
    done.write_text(wanted.read_text())


@dataclass
class Server:
    """One that runs. `ready` is the seconds from the start of its process to its first right answer."""

    contender: Contender
    place: Place
    port: int
    process: subprocess.Popen[bytes]
    ready: float = 0.0
    body: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.body = json.dumps(self.contender.body(self.place)).encode()

    def ask(self) -> float:
        """The prediction for the row. Raises OSError or HTTPException while it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", self.contender.path, self.body, {"content-type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise ConnectionError(f"{response.status} {text[:300]!r}")
        return float(self.contender.read(json.loads(text)))

    def memory(self) -> tuple[float, float]:
        """MB (10^6 bytes) of resident memory: of the worker (where none is named, the largest process), and of all."""
        held = {}
        for one in self._processes():
            with suppress(psutil.Error):
                held[one.pid] = (one.memory_info().rss / 1e6, " ".join(one.cmdline()))
        named = [size for size, line in held.values() if self.contender.worker and self.contender.worker in line]
        sizes = [size for size, _ in held.values()]
        return max(named or sizes, default=0.0), sum(sizes)

    def _processes(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            mine = psutil.Process(self.process.pid)
            return [mine, *mine.children(recursive=True)]
        return []

    def stop(self) -> None:
        """End it and all that it has started: asked first, then killed."""
        processes = self._processes()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, _GRACE)
        for one in alive:
            with suppress(psutil.Error):
                one.kill()
        with suppress(ProcessLookupError):  # started meanwhile
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running(contender: Contender, place: Place) -> Iterator[Server]:
    """A server that answers, rightly; ended with the block. Raises SystemExit with its log where it does not."""
    port, log = free_port(), place.folder / "server.log"
    ours = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "BENTOML_DO_NOT_TRACK": "True"}
    kept = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    path = f"{VENVS / contender.venv / 'bin'}:{kept.get('PATH', '')}" if contender.venv else kept.get("PATH", "")
    environment = {**kept, "PATH": path, **ours, **contender.environment(place)}
    command = contender.command(place, port)
    with log.open("wb") as told:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=place.folder, env=environment, stdin=subprocess.DEVNULL, stdout=told, stderr=told,
            start_new_session=True,
        )  # fmt: skip
    server = Server(contender, place, port, process)
    try:
        server.ready = _await(server, began, log)
        yield server
    finally:
        server.stop()


def _await(server: Server, began: float, log: Path) -> float:
    problem = "no answer"
    while time.monotonic() - began < PATIENCE and server.process.poll() is None:
        try:
            found = server.ask()
        except (OSError, http.client.HTTPException) as error:
            problem = str(error)
            time.sleep(0.005)
            continue
        seconds = time.monotonic() - began
        if abs(found - server.place.expected) > 1e-6:
            raise SystemExit(f"{server.contender.name} answered {found}, not {server.place.expected}")
        return seconds
    raise SystemExit(f"{server.contender.name}: {problem}. Its log ends:\n{log.read_text(errors='replace')[-3000:]}")


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
