"""Rollout states of releases, requests that wait for the reconciler, provenance, and what people are told.

Revision 0004, after 0003. Releases of before get the state that the champion and the release after them tell.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_release = sa.table(
    "release",
    *(sa.column(name) for name in ("id", "model", "generation", "kind", "released_by", "reason", "state", "seen")),
    sa.column("released_at", sa.DateTime(timezone=True)),
)
_event = sa.table(
    "release_event",
    *(sa.column(name) for name in ("release_id", "state", "actor", "reason")),
    sa.column("at", sa.DateTime(timezone=True)),
)


def upgrade() -> None:
    op.add_column("trigger_request", sa.Column("first_run", sa.String(250), server_default="", nullable=False))
    op.add_column("trigger_request", sa.Column("attempt", sa.Integer(), server_default="0", nullable=False))
    op.add_column("trigger_request", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_trigger_request_state", "trigger_request", ["state"])
    op.execute("UPDATE trigger_request SET first_run = run_id")
    op.add_column("snapshot", sa.Column("suite", sa.String(300), server_default="", nullable=False))
    op.add_column("candidate", sa.Column("made_with", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("approval", sa.Column("overrides", sa.Text(), server_default="", nullable=False))
    op.add_column("release", sa.Column("state", sa.String(20), server_default="live", nullable=False))
    op.add_column("release", sa.Column("seen", sa.Integer(), server_default="0", nullable=False))
    op.add_column("release", sa.Column("approval_id", sa.String(36), server_default="", nullable=False))
    op.create_index("ix_release_state", "release", ["state"])
    _tell_states()
    _create_tables()


def _tell_states() -> None:
    """All but a model's newest release were replaced or, where a rollback came after them, rolled back."""
    connection = op.get_bind()
    connection.execute(sa.update(_release).values(seen=_release.c.generation - 1))
    rows = connection.execute(sa.select(_release).order_by(_release.c.model, _release.c.generation)).all()
    for before, after in pairwise(rows):
        if before.model == after.model:
            _left(connection, before, after)


def _left(connection: sa.Connection, before: sa.Row[Any], after: sa.Row[Any]) -> None:
    state = "rolled_back" if after.kind == "rollback" else "replaced"
    connection.execute(sa.update(_release).where(_release.c.id == before.id).values(state=state))
    told = {"actor": after.released_by, "reason": after.reason, "at": after.released_at}
    connection.execute(sa.insert(_event).values(release_id=before.id, state=state, **told))


def _create_tables() -> None:
    op.create_table(
        "event",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("what", sa.String(length=50), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=250), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_event"),
        sa.UniqueConstraint("model", "key", name="uq_event_model_key"),
    )
    op.create_table(
        "heartbeat",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_heartbeat"),
    )
    op.create_table(
        "notice",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_notice"),
        sa.UniqueConstraint("id", name="uq_notice_id"),
        sa.UniqueConstraint("model", "key", name="uq_notice_model_key"),
    )
    op.create_index("ix_notice_sent_at", "notice", ["sent_at"])
