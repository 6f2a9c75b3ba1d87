"""`make roll`, with a `docker` on the PATH and an Airflow that answer what the test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from evergreen.composed import airflow, docker_cli, env_file, rolling, starting
from evergreen.composed.airflow import Airflow
from evergreen.composed.env_file import Refused
from evergreen.composed.ledger import LastRoll
from evergreen.composed.showing import pool

BLUE, GREEN, REHEARSAL = starting.SLOTS
ROOT = Path(__file__).parents[2]
LABEL = "com.docker.compose"


class Host:
    """Docker's containers, as a script answers for them, and what it was asked to do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder / "asked"
        self.states = {"scheduler": "running", "postgres": "running", BLUE: "running", GREEN: "exited"}
        self.states[REHEARSAL] = "created"
        self.last = ""
        self.say()

    def say(self, **states: str) -> None:
        """From now on, Docker says this."""
        self.states |= {name.replace("_", "-"): state for name, state in states.items()}
        listed = [
            {
                "Id": name,
                "State": {"Status": state, "Running": state == "running", "ExitCode": 0, "StartedAt": "t"},
                "Config": {"Labels": {f"{LABEL}.service": name, f"{LABEL}.project.working_dir": str(ROOT)}},
            }
            for name, state in self.states.items()
        ]  # fmt: skip
        (self._folder / "list").write_text(json.dumps(listed))
        (self._folder / "last").write_text(self.last)
        program = self._folder / "docker"
        program.write_text(
            f"""#!/bin/sh
case "$1 $2" in
  "ps "*) echo a ;;
  "inspect "*) while read -r line; do printf '%s' "$line"; done < {self._folder}/list
     read -r line < {self._folder}/list || printf '%s' "$line" ;;
  "compose version") echo 2.26.1 ;;
  "exec "*) while read -r line || [ -n "$line" ]; do echo "$line"; done < {self._folder}/last ;;
  "compose "*) echo "$@" >> {self.log} ;;
  "start "*) echo "$@" >> {self.log} ;;
esac
"""
        )
        program.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        """What was done, without the options that are always there."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.replace(" ".join(docker_cli.ALL[1:]) + " ", "") for line in lines]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(docker_cli, "ENV", tmp_path / ".env")
    monkeypatch.setattr(rolling, "ENV", tmp_path / ".env")
    env_file.ensure(tmp_path / ".env", {})
    return made


class FakeAirflow:
    """In place of composed.airflow: what each run ends with, and what it does to the host."""

    def __init__(self, host: Host, *ends: bool) -> None:
        self.host, self.ends, self.reasons = host, list(ends), list[str]()
        self.confs: list[Any] = []

    def __call__(self, url: str, values: Any) -> FakeAirflow:
        return self

    def start(self, dag: str, conf: Any) -> str:
        assert dag == "roll_pool"
        self.reasons.append(conf["reason"])
        self.confs.append(conf)
        return "run-1"

    def follow(self, dag: str, run_id: str, tell: Any) -> bool:
        tell("serving-green is started")
        done = self.ends.pop(0)
        if done:
            live = [colour for colour in (BLUE, GREEN) if self.host.states[colour] == "running"]
            new = GREEN if live in ([BLUE], [BLUE, GREEN]) else BLUE
            self.host.last = f"{new}\tdone\tt\tanna\twhy"
            self.host.say(**{BLUE: "exited", GREEN: "exited", new: "running"})
        return done


@pytest.fixture
def runs(host: Host, monkeypatch: pytest.MonkeyPatch) -> FakeAirflow:
    made = FakeAirflow(host, True)
    monkeypatch.setattr(rolling, "Airflow", made)
    monkeypatch.setattr(rolling.getpass, "getuser", lambda: "anna")
    return made


def roll(**changed: Any) -> tuple[int, list[str]]:
    told: list[str] = []
    return rolling.roll(**{"reason": "", "build": True, "say": told.append, **changed}), told


@pytest.mark.parametrize(("given", "asked"), [({}, None), ({"ready_within": 600}, 600)])
def test_the_runs_form_gets_how_long_to_wait_if_somebody_said_so(runs: FakeAirflow, given: Any, asked: Any) -> None:
    assert roll(**given)[0] == 0
    assert runs.confs[0].get("ready_within") == asked


def test_it_builds_makes_the_idle_colour_anew_and_follows_the_run(
    host: Host, runs: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told = roll(reason="new libraries")
    assert (status, runs.reasons) == (0, ["new libraries (anna on this host)"])
    assert host.asked == [
        f"build --quiet {BLUE}",
        f"create --no-build --force-recreate {GREEN}",
        f"create --no-build {REHEARSAL}",
    ]
    assert "  serving-green is started" in told
    assert capsys.readouterr().out == "Rolled: serving-green answers.\n"


def test_without_a_build_the_image_is_taken_as_it_is_and_the_way_is_that_of_the_colours(
    host: Host, runs: FakeAirflow
) -> None:
    host.say(**{BLUE: "exited", GREEN: "running", REHEARSAL: "running"})
    status, _ = roll(build=False)
    assert (status, host.asked) == (0, [f"create --no-build --force-recreate {BLUE}"])
    assert runs.reasons[0].startswith("make roll, revision ")


def test_a_roll_that_was_undone_ends_with_1_and_says_why(
    host: Host, runs: FakeAirflow, capsys: pytest.CaptureFixture[str]
) -> None:
    runs.ends = [False]
    host.last = f"{BLUE}\tback\tt\tanna\tserving-green ended with exit code 3. serving-blue answers, as before."
    host.say()
    assert roll()[0] == 1
    assert capsys.readouterr().out == (
        "Not rolled: serving-green ended with exit code 3. serving-blue answers, as before.\n"
    )
    assert f"create --no-build {REHEARSAL}" not in host.asked


def test_one_that_was_broken_off_is_gone_on_with_before_anything_is_made(host: Host, runs: FakeAirflow) -> None:
    runs.ends = [True, True]
    host.last = f"{GREEN}\tswitched\tt\tbert\tlast week"
    host.say(**{GREEN: "running"})
    status, _ = roll(build=False)
    assert status == 0
    assert runs.reasons[0] == "goes on with: last week (anna on this host)"
    assert host.asked[0] == f"create --no-build --force-recreate {BLUE}"  # green is the active one by then


def test_one_that_cannot_be_gone_on_with_makes_nothing(host: Host, runs: FakeAirflow) -> None:
    runs.ends = [False]
    host.last = f"{BLUE}\tstarted\tt\tbert\tlast week"
    host.say(**{GREEN: "running"})
    assert (roll()[0], host.asked) == (1, [])


@pytest.mark.parametrize(
    ("states", "last", "told"),
    [
        ({BLUE: "exited"}, "", r"No colour runs: `make up` starts one"),
        ({GREEN: "running"}, "", "Both colours run, and no roll is under way.* docker stop serving-green"),
        ({GREEN: "running"}, f"{GREEN}\tdone\tt\ta\tw", "docker stop serving-blue"),
        ({GREEN: "restarting"}, f"{BLUE}\tback\tt\ta\tw", "docker stop serving-green"),
    ],
)
def test_where_it_is_not_clear_what_is_idle_nothing_is_made(
    host: Host, runs: FakeAirflow, states: dict[str, str], last: str, told: str
) -> None:
    host.last = last
    host.say(**states)
    with pytest.raises(Refused, match=told):
        roll()
    assert (host.asked, runs.reasons) == ([], [])


def test_without_a_stack_or_docker_it_says_so_and_that_the_embedded_shape_has_no_roll(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.states = {"postgres": "running"}
    host.say()
    with pytest.raises(Refused, match=r"does not run\. `make up` starts it\.\nThe embedded shape .* no roll"):
        roll()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Refused, match=r"(?s)found none on the PATH.*The embedded shape .* no roll"):
        roll()


@pytest.mark.parametrize(("last", "started"), [("", BLUE), (f"{GREEN}\tdone\tt\ta\tw", GREEN)])
def test_make_up_starts_the_colour_that_was_active_last_else_blue_and_never_a_second(
    host: Host, last: str, started: str
) -> None:
    host.last = last
    host.say(**{BLUE: "exited"})
    starting._start_a_colour(lambda line: None)
    assert host.asked == [f"start {started}"]
    host.say(**{BLUE: "restarting"})
    starting._start_a_colour(lambda line: None)
    assert len(host.asked) == 1


# ---------------------------------------------------------------- what `make status` says


def slot(revision: str, *, running: bool = True) -> dict[str, Any]:
    labels = {"org.opencontainers.image.revision": revision} if revision else {}
    return {"State": {"Running": running}, "Config": {"Labels": labels}}


def test_status_names_the_active_colour_its_revision_and_the_last_roll() -> None:
    last = LastRoll(GREEN, "done", "2026-11-27 16:00", "anna", "new libraries " * 9)
    found = {BLUE: slot("b" * 40, running=False), GREEN: slot(f"{'a' * 40}-dirty")}
    lines = pool(found, last)
    assert lines[:2] == ["", "Pool default: serving-green answers, revision aaaaaaaaaaaa-dirty"]
    assert lines[2].startswith("Last roll: 2026-11-27 16:00 UTC done, by anna: new libraries")
    assert max(map(len, lines)) <= 80
    assert pool({BLUE: slot("")}, None) == ["", "Pool default: serving-blue answers, revision unknown"]
    both = pool({BLUE: slot("b"), GREEN: slot("a")}, LastRoll(BLUE, "started", "t", "a", "w"))
    assert both[1:3] == [
        "Pool default: serving-blue answers, revision b",
        "Pool default: serving-green runs beside it, revision a",
    ]
    assert pool({}, None) == []


# ---------------------------------------------------------------- Airflow


class Server:
    """An Airflow whose answers are those of the test, in turn for each path."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, str, Any, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or "null")
                outer.asked.append((self.command, self.path, body, self.headers["authorization"]))
                waiting = outer.answers[self.path.split("make__")[0]]
                status, said = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(said).encode())

            do_GET = do_POST

            def log_message(self, *words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.answers["/auth/token"] = [(200, {"access_token": "t0ken"})]
        self.answers["/api/v2/dags/roll_pool"] = [(200, {"is_paused": False})]
        self.answers["/api/v2/dags/roll_pool/dagRuns"] = [(200, {})]
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(airflow, "LOOK", 0.01)
    made = Server()
    yield made
    made.close()


RUN = "/api/v2/dags/roll_pool/dagRuns/"
SECRET = {"EVERGREEN_SERVICE_PASSWORD": "of-the-service"}


def test_a_run_is_started_once_and_followed_by_its_note_to_its_end(server: Server) -> None:
    asked = Airflow(server.url, SECRET)
    run_id = asked.start("roll_pool", {"reason": "why"})
    server.answers[RUN] = [
        (200, {"state": "queued", "note": None}),
        (200, {"state": "running", "note": "first"}),
        (502, {}),  # its server restarts
        (200, {"state": "running", "note": "third\n\nsecond\n\nfirst"}),
        (200, {"state": "success", "note": "third\n\nsecond\n\nfirst"}),
    ]
    told: list[str] = []
    assert asked.follow("roll_pool", run_id, told.append)
    assert told == ["first", "second", "third"]
    [started] = [body for method, path, body, _ in server.asked if (method, path) == ("POST", RUN[:-1])]
    assert started == {"dag_run_id": run_id, "logical_date": None, "conf": {"reason": "why"}}
    signed_in = [body for _, path, body, _ in server.asked if path == "/auth/token"]
    assert signed_in == [{"username": "evergreen", "password": "of-the-service"}]
    assert {token for _, path, _, token in server.asked if path != "/auth/token"} == {"Bearer t0ken"}


def test_a_run_that_failed_is_told(server: Server) -> None:
    server.answers[RUN] = [(200, {"state": "failed", "note": "undone"})]
    told: list[str] = []
    assert not Airflow(server.url, SECRET).follow("roll_pool", "make__1", told.append)
    assert told == ["undone"]


def test_who_is_named_in_the_environment_acts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERGREEN_AIRFLOW_USER", "anna")
    monkeypatch.setenv("EVERGREEN_AIRFLOW_PASSWORD", "hers")
    server.answers["/api/v2/dags/roll_pool/dagRuns"] = [(403, {})]
    with pytest.raises(Refused, match=r"user 'anna' may not \(403\); allowed: one with the role Operator"):
        Airflow(server.url, SECRET).start("roll_pool", {})
    assert server.asked[0][2] == {"username": "anna", "password": "hers"}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((404, {}), "found 404. A new DAG takes some seconds"),
        ((200, {"is_paused": True}), "The DAG roll_pool is paused"),
        ((500, {"detail": "odd"}), "found 500 .*odd"),
    ],
)
def test_a_dag_that_does_not_start_says_why(server: Server, answer: tuple[int, Any], told: str) -> None:
    server.answers["/api/v2/dags/roll_pool"] = [answer]
    with pytest.raises(Refused, match=told):
        Airflow(server.url, SECRET).start("roll_pool", {})
    assert all(path != RUN[:-1] for _, path, _, _ in server.asked)


def test_an_airflow_that_stays_away_is_told_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow, "PATIENCE", 0.05)
    monkeypatch.setattr(airflow, "LOOK", 0.01)
    with pytest.raises(Refused, match=r"Airflow at http://127\.0\.0\.1:9 does not answer"):
        Airflow("http://127.0.0.1:9", SECRET).follow("roll_pool", "run", print)


@pytest.mark.parametrize("verb", ["", "up", "roll", "down", "status", "logs", "demo"])
def test_the_help_of_each_verb_fits_80_columns(verb: str) -> None:
    line = [sys.executable, "-m", "evergreen.composed", *([verb] if verb else []), "--help"]
    told = subprocess.run(line, env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=True).stdout
    assert max(map(len, told.splitlines())) <= 80
