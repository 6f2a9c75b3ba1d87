"""Faults under light load: whatever is killed, the released version answers again and the run under way ends well.

They follow the demo (test_demo.py), whose models they ask and retrain.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from compose_stack import ROOT, ComposeStack
from evergreen.adapters.airflow_api import AirflowApi
from evergreen.composed.starting import make_slots
from evergreen.core.catalog import load_catalog
from evergreen.core.errors import EvergreenError
from evergreen.demo.caller import Caller
from evergreen.demo.warehouse import months

MODEL = "flight-delay"
PATIENCE = 300.0  # seconds that a run may take, an outage of 30 s and Airflow's own patience in it
AWAY = 30.0  # seconds
CHAMPION = f"SELECT version FROM release WHERE id = (SELECT release_id FROM champion WHERE model = '{MODEL}')"
Found = TypeVar("Found")


@pytest.fixture(scope="module")
def api(stack: ComposeStack) -> AirflowApi:
    return AirflowApi(stack.airflow_url, "admin", stack.env["EVERGREEN_ADMIN_PASSWORD"])


@pytest.fixture(scope="module")
def caller(stack: ComposeStack, api: AirflowApi) -> Iterator[Caller]:
    """Never stops asking. The demo's rollback has left the model held: the hold is lifted, so that runs end."""
    act = {"act": "lift", "model": MODEL, "reason": "the demo is over"}
    assert _finished(api, "hold", api.trigger("hold", act))["state"] == "success"
    features = load_catalog(ROOT).specs[MODEL].features.columns
    record = months(6, 6).select(features).row(1000, named=True)
    with Caller(f"{stack.serving_url}/models/{MODEL}/predict", record, stack.env["EVERGREEN_SERVING_TOKEN"]) as asking:
        _within(60, lambda: asking.newest)
        yield asking


@pytest.mark.parametrize("service", ["scheduler", "api-server"])
def test_a_part_of_airflow_is_killed_while_it_trains(
    stack: ComposeStack, api: AirflowApi, caller: Caller, service: str
) -> None:
    failures = len(caller.failures)
    run_id = _retrain(api, f"{service} is killed")
    _within(PATIENCE, lambda: _under_way(api, run_id, "train"))
    stack.kill_main(service)
    assert _finished(api, MODEL, run_id)["state"] == "success"
    _champion_answers(stack, caller)
    assert len(caller.failures) == failures
    assert stack.inspect(service)["RestartCount"] >= 1


@pytest.mark.parametrize("service", ["postgres", "mlflow"])
def test_what_airflow_needs_is_away_for_30_seconds(
    stack: ComposeStack, api: AirflowApi, caller: Caller, service: str
) -> None:
    failures = len(caller.failures)
    run_id = _retrain(api, f"{service} is away")
    _within(PATIENCE, lambda: _under_way(api, run_id, "pull"))
    with stack.away(service):
        time.sleep(AWAY)
    assert _finished(api, MODEL, run_id)["state"] == "success"
    _champion_answers(stack, caller)
    assert len(caller.failures) == failures


def test_the_edge_is_killed(stack: ComposeStack, caller: Caller) -> None:
    stack.kill_main("edge")
    _within(60, lambda: stack.inspect("edge")["RestartCount"] >= 1 or None)
    _champion_answers(stack, caller)


def test_the_worker_that_answers_is_killed(stack: ComposeStack, caller: Caller) -> None:
    for process in stack.processes("serving-blue", "evergreen.serving.worker"):
        os.kill(process, signal.SIGKILL)
    _champion_answers(stack, caller)
    assert stack.inspect("serving-blue")["RestartCount"] == 0  # its supervisor started it again


def test_a_slot_is_killed(stack: ComposeStack, caller: Caller) -> None:
    stack.kill_main("serving-blue")
    _within(60, lambda: stack.inspect("serving-blue")["RestartCount"] >= 1 or None)
    _champion_answers(stack, caller)


def test_the_disk_of_a_slot_is_full(stack: ComposeStack, api: AirflowApi, caller: Caller, tmp_path: Path) -> None:
    """A second colour, on a disk of 8 MB, answers beside the first; a version that it cannot store is released."""
    failures, before = len(caller.failures), _champion_answers(stack, caller)
    other = 1 if before != 1 else 2
    with _green_on_a_small_disk(stack, tmp_path, before):
        stack.run("docker", "exec", GREEN, "python", "-c", FILL)
        act = {"model": MODEL, "to_version": other, "reason": "the disk of a slot is full"}
        run_id = api.trigger("rollback", act)
        _within(PATIENCE, lambda: "No space left" in _ready(stack).text or None)
        assert _ready(stack).status_code == httpx.codes.OK
        assert _version(stack, GREEN) == before  # the one before goes on answering
        stack.run("docker", "exec", GREEN, "rm", FILLER)
        _within(60, lambda: _version(stack, GREEN) == other or None)
        assert _finished(api, "rollback", run_id)["state"] == "success"
        assert _champion_answers(stack, caller) == other
    _champion_answers(stack, caller)
    assert len(caller.failures) == failures


