"""`evergreen data-docs` on a real ledger, and a result as validation keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.data import SUITE, make_rows

from commands import Run
from evergreen import wiring
from evergreen.core.data_docs import RESULT, RESULT_AFTER
from evergreen.core.ports import PartRows
from evergreen.core.records import Cause, RequestState
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.validator import FakeValidator
from records import NOW, make_candidate, make_request_args, make_snapshot
from spec_project import make_project


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    root, made = make_project(tmp_path), FakeRegistry()
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    monkeypatch.setattr(wiring, "hasty_registry", lambda settings: made)
    monkeypatch.setattr(wiring, "validator", lambda store, memory_mb: FakeValidator())
    wiring.Settings.load().home.mkdir()
    return made


def validated(registry: FakeRegistry, number: int, hour: int = 5, *, step: str = "train", kept: bool = True) -> str:
    """The id of a request whose rows were validated; `hour` of the first one."""
    ledger = wiring.ledger(wiring.Settings.load())
    request = ledger.requests.open(
        **make_request_args(model="delay", dedupe_key=f"{number}", run_id=f"run-{number}", cause=Cause.PERSON)
    )
    ledger.requests.mark(request.id, now=NOW, state=RequestState.CLAIMED, step=step)
    if kept:
        rows = make_rows(2).with_columns(hour=pl.when(pl.col("id") == "f0").then(hour).otherwise("hour"))
        full = FakeValidator().validate([PartRows.of(rows)], SUITE).full
        run = registry.start_run("delay", request.id, {})
        registry.log_file(run, RESULT, json.dumps(full).encode())
        if hour > 23:
            after = FakeValidator().validate([PartRows.of(make_rows(2))], SUITE).full
            registry.log_file(run, RESULT_AFTER, json.dumps(after).encode())
    return request.id


def test_it_writes_the_page_of_the_newest_run_that_was_validated(run: Run, registry: FakeRegistry) -> None:
    validated(registry, 1)
    newest = validated(registry, 2, hour=99)
    validated(registry, 3, step="pull", kept=False)
    validated(registry, 4, kept=False)  # judged anew: nothing was validated
    told = run("data-docs", "delay")
    assert told.status == 0, told.err
    assert f"delay, request {newest}: 3 of 4 expectations were met." in told.words
    assert "Not met: expect_column_values_to_be_between (hour)" in told.words
    assert "Written: data-docs.html" in told.words
    page = Path("data-docs.html").read_text()
    assert "expect_column_values_to_be_between (hour): failed" in page
    assert newest in page


def test_it_is_asked_for_a_version_or_a_run(run: Run, registry: FakeRegistry) -> None:
    first, second = validated(registry, 1), validated(registry, 2, hour=99)
    ledger = wiring.ledger(wiring.Settings.load())
    ledger.models.add_snapshot(make_snapshot("delay"))
    ledger.models.add_candidate(make_candidate("delay", request_id=first))
    asked: list[tuple[tuple[str, ...], str, int]] = [
        (("--version", "1"), "version 1", 4),
        (("--run", "run-1"), "run run-1", 4),
        (("--run", second), f"run {second}", 3),
        (("--run", "run-2", "--after-quarantine"), "run run-2", 4),
    ]
    for words, of, met in asked:
        told = run("data-docs", "delay", *words, "--output", "page.html", "--json")
        assert told.status == 0, told.err
        found: dict[str, Any] = told.json
        assert (found["of"], found["met"], found["expectations"], found["file"]) == (of, met, 4, "page.html")
        assert len(found["not_met"]) == 4 - met


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nosuch"], "model 'nosuch'"),
        (["delay"], "the newest 20 requests of model 'delay': found no validation/result.json in MLflow"),
        (["delay", "--output", "no/such/page.html"], "--output: found"),
        (["delay", "--version", "7"], "version 7 of model 'delay': found no such version; allowed: none yet"),
        (["delay", "--run", "other"], "--run 'other': found no run or request of the model; allowed: such as run-1"),
        (["delay", "--run", "run-1", "--version", "1"], "--run: found a version too"),
        (["delay", "--run", "run-1"], "run run-1 of model 'delay': found no validation/result.json"),
    ],
)
def test_what_is_not_there_is_told(run: Run, registry: FakeRegistry, words: list[str], problem: str) -> None:
    validated(registry, 1, kept=False)
    told = run("data-docs", *words)
    assert (told.status, told.out) == (1, "")
    assert problem in told.err
    assert not Path("data-docs.html").exists()


def test_rows_of_which_none_was_set_aside_have_no_rest(run: Run, registry: FakeRegistry) -> None:
    validated(registry, 1)
    assert "of whose rows some were set aside" in run("data-docs", "delay", "--after-quarantine").err


def test_mlflow_that_is_away_is_told(run: Run, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    validated(registry, 1)

    def away(settings: wiring.Settings) -> FakeRegistry:
        raise OSError("connection refused")

    monkeypatch.setattr(wiring, "hasty_registry", away)
    told = run("data-docs", "delay")
    assert told.status == 1
    assert "does not answer (OSError: connection refused)" in told.err
