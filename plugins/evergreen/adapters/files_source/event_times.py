"""Event times of any form as Datetime("us", "UTC")."""

from __future__ import annotations

import polars as pl

TIME = pl.Datetime("us", "UTC")
TIME_WORDS = "a timestamp, a date, or text such as '2013-01-31 05:00:00' (or with 'T', a fraction, Z or +00:00)"


class NoTime(ValueError):
    """Raised for a value that is no time; the message shows it."""


def event_times(values: pl.Series) -> pl.Series:
    """The same moments; what has no zone is taken as UTC, a date as its midnight. Raises NoTime."""
    kind = values.dtype
    if isinstance(kind, pl.Datetime):
        utc = values.dt.convert_time_zone("UTC") if kind.time_zone else values.dt.replace_time_zone("UTC")
        return utc.cast(TIME)
    if kind == pl.Date:
        return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if kind == pl.Null:
        return values.cast(TIME)
    if kind != pl.String:
        raise NoTime(f"{values.drop_nulls().head(1).to_list()!r:.60} ({kind})")
    parsed = _parsed(values)
    if (wrong := values.filter(parsed.is_null() & values.is_not_null())).len():
        raise NoTime(f"{wrong[0]!r:.60}")
    return parsed


def _parsed(texts: pl.Series) -> pl.Series:
    """Times from text, null where it is none of the forms."""
    text = texts.str.strip_chars().str.replace("T", " ", literal=True).str.replace(r"Z$", "+00:00")
    zoned = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False)
    naive = text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False).dt.replace_time_zone("UTC")
    days = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    exact = text.str.contains(r"^\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,9})?([+-]\d\d:\d\d)?)?$")
    best = zoned.fill_null(naive).fill_null(days)
    return best.set(~exact.fill_null(False), None)
