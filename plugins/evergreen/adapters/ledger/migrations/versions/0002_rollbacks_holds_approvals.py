"""Rollbacks, holds and approvals, and verdicts that tell each gate's state, champion, interval and slices.

Revision 0002, after 0001.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_candidate = sa.table(
    "candidate",
    sa.column("model", sa.String),
    sa.column("version", sa.Integer),
    sa.column("verdict", sa.JSON(none_as_null=True)),
)


def upgrade() -> None:
    op.create_table(
        "hold_event",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.Column("by", sa.String(length=250), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_hold_event"),
        sa.UniqueConstraint("model", "number", name="uq_hold_event_model_number"),
    )
    op.create_table(
        "approval",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("model", sa.String(length=200), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=250), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("generation_seen", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("answered_by", sa.String(length=250), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["model", "version"], ["candidate.model", "candidate.version"], name="fk_approval_model_version"
        ),
        sa.PrimaryKeyConstraint("seq", name="pk_approval"),
        sa.UniqueConstraint("id", name="uq_approval_id"),
    )
    is_open = sa.text("state = 'open'")
    op.create_index(
        "ix_approval_model_version_request_id",
        "approval",
        ["model", "version", "request_id"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
    op.add_column("release", sa.Column("kind", sa.String(length=20), server_default="promotion", nullable=False))
    op.add_column("release", sa.Column("act", sa.String(length=250), nullable=True))
    op.create_index("ix_release_model_act", "release", ["model", "act"], unique=True)
    _rewrite_verdicts()


def _rewrite_verdicts() -> None:
    connection = op.get_bind()
    rows = connection.execute(sa.select(_candidate).where(_candidate.c.verdict.is_not(None))).all()
    for row in rows:
        this = (_candidate.c.model == row.model, _candidate.c.version == row.version)
        connection.execute(sa.update(_candidate).where(*this).values(verdict=_verdict(row.verdict)))


def _verdict(old: dict[str, Any]) -> dict[str, Any]:
    """There were absolute gates only, on all rows of the verdict."""
    gates = [_gate(gate, old["rows"]) for gate in old["gates"]]
    return {**old, "gates": gates, "champion_version": None, "metrics": {}, "champion_metrics": {}, "ask_why": ""}


def _gate(old: dict[str, Any], rows: int) -> dict[str, Any]:
    judged = "passed" if old["passed"] else "failed"
    return {
        "metric": old["metric"],
        "limit": old["limit"],
        "state": judged if old["value"] is not None else "not judged",
        "candidate": old["value"],
        "champion": None,
        "low": None,
        "high": None,
        "rows": rows,
        "slice": "",
        "slices": [],
        "note": old["note"],
    }
