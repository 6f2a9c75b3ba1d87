"""`evergreen new` on real sources: what it drafts is valid at once, says what it guessed, and overwrites nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from data import make_rows, write_sqlite
from evergreen.adapters.duckdb_window import DuckdbWindow
from evergreen.adapters.gx_validator import GxValidator
from evergreen.cli import main
from evergreen.core.catalog import load_catalog
from evergreen.core.metrics import Task
from evergreen.core.ports import PartRows
from evergreen.core.profile import guess_task
from evergreen.fakes.store import InMemoryStore
from spec_project import make_project

BASE = ["--connection", "warehouse", "--table", "flights", "--event-time", "at", "--key", "id", "--label", "late"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and a warehouse of 60 days of flights with columns of every kind."""
    root = make_project(tmp_path)
    n = pl.int_range(pl.len())
    rows = make_rows(days=60).with_columns(
        seat=pl.when(n % 2 == 0).then(pl.lit("window")).otherwise(pl.lit("aisle")),
        tail=pl.format("N{}", n),
        number=n * 3,
        country=pl.lit("US"),
        gust=pl.lit(None, dtype=pl.Float64),
        delay=pl.col("late").fill_null(0) * 60.0 + n % 2,
        landed=pl.when(pl.col("late").is_not_null()).then(n % 7),
    )
    monkeypatch.setenv("EVERGREEN_CONN_WAREHOUSE", write_sqlite(root / "w.db", rows))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run_new(*arguments: str) -> tuple[int, str, str]:
        status = 0
        try:
            main(["new", *arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        return (status, *capsys.readouterr())

    return run_new


def test_without_arguments_it_explains_by_example(run: Any) -> None:
    status, out, _ = run()
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    for told in ("evergreen new fare --connection warehouse --table rides", "--files 's3://", "--dry-run"):
        assert told in out


def test_what_it_writes_passes_check_at_once(run: Any, project: Path) -> None:
    status, out, err = run("lateness", *BASE)
    assert (status, err) == (0, "")
    catalog = load_catalog(project)
    assert catalog.problems == ()
    spec = catalog.specs["lateness"]
    assert spec.task is Task.BINARY
    assert spec.features.columns == ["carrier", "hour", "seat", "wind"]
    assert spec.features.categorical == ["carrier", "seat"]
    assert spec.window.train.days == 30, "there are only 60 days"
    assert spec.owner == "ops@example.com"
    assert [gate.metric for gate in spec.gates] == ["auc", "auc"]
    text = (project / "models/lateness/model.yaml").read_text()
    for left_out in (
        "# - tail: 5,760 different texts", "# - number: different in nearly every row",
        "# - country: the same value in every row", "# - gust: no value at all",
        "# - delay: correlation 1.00 with the label",
        "# - landed: missing exactly where the label is",
    ):  # fmt: skip
        assert left_out in text
        assert left_out.removeprefix("# - ") in out
    assert max(map(len, text.splitlines())) <= 120
    assert "FILL IN" in (project / "models/lateness/README.md").read_text()


def test_the_suite_holds_for_what_it_was_drafted_from_and_not_for_nonsense(run: Any, project: Path) -> None:
    run("lateness", *BASE)
    suite = json.loads((project / "expectations/lateness.json").read_text())
    kinds = {(entry["type"], entry["kwargs"].get("column")) for entry in suite["expectations"]}
    assert {
        ("expect_column_values_to_not_be_null", "id"),
        ("expect_column_values_to_be_in_set", "carrier"),
        ("expect_column_values_to_be_between", "hour"),
        ("expect_column_values_to_be_in_set", "late"),
    } <= kinds
    assert ("expect_column_values_to_not_be_null", "wind") not in kinds, "every fourth is missing"
    spec = load_catalog(project).specs["lateness"]
    sample = make_rows(days=60).with_columns(seat=pl.lit("aisle")).select(spec.columns)
    validator = GxValidator(InMemoryStore(), DuckdbWindow())
    assert {result.status for result in validator.validate([PartRows.of(sample)], suite).results} == {"passed"}
    bad = sample.with_columns(hour=pl.lit(99), carrier=pl.lit("ZZ"))
    results = validator.validate([PartRows.of(bad)], suite).results
    failed = {result.column for result in results if result.status == "failed"}
    assert failed == {"hour", "carrier"}


def test_a_dry_run_writes_nothing(run: Any, project: Path) -> None:
    status, out, _ = run("lateness", *BASE, "--dry-run")
    assert status == 0
    assert "--- models/lateness/model.yaml\n" in out
    assert not (project / "models/lateness").exists()
    status, out, _ = run("lateness", *BASE, "--dry-run", "--json")
    files = json.loads(out)["files"]
    assert yaml.safe_load(files["models/lateness/model.yaml"])["name"] == "lateness"


@pytest.mark.parametrize(
    ("label", "task"), [("wind", Task.REGRESSION), ("hour", Task.MULTICLASS), ("late", Task.BINARY)]
)
def test_the_task_is_guessed_from_the_label(run: Any, project: Path, label: str, task: Task) -> None:
    status, _, err = run("guessed", *BASE[:-1], label)
    assert (status, err) == (0, "")
    spec = load_catalog(project).specs["guessed"]
    assert spec.task is task
    assert label not in spec.features.columns


def test_files_need_no_connection(run: Any, project: Path) -> None:
    (project / "data").mkdir()
    make_rows().write_parquet(project / "data/flights.parquet")
    arguments = ["--files", "data/*.parquet", "--event-time", "at", "--key", "id", "--label", "late"]
    status, _, err = run("lateness", *arguments)
    assert (status, err) == (0, "")
    source = load_catalog(project).specs["lateness"].source
    assert (source.files, source.connection) == ("data/*.parquet", None)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["lateness"], "no --table or --files, --event-time, --key, --label"),
        (["lateness", "--table", "flights"], "no --event-time, --key, --label, --connection"),
        (["lateness", *BASE[:-1], "lat"], "--label: found no column 'lat'; allowed: at, carrier"),
        (["lateness", *BASE[:-1], "lat"], "Did you mean 'late'?"),
        (["lateness", *BASE[:-3], "idd", "--label", "late"], "--key: found no column 'idd'"),
        (["lateness", *BASE[:-1], "carrier"], "--label carrier: found type String"),
        (["lateness", "--files", "x.parquet", *BASE], "'table' and 'files'"),
        (["lateness", *BASE[:3], "flight", *BASE[4:]], "did you mean 'flights'?"),
        (["Late ness", *BASE], "lower-case letters"),
        (["monitoring", *BASE], "a DAG of Evergreen"),
        (["delay", *BASE], "models/delay, which is there already"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_written(run: Any, project: Path, arguments: list[str], told: str) -> None:
    before = sorted(project.rglob("*"))
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("evergreen: ")
    assert told in err
    assert sorted(project.rglob("*")) == before


def test_a_suite_that_is_there_is_not_overwritten(run: Any, project: Path) -> None:
    (project / "expectations/lateness.json").write_text("{}")
    assert "expectations/lateness.json, which is there already" in run("lateness", *BASE)[2]
    assert not (project / "models/lateness").exists()


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([True, False, None], Task.BINARY),
        ([0, 1, 1], Task.BINARY),
        ([0.0, 1.0, None], Task.BINARY),
        ([0, 1, 2, 2], Task.MULTICLASS),
        ([1, 2, 3], Task.REGRESSION),
        ([0.5, 1.5], Task.REGRESSION),
        (["yes", "no"], None),
    ],
)
def test_labels_and_their_tasks(values: list[Any], task: Task | None) -> None:
    assert guess_task(pl.Series("y", values)) is task
