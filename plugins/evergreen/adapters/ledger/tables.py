"""The ledger's tables. A change here needs a new revision in `migrations/versions/` and a new HEAD."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

HEAD = "0005"  # the newest revision
VERSION_TABLE = "evergreen_alembic_version"  # Optuna keeps an `alembic_version` in the same database
_EMPTY = text("''")  # as SQL: Alembic does not recognise an empty string when it compares

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """A time that comes back aware and in UTC from SQLite too, which knows no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive time: nobody could say which moment it means."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a time zone: {value.isoformat()}")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware and in UTC, whatever the session's time zone."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


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
    Column("first_run", String(250), nullable=False, server_default=_EMPTY),
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
    Column("suite", String(300), nullable=False, server_default=_EMPTY),
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
    Column("approval_id", String(36), nullable=False, server_default=_EMPTY),
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
    Column("overrides", Text, nullable=False, server_default=_EMPTY),
    PrimaryKeyConstraint("seq"),
    UniqueConstraint("id"),
    ForeignKeyConstraint(["model", "version"], ["candidate.model", "candidate.version"]),
    Index(None, "model", "version", "request_id", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
)

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

serving_settings = Table(
    "serving_settings",
    metadata,
    Column("model", String(200)),
    Column("pool", String(200), nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("log_sample", Float, nullable=False),
    Column("not_logged", JSON, nullable=False),
    Column("max_concurrent", Integer, nullable=False),
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
