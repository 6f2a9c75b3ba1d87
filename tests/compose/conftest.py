"""What is under test: this checkout's stack in containers, brought up by the program behind `make up`, as `stack`.

And as `embedded`, before it and by itself, one embedded shape for all files that need a real Airflow and no container:
here because `make test` has no time for them. Each declares models of its own in it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from airflow_world import World, running
from compose_stack import ROOT, ComposeStack
from evergreen import faults, supervisor
from evergreen.composed import docker_cli

ENV = ROOT / ".env"
PATIENCE = 1500  # seconds: the first test waits while all images are built, and an outage ends in Airflow's own time
# What follows these finds what they leave behind: a monitor that is silent, slots that were stopped.
LAST = ("test_monitor_in_airflow.py", "test_roll.py")
# Where test_kills_in_airflow.py strikes. Train and judge work in a child of the task, roll_out in the task's own
# process: killed is the one that calls.
CALLS = ("ledger.models.add_candidate:after", "ledger.models.judge:before", "ledger.releases.prepare:after")
_EMBEDDED, _WORLD = pytest.StashKey[str](), pytest.StashKey[World]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Longer than other tests may take. Those without a container come first: two shapes at once are slow."""
    here = [item for item in items if "tests/compose/" in item.nodeid]
    for item in here:
        item.add_marker(pytest.mark.timeout(PATIENCE))
    items.sort(key=lambda item: (not _is_embedded(item), item.path.name in LAST))
    config.stash[_EMBEDDED] = next((item.nodeid for item in reversed(items) if _is_embedded(item)), "")


def _is_embedded(item: pytest.Item) -> bool:
    return "embedded" in getattr(item, "fixturenames", ())


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Stop the embedded shape after the last test that asks for it: those that follow need the processors."""
    if item.nodeid == item.config.stash[_EMBEDDED] and _WORLD in item.config.stash:
        supervisor.down(item.config.stash[_WORLD].settings)


@pytest.fixture(scope="session")
def struck(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The file of each of CALLS: where it is there nothing is killed, and a kill makes it."""
    folder = tmp_path_factory.mktemp("struck")
    files = {call: folder / call.replace(":", "-") for call in CALLS}
    for file in files.values():
        file.touch()
    return files


@pytest.fixture(scope="session")
def embedded(
    tmp_path_factory: pytest.TempPathFactory, struck: dict[str, Path], pytestconfig: pytest.Config
) -> Iterator[World]:
    """An embedded shape, up, without a model."""
    told = " ".join(f"{call}:{file}" for call, file in struck.items())
    with running(tmp_path_factory.mktemp("project"), {}, **{faults.VARIABLE: told}) as world:
        pytestconfig.stash[_WORLD] = world
        yield world


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
