"""Which days of a source were read already, and what tuning found."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Date, Float, Index, Integer, PrimaryKeyConstraint, String, Table, Text
from sqlalchemy import UniqueConstraint as Unique

from evergreen.adapters.ledger.tables.base import UtcTime, metadata

pulled_day = Table(
    "pulled_day",
    metadata,
    Column("model", String(200)),
    Column("reading", String(64)),  # hash of what was read: source, columns and their types
    Column("day", Date),
    Column("key", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("unlabelled", Integer, nullable=False),
    Column("start", UtcTime, nullable=False),  # event times from here …
    Column("end", UtcTime, nullable=False),  # … to here were read
    Column("watermark", UtcTime, nullable=False),  # the source's newest event time then
    Column("request_id", String(36), nullable=False),  # whose pull read it, or last finished with it
    Column("finished", Boolean, nullable=False),
    PrimaryKeyConstraint("model", "reading", "day"),
)

tuning = Table(
    "tuning",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("model", String(200), nullable=False),
    Column("study", String(250), nullable=False),
    Column("declared", String(64), nullable=False),  # hash of what of the spec was tuned
    Column("request_id", String(36), nullable=False),
    Column("params", JSON, nullable=False),
    Column("metric", Text, nullable=False),
    Column("tuned", Float, nullable=False),
    Column("untuned", Float, nullable=False),
    Column("trials", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    PrimaryKeyConstraint("seq"),
    Unique("study"),
    Index(None, "model", "at"),
)
