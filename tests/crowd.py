"""Many trigger requests at once, and a reconciler that is killed: each comes to its end exactly once.

The reconciler is a process of its own (this file, run as a program). What it starts is kept here, as Airflow would, and
threads are the runs: they admit their request and serve it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from multiprocessing.managers import BaseManager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import polars as pl

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "plugins"), str(ROOT / "tests")]

from evergreen.adapters.ledger import open_ledger  # noqa: E402 -- for the program that this file is, too
from evergreen.core.addresses import Addresses  # noqa: E402
from evergreen.core.errors import LeaseBusy, RunEnds  # noqa: E402
from evergreen.core.ports import Ledger, RunState  # noqa: E402
from evergreen.core.records import Cause, RequestState  # noqa: E402
from evergreen.core.spec import ModelSpec  # noqa: E402
from evergreen.fakes.registry import FakeRegistry  # noqa: E402
from evergreen.fakes.runs import InMemoryRuns  # noqa: E402
from evergreen.fakes.source import FakeSource  # noqa: E402
from evergreen.steps.admit import admit  # noqa: E402
from evergreen.steps.reconcile import Outside, Pace, reconcile  # noqa: E402
from records import WATERMARK, make_request_args, make_spec  # noqa: E402

CAUSES = (Cause.METRIC, Cause.UPSTREAM, Cause.PERSON, Cause.API, Cause.SCHEDULE, Cause.NEW_DATA)
WORKERS = 8
KEY = b"of this test"
PATIENCE = 240.0  # seconds


def spec_of(number: int) -> ModelSpec:
    """A model of the crowd: no cooldown, so that nothing waits for the clock."""
    return make_spec(name=f"crowd-{number}", cooldown="0s")


def source_of(spec: ModelSpec) -> FakeSource:
    """A source that does not change."""
    times = [WATERMARK - timedelta(hours=hours) for hours in range(100)]
    return FakeSource(pl.DataFrame({"at": times}, schema={"at": pl.Datetime("us", "UTC")}), spec.source)


@dataclass
class Airflow:
    """Runs that outlive the reconciler. `calls` counts the starts by run, `served` what each run served."""

    runs: InMemoryRuns = field(default_factory=InMemoryRuns)
    todo: Queue[tuple[str, str]] = field(default_factory=Queue)
    calls: Counter[str] = field(default_factory=Counter)
    served: Counter[str] = field(default_factory=Counter)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self, model: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """See Runs."""
        with self.lock:
            self.calls[run_id] += 1
            before = len(self.runs.started)
            self.runs.start(model, run_id, conf)
            if len(self.runs.started) > before:
                self.todo.put((model, run_id))

    def state(self, model: str, run_id: str) -> RunState | None:
        """See Runs."""
        with self.lock:
            return self.runs.state(model, run_id)

    def dismiss(self, model: str, run_id: str, reason: str) -> None:
        """See Runs."""

    def scheduler_heard_at(self) -> datetime | None:
        """See Runs."""
        return self.runs.scheduler_heard_at()

    def work(self, ledger: Ledger, specs: Mapping[str, ModelSpec], over: threading.Event) -> None:
        """Be one run after the other."""
        while not over.is_set():
            try:
                model, run_id = self.todo.get(timeout=0.05)
            except Empty:
                continue
            if not self._run(ledger, specs[model], run_id):
                self.todo.put((model, run_id))  # Airflow's retry

    def _run(self, ledger: Ledger, spec: ModelSpec, run_id: str) -> bool:
        """Whether the run has ended."""
        self._put(spec.name, run_id, RunState.RUNNING)
        now = datetime.now(UTC)
        try:
            request = admit(spec, ledger, source_of(spec), cause=Cause.API, run_id=run_id, detail={}, now=now)
        except LeaseBusy:
            return False
        except RunEnds:
            self._put(spec.name, run_id, RunState.SUCCESS)
            return True
        with self.lock:
            self.served[request.id] += 1
        ledger.requests.mark(request.id, now=now, state=RequestState.SERVED, step="roll_out", reason="done")
        ledger.leases.release(spec.name, request.id)
        self._put(spec.name, run_id, RunState.SUCCESS)
        return True

    def _put(self, model: str, run_id: str, state: RunState) -> None:
        with self.lock:
            self.runs.put(model, run_id, state)


def play(url: str, *, models: int, requests: int, kills: int) -> tuple[Ledger, Airflow, list[str]]:
    """Ask for so many retrains at once and kill the reconciler so often; the request ids, once all is over."""
    ledger, specs = open_ledger(url), {spec.name: spec for spec in map(spec_of, range(models))}
    airflow, over = Airflow(), threading.Event()
    with _serving(airflow) as port, ThreadPoolExecutor(WORKERS * 2) as pool:
        try:
            works = [pool.submit(airflow.work, ledger, specs, over) for _ in range(WORKERS)]
            asked = list(pool.map(lambda number: _ask(ledger, number, models), range(requests)))
            for kill in range(kills + 1):
                with _reconciler(url, port, models) as process:
                    share = requests * kill // (kills + 1)
                    _until(lambda: share < _closed(ledger, asked), process)  # noqa: B023 -- called at once
                    if kill == kills:
                        _until(lambda: _closed(ledger, asked) == requests, process)
        finally:
            over.set()
        for work in works:
            work.result()
    return ledger, airflow, asked


def check(ledger: Ledger, airflow: Airflow, asked: list[str]) -> None:
    """Each was served, or skipped with a reason, exactly once; no run was made twice, and none is left."""
    ended = [ledger.requests.get(request_id) for request_id in asked]
    assert len(set(asked)) == len(asked)
    states = Counter(request.state for request in ended)
    assert set(states) == {RequestState.SERVED, RequestState.SKIPPED}, states
    assert all(request.reason for request in ended)
    served = {request.id for request in ended if request.state is RequestState.SERVED}
    assert airflow.served == Counter(dict.fromkeys(served, 1))
    own_way = {request.id for request in ended if request.detail}
    assert own_way <= served, "nobody else does what they ask for"
    assert len(served) >= len(own_way) + len({request.model for request in ended})
    assert ledger.requests.unfinished() == []
    assert all(ledger.leases.get(request.model) is None for request in ended)


def _ask(ledger: Ledger, number: int, models: int) -> str:
    """The id of a request that waits; every fifth goes its own way, so that no other run has it done."""
    spec, cause = spec_of(number % models), CAUSES[number % len(CAUSES)]
    made = make_request_args(
        model=spec.name,
        source=spec.source.id,
        cause=cause,
        dedupe_key=f"crowd:{number}",
        run_id=None,
        detail={"dry_run": True} if number % 5 == 0 else {},
        now=datetime.now(UTC),
    )
    return ledger.requests.open(**made).id


def _closed(ledger: Ledger, asked: list[str]) -> int:
    return len(asked) - len({request.id for request in ledger.requests.unfinished()} & set(asked))


def _until(true: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert process.poll() is None, "the reconciler died by itself"
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)


@contextmanager
def _serving(airflow: Airflow) -> Iterator[int]:
    class Manager(BaseManager):
        """Hands the runs to other processes."""

    Manager.register("runs", lambda: airflow, exposed=("start", "state", "dismiss", "scheduler_heard_at"))
    server = Manager(("127.0.0.1", 0), KEY).get_server()

    def serve() -> None:
        with suppress(SystemExit):  # its way to end
            server.serve_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.address[1]
    finally:
        server.stop_event.set()
        thread.join()
        server.listener.close()


@contextmanager
def _reconciler(url: str, port: int, models: int) -> Iterator[subprocess.Popen[bytes]]:
    """A reconciler at work, killed with -9 at the end, whatever it is at."""
    with subprocess.Popen([sys.executable, __file__, url, str(port), str(models)], cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def main(url: str, port: str, models: str) -> None:
    """Reconcile for ever."""

    class Manager(BaseManager):
        """Reaches the runs."""

    Manager.register("runs")
    manager = Manager(("127.0.0.1", int(port)), KEY)
    manager.connect()
    specs = {spec.name: spec for spec in map(spec_of, range(int(models)))}
    runs = manager.runs()  # type: ignore[attr-defined]
    outside = Outside(specs, runs, FakeRegistry(), source_of, Addresses.under("http://airflow"))
    ledger, pace = open_ledger(url), Pace()
    while True:
        report = reconcile(ledger, outside, pace, lambda: datetime.now(UTC))
        assert report.troubles == {}, report.troubles
        time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
