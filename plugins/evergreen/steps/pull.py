"""pull: the window's labelled rows, from the source into an immutable snapshot."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from evergreen.core.champion import champion_features
from evergreen.core.errors import EmptyWindow, SourceError, SourceUnavailable
from evergreen.core.judged_anew import taken_up, told
from evergreen.core.pulled import check_keys, check_types, labelled
from evergreen.core.records import Lease, Snapshot
from evergreen.core.snapshot import schema_hash, snapshot_id
from evergreen.core.window import as_asked, window_of
from evergreen.core.window_choice import Span, reads

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import Ledger, Snapshots, Source, Store
    from evergreen.core.spec import ModelSpec

log = logging.getLogger(__name__)


def pull(
    spec: ModelSpec,
    ledger: Ledger,
    source: Source,
    snapshots: Snapshots,
    store: Store,
    *,
    request_id: str,
    lease: Lease | None,
) -> Snapshot:
    """Keep the rows that the request's window holds and whose label is there, and record them in the ledger.

    Columns that only the champion needs are kept too, after the spec's own, so that judge can score it on the same
    rows; they are left out where the source does not have them (any more), or cannot give them.
    Where the length of the window is chosen, it is the rows of all windows that are tried (core.window_choice.reads).
    Rows later than `as_of` are left out even if they have a label: early labels are a biased sample. Raises
    EmptyWindow, SourceError for a wrong column, type, key or label, and LeaseLost where another has the model's lease
    by now. Run again on the same data, it changes nothing and returns the same snapshot.

    A request that has a version judged anew reads nothing: the version's snapshot comes back.
    """
    request = ledger.requests.get(request_id)
    if candidate := taken_up(ledger, request):
        log.info("%s", told(request))
        return ledger.models.snapshot(spec.name, candidate.snapshot_id)
    if request.as_of is None:
        raise _empty(spec, "no row at all in the source", spec.window.lengths[-1].days)
    bounds = window_of(spec, request, request.as_of)
    spans = reads(as_asked(spec, request), bounds)
    frame = _read(spec, source, spans, champion_features(ledger, store, spec.name))
    check_types(spec, frame)
    check_keys(spec, frame)
    rows = labelled(spec, frame)
    parts = snapshots.write(spec.name, rows, spec.source.event_time, spec.source.key)
    schema = schema_hash({name: str(kind) for name, kind in rows.schema.items()})
    snapshot = Snapshot(
        id=snapshot_id(parts, schema),
        model=spec.name,
        start=spans[0][0],
        as_of=bounds.as_of,
        rows=rows.height,
        unlabelled=frame.height - rows.height,
        quarantined=0,
        schema_hash=schema,
        parts=parts,
    )
    ledger.models.add_snapshot(snapshot, lease=lease)
    return snapshot


def _read(spec: ModelSpec, source: Source, spans: Sequence[Span], champions: Iterable[str]) -> pl.DataFrame:
    wanted = [name for name in champions if name not in spec.columns]
    there = source.columns() if wanted else frozenset()
    more = [name for name in wanted if name in there]
    try:
        return _rows(spec, source, spans, [*spec.columns, *more])
    except SourceUnavailable:
        raise
    except SourceError:
        if not more:
            raise
        log.warning("Read without %s, which only the champion needs", ", ".join(more), exc_info=True)
        return _rows(spec, source, spans, spec.columns)  # an error in the spec's own columns comes again


def _rows(spec: ModelSpec, source: Source, spans: Sequence[Span], columns: Sequence[str]) -> pl.DataFrame:
    import polars as pl

    chunks = [chunk for start, end in spans for chunk in source.read(columns, start, end) if chunk.height]
    if not chunks:
        start, end = spans[-1]
        raise _empty(spec, "no row between them", (end - start).days)
    return pl.concat(chunks)


def _empty(spec: ModelSpec, found: str, days: int) -> EmptyWindow:
    return EmptyWindow(
        f"{spec.name}: the window of {days} days up to as_of, in source {spec.source.id}",
        found=found,
        allowed="at least one row with a label",
        do="See that rows arrive in the source and that source.event_time names their time, or widen window.train.",
    )
