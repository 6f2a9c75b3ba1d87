"""`evergreen alerts` and `evergreen metrics`: what the monitor has written into the ledger, within 80 columns."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evergreen import wiring
from evergreen.core.ports import Ledger
from evergreen.core.records import ALL, Alert, MetricPoint, RuleState, Severity
from ledgers import passed, release
from spec_project import make_project

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TODAY = NOW.replace(hour=0, minute=0, second=0)
PSI, AUC, MODEL = "drift.psi.max", "quality.realised.auc", "delay"


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """The ledger of a project whose model `delay` was released."""
    root = make_project(tmp_path)
    (root / ".evergreen").mkdir()
    monkeypatch.chdir(root)
    made = wiring.ledger(wiring.Settings.load())
    release(made, passed(made, 1, seen=0, model=MODEL), now=NOW - 9 * DAY)
    return made


def an_alert(ledger: Ledger, metric: str = PSI, **changes: Any) -> Alert:
    alert = Alert(
        id=f"id of {metric}", model=MODEL, rule=metric, metric=metric, slice=ALL, severity=Severity.WARNING, version=1,
        value=0.31, limit=0.2, direction="above", window="1d", rows=12_000, opened_at=NOW - 5 * HOUR, worst=0.4,
    )  # fmt: skip
    return ledger.alerts.open(replace(alert, **changes), RuleState(MODEL, metric))


def close(ledger: Ledger, alert: Alert, why: str = "it is back within its limit") -> None:
    ledger.alerts.close(alert.id, RuleState(MODEL, alert.rule), why=why, value=0.12, now=NOW - HOUR)


def points(ledger: Ledger, *named: tuple[str, float], days: int = 0, **changes: Any) -> None:
    start = TODAY - timedelta(days=days)
    made = [MetricPoint(MODEL, 1, name, ALL, start, start + DAY, value, 12_000, NOW) for name, value in named]
    ledger.points.put(replace(point, **changes) for point in made)


def shown(run: Any, *arguments: str) -> Any:
    """What the command prints, within 80 columns."""
    told = run(*arguments)
    assert told.status == 0, told.err
    assert max(map(len, told.out.splitlines())) <= 80, told.out
    return told


# ---------------------------------------------------------------- alerts


def test_no_alert(ledger: Ledger, run: Any) -> None:
    assert run("alerts").out == "No alert is open.\n"
    assert "No alert of delay was open since" in run("alerts", MODEL, "--since", "7d").out
    assert run("alerts", "--json").json == []


def test_an_open_alert_and_of_one_model_what_to_do_about_it(ledger: Ledger, run: Any) -> None:
    an_alert(ledger, request_id="r1")
    told = shown(run, "alerts").words
    for part in ("1 alert", f"delay {PSI} 0.4 above 0.2 5 h warning; a retrain was asked for"):
        assert part in told
    assert "See which features moved" not in told
    assert "See which features moved" in shown(run, "alerts", MODEL).words


def test_a_long_name_of_a_slice_is_folded(ledger: Ledger, run: Any) -> None:
    an_alert(ledger, slice="carrier=" + "A long name of a carrier " * 3)
    assert "(carrier=A" in shown(run, "alerts").out


def test_closed_ones_only_with_since_and_newer_than_that(ledger: Ledger, run: Any) -> None:
    close(ledger, an_alert(ledger))
    an_alert(ledger, "missing.max")
    assert [one["metric"] for one in run("alerts", "--json").json] == ["missing.max"]
    told = shown(run, "alerts", "--since", "1d").words
    assert "2 alerts" in told
    assert "0.12" in told
    assert "closed: it is back within its limit" in told
    assert [one["metric"] for one in run("alerts", "--since", "30m", "--json").json] == ["missing.max"]


def test_alerts_as_json_have_all_that_is_known(ledger: Ledger, run: Any) -> None:
    close(ledger, an_alert(ledger))
    (told,) = run("alerts", "--since", "1d", "--json").json
    assert (told["model"], told["metric"], told["severity"], told["closed_value"]) == (MODEL, PSI, "warning", 0.12)
    assert datetime.fromisoformat(told["opened_at"]) == NOW - 5 * HOUR


def test_a_model_that_nobody_knows(ledger: Ledger, run: Any) -> None:
    for command in ("alerts", "metrics"):
        told = run(command, "delya")
        assert told.status == 1
        assert "Did you mean 'delay'?" in told.err


# ---------------------------------------------------------------- metrics


def test_nothing_was_measured_yet(ledger: Ledger, run: Any) -> None:
    told = run("metrics", MODEL)
    assert told.status == 0
    assert "Nothing was measured of delay since" in told.out


def test_the_newest_value_of_each_metric_with_the_limit_of_its_rule(ledger: Ledger, run: Any) -> None:
    spec = Path("models/delay/model.yaml")
    spec.write_text(spec.read_text() + f"monitoring: {{alerts: [{{name: {AUC}, below: 0.62}}]}}\n")
    points(ledger, (AUC, 0.6123456), ("quality.realised_loss.average_precision", 0.01), ("drift.psi.hour", 0.3))
    points(ledger, (AUC, 0.7), (PSI, 0.1), days=1)
    points(ledger, (AUC, 0.5), slice="carrier=UA")
    told = shown(run, "metrics", MODEL)
    row = next(line for line in told.out.splitlines() if line.startswith(AUC)).split()
    assert row == [AUC, "0.6123", "below", "0.62", "12,000", "1", f"{TODAY:%Y-%m-%d}", "00:00"]
    assert f"{TODAY - DAY:%Y-%m-%d}" in next(line for line in told.out.splitlines() if line.startswith(PSI))
    assert "carrier=UA" not in told.out
    assert "evergreen metrics delay --metric drift.psi.hour" in told.out


def test_one_metric_period_by_period_with_its_slices(ledger: Ledger, run: Any) -> None:
    points(ledger, (AUC, 0.7), low=0.68, high=0.72)
    points(ledger, (AUC, 0.71), days=1)
    points(ledger, (AUC, 0.5), ("missing.max", 0.1), slice="carrier=UA")
    points(ledger, (AUC, 0.9), days=20)
    told = shown(run, "metrics", MODEL, "--metric", AUC)
    lines = [line.split() for line in told.out.splitlines() if line.startswith(AUC)]
    assert [line[3] for line in lines] == ["0.71", "0.7", "0.5"]
    assert "0.68 … 0.72" in told.words
    assert "(carrier=UA)" in told.out
    assert len(run("metrics", MODEL, "--metric", AUC, "--since", "30d", "--json").json) == 4


def test_a_metric_without_a_value_is_told_with_a_near_name(ledger: Ledger, run: Any) -> None:
    points(ledger, (PSI, 0.1))
    told = run("metrics", MODEL, "--metric", "drift.psi.mx")
    assert "under drift.psi.mx" in told.out
    assert f"Did you mean '{PSI}'?" in told.out


def test_metrics_as_json(ledger: Ledger, run: Any) -> None:
    points(ledger, (PSI, 0.1))
    (told,) = run("metrics", MODEL, "--json").json
    assert (told["name"], told["value"], told["rows"], told["low"]) == (PSI, 0.1, 12_000, None)
    assert datetime.fromisoformat(told["start"]) == TODAY
