"""Callers' tokens, what happened to container slots, and why a replica does not follow.

Revision 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "caller_token",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("caller", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=250), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_by", sa.String(length=250), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_caller_token"),
        sa.UniqueConstraint("id", name="uq_caller_token_id"),
        sa.UniqueConstraint("sha256", name="uq_caller_token_sha256"),
    )
    op.create_table(
        "slot_event",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("slot", sa.String(length=200), nullable=False),
        sa.Column("key", sa.String(length=250), nullable=False),
        sa.Column("what", sa.String(length=50), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_slot_event"),
        sa.UniqueConstraint("slot", "key", name="uq_slot_event_slot_key"),
    )
    op.add_column("replica", sa.Column("reasons", sa.JSON(), server_default="[]", nullable=False))
