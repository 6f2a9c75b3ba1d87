"""What every reader of serving's counters does: the one over HTTP, and the one in memory."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from evergreen.adapters.serving_counters import HttpServingCounters, parsed
from evergreen.core.errors import ServingFailed
from evergreen.core.monitoring.tally import LATENCY_SECONDS
from evergreen.core.ports import Served, ServingCounters
from evergreen.fakes.serving_counters import InMemoryServingCounters
from evergreen.serving.metrics import BUCKETS, Metrics, exposition


def page(*workers: Metrics) -> str:
    return exposition(*(worker.families(str(slot)) for slot, worker in enumerate(workers)))


def counting() -> Metrics:
    """A worker that has answered three requests of two callers, refused one, and failed at three."""
    worker = Metrics()
    worker.of("m", 3, "champion").observe("", 0.002)
    worker.of("m", 3, "champion").observe('a "shop"\n', 0.3)
    worker.of("m", 4, "canary").observe("", 9.0)
    worker.add("evergreen_requests_total", 1, model="m", version="3", outcome="refused", arm="champion")
    worker.add("evergreen_requests_total", 2, model="m", version="", outcome="failed", arm="champion")
    worker.add("evergreen_challenger_failures_total", model="m", version="4", arm="canary", reason="timeout")
    return worker


def expected(boot: str) -> list[Served]:
    fast, slow, slowest = ([float(at == bin) for at in range(len(BUCKETS) + 1)] for bin in (2, 9, 12))
    both = tuple(map(sum, zip(fast, slow, strict=True)))
    return [
        Served(boot, "m", 0, "champion", 2.0, 2.0, ()),
        Served(boot, "m", 3, "champion", 2.0, 0.0, both),
        Served(boot, "m", 4, "canary", 2.0, 1.0, tuple(slowest)),
    ]


@pytest.fixture(params=["http", "fake"])
def reader(request: pytest.FixtureRequest) -> Iterator[tuple[ServingCounters, str, str]]:
    """A reader, the URL of a replica with one worker, and that worker's boot."""
    worker = counting()
    boot = f"0@{worker._began}"
    if request.param == "fake":
        fake = InMemoryServingCounters()
        fake.counted["http://here"] = list(reversed(expected(boot)))
        yield fake, "http://here", boot
        return

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(page(worker).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield HttpServingCounters(), f"http://127.0.0.1:{server.server_port}", boot
    server.shutdown()
    thread.join()
    server.server_close()


def test_requests_failures_and_latency_are_told_by_version_and_arm(reader: tuple[ServingCounters, str, str]) -> None:
    counters, url, boot = reader
    assert counters.read(url) == expected(boot)


def test_a_replica_that_does_not_answer_is_told(reader: tuple[ServingCounters, str, str]) -> None:
    counters, _, _ = reader
    with pytest.raises(ServingFailed, match=r"127\.0\.0\.1:9/metrics"):
        counters.read("http://127.0.0.1:9")


def test_a_page_without_metrics_is_told_or_has_none() -> None:
    assert parsed(["<html>", "", "other_total 3"]) == []
    with pytest.raises(ValueError, match="could not convert"):
        parsed(['evergreen_requests_total{model="m",outcome="ok"} many'])


def test_workers_are_apart_and_one_that_began_again_has_another_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = counting(), counting()
    boots = {one.boot for one in parsed(page(first, second).splitlines())}
    assert boots == {f"0@{first._began}", f"1@{second._began}"}


def test_the_monitor_has_the_bounds_of_serving() -> None:
    assert LATENCY_SECONDS == BUCKETS
