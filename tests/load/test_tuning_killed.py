"""kill -9 in tuning, at five random moments: the retry ends with the study and the version that no kill would have."""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from evergreen import wiring
from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.optuna_studies import OptunaStudies
from evergreen.core.records import Candidate
from evergreen.core.snapshot import snapshot_id
from evergreen.core.tuning import Trial, TrialKind
from evergreen.fakes.registry import FakeRegistry
from evergreen.steps.train import train
from judging import MADE_WITH, NOW
from killing import Program, holds
from records import make_request_args, make_snapshot
from training_data import AS_OF, SPEC, make_rows, make_spec

KILLS, TRIALS, ROWS = 5, 8, 480
MOST_SECONDS = 0.2  # from the end of a trial to the kill: at least one trial and the fit are still to come then
TUNING = {"trials": TRIALS, "timeout": "1h", "folds": 3}
DEEP = {"params": {"max_depth": 3, "learning_rate": 0.02}, "rounds": {"max": 40, "early_stopping": 40}}


def settings_of(folder: Path) -> wiring.Settings:
    return replace(
        wiring.Settings.load(), home=folder, ledger_url=f"sqlite:///{folder}/ledger.db", store_url=str(folder / "store")
    )


def tune_once(name: str) -> None:
    """What the task does: one request's train step, tuning included. MLflow is a twin, which is lost with a process."""
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # two threads of a busy machine wait for each other mostly
    folder = Path(name)
    settings = settings_of(folder)
    ledger, snapshots = wiring.ledger(settings), wiring.snapshots(settings)
    rows = make_rows(ROWS)
    parts = snapshots.write("m", rows, "at", "id")
    snapshot = make_snapshot(
        id=snapshot_id(parts, str(rows.schema)), parts=parts, rows=rows.height, start=rows["at"].min(), as_of=AS_OF
    )
    ledger.models.add_snapshot(snapshot)
    request = ledger.requests.open(**make_request_args(dedupe_key="r", run_id="r", as_of=AS_OF, watermark=AS_OF))
    train(
        make_spec(training={**SPEC["training"], **DEEP, "tuning": TUNING}),
        ledger,
        snapshots,
        wiring.trainer(settings, pictures=False),
        FakeRegistry(),
        wiring.store(settings),
        request_id=request.id,
        snapshot_id=snapshot.id,
        provenance=MADE_WITH,
        lease=None,
        now=NOW,
        tuner=wiring.tuner(settings),
    )


def ended(folder: Path) -> dict[int, str]:
    """When the trials ended that have ended so far, by Optuna's number, as its table says."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/ledger.db?mode=ro", uri=True)) as connection:
            wanted = "number, datetime_complete FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
            return dict(connection.execute(f"SELECT {wanted}").fetchall())
    except sqlite3.OperationalError:  # no such file or table yet
        return {}


def program(folder: Path, after: int = 0) -> Program:
    """At work once rows are written for the trials, and so many have ended."""
    rows = folder / "training"
    return Program(tune_once, folder, at_work=lambda: holds(rows, ".arrow") and len(ended(folder)) >= after)


def study_of(folder: Path) -> list[Trial]:
    """Its trials, without how long they took."""
    settings = settings_of(folder)
    last = open_ledger(settings.ledger_url).tunings.last("m")
    assert last is not None
    study = OptunaStudies(settings.ledger_url).open(last.study, {}, [], seed=0)
    return [replace(trial, seconds=0.0) for trial in study.trials()]


def candidate_of(folder: Path) -> Candidate:
    (candidate,) = open_ledger(settings_of(folder).ledger_url).models.candidates("m")
    return candidate


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which nobody was killed."""
    folder = tmp_path_factory.mktemp("whole") / "undisturbed"
    program(folder).run()
    return folder


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_tuning_ends_as_one_that_was_not(tmp_path: Path, undisturbed: Path, seed: int) -> None:
    draw = random.Random(seed)
    after = draw.randrange(seed * (TRIALS - 1) // KILLS, (seed + 1) * (TRIALS - 1) // KILLS)
    folder = tmp_path / "killed"
    program(folder, after).kill(draw.uniform(0, MOST_SECONDS))
    before = ended(folder)
    program(folder).run()
    assert len(before) >= after
    assert before.items() <= ended(folder).items()  # none of them was done again
    trials = study_of(folder)
    assert trials == study_of(undisturbed)
    assert len(trials) == TRIALS
    assert trials[0].kind is TrialKind.UNTUNED
    found, wanted = candidate_of(folder), candidate_of(undisturbed)
    assert (found.train_key, found.bundle) == (wanted.train_key, wanted.bundle)
    assert not holds(folder / "training", ".arrow")
