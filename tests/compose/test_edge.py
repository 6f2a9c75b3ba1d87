"""The edge before two stand-ins for slots, on networks of their own: whom it asks when one is ready, or none, and what
its runtime API says and does."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from tests.edge_contract import BLUE, GREEN, EdgeContract, Rig

from evergreen.adapters.edge_proxy import HAProxyEdge
from evergreen.core.errors import EdgeUnavailable
from evergreen.core.ports import Door

ROOT = Path(__file__).parents[2]
NAME = f"evergreen-test-edge-{os.getpid()}"
SLOT = """
import http.server, os, pathlib, time
class Slot(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        up = self.path != '/v2/health/ready' or pathlib.Path('/tmp/ready').exists()
        while self.path == '/v2/slow' and pathlib.Path('/tmp/slow').exists(): time.sleep(0.05)
        self.send_response(200 if up else 503)
        self.end_headers()
        self.wfile.write(os.environ['COLOUR'].encode())
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(('', 8000), Slot).serve_forever()
"""


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words[:6])}: {done.stderr}"
    return done.stdout.strip()


class Edge:
    """The project's HAProxy configuration, and what to do to the slots behind it."""

    def __init__(self, url: str, api: HAProxyEdge) -> None:
        self.url, self.api = url, api

    def restart(self) -> None:
        docker("restart", "-t", "0", f"{NAME}-edge")
        self.wait()

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + 60
        while True:
            with suppress(httpx.HTTPError, EdgeUnavailable):
                self.api.servers()
                if httpx.get(f"{self.url}/v2", timeout=2).status_code == 200:
                    return
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def ready(self, colour: str, ready: bool) -> None:
        docker("exec", f"{NAME}-{colour}", *(["touch"] if ready else ["rm", "-f"]), "/tmp/ready")

    def answering(self) -> set[str]:
        """Who answers, of twenty requests; `nobody` for an error."""
        answers = [httpx.get(f"{self.url}/v2", timeout=5) for _ in range(20)]
        return {answer.text if answer.status_code == 200 else "nobody" for answer in answers}

    def comes_to(self, wanted: set[str]) -> None:
        deadline = time.monotonic() + 60
        while (now := self.answering()) != wanted:
            assert time.monotonic() < deadline, f"{now}, not {wanted}"
            time.sleep(0.3)


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    made = [f"{NAME}-{which}" for which in ("blue", "green", "edge")]
    docker("network", "create", NAME)
    docker("network", "create", "--internal", f"{NAME}-api")
    try:
        for colour in ("blue", "green"):
            docker(
                "run", "-d", "--name", f"{NAME}-{colour}", "--network", NAME, "--network-alias", f"serving-{colour}",
                "-e", f"COLOUR={colour}", "python:3.11-slim-bookworm", "python", "-c", SLOT,
            )  # fmt: skip
        docker(
            "create", "--name", f"{NAME}-edge", "--network", NAME, "--read-only", "--cap-drop", "ALL",
            "-v", f"{ROOT}/docker/edge/haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro", "haproxy:2.6-bookworm",
        )  # fmt: skip
        docker("network", "connect", "--alias", "edge-admin", f"{NAME}-api", f"{NAME}-edge")
        docker("start", f"{NAME}-edge")
        running = Edge(f"http://{address(NAME)}:8000", HAProxyEdge(f"tcp://{address(f'{NAME}-api')}:9999"))
        running.wait()
        yield running
    finally:
        for name in made:
            with suppress(AssertionError):
                docker("rm", "-f", name)
        docker("network", "rm", NAME, f"{NAME}-api")


def address(network: str) -> str:
    """The edge's, in one of its networks."""
    named = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return docker("inspect", "-f", named, f"{NAME}-edge")


def test_the_ready_one_is_asked_and_without_one_any_that_lives(edge: Edge) -> None:
    edge.ready("blue", True)
    edge.comes_to({"blue"})
    edge.ready("green", True)
    edge.comes_to({"blue", "green"})
    edge.ready("blue", False)
    edge.comes_to({"green"})
    edge.ready("green", False)
    edge.comes_to({"blue", "green"})  # not ready, but alive: the version before goes on answering


def test_a_slot_that_comes_back_under_another_address_is_found(edge: Edge) -> None:
    edge.ready("green", True)
    edge.comes_to({"green"})
    docker("stop", "-t", "0", f"{NAME}-green")
    docker("start", f"{NAME}-green")
    edge.comes_to({"green"})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200), ("/v2", 200), ("/v2/models/x/infer", 200), ("/models/x/predict", 200), ("/invocations", 200),
        ("/docs", 200), ("/openapi.json", 200), ("/docs/x", 404), ("/openapixjson", 404),
        ("/metrics", 404), ("/v2x", 404), ("/edge", 404), ("/admin", 404), ("//metrics", 404),
    ],
)  # fmt: skip
def test_only_what_callers_need_is_passed(edge: Edge, path: str, status: int) -> None:
    assert httpx.get(f"{edge.url}{path}", timeout=5).status_code == status


@pytest.mark.parametrize("path", ["/v2/../metrics", "/v2/%2e%2e/metrics", "/%6detrics"])
def test_no_detour_leads_to_the_metrics(edge: Edge, path: str) -> None:
    asked = subprocess.run(
        ["curl", "-s", "--path-as-is", "-o", os.devnull, "-w", "%{http_code}", edge.url + path],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert asked.stdout == "404"


# ---------------------------------------------------------------- the runtime API


@pytest.fixture
def rig(edge: Edge) -> Rig:
    for colour in (BLUE, GREEN):
        edge.api.set(colour, Door.READY)
        edge.ready(colour.removeprefix("serving-"), False)
    made = Rig(edge.api, lambda colour, ready: edge.ready(colour.removeprefix("serving-"), ready), edge.restart)
    made.comes_to()
    return made


class TestHAProxy(EdgeContract):
    """What every edge does."""


def test_a_drained_colour_answers_what_it_has_and_nothing_new(edge: Edge, rig: Rig) -> None:
    rig.ready(BLUE, True)
    rig.comes_to(BLUE)
    docker("exec", f"{NAME}-blue", "touch", "/tmp/slow")
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(httpx.get, f"{edge.url}/v2/slow", timeout=20)
        until(lambda: rig.edge.servers()[BLUE].requests == 1)
        rig.ready(GREEN, True)
        rig.comes_to(BLUE, GREEN)
        rig.edge.set(BLUE, Door.DRAIN)
        assert edge.answering() == {"green"}
        assert rig.edge.servers()[BLUE].requests == 1
        docker("exec", f"{NAME}-blue", "rm", "/tmp/slow")
        assert slow.result().text == "blue"
    until(lambda: rig.edge.servers()[BLUE].requests == 0)


def test_where_none_is_ready_a_shut_one_is_not_asked_either(edge: Edge, rig: Rig) -> None:
    edge.comes_to({"blue", "green"})  # neither is ready, both live
    rig.edge.set(GREEN, Door.MAINT)
    assert edge.answering() == {"blue"}


def test_its_api_is_on_its_own_network_only(edge: Edge) -> None:
    with pytest.raises(EdgeUnavailable, match="refused"):
        HAProxyEdge(f"tcp://{address(NAME)}:9999").servers()


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
