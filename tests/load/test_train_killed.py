"""kill -9 in training, at five random moments: the retry ends with one version, and the bundle that no kill would give.

The real trainer with its rows in files, a ledger in SQLite, and MLflow.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from evergreen import wiring
from evergreen.core import bundle
from evergreen.core.records import Candidate
from evergreen.core.snapshot import snapshot_id
from evergreen.steps.train import train
from judging import MADE_WITH, NOW
from killing import EndedBefore, Program, holds, moment
from records import make_request_args, make_snapshot
from training_data import AS_OF, make_rows, make_spec

KILLS, ROWS = 5, 30_000
SOONER = 0.75  # a machine that was busy when it was measured may be quicker when it is killed: then once more, sooner
SPEC = make_spec(
    window={"train": "1000d", "holdout": {"length": "5d", "min_rows": 50}},
    training={
        "params": {"max_depth": 4, "learning_rate": 0.05, "subsample": 0.8},
        "rounds": {"max": 250, "early_stopping": 250},
        "engine": "external_memory",
    },
)


def settings_of(folder: Path) -> wiring.Settings:
    return replace(
        wiring.Settings.load(),
        home=folder,
        ledger_url=f"sqlite:///{folder}/ledger.db",
        store_url=str(folder / "store"),
        mlflow_url=f"sqlite:///{folder}/mlflow.db",
        artifacts_url="",
    )


def land(folder: Path) -> None:
    """What stands before train: a snapshot, and a request; and MLflow's database."""
    settings = settings_of(folder)
    ledger, snapshots, rows = wiring.ledger(settings), wiring.snapshots(settings), make_rows(ROWS)
    parts = snapshots.write("m", rows, "at", "id")
    first = rows["at"].min()
    (folder / "snapshot").write_text(made := snapshot_id(parts, str(rows.schema)))
    ledger.models.add_snapshot(make_snapshot(id=made, parts=parts, rows=ROWS, start=first, as_of=AS_OF))
    ledger.requests.open(**make_request_args(dedupe_key="r", run_id="r", as_of=AS_OF, watermark=AS_OF))
    wiring.registry(settings).aliases("m")


def train_once(name: str) -> None:
    """What the task does."""
    settings = settings_of(Path(name))
    ledger = wiring.ledger(settings)
    request = ledger.requests.for_run("m", "r")
    assert request is not None
    train(
        SPEC,
        ledger,
        wiring.snapshots(settings),
        wiring.trainer(settings, pictures=False),
        wiring.registry(settings),
        wiring.store(settings),
        request_id=request.id,
        snapshot_id=(Path(name) / "snapshot").read_text(),
        provenance=MADE_WITH,
        lease=None,
        now=NOW,
    )


def program(folder: Path) -> Program:
    return Program(train_once, folder, at_work=lambda: holds(folder / "training", ".arrow"))


def killed_in(folder: Path, landed: Path, after: float) -> Program:
    """One that was killed so many seconds after its first sign of work, or sooner."""
    shutil.copytree(landed, folder)
    try:
        (killed := program(folder)).kill(after)
    except EndedBefore:
        shutil.rmtree(folder)
        return killed_in(folder, landed, SOONER * after)
    return killed


def candidate_of(folder: Path) -> Candidate:
    (candidate,) = wiring.ledger(settings_of(folder)).models.candidates("m")
    return candidate


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    land(folder := tmp_path_factory.mktemp("landed"))
    return folder


@pytest.fixture(scope="module")
def whole(landed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A folder in which nobody was killed, and how many seconds that took."""
    folder = tmp_path_factory.mktemp("whole") / "undisturbed"
    shutil.copytree(landed, folder)
    return folder, program(folder).run()


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_training_ends_as_one_that_was_not(
    tmp_path: Path, landed: Path, whole: tuple[Path, float], seed: int
) -> None:
    undisturbed, seconds = whole
    killed = killed_in(folder := tmp_path / "killed", landed, moment(seed, of=KILLS, within=SOONER * seconds))
    killed.run()
    found, wanted = candidate_of(folder), candidate_of(undisturbed)
    assert (found.version, found.train_key, found.bundle) == (1, wanted.train_key, wanted.bundle)
    settings = settings_of(folder)
    registered = MlflowClient(settings.mlflow_url).search_model_versions("")
    assert [(version.name, int(version.version)) for version in registered] == [("m", 1)]
    assert wiring.registry(settings).aliases("m") == {"challenger": 1}
    store = wiring.store(settings)
    kept = bundle.gather(found.bundle, lambda name: store.get(bundle.key(found.bundle, name)))
    assert kept[bundle.MODEL]
    assert list((folder / "training").iterdir()) == []  # neither rows nor caches
