"""`evergreen open` starts the browser that the environment names."""

from __future__ import annotations

import json
import subprocess
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from evergreen import wiring
from evergreen.cli import main
from evergreen.supervisor import stack as stacks
from evergreen.supervisor.sessions import Session
from spec_project import make_project

AIRFLOW, MLFLOW = "http://127.0.0.1:1", "http://127.0.0.1:2"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def stack(project: Path) -> Iterator[None]:
    """The record of a stack whose keeper lives."""
    keeper = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, start_new_session=True
    )
    home = wiring.Settings.load().home
    home.mkdir()
    made = stacks.Stack(AIRFLOW, MLFLOW, "http://127.0.0.1:3", "admin", "secret", keeper.pid)
    stacks.write(home, stacks.Record(made, psutil.boot_time()).with_session(stacks.KEEPER, Session.of(keeper.pid)))
    yield
    keeper.communicate()


@pytest.fixture
def opened(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command: status, stdout, stderr, and what the browser was asked for."""
    asked, script = project / "asked", project / "browser"
    script.write_text(f'#!/bin/sh\nprintf "%s" "$1" > "{asked}"\n')
    script.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{script} %s")
    monkeypatch.setattr(webbrowser, "_tryorder", None)  # read BROWSER anew, whatever another test opened

    def run_open(*arguments: str) -> tuple[int, str, str, str]:
        status = 0
        try:
            main(["open", *arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        told = capsys.readouterr()
        return status, told.out, told.err, asked.read_text() if asked.exists() else ""

    return run_open


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        ([], AIRFLOW),
        (["mlflow"], MLFLOW),
        (["approvals"], f"{AIRFLOW}/required_actions?response_received=false"),
        (["model", "delay"], f"{AIRFLOW}/evergreen/models/delay"),
    ],
)
@pytest.mark.usefixtures("stack")
def test_the_page_is_opened_and_its_address_printed(opened: Any, arguments: list[str], url: str) -> None:
    assert opened(*arguments) == (0, f"{url}\n", "", url)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["aproval"], "page: found 'aproval'; allowed: airflow, mlflow, approvals, model. Did you mean 'approvals'?"),
        (["model"], "model: found no name; allowed: delay."),
        (["model", "dealy"], "Did you mean 'delay'?"),
        (["airflow"], "Evergreen is not running here."),
    ],
)
def test_what_cannot_be_opened_is_told(opened: Any, arguments: list[str], told: str) -> None:
    status, out, err, asked = opened(*arguments)
    assert (status, out, asked) == (1, "", "")
    assert told in err


@pytest.mark.usefixtures("stack")
def test_json_opens_nothing(opened: Any) -> None:
    status, out, _, asked = opened("mlflow", "--json")
    assert (status, json.loads(out), asked) == (0, {"page": "mlflow", "url": MLFLOW}, "")
