"""`evergreen backfill`, against an Airflow that a test plays; and how times are read on a command line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from commands import Run
from evergreen import wiring
from evergreen.core import moments
from evergreen.core.backfill import window_ends
from evergreen.core.errors import FoundProblem
from evergreen.core.records import RequestState
from evergreen.core.run_params import RunParams
from records import NOW, make_request_args
from spec_project import make_project

SUMMER = ("--from", "2013-06-01", "--to", "2013-09-01", "--every", "30d")
ENDS = ["2013-06-01", "2013-07-01", "2013-07-31", "2013-08-30"]


class Airflow:
    """Runs that end at once, as `ends` says; what was asked of it, in order."""

    def __init__(self) -> None:
        self.confs: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.ends: dict[str, str] = {}

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> str:
        self.confs.append(dict(conf or {}))
        run_id = f"manual__{len(self.confs)}"
        self.asked.append(f"start {run_id}")
        return run_id

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        self.asked.append(f"state {run_id}")
        return {"state": self.ends.get(run_id, "success")}


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    """Airflow in the compose shape, signed in as ada."""
    root = make_project(tmp_path)
    played = Airflow()
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    monkeypatch.setenv("EVERGREEN_AIRFLOW_USER", "ada")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow")
    monkeypatch.setattr(wiring, "airflow_api", lambda: played)
    return played


def ended(run_id: str, reason: str) -> None:
    settings = wiring.Settings.load()
    settings.home.mkdir(exist_ok=True)
    requests = wiring.ledger(settings).requests
    request = requests.open(**make_request_args(model="delay", run_id=run_id, dedupe_key=run_id))
    requests.mark(request.id, now=NOW, state=RequestState.SERVED, step="judge", reason=reason)


def test_one_dry_run_a_past_window_is_started_the_oldest_first(run: Run, airflow: Airflow) -> None:
    told = run("backfill", "delay", *SUMMER, "--reason", "before the summer timetable")
    assert told.status == 0, told.err
    assert [conf["window_end"] for conf in airflow.confs] == [f"{day}T00:00:00+00:00" for day in ENDS]
    for conf in airflow.confs:
        params = RunParams.of(conf)
        assert params.dry_run is True
        assert (params.requested_by, params.reason) == ("ada", "before the summer timetable")
    assert airflow.asked == [f"start manual__{number}" for number in (1, 2, 3, 4)]
    assert max(map(len, told.out.splitlines())) <= 80
    assert told.out.startswith("4 runs of delay, dry: nothing is released.")
    assert "2013-07-31 00:00 queued manual__3" in told.words
    assert "http://airflow/dags/delay" in told.words


def test_only_promote_lets_a_run_be_released(run: Run, airflow: Airflow) -> None:
    assert "as any other run" in run("backfill", "delay", *SUMMER, "--promote").out
    assert not any(RunParams.of(conf).dry_run for conf in airflow.confs)
    assert len(airflow.confs) == 4


def test_wait_starts_each_when_the_one_before_has_ended_and_tells_what_came_of_it(run: Run, airflow: Airflow) -> None:
    ended("manual__1", "dry run: version 7 would have gone on to approval")
    told = run("backfill", "delay", "--from", "2013-06-01", "--to", "2013-07-01", "--every", "30d", "--wait")
    assert told.status == 0, told.err
    assert airflow.asked == ["start manual__1", "state manual__1", "start manual__2", "state manual__2"]
    assert "2013-06-01 00:00 success dry run: version 7 would have gone on to approval" in told.words
    assert told.err.startswith("1 of 2: window until 2013-06-01 00:00 UTC")


def test_a_run_that_fails_does_not_stop_the_next_and_is_told_by_the_exit_status(run: Run, airflow: Airflow) -> None:
    airflow.ends["manual__1"] = "failed"
    ended("manual__1", "")
    told = run("backfill", "delay", *SUMMER, "--wait", "--json")
    assert told.status == 1
    assert [row["state"] for row in told.json] == ["failed", "success", "success", "success"]
    assert [row["window_end"][:10] for row in told.json] == ENDS
    assert told.json[0]["url"] == "http://airflow/dags/delay/runs/manual__1"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--from", "2013-06-01", "--to", "2013-05-01", "--every", "30d"), "Swap the two"),
        (("--from", "2013-06-01", "--to", "2999-05-01", "--every", "30d"), "Labels of the future"),
        (("--from", "2013-06-01", "--to", "2013-07-01", "--every", "1m"), "43,201 windows; allowed: up to 200"),
        (("--from", "2013-06-01", "--to", "2013-07-01", "--every", "0d"), "--every: found '0d'"),
        (("--from", "1 June", "--to", "2013-07-01", "--every", "1d"), "--from: found '1 June'"),
        (("--from", "2013-06-01", "--to", "2013-07-01T12:00", "--every", "1d"), "--to: found '2013-07-01T12:00'"),
    ],
)
def test_what_is_no_past_window_is_refused_before_a_run_is_started(
    run: Run, airflow: Airflow, words: tuple[str, ...], found: str
) -> None:
    told = run("backfill", "delay", *words)
    assert (told.status, told.out) == (1, "")
    assert found in told.err
    assert airflow.confs == []


def test_an_unknown_model_is_told(run: Run, airflow: Airflow) -> None:
    assert "Did you mean 'delay'?" in run("backfill", "dely", *SUMMER).err


# ---------------------------------------------------------------- times


def test_a_window_s_end_may_be_the_last_one_exactly() -> None:
    first, day = datetime(2013, 6, 1, tzinfo=UTC), timedelta(days=1)
    assert window_ends(first, first, day, NOW) == [first]
    assert window_ends(first, first + 2 * day, day, NOW)[-1] == first + 2 * day
    assert window_ends(first, first + 1.5 * day, day, NOW)[-1] == first + day


def test_times_are_read_in_utc() -> None:
    assert moments.moment("--from", "2013-06-01T12:00:00+02:00") == datetime(2013, 6, 1, 10, tzinfo=UTC)
    assert moments.moment("--from", "2013-06-01") == datetime(2013, 6, 1, tzinfo=UTC)
    assert moments.since("--since", "30d", NOW) == NOW - timedelta(days=30)
    assert moments.since("--since", "2013-06-01", NOW) == datetime(2013, 6, 1, tzinfo=UTC)
    with pytest.raises(FoundProblem, match="how long ago"):
        moments.since("--since", "last week", NOW)
