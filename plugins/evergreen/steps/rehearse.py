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
_REFUSALS = (BundleRefused, RehearsalFailed, ServingFailed)
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
            _ask_golden_rows(served)
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

    The champion is started beside the candidate where one of these gates compares with it. One that cannot be
    started is no fault of the candidate: its values are missing, and a note says why. What the store or the
    machine does not give raises what it raises, and the step is tried again.
    """
    gates = [gate for gate in spec.gates if gate.metric in (LATENCY, MEMORY)]
    stage, rival = _Stage(slots, client, store), champion if any(gate.against for gate in gates) else None
    try:
        with stage.serve(candidate) as served:
            passed = _passed(served)
            measured, note = _measure_beside(spec, stage, served, rival)
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


def _ask_golden_rows(served: _Served) -> None:
    """Ask a few at a time, because serving limits a request's size. Raises ServingFailed at the first that is off."""
    wide = max(1, len(served.golden.rows[0]))
    at_once = max(1, 2000 // wide)
    for start in range(0, len(served.golden.rows), at_once):
        rows = served.golden.rows[start : start + at_once]
        answer = served.connection.predict(served.of.model, rows)
        if answer.version != served.of.version:
            raise ServingFailed(f"version {answer.version} answered in place of version {served.of.version}")
        if len(answer.predictions) != len(rows):
            raise ServingFailed(f"{len(answer.predictions)} predictions for {len(rows)} golden rows")
        for at, found in enumerate(answer.predictions, start):
            if not agrees(found, served.golden.predictions[at]):
                wanted = served.golden.predictions[at]
                raise ServingFailed(f"golden row {at} answered {found}; at training it was {wanted} (± {TOLERANCE:g})")


def _measure_beside(
    spec: ModelSpec, stage: _Stage, candidate: _Served, champion: Candidate | None
) -> tuple[_Measured, str]:
    """Both in one run; the candidate alone, and a note why, where the champion does not start or breaks off."""
    note = ""
    if champion is not None:
        try:
            with stage.serve(champion) as beside:
                return _measure(spec, candidate, beside), note
        except _REFUSALS as error:
            note = f"champion version {champion.version} could not be measured beside it: {error}"
            _log.warning("%s", note)
    return _measure(spec, candidate, None), note


def _measure(spec: ModelSpec, candidate: _Served, champion: _Served | None) -> _Measured:
    """Candidate's and champion's value of each metric. Memory last: what the requests took is in it."""
    both = [candidate, champion] if champion else [candidate]
    metrics = {gate.metric for gate in spec.gates}
    measured: _Measured = {}
    if LATENCY in metrics:
        measured[LATENCY] = _latency(spec, both)
    if MEMORY in metrics:
        measured[MEMORY] = _pair([served.slot.memory_mb() for served in both])
    for metric, (of_candidate, of_champion) in measured.items():
        beside = "" if of_champion is None else f", champion {of_champion:.3g}"
        _log.info("%s: candidate %.3g%s", metric, of_candidate, beside)
    return measured


def _pair(values: Sequence[float]) -> tuple[float, float | None]:
    return values[0], values[1] if len(values) > 1 else None


def _latency(spec: ModelSpec, both: Sequence[_Served]) -> tuple[float, float | None]:
    """The 99th percentile of each, in ms, of its quietest round.

    The versions take turns in blocks, each on its own connection, so that noise of the machine hits them alike.
    Noise only ever adds to a latency: the lowest of the rounds is the nearest to the version's own. For the same
    reason a limit that is missed is given more rounds: noise goes away, a slow model stays slow.
    """
    for served in both:
        for number in range(WARM_UP):
            served.request(number)
    begun, lowest, rounds = time.monotonic(), [math.inf for _ in both], 0
    while rounds < MOST and (not rounds or time.monotonic() - begun < PATIENCE):
        lowest, rounds = [min(pair) for pair in zip(lowest, _round(both), strict=True)], rounds + 1
        if rounds >= ROUNDS and _keeps(spec, _pair(lowest)):
            break
    return _pair(lowest)


def _keeps(spec: ModelSpec, latency: tuple[float, float | None]) -> bool:
    results = judge_measured(spec, {LATENCY: latency}, has_champion=latency[1] is not None)
    return not any(result.state is GateState.FAILED for result in results)


def _round(both: Sequence[_Served]) -> list[float]:
    taken: list[list[float]] = [[] for _ in both]
    for start in range(0, ROUND, BLOCK):
        for times, served in zip(taken, both, strict=True):
            times += [served.request(number) for number in range(start, start + BLOCK)]
    return [_p99(times) for times in taken]


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
