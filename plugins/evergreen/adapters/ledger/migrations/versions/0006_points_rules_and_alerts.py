"""What the monitor keeps: values of metrics, the state of rules, alerts and the retrains they asked for.

Revision 0006, after 0005. Serving's settings get what its metrics page shows of the rules.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create_points()
    op.create_table(
        "rule_state",
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("breaches", sa.Integer(), nullable=False),
        sa.Column("fine", sa.Integer(), nullable=False),
        sa.Column("alert_id", sa.String(length=36), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("changes", sa.JSON(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("model", "rule", name="pk_rule_state"),
    )
    _create_alerts()
    op.add_column("serving_settings", sa.Column("fresh_within", sa.Float(), nullable=True))
    op.add_column("serving_settings", sa.Column("rule_metrics", sa.JSON(), server_default="[]", nullable=False))


def _create_points() -> None:
    op.create_table(
        "metric_point",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("counts", sa.Boolean(), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("end", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_metric_point"),
    )
    op.create_index(
        "ix_metric_point_counts",
        "metric_point",
        ["model", "end", "name", "slice", "version", "start"],
        unique=True,
        sqlite_where=sa.text("counts = 1"),
        postgresql_where=sa.text("counts"),
    )
    op.create_index("ix_metric_point_model_name_slice_start", "metric_point", ["model", "name", "slice", "start"])


def _create_alerts() -> None:
    op.create_table(
        "alert",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("slice", sa.Text(), nullable=False),
        sa.Column("severity", sa.String(length=20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("limit", sa.Float(), nullable=False),
        sa.Column("direction", sa.String(length=20), nullable=False),
        sa.Column("window", sa.String(length=50), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("worst", sa.Float(), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_why", sa.Text(), nullable=False),
        sa.Column("closed_value", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_alert"),
        sa.UniqueConstraint("id", name="uq_alert_id"),
    )
    still_open = sa.text("closed_at IS NULL")
    op.create_index(
        "ix_alert_model_rule",
        "alert",
        ["model", "rule"],
        unique=True,
        sqlite_where=still_open,
        postgresql_where=still_open,
    )
    op.create_index("ix_alert_model_opened_at", "alert", ["model", "opened_at"])
    op.create_table(
        "alert_request",
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("alert_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_alert_request"),
        sa.ForeignKeyConstraint(["alert_id"], ["alert.id"], name="fk_alert_request_alert_id"),
    )
