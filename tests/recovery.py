"""A run that is killed with SIGKILL at a write of its choice, and run again as Airflow does.

Real: the ledger on SQLite or Postgres, the store, the snapshots, the steps. The registry's, the trainer's and Airflow's
twins live in a process of their own, so that a kill takes nothing of theirs. Each task's answer is kept in a file, as
Airflow keeps an XCom: a retry starts with the task that has none.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import numpy  # noqa: F401  (imported, not used, before the fork)
import polars  # noqa: F401
import pyarrow  # noqa: F401
from alembic import command  # noqa: F401

from evergreen import faults
from evergreen.adapters.file_store import FileStore
from evergreen.adapters.ledger import open_ledger
from evergreen.adapters.parquet_snapshots import ParquetSnapshots
from evergreen.core import refitting
from evergreen.core.answering import Wait
from evergreen.core.approval import decide, must_explain, what_changed
from evergreen.core.errors import RunEnds
from evergreen.core.judgement import REHEARSAL, REHEARSAL_LIMIT
from evergreen.core.ports import Ledger
from evergreen.core.records import ApprovalState, Candidate, Cause, GateResult, GateState, RequestState, TriggerRequest
from evergreen.core.spec import ModelSpec
from evergreen.core.triggers import LEASE_TTL
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.runs import InMemoryRuns
from evergreen.fakes.source import FakeSource
from evergreen.fakes.trainer import FakeTrainer
from evergreen.fakes.validator import FakeValidator
from evergreen.steps.admit import admit
from evergreen.steps.judge import judge
from evergreen.steps.pull import pull
from evergreen.steps.roll_out import roll_out
from evergreen.steps.serve_requests import serve_requests
from evergreen.steps.train import train
from evergreen.steps.validate import validate
from judging import MADE_WITH
from training_data import AS_OF, make_rows, make_spec

SPEC = make_spec(
    name="m",
    triggers=[{"new_data": {"min_rows": 1}}, {"recall": {"every": "14d"}}],
    gates=[{"metric": "auc", "min": 0.6}, {"metric": "brier", "against": "champion", "min_point_delta": -1}],
    approval={"mode": "manual"},
)
SUITE = {"expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}}]}
NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
WRITES = frozenset(
    {
        *("open", "put_off", "mark", "acquire", "release", "add_snapshot", "add_candidate", "judge", "reopen"),
        *("prepare", "go_live", "abort", "roll_back", "ask", "answer", "place", "lift", "add", "beat"),  # the ledger
        *("put", "write", "quarantine", "start", "dismiss"),  # store, snapshots, runs
        *("start_run", "log", "log_file", "register", "describe", "set_alias", "end_run"),  # registry
    }
)
SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(["recovery_stories"])
_UNDER_LEASE = ("pull", "validate", "train", "judge")
Hook = Callable[[str, str], None]


class _Registry(FakeRegistry):
    def known(self, model: str) -> list[int]:
        """Its versions."""
        return sorted(version for name, version in self.versions if name == model)

    def state(self) -> dict[str, Any]:
        """All that it holds."""
        return vars(self)

    def become(self, state: dict[str, Any]) -> None:
        """Hold this and nothing else."""
        vars(self).clear()
        vars(self).update(state)


class _Runs(InMemoryRuns):
    def all_started(self) -> list[tuple[str, str]]:
        """Every run, in the order of their start."""
        return list(self.started)

    def become_empty(self) -> None:
        """Forget every run."""
        self.__init__()  # type: ignore[misc]


class _Outside(BaseManager):
    """Keeps the twins in its own process."""


_Outside.register("registry", _Registry)
_Outside.register("runs", _Runs)


@dataclass
class World:
    """What a kill does not take. `rows` are how many the source holds, until how many days after AS_OF, and a seed."""

    folder: Path
    ledger_url: str
    registry: Any
    runs: Any
    rows: tuple[int, int, int] = (600, 0, 1)

    def ports(self, hook: Hook | None = None) -> Ports:
        """The ports of one process."""
        files = FileStore(str(self.folder / "store"))
        count, days, seed = self.rows
        rows = make_rows(count, until=AS_OF + timedelta(days=days), seed=seed)
        return Ports(
            faults.watched_ledger(open_ledger(self.ledger_url), hook),
            faults.watched("store", files, hook),
            faults.watched("snapshots", ParquetSnapshots(files), hook),
            faults.watched("registry", self.registry, hook),
            faults.watched("runs", self.runs, hook),
            FakeSource(rows, SPEC.source),
        )


@dataclass
class Ports:
    """As a task has them."""

    ledger: Ledger
    store: Any
    snapshots: Any
    registry: Any
    runs: Any
    source: FakeSource


@contextmanager
def outside() -> Iterator[tuple[Any, Any]]:
    """The registry's and Airflow's twins."""
    with _Outside(ctx=SERVER) as manager:
        yield manager.registry(), manager.runs()  # type: ignore[attr-defined]


# ---------------------------------------------------------------- one run


@dataclass
class Run:
    """One Airflow run: the tasks, what each handed on, and how it ended."""

    world: World
    run_id: str
    cause: Cause = Cause.NEW_DATA
    skill: float = 1.0
    before: str = ""  # the task that it stops before
    spec: ModelSpec = SPEC

    @property
    def _journal(self) -> Path:
        return self.world.folder / f"xcom-{self.run_id}.json"

    def handed_on(self) -> dict[str, Any]:
        """What each task returned, and 'ended' with the reason where one ended the run."""
        return json.loads(self._journal.read_text()) if self._journal.exists() else {}

    def to_its_end(self, hook: Hook | None = None) -> None:
        """All tasks that have not returned yet, in this process."""
        ports = self.world.ports(hook)
        for name, task in (
            ("admit", self._admit), ("pull", self._pull), ("validate", self._validate), ("train", self._train),
            ("judge", self._judge), ("approve", self._approve), ("roll_out", self._roll_out),
        ):  # fmt: skip
            done = self.handed_on()
            if "ended" in done or name == self.before:
                return
            if name in done:
                continue
            try:
                found = self._in_step(ports, name, task, done)
            except RunEnds as end:
                self._close(ports, name, end)
                name, found = "ended", end.reason
            self._journal.write_text(json.dumps({**done, name: found}))

    def _in_step(self, ports: Ports, name: str, task: Callable[..., Any], done: dict[str, Any]) -> Any:
        """As orchestration.task_run.run_step does."""
        if name != "admit":
            request = ports.ledger.requests.get(done["admit"])
            if request.state not in (RequestState.SERVED, RequestState.SKIPPED, RequestState.EXPIRED):
                if name in _UNDER_LEASE:
                    ports.ledger.leases.acquire("m", request.id, LEASE_TTL, NOW)
                ports.ledger.requests.mark(request.id, now=NOW, state=RequestState.CLAIMED, step=name, reason="")
        return task(ports, done)

    def _close(self, ports: Ports, step: str, end: RunEnds) -> None:
        request = ports.ledger.requests.for_run("m", self.run_id)
        if request and request.run_id == self.run_id:
            state = RequestState.SERVED if end.served else RequestState.SKIPPED
            if request.state not in (RequestState.SERVED, RequestState.SKIPPED, RequestState.EXPIRED):
                ports.ledger.requests.mark(request.id, now=NOW, state=state, step=step, reason=end.reason)
            ports.ledger.leases.release("m", request.id)

    def _admit(self, ports: Ports, _: dict[str, Any]) -> str:
        return admit(self.spec, ports.ledger, ports.source, cause=self.cause, run_id=self.run_id, detail={}, now=NOW).id

    def _pull(self, ports: Ports, done: dict[str, Any]) -> str:
        lease = ports.ledger.leases.get("m")
        handed = {"request_id": done["admit"], "lease": lease}
        return pull(self.spec, ports.ledger, ports.source, ports.snapshots, ports.store, **handed).id

    def _validate(self, ports: Ports, done: dict[str, Any]) -> str:
        return validate(
            self.spec, ports.ledger, ports.snapshots, FakeValidator(), ports.registry, ports.store, SUITE,
            suite_sha256="suite", request_id=done["admit"], snapshot_id=done["pull"],
            lease=ports.ledger.leases.get("m"),
        ).id  # fmt: skip

    def _train(self, ports: Ports, done: dict[str, Any]) -> int:
        return train(
            self.spec, ports.ledger, ports.snapshots, FakeTrainer(self.skill), ports.registry, ports.store,
            request_id=done["admit"], snapshot_id=done["validate"], provenance=MADE_WITH,
            lease=ports.ledger.leases.get("m"), now=NOW,
        ).version  # fmt: skip

    def _judge(self, ports: Ports, done: dict[str, Any]) -> int:
        candidate = judge(
            self.spec, ports.ledger, ports.snapshots, FakeTrainer(), ports.registry, ports.store,
            rehearse=lambda *_: (GateResult(REHEARSAL, REHEARSAL_LIMIT, GateState.PASSED),), report=lambda _: None,
            request_id=done["admit"], version=done["train"], lease=ports.ledger.leases.get("m"),
        )  # fmt: skip
        assert candidate.verdict is not None
        if not candidate.verdict.passed:
            raise RunEnds(candidate.verdict.reason, served=True)
        ports.ledger.leases.release("m", done["admit"])
        return candidate.version

    def _approve(self, ports: Ports, done: dict[str, Any]) -> dict[str, Any]:
        """As ApproveCandidate does where a person answers at once."""
        ledger, request_id = ports.ledger, done["admit"]
        candidate = self._answering(ports, done)
        given = [a for a in ledger.approvals.history("m") if a.request_id == request_id and a.state != "open"]
        kept = given[-1] if given else None
        if kept is None:
            until = NOW + timedelta(hours=1)
            asked = ledger.approvals.ask(
                candidate, request_id=request_id, run_id=self.run_id, expires_at=until, now=NOW
            )
            changed = what_changed(asked, candidate, ledger.releases.champion("m"), None)
            explain = must_explain(candidate.verdict, None)
            decision = decide(approve=True, by="oncall", reason="looked at it", explain=explain, changed=changed)
            kept = ledger.approvals.answer(asked.id, state=decision.state, by="oncall", reason=decision.why, now=NOW)
        if kept.state is not ApprovalState.APPROVED:
            raise RunEnds(kept.reason, served=True)
        return {"by": kept.answered_by, "reason": kept.reason}

    def _answering(self, ports: Ports, done: dict[str, Any]) -> Candidate:
        """As the tasks after judge find it."""
        models = ports.ledger.models
        return refitting.answering(models, models.candidate("m", done["train"]))

    def _roll_out(self, ports: Ports, done: dict[str, Any]) -> str:
        version = self._answering(ports, done).version
        return roll_out(
            self.spec, ports.ledger, ports.registry, request_id=done["admit"], version=version,
            released_by=done["approve"]["by"], reason=done["approve"]["reason"], now=NOW,
            wait=Wait(seconds=0),
        ).id  # fmt: skip


def reconciled(world: World, hook: Hook | None = None, *, now: datetime = NOW) -> None:
    """A pass over the requests."""
    ports = world.ports(hook)
    serve_requests(ports.ledger, {"m": SPEC}, ports.runs, lambda _: ports.source, now=now)


def request_of(ledger: Ledger, run_id: str) -> TriggerRequest:
    """The request of a run that is known to have one."""
    found = ledger.requests.for_run("m", run_id)
    assert found is not None
    return found


# ---------------------------------------------------------------- kills

Act = Callable[[World, Hook | None], None]


def writes_of(act: Act, world: World) -> list[str]:
    """The writes that it makes, in order."""
    told = world.folder / "writes.txt"
    assert in_child(_told, act, world, told) == 0
    return told.read_text().splitlines()


def killed_after(number: int, act: Act, world: World) -> bool:
    """Do it in a process that dies just after its write of this number (0: before the first); false if it has fewer."""
    code = in_child(_killed, act, world, number)
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def done(act: Act, world: World) -> None:
    """Do it whole, in a process of its own."""
    assert in_child(act, world, None) == 0


def _told(act: Act, world: World, told: Path) -> None:
    def tell(call: str, when: str) -> None:
        if when == faults.AFTER and call.rpartition(".")[2] in WRITES:
            with told.open("a") as file:
                file.write(call + "\n")

    act(world, tell)


def _killed(act: Act, world: World, number: int) -> None:
    count = 0

    def strike(call: str, when: str) -> None:
        nonlocal count
        if call.rpartition(".")[2] not in WRITES:
            return
        count += when == faults.AFTER
        if count == number and (when == faults.AFTER or number == 0):
            os.kill(os.getpid(), signal.SIGKILL)

    act(world, strike)


def in_child(act: Callable[..., None], *arguments: Any) -> int:
    """How a process that did this ended: 0, or minus the signal; 1 where it raised, which it prints.

    A fork of a server that has imported all and used nothing: threads of Polars do not survive a fork.
    """
    process = SERVER.Process(target=act, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode
