"""`evergreen trace` on a real ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import Run
from evergreen import wiring
from evergreen.core.ports import Ledger
from evergreen.core.records import CandidateState, RequestState
from ledgers import release
from records import NOW, make_candidate, make_request_args, make_snapshot, make_verdict
from spec_project import make_project

SNAPSHOT = "5a" * 32


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    monkeypatch.delenv("AIRFLOW__API__BASE_URL", raising=False)
    return root


@pytest.fixture
def ledger(project: Path) -> Ledger:
    """One version, released by nobody but its gates."""
    settings = wiring.Settings.load()
    settings.home.mkdir()
    ledger = wiring.ledger(settings)
    request = ledger.requests.open(**make_request_args(model="delay", run_id="manual__1+0"))
    ledger.models.add_snapshot(make_snapshot("delay", SNAPSHOT, suite=f"delay@{'ab' * 32}"))
    made_with = dict.fromkeys(("code_revision", "lock_hash", "folder_hash", "spec_sha256", "image"), "1f" * 32)
    ledger.models.add_candidate(
        make_candidate("delay", request_id=request.id, snapshot_id=SNAPSHOT, made_with=made_with)
    )
    candidate = ledger.models.judge("delay", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    release(ledger, candidate, reason="gates passed, approval.mode is auto")
    ledger.requests.mark(request.id, now=NOW, state=RequestState.SERVED, reason="released version 1")
    return ledger


def test_the_chain_of_the_champion_stands_in_80_columns(run: Run, ledger: Ledger) -> None:
    told = run("trace", "delay")
    assert told.status == 0, told.err
    assert max(map(len, told.out.splitlines())) <= 80
    one_line = " ".join(told.out.replace("│", " ").split())
    for part in (
        "version 1 of delay: released",
        "generation 1, by auto: gates passed, approval.mode is auto",
        "approval: auto: gates passed",
        "verdict: passed, 1 of 1 gates kept on 2,000 fresh rows",
        "✓ auc ≥ 0.6: 0.7",
        "run manual__1+0, which made it; served: released version 1",
        f"snapshot {SNAPSHOT} (content hash)",
        "suite delay",
        "code revision 1f1f",
        "image 1f1f",
        "libraries (requirements.txt)",
    ):
        assert part in one_line, part
    assert "not recorded" not in told.out
    assert run("trace", "delay", "1").out == told.out


def test_a_release_and_a_snapshot_are_found_by_the_beginning_of_their_id(run: Run, ledger: Ledger) -> None:
    (live,) = ledger.releases.history("delay")
    assert run("trace", live.id[:6]).out.startswith(f"release {live.id}")
    told = run("trace", SNAPSHOT[:6], "--json").json
    assert (told["kind"], told["id"], told["versions"]) == ("snapshot", SNAPSHOT, [1])


def test_a_run_is_linked_where_it_is_known_where_airflow_is(
    run: Run, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "http" not in run("trace", "delay").out
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://flights.example.com/airflow/")
    page = "https://flights.example.com/airflow/dags/delay/runs/manual__1%2B0"
    assert run("trace", "delay").out.splitlines()[-1] == f"Run that made it: {page}"
    (found,) = [one for one in run("trace", "delay", "--json").json["below"] if one["kind"] == "run"]
    assert (found["id"], found["url"], found["cause"]) == ("manual__1+0", page, "new_data")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("dely",), "Did you mean 'delay'?"),
        (("delay", "7"), "delay version 7: found no such version; allowed: versions 1."),
        (("123456",), "found no such model, release or snapshot"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(run: Run, ledger: Ledger, words: tuple[str, ...], found: str) -> None:
    told = run("trace", *words)
    assert (told.status, told.out) == (1, "")
    assert found in told.err


def test_without_a_ledger_there_is_nothing_to_trace(run: Run) -> None:
    told = run("trace", "delay")
    assert told.status == 1
    assert "There is no ledger here yet" in told.err
