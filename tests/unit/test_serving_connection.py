"""The HTTP client's own troubles: idle connections that were closed, answers that are late or no JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from evergreen.adapters.serving_client import HttpServingClient
from evergreen.core.errors import ServingFailed

GOOD = b'{"version": 1, "predictions": [0.5]}'


class Handler(BaseHTTPRequestHandler):
    """Answers by the model's name."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        model = self.path.split("/")[-2]
        if model == "late":
            time.sleep(0.3)
        body = b"<html>proxy error</html>" if model == "html" else b"[1]" if model == "list" else GOOD
        self.send_response(502 if model == "html" else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = model == "closes"  # as a server does that has waited long enough

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_connection_that_serving_closed_while_idle_is_opened_anew(url: str) -> None:
    with HttpServingClient().connect(url) as connection:
        for _ in range(3):
            assert connection.predict("closes", [{"x": 1}]).version == 1
            time.sleep(0.02)


@pytest.mark.parametrize(("model", "said"), [("html", "502: <html>proxy error"), ("list", r"200: \[1\]")])
def test_an_answer_that_is_not_servings_is_repeated_in_the_error(url: str, model: str, said: str) -> None:
    with (
        HttpServingClient().connect(url) as connection,
        pytest.raises(ServingFailed, match=f"/models/{model}/predict was answered with {said}"),
    ):
        connection.predict(model, [{"x": 1}])


def test_a_late_answer_is_not_read_as_that_of_the_next_request(url: str) -> None:
    with HttpServingClient(timeout=0.15).connect(url) as connection:
        with pytest.raises(ServingFailed, match="did not answer: timed out"):
            connection.predict("late", [{"x": 1}])
        time.sleep(0.3)
        connection._connection.timeout = 10  # this one may take its time
        assert connection.predict("good", [{"x": 1}]).predictions == [0.5]
