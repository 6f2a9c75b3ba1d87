"""What a tuning costs beside the bare trainings of its trials, one after another, on the same rows and cores.

    python benchmarks/tuning.py                     20 trials on 100,000 rows x 20, three folds
    python benchmarks/tuning.py --write             ... and the table goes into RESULTS.md
    python benchmarks/tuning.py --rows 20000 --trials 6 --workers 2

`tune` is the step of the train task: processes started, rows written for them and binned, Optuna in an SQLite ledger,
trials logged to MLflow (its database, called directly), pictures drawn. Then, in a process of its own, XGBoost alone
fits what these trials fitted: for each of them and each fold that it came to, rows as they are in memory are made a
QuantileDMatrix, booster grown and stopped, later rows answered, AUC computed; imports and reading are not counted. The
second figure counts `xgb.train` alone, without that each training bins its rows anew.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from results import measured, table, write

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins"))
from evergreen import wiring
from evergreen.core.read_rows import rows_once
from evergreen.core.records import Cause, Snapshot
from evergreen.core.snapshot import snapshot_id
from evergreen.core.spec import ModelSpec
from evergreen.core.tuning import TrialState, folds_of

TITLE = "Tuning"
RATIO = 1.1  # issue 8
NUMBERS, CATEGORIES, DAYS = 16, 4, 60
AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
NAMES = [f"n{at}" for at in range(NUMBERS)], [f"k{at}" for at in range(CATEGORIES)]


def spec_of(trials: int, workers: int) -> ModelSpec:
    """A model of a binary label."""
    return ModelSpec.model_validate(
        {
            "name": "m",
            "owner": "ops@example.com",
            "task": "binary_classification",
            "source": {"connection": "warehouse", "table": "rows", "event_time": "at", "key": "id"},
            "label": {"column": "y", "arrives_after": "1d"},
            "features": {"columns": [*NAMES[0], *NAMES[1]], "categorical": NAMES[1]},
            "window": {"train": f"{DAYS}d", "holdout": {"length": "7d"}},
            "validation": {"suite": "m"},
            "training": {
                "params": {"max_depth": 6, "learning_rate": 0.1},
                "rounds": {"max": 300, "early_stopping": 25},
                "tuning": {"trials": trials, "timeout": "4h", "workers": workers},
            },
            "gates": [{"metric": "auc", "min": 0.6}],
        }
    )


def rows_of(rows: int) -> pl.DataFrame:
    """Numbers, categories of twelve names, and a label that some of them tell, in order of time."""
    random = np.random.default_rng(1)
    numbers = random.normal(size=(rows, NUMBERS)).astype(np.float32)
    codes = random.integers(0, 12, size=(rows, CATEGORIES))
    signal = numbers[:, 0] * numbers[:, 1] + np.sin(2 * numbers[:, 2]) + 0.5 * numbers[:, 3] + 0.2 * (codes[:, 0] % 3)
    label = (signal + random.normal(scale=1.5, size=rows) > 0.4).astype(np.int8)
    length = timedelta(days=DAYS + 9).total_seconds()
    times = AS_OF.timestamp() - np.linspace(length, 0, rows)
    return pl.DataFrame(
        {
            "id": np.arange(rows),
            "at": pl.Series((times * 1e6).astype(np.int64)).cast(pl.Datetime("us", "UTC")),
            **{name: numbers[:, at] for at, name in enumerate(NAMES[0])},
            **{name: pl.Series(codes[:, at].astype(str)) for at, name in enumerate(NAMES[1])},
            "y": label,
        }
    )


def settings_of(folder: Path) -> wiring.Settings:
    """All in one folder."""
    return replace(
        wiring.Settings.load(),
        home=folder,
        ledger_url=f"sqlite:///{folder}/ledger.db",
        store_url=str(folder / "store"),
        mlflow_url=f"sqlite:///{folder}/mlflow.db",
    )


def tuned(folder: Path, rows: int, trials: int, workers: int) -> dict[str, object]:
    """The step. MLflow's database is made before, as it is there in any platform that is up."""
    from evergreen.steps.tune import tune

    settings, spec = settings_of(folder), spec_of(trials, workers)
    ledger, snapshots, registry = wiring.ledger(settings), wiring.snapshots(settings), wiring.registry(settings)
    frame = rows_of(rows)
    parts = snapshots.write("m", frame, "at", "id")
    made = Snapshot(
        id=snapshot_id(parts, "s"), model="m", start=frame["at"].min(), as_of=AS_OF, rows=rows, unlabelled=0,
        quarantined=0, schema_hash="s", parts=parts,
    )  # fmt: skip
    ledger.models.add_snapshot(made)
    request = ledger.requests.open(
        model="m", source="warehouse/rows/at", cause=Cause.PERSON, dedupe_key="r", run_id="r", watermark=AS_OF,
        as_of=AS_OF, detail={}, now=AS_OF,
    )  # fmt: skip
    registry.start_run("m", request.id, {})
    del frame
    began, worked = time.monotonic(), cpu()
    tune(
        spec, ledger, rows_once(spec, snapshots, made.parts), registry, wiring.tuner(settings),
        request=request, snapshot=made, lease=None, now=AS_OF,
    )  # fmt: skip
    seconds, worked = time.monotonic() - began, cpu() - worked
    last = ledger.tunings.last("m")
    assert last is not None
    study = wiring.tuner(settings).studies().open(last.study, {}, [], seed=0)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    asked = [
        {"params": dict(one.params), "folds": len(one.scores), "seconds": one.seconds, "state": str(one.state)}
        for one in study.trials()
    ]
    found = {"trials": asked, "words": last.words, "mb": own_mb(), "worker_mb": children}
    return {"seconds": seconds, "cpu": worked, **found}


