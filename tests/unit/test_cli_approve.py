"""`evergreen approve` and `reject`: what is told before an answer is spent. The answers themselves: tests/e2e.

And `--override`: against an Airflow of this file, whose one task asks at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import commands
from evergreen import wiring
from evergreen.adapters.airflow_api import NotAllowed, Question
from evergreen.cli import acting, main, override
from evergreen.cli.approve import _check_reason, _choose
from evergreen.core.errors import FoundProblem
from evergreen.core.ports import Ledger
from evergreen.core.records import CandidateState, RequestState
from records import NOW, make_candidate, make_request_args, make_verdict
from spec_project import make_project


def asked(run_id: str, *, needs_reason: bool = False) -> Question:
    return Question("m", run_id, "Release?", "", needs_reason, NOW)


WAITING = {2: asked("run-2"), 3: asked("run-3", needs_reason=True)}


@pytest.mark.parametrize("command", [["approve", "delay"], ["reject", "delay", "--reason", "odd"]])
def test_where_nothing_runs_it_says_how_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.chdir(make_project(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 1
    assert "`evergreen up`" in capsys.readouterr().err


def test_a_rejection_without_reason_is_a_wrong_command_line() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reject", "delay"])
    assert ended.value.code == 2


def test_the_version_need_be_named_only_where_several_wait() -> None:
    assert _choose("m", {2: asked("run-2")}, None) == 2
    assert _choose("m", WAITING, 3) == 3
    with pytest.raises(FoundProblem, match=r"versions 2, 3 waiting.*--version N"):
        _choose("m", WAITING, None)


@pytest.mark.parametrize(("waiting", "version"), [({}, None), ({}, 4), (WAITING, 4)])
def test_what_does_not_wait_is_told_with_what_does(waiting: dict[int, Question], version: int | None) -> None:
    with pytest.raises(FoundProblem, match="`evergreen history m`") as refused:
        _choose("m", waiting, version)
    assert ("2, 3" if waiting else "none") in refused.value.allowed


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_reason_is_asked_for_before_the_answer_is_spent(reason: str) -> None:
    _check_reason("m", WAITING[2], "Approve", reason)
    for version, option in ((2, "Reject"), (3, "Approve"), (3, "Reject")):
        _check_reason("m", WAITING[version], option, "seen")
        with pytest.raises(FoundProblem, match="Add --reason"):
            _check_reason("m", WAITING[version], option, reason)


# ---------------------------------------------------------------- override


@dataclass
class Asking:
    """Airflow, as the command asks it: a run that is started asks at once, or ends as it is told."""

    ledger: Ledger
    ends: str = ""
    may: bool = True
    conf: list[Mapping[str, Any]] = field(default_factory=list)
    answers: list[tuple[str, str, str]] = field(default_factory=list)

    def trigger(self, model: str, conf: Mapping[str, Any]) -> str:
        self.conf.append(conf)
        opened = self.ledger.requests.open(**make_request_args(model=model, run_id="run-9", dedupe_key="9"))
        if self.ends:
            told = {"state": RequestState.SERVED, "step": "judge", "reason": "not judged: too few rows"}
            self.ledger.requests.mark(opened.id, now=NOW, **told)
        else:
            ask(self.ledger, model, opened.id, "run-9")
        return "run-9"

    def run(self, model: str, run_id: str) -> dict[str, Any]:
        return {"state": self.ends or "running"}

    def tasks(self, model: str, run_id: str) -> dict[str, str]:
        return {"approve": "awaiting_input"}

    def approve(self, model: str, run_id: str, option: str, *, reason: str) -> None:
        if not self.may:
            raise NotAllowed("Airflow", found="user 'bert', who may not", allowed="a role that may", do="Ask.")
        self.answers.append((run_id, option, reason))


def ask(ledger: Ledger, model: str, request_id: str, run_id: str) -> None:
    """The version that its gates refused is asked about."""
    verdict, state = make_verdict(passed=False), CandidateState.TO_OVERRIDE
    candidate = ledger.models.judge(model, 1, verdict=verdict, state=state, generation_seen=0)
    ledger.approvals.ask(
        candidate, request_id=request_id, run_id=run_id, expires_at=NOW + timedelta(days=1), now=NOW,
        overrides="auc ≥ 0.6 (0.5)",
    )  # fmt: skip


@pytest.fixture
def airflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asking:
    """In the compose shape; version 1 was refused by its gates, version 2 waits for nobody."""
    monkeypatch.chdir(make_project(tmp_path, "delay"))
    monkeypatch.delenv("EVERGREEN_HOME", raising=False)
    ledger = wiring.ledger(wiring.Settings.load())
    for version, passed in ((1, False), (2, True)):
        ledger.models.add_candidate(make_candidate(model="delay", version=version))
        state = CandidateState.PASSED if passed else CandidateState.REJECTED
        ledger.models.judge("delay", version, verdict=make_verdict(passed=passed), state=state, generation_seen=0)
    stands_in = Asking(ledger)
    monkeypatch.setattr(wiring, "airflow_api", lambda: stands_in)
    monkeypatch.setenv("EVERGREEN_AIRFLOW_USER", "bert")
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example")
    monkeypatch.setattr(override, "SEEN", 0.0)
    monkeypatch.setattr(acting, "POLL", 0.0)
    return stands_in


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> commands.Run:
    return commands.runner(capsys)


WANTED = ("approve", "delay", "--override", "--version", "1", "--reason", "JFK is shut")


def test_an_override_starts_a_run_and_answers_what_it_asks(airflow: Asking, run: commands.Run) -> None:
    told = run(*WANTED)
    assert told.status == 0, told.err
    assert airflow.conf == [{"override": 1, "reason": "JFK is shut", "requested_by": "bert"}]
    assert airflow.answers == [("run-9", "Approve", "JFK is shut")]
    assert "version 1 of delay, whatever its gates say, as bert" in told.words
    assert "https://airflow.example/dags/delay/runs/run-9" in told.err


def test_an_override_that_waits_already_is_answered_and_no_run_is_started(airflow: Asking, run: commands.Run) -> None:
    request = airflow.ledger.requests.open(**make_request_args(model="delay", run_id="run-8"))
    ask(airflow.ledger, "delay", request.id, "run-8")
    assert run(*WANTED, "--json").json["run_id"] == "run-8"
    assert (airflow.conf, airflow.answers) == ([], [("run-8", "Approve", "JFK is shut")])


def test_whoever_may_not_approve_is_told_where_another_person_can(airflow: Asking, run: commands.Run) -> None:
    airflow.may = False
    told = run(*WANTED)
    assert told.status == 1
    for words in ("user 'bert', who may not", "another person answers it", "runs/run-9/tasks/approve/required_actions"):
        assert words in " ".join(told.err.split())


def test_a_run_that_asks_nobody_says_why(airflow: Asking, run: commands.Run) -> None:
    airflow.ends = "success"
    told = run(*WANTED)
    assert (told.status, airflow.answers) == (1, [])
    assert "Nobody was asked: not judged: too few rows" in " ".join(told.err.split())


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--version", "2", "--reason", "so"), "a version that is passed"),
        (("--version", "3", "--reason", "so"), "no such version"),
        (("--version", "1"), "no reason"),
        (("--version", "1", "--reason", "  "), "no reason"),
        (("--reason", "so"), "no version"),
    ],
)
def test_an_override_of_what_was_not_refused_or_without_a_reason_starts_nothing(
    airflow: Asking, run: commands.Run, words: tuple[str, ...], found: str
) -> None:
    told = run("approve", "delay", "--override", *words)
    assert (told.status, airflow.conf) == (1, [])
    assert f"found {found}" in " ".join(told.err.split())
