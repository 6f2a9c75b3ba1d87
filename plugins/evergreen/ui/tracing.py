"""What the pages of a release, a snapshot and an answer show: where they came from, and what was made from them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import lineage
from evergreen.core.lineage_inference import of_inference
from evergreen.ui.reading import MOST_REQUESTS, NotThere

if TYPE_CHECKING:
    from evergreen.core.lineage import Node
    from evergreen.ui.platform import Platform

_NAMED = 5


def of_release(platform: Platform, model: str, release_id: str) -> Node:
    """One release of the model, live or not. Raises NotThere."""
    ledger = platform.ledger()
    known = lineage.release_ids(ledger, model)
    if release_id not in known:
        raise _not_there("release", model, release_id, known)
    return lineage.of_release(ledger, release_id, look_back=MOST_REQUESTS)


def of_snapshot(platform: Platform, model: str, snapshot_id: str) -> Node:
    """One snapshot of the model. Raises NotThere."""
    ledger = platform.ledger()
    try:
        return lineage.of_snapshot(ledger, model, snapshot_id, look_back=MOST_REQUESTS)
    except KeyError:
        raise _not_there("snapshot", model, snapshot_id, lineage.snapshot_ids(ledger, model)) from None


def of_answer(platform: Platform, inference_id: str, now: datetime) -> Node:
    """One answer, with its features and prediction as logged. Raises NotLogged, which says why not and what to do."""
    return of_inference(platform.ledger(), platform.predictions(), inference_id, now, look_back=MOST_REQUESTS)


def _not_there(kind: str, model: str, asked: str, known: list[str]) -> NotThere:
    instead = [(f"{kind} {one[:12]}", f"/models/{model}/{kind}s/{one}") for one in known[: -_NAMED - 1 : -1]]
    to_model = [(model, f"/models/{model}")] if known else []
    return NotThere(f"{model[:60]} has no {kind} '{asked[:80]}'", [*to_model, *instead])
