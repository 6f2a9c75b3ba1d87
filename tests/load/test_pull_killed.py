"""A pull that is killed at any moment: its retry reads what is missing, and the snapshot is the same."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from tests.data import NOW, START, make_rows, write_sqlite

from evergreen.adapters.file_store import FileStore
from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.parquet_snapshots import ParquetSnapshots
from evergreen.core.records import Cause, RequestState

DAYS, PER_DAY = 24, 1440
ENDS = START + timedelta(days=DAYS, microseconds=-1)
ROWS = DAYS * PER_DAY
PULL = """
import json, sys
from evergreen.adapters.file_store import FileStore
from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.parquet_snapshots import ParquetSnapshots
from evergreen.adapters.sql_source import SqlSource
from evergreen.steps import read_days
from evergreen.steps.pull import pull
from tests.data import make_spec

read_days.AT_ONCE, read_days.REMEMBER = 1, 0.0  # a day at a time
folder, url, request_id = sys.argv[1:]
read = 0

class Source(SqlSource):
    def read(self, *asked, **named):
        global read
        for chunk in super().read(*asked, **named):
            read += chunk.height
            yield chunk

class Store(FileStore):
    def put(self, key, data):
        super().put(key, data)
        if key.startswith("snapshots/"):
            print(key, flush=True)
            sys.stdin.readline()  # waits for leave where the test gives it part by part

spec = make_spec(window={"train": "21d", "holdout": {"length": "2d", "min_rows": 10}})
store, ledger = Store(f"{folder}/store"), open_ledger(f"sqlite:///{folder}/ledger.db")
source = Source(url, spec.source, chunk_rows=500)
made = pull(spec, ledger, source, ParquetSnapshots(store), store, request_id=request_id, lease=None)
print(json.dumps({"id": made.id, "rows": made.rows, "read": read}))
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_sqlite(tmp_path_factory.mktemp("source") / "w.db", make_rows(DAYS + 1, PER_DAY))


def started(folder: Path, url: str, leave: int | None = None) -> subprocess.Popen[str]:
    """A process that pulls for the request of this folder; it tells of each part that it has written.

    It waits once it has written more parts than it has leave for, if that is given.
    """
    folder.mkdir(exist_ok=True)
    request = open_ledger(f"sqlite:///{folder / 'ledger.db'}").requests.open(
        model="flights", source="s", cause=Cause.PERSON, dedupe_key="one", run_id="run",
        watermark=ENDS + timedelta(days=1), as_of=ENDS, detail={}, now=NOW,
    )  # fmt: skip
    open_ledger(f"sqlite:///{folder / 'ledger.db'}").requests.mark(request.id, now=NOW, state=RequestState.CLAIMED)
    command = [sys.executable, "-c", PULL, str(folder), url, request.id]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    waits = subprocess.DEVNULL if leave is None else subprocess.PIPE
    process = subprocess.Popen(command, stdin=waits, stdout=subprocess.PIPE, text=True, env=environment)
    if process.stdin:
        process.stdin.write("\n" * (leave or 0))
        process.stdin.flush()
    return process


def ended(process: subprocess.Popen[str]) -> dict[str, str | int]:
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    made: dict[str, str | int] = json.loads(told.splitlines()[-1])
    return made


def test_a_kill_at_any_moment_costs_only_what_was_not_written(tmp_path: Path, url: str) -> None:
    unharmed = ended(started(tmp_path / "unharmed", url))
    assert unharmed["read"] == ROWS
    whole = FileStore(str(tmp_path / "unharmed" / "store"))
    chance = random.Random(8)
    for number in range(5):
        folder = tmp_path / str(number)
        parts = chance.randrange(3, DAYS - 3)
        process = started(folder, url, leave=parts + 2)  # however late this test comes, it is not done by then
        for _ in range(parts):
            assert process.stdout is not None
            assert process.stdout.readline()
        time.sleep(chance.uniform(0, 0.02))  # somewhere in the next parts: the moment, not something that is awaited
        process.kill()
        process.communicate()
        assert process.returncode < 0, "it was done before it was killed"
        store = FileStore(str(folder / "store"))
        for key in store.keys("snapshots/"):  # those too that nobody remembers: their retry would take them as they are
            assert store.get(key) == whole.get(key), f"{key} is written by half"
        for part in open_ledger(f"sqlite:///{folder / 'ledger.db'}").pulled_days.of("flights"):
            assert part.part is not None
            assert ParquetSnapshots(store).read([part.part]).height == part.rows  # with the hash that is recorded
        retried = ended(started(folder, url))
        assert retried["id"] == unharmed["id"]
        assert 0 < int(retried["read"]) < ROWS
        assert {key: store.get(key) for key in store.keys("")} == {key: whole.get(key) for key in whole.keys("")}
