"""Airflow, people and the reconciler around one ledger, played step by step; any of them may be killed at any call.

Real: the ledger, admit, the release, the reconciler's parts. A version is made from a train key alone; what the gates
say of it is up to the test.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from evergreen.core import recalling
from evergreen.core.answering import Wait
from evergreen.core.approval import AUTO, decide, must_explain, outcome, overridden, what_changed, why_ask
from evergreen.core.champion import reign_of
from evergreen.core.errors import EvergreenError, LeaseBusy, LeaseLost, RunEnds
from evergreen.core.judged_anew import asked_anew, judged_for, taken_up
from evergreen.core.outcome import ends_with, on_trial, what_became
from evergreen.core.ports import Ledger, RunState
from evergreen.core.records import (
    CHALLENGER,
    ENDED,
    LATENCY_BOUNDS,
    PREDICTION_BINS,
    REFUSED,
    Approval,
    ApprovalState,
    ArmCount,
    Candidate,
    CandidateState,
    Cause,
    Release,
    RequestState,
    TriggerRequest,
    Trip,
    TripKind,
)
from evergreen.core.requested import forced, is_recall
from evergreen.core.triggers import LEASE_TTL
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.runs import InMemoryRuns
from evergreen.steps.admit import admit
from evergreen.steps.advance_rollouts import CLOSED, advance_rollouts
from evergreen.steps.overtaken import judge_anew, supersede
from evergreen.steps.promote import promote
from evergreen.steps.roll_out import over, roll_out
from evergreen.steps.serve_requests import serve_requests
from evergreen.steps.tend_approvals import tend_approvals
from evergreen.steps.watch_sources import watch_sources
from judging import Killed, Mortal
from records import NOW, WATERMARK, make_candidate, make_spec, make_verdict

# The models: of the first a person lets every version through, of the others nobody need; of the last each is on trial.
ASKING, FREE, TRIED = "asking", "free", "tried"
ROLLOUT = {"shadow": "30m", "canary": [10, 50], "step": "10m", "bake": "30m", "min_requests": 10}
SPECS = {
    ASKING: make_spec(name=ASKING, cooldown="6h", approval={"mode": "manual", "timeout": "1d"}),
    FREE: make_spec(name=FREE, cooldown="6h", approval={"mode": "auto"}),
    TRIED: make_spec(name=TRIED, cooldown="6h", approval={"mode": "auto"}, rollout=ROLLOUT),
}
TASKS = ("admit", "train", "judge", "approve", "roll_out")
UNDER_LEASE = ("train", "judge")
PROMOTER = "eve"  # who promotes, and does nothing else


@dataclass
class Tide:
    """A source whose newest row is as new as the test says; new rows are always enough."""

    newest: datetime = WATERMARK

    def watermark(self) -> datetime:
        return self.newest

    def count(self, after: datetime | None, until: datetime) -> int:
        return 0 if after and after >= until else 5


@dataclass
class Run:
    """An Airflow run: `handed` is what its tasks returned, `over` whether it has ended."""

    model: str
    run_id: str
    cause: Cause = Cause.SCHEDULE
    detail: dict[str, Any] = field(default_factory=dict)
    handed: dict[str, Any] = field(default_factory=dict)
    over: bool = False

    @property
    def task(self) -> str:
        """The task that comes next."""
        return TASKS[len(self.handed)]


class World:
    """One ledger and all who work on it. `gates` is what they say of versions that are judged from now on."""

    def __init__(self, ledger: Ledger) -> None:
        self.own = ledger  # never killed: the test looks through it
        self.now, self.source, self.gates = NOW, Tide(), True
        self.registry, self.airflow = FakeRegistry(), InMemoryRuns()
        self.runs: dict[tuple[str, str], Run] = {}
        self.admitted: dict[str, set[str]] = defaultdict(set)  # runs that were admitted, by request
        self.reopened: set[tuple[str, int]] = set()  # versions that a person wanted after they were refused

    # ------------------------------------------------------------ killed

    @contextmanager
    def process(self, lives: int) -> Iterator[Ledger]:
        """A process's ledger; it dies before its call number `lives` (0: never), which nobody outside sees."""
        countdown = [lives]
        with suppress(Killed):
            yield Ledger(**{name: Mortal(part, countdown) for name, part in vars(self.own).items()})

    # ------------------------------------------------------------ Airflow

    def start(self, model: str, cause: Cause, detail: dict[str, Any]) -> Run:
        """A run that nothing in the ledger asked for."""
        run_id = f"{cause}-{len(self.runs)}"
        self.airflow.put(model, run_id, RunState.RUNNING)
        return self.runs.setdefault((model, run_id), Run(model, run_id, cause, detail))

    def at_work(self) -> list[Run]:
        """The runs that have not ended, those too that the reconciler has started meanwhile.

        One that Airflow lost may be started anew under its own id: its request was not marked before the kill.
        """
        for model, run_id in self.airflow.started:
            known = self.runs.get((model, run_id))
            if known is None or (known.over and self.airflow.state(model, run_id) is RunState.QUEUED):
                self.runs[model, run_id] = Run(model, run_id)
        return [run for run in self.runs.values() if not run.over]

    def lose(self, run: Run) -> None:
        """Airflow forgets it."""
        run.over = True
        self.airflow.put(run.model, run.run_id, None)

    def go_on(self, run: Run, lives: int = 0) -> None:
        """The run's next task, as orchestration.task_run does it; killed or told to wait, it comes again."""
        with self.process(lives) as ledger:
            task = run.task
            try:
                self._begin(ledger, run, task)
                handed = getattr(self, f"_{task}")(ledger, run)
            except (LeaseBusy, LeaseLost) as busy:
                self._wait(ledger, run, task, f"waiting: {busy}")
            except RunEnds as end:
                self._close(ledger, run, task, RequestState.SERVED if end.served else RequestState.SKIPPED, end.reason)
            except EvergreenError as error:
                self._close(ledger, run, task, RequestState.FAILED, str(error))
            else:
                if handed is not None:
                    run.handed[task] = handed
                    self._end(run, over=task == TASKS[-1])

    def _begin(self, ledger: Ledger, run: Run, task: str) -> None:
        request = self._request(ledger, run)
        if request is None or request.state in CLOSED or task == "admit":
            return
        if task in UNDER_LEASE:
            ledger.leases.acquire(run.model, request.id, LEASE_TTL, self.now)
        ledger.requests.mark(request.id, now=self.now, state=RequestState.CLAIMED, step=task, reason="")

    def _wait(self, ledger: Ledger, run: Run, task: str, why: str) -> None:
        if request := self._request(ledger, run):
            ledger.requests.mark(request.id, now=self.now, step=task, reason=why)

    def _close(self, ledger: Ledger, run: Run, task: str, state: RequestState, why: str) -> None:
        if request := self._request(ledger, run):
            if request.state not in CLOSED:
                ledger.requests.mark(request.id, now=self.now, state=state, step=task, reason=why)
            ledger.leases.release(run.model, request.id)
        self._end(run, over=True)

    def _end(self, run: Run, *, over: bool) -> None:
        run.over = over
        self.airflow.put(run.model, run.run_id, RunState.SUCCESS if over else RunState.RUNNING)

    def _request(self, ledger: Ledger, run: Run) -> TriggerRequest | None:
        found = ledger.requests.for_run(run.model, run.run_id)
        return found if found and found.run_id == run.run_id else None

    # ------------------------------------------------------------ tasks

    def _admit(self, ledger: Ledger, run: Run) -> str:
        asked = {"cause": run.cause, "run_id": run.run_id, "detail": run.detail, "now": self.now}
        request = admit(SPECS[run.model], ledger, self.source, **asked)  # type: ignore[arg-type]
        self.admitted[request.id].add(run.run_id)
        return request.id

    def _train(self, ledger: Ledger, run: Run) -> int:
        """Stands for pull, validate and train: the same data is the same version."""
        request, lease = ledger.requests.get(run.handed["admit"]), ledger.leases.get(run.model)
        known = taken_up(ledger, request)
        if is_recall(request):
            return self._recall(ledger, request)
        wanted = known is not None and not judged_for(known, request.id)
        if known is None:
            key = f"{run.model}-{request.as_of:%Y%m%dT%H%M}"
            known = ledger.models.by_train_key(run.model, key)
            wanted = forced(request) and known is not None and not judged_for(known, request.id)
        if known is None:
            fit = self.registry.start_run(run.model, key, {})
            version = self.registry.register(run.model, fit, {}, {"evergreen.train_key": key})
            told = {"request_id": request.id, "train_key": key, "mlflow_run": fit, "created_at": self.now}
            return ledger.models.add_candidate(make_candidate(run.model, version, **told), lease=lease).version
        if known.state in REFUSED and wanted:
            self.reopened.add((run.model, known.version))
            ledger.models.reopen(run.model, known.version)
        elif not judged_for(known, request.id) and (known.state in ENDED or on_trial(ledger, known)):
            raise RunEnds(f"version {known.version} {what_became(ledger, known)}", served=True)
        return known.version

    def _recall(self, ledger: Ledger, request: TriggerRequest) -> int:
        """Stands for train of a recall: the oldest kept version that is not the champion answers again."""
        model, champion, key = request.model, reign_of(ledger, request.model).candidate, recalling.train_key(request.id)
        kept = recalling.kept(ledger.models.candidates(model), 10, champion)
        own = recalling.fitted(ledger.models, champion).version if champion else 0
        others = [one for one in reversed(kept) if one.version != own]
        known = ledger.models.by_train_key(model, key)
        if known is None and not others:
            raise RunEnds("nothing to recall", served=True)
        if known is None:
            fit = self.registry.start_run(model, key, {})
            version = self.registry.register(model, fit, {}, {"evergreen.train_key": key})
            made_with = {recalling.RECALLS: str(others[0].version), recalling.BECAUSE: "best"}
            told = {"request_id": request.id, "train_key": key, "mlflow_run": fit, "created_at": self.now}
            made = make_candidate(model, version, bundle=others[0].bundle, made_with=made_with, **told)
            known = ledger.models.add_candidate(made, lease=ledger.leases.get(model))
        return known.version

    def _judge(self, ledger: Ledger, run: Run) -> int:
        request, candidate = ledger.requests.get(run.handed["admit"]), self._candidate(ledger, run)
        lease, waiting = ledger.leases.get(run.model), (CandidateState.PASSED, CandidateState.TO_OVERRIDE)
        if candidate.state not in ENDED and not (candidate.state in waiting and judged_for(candidate, request.id)):
            generation = ledger.releases.champion(run.model).generation
            told = {"reason": f"against generation {generation}", "request_id": request.id}
            verdict, anew = make_verdict(passed=self.gates, **told), asked_anew(request)
            refused = CandidateState.TO_OVERRIDE if anew and anew.override else CandidateState.REJECTED
            state = CandidateState.PASSED if self.gates else refused
            found = {"verdict": verdict, "state": state, "generation_seen": generation, "lease": lease}
            candidate = ledger.models.judge(run.model, candidate.version, **found)  # type: ignore[arg-type]
        if ends := ends_with(candidate):
            raise RunEnds(ends, served=True)
        ledger.leases.release(run.model, request.id)
        return candidate.version

    def _approve(self, ledger: Ledger, run: Run) -> str | None:
        """Who lets it through; none while a person is asked."""
        asked = self._question(ledger, run)
        if asked is None:
            return self._ask(ledger, run)
        if asked.state is ApprovalState.OPEN:
            return None
        if asked.state is ApprovalState.APPROVED:
            return str(asked.answered_by)
        changed = self._changed(ledger, asked) if asked.state is ApprovalState.VOID else ""
        again = self._anew(ledger, run, changed) if changed else None
        raise RunEnds(outcome(asked, again), served=True)

    def _ask(self, ledger: Ledger, run: Run) -> str | None:
        candidate, champion = self._candidate(ledger, run), ledger.releases.champion(run.model)
        if candidate.state is CandidateState.RELEASED:
            return AUTO
        if candidate.state not in (CandidateState.PASSED, CandidateState.TO_OVERRIDE):
            raise RunEnds(f"it is {candidate.state}", served=True)
        if champion.generation != candidate.generation_seen:
            self._anew(ledger, run, "the champion has changed")
            raise RunEnds("nobody is asked, the champion has changed", served=True)
        verdict, hold = candidate.verdict, ledger.holds.applying(run.model)
        assert verdict is not None
        if not why_ask(SPECS[run.model], verdict, hold, has_champion=champion.release_id is not None):
            supersede(ledger, run.model, self.now, let_through=candidate.version)
            return AUTO
        about = {"request_id": run.handed["admit"], "run_id": run.run_id, "overrides": overridden(verdict)}
        until = self.now + SPECS[run.model].approval.timeout
        ledger.approvals.ask(candidate, expires_at=until, now=self.now, **about)  # type: ignore[arg-type]
        supersede(ledger, run.model, self.now)
        return None

    def _roll_out(self, ledger: Ledger, run: Run) -> str | None:
        """The release's id; none while it is on trial, or waits for another's trial: then the task is deferred."""
        about = {"request_id": run.handed["admit"], "version": run.handed["train"], "reason": "as approved"}
        who = {"released_by": run.handed["approve"], "now": self.now, "wait": Wait(seconds=0)}
        release = roll_out(SPECS[run.model], ledger, self.registry, **about, **who)  # type: ignore[arg-type]
        return release.id if over(release) else None

    def _candidate(self, ledger: Ledger, run: Run) -> Candidate:
        return ledger.models.candidate(run.model, run.handed["train"])

    def _question(self, ledger: Ledger, run: Run) -> Approval | None:
        history = reversed(ledger.approvals.history(run.model))
        return next((asked for asked in history if asked.run_id == run.run_id), None)

    def _changed(self, ledger: Ledger, asked: Approval) -> str:
        candidate, hold = ledger.models.candidate(asked.model, asked.version), ledger.holds.applying(asked.model)
        return what_changed(asked, candidate, ledger.releases.champion(asked.model), hold)

    def _anew(self, ledger: Ledger, run: Run, because: str) -> TriggerRequest | None:
        about = {"request_id": run.handed["admit"], "because": because, "now": self.now}
        return judge_anew(ledger, run.model, run.handed["train"], **about)  # type: ignore[arg-type]

    # ------------------------------------------------------------ people and the reconciler

    def answer(self, asked: Approval, *, approve: bool, by: str | None, lives: int = 0) -> None:
        """A person's answer, or with `by` none the timeout, as the approval's operator keeps it."""
        with self.process(lives) as ledger:
            candidate, hold = ledger.models.candidate(asked.model, asked.version), ledger.holds.applying(asked.model)
            assert candidate.verdict is not None
            explain, changed = must_explain(candidate.verdict, hold), self._changed(ledger, asked)
            found = decide(approve=approve, by=by, reason="as told", explain=explain, changed=changed)
            ledger.approvals.answer(asked.id, state=found.state, by=found.by, reason=found.why, now=self.now)

    def roll_back(self, candidate: Candidate, act: str, lives: int = 0) -> None:
        """A person goes back to it; what is refused is refused."""
        seen = self.own.releases.champion(candidate.model).generation
        told = {"seen": seen, "pool": "default", "by": "ada", "reason": "wrong fares", "act": act, "now": self.now}
        with self.process(lives) as ledger:
            try:
                ledger.releases.roll_back(candidate, **told)  # type: ignore[arg-type]
            except EvergreenError:
                return
            self.reopened.add((candidate.model, candidate.version))

    def promote(self, model: str, lives: int = 0) -> None:
        """A person does not wait for the end of a trial; what is refused is refused."""
        with self.process(lives) as ledger, suppress(EvergreenError):
            promote(ledger, model, by=PROMOTER, reason="it looks well", now=self.now)

    def count(self, release: Release, requests: int, faults: int = 0) -> None:
        """Replicas have counted so many requests to it in its stage, one of them since it started anew."""
        boot = f"boot-{len(self.own.trials.counts(release.id))}"
        latency, predictions = (requests, *[0] * len(LATENCY_BOUNDS)), (requests, *[0] * (PREDICTION_BINS - 1))
        told = (requests, faults, latency, predictions)
        self.own.trials.count([ArmCount(release.id, release.stage, CHALLENGER, "replica-1", boot, *told)])

    def trip(self, release: Release) -> None:
        """Its guard takes it off."""
        self.own.trials.trip(Trip(release.id, "replica-1", TripKind.FAULTS, "5 of 5 requests failed", self.now))

    def reconcile(self, lives: int = 0) -> None:
        """One pass, in a process of its own that remembers nothing; where one part fails the next goes on."""
        passes: list[Callable[[Ledger], object]] = [
            lambda ledger: serve_requests(ledger, SPECS, self.airflow, lambda _: self.source, now=self.now),
            lambda ledger: watch_sources(ledger, SPECS, lambda _: self.source, now=self.now, seen=dict(self._seen)),
            lambda ledger: advance_rollouts(ledger, now=self.now),
            lambda ledger: tend_approvals(ledger, SPECS, self.airflow, now=self.now, page=lambda *run: "/".join(run)),
        ]
        with self.process(lives) as ledger:
            for act in passes:
                act(ledger)

    @property
    def _seen(self) -> dict[str, tuple[datetime, datetime]]:
        """A pass of long ago has seen what is there."""
        return {spec.source.id: (self.source.newest, self.now - timedelta(days=1)) for spec in SPECS.values()}
