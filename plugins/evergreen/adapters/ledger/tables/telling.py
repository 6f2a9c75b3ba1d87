"""What happened once, who is alive, what people are told."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text, UniqueConstraint

from evergreen.adapters.ledger.tables.base import UtcTime, metadata

event = Table(
    "event",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("model", String(200), nullable=False),
    Column("key", String(250), nullable=False),
    Column("what", String(50), nullable=False),
    Column("detail", Text, nullable=False),
    Column("by", String(250), nullable=False),
    Column("at", UtcTime, nullable=False),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("model", "key"),
)

heartbeat = Table(
    "heartbeat",
    metadata,
    Column("name", String(200)),
    Column("at", UtcTime, nullable=False),
    Column("detail", Text, nullable=False),
    PrimaryKeyConstraint("name"),
)

notice = Table(
    "notice",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("model", String(200), nullable=False),
    Column("key", String(250), nullable=False),
    Column("kind", String(30), nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("link", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime),
    Column("tries", Integer, nullable=False),
    Column("error", Text, nullable=False),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("id"),
    UniqueConstraint("model", "key"),
    Index(None, "sent_at"),
)
