"""The stack under test: this checkout's, brought up by the program behind `make up`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from compose_stack import ROOT, ComposeStack
from evergreen.composed import docker_cli

ENV = ROOT / ".env"
PATIENCE = 1500  # seconds: the first test waits while all images are built, and an outage ends in Airflow's own time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longer than the rest of the tests may take; rolls come last: they kill what others find unharmed."""
    items.sort(key=lambda item: "test_roll.py" in item.nodeid)
    for item in items:
        if "tests/compose/" in item.nodeid:
            item.add_marker(pytest.mark.timeout(PATIENCE))


@pytest.fixture(scope="session")
def stack() -> Iterator[ComposeStack]:
    """All of it, healthy. What did not run before is stopped at the end, with its data if there was none."""
    ran, had_data, had_secrets = bool(docker_cli.containers()), docker_cli.has_data(), ENV.exists()
    try:
        told = composed("up", **({} if had_secrets else _free_ports()))
        yield ComposeStack.running(told, fresh=not ran)
    finally:
        if not ran:
            composed("down", *([] if had_data else ["--volumes"]))
        if not had_secrets and not had_data and not ran:
            ENV.unlink(missing_ok=True)


def composed(*words: str, **environment: str) -> str:
    """All that the program behind `make up` and its like said; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "evergreen.composed", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def _free_ports() -> dict[str, str]:
    names = ("EVERGREEN_UI_PORT", "EVERGREEN_SERVING_PORT")
    with ExitStack() as held:
        ports = [held.enter_context(socket.socket()) for _ in names]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        return {name: str(port.getsockname()[1]) for name, port in zip(names, ports, strict=True)}
