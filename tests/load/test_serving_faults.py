"""Serving as real processes, when a worker hangs, the disk is full, store and ledger go: the right version answers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.bundles import ROW, release
from tests.disks import fill, small_disk
from tests.serving_process import Serving, serving, wait_for

from evergreen.serving.pulse import HANGS_AFTER

pytestmark = pytest.mark.alone


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Serving]:
    """A replica that answers with version 1; its own folder is a disk of 8 MB where one can be mounted."""
    with small_disk(tmp_path / "serving", "8m"), serving(tmp_path) as started:
        release(started.ledger, started.store, version=1)
        started.start()
        started.await_version(1)
        yield started


def ready(replica: Serving) -> tuple[int, Any]:
    return replica.ask("GET", "/v2/health/ready")


def heartbeat(replica: Serving) -> Any:
    (alive,) = replica.ledger.replicas.alive("default", datetime.now(UTC) - timedelta(seconds=10))
    return alive


def test_a_worker_that_hangs_is_killed_started_again_and_counted(replica: Serving) -> None:
    expected, pid = replica.answer(ROW), replica.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    stopped = time.monotonic()
    status, found = replica.ask("POST", "/models/flight-delay/predict", {"records": [ROW]}, timeout=30)
    took = time.monotonic() - stopped
    assert (status, (found["version"], found["predictions"][0])) == (200, expected)
    assert HANGS_AFTER - 1.5 < took < HANGS_AFTER + 15  # its successor has libraries to import
    assert replica.worker_pid() != pid
    assert not Path(f"/proc/{pid}").exists()
    counted = 'evergreen_worker_restarts_total{reason="hung"} 1'
    wait_for(lambda: counted in replica.ask("GET", "/metrics")[1], 20, replica.log)
    assert f"worker 0 (process {pid}) hangs" in replica.log()


def test_a_full_disk_leaves_the_live_version_and_a_restart_goes_on(replica: Serving) -> None:
    expected = replica.answer(ROW)
    fill(filler := replica.folder / "filler")
    release(replica.ledger, replica.store, version=2)
    why = "flight-delay version 2 cannot be kept here, version 1 goes on answering."

    def told() -> bool:
        status, found = ready(replica)
        return status == 200 and why in str(found) and "No space left on device" in str(found)

    wait_for(told, 20, replica.log)
    wait_for(lambda: why in str(heartbeat(replica).reasons), 20, replica.log)
    assert (heartbeat(replica).versions, replica.answer(ROW)) == ({"flight-delay": 1}, expected)
    os.kill(replica.worker_pid(), signal.SIGKILL)
    wait_for(lambda: ready(replica)[0] == 200 and replica.answer(ROW) == expected, 20, replica.log)
    replica.stop()
    replica.start()
    wait_for(lambda: told() and replica.answer(ROW) == expected, 20, replica.log)
    wait_for(lambda: heartbeat(replica).versions == {"flight-delay": 1}, 20, replica.log)
    wait_for(lambda: len(list((replica.folder / "bundles").iterdir())) == 1, 20, replica.log)  # but while it tries
    filler.unlink()
    replica.await_version(2, seconds=15)
    wait_for(lambda: ready(replica) == (200, {"ready": True, "reasons": []}), 20, replica.log)
    assert replica.log().count("Traceback") == 0


def metric(replica: Serving, name: str) -> float:
    (found,) = re.findall(rf"^{name} (\S+)$", replica.ask("GET", "/metrics")[1], re.MULTILINE)
    return float(found)


def test_the_store_and_the_ledger_go_away_and_come_back(tmp_path: Path) -> None:
    """Answers go on as they were; readiness says why it is not whole, /metrics how much waits."""
    with serving(tmp_path, "--log-seconds", "1") as replica:
        release(replica.ledger, replica.store, version=1)
        replica.start()
        replica.await_version(1)
        expected = replica.answer(ROW)
        wait_for(lambda: metric(replica, "evergreen_log_shipped_rows_total") == 1, 20, replica.log)
        folders = [tmp_path / "store", tmp_path / "ledger.db"]
        for folder in folders:
            folder.rename(folder.with_suffix(".away"))
        (tmp_path / "ledger.db").mkdir()  # at once: whoever opens it next makes one
        (tmp_path / "store").write_text("no folder")
        assert replica.answer(ROW) == expected

        def told() -> bool:
            status, found = ready(replica)
            assert status == 200, found
            texts = str(found["reasons"])
            return "The store does not take the prediction log" in texts and "ledger does not answer" in texts

        wait_for(told, 20, replica.log)
        assert metric(replica, "evergreen_log_backlog_bytes") > 0
        assert metric(replica, "evergreen_log_lag_seconds") > 0
        assert metric(replica, "evergreen_reasons") == 2
        assert metric(replica, "evergreen_ready") == 1
        assert replica.answer(ROW) == expected
        (tmp_path / "store").unlink()
        (tmp_path / "ledger.db").rmdir()
        for folder in folders:
            folder.with_suffix(".away").rename(folder)
        wait_for(lambda: ready(replica) == (200, {"ready": True, "reasons": []}), 20, replica.log)
        wait_for(lambda: metric(replica, "evergreen_log_shipped_rows_total") == 3, 20, replica.log)
        assert metric(replica, "evergreen_log_backlog_bytes") == 0
