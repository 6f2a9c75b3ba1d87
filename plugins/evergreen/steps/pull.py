"""pull: the window's labelled rows, from the source into an immutable snapshot."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from evergreen.core.champion import champion_features
from evergreen.core.errors import EmptyWindow, RowsRefused, SourceError, SourceUnavailable
from evergreen.core.judged_anew import taken_up, told
from evergreen.core.records import Lease, Snapshot
from evergreen.core.snapshot import schema_hash, snapshot_id
from evergreen.core.window import as_asked, window_of
from evergreen.core.window_choice import Span, reads
from evergreen.steps.read_days import DayReader, ReadDays

if TYPE_CHECKING:
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
    Rows later than `as_of` are left out even if they have a label: early labels are a biased sample. Days that were
    read before and are older than `source.lateness` are not read again (core.pulling); a person's run reads all. Raises
    EmptyWindow, SourceError for a wrong column, type, key or label, and LeaseLost where another has the model's lease
    by now. Run again on the same data, it changes nothing and returns the same snapshot; run again after a kill, it
    reads only what was not read.

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
    reader = DayReader(spec, ledger, source, snapshots, request, lease)
    read = _read(reader, spans, champion_features(ledger, store, spec.name))
    if not read.rows:
        raise _empty(spec, "no row between them", (spans[-1][1] - spans[-1][0]).days)
    schema = schema_hash({name: str(kind) for name, kind in read.types.items()})
    snapshot = Snapshot(
        id=snapshot_id(read.parts, schema),
        model=spec.name,
        start=spans[0][0],
        as_of=bounds.as_of,
        rows=read.rows,
        unlabelled=read.unlabelled,
        quarantined=0,
        schema_hash=schema,
        parts=read.parts,
    )
    ledger.models.add_snapshot(snapshot, lease=lease)
    reader.finish(read)
    return snapshot


def _read(reader: DayReader, spans: Sequence[Span], champions: Iterable[str]) -> ReadDays:
    own = reader.spec.columns
    wanted = [name for name in champions if name not in own]
    there = reader.source.columns() if wanted else frozenset()
    more = [name for name in wanted if name in there]
    try:
        return reader.read(spans, [*own, *more])
    except (SourceUnavailable, RowsRefused):
        raise
    except SourceError:
        if not more:
            raise
        log.warning("Read without %s, which only the champion needs", ", ".join(more), exc_info=True)
        return reader.read(spans, own)  # an error in the spec's own columns comes again


def _empty(spec: ModelSpec, found: str, days: int) -> EmptyWindow:
    return EmptyWindow(
        f"{spec.name}: the window of {days} days up to as_of, in source {spec.source.id}",
        found=found,
        allowed="at least one row with a label",
        do="See that rows arrive in the source and that source.event_time names their time, or widen window.train.",
    )
