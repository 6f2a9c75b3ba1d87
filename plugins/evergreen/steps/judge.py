"""judge: the verdict on a candidate, on rows that neither it nor the champion has ever seen."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from evergreen.core import fence, recalling, refitting
from evergreen.core.champion import reign_of
from evergreen.core.fresh import fitted_rows, fresh_after, fresh_rows
from evergreen.core.judged_anew import asked_anew, judged_for
from evergreen.core.judgement import Judgement
from evergreen.core.records import ENDED, Candidate, CandidateState, Verdict
from evergreen.core.verdict_json import to_json
from evergreen.core.version_note import version_note
from evergreen.core.window import Window, window, window_of
from evergreen.steps.refit import refit
from evergreen.steps.verdict import Answers, Rivals, goes_on, state_of, verdict

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.judgement import Rehearse, Report
    from evergreen.core.ports import Ledger, Registry, Snapshots, Store, Trainer
    from evergreen.core.records import Lease, Snapshot, TriggerRequest
    from evergreen.core.spec import ModelSpec

VERDICT = "judge/verdict.json"
_WAITING = frozenset({CandidateState.PASSED, CandidateState.TO_OVERRIDE})  # for approval or release


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

    With `training.refit: after_verdict` one whose gates let it through is fitted again (steps.refit) before the
    rehearsal, unless nothing may come of it or a person overrides its gates. Then its refit is the candidate that comes
    back, whichever of the two was asked for: rehearsed, and judged by the answers of the version that it is made of.

    Raises BundleRefused if its stored bundle is not what was registered, NotComparable if it cannot be asked about the
    fresh rows (an infinite number), LeaseLost where another has the model's lease by now. A champion with such a fault
    does not stop the run: its gates are not comparable, and a person is asked.
    """
    candidate = refitting.answering(ledger.models, ledger.models.candidate(spec.name, version))
    tested = refitting.judged(ledger.models, candidate)
    if candidate.state in ENDED or (candidate.state in _WAITING and judged_for(candidate, request_id)):
        return _in_place_of(ledger, tested, candidate, lease)
    request = ledger.requests.get(request_id)
    anew = asked_anew(request)
    override = anew is not None and anew.override
    reign = reign_of(ledger, spec.name)
    rivals = Rivals.read(store, tested, reign.candidate)
    snapshot = ledger.models.snapshot(spec.name, tested.snapshot_id)
    bounds = _window(spec, request, snapshot)
    after = fresh_after(bounds, tested, reign.candidate)
    fresh = fresh_rows(spec, snapshots, snapshot, after=after, until=bounds.as_of)
    answers = Answers.of(spec, trainer, rivals, fresh)
    may_refit = not (override or request.detail.get("dry_run")) and refitting.is_wanted(spec, candidate)
    if may_refit and goes_on(spec, rivals, answers):
        candidate = refit(
            spec, ledger, snapshots, trainer, registry, store,
            of=tested, files=rivals.files, request=request, lease=lease,
        )  # fmt: skip
    found = verdict(spec, rivals.released_as(store, candidate), answers, rehearse, always=override)
    found = replace(found, request_id=request_id)
    state = state_of(found, override=override)
    fence.check(ledger, lease)
    run = _record(registry, candidate, found, state, reign.generation)
    registry.describe(candidate.mlflow_run, version_note(spec, candidate, bounds, found, fresh_after=after))
    if candidate is not tested:
        became = version_note(spec, tested, bounds, found, fresh_after=after, refit=candidate.version)
        registry.describe(tested.mlflow_run, became)
    fitted = _fitted(spec, ledger, snapshots, tested)
    fence.check(ledger, lease)
    report(Judgement(spec, candidate, reign.candidate, fitted, fresh, answers.scored, found))
    if state not in _WAITING or request.detail.get("dry_run") or run != candidate.mlflow_run:  # nothing comes after
        registry.end_run(run)
    kept = ledger.models.judge(
        spec.name, candidate.version, verdict=found, state=state, generation_seen=reign.generation, lease=lease
    )
    return _in_place_of(ledger, tested, kept, lease)


def _in_place_of(ledger: Ledger, tested: Candidate, candidate: Candidate, lease: Lease | None) -> Candidate:
    """The candidate, which is all that goes on: one of which it is the refit ends with the same verdict."""
    if tested.version != candidate.version and tested.state is not CandidateState.REFITTED:
        assert candidate.verdict is not None, "it was judged"
        ledger.models.judge(
            tested.model, tested.version, verdict=candidate.verdict, state=CandidateState.REFITTED,
            generation_seen=candidate.generation_seen, lease=lease,
        )  # fmt: skip
    return candidate


def _window(spec: ModelSpec, request: TriggerRequest, snapshot: Snapshot) -> Window:
    """The request's; of a version that is judged anew that of its data, whenever it is asked for."""
    if asked_anew(request) is None:
        return window_of(spec, request, snapshot.as_of)
    return replace(window(spec, snapshot.as_of), start=snapshot.start)


def _fitted(spec: ModelSpec, ledger: Ledger, snapshots: Snapshots, candidate: Candidate) -> pl.DataFrame:
    """The rows that it was fitted on: those of another version's snapshot where that one answers again."""
    own = recalling.fitted(ledger.models, candidate)
    return fitted_rows(spec, snapshots, ledger.models.snapshot(spec.name, own.snapshot_id), own)


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