GREEN, FILLER = "serving-green", "/var/lib/evergreen/serving/filler"
FILL = f"""
with open({FILLER!r}, "wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)): pass
    except OSError as error:
        print(error)
"""
SMALL_DISK = """
services:
  serving-green:
    volumes: !override ["store:/var/lib/evergreen/store:ro", "log:/var/lib/evergreen/store/log"]
    tmpfs: !override ["/tmp:mode=1777", "/var/lib/evergreen/serving:size=8m,mode=0700,uid=50000"]
"""


@contextmanager
def _green_on_a_small_disk(stack: ComposeStack, folder: Path, version: int) -> Iterator[None]:
    """The second colour, running and ready; it stands still again afterwards."""
    override = folder / "small-disk.yml"
    override.write_text(SMALL_DISK)
    files = ("-f", str(ROOT / "docker-compose.yml"), "-f", str(override), "--profile", "slots")
    stack.run("docker", "compose", *files, "up", "--detach", "--no-deps", "--no-build", "--force-recreate", GREEN)
    try:
        _within(60, lambda: _answers(stack, version) or None)
        yield
    finally:
        stack.run("docker", "rm", "--force", GREEN)
        make_slots()


def _answers(stack: ComposeStack, version: int) -> bool:
    try:
        return _ready(stack).is_success and _version(stack, GREEN) == version
    except (httpx.HTTPError, StopIteration):
        return False


def _ready(stack: ComposeStack) -> httpx.Response:
    return httpx.get(f"http://{stack.address(GREEN)}:8000/v2/health/ready", timeout=30)


def _version(stack: ComposeStack, slot: str) -> int:
    """Which version of the model this slot answers with."""
    token = {"Authorization": f"Bearer {stack.env['EVERGREEN_SERVING_TOKEN']}"}
    answer = httpx.get(f"http://{stack.address(slot)}:8000/v2/models/{MODEL}/ready", headers=token, timeout=30)
    return int(answer.json()["version"])


def test_a_slot_hangs_and_is_restarted_and_reported(stack: ComposeStack, api: AirflowApi, caller: Caller) -> None:
    known = len(_restarts(stack))
    for process in stack.processes("serving-blue", "evergreen.serving"):
        os.kill(process, signal.SIGSTOP)
    _within(150, lambda: len(_restarts(stack)) > known or None)
    _champion_answers(stack, caller)
    assert "health check" in _restarts(stack)[-1]
    told = stack.run("docker", "compose", "exec", "-T", "scheduler", "evergreen", "status")
    assert "serving-blue restarted" in " ".join(told.split())


def _restarts(stack: ComposeStack) -> list[str]:
    asked = "SELECT detail FROM slot_event WHERE slot = 'serving-blue' AND what = 'restarted' ORDER BY at"
    return stack.sql(asked, "evergreen").splitlines()


def test_housekeeping_removes_nothing_that_answers(stack: ComposeStack, api: AirflowApi, caller: Caller) -> None:
    assert _finished(api, "housekeeping", api.trigger("housekeeping"))["state"] == "success"
    _champion_answers(stack, caller)


def _retrain(api: AirflowApi, why: str) -> str:
    """A run that trains: forced, and on a window of its own."""
    day = 10 + len(why) % 18
    conf = {"force": True, "reason": why, "requested_by": "the tests", "window_end": f"2013-05-{day}T00:00:00Z"}
    return api.trigger(MODEL, conf)


def _under_way(api: AirflowApi, run_id: str, task: str) -> bool | None:
    """Whether the task has begun, or is over."""
    return api.tasks(MODEL, run_id).get(task) in ("running", "success", "failed", "up_for_retry") or None


def _finished(api: AirflowApi, dag: str, run_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        try:
            run = api.run(dag, run_id)
        except EvergreenError:  # Airflow is away
            return None
        return run if run["state"] in ("success", "failed") else None

    return _within(PATIENCE, look)


def _champion_answers(stack: ComposeStack, caller: Caller) -> int:
    """Wait until callers get the version that the ledger names; that version."""

    def look() -> int | None:
        named = int(stack.sql(CHAMPION, "evergreen"))
        try:
            answer = httpx.post(
                caller.url,
                json={"records": [caller.record]},
                headers={"Authorization": f"Bearer {stack.env['EVERGREEN_SERVING_TOKEN']}"},
                timeout=5,
            )
            version = int(answer.raise_for_status().json()["version"])
        except httpx.HTTPError:
            return None
        return version if version == named else None

    return _within(PATIENCE, look)


def _within(seconds: float, look: Callable[[], Found | None]) -> Found:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := look()) is not None:
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:.0f} s")
