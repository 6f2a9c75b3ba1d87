"""Who may ask a worker: every endpoint without, with a wrong and with a right token, and the list of callers."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.bundles import ROW, make_bundle, put

from evergreen.core.caller_tokens import digest, new_token
from evergreen.fakes.store import InMemoryStore
from evergreen.serving.callers import OPEN, KnownCallers
from evergreen.serving.metrics import Metrics, memory_peak
from evergreen.serving.models.model_table import ModelTable
from evergreen.serving.replica.local_bundles import LocalBundles
from evergreen.serving.state import CALLERS, STATE, WORKERS, Callers, PoolState, Released, Status, read, write
from evergreen.serving.web.app import ServingApp
from replicas import Replica

TOKEN = "evg_the-token-of-the-web-shop"
NOW = datetime.now(UTC)
PATHS = [("GET", "/"), ("GET", "/v2"), ("GET", "/v2/models/flight-delay"), ("GET", "/v2/models/flight-delay/ready")]
PATHS += [("POST", "/v2/models/flight-delay/infer"), ("POST", "/models/flight-delay/predict"), ("GET", "/nothing")]
PATHS += [("GET", "/metrics/"), ("GET", "/v2/health/live/"), ("DELETE", "/")]


class Worker:
    """A worker's app that answers callers with a token only."""

    def __init__(self, folder: Path) -> None:
        (folder / WORKERS).mkdir(parents=True)
        self.folder, self.metrics = folder, Metrics()
        self.table = ModelTable(folder, "0", self.metrics, KnownCallers(folder / CALLERS))
        self._app = ServingApp(self.table)

    def know(self, names: dict[str, str]) -> None:
        """Write the list of callers, and let the worker look."""
        write(self.folder / CALLERS, Callers(names))
        asyncio.run(self.table.follow_once(False))

    def ask(self, method: str, path: str, authorization: str | None = None) -> httpx.Response:
        async def asked() -> httpx.Response:
            headers = {} if authorization is None else {"authorization": authorization}
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://serving") as client:
                return await client.request(method, path, headers=headers, json={"records": [ROW]})

        return asyncio.run(asked())


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    made = Worker(tmp_path_factory.mktemp("serving") / "default")
    store, (bundle, files) = InMemoryStore(), make_bundle(seed=1)
    put(store, bundle, files)
    LocalBundles(made.folder / "bundles").fetch(bundle, store)
    write(made.folder / STATE, PoolState(1, {"flight-delay": Released(1, "release-1", bundle, 1)}))
    made.know({digest(TOKEN): "web-shop"})
    return made


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_every_path_but_health_and_metrics_wants_a_token(worker: Worker, method: str, path: str) -> None:
    for given, found in [
        (None, "found no such header"),
        ("", "found no such header"),
        (f"Basic {TOKEN}", "found another scheme"),
        (TOKEN, "found another scheme"),
        ("Bearer", "found a token that is not known, or was revoked"),
        (f"Bearer {new_token()}", "found a token that is not known, or was revoked"),
        (f"Bearer {digest(TOKEN)}", "found a token that is not known, or was revoked"),
        (f"Bearer {TOKEN} {TOKEN}", "found a token that is not known, or was revoked"),
    ]:
        refused = worker.ask(method, path, given)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith('Bearer realm="evergreen"')
        error = refused.json()["error"]
        assert error.startswith(f"header Authorization: {found}; allowed: 'Bearer <token>'")
        assert TOKEN not in error
    assert worker.ask(method, path, f"Bearer {TOKEN}").status_code != 401
    assert worker.ask(method, path, f"bearer  {TOKEN} ").status_code != 401  # RFC 9110: schemes in any case


def test_health_and_metrics_are_open(worker: Worker) -> None:
    assert {"/docs", "/v2/health/live", "/v2/health/ready", "/metrics"} == OPEN
    for path in OPEN:
        assert worker.ask("GET", path).status_code == 200
        assert worker.ask("GET", path, "Bearer wrong").status_code == 200


