"""`evergreen status` of models that people had a hand in: holds, rollbacks, open approvals."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evergreen import wiring
from evergreen.cli import main
from evergreen.core.ports import Ledger
from evergreen.core.reconciling import RECONCILER, detail_of
from evergreen.core.records import FLEET, RequestState
from ledgers import release, roll_back
from records import make_candidate, make_request_args
from spec_project import make_project

SOON = datetime.now(UTC) - timedelta(hours=3, minutes=30)


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger of a project with the model `delay`, which was released twice and waits for an answer."""
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    (root / ".evergreen").mkdir()
    ledger = wiring.ledger(wiring.Settings.load())
    for version in (1, 2, 3):
        request = ledger.requests.open(**make_request_args(model="delay", dedupe_key=f"k{version}"))
        made = make_candidate(model="delay", version=version, request_id=request.id, generation_seen=version - 1)
        candidate = ledger.models.add_candidate(made)
        if version < 3:
            release(ledger, candidate, now=SOON)
    until = SOON + timedelta(days=1)
    ledger.approvals.ask(candidate, request_id=request.id, run_id="run-1", expires_at=until, now=SOON)
    ledger.requests.mark(request.id, now=SOON, state=RequestState.CLAIMED, step="approve")
    return ledger


def status(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints, within 80 columns."""
    with pytest.raises(SystemExit) as ended:
        main(["status", *arguments])
    assert not ended.value.code
    out = capsys.readouterr().out
    assert "--json" in arguments or max(map(len, out.splitlines())) <= 80
    return out


def test_an_open_approval_a_rollback_and_holds_fit_80_columns(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "fares of June are wrong, and so is everything that was trained on them since"
    roll_back(ledger, ledger.models.candidate("delay", 1), by="ada.lovelace@example.com", reason=reason, now=SOON)
    ledger.holds.place(FLEET, by="ben", reason="holiday", now=SOON)
    told = status(capsys)
    words = " ".join(told.split())
    assert "rolled back" in words
    assert f"delay is held since {SOON:%Y-%m-%d %H:%M} UTC by ada.lovelace@example.com: {reason} (to lift" in words
    one = " ".join(status(capsys, "delay").split())
    assert "champion version 1, rolled back by ada.lovelace@example.com, 3 h old, data to 2013-02-28" in one
    until = SOON + timedelta(days=1)
    since_until = f"since {SOON:%Y-%m-%d %H:%M} UTC, until {until:%Y-%m-%d %H:%M} UTC"
    assert f"waiting for approval of version 3, {since_until}" in one
    assert "hold held since" in one
    assert "released by" not in one


def test_a_hold_on_all_models_is_told_once(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.holds.place(FLEET, by="ben", reason="holiday", now=SOON)
    words = " ".join(status(capsys).split())
    assert words.count("all models are held") == 1
    assert "delay is" not in words
    row = json.loads(status(capsys, "--json"))["models"][0]
    assert (row["hold_of"], row["rolled_back"], row["version"]) == (FLEET, False, 2)


@pytest.mark.parametrize(("ago", "words"), [(30, ""), (330, "Nothing heard from the reconciler for 5 min")])
def test_a_reconciler_that_is_silent_is_told_of_where_airflow_runs(
    ledger: Ledger,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    ago: int,
    words: str,
) -> None:
    ledger.heartbeats.beat(RECONCILER, detail_of({}), datetime.now(UTC) - timedelta(seconds=ago))
    assert "reconciler" not in status(capsys), "nothing runs here, so nobody expects to hear of it"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://localhost:8080")
    told = " ".join(status(capsys).split())
    assert words in told
    assert ("reconciler" in told) is bool(words)
