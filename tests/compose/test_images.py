"""The images: how large they are, what is in them and what is not, and that their programs run as they will be run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bundles import answer_of, make_bundle, put
from evergreen.adapters.file_store import FileStore
from evergreen.composed.docker_cli import ALL, revision, run
from evergreen.composed.starting import IMAGES as SERVICES

IMAGES = ("airflow", "serving", "mlflow")
TAG = os.environ.get("EVERGREEN_TAG", "latest")
HARDENED = (
    "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges",
)  # fmt: skip
PROJECT_ONLY = ("airflow", "mlflow", "great_expectations", "pandas", "sklearn", "polars", "pyarrow", "pip", "uv")
READY_WITHIN = 3.0  # seconds


def image(name: str) -> str:
    return f"evergreen-{name}:{TAG}"


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def python(name: str, program: str, *options: str) -> str:
    """What a program prints in a container of the image, without a network."""
    return docker("run", "--rm", "--network=none", *HARDENED, *options, image(name), "python", "-c", program)


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    run(*ALL, "build", "--quiet", *SERVICES)


@pytest.fixture(scope="module", params=IMAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def inspect(name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(docker("image", "inspect", image(name)))
    return found[0]


@pytest.mark.parametrize(("name", "limit"), [("airflow", 1_400_000_000), ("serving", 450_000_000)])
def test_an_image_is_small(name: str, limit: int) -> None:
    size = inspect(name)["Size"]
    print(f"{image(name)}: {size / 1e6:.0f} MB")
    assert size < limit


def test_its_user_is_not_root(name: str) -> None:
    assert inspect(name)["Config"]["User"] == "50000:0"
    assert python(name, "import os; print(os.getuid(), os.getgid(), os.getgroups())") in ("50000 0 [0]", "50000 0 []")


def test_its_label_and_environment_say_which_revision_it_is(name: str) -> None:
    config = inspect(name)["Config"]
    assert config["Labels"]["org.opencontainers.image.revision"] == revision()
    assert f"EVERGREEN_REVISION={revision()}" in config["Env"]


def test_it_holds_no_secret_and_no_address_of_the_builder(name: str) -> None:
    names = [entry.partition("=")[0] for entry in inspect(name)["Config"]["Env"]]
    assert not [one for one in names if re.search("PASSWORD|SECRET|TOKEN|KEY|CREDENTIAL|INDEX|PROXY", one, re.I)]
    history = docker("history", "--no-trunc", "--format={{.CreatedBy}}", image(name))
    assert not re.findall(r"://[^ /]*:[^ /]*@|PASSWORD|_INDEX(?:_URL)?=\S+", history)


def test_it_holds_no_history_state_tests_or_secrets_file(name: str) -> None:
    program = """
import os
bad = {".git", ".env", ".evergreen", ".venv", "tests", "connections.env"}
for folder, folders, files in os.walk("/opt/evergreen"):
    print(*(os.path.join(folder, one) for one in (*folders, *files) if one in bad), end="")
"""
    assert python(name, program).strip() == ""


@pytest.mark.parametrize(
    ("name", "folders"),
    [
        ("airflow", ["store", "rehearsal", "training", "airflow", "airflow/logs"]),
        ("serving", ["store", "rehearsal", "serving"]),
        ("mlflow", ["mlflow/artifacts"]),
    ],
)
def test_a_new_volume_belongs_to_the_user(name: str, folders: list[str]) -> None:
    mounts = [f"-v=/var/lib/evergreen/{folder}" for folder in folders]  # with --rm, removed with the container
    program = f"""
from pathlib import Path
for folder in {folders}:
    place = Path("/var/lib/evergreen", folder)
    (place / "probe").write_text("x")
    assert not place.stat().st_mode & 0o007, f"{{place}}: open to others"
"""
    python(name, program, *mounts)


def test_serving_holds_only_what_it_needs() -> None:
    program = f"from importlib.util import find_spec; print([one for one in {PROJECT_ONLY} if find_spec(one)])"
    assert python("serving", program) in ("[]", "['pip']")  # of the base image, where it is on the path


def test_training_and_serving_run_the_same_xgboost() -> None:
    """In serving's image the package cannot be imported, having no SciPy: its library is asked."""
    asked = """
from ctypes import byref, c_int
from evergreen.serving.models.booster import native_library
parts = [c_int() for _ in range(3)]
native_library().XGBoostVersion(*map(byref, parts))
print(*(part.value for part in parts), sep=".")
"""
    assert python("airflow", "import xgboost; print(xgboost.__version__)") == python("serving", asked)