def test_the_callers_name_is_counted_and_no_token_is_logged(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = new_token()
    refused = 'evergreen_unauthorised_total{worker="0"} '
    before = float(worker.ask("GET", "/metrics").text.split(refused)[-1].split()[0])
    assert worker.ask("POST", "/models/flight-delay/predict", f"Bearer {TOKEN}").json()["version"] == 1
    assert worker.ask("POST", "/models/flight-delay/predict", f"Bearer {wrong}").status_code == 401
    page = worker.ask("GET", "/metrics").text
    assert 'evergreen_requests_total{model="flight-delay",version="1",outcome="ok",caller="web-shop",' in page
    assert f"{refused}{before + 1:.0f}" in page
    told = page + caplog.text
    assert [secret for secret in (TOKEN, wrong, digest(TOKEN)) if secret in told] == []


def test_the_page_tells_the_most_that_the_worker_has_held(worker: Worker) -> None:
    page = worker.ask("GET", "/metrics").text
    (line,) = [line for line in page.splitlines() if line.startswith("evergreen_memory_peak_bytes{")]
    name, value = line.split()
    assert name == 'evergreen_memory_peak_bytes{worker="0"}'
    assert 10e6 < float(value) <= memory_peak()
    held = bytearray(os.urandom(1 << 20) * 64)
    assert memory_peak() >= float(value)
    assert held


# ---------------------------------------------------------------- the list


def test_what_was_read_last_is_kept_whatever_becomes_of_the_file(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "default")
    known, path = worker.table.callers, tmp_path / "default" / CALLERS
    assert known is not None
    (reason,) = known.reasons()
    assert ("no list of callers has come" in reason.text, reason.blocks) == (True, True)
    worker.know({})
    (reason,) = known.reasons()
    assert ("no caller has a token" in reason.text, reason.blocks) == (True, False)
    worker.know({digest(TOKEN): "web-shop"})
    for damaged in (b"", b'{"names": ', b"[]"):
        path.write_bytes(damaged)
        asyncio.run(worker.table.follow_once(False))
        assert known.name_of(TOKEN.encode()) == "web-shop"
    path.unlink()
    asyncio.run(worker.table.follow_once(False))
    assert (known.name_of(TOKEN.encode()), known.reasons()) == ("web-shop", [])
    worker.know({digest("another"): "robot"})
    assert (known.name_of(TOKEN.encode()), known.name_of(b"another")) == (None, "robot")


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica(tmp_path / "default", tokens=True)


def callers(replica: Replica) -> dict[str, str] | None:
    found = read(replica.folder / CALLERS, Callers)
    return found and found.names


def test_the_list_follows_the_ledger_and_is_the_owners_alone(replica: Replica) -> None:
    before = os.umask(0)
    try:
        replica.follower.poll()
        assert callers(replica) == {}
        kept = [replica.ledger.tokens.add("shop", digest(t), by="ada", now=NOW) for t in ("one", "two")]
        replica.follower.poll()
    finally:
        os.umask(before)
    assert callers(replica) == {digest("one"): "shop", digest("two"): "shop"}
    assert stat.S_IMODE((replica.folder / CALLERS).stat().st_mode) == 0o600
    for token in kept:
        replica.ledger.tokens.revoke(token.id, by="ada", now=NOW)
    replica.follower.poll()
    assert callers(replica) == {}
    assert replica.reasons() == []


def test_a_list_that_has_not_changed_is_not_written(replica: Replica) -> None:
    replica.ledger.tokens.add("shop", digest("one"), by="ada", now=NOW)
    replica.follower.poll()
    before = (replica.folder / CALLERS).stat().st_mtime_ns
    replica.follower.poll()
    replica.follower = replica.new()
    replica.follower.poll()
    assert (replica.folder / CALLERS).stat().st_mtime_ns == before


def test_a_ledger_that_does_not_answer_or_has_lost_its_tokens_changes_nothing(replica: Replica) -> None:
    replica.ledger.tokens.add("shop", digest("one"), by="ada", now=NOW)
    replica.follower.poll()
    replica.ledger_down = True
    replica.follower = replica.new()
    replica.follower.poll()
    assert callers(replica) == {digest("one"): "shop"}
    other = Replica(replica.folder, tokens=True)  # the same folder, and an empty ledger
    other.follower.poll()
    assert callers(replica) == {digest("one"): "shop"}
    assert "knows no token, not even a revoked one" in replica.reasons()[0].text
    other.ledger.tokens.add("robot", digest("two"), by="ada", now=NOW)
    other.follower.poll()
    assert (callers(replica), replica.reasons()) == ({digest("two"): "robot"}, [])


def test_a_damaged_list_is_written_anew(replica: Replica) -> None:
    (replica.folder / CALLERS).write_bytes(b"{")
    replica.follower = replica.new()
    replica.ledger.tokens.add("shop", digest("one"), by="ada", now=NOW)
    replica.follower.poll()
    assert json.loads((replica.folder / CALLERS).read_bytes()) == {"names": {digest("one"): "shop"}}


def test_without_tokens_no_list_is_kept(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "default")
    replica.ledger.tokens.add("shop", digest("one"), by="ada", now=NOW)
    replica.follower.poll()
    assert callers(replica) is None
    assert read(replica.folder / "status.json", Status) is not None
