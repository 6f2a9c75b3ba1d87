"""validate: what is set aside, what stops the run, and what is kept either way."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from tests.data import AS_OF, SUITE, make_rows, make_spec, open_request

from evergreen.core import data_docs, quarantine
from evergreen.core.errors import ValidationStopped
from evergreen.core.ports import ExpectationResult
from evergreen.core.records import Snapshot
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.snapshots import InMemorySnapshots
from evergreen.fakes.source import FakeSource
from evergreen.fakes.store import InMemoryStore
from evergreen.fakes.validator import FakeValidator
from evergreen.steps.pull import pull
from evergreen.steps.validate import validate

SHA256 = "5" * 64
SUITE_ID = f"flights@{SHA256}"


class World:
    """A pulled snapshot, and fakes that a test can look into."""

    def __init__(self, *bad: str, **changes: Any) -> None:
        self.spec = make_spec(**changes)
        hour = pl.when(pl.col("id").is_in(bad)).then(99).otherwise("hour")
        self.source = FakeSource(make_rows().with_columns(hour=hour), self.spec.source)
        self.ledger, self.snapshots, self.registry = in_memory_ledger(), InMemorySnapshots(), FakeRegistry()
        self.store, self.suite = InMemoryStore(), SUITE
        self.request_id = open_request(self.ledger)
        self.raw = pull(
            self.spec,
            self.ledger,
            self.source,
            self.snapshots,
            self.store,
            request_id=self.request_id,
            lease=None,
        )

    def validate(self) -> Snapshot:
        return validate(
            self.spec,
            self.ledger,
            self.snapshots,
            FakeValidator(),
            self.registry,
            self.store,
            self.suite,
            suite_sha256=SHA256,
            request_id=self.request_id,
            snapshot_id=self.raw.id,
            lease=None,
        )

    def artifact(self, name: str = "validation/result.json") -> Any:
        (run,) = self.registry.runs.values()
        return json.loads(run.files[name])

    def quarantined(self) -> pl.DataFrame:
        (key,) = (key for key in self.snapshots.frames if key.startswith("quarantine/"))
        return self.snapshots.frames[key]


FEW = ("f300", "f302", "f304")


def test_a_clean_snapshot_is_handed_on_as_it_is() -> None:
    world = World()
    assert world.validate() == replace(world.raw, suite=SUITE_ID)
    assert world.ledger.models.snapshot("flights", world.raw.id).suite == SUITE_ID
    assert world.artifact()["success"] is True


def test_a_few_bad_rows_are_set_aside_and_kept() -> None:
    world = World(*FEW)
    clean = world.validate()
    assert (clean.rows, clean.quarantined) == (world.raw.rows - 3, 3)
    assert clean.id != world.raw.id
    assert (clean.suite, world.ledger.models.snapshot("flights", world.raw.id).suite) == (SUITE_ID, "")
    assert world.ledger.models.snapshot("flights", clean.id) == clean
    assert world.snapshots.read(clean.parts)["hour"].max() == 23
    kept = world.quarantined()
    assert kept["id"].to_list() == list(FEW)
    assert set(kept["failed_expectation"]) == {"expect_column_values_to_be_between (hour)"}
    (run,) = world.registry.runs.values()
    assert run.metrics["quarantined_rows"] == 3
    assert run.tags["evergreen.quarantine"].startswith("quarantine/flights/")


def test_only_days_that_lost_rows_are_written_anew() -> None:
    world = World(*FEW)
    clean = world.validate()
    changed = [(a.day, b.day) for a, b in zip(world.raw.parts, clean.parts, strict=True) if a != b]
    assert len(changed) == 1


def test_a_day_that_loses_all_its_rows() -> None:
    world = World(validation={"suite": "flights", "quarantine": {"max_fraction": 0.2}})
    day = world.raw.parts[4].day
    lost = make_rows().filter((pl.col("at").dt.date() == day) & pl.col("late").is_not_null())["id"]
    world = World(*lost, validation={"suite": "flights", "quarantine": {"max_fraction": 0.2}})
    clean = world.validate()
    assert day not in [part.day for part in clean.parts]
    assert clean.quarantined == len(lost)


def test_run_again_it_changes_nothing() -> None:
    world = World(*FEW)
    first = world.validate()
    frames = dict(world.snapshots.frames)
    assert world.validate() == first
    assert world.snapshots.frames.keys() == frames.keys()
    assert len(world.registry.runs) == 1


def test_rows_that_mostly_tolerates_stay() -> None:
    world = World()
    assert world.snapshots.read(world.validate().parts)["wind"].null_count() > 200


def test_too_many_bad_rows_stop_the_run_and_leave_the_result() -> None:
    world = World(*[f"f{n}" for n in range(300, 320, 2)])
    with pytest.raises(ValidationStopped) as raised:
        world.validate()
    message = str(raised.value)
    assert "10 of 846 rows (1.18%)" in message
    assert "at most 1.00%" in message
    assert "expect_column_values_to_be_between (hour) failed: 10 rows, for example 99 (id f300)" in message
    assert "`evergreen data-docs flights` shows the whole result" in message
    assert world.artifact()["success"] is False
    (run,) = world.registry.runs.values()
    assert run.status == "FAILED"
    page = world.store.files[data_docs.key("flights", world.request_id)]
    assert run.files["validation/result.html"] == page
    assert b"expect_column_values_to_be_between (hour): failed" in page
    assert not [key for key in world.snapshots.frames if key.startswith("quarantine/")]


def test_a_bad_batch_is_not_diluted_by_the_rows_of_earlier_ones() -> None:
    """Three bad rows in 846 pass; among the 96 that are new since the last served request they do not."""
    world = World("f900", "f902", "f904")
    assert world.validate().quarantined == 3
    open_request(world.ledger, AS_OF - timedelta(days=1), served=True)
    with pytest.raises(ValidationStopped, match=r"3 of 9\d new rows \(3\.\d+%\)"):
        world.validate()


def test_a_table_check_that_fails_stops_the_run() -> None:
    world = World(*FEW)
    few_rows = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 5000}}
    world.suite = {"name": "s", "expectations": [few_rows, *SUITE["expectations"]]}
    with pytest.raises(ValidationStopped, match="expect_table_row_count_to_be_between failed: observed 846"):
        world.validate()


def test_a_check_that_cannot_be_judged_stops_the_run() -> None:
    world = World()
    gone = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "gone"}}
    world.suite = {"name": "s", "expectations": [gone]}
    with pytest.raises(ValidationStopped, match=r"expect_column_values_to_not_be_null \(gone\) errored"):
        world.validate()
    assert world.artifact()["results"][0]["status"] == "errored"


def test_the_rest_must_pass_once_the_bad_rows_are_gone() -> None:
    world = World(*FEW)
    enough = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 845}}
    world.suite = {"name": "s", "expectations": [enough, *SUITE["expectations"]]}
    with pytest.raises(ValidationStopped, match="3 rows were set aside and the rest still fails"):
        world.validate()
    assert world.artifact("validation/result_after_quarantine.json")["success"] is False
    (run,) = world.registry.runs.values()
    assert "validation/result.html" not in run.files  # the page is on the result that stopped the run
    page = run.files["validation/result_after_quarantine.html"]
    assert world.store.files[data_docs.key("flights", world.request_id)] == page
    assert b"expect_table_row_count_to_be_between (None): failed" in page


def test_no_run_that_goes_on_waits_for_a_page() -> None:
    world = World(*FEW)
    world.validate()
    (run,) = world.registry.runs.values()
    assert not [name for name in [*run.files, *world.store.files] if name.endswith(".html")]


def test_a_page_that_cannot_be_made_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> str:
        raise KeyError("unexpected_percent")

    monkeypatch.setattr(FakeValidator, "data_docs", broken)
    world = World(*[f"f{n}" for n in range(300, 320, 2)])
    with pytest.raises(ValidationStopped, match="10 of 846 rows"):
        world.validate()
    (run,) = world.registry.runs.values()
    assert run.files.keys() == {"validation/result.json"}
    assert "No data docs could be made" in caplog.text


def test_an_empty_suite_is_no_pass() -> None:
    world = World()
    world.suite = {"name": "s", "expectations": []}
    with pytest.raises(ValidationStopped, match="holds no expectation"):
        world.validate()


def test_what_people_read_is_bounded() -> None:
    results = [ExpectationResult(f"expect_{n}", "a", "failed", tuple(range(1000)), "detail") for n in range(25)]
    lines = quarantine.failures(results, lambda result, row: "x\n" * 500)
    assert len(lines) == quarantine.MAX_FAILURES + 1
    assert lines[-1] == "and 15 more"
    assert all(len(line) < 300 and "\n" not in line for line in lines)


def test_a_row_that_fails_twice_counts_once() -> None:
    results = [
        ExpectationResult("expect_a", "a", "failed", (1, 2)),
        ExpectationResult("expect_b", "b", "failed", (2,)),
        ExpectationResult("expect_c", "c", "passed", (7,)),
    ]
    aside = quarantine.set_aside(results)
    assert quarantine.labels(aside) == ["expect_a (a)", "expect_a (a); expect_b (b)"]
    assert quarantine.rows_aside(results, 200) == [1, 2]
    assert quarantine.over_limit(2, 200, 0.01) == ""
    assert "2 of 199 rows" in quarantine.over_limit(2, 199, 0.01)
