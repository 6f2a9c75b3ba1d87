"""What serving goes by, and says of itself."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from evergreen.adapters.ledger.tables.base import UtcTime, metadata

caller_token = Table(
    "caller_token",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("caller", String(200), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", String(250), nullable=False),
    Column("revoked_at", UtcTime),
    Column("revoked_by", String(250)),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("id"),
    UniqueConstraint("sha256"),
)

slot_event = Table(
    "slot_event",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("slot", String(200), nullable=False),
    Column("key", String(250), nullable=False),
    Column("what", String(50), nullable=False),
    Column("detail", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("slot", "key"),
)

replica = Table(
    "replica",
    metadata,
    Column("pool", String(200)),
    Column("replica", String(200)),
    Column("url", Text, nullable=False),
    Column("versions", JSON, nullable=False),
    Column("heartbeat", UtcTime, nullable=False),
    Column("reasons", JSON, nullable=False, server_default="[]"),
    PrimaryKeyConstraint("pool", "replica"),
)

serving_settings = Table(
    "serving_settings",
    metadata,
    Column("model", String(200)),
    Column("pool", String(200), nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("log_sample", Float, nullable=False),
    Column("not_logged", JSON, nullable=False),
    Column("max_concurrent", Integer, nullable=False),
    Column("fresh_within", Float),
    Column("rule_metrics", JSON, nullable=False, server_default="[]"),
    PrimaryKeyConstraint("model"),
)

pool_event = Table(
    "pool_event",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("pool", String(200), nullable=False),
    Column("active", String(20), nullable=False),
    Column("change", String(20), nullable=False),
    Column("by", String(250), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    PrimaryKeyConstraint("seq"),
    Index(None, "pool"),
)
