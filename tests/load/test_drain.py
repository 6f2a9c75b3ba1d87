"""A replica that is told to end: not ready first, answering on, each caller sent away with an answer; then gone."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bundles import ROW, release
from tests.load_client import Plan, failures, load, predict
from tests.serving_process import Serving, serving, wait_for

pytestmark = pytest.mark.alone

DRAIN = 5.0


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, "--workers", "2", "--drain-seconds", str(DRAIN), "--max-connections", "40") as started:
        release(started.ledger, started.store, version=1)
        started.start()
        started.await_version(1)
        yield started


def readiness(replica: Serving) -> int:
    return replica.ask("GET", "/v2/health/ready")[0]


def test_readiness_goes_first_and_nobody_is_refused_until_callers_have_gone_elsewhere(replica: Serving) -> None:
    with load(Plan(replica.port, [predict("flight-delay", ROW)], connections=16)) as run:
        wait_for(lambda: run.count > 200, 20, replica.log)
        assert readiness(replica) == 200
        replica.process.send_signal(signal.SIGTERM)
        told = time.monotonic()
        gone = wait_for(lambda: readiness(replica) == 503, 5, replica.log)
        assert "about to stop" in str(replica.ask("GET", "/v2/health/ready")[1])
        before = run.count
        wait_for(lambda: run.count > before + 200, 5, replica.log)
        run.stop()  # as a load balancer that has seen it
        assert time.monotonic() - told < DRAIN, "this test proves nothing: the drain was over"
    assert gone < 2
    assert failures(run.answers) == []
    assert replica.process.wait(20) == 0
    assert time.monotonic() - told >= DRAIN


def test_a_second_signal_ends_it_at_once(replica: Serving) -> None:
    wait_for(lambda: readiness(replica) == 200, 10, replica.log)
    replica.process.send_signal(signal.SIGTERM)
    wait_for(lambda: readiness(replica) == 503, 5, replica.log)
    told = time.monotonic()
    replica.process.send_signal(signal.SIGTERM)
    assert replica.process.wait(10) == 0
    assert time.monotonic() - told < DRAIN - 1


def test_more_connections_than_allowed_are_told_and_closed(replica: Serving) -> None:
    open_ones = [socket.create_connection(("127.0.0.1", replica.port)) for _ in range(120)]

    def told() -> int:
        readable, _, _ = select.select(open_ones, [], [], 0)
        return sum(one.recv(1000, socket.MSG_PEEK).startswith(b"HTTP/1.1 503") for one in readable)

    wait_for(lambda: told() >= 120 - 2 * 40, 10, replica.log)
    assert told() < 120
    for one in open_ones:
        one.close()
    wait_for(lambda: replica.ask("GET", "/v2/health/live")[0] == 200, 10, replica.log)  # until then it is one too many
    assert replica.answer(ROW)[0] == 1
