"""`evergreen report` on a real ledger, store and prediction log."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.logged import answer, asked, loaded

from commands import Run
from evergreen import wiring
from evergreen.core import evidence
from evergreen.core.records import CandidateState, Truth
from evergreen.core.reported import ARTIFACT, FILE
from evergreen.fakes.registry import FakeRegistry
from evergreen.serving.log.prediction_log import PredictionLog
from evergreen.serving.log.shipper import Shipper
from evergreen.serving.metrics import Metrics
from evergreen.serving.state import Released, Settings
from ledgers import release
from records import make_candidate, make_snapshot, make_verdict
from spec_project import make_project


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    root, made = make_project(tmp_path), FakeRegistry()
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    monkeypatch.setattr(wiring, "hasty_registry", lambda settings: made)
    wiring.Settings.load().home.mkdir()
    return made


def released(registry: FakeRegistry) -> None:
    """Version 1 of delay, champion."""
    ledger = wiring.ledger(wiring.Settings.load())
    ledger.models.add_snapshot(make_snapshot("delay"))
    ledger.models.add_candidate(make_candidate("delay", mlflow_run=registry.start_run("delay", "request", {})))
    judged = ledger.models.judge("delay", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    release(ledger, judged)


def log_answers(folder: Path, labels: list[int]) -> list[str]:
    """Answers of version 1, now, and their labels; the ids."""
    model, pool = loaded(folder / "m", name="delay"), folder / "pool"
    object.__setattr__(model, "release", Released(1, "release-1", "bundle", 1))
    pool.mkdir()
    log = PredictionLog(pool, lambda name: Settings(), Metrics())
    ids = answer(log, model, asked(len(labels)))
    log.add_truth("delay", [Truth(one, label, 0) for one, label in zip(ids, labels, strict=True)])
    log.close()
    assert Shipper(pool, lambda: wiring.store(wiring.Settings.load()), wiring.part_writer).ship_all()
    return ids


def test_it_says_where_it_put_the_page_and_it_lies_there(run: Run, registry: FakeRegistry, tmp_path: Path) -> None:
    released(registry)
    ids = log_answers(tmp_path, [0, 1] * 20)
    told = run("report", "delay", "--output", "page.html")
    assert told.status == 0, told.err
    assert "delay, version 1: 40 answers looked at, 40 of them with a label." in told.words
    assert "trained before there were references" in told.words
    assert "Written: page.html" in told.out
    assert "/evergreen/models/delay/versions/1/report" in told.out
    assert f"In MLflow: {ARTIFACT}, with the run of version 1" in told.out
    page = Path("page.html").read_bytes()
    assert any(one.encode() in page for one in ids)
    assert wiring.store(wiring.Settings.load()).get(evidence.key("delay", 1, FILE)) == page
    assert next(iter(registry.runs.values())).files[ARTIFACT] == page


def test_without_answers_it_says_so_and_json_says_the_same(run: Run, registry: FakeRegistry) -> None:
    released(registry)
    told = run("report", "delay", "--json", "--window", "2d").json
    assert (told["version"], told["answers"], told["labelled"], told["moved"]) == (1, 0, 0, [])
    assert any("has given no answer in this window" in note for note in told["notes"])
    assert told["store"] == evidence.key("delay", 1, FILE)
    assert told["file"] == ""


def test_mlflow_that_is_away_is_a_warning(run: Run, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    released(registry)

    def away(settings: wiring.Settings) -> FakeRegistry:
        raise OSError("connection refused")

    monkeypatch.setattr(wiring, "hasty_registry", away)
    told = run("report", "delay")
    assert told.status == 0, told.err
    assert "Warning: not in MLflow, which does not answer (OSError: connection refused)." in told.words
    assert "versions/1/report" in told.out


def test_before_a_release_a_file_is_the_only_place(run: Run) -> None:
    wiring.ledger(wiring.Settings.load())
    told = run("report", "delay")
    assert told.status == 1
    assert "found no released version" in told.err
    assert "--output" in told.err
    told = run("report", "delay", "--output", "page.html")
    assert told.status == 0, told.err
    assert "No version was released yet" in told.out
    assert "No version was released yet" in Path("page.html").read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["nosuch"], "model 'nosuch'"),
        (["delay", "--output", "no/such/folder.html"], "--output"),
        (["delay", "--since", "yesterday"], "--since"),
        (["delay", "--window", "0d"], "--window"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_is_read(run: Run, words: list[str], problem: str) -> None:
    wiring.ledger(wiring.Settings.load())
    told = run("report", *words)
    assert told.status == 1
    assert problem in told.err
