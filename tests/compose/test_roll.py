"""Rolls of the serving pool under load: no request is lost, whatever becomes of the new colour or of the roll itself.

They follow the demo (test_demo.py), whose models answer here. They end with the colour that they began with.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest

from compose_stack import ROOT, ComposeStack
from evergreen.adapters.airflow_api import AirflowApi
from evergreen.composed.starting import COLOURS, live_colours, make_slots
from evergreen.core.catalog import load_catalog
from evergreen.demo.warehouse import months
from load_client import Answered, Ask, Plan, between, failures, load, quantile

MODEL, SERVING, BROKEN = "flight-delay", "evergreen-serving:latest", "evergreen-serving:broken"
ROLLS = 10
DEATHS = "SELECT count(*) FROM slot_event WHERE what IN ('died', 'none runs')"
DOES_NOT_START = f"FROM {SERVING}\nUSER 0\nRUN rm -r /opt/evergreen/plugins/evergreen/serving\nUSER 50000:0\n"
NEVER_READY = f'FROM {SERVING}\nENTRYPOINT ["sh", "-c", "sleep 3600"]\n'


def roll(*words: str, tag: str = "latest", build: bool = False) -> subprocess.CompletedProcess[str]:
    """`make roll`, of the image as it is unless it is to be built."""
    arguments = words if build else ("--no-build", *words)
    line = ["make", "-s", "--no-print-directory", "roll", f"PYTHON={sys.executable}", f"ARGS={' '.join(arguments)}"]
    environment = {**os.environ, "EVERGREEN_TAG": tag}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def within(seconds: float, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def version(stack: ComposeStack) -> str:
    """The one version that may answer."""
    (model,) = stack.evergreen("status", MODEL, "--json")["models"]
    return str(model["version"])


@pytest.fixture
def ask(stack: ComposeStack) -> Ask:
    features = load_catalog(ROOT).specs[MODEL].features.columns
    record = months(6, 6).select(features).row(1000, named=True)
    headers = {"content-type": "application/json", "authorization": f"Bearer {stack.env['EVERGREEN_SERVING_TOKEN']}"}
    return Ask(f"/models/{MODEL}/predict", json.dumps({"records": [record]}).encode(), headers=headers)


@contextmanager
def callers(stack: ComposeStack, ask: Ask, version: str) -> Iterator[list[Answered]]:
    """Callers of a connection for each request, and some that keep theirs; afterwards the list holds all answers.

    None may have failed, and none may have been given by another version.
    """
    port, answers = int(stack.env["EVERGREEN_SERVING_PORT"]), list[Answered]()
    new = Plan(port, [ask], connections=32, rate=40, keep_alive=False)
    kept = Plan(port, [ask], connections=8, rate=20)
    with load(new) as first, load(kept) as second:
        within(60, lambda: min(first.count, second.count) > 50)
        yield answers
    assert min(len(first.answers), len(second.answers)) > 50
    answers += [*first.answers, *second.answers]
    assert failures(answers) == []
    assert {answer.version for answer in answers} == {version}


def answers_alone(colour: str) -> None:
    """Of both colours this one runs, and no roll is under way."""
    assert live_colours() == [colour]


def test_ten_rolls_lose_no_request(stack: ComposeStack, ask: Ask, version: str) -> None:
    (began,), deaths = live_colours(), stack.sql(DEATHS, "evergreen")
    moments = [time.monotonic()]
    with callers(stack, ask, version) as answers:
        time.sleep(5)  # how it is without a roll
        moments.append(time.monotonic())
        for number in range(ROLLS):
            (before,) = live_colours()
            done = roll("--reason", f"'roll {number}'", build=number == 0)
            assert done.returncode == 0, done.stdout + done.stderr
            (after,) = live_colours()
            assert (after != before, done.stdout) == (True, f"Rolled: {after} answers.\n")
        moments.append(time.monotonic())
    still, rolling = (between(answers, *pair) for pair in pairwise(moments))
    print(
        f"{len(rolling)} requests in {ROLLS} rolls of {(moments[2] - moments[1]) / ROLLS:.1f} s, none failed; "
        f"p99 {quantile(rolling, 0.99) * 1e3:.0f} ms (without a roll {quantile(still, 0.99) * 1e3:.0f} ms), "
        f"longest {quantile(rolling, 1) * 1e3:.0f} ms"
    )
    answers_alone(began)
    told = stack.run("make", "-s", "status")
    assert f"Pool default: {began} answers, revision " in told
    assert "done, by evergreen: roll 9 (" in told
    assert max(map(len, told.splitlines())) <= 80
    assert stack.sql(DEATHS, "evergreen") == deaths  # a planned stop is none


@pytest.mark.parametrize(
    ("image", "seconds", "told"),
    [(DOES_NOT_START, 60, "was started and ended "), (NEVER_READY, 5, "did not answer rightly within 5 s")],
    ids=["does not start", "never ready"],
)
def test_a_broken_image_is_rolled_back_by_itself(
    stack: ComposeStack, ask: Ask, version: str, image: str, seconds: int, told: str
) -> None:
    (began,) = live_colours()
    started = stack.inspect(began)["State"]["StartedAt"]
    subprocess.run(["docker", "build", "-q", "-t", BROKEN, "-"], input=image, text=True, check=True)
    try:
        with callers(stack, ask, version):
            done = roll("--ready-within", str(seconds), tag="broken")
            assert done.returncode == 2, done.stdout + done.stderr  # make's own, where the program ends with 1
            assert told in done.stdout
            assert f"{began} answers, as before; " in done.stdout
        answers_alone(began)
        assert stack.inspect(began)["State"]["StartedAt"] == started
        assert "back, by evergreen: " in stack.run("make", "-s", "status")
        (idle,) = (colour for colour in COLOURS if colour != began)
        restarts = f"SELECT count(*) FROM slot_event WHERE slot = '{idle}' AND what = 'restarted'"
        assert stack.sql(restarts, "evergreen") == "0"  # nobody restarts what a roll has started
    finally:
        make_slots()  # the idle colour, from the image of all others
        stack.run("docker", "image", "rm", "-f", BROKEN)


def test_a_roll_whose_scheduler_is_killed_goes_on_by_itself(stack: ComposeStack, ask: Ask, version: str) -> None:
    """And the way back to the image before, from Airflow: the colour that was stopped still has it."""
    (began,) = live_colours()
    with callers(stack, ask, version):
        line = ["make", "-s", "--no-print-directory", "roll", f"PYTHON={sys.executable}", "ARGS=--no-build"]
        with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) as rolling:
            within(300, lambda: len(live_colours()) == 2)
            stack.kill_main("scheduler")
            told, _ = rolling.communicate(timeout=600)
        assert (rolling.returncode, told.startswith("Rolled: ")) == (0, True), told
        assert live_colours() != [began]
        api = AirflowApi(stack.airflow_url, "admin", stack.env["EVERGREEN_ADMIN_PASSWORD"])
        run_id = api.trigger("roll_pool", {"reason": "back to the image before"})
        within(300, lambda: api.run("roll_pool", run_id)["state"] in ("success", "failed"))
        assert api.run("roll_pool", run_id)["state"] == "success"
    answers_alone(began)


def test_an_edge_that_restarts_is_told_again_whom_to_ask(stack: ComposeStack) -> None:
    """The idle colour is started by hand beside the active one, as a roll does before it knows what it answers."""
    (active,) = live_colours()
    (idle,) = (colour for colour in COLOURS if colour != active)
    stack.run("docker", "start", idle)
    try:
        within(120, lambda: _is_ready(idle))
        stack.run("docker", "restart", "-t", "0", stack.inspect("edge")["Id"])
        within(120, lambda: _doors() == {active: "ready", idle: "maint"})
    finally:
        stack.run("docker", "stop", idle)


def _is_ready(colour: str) -> bool:
    ask = "exec 3<>/dev/tcp/127.0.0.1/8000 && printf 'GET /v2/health/ready HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3"
    done = subprocess.run(["docker", "exec", colour, "bash", "-c", ask], capture_output=True, text=True, check=False)
    return " 200 " in done.stdout


def _doors() -> dict[str, str]:
    """What each colour is set to at the edge, asked from the scheduler; empty while the edge is away."""
    ask = "import json; from evergreen import wiring; servers = wiring.edge(wiring.Settings.load()).servers(); "
    ask += "print(json.dumps({name: one.door for name, one in servers.items()}))"
    line = ["docker", "compose", "exec", "-T", "scheduler", "python", "-c", ask]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    return dict(json.loads(done.stdout)) if done.returncode == 0 else {}