def test_training_and_experiments_run_in_the_airflow_image() -> None:
    program = """
import os, tempfile
os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{tempfile.mkdtemp()}/mlflow.db"
import mlflow, mlflow.xgboost, numpy, polars, xgboost
from pathlib import Path
from evergreen import wiring
from evergreen.demo.flights import _data_folder
assert (_data_folder() / "flights.csv.zip").is_file()
settings = wiring.Settings.load()
wiring.trainer(), wiring.validator(wiring.store(settings), 4000), wiring.registry(settings)
data = polars.DataFrame({"x": numpy.arange(50.0), "c": polars.Series(["a", "b"] * 25, dtype=polars.Enum(["a", "b"]))})
fitted = xgboost.train({"nthread": 1}, xgboost.QuantileDMatrix(data, numpy.arange(50.0), enable_categorical=True), 3)
mlflow.set_experiment(experiment_id=mlflow.create_experiment("trial", artifact_location=tempfile.mkdtemp()))
with mlflow.start_run():
    made = mlflow.xgboost.log_model(fitted, name="model", model_format="ubj", pip_requirements=["xgboost"])
print(len(mlflow.xgboost.load_model(made.model_uri).inplace_predict(numpy.zeros((4, 2)))))
"""
    assert python("airflow", program).splitlines()[-1] == "4"


def test_a_training_run_in_the_image_knows_its_revision() -> None:
    program = """
from pathlib import Path
from evergreen.core.catalog import load_catalog
from evergreen.core.train_key import provenance
spec = load_catalog(Path("/opt/evergreen")).specs["flight-delay"]
print(provenance(Path("/opt/evergreen"), spec).code_revision)
"""
    built_from, known = revision(), python("airflow", program)
    assert known == built_from or (built_from.endswith("-dirty") and known.startswith("dirty-"))


def test_airflow_reads_the_dags_and_needs_no_file_of_its_own() -> None:
    assert docker("run", "--rm", "--network=none", *HARDENED, image("airflow"), "airflow", "version") == "3.3.2"
    assert "evergreen" in docker("run", "--rm", "--network=none", *HARDENED, image("airflow"), "evergreen", "--help")


@contextmanager
def running(name: str, port: int, *options: str, command: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """A container's id and the URL of its published port."""
    container = docker("run", "-d", f"-p=127.0.0.1::{port}", *HARDENED, *options, image(name), *command)
    try:
        yield container, f"http://{docker('port', container, str(port)).splitlines()[0]}"
    finally:
        docker("rm", "-fv", container)


def wait(url: str, began: float, patience: float = 60) -> float:
    """Seconds from `began` until the URL answers 200."""
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return time.monotonic() - began
        except (OSError, urllib.error.URLError):
            assert time.monotonic() - began < patience, f"{url} is not ready after {patience} s"
            time.sleep(0.02)


def test_serving_is_ready_in_three_seconds_and_stops_when_told(tmp_path: Path) -> None:
    bundle, files = make_bundle(seed=1)
    put(FileStore(str(tmp_path)), bundle, files)
    for place in (tmp_path, *tmp_path.rglob("*")):
        place.chmod(0o755)
    options = (f"-v={tmp_path}:/var/lib/evergreen/store:ro", "-v=/var/lib/evergreen/serving", "--memory=512m")
    command = ("python", "-m", "evergreen.serving", "--host=0.0.0.0", "--port=8000", f"--only=flight-delay:1:{bundle}")
    taken = []
    for _ in range(3):  # until it is: what else runs on this machine is not meant
        began = time.monotonic()
        with running("serving", 8000, *options, command=command) as (container, url):
            taken.append(wait(f"{url}/v2/health/ready", began))
            body = json.dumps({"records": [{"distance": 500.0, "hour": 9, "carrier": "DL"}]}).encode()
            request = urllib.request.Request(
                f"{url}/models/flight-delay/predict", body, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert json.load(answer)["predictions"][0] == pytest.approx(answer_of(1))
            docker("stop", "--time=10", container)
            assert docker("inspect", "--format={{.State.ExitCode}}", container) == "0"  # also without an init
        if taken[-1] < READY_WITHIN:
            break
    print(f"serving ready after {min(taken):.2f} s (best of {[f'{one:.2f}' for one in taken]})")
    assert min(taken) < READY_WITHIN


def test_the_mlflow_server_starts_from_its_image_alone() -> None:
    options = ("-e=MLFLOW_BACKEND_STORE_URI=sqlite:////tmp/mlflow.db", "--memory=768m")
    with running("mlflow", 5000, *options) as (container, url):
        wait(f"{url}/health", time.monotonic())
        assert "psycopg2" in docker("exec", container, "python", "-c", "import psycopg2; print(psycopg2.__name__)")
