"""What the check of a caller's token adds to a one-row request.

Two replicas side by side, of which one asks for tokens; one caller on a keep-alive connection to each, which takes
turns, so that whatever else the machine does weighs on both. Run from the repository's root:

    python benchmarks/token_check.py [requests]
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from tests.bundles import ROW, release  # noqa: E402
from tests.serving_process import Serving, serving, wait_for  # noqa: E402

from evergreen.core.caller_tokens import digest, new_token  # noqa: E402

CALLERS = 1000  # tokens that are valid, of which one asks
BODY = json.dumps({"records": [ROW]}).encode()


def main() -> None:
    """Print p50 and p99 of both, and the medians' difference."""
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder) / name for name in ("open", "tokens")]
        for home in homes:
            home.mkdir()
        with serving(homes[0]) as free, serving(homes[1], environment={"EVERGREEN_SERVING_AUTH": "tokens"}) as asks:
            token = ""
            for replica in (free, asks):
                release(replica.ledger, replica.store, version=1)
            for _ in range(CALLERS):
                token = new_token()
                asks.ledger.tokens.add("web-shop", digest(token), by="benchmark", now=datetime.now(UTC))
            times = measure(free, asks, token, requests)
    for name, taken in times.items():
        ordered = sorted(taken)
        p50, p99 = (statistics.median(taken) * 1000, ordered[int(len(ordered) * 0.99)] * 1000)
        print(f"{name:<12} p50 {p50:.3f} ms   p99 {p99:.3f} ms   ({len(taken)} requests)")
    difference = statistics.median(times["with tokens"]) - statistics.median(times["without"])
    print(f"the check    {difference * 1e6:.0f} µs at the median, {CALLERS} tokens known")


def measure(free: Serving, asks: Serving, token: str, requests: int) -> dict[str, list[float]]:
    """Seconds of each request."""
    asks.token = token
    for replica in (free, asks):
        replica.start()
        replica.await_version(1)
    wait_for(lambda: asks.ask("GET", "/")[0] == 200, 10)
    connections = {
        "without": (http.client.HTTPConnection("127.0.0.1", free.port), {}),
        "with tokens": (http.client.HTTPConnection("127.0.0.1", asks.port), {"authorization": f"Bearer {token}"}),
    }
    times: dict[str, list[float]] = {name: [] for name in connections}
    for number in range(requests + 200):
        for name, (connection, headers) in connections.items():
            begun = time.perf_counter()
            connection.request("POST", "/models/flight-delay/predict", BODY, headers)
            response = connection.getresponse()
            response.read()
            taken = time.perf_counter() - begun
            assert response.status == 200
            if number >= 200:  # the first ones warm up
                times[name].append(taken)
    return times


if __name__ == "__main__":
    main()
