"""The HTTP protocol on real connections: what callers may send and how, and what slow or greedy ones get."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.bundles import ROW, answer_of
from tests.http_server import BODY, LIVE, PREDICT, Answer, Connection, Server, request, served

from evergreen.serving.limits import Limits
from evergreen.serving.models.loaded_model import LoadedModel
from serving_process import wait_for


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("http")) as made:
        yield made


@pytest.fixture
def connection(server: Server) -> Iterator[Connection]:
    with server.connected() as made:
        yield made


def good(answer: Answer) -> bool:
    assert answer.status == 200, answer.body
    assert answer.found["predictions"] == pytest.approx([answer_of(1)], abs=1e-6)
    assert answer.headers["x-model-version"] == "1"
    assert answer.headers["content-type"] == "application/json"
    return len(answer.found["inference_ids"]) == 1


# ------------------------------------------------------------ good callers


def test_a_connection_is_kept(connection: Connection) -> None:
    ids = set()
    for _ in range(3):
        connection.send(request())
        answer = connection.receive()
        assert good(answer)
        assert answer.headers["date"]
        ids.add(answer.headers["x-request-id"])
    assert len(ids) == 3
    connection.send(request(x_request_id="mine-1"))
    assert connection.receive().headers["x-request-id"] == "mine-1"


def test_a_body_in_many_packets(connection: Connection) -> None:
    whole = request()
    connection.send(*(whole[at : at + 7] for at in range(0, len(whole), 7)))
    assert good(connection.receive())


def test_a_chunked_body(connection: Connection) -> None:
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(BODY[at : at + 10]), BODY[at : at + 10]) for at in range(0, len(BODY), 10))
    connection.send(head, chunks[:40], chunks[40:], b"0\r\n\r\n")
    assert good(connection.receive())
    connection.send(request())
    assert good(connection.receive())


def test_pipelined_requests_are_answered_in_their_order(connection: Connection) -> None:
    bad = request(b"{}", x_request_id="bad")
    connection.send(request(x_request_id="a") + request(x_request_id="b") + LIVE + bad + LIVE + request() + request())
    first, second, live, third, again, *rest = (connection.receive() for _ in range(7))
    assert good(first)
    assert good(second)
    assert [first.headers["x-request-id"], second.headers["x-request-id"]] == ["a", "b"]
    assert (live.found, again.found) == ({"live": True}, {"live": True})
    assert (third.status, third.headers["x-request-id"]) == (422, "bad")
    assert all(map(good, rest))
    connection.send(LIVE + request())
    assert connection.receive().found == {"live": True}
    assert good(connection.receive())


def test_expect_100_continue(connection: Connection) -> None:
    head, body = request(expect="100-continue").split(b"\r\n\r\n")
    connection.send(head + b"\r\n\r\n")
    assert connection.receive().status == 100
    connection.send(body)
    assert good(connection.receive())


def test_http_1_0_and_connection_close_end_the_connection(server: Server) -> None:
    for asked in (request(version="1.0"), request(connection="close")):
        with server.connected() as connection:
            connection.send(asked)
            answer = connection.receive()
            assert good(answer)
            assert answer.headers["connection"] == "close"
            assert connection.is_closed()


def test_a_path_in_other_writing_is_the_same_model(connection: Connection) -> None:
    for path in (PREDICT.replace("-", "%2D"), f"{PREDICT}?x=1"):
        connection.send(request(path=path))
        assert good(connection.receive())


def test_many_rows_go_through_the_threads(connection: Connection) -> None:
    connection.send(request(json.dumps({"records": [ROW] * 300}).encode()))
    assert connection.receive().found["predictions"] == pytest.approx([answer_of(1)] * 300, abs=1e-6)
    connection.send(request(json.dumps({"columns": {name: [ROW[name]] * 300 for name in ROW}}).encode()))
    assert connection.receive().found["predictions"] == pytest.approx([answer_of(1)] * 300, abs=1e-6)


def test_callers_at_a_time_get_each_their_own_answer(server: Server) -> None:
    hours = range(24)
    found: dict[int, list[float]] = {}

    def ask(hour: int) -> None:
        with server.connected() as connection:
            body = json.dumps({"records": [{**ROW, "hour": hour}]}).encode()
            for _ in range(20):
                connection.send(request(body))
                found.setdefault(hour, []).extend(connection.receive().found["predictions"])

    threads = [threading.Thread(target=ask, args=(hour,)) for hour in hours]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for hour in hours:
        assert found[hour] == pytest.approx([answer_of(1, {**ROW, "hour": hour})] * 20, abs=1e-6)


# ------------------------------------------------------------ bad callers


def test_a_body_over_the_limit_is_413_and_the_connection_goes_on(connection: Connection) -> None:
    connection.send(request(b" " * 20_001))
    answer = connection.receive()
    assert answer.status == 413
    assert "at most 20000 bytes" in answer.found["error"]["message"]
    connection.send(request())
    assert good(connection.receive())
    chunk = b"1000\r\n" + b" " * 0x1000 + b"\r\n"
    connection.send(f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode(), chunk * 6)
    assert connection.receive().status == 413
    connection.send(b"0\r\n\r\n", request())
    assert good(connection.receive())


def test_a_caller_who_goes_in_the_middle_costs_nothing(server: Server) -> None:
    whole = request()
    for cut in (10, 60, len(whole) - 5, len(whole)):
        with server.connected() as connection:
            connection.send(whole[:cut])
    wait_for(lambda: server.connections() == 0, 5)
    assert server.app.in_flight.total == 0
    with server.connected() as connection:
        connection.send(request())
        assert good(connection.receive())


def test_what_is_no_http_is_400(server: Server) -> None:
    with server.connected() as connection:
        connection.send(b"\x16\x03\x01 hello\r\n\r\n")
        assert connection.receive().status == 400
        assert connection.is_closed()


def test_get_on_a_path_that_asks_a_model_is_405_and_an_unknown_model_404(connection: Connection) -> None:
    connection.send(f"GET {PREDICT} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    assert connection.receive().status == 405
    connection.send(request(path="/models/nobody/predict"))
    assert connection.receive().status == 404


# ------------------------------------------------------------ limits, tokens, faults


def test_too_much_at_a_time_is_429_at_once_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release, asking = threading.Event(), threading.Event()

    def slow(self: LoadedModel, matrix: np.ndarray) -> np.ndarray:
        asking.set()
        release.wait(10)
        return matrix[:, 0]

    many = request(json.dumps({"records": [ROW] * 100}).encode())  # answered in a thread
    with served(tmp_path, Limits(max_queue=1)) as server, server.connected() as first, server.connected() as second:
        monkeypatch.setattr(LoadedModel, "predict", slow)
        first.send(many)
        assert asking.wait(10)
        for path in (PREDICT, f"{PREDICT}?by=asgi", "/v2/models/flight-delay/infer"):
            second.send(request(path=path))
            refused = second.receive()
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert "--max-queue" in refused.body.decode()
        second.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        page = second.receive().body.decode()
        release.set()
        assert len(first.receive().found["predictions"]) == 100
        second.send(request())
        assert second.receive().status == 200
    assert 'evergreen_request_errors_total{model="flight-delay",reason="overload",worker="0"} 3' in page
    assert 'evergreen_requests_in_flight{worker="0"} 1' in page


def test_more_rows_than_declared_are_413(tmp_path: Path) -> None:
    with served(tmp_path, Limits(max_rows=3)) as server, server.connected() as connection:
        for path in (PREDICT, f"{PREDICT}?by=asgi"):
            connection.send(request(json.dumps({"records": [ROW] * 4}).encode(), path))
            refused = connection.receive()
            assert refused.status == 413
            assert "found 4 rows; allowed: at most 3 rows" in refused.found["error"]["message"]
            connection.send(request(json.dumps({"records": [ROW] * 3}).encode(), path))
            assert connection.receive().status == 200


def test_an_answer_that_takes_too_long_is_504(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    with served(tmp_path, Limits(seconds=0.2)) as server, server.connected() as connection:
        monkeypatch.setattr(LoadedModel, "predict", lambda self, matrix: release.wait(10) and matrix[:, 0])
        connection.send(request(json.dumps({"records": [ROW] * 100}).encode()))
        late = connection.receive()
        release.set()
    assert late.status == 504
    assert "no answer within 0.2 s" in late.found["error"]["message"]


def test_a_token_is_asked_for_on_both_ways(tmp_path: Path) -> None:
    with served(tmp_path, token="evg_secret") as server, server.connected() as connection:
        for path in (PREDICT, f"{PREDICT}?by=asgi"):
            for given in ({}, {"authorization": "Bearer wrong"}):
                connection.send(request(path=path, **given))
                refused = connection.receive()
                assert refused.status == 401
                assert refused.headers["www-authenticate"].startswith('Bearer realm="evergreen"')
                assert refused.found["error"].startswith("header Authorization: found")
            connection.send(request(path=path, authorization="Bearer evg_secret"))
            assert good(connection.receive())
        connection.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        page = connection.receive().body.decode()
    assert 'version="1",outcome="ok",caller="shop",arm="champion",worker="0"} 2' in page


def test_a_model_that_raises_is_500_without_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(self: LoadedModel, matrix: np.ndarray) -> np.ndarray:
        raise RuntimeError("password=hunter2")

    with served(tmp_path) as server, server.connected() as connection:
        monkeypatch.setattr(LoadedModel, "predict", raises)
        for path in (PREDICT, f"{PREDICT}?by=asgi"):
            connection.send(request(path=path, x_request_id="r-1"))
            failed = connection.receive()
            assert (failed.status, failed.headers["x-request-id"]) == (500, "r-1")
            assert b"hunter2" not in failed.body
        monkeypatch.undo()
        connection.send(request())
        assert good(connection.receive())


def test_a_stop_lets_requests_under_way_be_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release, asking = threading.Event(), threading.Event()
    true: Callable[..., np.ndarray] = LoadedModel.predict

    def slow(self: LoadedModel, matrix: np.ndarray) -> np.ndarray:
        asking.set()
        release.wait(10)
        return true(self, matrix)

    with served(tmp_path) as server, server.connected() as busy, server.connected() as idle:
        monkeypatch.setattr(LoadedModel, "predict", slow)
        busy.send(request(json.dumps({"records": [ROW] * 100}).encode()))
        assert asking.wait(10)
        server.server.should_exit = True
        assert idle.is_closed()
        release.set()
        answer = busy.receive()
        assert len(answer.found["predictions"]) == 100
        assert answer.headers["connection"] == "close"
        assert busy.is_closed()
