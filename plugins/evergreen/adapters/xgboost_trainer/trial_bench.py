"""Processes that fit trials, within a limit of memory each: one that is killed or holds too much costs its trial."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import psutil

from evergreen.adapters.xgboost_trainer.scratch import scratch
from evergreen.adapters.xgboost_trainer.trial_folds import Work
from evergreen.core.ports.tuning import Bench, FoldScore, TrialLost

if TYPE_CHECKING:
    from evergreen.core.metrics import Metric
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_tuning import Value
    from evergreen.core.tuning import TrialFold

# How often libgomp looks before a thread that waits for others sleeps. By its default (300,000) a fit takes ten times
# as long where others use the cores too; by OMP_WAIT_POLICY=PASSIVE (0), which this overrules, a small one twice.
SPIN = "2000"
LOOK = 0.1  # seconds between two looks at a process's memory
_MB = 1e6


class TrialBenches:
    """Implements core.ports.tuning.Benches; rows lie below `within` while their trials run."""

    def __init__(self, within: Path) -> None:
        self._within = within

    @contextmanager
    def open(
        self,
        spec: ModelSpec,
        rows: Iterable[pl.DataFrame],
        folds: Sequence[TrialFold],
        metric: Metric,
        *,
        workers: int,
        memory_mb: float,
    ) -> Iterator[Bench]:
        """See Benches."""
        threads = max(1, len(os.sched_getaffinity(0)) // workers)
        with scratch(self._within) as folder, ExitStack() as ends:
            work = Work(spec, folder, folds, metric, threads)
            processes = [ends.enter_context(_Worker(work, memory_mb)) for _ in range(workers)]
            _write(rows, folder)
            yield TrialBench(processes)


class TrialBench:
    """Implements core.ports.tuning.Bench."""

    def __init__(self, workers: Sequence[_Worker]) -> None:
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in workers:
            self._free.put(worker)
        self._tried = False

    def score(self, params: Mapping[str, Value], fold: int) -> FoldScore:
        """See Bench."""
        if not self._tried:  # not before: who opens this has other things to do while the processes import
            self._try_own()
        found = self._ask(dict(params), fold)
        assert isinstance(found, FoldScore)
        return found

    def _try_own(self) -> None:
        self._tried = True
        with suppress(TrialLost):  # of memory: the trial itself will tell
            self._ask(None, 0)

    def _ask(self, params: Mapping[str, Value] | None, fold: int) -> Any:
        worker = self._free.get()
        try:
            return worker.ask(params, fold)
        finally:
            self._free.put(worker)


class _Worker:
    """A process, and the next one where it is lost."""

    def __init__(self, work: Work, memory_mb: float) -> None:
        self._work, self._limit = work, memory_mb
        self._has_work = False

    def __enter__(self) -> _Worker:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, params: Mapping[str, Value] | None, fold: int) -> Any:
        """Its answer. Raises what it says went wrong, TrialLost where it is gone."""
        if self._process.poll() is not None:
            self._end()
            self._start()
        try:
            if not self._has_work:
                self._pipe.send(self._work)
                self._has_work = True
            self._pipe.send((params, fold))
            while not self._pipe.poll(LOOK):
                self._look()
            answer = self._pipe.recv()
        except (EOFError, OSError):
            code = self._process.wait()
            raise TrialLost(f"its process ended with {code}: killed, or out of memory") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _start(self) -> None:
        ours, theirs = Pipe()
        search = os.pathsep.join(path for path in sys.path if path)
        threads = str(self._work.threads)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.trial_worker", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env={
                    "GOMP_SPINCOUNT": SPIN,
                    **os.environ,
                    "PYTHONPATH": search,
                    "POLARS_MAX_THREADS": threads,
                    "OMP_NUM_THREADS": threads,
                },
            )
        self._pipe, self._has_work = ours, False

    def _look(self) -> None:
        with suppress(psutil.Error):
            memory = psutil.Process(self._process.pid).memory_info()
            held = (memory.rss - memory.shared) / _MB
            if held > self._limit:
                self._process.kill()
                self._process.wait()
                raise TrialLost(f"its process held {held:,.0f} MB of {self._limit:,.0f} MB, and was stopped")

    def _end(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.wait()


def _write(rows: Iterable[pl.DataFrame], folder: Path) -> None:
    for at, frame in enumerate(rows):
        frame.write_ipc(folder / f"{at:06}.arrow", compression="uncompressed")
