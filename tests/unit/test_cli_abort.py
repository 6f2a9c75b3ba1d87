"""`evergreen abort` on a real ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from commands import Run
from evergreen import wiring
from evergreen.core.ports import Ledger
from evergreen.core.records import CandidateState
from ledgers import passed, prepare, release
from spec_project import make_project, write_spec


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    return root


@pytest.fixture
def ledger(project: Path) -> Ledger:
    """A model with a champion, and a version whose release is prepared."""
    settings = wiring.Settings.load()
    settings.home.mkdir()
    made = wiring.ledger(settings)
    release(made, passed(made, 1, seen=0, model="delay"))
    prepare(made, passed(made, 2, seen=1, model="delay"))
    return made


def test_abort_ends_what_is_on_its_way(run: Run, ledger: Ledger, project: Path) -> None:
    write_spec(project, "delay", ("task:", "tsk:"))  # a broken spec is no obstacle
    told = run("abort", "delay", "--reason", "wrong fares")
    assert (told.status, told.err) == (0, "")
    assert told.words == "delay: the release of version 2 is aborted and the version declined; the champion stays"
    assert ledger.releases.prepared() == []
    assert ledger.models.candidate("delay", 2).state is CandidateState.DECLINED
    assert ledger.releases.live("default")[0].version == 1


def test_abort_as_json(run: Run, ledger: Ledger) -> None:
    told = run("abort", "delay", "--reason", "wrong fares", "--json")
    assert told.status == 0, told.err
    assert told.json.items() >= {"model": "delay", "aborted": [2], "reason": "wrong fares"}.items()


def test_where_nothing_is_on_its_way_it_says_what_is_live_and_how_to_go_back(run: Run, ledger: Ledger) -> None:
    run("abort", "delay", "--reason", "wrong fares")
    told = run("abort", "delay", "--reason", "another")
    assert (told.status, told.out) == (1, "")
    assert "found version 1, which is live" in told.err
    assert "`evergreen rollback delay --reason …`" in told.err


def test_it_wants_a_reason_and_a_model_that_is_there(run: Run, ledger: Ledger) -> None:
    told = run("abort", "delay", "--reason", "  ")
    assert (told.status, len(ledger.releases.prepared())) == (1, 1)
    assert "found an empty text" in told.err
    assert run("abort", "dellay", "--reason", "wrong fares").status == 1


def test_before_anything_was_released_it_says_so(run: Run, project: Path) -> None:
    told = run("abort", "delay", "--reason", "wrong fares")
    assert told.status == 1
    assert "There is no ledger here yet" in told.err
