"""pull: the window's labelled rows, from the source into an immutable snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evergreen.core.errors import EmptyWindow
from evergreen.core.pulled import check_keys, check_types, labelled
from evergreen.core.records import Snapshot
from evergreen.core.snapshot import schema_hash, snapshot_id
from evergreen.core.window import Window, window

if TYPE_CHECKING:
    import polars as pl

    from evergreen.core.ports import Ledger, Snapshots, Source
    from evergreen.core.spec import ModelSpec


def pull(spec: ModelSpec, ledger: Ledger, source: Source, snapshots: Snapshots, *, request_id: str) -> Snapshot:
    """Keep the rows that the request's window holds and whose label is there, and record them in the ledger.

    Rows later than `as_of` are left out even if they have a label: early labels are a biased sample. Raises
    EmptyWindow, and SourceError for a wrong column, type, key or label. Run again on the same data, it changes
    nothing and returns the same snapshot.
    """
    as_of = ledger.requests.get(request_id).as_of
    if as_of is None:
        raise _empty(spec, "no row at all in the source")
    bounds = window(spec, as_of)
    frame = _read(spec, source, bounds)
    check_types(spec, frame)
    check_keys(spec, frame)
    rows = labelled(spec, frame)
    parts = snapshots.write(spec.name, rows, spec.source.event_time, spec.source.key)
    schema = schema_hash({name: str(kind) for name, kind in rows.schema.items()})
    snapshot = Snapshot(
        id=snapshot_id(parts, schema),
        model=spec.name,
        start=bounds.start,
        as_of=as_of,
        rows=rows.height,
        unlabelled=frame.height - rows.height,
        quarantined=0,
        schema_hash=schema,
        parts=parts,
    )
    ledger.models.add_snapshot(snapshot)
    return snapshot


def _read(spec: ModelSpec, source: Source, bounds: Window) -> pl.DataFrame:
    import polars as pl

    chunks = [chunk for chunk in source.read(spec.columns, bounds.start, bounds.as_of) if chunk.height]
    if not chunks:
        raise _empty(spec, "no row between them")
    return pl.concat(chunks)


def _empty(spec: ModelSpec, found: str) -> EmptyWindow:
    length = spec.window.train + spec.label.arrives_after + spec.window.holdout.length
    return EmptyWindow(
        f"{spec.name}: the window of {length.days} days up to as_of, in {spec.source.table or 'the query'}",
        found=found,
        allowed="at least one row with a label",
        do="See that rows arrive in the source and that source.event_time names their time, or widen window.train.",
    )
