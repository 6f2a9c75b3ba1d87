"""Triggers, approvals, promotions, rollbacks, holds, kills and clocks in any order: what is true throughout."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from evergreen.adapters.ledger import open_ledger
from evergreen.core.errors import EvergreenError
from evergreen.core.ports import Ledger
from evergreen.core.recalling import recalled
from evergreen.core.records import (
    FLEET,
    ON_TRIAL,
    REFUSED,
    Approval,
    ApprovalState,
    Cause,
    Release,
    ReleaseKind,
    RequestState,
    RolloutState,
)
from evergreen.core.spec_triggers import Recall, Trigger
from evergreen.core.trial import stages
from evergreen.core.verdict_json import digest
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.steps.abort import abort
from evergreen.steps.watch_recall import watch_recall
from trusting import ASKING, FREE, PROMOTER, SPECS, TASKS, TRIED, Run, World

RECALLING = {
    name: spec.model_copy(update={"triggers": [Trigger(recall=Recall(every=timedelta(hours=6)))]})
    for name, spec in SPECS.items()
}
MODELS = st.sampled_from([ASKING, FREE, TRIED])
LIVES = st.one_of(st.just(0), st.integers(1, 15))  # a process is killed before its call of this number, or never
PICK = st.integers(0, 99)
NUMBER_OF_TASKS = st.sampled_from([1, 2, 3, 4, 4, 5, 5])
CAUSES = st.sampled_from([Cause.SCHEDULE, Cause.NEW_DATA, Cause.PERSON, Cause.API])
ENDED = (RequestState.SERVED, RequestState.SKIPPED, RequestState.EXPIRED)
# Passes, an hour apart, after which nothing may be left to do: versions go on trial one after another, in four passes,
# and those that wait are judged anew each time.
QUIET = 250


class Trust(RuleBasedStateMachine):
    """On the in-memory ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.open())
        self.kept: dict[str, list[Any]] = {}
        self.requests: dict[str, RequestState] = {}
        self.refused: set[tuple[str, int]] = set()
        self.live: set[str] = set()
        self.answered: list[Approval] = []
        self.latest = self.world.now

    def open(self) -> Ledger:
        return in_memory_ledger()

    @property
    def ledger(self) -> Ledger:
        """As it is, whoever was killed."""
        return self.world.own

    # ------------------------------------------------------------ triggers and their runs

    @initialize()
    def each_model_has_two_versions(self) -> None:
        for model in (*SPECS, *SPECS):
            self.a_run_starts(model, Cause.PERSON, force=False, hours=30, gates=True, tasks=5, lives=0)
            if self.ledger.approvals.open_ones():
                self.somebody_answers(-1, approve=True, by="ada", lives=0)

    @rule(
        model=MODELS,
        cause=CAUSES,
        force=st.booleans(),
        hours=st.sampled_from([0, 12, 12]),
        gates=st.booleans(),
        tasks=NUMBER_OF_TASKS,
        lives=LIVES,
    )
    def a_run_starts(
        self, model: str, cause: Cause, force: bool, hours: int, gates: bool, tasks: int, lives: int
    ) -> None:
        """After so many hours, and as much new data."""
        by_hand, self.world.gates = cause in (Cause.PERSON, Cause.API), gates
        self.world.source.newest += timedelta(hours=hours)
        self.the_clock_jumps(60 * hours)
        self.work(self.world.start(model, cause, {"user": "ada", "force": force} if by_hand else {}), tasks, lives)

    @rule(model=MODELS)
    def a_version_waits_for_its_release(self, model: str) -> None:
        """A person has let it through, or nobody need: what happens before its run goes on?"""
        self.a_run_starts(model, Cause.PERSON, force=False, hours=12, gates=True, tasks=4, lives=0)
        if self.ledger.approvals.open_ones():
            asked = self.ledger.approvals.open_ones()[-1]
            self.world.answer(asked, approve=True, by="ada")

    @rule(model=MODELS, force=st.booleans(), gates=st.booleans())
    def a_person_tries_the_same_data_again(self, model: str, force: bool, gates: bool) -> None:
        self.a_run_starts(model, Cause.PERSON, force=force, hours=0, gates=gates, tasks=5, lives=0)

    def work(self, run: Run, tasks: int = len(TASKS), lives: int = 0) -> None:
        """As far as it comes, each task a process of its own: one that is killed is not tried again here."""
        for _ in range(tasks):
            if not run.over:
                self.world.go_on(run, lives)

    @rule(model=MODELS)
    def a_metric_moves(self, model: str) -> None:
        told = {"metric": "drift.psi.max", "value": 0.3, "threshold": 0.2, "direction": "above"}
        number = len(self.ledger.requests.latest(model, limit=999))
        about = {"dedupe_key": f"metric:{number}", "run_id": None, "watermark": None, "as_of": None, "detail": told}
        spec = SPECS[model]
        self.ledger.requests.open(
            model=model, source=spec.source.id, cause=Cause.METRIC, now=self.world.now, **about  # type: ignore[arg-type]
        )  # fmt: skip

    @rule(model=MODELS, gates=st.booleans())
    def a_recall_is_due(self, model: str, gates: bool) -> None:
        self.world.gates = gates
        watch_recall(self.ledger, {model: RECALLING[model]}, now=self.world.now)

    @precondition(lambda self: self.world.at_work())
    @rule(pick=PICK, tasks=NUMBER_OF_TASKS, lives=LIVES)
    def a_run_goes_on(self, pick: int, tasks: int, lives: int) -> None:
        at_work = self.world.at_work()
        self.work(at_work[pick % len(at_work)], tasks, lives)

    @precondition(lambda self: self.world.at_work())
    @rule(tasks=NUMBER_OF_TASKS, lives=LIVES)
    def all_runs_go_on(self, tasks: int, lives: int) -> None:
        for run in self.world.at_work():
            self.work(run, tasks, lives)

    @precondition(lambda self: self.world.at_work())
    @rule(pick=PICK)
    def airflow_loses_a_run(self, pick: int) -> None:
        at_work = self.world.at_work()
        self.world.lose(at_work[pick % len(at_work)])

    @rule(lives=LIVES)
    def the_reconciler_passes(self, lives: int) -> None:
        self.world.reconcile(lives)

    # ------------------------------------------------------------ people

    @precondition(lambda self: self.ledger.approvals.history())
    @rule(pick=PICK, approve=st.booleans(), by=st.sampled_from(["ada", "ben", None]), lives=LIVES)
    def somebody_answers(self, pick: int, approve: bool, by: str | None, lives: int) -> None:
        """A question that waits, or late, one that has its answer."""
        asked = self.ledger.approvals.open_ones() or self.ledger.approvals.history()
        this = asked[pick % len(asked)]
        self.world.answer(this, approve=approve, by=by, lives=lives)
        self.work(self.world.runs[this.model, this.run_id], lives=lives)

    @precondition(lambda self: self.refused)
    @rule(pick=PICK)
    def a_person_overrides(self, pick: int) -> None:
        model, version = sorted(self.refused)[pick % len(self.refused)]
        self.work(self.world.start(model, Cause.PERSON, {"user": "ada", "override": version, "reason": "outage"}))

    @precondition(lambda self: self.ledger.releases.history())
    @rule(pick=PICK, lives=LIVES)
    def a_person_rolls_back(self, pick: int, lives: int) -> None:
        history = self.ledger.releases.history()
        to = history[pick % len(history)]
        self.world.roll_back(self.ledger.models.candidate(to.model, to.version), f"act-{pick}", lives)

    @rule(model=MODELS, lives=LIVES)
    def a_person_aborts(self, model: str, lives: int) -> None:
        with self.world.process(lives) as ledger:
            try:
                abort(ledger, model, by="ada", reason="wrong fares", now=self.world.now)
            except EvergreenError:
                return

    # ------------------------------------------------------------ trials

    @precondition(lambda self: self.ledger.releases.on_trial())
    @rule(pick=PICK, requests=st.sampled_from([4, 20, 20]), faults=st.sampled_from([0, 0, 0, 0, 1]))
    def callers_ask_what_is_on_trial(self, pick: int, requests: int, faults: int) -> None:
        """One fault of 20 is more than the plan allows; of 4 nobody knows yet."""
        tried = self.ledger.releases.on_trial()
        self.world.count(tried[pick % len(tried)], requests, faults)

    @rule(times=st.integers(1, 6), lives=LIVES)
    def a_trial_goes_on(self, times: int, lives: int) -> None:
        """With what it needs: its time passes, and callers ask."""
        for _ in range(times):
            for release in self.ledger.releases.on_trial():
                self.world.count(release, 20)
            self.the_clock_jumps(31)
            self.world.reconcile(lives)

    @precondition(lambda self: self.ledger.releases.on_trial())
    @rule(pick=PICK)
    def a_guard_trips(self, pick: int) -> None:
        tried = self.ledger.releases.on_trial()
        self.world.trip(tried[pick % len(tried)])

    @rule(lives=LIVES)
    def a_person_promotes(self, lives: int) -> None:
        self.world.promote(TRIED, lives)

    @rule(model=st.sampled_from([ASKING, FREE, TRIED, FLEET]), held=st.booleans())
    def a_hold_is_placed_or_lifted(self, model: str, held: bool) -> None:
        change = self.ledger.holds.place if held else self.ledger.holds.lift
        change(model, by="ada", reason="holiday", now=self.world.now)

    @rule(minutes=st.sampled_from([-3000, -90, -5, 5, 90, 600, 3000, 12_000]))
    def the_clock_jumps(self, minutes: int) -> None:
        self.world.now += timedelta(minutes=minutes)
        self.latest = max(self.latest, self.world.now)

    # ------------------------------------------------------------ what is true throughout

    @invariant()
    def one_release_of_a_model_is_live(self) -> None:
        for model in SPECS:
            history, champion = self.ledger.releases.history(model), self.ledger.releases.champion(model)
            live = [made.id for made in history if made.state is RolloutState.LIVE]
            assert live == ([champion.release_id] if champion.release_id else []), history
            assert [made.generation for made in history] == list(range(1, champion.generation + 1))

    @invariant()
    def at_most_one_release_of_a_model_is_on_trial(self) -> None:
        tried = [release.model for release in self.ledger.releases.on_trial()]
        assert len(tried) == len(set(tried))

    @invariant()
    def a_release_that_tripped_never_becomes_live(self) -> None:
        for tripped in self.ledger.trials.trips(release.id for release in self.ledger.releases.history()):
            raise AssertionError(f"{self.ledger.releases.get(tripped)} tripped before it went live")

    @invariant()
    def every_champion_has_its_verdict_and_its_approval(self) -> None:
        for made in self.ledger.releases.history():
            if made.id not in self.live and made.kind is ReleaseKind.PROMOTION:
                self._check_champion(made)
            self.live.add(made.id)

    def _check_champion(self, made: Release) -> None:
        candidate = self.ledger.models.candidate(made.model, made.version)
        assert candidate.verdict is not None, made
        asked = [a for a in self.ledger.approvals.history(made.model) if a.id == made.approval_id]
        for approval in asked:
            assert approval.state is ApprovalState.APPROVED
            assert (approval.version, approval.bundle) == (made.version, made.bundle)
            assert (approval.evidence, approval.generation_seen) == (digest(candidate.verdict), made.seen)
        self._check_trial(made)
        if made.model == ASKING or not candidate.verdict.passed:
            assert asked, f"nobody was asked about {made}"
        elif not asked:
            assert self.ledger.holds.applying(made.model) is None, f"held, and nobody was asked about {made}"

    def _check_trial(self, made: Release) -> None:
        """All its stages, one after the other, unless it was the first of its model or a person did not wait."""
        events = [event for event in self.ledger.releases.events(made.model) if event.release_id == made.id]
        entered = [event.state for event in events if event.state in ON_TRIAL]
        whole = [stage.state for stage in stages(made.plan)] if made.plan and made.seen else []
        [live] = [event for event in events if event.state is RolloutState.LIVE]
        assert entered == whole[: len(entered)]
        assert entered == whole or live.by == PROMOTER, f"{events} of {made}"

    @invariant()
    def no_served_request_runs_twice(self) -> None:
        for model in SPECS:
            for request in self.ledger.requests.latest(model, limit=999):
                before = self.requests.get(request.id)
                assert before not in ENDED or before is request.state, f"{before} before, and now {request}"
                self.requests[request.id] = request.state
        for request_id, runs in self.world.admitted.items():
            assert len(runs) == 1, f"{request_id} was served by {runs}"

    @invariant()
    def history_never_shrinks(self) -> None:
        now = dict(self._histories())
        for name, before in self.kept.items():
            assert now[name][: len(before)] == before, f"{name}: {before} before, and now {now[name]}"
        self.kept = now

    def _histories(self) -> Iterator[tuple[str, list[Any]]]:
        ledger = self.ledger
        yield "releases", [(r.id, r.version, r.generation, r.released_at) for r in ledger.releases.history()]
        yield "release events", ledger.releases.events()
        yield "holds", ledger.holds.history()
        yield "events", ledger.events.history()
        yield "questions", [a.id for a in ledger.approvals.history()]
        for model in SPECS:
            yield f"requests of {model}", [r.id for r in reversed(ledger.requests.latest(model, limit=999))]

    @invariant()
    def the_first_answer_stands(self) -> None:
        now = {asked.id: asked for asked in self.ledger.approvals.history()}
        for before in self.answered:
            assert now[before.id] == before
        self.answered = [asked for asked in now.values() if asked.state is not ApprovalState.OPEN]

    @invariant()
    def a_blocked_key_does_not_return(self) -> None:
        now = {(c.model, c.version): c.state for model in SPECS for c in self.ledger.models.candidates(model)}
        for version in self.refused:
            assert now[version] in REFUSED or version in self.world.reopened, f"{version} is {now[version]}"
        self.refused = {version for version, state in now.items() if state in REFUSED}
        self.world.reopened -= self.refused

    @invariant()
    def what_is_recalled_was_good_before_and_stays_as_it_was(self) -> None:
        for model in SPECS:
            for one in self.ledger.models.candidates(model):
                if (of := recalled(one)) is not None:
                    first = self.ledger.models.candidate(model, of)
                    assert recalled(first) is None
                    assert first.verdict is not None
                    assert first.verdict.request_id != one.request_id

    # ------------------------------------------------------------ and in the end

    def teardown(self) -> None:
        """With the clock set right, nobody killed and all questions answered, nothing is left undone after a while."""
        self.world.now = self.latest
        for model in (*SPECS, FLEET):
            self.ledger.holds.lift(model, by="ada", reason="the end", now=self.world.now)
        for _ in range(QUIET):
            self.world.now += timedelta(hours=1)
            for release in self.ledger.releases.on_trial():
                self.world.count(release, 20)
            self.world.reconcile()
            for run in self.world.at_work():
                self.world.go_on(run)
            for asked in self.ledger.approvals.open_ones():
                self.world.answer(asked, approve=True, by="ada")
            if not self._left():
                break
        assert self._left() == []
        self.one_release_of_a_model_is_live()
        self.no_served_request_runs_twice()
        self.history_never_shrinks()

    def _left(self) -> list[object]:
        releases = [*self.ledger.releases.prepared(), *self.ledger.releases.on_trial()]
        return [*self.ledger.requests.unfinished(), *releases, *self.world.at_work()]


def _folder() -> Path:
    """In memory where that can be: that a disk keeps what it was told is not the question here, and takes its time."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="evergreen-trust-", dir=memory if os.access(memory, os.W_OK) else None))


@cache
def _empty() -> bytes:
    """An empty ledger's file: Alembic makes it once."""
    folder = _folder()
    open_ledger(f"sqlite:///{folder / 'empty.db'}")
    made = (folder / "empty.db").read_bytes()
    shutil.rmtree(folder)
    return made


class TrustInSqlite(Trust):
    """On a real one."""

    def open(self) -> Ledger:
        self.folder = _folder()
        (self.folder / "ledger.db").write_bytes(_empty())
        return open_ledger(f"sqlite:///{self.folder / 'ledger.db'}")

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.folder)


ALWAYS = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
TestTrust = Trust.TestCase
TestTrust.settings = settings(max_examples=150, stateful_step_count=40, **ALWAYS)  # type: ignore[arg-type]
TestTrustInSqlite = TrustInSqlite.TestCase
TestTrustInSqlite.settings = settings(max_examples=5, stateful_step_count=30, **ALWAYS)  # type: ignore[arg-type]
