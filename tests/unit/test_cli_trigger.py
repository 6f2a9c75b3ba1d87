"""`evergreen trigger`: what a monitor outside writes into the ledger, without Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evergreen import wiring
from evergreen.core.records import Cause, RequestState, TriggerRequest
from records import NOW
from spec_project import make_project

DRIFT = ("--metric", "drift.psi.max", "--value", "0.31", "--above", "0.2")
AUC = ("--metric", "auc", "--value", "0.58", "--below", "0.62")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path)
    (root / ".evergreen").mkdir()
    monkeypatch.chdir(root)
    wiring.ledger(wiring.Settings.load())
    return root


def requests() -> list[TriggerRequest]:
    return wiring.ledger(wiring.Settings.load()).requests.latest("delay", limit=9)


def test_a_metric_asks_for_a_retrain_and_says_what_comes_next(run: Any) -> None:
    told = run("trigger", "delay", *DRIFT, "--window", "7d", "--rows", "12000")
    [request] = requests()
    assert told.status == 0
    assert f"request {request.id}: metric drift.psi.max is 0.31, above 0.2, over 7d and 12,000 rows." in told.out
    assert "evergreen status delay" in told.out
    assert (request.cause, request.queued, request.watermark) == (Cause.METRIC, True, None)
    facts = {"metric": "drift.psi.max", "value": 0.31, "threshold": 0.2, "direction": "above"}
    assert request.detail == {**facts, "window": "7d", "rows": 12000}


def test_as_json(run: Any) -> None:
    told = run("trigger", "delay", *AUC, "--json").json
    [request] = requests()
    assert (told["model"], told["request"], told["new"], told["state"]) == ("delay", request.id, True, "open")
    assert (told["metric"], told["threshold"], told["direction"]) == ("auc", 0.62, "below")
    assert "window" not in told


def test_the_same_key_twice_is_one_request(run: Any) -> None:
    first = run("trigger", "delay", *DRIFT, "--key", "june", "--json").json
    wiring.ledger(wiring.Settings.load()).requests.mark(
        first["request"], now=NOW, state=RequestState.SKIPPED, reason="another run has it"
    )
    told = run("trigger", "delay", *DRIFT, "--key", "june")
    assert "has this key already" in told.out
    assert "skipped: another run has it" in told.out
    again = run("trigger", "delay", *DRIFT, "--key", "june", "--json").json
    assert (again["request"], again["new"], again["state"]) == (first["request"], False, "skipped")
    assert len(requests()) == 1
    run("trigger", "delay", *DRIFT, "--key", "july")
    run("trigger", "delay", *DRIFT)
    run("trigger", "delay", *DRIFT)
    assert len(requests()) == 4, "without a key each one counts"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--metric", "auc", "--value", "0.7"), "write one of the two"),
        ((*DRIFT, "--below", "0.2"), "write one of the two"),
        (("--metric", "auc", "--value", "0.7", "--below", "0.62"), "0.7 is not below 0.62"),
        (("--metric", "auc", "--value", "0.62", "--above", "0.62"), "0.62 is not above 0.62"),
        (("--metric", "auc", "--value", "nan", "--below", "0.62"), "a number is needed"),
        (("--metric", "auc", "--value", "0.7", "--above", "inf"), "a number is needed"),
        (("--metric", " ", "--value", "0.7", "--above", "0.6"), "a text of 1 to 200 characters"),
        ((*DRIFT, "--key", "k" * 201), "a text of 1 to 200 characters"),
        ((*DRIFT, "--rows", "-1"), "greater than or equal to 0"),
    ],
)
def test_what_makes_no_sense_is_refused(run: Any, arguments: tuple[str, ...], told: str) -> None:
    refused = run("trigger", "delay", *arguments)
    assert refused.status == 2
    assert told in " ".join(refused.err.replace("│", " ").split())
    assert requests() == []


def test_a_model_that_is_not_there_and_a_ledger_that_is_not(run: Any, project: Path) -> None:
    assert "Did you mean 'delay'?" in run("trigger", "dealy", *DRIFT).err
    for file in (project / ".evergreen").iterdir():
        file.unlink()
    assert "There is no ledger here yet" in run("trigger", "delay", *DRIFT).err
