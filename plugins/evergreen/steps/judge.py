"""judge: the verdict on a candidate, on rows that neither it nor the champion has ever seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evergreen.core.champion import facts_of, load, reign_of, why_apart
from evergreen.core.errors import BundleRefused, NotComparable
from evergreen.core.fresh import fitted_rows, fresh_after, fresh_rows, scored_rows
from evergreen.core.gates import judge_measured, judge_quality, too_few, verdict_of
from evergreen.core.judgement import REHEARSAL, REHEARSAL_LIMIT, Judgement
from evergreen.core.measure import all_values
from evergreen.core.records import ENDED, Candidate, CandidateState, GateResult, GateState, Verdict
from evergreen.core.verdict_json import finite, to_json
from evergreen.core.version_note import version_note
from evergreen.core.window import window_of

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.judgement import Rehearse, Report
    from evergreen.core.ports import Ledger, Registry, Snapshots, Store, Trainer
    from evergreen.core.scored import Scored
    from evergreen.core.spec import ModelSpec

VERDICT = "judge/verdict.json"
NOT_REHEARSED = "refused before the rehearsal"
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
) -> Candidate:
    """The candidate with its verdict, as passed, rejected or not_judged (which blocks no train key).

    Judged once for a request. A candidate that passed for another request is judged again, against the champion of
    now. Raises BundleRefused if its stored bundle is not what was registered, NotComparable if it cannot be asked
    about the fresh rows (an infinite number). A champion with such a fault does not stop the run: its gates are not
    comparable, and a person is asked.
    """
    candidate = ledger.models.candidate(spec.name, version)
    own = candidate.request_id == request_id
    if candidate.state in ENDED or (own and candidate.state is CandidateState.PASSED):
        return candidate
    reign = reign_of(ledger, spec.name)
    rivals = _rivals(store, candidate, reign.candidate)
    snapshot = ledger.models.snapshot(spec.name, candidate.snapshot_id)
    bounds = window_of(spec, ledger.requests.get(request_id), snapshot.as_of)
    after = fresh_after(bounds, candidate, reign.candidate)
    fresh = fresh_rows(spec, snapshots, snapshot, after=after, until=bounds.as_of)
    scored, apart = _score(spec, trainer, rivals, fresh)
    verdict = _verdict(spec, rivals, scored, apart, rehearse)
    run = _record(registry, candidate, request_id, verdict, reign.generation)
    registry.describe(candidate.mlflow_run, version_note(spec, candidate, bounds, verdict, fresh_after=after))
    fitted = fitted_rows(spec, snapshots, snapshot, candidate)
    report(Judgement(spec, candidate, reign.candidate, fitted, fresh, scored, verdict))
    state = _state(verdict)
    if state is not CandidateState.PASSED:  # nothing comes after
        registry.end_run(run)
    return ledger.models.judge(spec.name, version, verdict=verdict, state=state, generation_seen=reign.generation)


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


def _verdict(spec: ModelSpec, rivals: _Rivals, scored: Scored, apart: str, rehearse: Rehearse) -> Verdict:
    if scored.rows < spec.window.holdout.min_rows:
        return too_few(spec, scored.rows)
    champion = rivals.champion
    sizes = {"size_mb": (_megabytes(rivals.files), _megabytes(rivals.champion_files))}
    gates = (
        *judge_quality(spec, scored, has_champion=champion is not None, not_comparable=apart),
        *judge_measured(spec, sizes, has_champion=champion is not None, note=apart),
    )
    if any(gate.vetoes for gate in gates):
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


def _state(verdict: Verdict) -> CandidateState:
    if not verdict.judged:
        return CandidateState.NOT_JUDGED
    return CandidateState.PASSED if verdict.passed else CandidateState.REJECTED


def _record(registry: Registry, candidate: Candidate, request_id: str, verdict: Verdict, generation: int) -> str:
    """Metrics, tags and the whole verdict, in the request's run."""
    run = registry.start_run(candidate.model, request_id, {"evergreen.request": request_id})
    registry.log(
        run,
        metrics={
            "holdout.rows": verdict.rows,
            **{f"holdout.{name}": value for name, value in verdict.metrics.items()},
            **{f"champion.{name}": value for name, value in verdict.champion_metrics.items()},
        },
        tags={"evergreen.verdict": str(_state(verdict)), "evergreen.verdict_reason": verdict.reason},
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
