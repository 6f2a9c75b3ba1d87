"""train: fit on the training part of the window, register a version, set alias `challenger`.

Every act can be repeated and the ledger's row comes last, so a killed run is run again and finds what it did.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import bundle, fence, refitting
from evergreen.core.champion import load
from evergreen.core.errors import EmptyWindow, RunEnds
from evergreen.core.judged_anew import check_fits, judged_for, taken_up, told
from evergreen.core.outcome import on_trial, what_became
from evergreen.core.read_rows import rows_once
from evergreen.core.records import ENDED, REFUSED, Candidate, CandidateState, Lease, Snapshot, TriggerRequest
from evergreen.core.requested import is_recall
from evergreen.core.spec_fields import format_duration
from evergreen.core.train_key import Provenance, train_key
from evergreen.core.tuning import KEPT_AS as TUNED
from evergreen.core.tuning import tuned_spec
from evergreen.core.version_note import version_note
from evergreen.core.window import Window, as_asked, window_of
from evergreen.core.window_choice import KEPT_AS, as_text, reads
from evergreen.steps.choose_window import choose_window
from evergreen.steps.keep_version import keep_bundle, log_training
from evergreen.steps.recall import CHALLENGER, recall
from evergreen.steps.tune import Tuner, tune

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Registry, Snapshots, Store, Trainer
    from evergreen.core.rows import Rows
    from evergreen.core.spec import ModelSpec

log = logging.getLogger(__name__)


def train(
    spec: ModelSpec,
    ledger: Ledger,
    snapshots: Snapshots,
    trainer: Trainer,
    registry: Registry,
    store: Store,
    *,
    request_id: str,
    snapshot_id: str,
    provenance: Provenance,
    lease: Lease | None,
    now: datetime,
    tuner: Tuner | None = None,
) -> Candidate:
    """The candidate made from this snapshot, spec and code: a new one, or the known one that is still to be judged.

    A request with `force` reopens a known one that was rejected, declined or rolled back; one that has a version judged
    anew gets that version; a recall fits nothing (steps.recall). Raises RunEnds if the known one was released, or was
    ended otherwise without `force`, EmptyWindow where no row is old enough to train on, TrainingRefused where the rows
    cannot be learned from or need more memory than there is, FoundProblem for a version that cannot be judged anew,
    LeaseLost where another has the model's lease by now.
    """
    request = ledger.requests.get(request_id)
    if (candidate := taken_up(ledger, request)) is not None:
        return _take_up(spec, ledger, store, candidate, request)
    snapshot = ledger.models.snapshot(spec.name, snapshot_id)
    if is_recall(request):
        return recall(
            spec, ledger, snapshots, trainer, registry, store,
            request=request, snapshot=snapshot, lease=lease, now=now,
        )  # fmt: skip
    declared = as_asked(spec, request)
    read = rows_once(declared, snapshots, snapshot.parts)
    tuned = tune(
        declared, ledger, read, registry, tuner, request=request, snapshot=snapshot, lease=lease, now=now
    )  # fmt: skip
    spec = tuned_spec(declared, tuned)
    key = train_key(snapshot_id, spec, provenance)
    known = ledger.models.by_train_key(spec.name, key)
    if known is not None:
        return _known(ledger, registry, refitting.answering(ledger.models, known), request)
    bounds = window_of(spec, request, snapshot.as_of)
    rows = read(((reads(spec, bounds)[0][0], bounds.train_end),))
    _refuse_empty(spec, snapshot, rows, bounds)
    choice = choose_window(spec, trainer, rows, bounds.train_end) if spec.window.is_auto else None
    rows = read(choice.spans) if choice else rows
    _refuse_empty(spec, snapshot, rows, bounds)
    trained = trainer.fit(spec, rows)
    sealed, files = bundle.seal(
        trained.files, model=spec.name, train_key=key, snapshot=snapshot_id, label=spec.label.column
    )
    keep_bundle(store, sealed, files)
    tags = {
        "evergreen.request": request_id,
        "evergreen.snapshot": snapshot_id,
        "evergreen.train_key": key,
        "evergreen.bundle": sealed,
    }
    fence.check(ledger, lease)
    length = choice.chosen if choice else format_duration(bounds.train_end - bounds.start)
    run = registry.start_run(spec.name, request_id, tags)
    log_training(declared, registry, run, trained, provenance, {"rows": rows.height, "window": length})
    if choice:
        registry.log_file(run, "training/window_choice.json", as_text(choice).encode())
    fence.check(ledger, lease)
    version = registry.register(spec.name, run, files, tags)
    fence.check(ledger, lease)
    registry.set_alias(spec.name, CHALLENGER, version)
    candidate = Candidate(
        model=spec.name,
        version=version,
        request_id=request_id,
        train_key=key,
        snapshot_id=snapshot_id,
        data_end=trained.data_end,
        bundle=sealed,
        mlflow_run=run,
        metrics={**trained.metrics, "rounds": trained.rounds},
        state=CandidateState.TRAINED,
        verdict=None,
        generation_seen=0,
        created_at=now,
        made_with={
            **asdict(provenance),
            "engine": trained.engine,
            **({KEPT_AS: as_text(choice)} if choice else {}),
            **({TUNED: json.dumps(dict(tuned), sort_keys=True)} if tuned else {}),
        },
    )
    registry.describe(run, version_note(spec, candidate, bounds))
    return ledger.models.add_candidate(candidate, lease=lease)


def _take_up(spec: ModelSpec, ledger: Ledger, store: Store, candidate: Candidate, request: TriggerRequest) -> Candidate:
    """A version that is judged anew. What was refused is reopened, unless it was judged for this request already."""
    check_fits(spec, request, candidate, load(store, candidate.bundle))
    log.info("%s", told(request))
    if candidate.state in REFUSED and not judged_for(candidate, request.id):
        return ledger.models.reopen(candidate.model, candidate.version)
    return candidate


def _known(ledger: Ledger, registry: Registry, known: Candidate, request: TriggerRequest) -> Candidate:
    """The candidate of this train key, if it still has something before it.

    One that others wait for an answer on is left as it is by who may not release it; one on trial by everybody.
    """
    dry = request.detail.get("dry_run")
    waits = known.state is CandidateState.TO_OVERRIDE or (dry and known.state is CandidateState.PASSED)
    if request.id == known.request_id or judged_for(known, request.id):
        return known
    if not (known.state in ENDED or waits or on_trial(ledger, known)):
        return known
    if request.detail.get("force") and known.state in REFUSED and not dry:
        return ledger.models.reopen(known.model, known.version)
    reason = (
        f"nothing to train: the same data, spec, code and libraries made version {known.version}, "
        f"which {what_became(ledger, known)}"
    )
    run = registry.start_run(known.model, request.id, {"evergreen.request": request.id})
    registry.log(run, tags={"evergreen.outcome": reason})
    registry.end_run(run)
    raise RunEnds(reason, served=True)


def _refuse_empty(spec: ModelSpec, snapshot: Snapshot, rows: Rows, bounds: Window) -> None:
    if not rows.height:
        raise EmptyWindow(
            f"{spec.name}: training window {bounds.start:%Y-%m-%d %H:%M} to {bounds.train_end:%Y-%m-%d %H:%M} UTC",
            found=f"none of the snapshot's {snapshot.rows:,} rows",
            allowed="at least one row older than the holdout and label.arrives_after",
            do="Wait for more data, shorten window.holdout.length, or look at what the source holds before that time.",
        )
