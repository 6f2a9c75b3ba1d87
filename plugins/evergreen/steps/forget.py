"""forget: remove from the log what was answered about one person, and keep it from coming back.

In this order, so that it may be killed at any point and run again: whom to forget (from then on no shipper brings their
rows into the store), the ids of their rows (from then on no ground truth of these either), the rows. One at a time for
a model, and beside shippers: a part is replaced in one step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from evergreen.core.forgotten import Forgetting, Forgotten, hash_of
from evergreen.core.logged_parts import FORGOTTEN
from evergreen.core.ports import Removed
from evergreen.core.records import FLEET
from evergreen.core.reported import FILE as REPORT

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Predictions, Store

LEASE = timedelta(minutes=10)
LEASED, WHAT = "log/forgotten", "forgotten"  # of the lease, of the ledger's event


@dataclass(frozen=True)
class Done:
    """What was removed, by model, and the key's sha256 by which ledger and store name it."""

    key_sha256: str
    removed: dict[str, Removed] = field(default_factory=dict)


def forget(
    ledger: Ledger,
    store: Store,
    predictions: Predictions,
    key: str,
    *,
    model: str = "",
    by: str,
    reason: str,
    now: datetime,
) -> Done:
    """Remove the rows of this request key that were answered before now, of one model or all. Raises LeaseBusy."""
    asked = Forgotten(hash_of(key), round(now.timestamp() * 1000), model)
    with _alone(ledger, asked, now):
        store.put(asked.stored_at("asked"), asked.to_json())
        done = Done(asked.key_sha256)
        earlier = _ids_of_earlier_tries(store, asked.key_sha256)
        for name in [model] if model else predictions.models():
            ids = predictions.ids_of(name, partial(_is, asked, name))
            if ids:
                listed = Forgotten(asked.key_sha256, asked.before, name, tuple(ids))
                store.put(listed.stored_at(name), listed.to_json())
            removed = predictions.remove(name, {*ids, *earlier})
            if ids or earlier:
                _remove_reports(store, name)
            if removed.predictions or removed.truths:
                done.removed[name] = removed
    for name in done.removed or [model or FLEET]:
        _audit(ledger, name, done.removed.get(name, Removed()), asked, by=by, reason=reason, now=now)
    return done


def _remove_reports(store: Store, model: str) -> None:
    """Pages that were made before may show rows of theirs."""
    for key in store.keys(f"evidence/{model}/"):
        if key.endswith(f"/{REPORT}"):
            store.remove(key)


def _is(asked: Forgotten, model: str, key: str, at: int) -> bool:
    return Forgetting([asked]).by(model, key, at) is not None


def _ids_of_earlier_tries(store: Store, key_sha256: str) -> set[str]:
    """Of rows that an earlier try, or a shipper, has taken out: ground truth of them may still be there."""
    known = (Forgotten.from_json(store.get(key)) for key in store.keys(FORGOTTEN))
    return {one_id for one in known if one.key_sha256 == key_sha256 for one_id in one.ids}


def _audit(
    ledger: Ledger, model: str, removed: Removed, asked: Forgotten, *, by: str, reason: str, now: datetime
) -> None:
    rows = f"{removed.predictions} answers and {removed.truths} of ground truth in {len(removed.parts)} parts"
    detail = f"removed of the request key with sha256 {asked.key_sha256}: {rows}. {reason}"
    ledger.events.add(model, WHAT, detail, by=by, key=f"forget-{asked.key_sha256[:32]}-{asked.before}", now=now)


@contextmanager
def _alone(ledger: Ledger, asked: Forgotten, now: datetime) -> Iterator[None]:
    """Two at a time could bring back what the other has taken out of a part; of the same person they could not."""
    holder = f"forget {asked.key_sha256[:16]} {asked.model}".strip()
    ledger.leases.acquire(LEASED, holder, LEASE, now)
    try:
        yield
    finally:
        ledger.leases.release(LEASED, holder)
