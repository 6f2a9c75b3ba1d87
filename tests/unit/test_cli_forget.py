"""`evergreen forget`, and `evergreen trace` of an inference id, on a real ledger and store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.logged import answer, asked, loaded

from commands import Run
from evergreen import wiring
from evergreen.core.forgotten import hash_of
from evergreen.core.ports import Ledger
from evergreen.core.records import CandidateState, Release, ServingSettings, Truth
from evergreen.serving.log.prediction_log import PredictionLog
from evergreen.serving.log.shipper import Shipper
from evergreen.serving.metrics import Metrics
from evergreen.serving.models.encoder import Unseen
from evergreen.serving.state import Released, Settings
from ledgers import release
from records import make_candidate, make_snapshot, make_verdict
from spec_project import make_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    monkeypatch.setenv("EVERGREEN_PROJECT", str(root))
    return root


@pytest.fixture
def ledger(project: Path) -> Ledger:
    settings = wiring.Settings.load()
    settings.home.mkdir()
    return wiring.ledger(settings)


@pytest.fixture
def released(ledger: Ledger) -> Release:
    ledger.models.add_snapshot(make_snapshot("delay"))
    ledger.models.add_candidate(make_candidate("delay"))
    judged = ledger.models.judge("delay", 1, verdict=make_verdict(), state=CandidateState.PASSED, generation_seen=0)
    return release(ledger, judged, reason="gates passed")


@pytest.fixture
def ids(ledger: Ledger, released: Release, project: Path, tmp_path: Path) -> list[str]:
    """Of a row of ann's and one of nobody's, in the store, with ground truth of both."""
    return log_answers(project, tmp_path, Released(1, released.id, released.bundle, 1))


def log_answers(project: Path, folder: Path, by: Released) -> list[str]:
    model = loaded(folder / "m", name="delay")
    object.__setattr__(model, "release", by)
    pool = folder / "pool"
    pool.mkdir()
    log = PredictionLog(pool, lambda name: Settings(), Metrics())
    request = asked(key="ann", first=1234.5)
    request.unseen = [Unseen(0, "carrier", "ZZ")]
    request.matrix[0, 2] = float("nan")
    ids = answer(log, model, request, asked())
    log.add_truth("delay", [Truth(one, 1, 0) for one in ids])
    log.close()
    settings = wiring.Settings.load()
    assert Shipper(pool, lambda: wiring.store(settings), wiring.part_writer).ship_all()
    return ids


def test_forget_says_what_it_did(run: Run, ids: list[str], ledger: Ledger) -> None:
    told = run("forget", "ann", "--reason", "ticket 17")
    assert told.status == 0, told.err
    assert "delay: 1 answer and 1 of ground truth removed, of 2 parts." in told.out
    assert hash_of("ann") in told.words
    assert "left out as it does" in told.words
    assert ledger.events.history("delay")[-1].what == "forgotten"
    assert "forgotten" in run("history", "delay").out
    again = run("forget", "ann", "--reason", "ticket 17", "--json").json
    assert again == {"key_sha256": hash_of("ann"), "removed": {}}
    assert "The store has no row of this key." in run("forget", "ann", "--reason", "once more").out
    assert run("trace", ids[0]).status == 1
    assert run("trace", ids[1]).status == 0


def test_forget_wants_a_key_a_reason_and_a_model_that_is_one(run: Run, ids: list[str]) -> None:
    for arguments, text in (
        (("forget", " ", "--reason", "x"), "found no key"),
        (("forget", "ann", "--reason", " "), "found no reason"),
        (("forget", "ann", "--reason", "x", "--model", "delays"), "Did you mean 'delay'?"),
    ):
        told = run(*arguments)
        assert (told.status, text in told.err) == (1, True), told.err
    assert run("forget", "ann", "--reason", "x", "--model", "delay").status == 0


def test_an_answer_is_traced_to_its_release_and_on(run: Run, ids: list[str], released: Release) -> None:
    told = run("trace", ids[0])
    assert told.status == 0, told.err
    assert max(map(len, told.out.splitlines())) <= 80
    one_line = " ".join(told.out.replace("│", " ").split())
    for part in (
        f"answer {ids[0]} of delay version 1 (champion)",
        "features: distance 1234.5, hour missing, carrier missing",
        'answered as missing: {"carrier": "ZZ"}',
        "request key ann",
        "verdict: passed, 1 of 1 gates",
        "snapshot",
    ):
        assert part in one_line, part
    tree = run("trace", ids[0], "--json").json
    assert (tree["kind"], tree["id"], tree["release"]) == ("inference", ids[0], released.id)
    assert tree["features"] == {"distance": 1234.5, "hour": None, "carrier": None}
    assert isinstance(tree["prediction"], float)
    below = {node["kind"]: node for node in tree["below"]}
    assert below["release"]["id"] == released.id
    assert tree["below"][-1]["kind"] == "release"


def test_an_answer_of_a_release_that_the_ledger_lost_is_traced_as_far_as_it_goes(
    run: Run, ledger: Ledger, project: Path, tmp_path: Path
) -> None:
    ids = log_answers(project, tmp_path, Released(7, "gone", "b", 1))
    told = run("trace", ids[1])
    assert told.status == 0, told.err
    assert "release not recorded: the ledger has neither release gone nor version 7 of delay" in " ".join(
        told.out.replace("│", " ").split()
    )


def id_of(at: datetime) -> str:
    told = round(at.timestamp() * 1000)
    return f"{told >> 16:08x}-{told & 0xFFFF:04x}-7000-8000-000000000001"


def test_an_answer_that_is_not_there_says_why(run: Run, ids: list[str], ledger: Ledger) -> None:
    now = datetime.now(UTC)
    today = now - timedelta(minutes=5)
    for asked_for, text in (
        ("01a21db8-e81b-4392-8729-6a58a7ffd0c1", "a UUID of version 7"),
        ("01a21db8-e81b-7392-8729-6a58a7ff", "a UUID of version 7"),
        (id_of(now), "ask again in a minute"),
        (id_of(now + timedelta(days=1)), "not made by this server"),
        (id_of(now - timedelta(days=40)), "no row at all of"),
    ):
        told = run("trace", asked_for)
        assert (told.status, text in told.err) == (1, True), told.err
    if today.date() == now.date():  # the row that is there is of the same day
        assert "Every model logs all requests" in run("trace", id_of(today)).err
        ledger.settings.put(ServingSettings("delay", "default", log_sample=0.1))
        assert "delay logs 0.1 of its requests" in run("trace", id_of(today)).err


def test_models_and_releases_are_not_taken_for_inference_ids(run: Run, ids: list[str], released: Release) -> None:
    assert run("trace", released.id).status == 0
    told = run("trace", "flight-delay-of-all-airlines")
    assert "no such model" in told.err
