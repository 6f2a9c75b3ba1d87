"""train and judge with all outside systems in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from evergreen.core.judgement import REHEARSAL, REHEARSAL_LIMIT, Judgement
from evergreen.core.ports import Ledger
from evergreen.core.records import Candidate, CandidateState, GateResult, GateState, Lease, Release
from evergreen.core.snapshot import snapshot_id
from evergreen.core.spec import ModelSpec
from evergreen.core.train_key import Provenance
from evergreen.fakes.ledger import in_memory_ledger
from evergreen.fakes.registry import FakeRegistry
from evergreen.fakes.snapshots import InMemorySnapshots
from evergreen.fakes.store import InMemoryStore
from evergreen.fakes.trainer import FakeTrainer
from evergreen.steps.judge import judge
from evergreen.steps.train import train
from evergreen.steps.tune import Tuner
from ledgers import release
from records import make_request_args, make_snapshot
from training_data import AS_OF, make_rows, make_spec

NOW = datetime(2025, 3, 1, 12, tzinfo=UTC)
MADE_WITH = Provenance(
    code_revision="abc", lock_hash="lock", folder_hash="folder", image="evergreen-airflow:7", spec_sha256="spec"
)


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """Passes calls on, and dies before the call that the shared countdown names."""

    def __init__(self, inner: Any, countdown: list[int]) -> None:
        self._inner, self._countdown = inner, countdown

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._countdown[0] -= 1
            if self._countdown[0] == 0:
                raise Killed
            return found(*args, **kwargs)

        return call


@dataclass
class World:
    """The ports' twins; `rehearsal` is what the rehearsal finds, `rehearsed` and `reports` who was told what."""

    ledger: Ledger = field(default_factory=in_memory_ledger)
    snapshots: InMemorySnapshots = field(default_factory=InMemorySnapshots)
    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    store: InMemoryStore = field(default_factory=InMemoryStore)
    rehearsal: GateState = GateState.PASSED
    rehearsed: list[tuple[int, int | None]] = field(default_factory=list)
    reports: list[Judgement] = field(default_factory=list)
    tuner: Tuner | None = None
    now: datetime = NOW

    def pulled(self, rows: pl.DataFrame) -> str:
        """The id of a snapshot of these rows."""
        parts = self.snapshots.write("m", rows, "at", "id")
        made = snapshot_id(parts, str(rows.schema))
        first, last = rows["at"].min(), rows["at"].max()
        self.ledger.models.add_snapshot(make_snapshot(id=made, parts=parts, rows=rows.height, start=first, as_of=last))
        return made

    def request(self, name: str, as_of: datetime = AS_OF, **detail: Any) -> str:
        """The id of a request whose window ends at `as_of`."""
        asked = make_request_args(
            dedupe_key=name, run_id=name, as_of=as_of, watermark=as_of + timedelta(days=1), detail=detail
        )
        return self.ledger.requests.open(**asked).id

    def train(
        self, request: str, snapshot: str, spec: ModelSpec | None = None, lease: Lease | None = None
    ) -> Candidate:
        return train(
            spec or make_spec(), self.ledger, self.snapshots, self.trainer, self.registry, self.store,
            request_id=request, snapshot_id=snapshot, provenance=MADE_WITH, lease=lease, now=self.now, tuner=self.tuner,
        )  # fmt: skip

    def judge(self, request: str, version: int, spec: ModelSpec | None = None, lease: Lease | None = None) -> Candidate:
        return judge(
            spec or make_spec(), self.ledger, self.snapshots, self.trainer, self.registry, self.store,
            rehearse=self._rehearse, report=self.reports.append, request_id=request, version=version, lease=lease,
        )  # fmt: skip

    def made(self, name: str, rows: pl.DataFrame | None = None, *, skill: float = 1.0, **spec: Any) -> Candidate:
        """Trained and judged for a request of its own."""
        self.trainer.skill = skill
        request, declared = self.request(name), make_spec(**spec)
        candidate = self.train(request, self.pulled(make_rows() if rows is None else rows), declared)
        return self.judge(request, candidate.version, declared)

    def release(self, candidate: Candidate) -> Release:
        return release(self.ledger, candidate, watermark=AS_OF, now=NOW)

    def mortal(self, countdown: list[int]) -> World:
        """The same systems, with a process that dies at a call."""
        ledger = Ledger(**{name: Mortal(part, countdown) for name, part in vars(self.ledger).items()})
        parts = (self.snapshots, self.trainer, self.registry, self.store)
        return World(ledger, *(Mortal(part, countdown) for part in parts), reports=Mortal(self.reports, countdown))

    def _rehearse(self, candidate: Candidate, champion: Candidate | None) -> tuple[GateResult, ...]:
        self.rehearsed.append((candidate.version, champion and champion.version))
        return (GateResult(REHEARSAL, REHEARSAL_LIMIT, self.rehearsal, note="as the test says"),)


def dies_anywhere(spec: ModelSpec, *, least: int) -> None:
    """A run, with a champion to compare with, is killed before each of its calls, `least` or more, and run again.

    Fails where that leaves anything else than one whole run does.
    """
    whole = _outcome(World(), spec)
    for kill_at in range(1, 300):
        world = World()
        try:
            _outcome(world, spec, world.mortal([kill_at]))
        except Killed:
            assert _outcome(world, spec) == whole, f"killed before call {kill_at}"
        else:
            assert kill_at > least  # it was killed everywhere before
            return
    pytest.fail("never ended")


def _outcome(world: World, spec: ModelSpec, alive: World | None = None) -> dict[str, Any]:
    """Train and judge one request, then everything that can be seen of it."""
    if not world.ledger.releases.history("m"):
        world.release(world.made("before", make_rows(300), training={"params": {"max_depth": 5}}))
    request, snapshot = world.request("r"), world.pulled(make_rows(300))
    alive = alive or world
    found = alive.judge(request, alive.train(request, snapshot, spec).version, spec)
    assert found.state is CandidateState.PASSED
    assert found.verdict
    assert found.verdict.request_id == request
    runs = [
        (run.name.removeprefix(request) if run.name.startswith(request) else "-", run.params, run.metrics,
         sorted(run.files), run.status)
        for run in world.registry.runs.values()
    ]  # fmt: skip
    return {
        "candidate": replace(found, request_id="-", verdict=replace(found.verdict, request_id="-")),
        "states": [(one.version, one.state, one.bundle, one.data_end) for one in world.ledger.models.candidates("m")],
        "runs": runs,
        "versions": {version: kept.files for version, kept in world.registry.versions.items()},
        "aliases": world.registry.aliases("m"),
        "store": world.store.files,
    }
