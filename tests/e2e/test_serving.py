"""Serving as real processes, with the real ledger and store: what callers see when versions and processes change."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.bundles import ROW, answer_of, make_bundle, put, release, release_bundle
from tests.serving_process import Serving, ask, serving, wait_for

from evergreen.core import bundle as bundles

PATH = "/models/flight-delay/predict"
BODY = {"records": [ROW]}


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Serving]:
    """A replica that answers with version 1."""
    with serving(tmp_path) as started:
        release(started.ledger, started.store, version=1)
        started.start()
        started.await_version(1)
        yield started


class Load(threading.Thread):
    """A caller on a keep-alive connection, asking all the time."""

    def __init__(self, replica: Serving) -> None:
        super().__init__(daemon=True)
        self.replica, self.stop = replica, threading.Event()
        self.answers: list[tuple[int, float]] = []
        self.failures: list[str] = []

    def run(self) -> None:
        """Ask until stopped; open the connection anew after an error."""
        connection = http.client.HTTPConnection("127.0.0.1", self.replica.port, timeout=10)
        while not self.stop.is_set():
            try:
                status, found = ask(connection, "POST", PATH, BODY)
                if status == 200:
                    self.answers.append((found["version"], found["predictions"][0]))
                else:
                    self.failures.append(f"{status} {found}")
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                time.sleep(0.01)
        connection.close()

    def versions(self) -> list[int]:
        """The versions in the order of their answers."""
        return [version for version, _ in self.answers]


def under_load(replica: Serving, callers: int = 3) -> list[Load]:
    loads = [Load(replica) for _ in range(callers)]
    for load in loads:
        load.start()
    return loads


def end(loads: list[Load]) -> None:
    for load in loads:
        load.stop.set()
    for load in loads:
        load.join()


def no_mix(loads: list[Load]) -> None:
    """Every answer's prediction is that of the version it names."""
    right = {version: pytest.approx(answer_of(version), abs=1e-6) for version in (1, 2, 3)}
    for load in loads:
        assert load.answers
        wrong = [(version, value) for version, value in set(load.answers) if value != right[version]]
        assert not wrong


def test_releases_swap_under_load_without_a_failed_request(replica: Serving) -> None:
    loads = under_load(replica)
    for version in (2, 3):
        time.sleep(0.3)
        release(replica.ledger, replica.store, version=version)
        replica.await_version(version)
    time.sleep(0.3)
    end(loads)
    assert [load.failures for load in loads] == [[], [], []]
    no_mix(loads)
    for load in loads:
        assert load.versions() == sorted(load.versions())
        assert set(load.versions()) == {1, 2, 3}


def test_two_workers_swap_under_load(tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2") as replica:
        release(replica.ledger, replica.store, version=1)
        replica.start()
        wait_for(lambda: heartbeat(replica) == {"flight-delay": 1}, 20, replica.log)  # both workers have it
        loads = under_load(replica)
        release(replica.ledger, replica.store, version=2)
        wait_for(lambda: heartbeat(replica) == {"flight-delay": 2}, 20, replica.log)
        time.sleep(0.2)
        end(loads)
        assert [load.failures for load in loads] == [[], [], []]
        no_mix(loads)
        assert {load.versions()[-1] for load in loads} == {2}
        page = replica.ask("GET", "/metrics")[1]
        assert 'worker="0"' in page
        assert 'worker="1"' in page


def heartbeat(replica: Serving) -> dict[str, int] | None:
    alive = replica.ledger.replicas.alive("default", datetime.now(UTC) - timedelta(seconds=10))
    return alive[0].versions if alive else None


def test_worker_killed_during_a_swap_is_back_with_a_consistent_version(replica: Serving) -> None:
    loads = under_load(replica, callers=2)
    for version, delay in ((2, 0.0), (3, 0.05)):
        path = replica.folder / "state.json"
        before = path.stat().st_mtime_ns
        release(replica.ledger, replica.store, version=version)
        wait_for(lambda path=path, before=before: path.stat().st_mtime_ns != before, 10, replica.log)
        time.sleep(delay)
        os.kill(replica.worker_pid(), signal.SIGKILL)
        killed = time.monotonic()
        replica.await_version(version, seconds=5)
        assert time.monotonic() - killed < 5
    end(loads)
    no_mix(loads)


def test_worker_killed_comes_back_with_the_same_version(replica: Serving) -> None:
    expected = replica.answer(ROW)
    pid = replica.worker_pid()
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    assert replica.answer(ROW) == expected  # the connection waits in the supervisor's socket
    assert time.monotonic() - killed < 5
    assert replica.worker_pid() != pid
    wait_for(
        lambda: 'evergreen_worker_restarts_total{reason="killed"} 1' in replica.ask("GET", "/metrics")[1],
        5,
        replica.log,
    )


def test_supervisor_killed_and_started_again_without_ledger_and_store(replica: Serving) -> None:
    expected, worker = replica.answer(ROW), replica.worker_pid()
    replica.kill()
    for path in replica.home.glob("ledger.db*"):
        path.rename(replica.home / f"away-{path.name}")
    (replica.home / "store").rename(replica.home / "away-store")
    killed = time.monotonic()
    replica.start()
    wait_for(lambda: replica.answer(ROW) == expected, 5, replica.log)
    assert time.monotonic() - killed < 5
    wait_for(lambda: not Path(f"/proc/{worker}").exists(), 5)
    # The supervisor found an empty ledger in its place: it goes on, and says so.
    wait_for(lambda: "knows no release of flight-delay" in str(ready(replica)), 10, replica.log)
    assert ready(replica)[0] == 200
    assert replica.answer(ROW) == expected


def ready(replica: Serving) -> tuple[int, Any]:
    return replica.ask("GET", "/v2/health/ready")


def test_ledger_that_cannot_be_opened_is_told_and_answers_go_on(replica: Serving) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{replica.home}/ledger.db{suffix}").unlink(missing_ok=True)
    (replica.home / "ledger.db").write_bytes(b"no database" * 100)
    wait_for(lambda: "ledger does not answer" in str(ready(replica)), 10, replica.log)
    assert ready(replica)[0] == 200
    assert replica.answer(ROW)[0] == 1


def test_damaged_bundle_is_refused_and_told_until_it_is_repaired(replica: Serving) -> None:
    made, files = make_bundle(seed=2)
    put(replica.store, made, {**files, bundles.MODEL: files[bundles.MODEL][:-1] + b"!"})
    release_bundle(replica.ledger, made, version=2)
    wait_for(lambda: ready(replica)[0] == 503, 10, replica.log)
    (reason,) = ready(replica)[1]["reasons"]
    assert "flight-delay version 2 is refused, version 1 goes on answering" in reason
    assert "model.ubj: found sha256" in reason
    assert replica.answer(ROW)[0] == 1
    assert replica.ask("GET", "/v2/models/flight-delay/ready")[0] == 503
    put(replica.store, made, files)
    replica.await_version(2)
    wait_for(lambda: ready(replica) == (200, {"ready": True, "reasons": []}), 5, replica.log)


def test_golden_rows_that_disagree_keep_the_old_version_over_a_restart(replica: Serving) -> None:
    release(replica.ledger, replica.store, version=2, predictions=[0.5] * 12)
    wait_for(lambda: ready(replica)[0] == 503, 10, replica.log)
    assert "golden row" in str(ready(replica)[1]["reasons"])
    assert replica.answer(ROW)[0] == 1
    os.kill(replica.worker_pid(), signal.SIGKILL)
    assert replica.answer(ROW)[0] == 1
    assert heartbeat(replica) in ({"flight-delay": 1}, {})
    release(replica.ledger, replica.store, version=3)
    replica.await_version(3)
    assert ready(replica)[0] == 200


def test_damaged_local_bundle_is_fetched_again(replica: Serving) -> None:
    (folder,) = (replica.folder / "bundles").iterdir()
    (folder / bundles.MODEL).write_bytes(b"damaged")
    os.kill(replica.worker_pid(), signal.SIGKILL)
    replica.await_version(1)
    assert bundles.sha256((folder / bundles.MODEL).read_bytes()) in (folder / bundles.MANIFEST).read_text()


def test_only_needed_bundles_stay_on_disk(replica: Serving) -> None:
    for version in (2, 3):
        release(replica.ledger, replica.store, version=version)
        replica.await_version(version)
    needed = {make_bundle(seed=2)[0], make_bundle(seed=3)[0]}
    wait_for(lambda: {folder.name for folder in (replica.folder / "bundles").iterdir()} == needed, 10, replica.log)


def test_bodies_over_the_limit_are_413_announced_or_not(replica: Serving) -> None:
    row = json.dumps(ROW)
    body = ('{"records": [' + ",".join(itertools.repeat(row, 10_000_000 // len(row))) + "]}").encode()

    def in_chunks() -> Iterator[bytes]:
        yield from (body[i : i + 65536] for i in range(0, len(body), 65536))

    for sent in (body, in_chunks()):
        connection = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=10)
        connection.request("POST", PATH, sent)
        response = connection.getresponse()
        assert response.status == 413
        assert "at most 1000000 bytes" in json.loads(response.read())["error"]["message"]
        connection.close()
    assert replica.answer(ROW)[0] == 1


def test_sigterm_ends_everything_and_a_second_supervisor_is_refused(replica: Serving) -> None:
    second = Serving(replica.home)
    second.start()
    assert second.process.wait(20) == 1
    assert "another serving supervisor runs here" in replica.log()
    worker = replica.worker_pid()
    assert replica.stop() == 0
    assert not Path(f"/proc/{worker}").exists()
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", replica.port)):
        pass