def bare(rows: int, trials: list[dict[str, object]]) -> dict[str, object]:
    """The same fits by XGBoost alone."""
    import xgboost as xgb

    from evergreen.core.measure import auc

    spec = spec_of(2, 1)
    tuning = spec.training.tuning
    assert tuning is not None
    end = AS_OF - timedelta(days=8)
    frame = rows_of(rows).filter((pl.col("at") <= end) & (pl.col("at") >= end - timedelta(days=DAYS)))
    frame = frame.with_columns(pl.col(name).cast(pl.Enum(sorted(map(str, range(12))))) for name in NAMES[1])
    at, columns = pl.col("at"), spec.features.columns
    folds = folds_of(spec, tuning, frame["at"].min(), end)  # type: ignore[arg-type]
    pieces = []
    for fold in folds:
        fitted = frame.filter(at.is_between(fold.start, fold.cut))
        cut = fitted.height - round(fitted.height * 0.15)
        ahead = frame.filter((at > fold.after) & (at <= fold.until))
        pieces.append([(one.select(columns), one["y"].to_numpy()) for one in (fitted[:cut], fitted[cut:], ahead)])
    whole = grown = worked = 0.0
    for trial in trials:
        params = {**spec.training.params, **trial["params"], "objective": "binary:logistic", "seed": 2013}  # type: ignore
        params["eval_metric"] = "logloss"
        for (head, y), (tail, z), (ahead, truth) in pieces[: trial["folds"]]:  # type: ignore[misc]
            began, before = time.monotonic(), cpu()
            matrix = xgb.QuantileDMatrix(head, y, enable_categorical=True)
            held = xgb.QuantileDMatrix(tail, z, ref=matrix, enable_categorical=True)
            binned = time.monotonic()
            booster = xgb.train(
                params, matrix, 300, evals=[(held, "tail")], early_stopping_rounds=25, verbose_eval=False
            )
            grown += time.monotonic() - binned
            kept = booster.best_iteration + 1
            said = booster.predict(xgb.DMatrix(ahead, enable_categorical=True), iteration_range=(0, kept))
            auc(truth.astype(float), said.astype(float))
            whole, worked = whole + time.monotonic() - began, worked + cpu() - before
    return {"seconds": whole, "cpu": worked, "grown": grown, "mb": own_mb()}


def cpu() -> float:
    """Seconds of CPU of this process and of those that it has waited for."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def own_mb() -> float:
    """The peak of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def apart(what: str, *arguments: str) -> dict[str, object]:
    """Run a part of this file in a process of its own."""
    command = [sys.executable, __file__, "--part", what, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Read the arguments, measure, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part == "tuned":
        print(json.dumps(tuned(given.folder, given.rows, given.trials, given.workers)))
        return
    if given.part == "bare":
        print(json.dumps(bare(given.rows, json.loads((given.folder / "trials.json").read_text()))))
        return
    with tempfile.TemporaryDirectory() as folder:
        same = ("--folder", folder, "--rows", str(given.rows), "--trials", str(given.trials))
        ours = apart("tuned", *same, "--workers", str(given.workers))
        Path(folder, "trials.json").write_text(json.dumps(ours["trials"]))
        alone = apart("bare", *same)
    tell(given, ours, alone)


def tell(given: argparse.Namespace, ours: dict, alone: dict) -> None:
    """The table."""
    fits = sum(trial["folds"] for trial in ours["trials"])
    pruned = sum(trial["state"] == TrialState.PRUNED for trial in ours["trials"])
    inside = sum(trial["seconds"] for trial in ours["trials"])
    ratio, strict = ours["seconds"] / alone["seconds"], ours["seconds"] / alone["grown"]
    lines = [
        ["`tune`, all of it", f"{ours['seconds']:.1f} s", f"{ratio:.2f} (limit {RATIO})", f"{strict:.2f}"],
        ["of which in trials", f"{inside:.1f} s", f"{inside / alone['seconds']:.2f}", f"{inside / alone['grown']:.2f}"],
        ["bare trainings, one after another", f"{alone['seconds']:.1f} s", "1", ""],
        ["`xgb.train` in them", f"{alone['grown']:.1f} s", "", "1"],
    ]
    text = [
        f"{len(ours['trials'])} trials ({pruned} pruned), {fits} fits, {given.rows:,} rows x {NUMBERS + CATEGORIES}, "
        f"{given.workers} at a time: {ours['words']}.",
        "",
        table(["way", "wall", "beside bare trainings", "beside `xgb.train` alone"], lines),
        "",
        f"CPU: {ours['cpu']:.1f} s, {alone['cpu']:.1f} s bare ({ours['cpu'] / alone['cpu']:.2f}). "
        f"Peak memory: {ours['mb']:,.0f} MB of the step's process, {ours['worker_mb']:,.0f} MB of a process of trials, "
        f"{alone['mb']:,.0f} MB bare. {measured()}",
    ]
    print("\n".join(text))
    if given.write:
        write(TITLE, "\n".join(text))


if __name__ == "__main__":
    main()
