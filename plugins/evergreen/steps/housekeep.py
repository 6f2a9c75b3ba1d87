"""housekeep: remove from the store what no release, no run and no question needs any more.

File by file, so that it may be killed at any point and run again. A model is left alone while a run of it is at work
between pull and judge (housekeeping takes the model's lease), and while it is held: somebody is looking into it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from evergreen.core import retention as rt
from evergreen.core.errors import LeaseBusy
from evergreen.core.records import ENDED, FLEET, ApprovalState, Candidate, RequestState
from evergreen.core.spec import Retention

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Store, StoredFile

HOLDER = "housekeeping"
LEASE = timedelta(minutes=10)
_AT_WORK = (RequestState.OPEN, RequestState.CLAIMED)
log = logging.getLogger(__name__)


@dataclass
class Housekept:
    """What was removed, as files and bytes by kind ('bundles', 'snapshots', …), and which models were left alone."""

    removed: dict[str, tuple[int, int]] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, size: int) -> None:
        """Count one file."""
        files, total = self.removed.get(kind, (0, 0))
        self.removed[kind] = (files + 1, total + size)

    def __str__(self) -> str:
        kinds = sorted(self.removed.items())
        what = [f"{kind}: {files:,} files, {size / 1e6:,.1f} MB" for kind, (files, size) in kinds]
        alone = [f"{model} left alone ({why})" for model, why in sorted(self.left_alone.items())]
        return "; ".join([*(what or ["nothing to remove"]), *alone])


def housekeep(
    ledger: Ledger,
    store: Store,
    retentions: Mapping[str, Retention],
    *,
    now: datetime,
    leave: Collection[str] = (),
) -> Housekept:
    """Remove what the models' `retention` lets go, those of models without a spec by its defaults.

    `leave` names models that are not touched: their spec cannot be read, so nobody knows how long they are to keep.
    """
    done = Housekept()
    for file in store.sweep(now - rt.YOUNG):
        done.add("unfinished writes", file.size)
    bundles = store.keys(rt.BUNDLES)
    models = _models(ledger, store, retentions) | set(leave)
    known: set[str] = set()
    for model in sorted(models):
        known |= {candidate.bundle for candidate in ledger.models.candidates(model)}
        if why := _why_alone(ledger, model, leave):
            done.left_alone[model] = why
            continue
        _one_model(ledger, store, model, retentions.get(model, Retention()), bundles, done, now)
    _nobodys_bundles(store, {rt.bundle_of(key) for key in bundles} - known, retentions, done, now)
    return done


def _models(ledger: Ledger, store: Store, retentions: Mapping[str, Retention]) -> set[str]:
    """All that may have something in the store, those whose spec is gone too."""
    stored = rt.models_in(key for folder in rt.OF_A_MODEL for key in store.keys(folder))
    return {*retentions, *stored, *(release.model for release in ledger.releases.history())}


def _why_alone(ledger: Ledger, model: str, leave: Collection[str]) -> str:
    if model in leave:
        return "its spec has a problem: `evergreen check`"
    hold = ledger.holds.applying(model)
    if hold:
        return f"{'all models are' if hold.model == FLEET else 'it is'} held by {hold.by}: {hold.reason}"
    return ""


def _one_model(
    ledger: Ledger, store: Store, model: str, keep: Retention, bundles: Iterable[str], done: Housekept, now: datetime
) -> None:
    try:
        ledger.leases.acquire(model, HOLDER, LEASE, now)
    except LeaseBusy:
        done.left_alone[model] = "a run is at work"
        return
    try:  # from here on no run of it pulls, trains or judges; what ended before is in the facts, and young
        facts = _facts(ledger, model)
        needed, before = rt.needed_versions(facts, keep, now), rt.age_limit(keep, now)
        parts = _parts(ledger, [one for one in facts.candidates if one.version in needed])
        gone = rt.unneeded_bundles(facts, needed) & {rt.bundle_of(key) for key in bundles}
        _remove_bundles(store, gone, before, done)
        files = [file for folder in rt.OF_A_MODEL for file in store.listing(f"{folder}{model}/")]
        _remove(store, rt.removable(files, needed=needed, parts=parts, before=before), done)
    except KeyError as error:
        done.left_alone[model] = f"the ledger is not whole: {error.args[0]}"
    finally:
        ledger.leases.release(model, HOLDER)


def _facts(ledger: Ledger, model: str) -> rt.ModelFacts:
    candidates = ledger.models.candidates(model)
    open_ones = (asked for asked in ledger.approvals.history(model) if asked.state is ApprovalState.OPEN)
    unfinished = {candidate.request_id for candidate in candidates if candidate.state not in ENDED}
    return rt.ModelFacts(
        candidates=candidates,
        releases=ledger.releases.history(model),
        asked=frozenset(asked.version for asked in open_ones),
        at_work=frozenset(request for request in unfinished if _is_at_work(ledger, request)),
    )


def _is_at_work(ledger: Ledger, request_id: str) -> bool:
    try:
        return ledger.requests.get(request_id).state in _AT_WORK
    except KeyError:
        return False


def _parts(ledger: Ledger, candidates: Iterable[Candidate]) -> set[str]:
    ids = {(candidate.model, candidate.snapshot_id) for candidate in candidates}
    return {part.key for model, snapshot in ids for part in ledger.models.snapshot(model, snapshot).parts}


def _nobodys_bundles(
    store: Store, bundles: Collection[str], retentions: Mapping[str, Retention], done: Housekept, now: datetime
) -> None:
    """Bundles without a candidate: their training was killed. Kept as long as any model keeps anything."""
    before = min(rt.age_limit(keep, now) for keep in [Retention(), *retentions.values()])
    _remove_bundles(store, bundles, before, done)


def _remove_bundles(store: Store, bundles: Collection[str], before: datetime, done: Housekept) -> None:
    for name in sorted(bundles):  # listed one by one, just before: it may have been written again
        _remove(store, rt.whole_bundle(store.listing(f"{rt.BUNDLES}{name}/"), before=before), done)


def _remove(store: Store, files: Iterable[StoredFile], done: Housekept) -> None:
    for file in files:
        store.remove(file.key)
        log.info("Removed %s", file.key)
        done.add(file.key.partition("/")[0], file.size)
