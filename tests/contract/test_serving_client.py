"""What every client of serving does, over HTTP and in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from tests.bundles import ROW, make_bundle, put

from evergreen.adapters.child_slots import ChildSlots
from evergreen.adapters.file_store import FileStore
from evergreen.adapters.serving_client import HttpServingClient
from evergreen.adapters.slot_readiness import wait_until_ready
from evergreen.core import bundle as bundles
from evergreen.core.errors import ServingFailed
from evergreen.core.ports import ServingClient
from evergreen.fakes.serving_client import InMemoryServingClient, Serve
from evergreen.fakes.slots import InMemorySlots
from evergreen.fakes.store import InMemoryStore

MODEL = "flight-delay"
MADE, FILES = make_bundle(MODEL, 1)
GOLDEN = json.loads(FILES[bundles.GOLDEN])


@dataclass
class Served:
    """A client, where a model answers, and where nothing does."""

    client: ServingClient
    url: str
    nowhere: str


@pytest.fixture(scope="module", params=["http", "fake"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if request.param == "http":
        home = tmp_path_factory.mktemp("home")
        put(FileStore(str(home / "store")), MADE, FILES)
        slots = ChildSlots(home, home, str(home / "store"), wait_until_ready, memory_limit_mb=2000)
        with slots.start(MODEL, 3, MADE) as child:
            yield Served(HttpServingClient(), child.url, "http://127.0.0.1:9")
        return
    network: dict[str, Serve] = {}
    store = InMemoryStore()
    put(store, MADE, FILES)
    with InMemorySlots(store, network).start(MODEL, 3, MADE) as slot:
        yield Served(InMemoryServingClient(network), slot.url, "memory://nowhere")


def test_every_row_is_answered_by_the_version_that_is_live(served: Served) -> None:
    with served.client.connect(served.url) as connection:
        answer = connection.predict(MODEL, GOLDEN["rows"])
        again = connection.predict(MODEL, GOLDEN["rows"][:1])
    assert answer.version == 3
    assert list(answer.predictions) == pytest.approx(GOLDEN["predictions"], rel=1e-6, abs=1e-6)
    assert list(again.predictions) == list(answer.predictions[:1])
    assert 0 < answer.milliseconds < 10_000


def test_what_serving_says_of_a_refused_request_is_in_the_error_and_the_connection_goes_on(served: Served) -> None:
    with served.client.connect(served.url) as connection:
        with pytest.raises(ServingFailed, match=r"422.*'colour'.*distance"):
            connection.predict(MODEL, [{**ROW, "colour": 1}])
        with pytest.raises(ServingFailed, match=r"422.*hour"):
            connection.predict(MODEL, [{name: value for name, value in ROW.items() if name != "hour"}])
        with pytest.raises(ServingFailed, match=r"422.*no record"):
            connection.predict(MODEL, [])
        with pytest.raises(ServingFailed, match=f"404.*no such model here; allowed: '{MODEL}'"):
            connection.predict("fares", [ROW])
        assert connection.predict(MODEL, [ROW]).version == 3


def test_ground_truth_is_kept_and_what_is_wrong_with_it_is_told(served: Served) -> None:
    records = [{"inference_id": f"01890a5d-ac96-774b-bcce-b3020{at:07}", "label": 1.0} for at in range(3)]
    with served.client.connect(served.url) as connection:
        if isinstance(served.client, InMemoryServingClient):
            assert connection.tell(MODEL, records) == 3
            assert served.client.told[served.url, MODEL] == records
        with pytest.raises(ServingFailed, match=r"422.*record 0, field 'inference_id'"):
            connection.tell(MODEL, [{"inference_id": "7", "label": 1.0}])
        with pytest.raises(ServingFailed, match=r"422.*no record"):
            connection.tell(MODEL, [])
    with (
        served.client.connect(served.nowhere) as connection,
        pytest.raises(ServingFailed, match=r"flight-delay/ground-truth at .* did not answer"),
    ):
        connection.tell(MODEL, records)


def test_what_is_ready_says_so_and_where_nothing_answers_that_is_told(served: Served) -> None:
    assert served.client.readiness(served.url) == ""
    assert "does not answer" in served.client.readiness(served.nowhere)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (503, '{"ready": false, "reasons": ["m is being loaded.", "n too."]}', "m is being loaded. n too."),
        (503, '{"ready": false, "reasons": []}', "GET /v2/health/ready was answered with 503"),
        (502, "<html>", "GET /v2/health/ready was answered with 502: <html>"),
        (200, "", ""),
    ],
)
def test_what_is_not_ready_says_why(status: int, body: str, told: str) -> None:
    class Slot(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Slot) as server:
        answering = Thread(target=server.handle_request)
        answering.start()
        assert HttpServingClient().readiness(f"http://127.0.0.1:{server.server_port}") == told
        answering.join()


def test_where_nothing_answers_the_error_says_where(served: Served) -> None:
    with (
        served.client.connect(served.nowhere) as connection,
        pytest.raises(ServingFailed, match=r"flight-delay/predict at .* did not answer"),
    ):
        connection.predict(MODEL, [ROW])
