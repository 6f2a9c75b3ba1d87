"""The reconciler's part for new data: a request where a source has moved on and no event of Airflow's has come."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from evergreen.core.errors import EvergreenError
from evergreen.core.records import Cause
from evergreen.core.triggers import dedupe_key, readable_time

if TYPE_CHECKING:
    from evergreen.core.ports import Ledger, Source
    from evergreen.core.spec import ModelSpec

GRACE = timedelta(minutes=2)  # so long Airflow's own event may take
log = logging.getLogger(__name__)

Seen = dict[str, tuple[datetime, datetime]]


def watch_sources(
    ledger: Ledger,
    specs: Mapping[str, ModelSpec],
    open_source: Callable[[ModelSpec], Source],
    *,
    now: datetime,
    seen: Seen,
) -> list[str]:
    """Open a request for each model whose source has had newer data than any of its new_data requests, for GRACE.

    So a model that is new, a DAG that was paused and an event that was lost miss nothing. `seen` is the caller's memory
    from pass to pass: by source its watermark, and since when. A source is asked once for all its models. Raises
    EvergreenError for sources that failed, once all have had their turn.
    """
    done: list[str] = []
    failed: list[str] = []
    for source_id, models in _by_source(specs.values()):
        try:
            done += _watch(ledger, models, open_source(models[0]), now, seen)
        except Exception as error:  # one source's trouble is not another's
            log.warning("%s could not be looked at", source_id, exc_info=not isinstance(error, EvergreenError))
            failed.append(f"{source_id}: {error}")
    if failed:
        for told in done:
            log.info("%s", told)
        raise EvergreenError("; ".join(failed))
    return done


def _by_source(specs: Iterable[ModelSpec]) -> list[tuple[str, list[ModelSpec]]]:
    watching = sorted((spec for spec in specs if spec.new_data), key=lambda spec: (spec.source.id, spec.name))
    return [(source_id, list(models)) for source_id, models in groupby(watching, key=lambda spec: spec.source.id)]


def _watch(ledger: Ledger, models: list[ModelSpec], source: Source, now: datetime, seen: Seen) -> list[str]:
    watermark = source.watermark()
    if watermark is None:
        return []
    source_id = models[0].source.id
    if source_id not in seen or seen[source_id][0] != watermark:
        seen[source_id] = (watermark, now)
    if now - seen[source_id][1] < GRACE:
        return []
    return [told for spec in models if (told := _open_for(ledger, spec, watermark, now))]


def _open_for(ledger: Ledger, spec: ModelSpec, watermark: datetime, now: datetime) -> str:
    """The same dedupe key as admit's: whichever comes later finds the other's."""
    known = ledger.requests.newest_watermark(model=spec.name, source=spec.source.id, cause=Cause.NEW_DATA)
    if known is not None and known >= watermark:
        return ""
    made = ledger.requests.open(
        model=spec.name,
        source=spec.source.id,
        cause=Cause.NEW_DATA,
        dedupe_key=dedupe_key(Cause.NEW_DATA, "", watermark),
        run_id=None,
        watermark=watermark,
        as_of=watermark - spec.label.arrives_after,
        detail={"noticed_by": "reconciler"},
        now=now,
    )
    return f"{spec.name}: opened request {made.id}: no event came for the data up to {readable_time(watermark)}"
