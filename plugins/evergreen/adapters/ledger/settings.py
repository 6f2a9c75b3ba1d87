"""What serving must know of the specs, in SQL."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import serving_settings as t
from evergreen.core.records import ServingSettings

_LISTS = ("not_logged", "rule_metrics")  # tuples here, JSON there


class SqlSettings:
    """Implements core.ports.Settings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, settings: ServingSettings) -> bool:
        """Keep a model's settings in place of those before; false where nothing changed."""
        row = {**vars(settings), **{name: list(getattr(settings, name)) for name in _LISTS}}
        with self._database.write() as connection:
            if insert_if_absent(connection, t, row):
                return True
            this = t.c.model == settings.model
            kept = connection.execute(select(t).where(this).with_for_update()).one()
            if _record(kept) == settings:
                return False
            connection.execute(update(t).where(this).values(row))
            return True

    def of(self, pool: str) -> dict[str, ServingSettings]:
        """The settings of a pool's models, by model."""
        with self._database.read() as connection:
            rows = connection.execute(select(t).where(t.c.pool == pool).order_by(t.c.model))
            return {row.model: _record(row) for row in rows}


def _record(row: Row[Any]) -> ServingSettings:
    return ServingSettings(**{**row._mapping, **{name: tuple(row._mapping[name]) for name in _LISTS}})
