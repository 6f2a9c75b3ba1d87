"""What a Parquet file's footer tells of its event times, without reading a row."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pyarrow as pa
import pyarrow.parquet as pq

Ends = tuple[int, datetime | None, datetime | None]  # rows with an event time, the oldest, the newest


def of_file(file: pq.ParquetFile, column: str) -> Ends | None:
    """The ends of a whole file; none where the footer does not tell."""
    groups = [of_group(file, group, column) for group in range(file.num_row_groups)]
    known = [group for group in groups if group is not None]
    if len(known) < len(groups):
        return None
    oldest, newest = [low for _, low, _ in known if low], [high for _, _, high in known if high]
    return sum(timed for timed, _, _ in known), min(oldest, default=None), max(newest, default=None)


def of_group(file: pq.ParquetFile, group: int, column: str) -> Ends | None:
    """The same of one row group."""
    if not _sorts_as_time(file.schema_arrow.field(column).type):
        return None
    rows = file.metadata.row_group(group)
    found = next(rows.column(at) for at in range(rows.num_columns) if rows.column(at).path_in_schema == column)
    statistics = found.statistics
    if statistics is None or not statistics.has_null_count:
        return None
    timed = rows.num_rows - statistics.null_count
    if timed == 0:
        return 0, None, None
    return (timed, _utc(statistics.min), _utc(statistics.max)) if statistics.has_min_max else None


def _sorts_as_time(kind: pa.DataType) -> bool:
    """Nanoseconds would be rounded; a text's smallest is not the earliest."""
    return pa.types.is_date32(kind) or (pa.types.is_timestamp(kind) and kind.unit != "ns")


def _utc(value: date | datetime) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
