"""kill -9 of a process that validation has forked, at five random moments: it is worth a retry, which finds the same.

Rows enough that the work is shared between two processes; the real validator, store, snapshots and ledger.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
from tests.data import AS_OF, START, make_spec, open_request

from evergreen import wiring
from evergreen.core.errors import ValidationInterrupted
from evergreen.core.retention import VALIDATED
from evergreen.core.snapshot import snapshot_id
from evergreen.fakes.registry import FakeRegistry
from evergreen.orchestration.limited import in_child
from evergreen.steps.validate import validate
from killing import moment
from records import make_snapshot

KILLS, DAYS, PER_DAY = 5, 20, 28_000  # in runs of seven days: one process has two of the three
RARE = 30_001
LOOK = 0.02  # seconds between two looks at what runs: each takes time from what it looks at
SPEC = make_spec()
SUITE: dict[str, Any] = {
    "name": "flights",
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "hour", "min_value": 0, "max_value": 23}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "carrier", "value_set": ["AA", "UA"]}},
        {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "id", "regex": "^f[0-9]+$"}},
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "id"}},
        {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "hour", "min_value": 0}},
    ],
}


def settings_of(folder: Path) -> wiring.Settings:
    return replace(
        wiring.Settings.load(), home=folder, ledger_url=f"sqlite:///{folder}/ledger.db", store_url=str(folder / "store")
    )


def make_rows() -> pl.DataFrame:
    """One hour in so many is impossible."""
    n = pl.int_range(DAYS * PER_DAY, eager=True)
    return pl.DataFrame({"n": n}).select(
        id=pl.format("f{}", "n"),
        at=pl.lit(START) + pl.duration(seconds=pl.col("n") * (24 * 3600 / PER_DAY)),
        hour=pl.when(pl.col("n") % RARE == RARE - 1).then(99).otherwise(pl.col("n") % 24),
        wind=pl.col("n") / 7,
        carrier=pl.when(pl.col("n") % 3 == 0).then(pl.lit("AA")).otherwise(pl.lit("UA")),
        late=pl.col("n") % 2,
    )


def validate_once(name: str) -> None:
    """What the task does; what came of it lies in outcome.json."""
    folder = Path(name)
    settings, registry = settings_of(folder), FakeRegistry()
    ids = json.loads((folder / "ids").read_text())

    def act() -> dict[str, Any]:
        store = wiring.store(settings)
        clean = validate(
            SPEC, wiring.ledger(settings), wiring.snapshots(settings), wiring.validator(store, 4000), registry, store,
            SUITE, suite_sha256="5" * 64, lease=None, **ids,
        )  # fmt: skip
        (run,) = registry.runs.values()
        files = {name: json.loads(data) for name, data in run.files.items()}
        return {"clean": clean.id, "aside": clean.quarantined, **files}

    try:
        outcome = in_child("validate", 4000, act)
    except ValidationInterrupted as interrupted:
        outcome = {"interrupted": str(interrupted), "retryable": interrupted.retryable}
    (folder / "outcome.json").write_text(json.dumps(outcome))


@contextmanager
def started(folder: Path) -> Iterator[psutil.Popen]:
    call = "import sys; sys.path[:0] = sys.argv[2:]; from tests.load.test_validate_killed import validate_once"
    with (folder / "log").open("ab") as log:
        process = psutil.Popen(
            [sys.executable, "-c", f"{call}; validate_once(sys.argv[1])", str(folder), *sys.path],
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        with suppress(psutil.NoSuchProcess):
            process.kill()
        process.wait()


def outcome_of(folder: Path, process: psutil.Popen) -> Any:
    assert process.wait(timeout=120) == 0, (folder / "log").read_text()[-4000:]
    return json.loads((folder / "outcome.json").read_text())


def workers(process: psutil.Popen) -> list[psutil.Process]:
    """What the step's own process has forked."""
    found: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        for step in process.children():
            with suppress(psutil.NoSuchProcess):
                found += [one for one in step.children() if one.status() != psutil.STATUS_ZOMBIE]
    return found


def wait_for_two(process: psutil.Popen) -> list[psutil.Process]:
    """The two that share the rows; the one before them looks at types only."""
    deadline = time.monotonic() + 180
    while len(found := workers(process)) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(LOOK)
    return found


def found(outcome: Any) -> Any:
    """All of it but times and ids of the library."""
    told = {name: whole for name, whole in outcome.items() if name.startswith("validation/")}
    told = {name: (whole["results"], whole["statistics"], whole["success"]) for name, whole in told.items()}
    return outcome["clean"], outcome["aside"], told


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands before validate: a snapshot and a request."""
    folder = tmp_path_factory.mktemp("landed")
    settings = settings_of(folder)
    ledger, rows = wiring.ledger(settings), make_rows()
    parts = wiring.snapshots(settings).write("flights", rows, "at", "id")
    made = snapshot_id(parts, str(rows.schema))
    ledger.models.add_snapshot(
        make_snapshot("flights", id=made, parts=parts, rows=rows.height, start=START, as_of=AS_OF, suite="")
    )
    (folder / "ids").write_text(json.dumps({"request_id": open_request(ledger), "snapshot_id": made}))
    return folder


@pytest.fixture(scope="module")
def whole(landed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, float]:
    """What comes of it where nobody is killed, and how many seconds two processes are at work."""
    folder = tmp_path_factory.mktemp("whole") / "undisturbed"
    shutil.copytree(landed, folder)
    with started(folder) as process:
        wait_for_two(process)
        began = time.monotonic()
        while len(workers(process)) == 2:
            time.sleep(LOOK)
        seconds = time.monotonic() - began
        return outcome_of(folder, process), seconds


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_process_of_it_is_worth_a_retry_that_finds_the_same(
    tmp_path: Path, landed: Path, whole: tuple[Any, float], seed: int
) -> None:
    undisturbed, seconds = whole
    assert undisturbed["aside"] == DAYS * PER_DAY // RARE
    shutil.copytree(landed, folder := tmp_path / "killed")
    with started(folder) as process:
        both = wait_for_two(process)
        until = time.monotonic() + moment(seed, of=KILLS, within=seconds)
        while len(left := workers(process)) == 2 and time.monotonic() < until:
            time.sleep(LOOK)
        left[seed % len(left)].kill()  # where one has ended sooner than it did before, the other one
        outcome = outcome_of(folder, process)
        assert not [one.pid for one in both if one.is_running()]
    assert outcome.keys() == {"interrupted", "retryable"}
    assert outcome["retryable"] is True
    assert "a process of it ended with -9" in outcome["interrupted"]
    store = wiring.store(settings_of(folder))
    kept = {key: store.get(key) for key in store.keys(VALIDATED)}
    with started(folder) as process:
        assert found(outcome_of(folder, process)) == found(undisturbed)
    assert {key: store.get(key) for key in kept} == kept  # what was found is whole, and is gone on with
