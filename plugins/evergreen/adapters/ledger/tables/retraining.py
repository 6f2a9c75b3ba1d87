"""What a retrain makes: its request, the lease that it holds, snapshots, candidates."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text, UniqueConstraint

from evergreen.adapters.ledger.tables.base import EMPTY, UtcTime, metadata

trigger_request = Table(
    "trigger_request",
    metadata,
    Column("seq", Integer, autoincrement=True),
    Column("id", String(36), nullable=False),
    Column("model", String(200), nullable=False),
    Column("source", Text, nullable=False),
    Column("cause", String(20), nullable=False),
    Column("dedupe_key", String(400), nullable=False),
    Column("run_id", String(250), nullable=False),
    Column("watermark", UtcTime),
    Column("as_of", UtcTime),
    Column("state", String(20), nullable=False),
    Column("step", String(50), nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", JSON, nullable=False),
    Column("requested_at", UtcTime, nullable=False),
    Column("closed_at", UtcTime),
    Column("first_run", String(250), nullable=False, server_default=EMPTY),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("due_at", UtcTime),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("id"),
    UniqueConstraint("model", "dedupe_key"),
    Index(None, "model", "run_id"),
    Index(None, "state"),
)

lease = Table(
    "lease",
    metadata,
    Column("model", String(200)),
    Column("holder", String(250)),
    Column("fence", Integer, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    PrimaryKeyConstraint("model"),
)

snapshot = Table(
    "snapshot",
    metadata,
    Column("model", String(200)),
    Column("id", String(64)),
    Column("start", UtcTime, nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("unlabelled", Integer, nullable=False),
    Column("quarantined", Integer, nullable=False),
    Column("schema_hash", String(64), nullable=False),
    Column("parts", JSON, nullable=False),
    Column("suite", String(300), nullable=False, server_default=EMPTY),
    PrimaryKeyConstraint("model", "id"),
)

candidate = Table(
    "candidate",
    metadata,
    Column("model", String(200)),
    Column("version", Integer, autoincrement=False),
    Column("request_id", String(36), nullable=False),
    Column("train_key", String(64), nullable=False),
    Column("snapshot_id", String(64), nullable=False),
    Column("data_end", UtcTime, nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("mlflow_run", String(64), nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("state", String(20), nullable=False),
    Column("verdict", JSON(none_as_null=True)),
    Column("generation_seen", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("made_with", JSON, nullable=False, server_default="{}"),
    PrimaryKeyConstraint("model", "version"),
    UniqueConstraint("model", "train_key"),
)
