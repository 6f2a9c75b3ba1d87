"""Callers who are slow, silent or greedy: they cost a worker little, and the others nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.bundles import ROW
from tests.http_server import LIVE, PREDICT, Connection, request, served

from evergreen.serving.limits import Limits
from evergreen.serving.metrics import memory
from evergreen.serving.models.loaded_model import LoadedModel
from evergreen.serving.state import Settings
from evergreen.serving.web import http
from serving_process import wait_for

SOON = Limits(arrival=0.3)
DRIP = 0.05  # seconds between two bytes
MOST = 50_000_000  # bytes: more than the kernel buffers


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_LOOK", 0.02)


def is_408_and_closed(connection: Connection) -> bool:
    answer = connection.receive()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    return connection.is_closed()


@pytest.mark.parametrize("sent", [request()[:20], request()[:-5], b"GET / HTTP/1.1\r\nhost:"])
def test_a_request_that_stops_half_way_is_408(tmp_path: Path, sent: bytes) -> None:
    with served(tmp_path, SOON) as server, server.connected() as connection:
        connection.send(sent)
        assert is_408_and_closed(connection)
        wait_for(lambda: server.connections() == 0, 5)


@pytest.mark.parametrize("at_once", [0, len(request()) - 100])
@pytest.mark.parametrize("path", [PREDICT, f"{PREDICT}?by=asgi"])
def test_a_request_that_drips_is_408_within_the_limit_however_often_a_byte_comes(
    tmp_path: Path, at_once: int, path: str
) -> None:
    """Of the head (nothing at once) or of the body; each byte is no new patience."""
    with served(tmp_path, SOON) as server, server.connected() as connection:
        begun, whole = time.monotonic(), request(path=path)
        connection.send(whole[:at_once])
        answered = threading.Event()
        dripping = threading.Thread(target=drip, args=(connection, whole[at_once:-1], answered))
        dripping.start()
        assert is_408_and_closed(connection)
        took = time.monotonic() - begun
        answered.set()
        dripping.join()
        assert took >= SOON.arrival
        assert took < DRIP * (len(whole) - at_once), "it was cut off before it would have been done"


def drip(connection: Connection, rest: bytes, stop: threading.Event) -> None:
    for at in range(len(rest)):
        if stop.wait(DRIP):
            return
        try:
            connection.send(rest[at : at + 1])
        except OSError:
            return


def test_who_is_silent_after_an_answer_or_from_the_start_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "KEEP_ALIVE", 0.3)
    with served(tmp_path, SOON) as server, server.connected() as connection, server.connected() as silent:
        connection.send(request())
        assert connection.receive().status == 200
        assert connection.is_closed()
        assert silent.is_closed()
        wait_for(lambda: server.connections() == 0, 5)


@pytest.mark.parametrize("asked", [request(json.dumps({"records": [ROW] * 60}).encode()), LIVE])
def test_a_caller_who_does_not_read_fills_no_memory_and_is_cut_off(tmp_path: Path, asked: bytes) -> None:
    """Its answers wait in the kernel's buffers; then its requests do."""
    with served(tmp_path, SOON) as server:
        with server.connected() as greedy:
            wait_for(lambda: server.connections() == 1, 5)
            (protocol,) = server.server.server_state.connections
            before, sent, largest = memory(), 0, 0
            for size in send_on(greedy, asked * 20):
                sent += size
                largest = max(largest, protocol.transport.get_write_buffer_size())
        assert sent < MOST
        assert largest < 1_000_000
        assert memory() - before < 20_000_000
        wait_for(lambda: server.connections() == 0, 5)
        with server.connected() as other:
            other.send(request())
            assert other.receive().status == 200


def send_on(connection: Connection, asked: bytes) -> Iterator[int]:
    """Send without reading until the server cuts it off; the bytes that were taken each time."""
    connection.socket.settimeout(10)
    taken = 0
    try:
        while taken < MOST:
            size = connection.socket.send(asked[taken % len(asked) :])
            taken += size
            yield size
    except (ConnectionResetError, BrokenPipeError):
        return


def test_a_model_at_its_most_is_429_and_another_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, asking = threading.Semaphore(0), threading.Semaphore(0)
    true = LoadedModel.predict

    def slow(self: LoadedModel, matrix: np.ndarray) -> np.ndarray:
        if self.name == "flight-delay":
            asking.release()
            go_on.acquire(timeout=10)
        return true(self, matrix)

    many = request(json.dumps({"records": [ROW] * 100}).encode())  # answered in a thread
    models = {"flight-delay": Settings(max_concurrent=2), "other": Settings()}
    with served(tmp_path, models=models) as server:
        monkeypatch.setattr(LoadedModel, "predict", slow)
        with server.connected() as first, server.connected() as second, server.connected() as third:
            for connection in (first, second):
                connection.send(many)
            wait_for(lambda: server.app.in_flight.total == 2, 5)
            assert asking.acquire(timeout=10)
            for path in (PREDICT, f"{PREDICT}?by=asgi", "/v2/models/flight-delay/infer"):
                third.send(request(path=path))
                refused = third.receive()
                assert (refused.status, refused.headers["retry-after"]) == (429, "1")
                assert "serving.max_concurrent" in refused.body.decode()
            for path in ("/models/other/predict", "/models/other/predict?by=asgi"):
                third.send(request(path=path))
                assert third.receive().status == 200
            go_on.release(3)
            assert (first.receive().status, second.receive().status) == (200, 200)
            third.send(request())
            assert third.receive().status == 200
