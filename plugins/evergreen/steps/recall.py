"""train of a recall: nothing is fitted, the kept versions are compared on the snapshot's fresh rows.

The best one becomes this run's candidate, as a version of its own with the same bundle: the one that was fitted keeps
its state, its verdict and its releases, whatever becomes of the candidate (core.recalling).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import fence, recalling
from evergreen.core.champion import load, reign_of
from evergreen.core.errors import BundleRefused, NotComparable, RunEnds
from evergreen.core.fresh import fresh_after, fresh_rows, scored_rows
from evergreen.core.gate_texts import reason
from evergreen.core.gates import judge_quality, too_few
from evergreen.core.judged_anew import why_unfit
from evergreen.core.measure import value
from evergreen.core.records import Candidate, CandidateState
from evergreen.core.verdict_json import finite
from evergreen.core.version_note import version_note
from evergreen.core.window import Window, window_of

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from evergreen.core.metrics import Metric
    from evergreen.core.ports import Ledger, Registry, Snapshots, Store, Trainer
    from evergreen.core.records import Lease, Snapshot, TriggerRequest
    from evergreen.core.spec import ModelSpec

CHALLENGER = "challenger"
VERSIONS = "recall/versions.json"  # what each kept version gave, or why it could not be asked


def recall(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    trainer: Trainer,
    registry: Registry,
    store: Store,
    *,
    request: TriggerRequest,
    snapshot: Snapshot,
    lease: Lease | None,
    now: datetime,
) -> Candidate:
    """The best of the kept versions, as a candidate; run again, the one that was made before comes back.

    Raises RunEnds where the champion is still the best, where gates would not let the best one through, and where
    nothing can be compared; LeaseLost where another has the model's lease by now.
    """
    known = ledger.models.by_train_key(spec.name, recalling.train_key(request.id))
    if known is not None:
        return known
    bounds = window_of(spec, request, snapshot.as_of)
    run = registry.start_run(
        spec.name, request.id, {"evergreen.request": request.id, "evergreen.snapshot": snapshot.id}
    )
    try:
        found = _compare(spec, ledger, snapshots, trainer, store, snapshot, bounds)
        registry.log_file(run, VERSIONS, json.dumps(found.told, indent=1).encode())
        leader, why = found.leader(spec)
    except RunEnds as end:
        registry.log(run, tags={"evergreen.outcome": end.reason})
        registry.end_run(run)
        raise
    made = replace(
        leader,
        request_id=request.id,
        train_key=recalling.train_key(request.id),
        snapshot_id=snapshot.id,
        mlflow_run=run,
        state=CandidateState.TRAINED,
        verdict=None,
        generation_seen=0,
        created_at=now,
        made_with={**leader.made_with, recalling.RECALLS: str(leader.version), recalling.BECAUSE: why},
    )
    return _keep(spec, ledger, registry, store, made, bounds, lease)


@dataclass(frozen=True)
class _Compared:
    """What the versions answered on the fresh rows. `told` is what each gave, or why it could not be asked."""

    metric: Metric
    fresh: pl.DataFrame
    champion: Candidate
    versions: Mapping[int, Candidate]
    answers: Mapping[int, np.ndarray]
    values: Mapping[int, float]
    told: Mapping[str, float | str]

    def leader(self, spec: ModelSpec) -> tuple[Candidate, str]:
        """The version that is to answer again, and why. Raises RunEnds where the champion is to stay."""
        reigning = self.champion.version
        best = recalling.best(self.metric, self.values, reigning)
        if best == reigning:
            raise RunEnds(recalling.stays(reigning, self.metric, self.values), served=True)
        why = recalling.goes(best, reigning, self.metric, self.values, rows=self.fresh.height)
        gates = judge_quality(
            spec,
            scored_rows(spec, self.fresh, self.answers[best], self.answers[reigning]),
            has_champion=True,
        )
        if any(gate.vetoes for gate in gates):
            raise RunEnds(f"version {reigning} stays: version {best} is the {why}, but {reason(gates)}", served=True)
        return self.versions[best], why


def _compare(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    trainer: Trainer,
    store: Store,
    snapshot: Snapshot,
    bounds: Window,
) -> _Compared:
    """Ask each kept version and the champion. Raises RunEnds where that says nothing."""
    metric, champion = recalling.leading_metric(spec), reign_of(ledger, spec.name).candidate
    if spec.recall is None or metric is None:
        raise RunEnds("nothing to recall: model.yaml has no recall trigger any more", served=True)
    if champion is None:
        raise RunEnds("nothing to recall: there is no champion", served=True)
    after = fresh_after(bounds, champion, None)
    fresh = fresh_rows(spec, snapshots, snapshot, after=after, until=bounds.as_of)
    if fresh.height < spec.window.holdout.min_rows:
        raise RunEnds(too_few(spec, fresh.height).reason, served=True)
    kept = recalling.kept(ledger.models.candidates(spec.name), spec.recall.versions, champion)
    own = recalling.fitted(ledger.models, champion).version
    versions = {one.version: one for one in (champion if one.version == own else one for one in kept)}
    found = {version: _answers(spec, trainer, store, one, fresh, after) for version, one in versions.items()}
    if isinstance(why := found[champion.version], str):
        raise RunEnds(f"nothing to recall: the champion, version {champion.version}, {why}", served=True)
    answers = {version: one for version, one in found.items() if not isinstance(one, str)}
    label = scored_rows(spec, fresh, answers[champion.version], None).label
    values = {version: value(metric, label, one) for version, one in answers.items()}
    told = {f"version {v}": one if isinstance(one, str) else values[v] for v, one in found.items()}
    return _Compared(metric, fresh, champion, versions, answers, values, told)


def _answers(
    spec: ModelSpec, trainer: Trainer, store: Store, candidate: Candidate, fresh: pl.DataFrame, after: datetime
) -> np.ndarray | str:
    """What the version says of the rows, or why it cannot be asked."""
    if candidate.data_end > after:
        return "was fitted on some of these rows"
    try:
        files = load(store, candidate.bundle)
        if why := why_unfit(spec, files):
            return f"is none that model.yaml describes now: {why}"
        return trainer.predict(files, fresh)
    except (BundleRefused, NotComparable) as error:
        return f"cannot be asked: {error}"


def _keep(
    spec: ModelSpec,
    ledger: Ledger,
    registry: Registry,
    store: Store,
    made: Candidate,
    bounds: Window,
    lease: Lease | None,
) -> Candidate:
    """Register it, then keep it in the ledger: as train does with what it has fitted."""
    tags = {
        "evergreen.request": made.request_id,
        "evergreen.snapshot": made.snapshot_id,
        "evergreen.train_key": made.train_key,
        "evergreen.bundle": made.bundle,
        "evergreen.recalls": made.made_with[recalling.RECALLS],
    }
    fence.check(ledger, lease)
    registry.log(made.mlflow_run, metrics=finite(made.metrics), tags={"evergreen.recall": recalling.why_recalled(made)})
    version = registry.register(spec.name, made.mlflow_run, load(store, made.bundle), tags)
    fence.check(ledger, lease)
    registry.set_alias(spec.name, CHALLENGER, version)
    candidate = replace(made, version=version)
    registry.describe(made.mlflow_run, version_note(spec, candidate, bounds))
    return ledger.models.add_candidate(candidate, lease=lease)
