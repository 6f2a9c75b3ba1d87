"""Releases on trial in SQL: what replicas count of them, and the trips of their guards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, select, update

from evergreen.adapters.ledger.engine import Database, insert_if_absent
from evergreen.adapters.ledger.tables import arm_count as c
from evergreen.adapters.ledger.tables import trip as t
from evergreen.core.records import ArmCount, Trip, TripKind


class SqlTrials:
    """Implements core.ports.Trials."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def trip(self, trip: Trip) -> bool:
        """Take a release off trial; false where one did already: the first stays."""
        with self._database.write() as connection:
            return insert_if_absent(connection, t, {**vars(trip), "kind": trip.kind.value})

    def trips(self, release_ids: Iterable[str]) -> dict[str, Trip]:
        """The trips of these releases, by release."""
        asked = list(release_ids)
        if not asked:
            return {}
        with self._database.read() as connection:
            rows = connection.execute(select(t).where(t.c.release_id.in_(asked)))
            return {row.release_id: Trip(**{**row._mapping, "kind": TripKind(row.kind)}) for row in rows}

    def count(self, counts: Iterable[ArmCount]) -> None:
        """Keep counts, each in place of the one of the same release, stage, arm, replica and boot."""
        with self._database.write() as connection:
            for counted in counts:
                row = {**vars(counted), "latency": list(counted.latency), "predictions": list(counted.predictions)}
                if not insert_if_absent(connection, c, row):
                    same = (column == row[column.name] for column in c.primary_key)
                    connection.execute(update(c).where(*same).values(row))

    def counts(self, release_id: str) -> list[ArmCount]:
        """All counts of a release, by stage, arm, replica and boot."""
        query = select(c).where(c.c.release_id == release_id).order_by(*c.primary_key)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]


def _record(row: Row[Any]) -> ArmCount:
    return ArmCount(**{**row._mapping, "latency": tuple(row.latency), "predictions": tuple(row.predictions)})
