"""The edge before two stand-ins for slots, on a network of their own: whom it asks when one is ready, or none."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
NAME = f"evergreen-test-edge-{os.getpid()}"
SLOT = """
import http.server, os, pathlib
class Slot(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        up = self.path != '/v2/health/ready' or pathlib.Path('/tmp/ready').exists()
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

    def __init__(self, url: str) -> None:
        self.url = url

    def ready(self, colour: str, ready: bool) -> None:
        docker("exec", f"{NAME}-{colour}", *(["touch"] if ready else ["rm", "-f"]), "/tmp/ready")

    def answering(self) -> set[str]:
        """Who answers, of twenty requests; `nobody` for an error."""
        answers = [httpx.get(f"{self.url}/v2", timeout=5) for _ in range(20)]
        return {answer.text if answer.status_code == 200 else "nobody" for answer in answers}

    def comes_to(self, wanted: set[str]) -> None:
        deadline = time.monotonic() + 15
        while (now := self.answering()) != wanted:
            assert time.monotonic() < deadline, f"{now}, not {wanted}"
            time.sleep(0.3)


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    made = [f"{NAME}-{which}" for which in ("blue", "green", "edge")]
    docker("network", "create", NAME)
    try:
        for colour in ("blue", "green"):
            docker(
                "run", "-d", "--name", f"{NAME}-{colour}", "--network", NAME, "--network-alias", f"serving-{colour}",
                "-e", f"COLOUR={colour}", "python:3.11-slim-bookworm", "python", "-c", SLOT,
            )  # fmt: skip
        docker(
            "run", "-d", "--name", f"{NAME}-edge", "--network", NAME, "--read-only", "--cap-drop", "ALL",
            "-v", f"{ROOT}/docker/edge/haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro", "haproxy:2.6-bookworm",
        )  # fmt: skip
        address = docker("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{NAME}-edge")
        running = Edge(f"http://{address}:8000")
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{running.url}/v2", timeout=2).status_code == 200:
                    break
            time.sleep(0.3)
        yield running
    finally:
        for name in made:
            with suppress(AssertionError):
                docker("rm", "-f", name)
        docker("network", "rm", NAME)


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
