"""The reconciler's part for recalls: a request where the kept versions are due to be compared."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from evergreen.core import recalling
from evergreen.core.champion import reign_of
from evergreen.core.records import Cause
from evergreen.core.requested import RECALL
from evergreen.core.spec_fields import format_duration
from evergreen.core.triggers import cause_told

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger
    from evergreen.core.spec import ModelSpec
    from evergreen.core.spec_triggers import Recall


def watch_recall(
    ledger: Ledger, specs: Mapping[str, ModelSpec], *, now: datetime, known: set[tuple[str, int]] | None = None
) -> list[str]:
    """Open a request for each model whose `recall` trigger is due: once in each of its periods, by whoever is first.

    Where there are no two versions to compare, nothing is asked in this period. `known` is the caller's memory from
    pass to pass, by model and period: so that a pass reads nothing where nothing is due.
    """
    known = set() if known is None else known
    done = []
    for spec in specs.values():
        if spec.recall is None:
            continue
        period = recalling.period_of(spec.recall.every, now)
        if (spec.name, period) not in known:
            done += _ask_for(ledger, spec, spec.recall, period, now)
            known.add((spec.name, period))
    return done


def _ask_for(ledger: Ledger, spec: ModelSpec, recall: Recall, period: int, now: datetime) -> list[str]:
    """What was opened now; nothing where it was before. Its run looks at the source when it is admitted."""
    champion = reign_of(ledger, spec.name).candidate
    kept = recalling.kept(ledger.models.candidates(spec.name), recall.versions, champion)
    if champion is None or len(kept) < 2:
        return []
    request = ledger.requests.open(
        model=spec.name,
        source=spec.source.id,
        cause=Cause.SCHEDULE,
        dedupe_key=f"{RECALL}:{period}",
        run_id=None,
        watermark=None,
        as_of=None,
        detail={RECALL: format_duration(recall.every), "due": recalling.begins(recall.every, period).isoformat()},
        now=now,
    )
    return [f"{spec.name}: opened request {request.id}: {cause_told(request)}"] if request.requested_at == now else []
