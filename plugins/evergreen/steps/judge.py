"""judge: the verdict on a candidate, on rows that neither it nor the champion has ever seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evergreen.core import fence, recalling
from evergreen.core.champion import facts_of, load, reign_of, why_apart
from evergreen.core.errors import BundleRefused, NotComparable
from evergreen.core.fresh import fitted_rows, fresh_after, fresh_rows, scored_rows
from evergreen.core.gates import judge_measured, judge_quality, too_few, verdict_of
from evergreen.core.judged_anew import asked_anew, judged_for
from evergreen.core.judgement import REHEARSAL, REHEARSAL_LIMIT, Judgement
from evergreen.core.measure import all_values
from evergreen.core.records import ENDED, Candidate, CandidateState, GateResult, GateState, Verdict
from evergreen.core.verdict_json import finite, to_json
from evergreen.core.version_note import version_note
from evergreen.core.window import Window, window, window_of

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.judgement import Rehearse, Report
    from evergreen.core.ports import Ledger, Registry, Snapshots, Store, Trainer
    from evergreen.core.records import Lease, Snapshot, TriggerRequest
    from evergreen.core.scored import Scored
    from evergreen.core.spec import ModelSpec

VERDICT = "judge/verdict.json"
NOT_REHEARSED = "refused before the rehearsal"
_WAITING = frozenset({CandidateState.PASSED, CandidateState.TO_OVERRIDE})  # for approval or release
MB = 1e6


@dataclass(frozen=True)
class _Rivals:
    """The candidate and the champion with their bundles' files. `apart` says why they cannot be compared, if so."""

    candidate: Candidate
    files: Mapping[str, bytes]
    champion: Candidate | None
    champion_files: Mapping[str, bytes]
    apart: str


def judge(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    trainer: Trainer,
    registry: Registry,
    store: Store,
    *,
    rehearse: Rehearse,
    report: Report,
    request_id: str,
    version: int,
    lease: Lease | None,
) -> Candidate:
    """The candidate with its verdict, as passed, rejected or not_judged (which blocks no train key).

    Judged once for a request. A candidate that passed for another request is judged again, against the champion of
    now. For a request that overrides its gates, it is to_override where others are rejected, unless it does not even
    load and answer in the rehearsal: no person can decide that it does.

    Raises BundleRefused if its stored bundle is not what was registered, NotComparable if it cannot be asked about the
    fresh rows (an infinite number), LeaseLost where another has the model's lease by now. A champion with such a fault
    does not stop the run: its gates are not comparable, and a person is asked.
    """
    candidate = ledger.models.candidate(spec.name, version)
    if candidate.state in ENDED or (candidate.state in _WAITING and judged_for(candidate, request_id)):
        return candidate
    request = ledger.requests.get(request_id)
    anew = asked_anew(request)
    override = anew is not None and anew.override
    reign = reign_of(ledger, spec.name)
    rivals = _rivals(store, candidate, reign.candidate)
    snapshot = ledger.models.snapshot(spec.name, candidate.snapshot_id)
    bounds = _window(spec, request, snapshot)
    after = fresh_after(bounds, candidate, reign.candidate)
    fresh = fresh_rows(spec, snapshots, snapshot, after=after, until=bounds.as_of)
    scored, apart = _score(spec, trainer, rivals, fresh)
    verdict = replace(_verdict(spec, rivals, scored, apart, rehearse, always=override), request_id=request_id)
    state = _state(verdict, override=override)
    fence.check(ledger, lease)
    run = _record(registry, candidate, verdict, state, reign.generation)
    registry.describe(candidate.mlflow_run, version_note(spec, candidate, bounds, verdict, fresh_after=after))
    fitted = _fitted(spec, ledger, snapshots, candidate)
    fence.check(ledger, lease)
    report(Judgement(spec, candidate, reign.candidate, fitted, fresh, scored, verdict))
    if state not in _WAITING or request.detail.get("dry_run") or run != candidate.mlflow_run:  # nothing comes after
        registry.end_run(run)
    return ledger.models.judge(
        spec.name, version, verdict=verdict, state=state, generation_seen=reign.generation, lease=lease
    )


def _window(spec: ModelSpec, request: TriggerRequest, snapshot: Snapshot) -> Window:
    """The request's; of a version that is judged anew that of its data, whenever it is asked for."""
    if asked_anew(request) is None:
        return window_of(spec, request, snapshot.as_of)
    return replace(window(spec, snapshot.as_of), start=snapshot.start)


