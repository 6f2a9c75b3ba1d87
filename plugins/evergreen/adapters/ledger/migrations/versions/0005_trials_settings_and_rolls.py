"""Releases on trial, what replicas count and decide of them, settings of serving, and rolls of a pool.

Revision 0005, after 0004. Releases of before have no plan: they went live at once.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("release", sa.Column("plan", sa.JSON(), nullable=True))
    op.add_column("release", sa.Column("weight", sa.Integer(), server_default="0", nullable=False))
    op.add_column("release", sa.Column("stage_since", sa.DateTime(timezone=True), nullable=True))
    _create_trials()
    op.create_table(
        "serving_settings",
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("pool", sa.String(length=200), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("log_sample", sa.Float(), nullable=False),
        sa.Column("not_logged", sa.JSON(), nullable=False),
        sa.Column("max_concurrent", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model", name="pk_serving_settings"),
    )
    op.create_table(
        "pool_event",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("pool", sa.String(length=200), nullable=False),
        sa.Column("active", sa.String(length=20), nullable=False),
        sa.Column("change", sa.String(length=20), nullable=False),
        sa.Column("by", sa.String(length=250), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_pool_event"),
    )
    op.create_index("ix_pool_event_pool", "pool_event", ["pool"])


def _create_trials() -> None:
    op.create_table(
        "trip",
        sa.Column("release_id", sa.String(length=36), nullable=False),
        sa.Column("replica", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("release_id", name="pk_trip"),
    )
    op.create_table(
        "arm_count",
        sa.Column("release_id", sa.String(length=36), nullable=False),
        sa.Column("stage", sa.String(length=20), nullable=False),
        sa.Column("arm", sa.String(length=20), nullable=False),
        sa.Column("replica", sa.String(length=200), nullable=False),
        sa.Column("boot", sa.String(length=36), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("faults", sa.Integer(), nullable=False),
        sa.Column("latency", sa.JSON(), nullable=False),
        sa.Column("predictions", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("release_id", "stage", "arm", "replica", "boot", name="pk_arm_count"),
    )
