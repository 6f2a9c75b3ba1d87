"""Serving as real processes that ask for tokens: rotation, outages, and what a caller without one sees."""

from __future__ import annotations

import http.client
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.bundles import ROW, release
from tests.serving_process import Serving, serving, wait_for

from evergreen import wiring
from evergreen.core.caller_tokens import digest, new_token
from evergreen.core.errors import ServingFailed
from evergreen.core.records import CallerToken
from evergreen.serving.state import CALLERS

pytestmark = pytest.mark.alone

PATH = "/models/flight-delay/predict"
BODY = {"records": [ROW]}
TOKENS = {"EVERGREEN_SERVING_AUTH": "tokens"}


def add(replica: Serving, caller: str) -> tuple[str, CallerToken]:
    """A new token, and what the ledger keeps of it."""
    token = new_token()
    return token, replica.ledger.tokens.add(caller, digest(token), by="test", now=datetime.now(UTC))


def status(replica: Serving, token: str) -> int:
    """What a request with this token is answered with."""
    replica.token = token
    return replica.ask("POST", PATH, BODY)[0]


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Serving]:
    """A replica that serves version 1 and asks for tokens; nobody has one yet."""
    with serving(tmp_path, "--advertise", "http://serving-blue:8000", environment=TOKENS) as started:
        release(started.ledger, started.store, version=1)
        started.start()
        none = "Every request is refused: no caller has a token. `evergreen token add` makes one."
        ready = (200, {"ready": True, "reasons": [none]})  # it is told, and does not block
        wait_for(lambda: started.ask("GET", "/v2/health/ready") == ready, 20, started.log)
        yield started


def test_tokens_come_rotate_and_go_within_seconds_and_without_a_restart(replica: Serving) -> None:
    assert status(replica, new_token()) == 401
    old, kept = add(replica, "web-shop")
    came = wait_for(lambda: status(replica, old) == 200, 20, replica.log)
    assert replica.ask("GET", "/v2/health/ready") == (200, {"ready": True, "reasons": []})
    new, _ = add(replica, "web-shop")
    wait_for(lambda: status(replica, new) == 200, 20, replica.log)
    assert status(replica, old) == 200  # both are valid in between
    replica.ledger.tokens.revoke(kept.id, by="test", now=datetime.now(UTC))
    went = wait_for(lambda: status(replica, old) == 401, 20, replica.log)
    assert status(replica, new) == 200
    assert max(came, went) < 3
    page = replica.ask("GET", "/metrics")[1]
    assert 'model="flight-delay",version="1",outcome="ok",caller="web-shop",arm="champion",worker="0"' in page
    alive = replica.ledger.replicas.alive("default", datetime.now(UTC) - timedelta(seconds=10))
    assert [(one.replica, one.url) for one in alive] == [("serving-blue:8000", "http://serving-blue:8000")]
    told = replica.log() + page
    assert [secret for secret in (old, new, digest(old), digest(new)) if secret in told] == []


def test_known_callers_are_answered_without_a_ledger_and_after_restarts(replica: Serving) -> None:
    token, _ = add(replica, "web-shop")
    wait_for(lambda: status(replica, token) == 200, 20, replica.log)
    listed = replica.folder / CALLERS
    assert stat.S_IMODE(listed.stat().st_mode) == 0o600
    assert token not in listed.read_text()
    replica.kill()
    for path in replica.home.glob("ledger.db*"):
        path.rename(replica.home / f"away-{path.name}")
    (replica.home / "ledger.db").write_bytes(b"no database" * 100)
    replica.start()
    wait_for(lambda: status(replica, token) == 200, 20, replica.log)
    assert status(replica, new_token()) == 401
    (replica.home / "ledger.db").unlink()  # an empty ledger is made in its place: it has lost the tokens
    wait_for(lambda: "knows no token" in str(replica.ask("GET", "/v2/health/ready")), 20, replica.log)
    assert status(replica, token) == 200


def test_without_a_list_of_callers_everyone_is_refused_and_health_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, environment=TOKENS) as replica:
        token, _ = add(replica, "web-shop")
        for path in tmp_path.glob("ledger.db*"):
            path.unlink()
        (tmp_path / "ledger.db").write_bytes(b"no database" * 100)
        replica.start()

        def told() -> bool:
            return "no list of callers has come" in str(replica.ask("GET", "/v2/health/ready"))

        wait_for(told, 20, replica.log)
        assert status(replica, token) == 503
        assert replica.ask("GET", "/v2/health/live") == (200, {"live": True})


def test_a_slip_in_the_setting_opens_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, environment={"EVERGREEN_SERVING_AUTH": "token"}) as replica:
        replica.start()
        assert replica.process.wait(20) == 1
        assert "EVERGREEN_SERVING_AUTH: found 'token'; allowed: tokens, none" in replica.log()


def test_a_refusal_keeps_the_connection_and_costs_next_to_nothing(replica: Serving) -> None:
    token, _ = add(replica, "web-shop")
    wait_for(lambda: status(replica, token) == 200, 20, replica.log)
    connection = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=10)
    connection.connect()
    socket = connection.sock
    begun = time.perf_counter()
    for _ in range(200):
        connection.request("POST", PATH, b"x" * 500_000, {"authorization": f"Bearer {new_token()}"})
        response = connection.getresponse()
        assert (response.status, response.read()[:9]) == (401, b'{"error":')
        assert response.headers["www-authenticate"] == 'Bearer realm="evergreen", error="invalid_token"'
    assert time.perf_counter() - begun < 10
    connection.request("GET", "/v2/models/flight-delay", headers={"authorization": f"Bearer {token}"})
    assert connection.getresponse().status == 200
    assert connection.sock is socket
    connection.close()


def test_the_platforms_own_client_sends_its_token(replica: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    token, _ = add(replica, "platform")
    wait_for(lambda: status(replica, token) == 200, 20, replica.log)
    url = f"http://127.0.0.1:{replica.port}"
    monkeypatch.delenv("EVERGREEN_SERVING_TOKEN", raising=False)
    with (
        wiring.serving_client().connect(url) as connection,
        pytest.raises(ServingFailed, match="401: header Authorization: found no such header"),
    ):
        connection.predict("flight-delay", [ROW])
    monkeypatch.setenv("EVERGREEN_SERVING_TOKEN", token)
    with wiring.serving_client().connect(url) as connection:
        assert connection.predict("flight-delay", [ROW]).version == 1


def test_a_rehearsal_asks_for_no_token(tmp_path: Path) -> None:
    with serving(tmp_path) as other:
        released = release(other.ledger, other.store, version=7)
    only = f"--only=flight-delay:7:{released.bundle}"
    with serving(tmp_path, only, environment=TOKENS) as rehearsal:
        rehearsal.start()
        rehearsal.await_version(7)
        assert status(rehearsal, "") == 200
        assert not (rehearsal.folder / CALLERS).exists()
