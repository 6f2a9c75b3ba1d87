"""Alembic revisions of the control ledger."""
