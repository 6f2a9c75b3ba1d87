"""`evergreen promote`, and what `status`, `history` and `abort` say of a version on trial, on a real ledger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commands import Run
from evergreen import wiring
from evergreen.core.ports import Ledger
from evergreen.core.records import (
    ArmCount,
    CandidateState,
    Release,
    RequestState,
    RolloutPlan,
    RolloutState,
    Trip,
    TripKind,
)
from ledgers import passed, prepare, release
from records import make_candidate, make_request_args, make_verdict
from spec_project import make_project

NOW = datetime.now(UTC)
MINUTE = timedelta(minutes=1)
PLAN = RolloutPlan(5 * MINUTE, (5, 25, 50), 5 * MINUTE, 10 * MINUTE, 2_000, error_rate=0.01)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    return root


@pytest.fixture
def ledger(project: Path) -> Ledger:
    """A model with a champion."""
    settings = wiring.Settings.load()
    settings.home.mkdir()
    made = wiring.ledger(settings)
    request = made.requests.open(**make_request_args(model="delay"))
    made.models.add_candidate(make_candidate(model="delay", request_id=request.id))
    told = {"verdict": make_verdict(), "state": CandidateState.PASSED}
    release(made, made.models.judge("delay", 1, generation_seen=0, **told))
    made.requests.mark(request.id, now=NOW, state=RequestState.SERVED)
    return made


@pytest.fixture
def tried(ledger: Ledger) -> Release:
    """Version 2 beside it, which answers 25 % of callers since 7 minutes; 1,204 have asked it there."""
    made = prepare(ledger, passed(ledger, 2, seen=1, model="delay"), plan=PLAN)
    for ago, stage, weight in (
        (20, RolloutState.SHADOW, 0), (14, RolloutState.CANARY, 5), (7, RolloutState.CANARY, 25)
    ):  # fmt: skip
        made = ledger.releases.enter(made, stage, weight, reason="told", now=datetime.now(UTC) - ago * MINUTE)
    latency = (0, 0, 1_199, 0, 5, *[0] * 15)
    counts = [("challenger", 1_204, 5), ("champion", 3_612, 0)]
    ledger.trials.count(
        ArmCount(made.id, made.stage, arm, "blue", "boot-1", requests, faults, latency, (1_204, *[0] * 9))
        for arm, requests, faults in counts
    )
    return made


def test_promote_makes_what_is_on_trial_champion(run: Run, ledger: Ledger, tried: Release) -> None:
    told = run("promote", "delay", "--reason", "few callers here")
    assert (told.status, told.err) == (0, "")
    assert told.words == "delay: version 2 is champion, generation 2; its trial is over"
    assert ledger.releases.live("default")[0].id == tried.id
    history = run("history", "delay")
    assert "promoted" in history.out
    assert max(map(len, history.out.splitlines())) <= 80
    again = run("promote", "delay", "--reason", "few callers here", "--json")
    assert again.json.items() >= {"model": "delay", "promoted": 2, "reason": "few callers here"}.items()


def test_a_trip_cannot_be_promoted_over(run: Run, ledger: Ledger, tried: Release) -> None:
    ledger.trials.trip(Trip(tried.id, "blue", TripKind.FAULTS, "5 of 5 requests failed", NOW))
    told = run("promote", "delay", "--reason", "few callers here")
    assert (told.status, told.out) == (1, "")
    assert "by its guard: 5 of 5 requests failed" in told.err
    assert ledger.releases.on_trial() == [tried]
    assert "its guard took it off: 5 of 5 requests failed" in run("status", "delay").words


def test_where_nothing_is_on_trial_it_says_what_is(run: Run, ledger: Ledger) -> None:
    told = run("promote", "delay", "--reason", "few callers here")
    assert (told.status, told.out) == (1, "")
    assert "found version 1, which is live" in told.err
    assert run("promote", "delay", "--reason", " ").status == 1
    assert run("promote", "dellay", "--reason", "few callers here").status == 1


def test_abort_ends_a_trial(run: Run, ledger: Ledger, tried: Release) -> None:
    told = run("abort", "delay", "--reason", "wrong fares")
    assert told.words == "delay: the release of version 2 is aborted and the version declined; the champion stays"
    assert ledger.releases.on_trial() == []
    assert ledger.models.candidate("delay", 2).state is CandidateState.DECLINED


def test_status_shows_a_trial_in_80_columns(run: Run, tried: Release) -> None:
    told = run("status")
    assert "delay: version 2 is on trial in canary-25 since" in told.words
    shown = "it answers 25 % of callers; 0.42% failed, p99"
    assert shown in told.words
    assert "canary-25: 1,204 of 2,000 requests in 7 min; waits, or a person promotes or aborts" in told.words
    assert max(map(len, told.out.splitlines())) <= 80
    one = run("status", "delay")
    assert max(map(len, one.out.splitlines())) <= 80
    table = [line.split() for line in one.out.splitlines() if "canary-" in line or line.startswith("  shadow")]
    rows = {row[1] if row[0] == "▸" else row[0]: row for row in table}
    told_now = ["7", "min", "ago", "1,204", "0.42%", "1.99", "ms", "3,612", "0.00%", "1.99", "ms"]
    assert rows["canary-25"] == ["▸", "canary-25", *told_now]
    assert rows["canary-50"] == ["canary-50"]


def test_status_as_json_has_every_stage(run: Run, tried: Release) -> None:
    [model] = run("status", "--json").json["models"]
    trial = model["trial"]
    facts = {"version": 2, "champion": 1, "stage": "canary-25", "weight": 25, "requests": 1204, "min_requests": 2000}
    assert trial.items() >= facts.items()
    assert [stage["name"] for stage in trial["stages"]] == ["shadow", "canary-5", "canary-25", "canary-50", "bake"]
    now, later = trial["stages"][2], trial["stages"][3]
    assert (now["requests"], now["champion_requests"], now["champion_error_rate"]) == (1204, 3612, 0.0)
    assert now["since"] == tried.stage_since.isoformat()
    assert (later["since"], later["requests"], later["p99_ms"]) == (None, 0, None)