def _fitted(spec: ModelSpec, ledger: Ledger, snapshots: Snapshots, candidate: Candidate) -> pl.DataFrame:
    """The rows that it was fitted on: those of another version's snapshot where that one answers again."""
    own = recalling.fitted(ledger.models, candidate)
    return fitted_rows(spec, snapshots, ledger.models.snapshot(spec.name, own.snapshot_id), own)


def _rivals(store: Store, candidate: Candidate, champion: Candidate | None) -> _Rivals:
    files = load(store, candidate.bundle)
    if champion is None:
        return _Rivals(candidate, files, None, {}, "")
    try:
        theirs = load(store, champion.bundle)
    except BundleRefused as error:
        return _Rivals(candidate, files, champion, {}, f"its bundle cannot be read ({error})")
    return _Rivals(candidate, files, champion, theirs, why_apart(facts_of(files), facts_of(theirs)))


def _score(spec: ModelSpec, trainer: Trainer, rivals: _Rivals, fresh: pl.DataFrame) -> tuple[Scored, str]:
    """What both say of the fresh rows, and why the champion says nothing of them, if so."""
    champion, apart = None, rivals.apart
    if rivals.champion and not apart:
        try:
            champion = trainer.predict(rivals.champion_files, fresh)
        except NotComparable as error:
            apart = str(error)
    return scored_rows(spec, fresh, trainer.predict(rivals.files, fresh), champion), apart


def _verdict(
    spec: ModelSpec, rivals: _Rivals, scored: Scored, apart: str, rehearse: Rehearse, *, always: bool
) -> Verdict:
    """`always`: rehearse whatever the other gates say."""
    if scored.rows < spec.window.holdout.min_rows:
        return too_few(spec, scored.rows)
    champion = rivals.champion
    sizes = {"size_mb": (_megabytes(rivals.files), _megabytes(rivals.champion_files))}
    gates = (
        *judge_quality(spec, scored, has_champion=champion is not None, not_comparable=apart),
        *judge_measured(spec, sizes, has_champion=champion is not None, note=apart),
    )
    if any(gate.vetoes for gate in gates) and not always:
        rehearsed = _not_rehearsed(spec, has_champion=champion is not None)
    else:
        rehearsed = rehearse(rivals.candidate, champion)
    return verdict_of(
        spec,
        (*gates, *rehearsed),
        scored.rows,
        champion_version=champion.version if champion else None,
        metrics=finite(all_values(spec.task, scored.label, scored.candidate)),
        champion_metrics={}
        if scored.champion is None
        else finite(all_values(spec.task, scored.label, scored.champion)),
        ask_why=f"the champion, version {champion.version}, cannot be compared: {apart}" if champion and apart else "",
    )


def _not_rehearsed(spec: ModelSpec, *, has_champion: bool) -> tuple[GateResult, ...]:
    """A serving process is started only for a candidate that has kept its other gates."""
    unknown = {"latency_p99_ms": (None, None), "memory_mb": (None, None)}
    return (
        GateResult(REHEARSAL, REHEARSAL_LIMIT, GateState.NOT_JUDGED, note=NOT_REHEARSED),
        *judge_measured(spec, unknown, has_champion=has_champion, note=NOT_REHEARSED),
    )


def _megabytes(files: Mapping[str, bytes]) -> float | None:
    return sum(map(len, files.values())) / MB if files else None


def _state(verdict: Verdict, *, override: bool) -> CandidateState:
    if not verdict.judged:
        return CandidateState.NOT_JUDGED
    if verdict.passed:
        return CandidateState.PASSED
    answers = any(gate.metric == REHEARSAL and gate.passed for gate in verdict.gates)
    return CandidateState.TO_OVERRIDE if override and answers else CandidateState.REJECTED


def _record(registry: Registry, candidate: Candidate, verdict: Verdict, state: CandidateState, generation: int) -> str:
    """Metrics, tags and the whole verdict, in the run of the request that it was reached for."""
    request_id = verdict.request_id
    run = registry.start_run(candidate.model, request_id, {"evergreen.request": request_id})
    registry.log(
        run,
        metrics={
            "holdout.rows": verdict.rows,
            **{f"holdout.{name}": value for name, value in verdict.metrics.items()},
            **{f"champion.{name}": value for name, value in verdict.champion_metrics.items()},
        },
        tags={"evergreen.verdict": str(state), "evergreen.verdict_reason": verdict.reason},
    )
    whole = {
        "model": candidate.model,
        "version": candidate.version,
        "bundle": candidate.bundle,
        "generation_seen": generation,
        "verdict": to_json(verdict),
    }
    registry.log_file(run, VERDICT, json.dumps(whole, indent=2, ensure_ascii=False).encode())
    return run
