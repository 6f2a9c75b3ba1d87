"""`evergreen approve` and `reject`: what is told before an answer is spent. The answers themselves: tests/e2e."""

from __future__ import annotations

from pathlib import Path

import pytest

from evergreen.adapters.airflow_api import Question
from evergreen.cli import main
from evergreen.cli.approve import _check_reason, _choose
from evergreen.core.errors import FoundProblem
from records import NOW
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
