"""What tuning found, in SQL."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from evergreen.adapters.ledger.engine import Database
from evergreen.adapters.ledger.leases import check_lease
from evergreen.adapters.ledger.tables import tuning as t
from evergreen.core.records import Lease, TuningResult


class SqlTunings:
    """Implements core.ports.Tunings."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, result: TuningResult, *, lease: Lease | None = None) -> None:
        """Keep it, in place of what the same study came to before. LeaseLost where the lease is another's by now."""
        with self._database.write() as connection:
            check_lease(connection, lease)
            connection.execute(delete(t).where(t.c.study == result.study))
            connection.execute(insert(t).values({**vars(result), "params": dict(result.params)}))

    def last(self, model: str, declared: str | None = None) -> TuningResult | None:
        """The newest of a model, or of what was declared like this (core.tuning.declared)."""
        wanted = [t.c.model == model] + ([] if declared is None else [t.c.declared == declared])
        query = select(t).where(*wanted).order_by(t.c.at.desc(), t.c.seq.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return TuningResult(**{name: value for name, value in row._mapping.items() if name != "seq"})
