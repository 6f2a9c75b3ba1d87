"""Evergreen's own way: triggers, gates and cooldown of the spec, one moment of simulated time after another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from evergreen.core.answering import Wait
from evergreen.core.errors import EvergreenError, RunEnds
from evergreen.core.gate_texts import name_of
from evergreen.core.judgement import REHEARSAL, REHEARSAL_LIMIT
from evergreen.core.outcome import ends_with
from evergreen.core.recalling import recalled
from evergreen.core.records import Candidate, Cause, GateResult, GateState, RequestState, TriggerRequest
from evergreen.core.replayed import Attempt
from evergreen.core.triggers import LEASE_TTL
from evergreen.fakes.runs import InMemoryRuns
from evergreen.replay.past_log import PastLog
from evergreen.steps.admit import admit
from evergreen.steps.judge import judge
from evergreen.steps.roll_out import roll_out
from evergreen.steps.serve_requests import serve_requests
from evergreen.steps.watch_recall import watch_recall

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.replay.world import World

LOOK = timedelta(hours=6)  # how often new data is looked for, and requests that wait are served
BY = "replay"
_CLOSED = (RequestState.SERVED, RequestState.SKIPPED)
_NOBODY_ASKS = Wait(seconds=0)


@dataclass
class Policy:
    """Runs in process what Airflow would start. `attempts` are the runs that got as far as a version, or failed."""

    world: World
    attempts: list[Attempt] = field(default_factory=list)
    _runs: InMemoryRuns = field(default_factory=InMemoryRuns)
    _known: datetime | None = None
    _log: PastLog | None = None  # where rules of the monitor may ask for a retrain

    def begin(self, now: datetime) -> Attempt:
        """The first version, as a person would ask for it; what became of it."""
        self._at(now)
        self._run(Cause.PERSON, f"{BY}__first", now)
        if self.world.spec.metric:
            self._log = PastLog(self.world, now)
        return self.attempts[0]

    def moment(self, now: datetime, *, scheduled: bool) -> None:
        """All that happens at this moment. What asks for a retrain comes before what serves the requests."""
        self._at(now)
        if scheduled:
            self._run(Cause.SCHEDULE, f"scheduled__{now.isoformat()}", now)
        self._watch_source(now)
        watch_recall(self.world.ledger, {self.world.spec.name: self.world.spec}, now=now)
        self._watch(now)
        self._serve(now)

    def versions(self, after: datetime, until: datetime) -> list[tuple[int, datetime]]:
        """The versions that answered in this time, each with the moment from which on it did, oldest first."""
        released = self.world.ledger.releases.history(self.world.spec.name)
        lived = [(release.version, release.released_at) for release in released if release.generation]
        before = [one for one in lived if one[1] <= after]
        return [*before[-1:], *(one for one in lived if after < one[1] < until)]

    def answers(self, rows: pl.DataFrame, after: datetime, until: datetime) -> tuple[np.ndarray, np.ndarray]:
        """What was answered to the rows of this time, each by the version that was live at its event time; which."""
        import numpy as np

        lived = self.versions(after, until)
        times = rows[self.world.spec.source.event_time]
        cuts = [0, *(int(times.search_sorted(since, side="left")) for _, since in lived[1:]), rows.height]
        pieces = [
            self.world.predict(version, rows[low:high])
            for (version, _), (low, high) in zip(lived, pairwise(cuts), strict=True)
        ]
        return np.concatenate(pieces), np.repeat([version for version, _ in lived], np.diff(cuts))

    def _at(self, now: datetime) -> None:
        self.world.source.now = now

    def _watch_source(self, now: datetime) -> None:
        """As the watcher does: a run for each newer watermark; admit counts the rows."""
        watermark = self.world.source.watermark()
        if self.world.spec.new_data and watermark and (self._known is None or watermark > self._known):
            self._known = watermark
            self._run(Cause.NEW_DATA, f"asset__{now.isoformat()}", now)

    def _watch(self, now: datetime) -> None:
        """A pass of the monitor, whose rules open requests of cause metric: the reconciler's part starts these."""
        log = self._log
        if log is not None and log.due(now):
            rows = self.world.source.seen(log.until, now)
            log.watch(rows, *self.answers(rows, log.until, now), now)

    def _serve(self, now: datetime) -> None:
        """What the reconciler starts: requests that were put off, or that have no run of their own."""
        world = self.world
        before = set(self._runs.started)
        serve_requests(world.ledger, {world.spec.name: world.spec}, self._runs, lambda _: world.source, now=now)
        for model, run_id in [run for run in self._runs.started if run not in before]:
            request = world.ledger.requests.for_run(model, run_id)
            assert request is not None, "the reconciler starts runs for requests"
            self._run(request.cause, run_id, now)

    # ------------------------------------------------------------ a run

    def _run(self, cause: Cause, run_id: str, now: datetime) -> None:
        """The seven steps; a run that ends early leaves its request as orchestration.task_run would."""
        world, detail = self.world, {"requested_by": BY} if cause is Cause.PERSON else {}
        with self._ending(cause, run_id, now):
            request = admit(world.spec, world.ledger, world.source, cause=cause, run_id=run_id, detail=detail, now=now)
            lease = world.ledger.leases.acquire(world.spec.name, request.id, LEASE_TTL, now)
            made = world.candidate(request, lease, now)
            again = recalled(made)
            trained = made.request_id == request.id and again is None
            candidate = judge(
                world.spec, world.ledger, world.tools.snapshots, world.tools.trainer, world.registry, world.tools.store,
                rehearse=_left_out, report=lambda _: None, request_id=request.id, version=made.version, lease=lease,
            )  # fmt: skip
            world.ledger.leases.release_all(request.id)
            refused = _refused_by(candidate)
            self.attempts.append(Attempt(now, cause, candidate.version, trained, not refused, refused, again))
            if ends := ends_with(candidate):
                raise RunEnds(ends, served=True)
            self._release(request, candidate, now)

    def _release(self, request: TriggerRequest, candidate: Candidate, now: datetime) -> None:
        roll_out(
            self.world.spec, self.world.ledger, self.world.registry, request_id=request.id, version=candidate.version,
            released_by=BY, reason="its gates passed", now=now, wait=_NOBODY_ASKS,
        )  # fmt: skip

    @contextmanager
    def _ending(self, cause: Cause, run_id: str, now: datetime) -> Iterator[None]:
        try:
            yield
        except RunEnds as end:
            self._close(run_id, RequestState.SERVED if end.served else RequestState.SKIPPED, end.reason, now)
        except EvergreenError as error:
            self._close(run_id, RequestState.FAILED, str(error), now)
            why = str(error).splitlines()[0]
            self.attempts.append(Attempt(now, cause, None, trained=False, released=False, refused_by=why))

    def _close(self, run_id: str, state: RequestState, reason: str, now: datetime) -> None:
        """End the run's request, unless it was put off and waits for another run."""
        ledger, model = self.world.ledger, self.world.spec.name
        request = ledger.requests.for_run(model, run_id)
        if request is not None and request.run_id == run_id:
            if request.state not in _CLOSED:
                ledger.requests.mark(request.id, now=now, state=state, reason=reason)
            ledger.leases.release_all(request.id)


def _left_out(*_: Any) -> tuple[GateResult, ...]:
    return (GateResult(REHEARSAL, REHEARSAL_LIMIT, GateState.PASSED, note="left out in a replay"),)


def _refused_by(candidate: Candidate) -> str:
    """'auc by carrier, mae': the gates that failed, else why it is not judged; empty where it passed."""
    verdict = candidate.verdict
    assert verdict is not None, "judge returns a verdict"
    names = dict.fromkeys(name_of(gate) for gate in verdict.gates if gate.state is GateState.FAILED)
    return "" if verdict.passed else ", ".join(names) or verdict.reason
