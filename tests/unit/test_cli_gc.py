"""`evergreen gc` on a real ledger and store."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commands import Run
from evergreen import wiring
from evergreen.core.ports import Ledger, Store
from evergreen.core.records import MetricPoint
from records import make_candidate, make_snapshot
from spec_project import make_project, write_spec

OLD = datetime.now(UTC) - timedelta(days=200)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that keeps its newest version."""
    root = make_project(tmp_path)
    write_spec(root, "delay", ("name: delay\n", "name: delay\nretention: {keep: 10d, versions: 1}\n"))
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    return root


@pytest.fixture
def ledger(project: Path) -> Ledger:
    """Two old versions, with a bundle and evidence each."""
    settings = wiring.Settings.load()
    settings.home.mkdir()
    ledger, store = wiring.ledger(settings), wiring.store(settings)
    ledger.models.add_snapshot(make_snapshot("delay"))
    for version in (1, 2):
        made = ledger.models.add_candidate(make_candidate("delay", version, created_at=OLD))
        for key in (f"bundles/{made.bundle}/manifest.json", f"evidence/delay/{version}/evidence.json"):
            store.put(key, b"12345")
            path = Path(settings.store_url) / key
            os.utime(path, (OLD.timestamp(), OLD.timestamp()))
    return ledger


@pytest.fixture
def store(ledger: Ledger) -> Store:
    return wiring.store(wiring.Settings.load())


def test_a_dry_run_tells_what_would_go_and_why_the_rest_stays(run: Run, store: Store) -> None:
    before = store.listing("")
    told = run("gc", "--dry-run")
    assert told.status == 0, told.err
    assert store.listing("") == before
    assert max(map(len, told.out.splitlines())) <= 80
    for part in (
        "Would be removed:",
        "delay bundles 1 0.0",
        "delay evidence 1 0.0",
        "in all 2 0.0",
        "delay version 2 among the newest 1 (retention.versions)",
        "Nothing was changed. `evergreen gc` removes what is listed.",
    ):
        assert part in told.words
    assert "delay version 1" not in told.words


def test_what_the_dry_run_names_is_what_then_goes(run: Run, store: Store) -> None:
    before = set(store.keys(""))
    named = run("gc", "--dry-run", "--json").json
    assert named["dry_run"] is True
    done = run("gc", "--json").json
    assert done["files"] == named["files"]
    assert before - set(store.keys("")) == {file["key"] for file in done["files"]}
    assert done["kept"] == {"delay": {"2": "among the newest 1 (retention.versions)"}}
    again = run("gc")
    assert again.out.startswith("There is nothing to remove.")


def test_a_held_model_and_one_with_a_broken_spec_are_left_alone(
    run: Run, ledger: Ledger, store: Store, project: Path
) -> None:
    ledger.holds.place("delay", by="ada", reason="audit", now=OLD)
    told = run("gc", "--model", "delay")
    assert "all of delay it is held by ada: audit" in told.words
    ledger.holds.lift("delay", by="ada", reason="done", now=OLD)
    write_spec(project, "delay", ("task:", "tsk:"))
    assert "its spec has a problem: `evergreen check`" in run("gc", "--model", "delay").words
    assert len(store.keys("")) == 4


def test_values_of_metrics_go_but_those_that_rules_look_at(run: Run, ledger: Ledger, project: Path) -> None:
    rule = "monitoring: {alerts: [{name: volume.rows, below: 1}]}"
    write_spec(project, "delay", ("name: delay\n", f"name: delay\n{rule}\n"))
    point = MetricPoint("delay", 1, "volume.rows", "", OLD - timedelta(days=1), OLD, 9.0, 9, OLD)
    ledger.points.put([point, replace(point, name="labels.fraction")])
    told = run("gc", "--dry-run")
    assert "Values of metrics that would go: 1" in told.words
    assert len(ledger.points.latest("delay")) == 2
    assert run("gc", "--json").json["points"] == {"delay": 1}
    assert ledger.points.latest("delay") == [point]
    assert run("gc").out.startswith("There is nothing to remove.")


def test_an_unknown_model_is_told(run: Run, ledger: Ledger) -> None:
    told = run("gc", "--model", "dely", "--dry-run")
    assert told.status == 1
    assert "Did you mean 'delay'?" in told.err
