"""Values of metrics, where rules stand, alerts."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from evergreen.adapters.ledger.tables.base import UtcTime, metadata

_COUNTS = {"sqlite_where": text("counts = 1"), "postgresql_where": text("counts")}

metric_point = Table(
    "metric_point",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), autoincrement=True),
    Column("counts", Boolean, nullable=False),  # of all points of its metric and period it was computed last
    Column("model", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("slice", Text, nullable=False),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    Column("value", Float, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("computed_at", UtcTime, nullable=False),
    Column("low", Float),
    Column("high", Float),
    PrimaryKeyConstraint("seq"),
    Index("ix_metric_point_counts", "model", "end", "name", "slice", "version", "start", unique=True, **_COUNTS),
    Index(None, "model", "name", "slice", "start"),
)

rule_state = Table(
    "rule_state",
    metadata,
    Column("model", String(200)),
    Column("rule", Text),
    Column("breaches", Integer, nullable=False),
    Column("fine", Integer, nullable=False),
    Column("alert_id", String(36), nullable=False),
    Column("asked_at", UtcTime),
    Column("changes", JSON, nullable=False),
    Column("seen_at", UtcTime),
    PrimaryKeyConstraint("model", "rule"),
)

_STILL_OPEN = text("closed_at IS NULL")  # one open alert of a rule at a time

alert = Table(
    "alert",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("model", String(200), nullable=False),
    Column("rule", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("slice", Text, nullable=False),
    Column("severity", String(20), nullable=False),
    Column("version", Integer, nullable=False),
    Column("value", Float, nullable=False),
    Column("limit", Float, nullable=False),
    Column("direction", String(20), nullable=False),
    Column("window", String(50), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("worst", Float, nullable=False),
    Column("request_id", String(36), nullable=False),
    Column("closed_at", UtcTime),
    Column("closed_why", Text, nullable=False),
    Column("closed_value", Float),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("id"),
    Index(None, "model", "rule", unique=True, sqlite_where=_STILL_OPEN, postgresql_where=_STILL_OPEN),
    Index(None, "model", "opened_at"),
)

alert_request = Table(
    "alert_request",
    metadata,
    Column("request_id", String(36)),  # of each retrain that an alert asked for; the newest is in `alert` too
    Column("alert_id", String(36), ForeignKey("alert.id"), nullable=False),
    PrimaryKeyConstraint("request_id"),
)
