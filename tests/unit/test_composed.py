"""The program behind `make up`, with a `docker` on the PATH that answers what the test says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evergreen.composed import docker_cli, waiting
from evergreen.composed.docker_cli import check_docker, check_here, environment
from evergreen.composed.env_file import SECRETS, Refused
from evergreen.composed.showing import event, megabytes, reconciler, table
from evergreen.composed.waiting import describe, is_ready, late, why_not

ROOT = Path(__file__).parents[2]


def container(status: str = "running", health: str = "", **more: Any) -> dict[str, Any]:
    """What `docker inspect` tells of one, as far as it is read."""
    state = {"Status": status, "Running": status == "running", "ExitCode": more.get("code", 0), "StartedAt": "t"}
    state |= {"OOMKilled": more.get("oom", False)} | ({"Health": {"Status": health}} if health else {})
    ports = {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}], "9/tcp": None} if more.get("published") else {}
    return {
        "Id": more.get("id", "a" * 64),
        "State": state,
        "RestartCount": more.get("restarts", 0),
        "HostConfig": {"Memory": 1024**3},
        "NetworkSettings": {"Ports": ports},
        "Config": {"Labels": {"com.docker.compose.project.working_dir": more.get("folder", str(ROOT))}},
    }


def docker_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program `docker`, the only one on the PATH."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_no_docker_says_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        Refused, match=r"found none on the PATH\. Evergreen's containers need Docker with Compose v2\.24"
    ):
        check_docker()


def test_an_engine_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_says(tmp_path, monkeypatch, "echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(Refused, match=r"(?s)Cannot connect to the Docker daemon.*Is the engine running"):
        check_docker()


@pytest.mark.parametrize(("version", "good"), [("2.23.3", False), ("v2.24.0", True), ("2.26.1-4", True), ("5.0", True)])
def test_compose_must_be_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, good: bool) -> None:
    docker_says(tmp_path, monkeypatch, f"echo {version}")
    if good:
        check_docker()
        return
    with pytest.raises(Refused, match=f"docker compose: found {version}"):
        check_docker()


def test_a_stack_of_another_checkout_is_refused(tmp_path: Path) -> None:
    check_here({"edge": container()})
    check_here({"edge": container(folder=str(tmp_path / "gone"))})  # its checkout was removed: nobody else can stop it
    with pytest.raises(
        Refused, match=r"The stack of .* is on this host, and there can be one\. `make down` there first\."
    ):
        check_here({"edge": container(folder=str(tmp_path))})


def test_a_secret_of_the_shell_does_not_replace_that_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("POSTGRES_PASSWORD=of-the-file\n")
    monkeypatch.setattr(docker_cli, "ENV", file)
    monkeypatch.setenv("POSTGRES_PASSWORD", "of-the-shell")
    monkeypatch.setenv("EVERGREEN_TAG", "mine")
    given = environment()
    assert "POSTGRES_PASSWORD" not in given  # Compose reads the file
    assert given["EVERGREEN_TAG"] == "mine"
    assert {name for name in SECRETS if name in given} == {*SECRETS} - {"POSTGRES_PASSWORD"}  # stand-ins, for `down`


def test_init_is_ready_when_it_has_ended_well_and_the_rest_when_healthy() -> None:
    assert is_ready("init", container("exited"))
    assert not is_ready("init", container("exited", code=1))
    assert not is_ready("init", container())
    assert is_ready("edge", container(health="healthy"))
    assert not is_ready("edge", container(health="starting"))
    assert not is_ready("edge", container("exited", "healthy"))


def test_what_is_late_is_named_with_what_it_said_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_says(tmp_path, monkeypatch, "echo 'no such table: runs'")
    one = container("restarting", restarts=4)
    assert describe(one) == "restarting, restarted 4 times"
    lines = late({"mlflow": describe(one), "edge": describe(None)}, {"mlflow": one}).splitlines()
    assert lines[1:4] == [
        "  mlflow: restarting, restarted 4 times. More of its log: make logs ARGS='mlflow --tail 50'",
        "    no such table: runs",
        "  edge: not made yet. More of its log: make logs ARGS='edge --tail 50'",
    ]


def test_a_failed_init_shows_the_end_of_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker_says(tmp_path, monkeypatch, "echo 'password authentication failed' >&2")
    said = why_not("dependency failed to start", {"init": container("exited", code=3)})
    assert said == "init ended with 3, and the rest waits for it. The end of its log:\npassword authentication failed"


def test_a_port_in_use_says_which_settings() -> None:
    said = why_not("Bind for 127.0.0.1:8080 failed: port is already allocated", {"init": container("exited")})
    assert said.endswith("set EVERGREEN_UI_PORT or EVERGREEN_SERVING_PORT in .env to a free one.")


def test_progress_tells_each_start_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(**services: dict[str, Any]) -> None:
        labels = "com.docker.compose.service"
        for name, one in services.items():
            one["Config"]["Labels"][labels] = name
        listed = json.dumps(list(services.values()))
        docker_says(tmp_path, monkeypatch, f"case $1 in ps) echo a b;; inspect) printf '%s' '{listed}';; esac")

    told: list[str] = []
    before = {"edge": container(health="healthy", id="1")}
    starting = waiting.Starting(told.append, before, clock=iter(range(0, 1000, 7)).__next__)
    seen(edge=container(health="healthy", id="1"), mlflow=container(health="healthy", id="2"))
    starting.wait(["edge", "mlflow"])
    starting.wait(["edge", "mlflow"])
    assert [line.split("s  ")[1] for line in told] == ["mlflow: ready"]


def test_the_table_has_80_columns_and_says_what_happened() -> None:
    found = {
        "serving-rehearsal": container("exited", oom=True, code=137),
        "api-server": container(health="unhealthy", published=True, restarts=12, id="b" * 64),
        "init": container("exited"),
    }
    lines = table(found, {"b" * 12: "1024"})
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["api-server", "unhealthy", "12", "1024", "/", "1074", "MB", "127.0.0.1:8080"]
    assert lines[2].split()[:3] == ["init", "exited", "(0)"]
    assert "out of memory" in lines[3]


def test_events_are_cut_to_the_table() -> None:
    assert (
        event("2026-11-25 09:00\tserving-blue\tdied\tstatus 137") == "2026-11-25 09:00  serving-blue  died  status 137"
    )
    assert len(event("x" * 200)) == 80


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, []),  # the ledger cannot be asked
        (["60"], []),
        (["330"], ["", "Nothing heard from the reconciler for 5 min: see docs/runbook.md."]),
        ([], ["", "Nothing heard from the reconciler yet: see docs/runbook.md."]),
    ],
)
def test_a_silent_reconciler_is_told_of(answer: list[str] | None, told: list[str]) -> None:
    assert reconciler(answer) == told


@pytest.mark.parametrize(
    ("usage", "shown"), [("512MiB / 1GiB", "537"), ("1.5GiB / 2GiB", "1611"), ("0B / 0B", "0"), ("--", "--")]
)
def test_memory_is_shown_in_megabytes(usage: str, shown: str) -> None:
    assert megabytes(usage) == shown


def test_it_needs_the_standard_library_only() -> None:
    """`make up` has no environment of its own: no site-packages here."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'plugins')!r}); sys.argv[1:] = "
         "['--help']; import runpy; runpy.run_module('evergreen.composed', run_name='__main__')"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "status" in done.stdout
