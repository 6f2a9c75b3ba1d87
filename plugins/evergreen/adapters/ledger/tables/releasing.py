"""What becomes of candidates: releases with their trials, approvals, holds."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from evergreen.adapters.ledger.tables.base import EMPTY, UtcTime, metadata

release = Table(
    "release",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("model", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("pool", String(200), nullable=False),
    Column("generation", Integer, nullable=False),  # negative until it goes live, and of its own
    Column("request_id", String(36), nullable=False),
    Column("released_by", String(250), nullable=False),
    Column("reason", Text, nullable=False),
    Column("watermark", UtcTime),
    Column("released_at", UtcTime, nullable=False),
    Column("kind", String(20), nullable=False, server_default="promotion"),
    Column("act", String(250)),
    Column("state", String(20), nullable=False, server_default="live"),
    Column("seen", Integer, nullable=False, server_default="0"),
    Column("approval_id", String(36), nullable=False, server_default=EMPTY),
    Column("plan", JSON(none_as_null=True)),
    Column("weight", Integer, nullable=False, server_default="0"),
    Column("stage_since", UtcTime),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("id"),
    UniqueConstraint("model", "generation"),
    ForeignKeyConstraint(["model", "version"], ["candidate.model", "candidate.version"]),
    Index(None, "model", "act", unique=True),
    Index(None, "state"),
)

release_event = Table(
    "release_event",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("release_id", String(36), ForeignKey("release.id"), nullable=False),
    Column("state", String(20), nullable=False),
    Column("actor", String(250), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    PrimaryKeyConstraint("seq"),
    Index(None, "release_id"),
)

champion = Table(
    "champion",
    metadata,
    Column("model", String(200)),
    Column("release_id", String(36), ForeignKey("release.id"), nullable=False),
    Column("generation", Integer, nullable=False),
    PrimaryKeyConstraint("model"),
)

trip = Table(
    "trip",
    metadata,
    Column("release_id", String(36)),
    Column("replica", String(200), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    PrimaryKeyConstraint("release_id"),
)

arm_count = Table(
    "arm_count",
    metadata,
    Column("release_id", String(36)),
    Column("stage", String(20)),
    Column("arm", String(20)),
    Column("replica", String(200)),
    Column("boot", String(36)),
    Column("requests", Integer, nullable=False),
    Column("faults", Integer, nullable=False),
    Column("latency", JSON, nullable=False),
    Column("predictions", JSON, nullable=False),
    PrimaryKeyConstraint("release_id", "stage", "arm", "replica", "boot"),
)

hold_event = Table(
    "hold_event",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("model", String(200), nullable=False),
    Column("number", Integer, nullable=False),  # of the model's events: two at once cannot have the same
    Column("held", Boolean, nullable=False),
    Column("by", String(250), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", UtcTime, nullable=False),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("model", "number"),
)

_OPEN = text("state = 'open'")  # one open question at a time

approval = Table(
    "approval",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("model", String(200), nullable=False),
    Column("version", Integer, nullable=False),
    Column("request_id", String(36), nullable=False),
    Column("run_id", String(250), nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("generation_seen", Integer, nullable=False),
    Column("evidence", String(64), nullable=False),
    Column("asked_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("state", String(20), nullable=False),
    Column("answered_by", String(250)),
    Column("reason", Text, nullable=False),
    Column("answered_at", UtcTime),
    Column("overrides", Text, nullable=False, server_default=EMPTY),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("id"),
    ForeignKeyConstraint(["model", "version"], ["candidate.model", "candidate.version"]),
    Index(None, "model", "version", "request_id", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
)
