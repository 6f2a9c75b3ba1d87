"""rehearse: a candidate in a throwaway copy of serving, asked over HTTP as callers ask, before anyone depends on it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from evergreen.core import bundle
from evergreen.core.errors import BundleRefused, RehearsalFailed, ServingFailed
from evergreen.core.gates import judge_measured
from evergreen.core.golden import TOLERANCE, Golden, agrees, golden_of
from evergreen.core.judgement import REHEARSAL, REHEARSAL_LIMIT
from evergreen.core.records import GateResult, GateState

if TYPE_CHECKING:
    from evergreen.core.ports import RehearsalSlots, ServingClient, ServingConnection, Slot, Store
    from evergreen.core.records import Candidate
    from evergreen.core.spec import ModelSpec

LATENCY, MEMORY = "latency_p99_ms", "memory_mb"
WARM_UP, ROUND, BLOCK = 40, 200, 20  # requests: before the first round, in a round, in a block
ROUNDS, MOST, PATIENCE = 3, 6, 8.0  # rounds; while a limit is missed; seconds after which no other one is begun
TURNS, MOST_TURNS = 2, 4  # of each version, where one slot must do for both; while a relative limit is missed
_REFUSALS = (BundleRefused, RehearsalFailed, ServingFailed)
_Values: TypeAlias = "dict[str, float]"  # metric: of one version
_Measured: TypeAlias = "dict[str, tuple[float | None, float | None]]"  # metric: of candidate and champion
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Served:
    """A version that is up and has answered its golden rows."""

    of: Candidate
    golden: Golden
    slot: Slot
    connection: ServingConnection

    def request(self, number: int) -> float:
        """Ask one golden row, each in its turn; the milliseconds that it took."""
        rows = self.golden.rows
        try:
            return self.connection.predict(self.of.model, [rows[number % len(rows)]]).milliseconds
        except ServingFailed as error:
            raise ServingFailed(f"version {self.of.version}, while it was measured: {error}") from error


@dataclass(frozen=True)
class _Stage:
    """Where versions are tried."""

    slots: RehearsalSlots
    client: ServingClient
    store: Store

    @contextmanager
    def serve(self, version: Candidate) -> Iterator[_Served]:
        """Start a version and ask its golden rows. Raises one of _REFUSALS where it does not answer them."""
        golden = golden_of(version.bundle, lambda name: self.store.get(bundle.key(version.bundle, name)))
        _log.info("%s version %d: starting a throwaway copy of serving", version.model, version.version)
        with (
            self.slots.start(version.model, version.version, version.bundle) as slot,
            self.client.connect(slot.url) as connection,
        ):
            served = _Served(version, golden, slot, connection)
            ask_golden_rows(connection, version.model, version.version, golden)
            yield served


def rehearse(
    spec: ModelSpec,
    slots: RehearsalSlots,
    client: ServingClient,
    store: Store,
    candidate: Candidate,
    champion: Candidate | None,
) -> tuple[GateResult, ...]:
    """The gate `rehearsal`, then the spec's gates on latency and memory.

    The champion is started too where one of these gates compares with it. One that cannot be started is no fault of
    the candidate: its values are missing, and a note says why. What the store or the machine does not give raises what
    it raises, and the step is tried again.
    """
    gates = [gate for gate in spec.gates if gate.metric in (LATENCY, MEMORY)]
    rival = champion if any(gate.against for gate in gates) else None
    trial = _Trial(spec, _Stage(slots, client, store), {gate.metric for gate in gates})
    try:
        passed, measured, note = trial.run(candidate, rival)
    except _REFUSALS as error:
        passed, note = _failed(candidate, error), "the candidate failed its rehearsal"
        measured = dict.fromkeys((gate.metric for gate in gates), (None, None))
    return (passed, *judge_measured(spec, measured, has_champion=champion is not None, note=note))


def golden_rows_pass(slots: RehearsalSlots, client: ServingClient, store: Store, candidate: Candidate) -> GateResult:
    """Whether this version loads in a throwaway copy of serving, and answers its golden rows there over HTTP."""
    try:
        with _Stage(slots, client, store).serve(candidate) as served:
            return _passed(served)
    except _REFUSALS as error:
        return _failed(candidate, error)


def ask_golden_rows(connection: ServingConnection, model: str, version: int, golden: Golden) -> None:
    """Ask a few at a time, because serving limits a request's size. Raises ServingFailed at the first that is off."""
    wide = max(1, len(golden.rows[0]))
    at_once = max(1, 2000 // wide)
    for start in range(0, len(golden.rows), at_once):
        rows = golden.rows[start : start + at_once]
        answer = connection.predict(model, rows)
        if answer.version != version:
            raise ServingFailed(f"version {answer.version} answered in place of version {version}")
        if len(answer.predictions) != len(rows):
            raise ServingFailed(f"{len(answer.predictions)} predictions for {len(rows)} golden rows")
        for at, found in enumerate(answer.predictions, start):
            if not agrees(found, golden.predictions[at]):
                wanted = golden.predictions[at]
                raise ServingFailed(f"golden row {at} answered {found}; at training it was {wanted} (± {TOLERANCE:g})")


@dataclass(frozen=True)
class _Trial:
    """Measures `metrics` of a candidate and its rival.

    Noise of the machine only ever adds to a latency: the lowest of all rounds is the nearest to the version's own. For
    the same reason a limit that is missed is given more rounds: noise goes away, a slow model stays slow. Two that are
    up beside each other take turns in blocks, so that noise hits them alike. Where one slot must do for both, they
    take turns in it, each at least twice, and always as often as the other.
    """

    spec: ModelSpec
    stage: _Stage
    metrics: set[str]

    def run(self, candidate: Candidate, rival: Candidate | None) -> tuple[GateResult, _Measured, str]:
        """The gate `rehearsal`, the values, and a note where the rival could not be measured."""
        if rival is not None and not self.stage.slots.beside:
            return self._in_turns(candidate, rival)
        with self.stage.serve(candidate) as served:
            return (_passed(served), *self._beside(served, rival))

    def _beside(self, candidate: _Served, rival: Candidate | None) -> tuple[_Measured, str]:
        """Both in one run; the candidate alone, and a note why, where the rival does not start or breaks off."""
        note = ""
        if rival is not None:
            try:
                with self.stage.serve(rival) as beside:
                    own, theirs = self._measure([candidate, beside], [{}, {}])
                    return _pairs(own, theirs), note
            except _REFUSALS as error:
                note = _missing(rival, error)
        return _pairs(self._measure([candidate], [{}])[0], {}), note

    def _in_turns(self, candidate: Candidate, rival: Candidate) -> tuple[GateResult, _Measured, str]:
        own: _Values = {}
        theirs: _Values = {}
        for turn in range(1, MOST_TURNS + 1):
            passed, own = self._turn(candidate, own)
            try:
                theirs = self._turn(rival, theirs)[1]
            except _REFUSALS as error:
                return passed, _pairs(own, {}), _missing(rival, error)
            own_missed = not self._keeps(own, {})  # it has had its rounds
            if LATENCY not in self.metrics or own_missed or (turn >= TURNS and self._keeps(own, theirs)):
                break
        return passed, _pairs(own, theirs), ""

    def _turn(self, version: Candidate, before: _Values) -> tuple[GateResult, _Values]:
        with self.stage.serve(version) as served:
            return _passed(served), self._measure([served], [before])[0]

    def _measure(self, up: Sequence[_Served], before: Sequence[_Values]) -> list[_Values]:
        """Each metric of each version that is up. Memory last: what the requests took is in it."""
        found = [dict(values) for values in before]
        if LATENCY in self.metrics:
            for values, latency in zip(found, self._latency(up, before), strict=True):
                values[LATENCY] = latency
        if MEMORY in self.metrics:
            for values, served in zip(found, up, strict=True):
                values[MEMORY] = max(values.get(MEMORY, 0.0), served.slot.memory_mb())
        for values, served in zip(found, up, strict=True):
            told = ", ".join(f"{metric} {value:.3g}" for metric, value in values.items())
            _log.info("version %d: %s", served.of.version, told or "nothing is measured")
        return found

    def _latency(self, up: Sequence[_Served], before: Sequence[_Values]) -> list[float]:
        """The 99th percentile of each, in ms, of its quietest round so far."""
        for served in up:
            for number in range(WARM_UP):
                served.request(number)
        begun, lowest = time.monotonic(), [values.get(LATENCY, math.inf) for values in before]
        for rounds in range(1, MOST + 1):
            lowest = [min(pair) for pair in zip(lowest, _round(up), strict=True)]
            own, *theirs = ({LATENCY: latency} for latency in lowest)
            over = time.monotonic() - begun >= PATIENCE
            if over or (rounds >= ROUNDS and self._keeps(own, theirs[0] if theirs else {})):
                break
        return lowest

    def _keeps(self, own: _Values, theirs: _Values) -> bool:
        """Whether no limit on latency is missed; without their value, none of its own."""
        latency = {metric: pair for metric, pair in _pairs(own, theirs).items() if metric == LATENCY}
        results = judge_measured(self.spec, latency, has_champion=bool(theirs))
        return not any(result.state is GateState.FAILED for result in results)


def _round(up: Sequence[_Served]) -> list[float]:
    taken: list[list[float]] = [[] for _ in up]
    for start in range(0, ROUND, BLOCK):
        for times, served in zip(taken, up, strict=True):
            times += [served.request(number) for number in range(start, start + BLOCK)]
    return [_p99(times) for times in taken]


def _pairs(own: _Values, theirs: _Values) -> _Measured:
    return {metric: (value, theirs.get(metric)) for metric, value in own.items()}


def _missing(rival: Candidate, error: Exception) -> str:
    note = f"champion version {rival.version} could not be measured beside it: {error}"
    _log.warning("%s", note)
    return note


def _p99(times: Sequence[float]) -> float:
    return sorted(times)[math.ceil(0.99 * len(times)) - 1]


def _passed(served: _Served) -> GateResult:
    rows = len(served.golden.rows)
    _log.info("%s version %d: %d golden rows answered as at training", served.of.model, served.of.version, rows)
    return GateResult(
        REHEARSAL, REHEARSAL_LIMIT, GateState.PASSED, rows=rows, note=f"{rows} golden rows within {TOLERANCE:g}"
    )


def _failed(version: Candidate, error: Exception) -> GateResult:
    _log.error("%s version %d failed its rehearsal: %s", version.model, version.version, error)
    return GateResult(REHEARSAL, REHEARSAL_LIMIT, GateState.FAILED, note=str(error))
