"""The command line: help that teaches, errors that are one readable message, and what scripts read."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from evergreen import wiring
from evergreen.cli import app
from evergreen.core.records import RequestState
from evergreen.supervisor import stack as stacks
from evergreen.supervisor.sessions import Session
from records import NOW, make_request_args
from spec_project import make_project, write_spec

COMMANDS = [command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_project(tmp_path)
    monkeypatch.chdir(root)
    return root


# ---------------------------------------------------------------- help and errors


def test_every_command_has_its_help_within_80_columns(run: Any) -> None:
    assert {"check", "status", "rollback", "release-hold"} <= set(COMMANDS)
    for arguments in ((), *((command,) for command in COMMANDS)):
        told = run(*arguments, "--help")
        assert told.status == 0
        assert max(map(len, told.out.splitlines())) <= 80
        assert "..." not in told.out.replace("[OPTIONS] COMMAND [ARGS]...", "")


def test_an_unknown_model_is_told_with_a_near_name(run: Any) -> None:
    told = run("retrain", "dealy")
    assert (told.status, told.out) == (1, "")
    assert told.err == ("evergreen: model 'dealy': found no valid spec; allowed: delay. Did you mean 'delay'?\n")
    assert run("status", "dealy").err == told.err


def test_a_model_whose_spec_is_broken_is_sent_to_check(run: Any, project: Path) -> None:
    write_spec(project, "delay", ("task:", "tsk:"))
    assert "Its spec has problems: `evergreen check` names them." in run("retrain", "delay").err


def test_without_a_running_stack_retrain_says_how_to_start_it(run: Any) -> None:
    told = run("retrain", "delay")
    assert (told.status, told.out) == (1, "")
    assert told.err == "evergreen: Evergreen is not running here. Start it with `evergreen up`.\n"


def test_a_wrong_command_line_is_status_2(run: Any) -> None:
    assert run("retrain").status == 2
    assert run("retrian").status == 2


def test_the_installed_command_tells_an_error_without_a_traceback() -> None:
    done = subprocess.run([sys.executable, "-m", "evergreen.cli", "retrain", "x"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("evergreen: model 'x'")
    assert len(done.stderr.splitlines()) == 1


def test_down_where_nothing_runs(run: Any) -> None:
    assert (run("down").out, run("down", "--json").json) == ("Nothing was running.\n", {"ended": 0})


def test_schema_is_that_of_this_projects_defaults(run: Any) -> None:
    assert "owner" not in run("schema").json["required"]
    assert run("schema", "--markdown").out.startswith("# The model spec\n")


def test_schema_writes_what_it_prints(run: Any, project: Path) -> None:
    (project / "docs").mkdir()
    assert run("schema", "--write").out == ""
    assert (project / "docs/model-spec.schema.json").read_text() == run("schema").out
    assert (project / "docs/model-spec.md").read_text() == run("schema", "--markdown").out


# ---------------------------------------------------------------- status


def test_status_before_anything_ran_makes_no_ledger(run: Any, project: Path) -> None:
    told = run("status")
    assert told.status == 0
    assert "Not running: `evergreen up` starts it." in told.out
    assert "none yet" in told.out
    assert not (project / ".evergreen").exists()


def test_status_fits_80_columns_and_names_cause_outcome_and_what_is_waited_for(run: Any, project: Path) -> None:
    (project / ".evergreen").mkdir()
    requests = wiring.ledger(wiring.Settings.load()).requests
    request = requests.open(**make_request_args(model="delay"))
    reason = "expect_column_values_to_be_between(hour): 1,400 of 28,353 rows (4.94 %), over the limit"
    requests.mark(request.id, now=NOW, state=RequestState.FAILED, step="validate", reason=reason)
    told = run("status")
    assert max(map(len, told.out.splitlines())) <= 80
    words = " ".join(told.out.split())
    for part in ("delay", "none yet", "new_data", "failed at", "5,000 new"):
        assert part in words
    assert f"failed at validate: {reason}" in " ".join(run("status", "delay").out.split())


def test_status_as_json(run: Any, project: Path) -> None:
    (project / ".evergreen").mkdir()
    wiring.ledger(wiring.Settings.load()).requests.open(**make_request_args(model="delay"))
    told = run("status", "--json").json
    assert (told["running"], told["problems"]) == (None, 0)
    [row] = told["models"]
    assert (row["model"], row["version"], row["cause"], row["state"]) == ("delay", None, "new_data", "open")
    assert row["requested_at"] == NOW.isoformat()


def test_status_tells_of_problems_in_specs(run: Any, project: Path) -> None:
    (project / "models/empty").mkdir()
    assert "1 problem in model specs or suites" in run("status").out


# ---------------------------------------------------------------- retrain, against a stack of which we play Airflow


@dataclass
class Airflow:
    """What our Airflow was asked, and how the run goes."""

    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    states: list[str] = field(default_factory=lambda: ["queued", "success"])
    stumbles: list[int] = field(default_factory=list)  # the statuses of its first answers to a new run


@pytest.fixture
def airflow(project: Path) -> Iterator[Airflow]:
    """A server that speaks Airflow's API, in the record of a stack whose keeper lives."""
    played = Airflow()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(played))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    keeper = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        _write_record(f"http://127.0.0.1:{server.server_port}", keeper.pid)
        yield played
    finally:
        keeper.communicate()
        server.shutdown()
        thread.join()
        server.server_close()


def _write_record(url: str, keeper: int) -> None:
    home = wiring.Settings.load().home
    home.mkdir()
    stack = stacks.Stack(url, "http://mlflow", "http://serving", "admin", "secret", keeper)
    stacks.write(home, stacks.Record(stack, psutil.boot_time()).with_session(stacks.KEEPER, Session.of(keeper)))


def _handler(played: Airflow) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            played.asked.append(("POST", self.path, body))
            if self.path != "/auth/token" and played.stumbles:
                self.send_error(played.stumbles.pop(0))
                return
            self._answer({"access_token": "t"} if self.path == "/auth/token" else {"dag_run_id": "manual__1+0"})

        def do_GET(self) -> None:
            played.asked.append(("GET", self.path, None))
            if self.path.endswith("/taskInstances"):
                self._answer({"task_instances": [{"task_id": "admit", "state": "running"}]})
            else:
                self._answer({"state": played.states.pop(0)})

        def _answer(self, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Silent."""

    return Handler


def test_retrain_asks_airflow_for_a_run_and_prints_where_it_is(run: Any, airflow: Airflow) -> None:
    told = run("retrain", "delay", "--reason", "repaired")
    assert told.status == 0
    assert told.out.startswith("Retraining delay: http://127.0.0.1:")
    assert told.out.endswith("/dags/delay/runs/manual__1%2B0\n")
    [asked] = [body for method, path, body in airflow.asked if path == "/api/v2/dags/delay/dagRuns"]
    assert asked["conf"]["reason"] == "repaired"
    assert asked["conf"]["requested_by"]


@pytest.mark.parametrize("stumbles", [[500], [500, 409]])
def test_retrain_where_airflow_stumbles_starts_one_run(run: Any, airflow: Airflow, stumbles: list[int]) -> None:
    airflow.stumbles.extend(stumbles)
    assert run("retrain", "delay").status == 0
    asked = [body["dag_run_id"] for method, path, body in airflow.asked if path == "/api/v2/dags/delay/dagRuns"]
    assert len(asked) == 2
    assert len(set(asked)) == 1


def test_retrain_as_json(run: Any, airflow: Airflow) -> None:
    told = run("retrain", "delay", "--json").json
    assert (told["model"], told["run_id"], told["state"]) == ("delay", "manual__1+0", "queued")


@pytest.mark.parametrize(("end", "status"), [("success", 0), ("failed", 1)])
def test_retrain_that_waits_ends_as_the_run_ends_and_says_why(
    run: Any, airflow: Airflow, end: str, status: int
) -> None:
    airflow.states = ["running", end]
    requests = wiring.ledger(wiring.Settings.load()).requests
    request = requests.open(**make_request_args(model="delay", run_id="manual__1+0"))
    requests.mark(request.id, now=NOW, state=RequestState.SERVED, step="roll_out", reason="released version 3")
    told = run("retrain", "delay", "--wait")
    assert told.status == status
    assert told.out.splitlines()[-1] == f"The run ended: {end}. released version 3"


def test_status_says_where_the_stack_runs(run: Any, airflow: Airflow) -> None:
    told = run("status").out
    for part in ("Airflow   http://127.0.0.1:", "user admin, password secret", "http://mlflow", "http://serving"):
        assert part in told
    assert run("status", "--json").json["running"]["user"] == "admin"
